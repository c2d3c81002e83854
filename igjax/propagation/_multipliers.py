"""Multipliers of x: f read, evaluated by its rules, and pulled back to x."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from igjax._tree import widen
from igjax.attribution import Attribution
from igjax.methods.gradients import of_one_gradient
from igjax.propagation import composites
from igjax.propagation._evaluation import Pair, evaluate
from igjax.propagation._program import Program
from igjax.propagation._reading import read
from igjax.propagation._units import LIVE, Reading


class Multipliers(NamedTuple):
    """What a rule-changed derivative of f at x is."""

    score: jax.Array
    baseline_score: jax.Array | None
    slopes: Any  # like x: relevance is x, or the change of x, times this
    relevance: Any  # like x: relevance that is no multiple of x, to be added
    unit: float  # the coarsest rounding unit of what was computed


def reading_of(caller: str, f, x, composite, paired: bool):
    """The reading of f as a function of x alone."""
    leaves, structure = jax.tree.flatten(x)
    closed = jax.make_jaxpr(lambda *leaves: f(structure.unflatten(leaves)))(*leaves)
    levels, choose = [LIVE] * len(leaves), composites.chooser(composite)
    reading = read(Program(closed), levels, choose, paired)
    composites.check_matches(caller, composite, reading)
    return reading


def multipliers(caller: str, f, x, baseline, composite) -> Multipliers:
    """The multipliers of f at x, with a baseline or, where that is None, without."""
    leaves, structure = jax.tree.flatten(x)
    paired = baseline is not None
    reading = reading_of(caller, f, x, composite, paired)
    references = jax.tree.leaves(baseline) if paired else [None] * len(leaves)

    def score(leaves, taps):
        given = [Pair(v, r) for v, r in zip(leaves, references, strict=True)]
        (out,) = evaluate(caller, reading, given, taps, paired)
        return out.value, out.reference

    zeros = [jnp.zeros_like(v) for v in leaves]
    value, pull, reference = jax.vjp(score, leaves, zeros, has_aux=True)
    slopes, relevance = pull(jnp.ones_like(value))
    unflatten = structure.unflatten
    parts = unflatten(slopes), unflatten(relevance)
    return Multipliers(value, reference, *parts, _rounding(reading))


def _rounding(reading: Reading) -> float:
    """The rounding unit of the least precise floating value that x moves."""
    shapes = reading.program.shapes
    kinds = {shapes[i].dtype for i, level in reading.levels.items() if level == LIVE}
    units = [float(jnp.finfo(k).eps) for k in kinds if jnp.issubdtype(k, jnp.inexact)]
    bodies = [_rounding(body) for unit in reading.units for body in unit.bodies]
    return max(units + bodies, default=0.0)


def products(slopes, ends, starts=None):
    """Multipliers times x, or times its change, in accumulation dtypes."""
    move = widen(ends)
    if starts is not None:
        move = jax.tree.map(jnp.subtract, move, widen(starts))
    return jax.tree.map(jnp.multiply, widen(slopes), move)


def of_no_tolerance(values, delta, score) -> Attribution:
    """The result of a method that explains a score, and not the change of one."""
    nothing = jnp.zeros_like(score)
    return of_one_gradient(values, delta, score, nothing, jnp.isfinite(delta))
