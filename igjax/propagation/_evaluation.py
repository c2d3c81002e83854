"""A reading evaluated: every unit as it stands, or with the multiplier of its rule.

Units with a rule are `custom_vjp`s, and `jax.vjp` of the whole does the rest: loops,
branches, batching, sharding and residuals are JAX's. With a baseline each unit is evaluated
side by side at both ends: its rule sees what flowed in at the baseline. No gradient goes
into that pass.
"""

import math
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import lax

from igjax._program import jax_internals as internals
from igjax._program.jax_internals import varying
from igjax.propagation._local import Local
from igjax.propagation._primitives import VIEWS
from igjax.propagation._units import CONSTANT, LIVE, Reading, Unit

_REFUSED = ("unknown", "choice")


class Pair(NamedTuple):
    """A value at x and, where there is a baseline, there."""

    value: Any
    reference: Any = None


class Values(NamedTuple):
    """What is known of a program's numbers."""

    value: dict[int, Any]
    reference: dict[int, Any] | None
    tap: dict[int, Any]  # zeros like x whose derivative is relevance that is no multiple


def evaluate(caller: str, reading: Reading, given, taps=None, paired=False) -> list[Pair]:
    """Evaluates a reading.

    Args:
        caller: the function to name in errors.
        reading: what to evaluate.
        given: a `Pair` for each input.
        taps: zeros for each input, or None.
        paired: whether references are given.

    Returns:
        A `Pair` for each output.
    """
    program = reading.program
    values = Values(
        dict(program.constants), dict(program.constants) if paired else None, {}
    )
    for number, pair in zip(program.inputs, given, strict=True):
        values.value[number] = pair.value
        if values.reference is not None:
            values.reference[number] = pair.reference
    if taps is not None:
        values.tap.update(zip(program.inputs, taps, strict=True))
    for unit in reading.units:
        _evaluate(caller, reading, unit, values)
    reference = values.reference or {}
    return [Pair(values.value[o], reference.get(o)) for o in program.outputs]


def _evaluate(caller, reading, unit: Unit, values: Values) -> None:
    _check(caller, unit, values.reference is not None)
    if unit.kind == "loop":
        return _scan(caller, reading, unit, values)
    if unit.kind == "branch":
        return _switch(caller, reading, unit, values)
    if unit.rule is None or unit.rule.backward is None:
        return _plain(reading, unit, values)
    local = Local(unit, tuple(values.value[i] for i in unit.held))
    operands = tuple(values.value[i] for i in unit.operands)
    if values.reference is None:
        references = None
    else:
        references = tuple(values.reference[i] for i in unit.operands)
        there = Local(unit, tuple(values.reference[i] for i in unit.held))
        values.reference.update(_named(unit, there(*references)))
    if unit.rule.absolute:
        made = _tapped(local, operands, values.tap[unit.operands[0]])
    else:
        made = _ruled(local, operands, references)
    values.value.update(_named(unit, made))


def _named(unit: Unit, made) -> dict:
    return dict(zip(unit.outputs, (made,) if len(unit.outputs) == 1 else made, strict=True))


def _ruled(local: Local, operands, references):
    """The output, whose derivative is what the rule says."""
    unit = local.unit

    def backward(residuals, ct):
        operands, references, held = residuals
        parts = unit.rule(Local(unit, held), operands, references, ct)
        cast = [c.astype(v.dtype) for c, v in zip(parts, operands, strict=True)]
        return tuple(cast), None, None

    call = jax.custom_vjp(lambda operands, references, held: Local(unit, held)(*operands))
    call.defvjp(lambda *given: (Local(unit, given[2])(*given[0]), given), backward)
    return call(operands, references, local.held)


def _tapped(local: Local, operands, tap):
    """The output, from which relevance itself flows to the tap, and nothing to x."""
    unit = local.unit

    def backward(residuals, ct):
        operands, held = residuals
        (relevance,) = unit.rule(Local(unit, held), operands, None, ct)
        return relevance.astype(operands[0].dtype), None, None  # nothing is left for x

    call = jax.custom_vjp(lambda tap, operands, held: Local(unit, held)(*operands))
    call.defvjp(lambda tap, *given: (Local(unit, given[1])(*given[0]), given), backward)
    return call(tap, operands, local.held)


def _plain(reading: Reading, unit: Unit, values: Values) -> None:
    """Evaluates steps as they stand; JAX takes the derivative where something moves."""
    level = max((reading.levels[o] for o in unit.outputs), default=CONSTANT)
    for step in unit.steps:
        at_x = step.run(values.value)
        if level != LIVE:
            at_x = list(map(_stopped, at_x))
        if values.reference is not None:
            there = at_x if level == CONSTANT else step.run(values.reference)
            if not reading.shifts.isdisjoint(step.outputs):
                at_x, there = _shared_shift(_stopped(at_x[0]), _stopped(there[0]))
            values.reference.update(zip(step.outputs, there, strict=True))
        values.value.update(zip(step.outputs, at_x, strict=True))
        if step.name in VIEWS and step.inputs[0] in values.tap:
            (tap,) = step.run(values.tap)
            values.tap[step.outputs[0]] = tap


def _shared_shift(at_x, there):
    """What a softmax subtracts in both passes: the mean of the two maxima.

    Where these are so far apart that exponentials would vanish in one pass or overflow in
    the other, each keeps as near to its own as it must: then `delta` may show it.
    """
    limit = 0.7 * math.log(float(jnp.finfo(at_x.dtype).max))
    apart = there - at_x
    apart = jnp.where(jnp.isfinite(apart), apart, 0)
    half = jnp.clip(apart / 2, -limit, limit)
    near = jnp.abs(apart) <= 2 * limit
    shift = at_x + half
    return [shift], [jnp.where(near, shift, there - half)]


