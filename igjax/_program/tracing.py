"""A function as a jaxpr and its constants: what igjax computes with instead of `f`.

The constants of a jaxpr are the arrays that the function closed over. Those that jitted
functions, loops and branches inside it hold are lifted out too, so that all weights become
operands. And what can be read off a jaxpr: how many bytes and flops there are in it.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from igjax._program import jax_internals as internals
from igjax._program.rewrites import concerns


class Traced(NamedTuple):
    """A function made of its jaxpr, which keeps neither it nor its constants alive."""

    constants: list
    run: Callable  # (constants, *args) -> output
    shapes: Any  # the output's, as a pytree
    collective: bool  # whether devices or lanes talk to each other in it
    rewritable: bool  # whether parts of it may have a form that is faster on a device


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

    plain = jax.make_jaxpr(fresh)(*leaves)
    closed: Any = internals.if_understood(_lifted, plain, leaves, otherwise=plain)
    jaxpr, (output,) = closed.jaxpr, found
    with jax.ensure_compile_time_eval():  # or an outer trace would own the constants
        constants = [
            c if isinstance(c, jax.Array) else jax.device_put(c) for c in closed.consts
        ]

    def run(constants, *args):
        flat = internals.as_function(jaxpr, constants)(*jax.tree.leaves(args))
        return output.unflatten(flat)

    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in closed.out_avals]
    told = internals.communicates(closed), concerns(closed)
    return Traced(constants, run, output.unflatten(shapes), *told)


def _lifted(closed, leaves):
    """The same jaxpr, holding the constants of those inside it."""
    if not any(map(_is_holder, closed.jaxpr.eqns)):
        return closed
    return jax.make_jaxpr(lambda *a: internals.evaluate(closed, a, _lift))(*leaves)


def _is_holder(eqn) -> bool:
    """Whether constants can be lifted out of an equation."""
    return any(
        body.consts or any(map(_is_holder, body.jaxpr.eqns))
        for body in internals.transparent(eqn)
    )


def _lift(eqn, inputs):
    if not _is_holder(eqn):
        return internals.bind(eqn, inputs)
    inside = lambda body, given: internals.evaluate(body, given, _lift)
    return internals.rebuilt(eqn, inputs, inside)


# Values of a loop's steps are touched in turn. So many times less of them is counted where
# they are to fit in memory, and where they are to fit in caches: measured, LSTM and GRU.
STREAMED, CACHED = 4, 16


class Footprint(NamedTuple):
    """Bytes that evaluating a function takes."""

    values: int  # intermediate ones that depend on its arguments
    constants: int  # what it closes over
    touched: int  # the values that caches see at a time


def footprint(function, *args) -> Footprint | None:
    """The bytes that a function computes and closes over.

    Values that loops compute step by step count a part: what is seen at a time.
    None where the jaxpr is not understood.
    """
    closed = jax.make_jaxpr(function)(*args)
    return internals.if_understood(_footprint, closed.jaxpr)


def _footprint(jaxpr) -> Footprint:
    values, touched = (_bytes(jaxpr, set(jaxpr.invars), n) for n in (STREAMED, CACHED))
    return Footprint(values, sum(map(internals.size, jaxpr.constvars)), touched)


def _bytes(jaxpr, dependent: set, streamed: int) -> int:
    size, in_turn = 0, _in_turn(jaxpr)
    part = lambda v: internals.size(v) // (streamed if v in in_turn else 1)
    for eqn in jaxpr.eqns:
        moves = [not internals.is_literal(v) and v in dependent for v in eqn.invars]
        if not any(moves):
            continue
        dependent.update(eqn.outvars)
        size += sum(map(part, eqn.outvars))
        loop = internals.scan(eqn)
        for body in internals.transparent(eqn):
            inner = body.jaxpr.invars  # a branch does not get the first input
            given = zip(inner[::-1], moves[::-1], strict=False)
            within = {v for v, moved in given if moved}
            if loop is None:
                size += _bytes(body.jaxpr, within, streamed)
            else:
                within.update(inner[loop.constants :][: loop.carries])
                size += loop.length * _bytes(body.jaxpr, within, streamed) // streamed
    return size


def _in_turn(jaxpr) -> set:
    """The values that loops step through, or stack up."""
    found: set = set()
    for eqn in jaxpr.eqns:
        if (loop := internals.scan(eqn)) is not None:
            stepped = eqn.invars[loop.constants + loop.carries :]
            found.update(v for v in stepped if not internals.is_literal(v))
            found.update(eqn.outvars[loop.carries :])
    return found


_VIEWS = ("reshape", "squeeze", "expand_dims", "broadcast_in_dim", "copy", "copy_p", "name")


def flops(eqn) -> float:
    """The flops of an equation: one for each number of what is neither sum nor product."""
    name, outputs = eqn.primitive.name, sum(math.prod(v.aval.shape) for v in eqn.outvars)
    if bodies := internals.bodies(eqn):
        loop = internals.scan(eqn)
        inside = sum(flops(e) for body in bodies for e in body.jaxpr.eqns)
        return inside if loop is None else loop.length * inside
    if terms := internals.terms(eqn):
        return terms * outputs
    if name in _VIEWS:
        return 0
    return max([outputs, *(math.prod(v.aval.shape) for v in eqn.invars[:1])])
