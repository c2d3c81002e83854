r"""Guided Integrated Gradients: the path itself follows the gradients.

At each step the features move whose gradients are least, so that the path stays away from
where f changes steeply for reasons that have nothing to do with x. A path that depends on
f cannot be a function of t alone: it is walked, one gradient after the other, and the
gradients that choose the way are the nodes of the integral.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from igjax import _checks, paths
from igjax._program import compiled
from igjax._tree import flattener, gap, parameter_dtype, widen
from igjax.attribution import Attribution
from igjax.integration.recipes import without_tolerance

__all__ = ["guided_integrated_gradients"]


def guided_integrated_gradients(f, *, steps: int = 200, fraction=0.25, max_distance=0.02):
    r"""Guided Integrated Gradients, along the path of least gradients.

    Step k brings the distance $\sum_i |x_i - \gamma_i|$ down to the share 1 - k/steps of
    what it was, by moving first the `fraction` of features with the least absolute
    gradients, then the next, and so on; no feature may be further than `max_distance`
    ahead of, or behind, the straight line. A step is divided between the gradients at its
    two ends in the proportion that makes it complete: exact where it crosses one kink of
    a ReLU network, and to second order where f is smooth. Where no proportion does, in
    steps that cross several kinks, completeness is lost, and `delta` shows how much.

    Use it for images where Integrated Gradients shows noise away from the object. The
    path depends on f, so the values of a sum of functions are not the sum of the values.

    Args:
        f: `f(x, *args) -> scalar`, as in `integrated_gradients`; x is real.
        steps: the number of steps; each takes one gradient, after the one before.
        fraction: share of the features that are moved together, in [0, 1]; an operand.
        max_distance: how far from the straight line a feature may be, in units of t: 1 is
            no limit, 0 the straight line; an operand.

    Returns:
        `attribute(x, baseline, *args) -> Attribution`. Its error is a bound, and not a
        tight one, wherever the gradient stays between those at the ends of each step.

    Raises:
        TypeError: as `integrated_gradients`, and if x is complex.
        ValueError: as `integrated_gradients`, and if steps is less than 1, or fraction or
            max_distance out of range; where these are traced, the result is NaN.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> f = lambda x: (2 * x[0] + x[1]) ** 2
        >>> attribute = igjax.guided_integrated_gradients(f, max_distance=1.0)
        >>> attribute(jnp.array([3.0, 3.0]), jnp.zeros(2)).values.round()
        Array([72.,  9.], dtype=float32)

    References:
        Kapishnikov et al., "Guided Integrated Gradients: an Adaptive Path Method for
        Removing Noise", CVPR 2021.
    """
    caller = "guided_integrated_gradients"
    _checks.count(caller, "steps", steps)
    for name, value, most in (
        ("fraction", fraction, 1),
        ("max_distance", max_distance, np.inf),
    ):
        if not isinstance(value, Tracer) and not 0 <= value <= most:
            raise ValueError(f"{caller}: {name} must be in [0, {most}], got {value!r}.")
    walk = _Walk(np.arange(1, steps + 1) / steps, fraction, max_distance)
    return compiled.attribution(caller, _recipe, f, paths.straight, walk, None, scalar=True)


class _Walk(NamedTuple):
    """Stands where a rule stands: the shares of the way at the ends of the steps."""

    nodes: np.ndarray
    fraction: Any
    max_distance: Any


def _recipe(f, path, operands, walk, chunk_size) -> Attribution:
    del path, chunk_size
    _checks.real("guided_integrated_gradients", operands.x)
    dtype = parameter_dtype(operands.x)
    ravel, unravel = flattener(operands.x, dtype)
    at = lambda flat: widen(f(operands, unravel(flat)))
    x, baseline = ravel(operands.x), ravel(operands.baseline)
    slope = jax.value_and_grad(at)
    lengths = jnp.abs(x - baseline)

    def step(state, t):
        place, point, score, gradient, values, error = state
        place = _advance(place, jnp.abs(gradient), lengths, t, walk)
        there = paths.straight(x, baseline, place)
        reached, new = slope(there)
        parts = (reached - score, (there - point) * gradient, (there - point) * new)
        gain, first, last = (a.astype(sums.dtype) for a in parts)
        late = _share(gain - first.sum(), (last - first).sum())
        values = values + first + late * (last - first)
        error = error + jnp.maximum(late, 1 - late) * jnp.abs(last - first)
        return (place, there, reached, new, values, error), None

    start, gradient = slope(baseline)
    # Sums are as wide as the wider of features and scores.
    zeros = jnp.zeros_like(x - baseline + gradient)
    sums = zeros.astype(np.result_type(zeros.dtype, start.dtype))
    state = (zeros, baseline + zeros, start, gradient, sums, sums)
    nodes = jnp.asarray(walk.nodes, dtype)
    (_, _, end, _, values, error), _ = lax.scan(step, state, nodes)
    delta = gap(values, start, end)
    both = unravel(values), unravel(error)
    return without_tolerance(*both, delta, start, end, len(nodes) + 1, 0)


def _share(missing, growth):
    """The share of a step that the last gradient gets, so that the step is complete."""
    # Where the gradient does not change along the step, it does not matter.
    even = growth == 0
    return jnp.where(even, 0.5, jnp.clip(missing / jnp.where(even, 1, growth), 0, 1))


def _advance(place, slopes, lengths, t, walk):
    """Moves features, the least slopes first, until t of the whole way is done.

    Args:
        place: shape (n,), how far each feature is, in [0, 1].
        slopes: shape (n,), absolute gradients.
        lengths: shape (n,), the whole way of each feature.
        t: the share of the way at the end of this step.
        walk: the fraction that moves together, and the distance allowed.

    Returns:
        The new places.
    """
    if not len(place):
        return place
    given, distance = (jnp.asarray(a, place.dtype) for a in walk[1:])
    fraction = jnp.clip(given, 0, 1)  # beyond, the search would not end
    valid = (given == fraction) & (distance >= 0)
    distance = jnp.where(valid, distance, jnp.nan)
    furthest = jnp.minimum(t + distance, 1)
    place = jnp.maximum(place, t - distance)
    room = lengths * jnp.maximum(furthest - place, 0)
    needed = jnp.maximum((lengths * (1 - place)).sum() - lengths.sum() * (1 - t), 0)
    movable = room > 0
    slopes = lax.stop_gradient(jnp.where(movable, slopes, jnp.inf))
    # Which group is moved in part is a choice; how far depends on f smoothly.
    before, last = _last_group(slopes, *lax.stop_gradient((room, needed)), fraction)
    done, group = (jnp.where(mask, room, 0).sum() for mask in (before, last & ~before))
    share = jnp.clip((needed - done) / jnp.where(group > 0, group, 1), 0, 1)
    part = jnp.where(before, 1, jnp.where(last, share, 0))
    return jnp.where(movable, place + part * (furthest - place), place)


def _last_group(slopes, room, needed, fraction):
    """Who has moved before the group at which enough is done, and after it.

    Equal slopes are in one group. So a group is known by its largest slope, and only the
    slopes are sorted, not the features: XLA for CPU sorts single integers ten times as
    fast as pairs or floats, and the bits of floats that are not negative sort as they do.
    """
    n = len(slopes)
    bits = lax.bitcast_convert_type(slopes, jnp.dtype(f"uint{8 * slopes.dtype.itemsize}"))
    ranked = jnp.sort(bits)
    least = jnp.floor(fraction * (n - 1)).astype(jnp.int32)

    def following(group):
        _, now, rank = group
        largest = ranked[jnp.minimum(rank + least, n - 1)]
        through = jnp.searchsorted(ranked, largest, side="right").astype(jnp.int32)
        return now, bits <= largest, through

    def short(group):
        _, now, rank = group
        return (jnp.where(now, room, 0).sum() < needed) & (rank < n)

    nobody = jnp.zeros_like(bits, bool)
    before, now, _ = lax.while_loop(
        short, following, following((nobody, nobody, jnp.zeros_like(least)))
    )
    return before, now