def _stopped(value):
    return _still(value) if jnp.issubdtype(value.dtype, jnp.inexact) else value


@jax.custom_vjp
def _still(value):
    """The value, which no relevance goes through; its own derivatives stay as they are."""
    return value


_still.defvjp(lambda value: (value, None), lambda _, ct: (jnp.zeros_like(ct),))


# -- control flow


def _packed(values: Values, number: int, level: int):
    """A value as a loop or a branch takes it: with its reference, where it has its own."""
    value = values.value[number]
    if values.reference is None or level == CONSTANT:
        return Pair(value)
    return Pair(value, values.reference[number])


def _paired_up(pair: Pair, level: int, paired: bool) -> Pair:
    """The same, of a result, whose level may be raised by other rounds or branches."""
    if not paired or level == CONSTANT:
        return Pair(pair.value)
    return pair


def _opened(pairs, paired: bool) -> list[Pair]:
    """Inside, constants have references too: themselves."""
    if not paired:
        return list(pairs)
    return [Pair(p.value, p.value if p.reference is None else p.reference) for p in pairs]


def _put(unit: Unit, values: Values, results) -> None:
    for number, pair in zip(unit.outputs, results, strict=True):
        values.value[number] = pair.value
        if values.reference is not None:
            values.reference[number] = (
                pair.value if pair.reference is None else pair.reference
            )


def _scan(caller, reading, unit: Unit, values: Values) -> None:
    """A loop; its first rounds may be read in their own way, and stand before it."""
    (step,), (*own, body) = unit.steps, unit.bodies
    loop = cast(internals.Scan, internals.scan(step.eqn))
    paired, backwards = values.reference is not None, internals.is_reversed(step.eqn)
    levels = [body.levels[i] for i in body.program.inputs]
    packed = [_packed(values, i, k) for i, k in zip(step.inputs, levels, strict=True)]
    first, last = loop.constants, loop.constants + loop.carries
    results = [
        *levels[first:last],
        *(reading.levels[o] for o in unit.outputs[loop.carries :]),
    ]

    def round(body, carry, row):
        given = _opened([*packed[:first], *carry, *row], paired)
        made = evaluate(caller, body, given, paired=paired)
        made = [
            _paired_up(p, level, paired) for p, level in zip(made, results, strict=True)
        ]
        return made[: loop.carries], made[loop.carries :]

    carry, rows = packed[first:last], packed[last:]
    carry, ahead, rows = _rounds_ahead(own, round, carry, rows, backwards)
    carry = varying(carry, packed)
    rest = lambda carry, row: round(body, carry, row)
    options = {"length": loop.length - len(own), "reverse": backwards}
    carry, made = lax.scan(rest, carry, rows, **options)
    for one in reversed(ahead):
        sides = (lambda a, b: (b, a)) if backwards else (lambda a, b: (a, b))
        join = lambda a, b, sides=sides: jnp.concatenate(sides(a[None], b))
        made = jax.tree.map(join, one, made)
    _put(unit, values, [*carry, *made])


def _rounds_ahead(bodies, round, carry, rows, backwards: bool):
    """The carry after the first rounds, what each of them made, and the rows left."""
    ahead = []
    for body in bodies:
        place, left = (-1, slice(None, -1)) if backwards else (0, slice(1, None))
        row = jax.tree.map(lambda a, k=place: a[k], rows)
        rows = jax.tree.map(lambda a, k=left: a[k], rows)
        carry, made = round(body, carry, row)
        ahead.append(made)
    return carry, ahead, rows


def _switch(caller, reading, unit: Unit, values: Values) -> None:
    (step,), paired = unit.steps, values.reference is not None
    levels = [reading.levels[i] for i in step.inputs[1:]]
    packed = [_packed(values, i, k) for i, k in zip(step.inputs[1:], levels, strict=True)]
    results = [reading.levels[o] for o in unit.outputs]

    def branch(body):
        def call(packed):
            made = evaluate(caller, body, _opened(packed, paired), paired=paired)
            return [_paired_up(p, k, paired) for p, k in zip(made, results, strict=True)]

        return call

    index = values.value[step.inputs[0]]
    _put(unit, values, lax.switch(index, [branch(b) for b in unit.bodies], packed))


def _check(caller: str, unit: Unit, paired: bool) -> None:
    """Says which unit has no rule or a wrong one, where it is, and what to do."""
    if unit.rule is not None and unit.rule.absolute and not unit.first:
        raise ValueError(
            f"{caller}: the rule {unit.rule.name!r} is for layers that see x itself, "
            f"through views alone, got the layer {_where(unit)}. Select "
            "igjax.propagation.first with it."
        )
    if unit.kind not in _REFUSED or unit.rule is not None:
        return
    name = unit.steps[-1].name
    why = "picks by a condition on x" if unit.kind == "choice" else "has no rule"
    if name == "while":
        raise ValueError(
            f"{caller}: loops that x goes through must have a known length, got a while "
            f"loop {_where(unit)}. Use jax.lax.scan, or fori_loop with numbers as bounds."
        )
    general = "integrated()" if paired else "stop()"
    raise ValueError(
        f"{caller}: every step that x goes through must have a rule, but the primitive "
        f"{name!r} {why} {_where(unit)}. Give it one, rules=(({name!r}, "
        f"igjax.propagation.{general}),), or gradient() to take its derivative."
    )


def _where(unit: Unit) -> str:
    line, path = unit.place
    return f"at {line or 'an unknown line'}" + f", in {path}" * bool(path)
