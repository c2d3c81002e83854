"""A function as a jaxpr and its constants: what igjax computes with instead of `f`.

The constants of a jaxpr are the arrays that the function closed over. Those that a jitted
function inside it holds are lifted out too, so that all weights become operands.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core


class Traced(NamedTuple):
    """A function made of its jaxpr, which keeps neither it nor its constants alive."""

    constants: list
    run: Callable  # (constants, *args) -> output
    shapes: Any  # the output's, as a pytree
    collective: bool  # whether devices or lanes talk to each other in it


def trace(function, *args) -> Traced:
    """Traces a function through a fresh wrapper, so that no stale trace is reused.

    Args:
        function: any function of pytrees of arrays.
        *args: arrays or shapes to trace it with.

    Returns:
        The `Traced` function.
    """
    leaves, structure = jax.tree.flatten(args)
    found = []

    def fresh(*leaves):
        output = function(*structure.unflatten(leaves))
        found.append(jax.tree.structure(output))
        return jax.tree.leaves(output)

    closed = jax.make_jaxpr(fresh)(*leaves)
    if _holds_constants(closed.jaxpr):
        closed = jax.make_jaxpr(lambda *a: evaluate(closed, a, _lift))(*leaves)
    jaxpr, (output,) = closed.jaxpr, found
    with jax.ensure_compile_time_eval():  # or an outer trace would own the constants
        constants = [
            c if isinstance(c, jax.Array) else jnp.asarray(c) for c in closed.consts
        ]

    def run(constants, *args):
        flat = core.jaxpr_as_fun(core.ClosedJaxpr(jaxpr, constants))(*jax.tree.leaves(args))
        return output.unflatten(flat)

    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in closed.out_avals]
    collective = any("NamedAxis" in type(e).__name__ for e in closed.effects)
    return Traced(constants, run, output.unflatten(shapes), collective)


def _holds_constants(jaxpr) -> bool:
    return any(_is_holder(eqn) for eqn in jaxpr.eqns)


def _is_holder(eqn) -> bool:
    return any(c.consts or _holds_constants(c.jaxpr) for c in _bodies(eqn))


def _bodies(eqn) -> tuple:
    """The jaxprs inside an equation, where constants can be lifted out of them."""
    if eqn.primitive in (core.primitives.jit_p, core.primitives.scan_p):
        return (eqn.params["jaxpr"],)
    return eqn.params["branches"] if eqn.primitive is core.primitives.cond_p else ()


def _lift(eqn, inputs):
    """Turns the constants that jitted calls, loops and branches hold into operands."""
    if not _is_holder(eqn):
        return bind(eqn, inputs)
    if eqn.primitive is core.primitives.jit_p:
        return evaluate(eqn.params["jaxpr"], inputs, _lift)
    lifted = [_lifted(body) for body in _bodies(eqn)]
    constants = [c for body in lifted for c in body.consts]
    starts = np.cumsum([0] + [len(body.consts) for body in lifted])
    opened = [
        _opened(body, slice(*ends), constants)
        for body, *ends in zip(lifted, starts[:-1], starts[1:], strict=True)
    ]
    if eqn.primitive is core.primitives.cond_p:
        return bind(eqn, [inputs[0], *constants, *inputs[1:]], branches=tuple(opened))
    count = eqn.params["num_consts"] + len(constants)
    return bind(eqn, [*constants, *inputs], jaxpr=opened[0], num_consts=count)


def _lifted(body):
    """The same jaxpr, holding its constants itself."""
    return jax.make_jaxpr(lambda *a: evaluate(body, a, _lift))(*_shapes(body))


def _opened(body, own: slice, constants):
    """The same jaxpr as a function of all constants, of which it uses its own."""
    call = lambda c, *a: core.jaxpr_as_fun(core.ClosedJaxpr(body.jaxpr, c[own]))(*a)
    return jax.make_jaxpr(call)(constants, *_shapes(body))


def _shapes(closed):
    return [shape_of(v.aval) for v in closed.jaxpr.invars]


def shape_of(aval) -> jax.ShapeDtypeStruct:
    """The shape, dtype and manual axes of an abstract value, to trace with."""
    manual = aval.manual_axis_type
    where = aval.sharding if manual is not None and manual.varying else None
    return jax.ShapeDtypeStruct(
        aval.shape, aval.dtype, sharding=where, manual_axis_type=manual if where else None
    )


def evaluate(closed, args, rule):
    """Evaluates a closed jaxpr, with a rule in the place of `bind` for each equation.

    Args:
        closed: the jaxpr with its constants.
        args: its inputs, flat.
        rule: `rule(eqn, inputs) -> outputs`, both lists.

    Returns:
        The list of outputs.
    """
    values = dict(zip(closed.jaxpr.invars, args, strict=True))
    values.update(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    read = lambda v: v.val if isinstance(v, core.Literal) else values[v]
    for eqn in closed.jaxpr.eqns:
        outputs = rule(eqn, list(map(read, eqn.invars)))
        values.update(zip(eqn.outvars, outputs, strict=True))
    return list(map(read, closed.jaxpr.outvars))


def bind(eqn, inputs, **changes):
    """Applies the primitive of an equation to inputs, with some parameters changed."""
    params = eqn.primitive.get_bind_params({**eqn.params, **changes})
    outputs = eqn.primitive.bind(*inputs, **params)
    return outputs if eqn.primitive.multiple_results else [outputs]


STREAMED = 4  # values of a loop's steps are touched in turn: measured, an LSTM


def footprint(function, *args) -> int:
    """The bytes of the intermediate values of a function that depend on its arguments.

    Those that loops compute step by step count a part: caches see a few steps at a time.
    """
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    return _bytes(jaxpr, set(jaxpr.invars))


def _bytes(jaxpr, dependent: set) -> int:
    size = 0
    for eqn in jaxpr.eqns:
        inputs = [not isinstance(v, core.Literal) and v in dependent for v in eqn.invars]
        if not any(inputs):
            continue
        dependent.update(eqn.outvars)
        size += sum(v.aval.size * v.aval.dtype.itemsize for v in eqn.outvars)
        for body in _bodies(eqn):
            count = len(body.jaxpr.invars)
            within = dict(
                zip(body.jaxpr.invars, inputs[-count:] if count else [], strict=True)
            )
            carries = slice(0, 0)
            rounds, share = 1, 1
            if eqn.primitive is core.primitives.scan_p:
                first = eqn.params["num_consts"]
                carries = slice(first, first + eqn.params["num_carry"])
                rounds, share = eqn.params["length"], STREAMED
            within.update(dict.fromkeys(body.jaxpr.invars[carries], True))
            size += (
                rounds * _bytes(body.jaxpr, {v for v, d in within.items() if d}) // share
            )
    return size


def jaxprs_in(parameter):
    """The jaxprs in a parameter of an equation."""
    for item in parameter if isinstance(parameter, tuple | list) else (parameter,):
        if isinstance(item, core.ClosedJaxpr):
            yield item.jaxpr
        elif isinstance(item, core.Jaxpr):
            yield item


_VIEWS = ("reshape", "squeeze", "expand_dims", "broadcast_in_dim", "copy", "copy_p", "name")


def flops(eqn) -> float:
    """The flops of an equation: one for each number of what is neither sum nor product."""
    name, outputs = eqn.primitive.name, sum(math.prod(v.aval.shape) for v in eqn.outvars)
    bodies = [b for p in eqn.params.values() for b in jaxprs_in(p)]
    if bodies and name != "scatter-add":
        rounds = eqn.params["length"] if name == "scan" else 1
        return rounds * sum(flops(e) for body in bodies for e in body.eqns)
    if name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        shape = eqn.invars[0].aval.shape
        return 2 * outputs * math.prod(shape[i] for i in contracted)
    if name == "conv_general_dilated":
        kernel = eqn.invars[1].aval.shape
        features = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
        return 2 * outputs * math.prod(kernel) / max(features, 1)
    if name == "reduce_window_sum":
        return outputs * math.prod(eqn.params["window_dimensions"])
    if name in _VIEWS:
        return 0
    return max([outputs, *(math.prod(v.aval.shape) for v in eqn.invars[:1])])
