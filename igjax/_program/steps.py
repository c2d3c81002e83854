"""What a loop over steps multiplies: its inputs before it, and gates in one product.

A recurrent cell multiplies its input and its state at each step. The inputs of all steps
are known before: one large product is faster than many small ones, and where they are x
itself, it is a part of what is affine (`affine.py`). And kernels that multiply the same
state or input, those of the gates, are one kernel. It is done to the function itself,
before it is differentiated, so that its gradient is made of such products as well.
"""

from typing import Any

import jax
import jax.numpy as jnp

from igjax._program import jax_internals as internals
from igjax._program.loops import Constants


def ahead(closed, leaves):
    """The same closed jaxpr, with fewer products in its loops of known length."""
    if not _concerns(closed.jaxpr):
        return closed
    return jax.make_jaxpr(lambda *a: internals.evaluate(closed, a, _rule))(*leaves)


def _concerns(jaxpr) -> bool:
    return any(_is_recurrent(eqn) or _is_around(eqn) for eqn in jaxpr.eqns)


def _is_around(eqn) -> bool:
    body = internals.inlined(eqn)
    return body is not None and _concerns(body.jaxpr)


def _is_recurrent(eqn) -> bool:
    loop = internals.scan(eqn)
    return loop is not None and loop.length > 1 and bool(_groups(loop))


def _rule(eqn, inputs):
    if _is_recurrent(eqn):
        return _stepped(eqn, inputs)
    if _is_around(eqn):
        return internals.evaluate(internals.inlined(eqn), inputs, _rule)
    return internals.bind(eqn, inputs)


def _groups(loop) -> list[list]:
    """The products of a body to make in one: of an input of the loop, or several of one."""
    constants = Constants(loop.body, [None] * loop.constants)
    groups: dict = {}
    for eqn in loop.body.jaxpr.eqns:
        if internals.multiplies_rows(eqn) and constants.holds(eqn.invars[1]):
            rows, kernel = eqn.invars
            key = rows, kernel.aval.dtype, internals.fingerprint(eqn) or id(eqn)
            groups.setdefault(key, []).append(eqn)
    stepped = _inputs(loop)
    return [g for g in groups.values() if len(g) > 1 or g[0].invars[0] in stepped]


def _inputs(loop) -> list:
    """The variables of a body that are other ones at each step, and no state."""
    return loop.body.jaxpr.invars[loop.constants + loop.carries :]


def _stepped(eqn, inputs):
    """A loop whose products are made in groups, those of its inputs before it."""
    loop: Any = internals.scan(eqn)
    constants = Constants(loop.body, inputs[: loop.constants])
    steps = dict(zip(_inputs(loop), inputs[loop.constants + loop.carries :], strict=True))
    groups, made = _groups(loop), {}
    kernels = [_together(group, constants) for group in groups]
    for i, (group, kernel) in enumerate(zip(groups, kernels, strict=True)):
        if (rows := steps.get(group[0].invars[0])) is not None:
            product = lambda a, e=group[0], k=kernel: internals.bind(e, [a, k])[0]
            made[i] = jax.vmap(product)(rows)
    number = {id(e): i for i, group in enumerate(groups) for e in group}

    def turn(body, given, made):
        parts: dict = {}

        def rule(eqn, inputs):
            i = number.get(id(eqn))
            if i is None:
                return internals.bind(eqn, inputs)
            if i not in parts:
                multiply = lambda: internals.bind(eqn, [inputs[0], kernels[i]])[0]
                parts[i] = _apart(made[i] if i in made else multiply(), groups[i])
            return [parts[i].pop(0)]

        return internals.evaluate(body, given, rule), ()

    return internals.stepped(eqn, inputs, turn, made)[0]


def _together(group, constants):
    """The kernels of a group side by side."""
    return jnp.concatenate([constants[eqn.invars[1]] for eqn in group], -1)


def _apart(whole, group) -> list:
    """The products of a group, out of the one with all its kernels."""
    widths = [eqn.outvars[0].aval.shape[-1] for eqn in group]
    return list(jax.lax.split(whole, widths, whole.ndim - 1))
