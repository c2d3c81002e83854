r"""Paths from a baseline to an input: functions `path(x, baseline, t) -> point`.

A path is any function that JAX can differentiate in t. Its velocity comes by `jax.jvp`,
exactly, so a new path is its formula and nothing else. The integral telescopes to
f(path at 1) - f(path at 0): a path that starts at the baseline and ends at x is complete.
The result's scores are those at the two ends of the path, whatever they are.
x, baseline and t arrive in float32 or wider; the point is cast to the dtype of x last.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from igjax._tree import cast_like, strong

__all__ = ["polyline", "straight"]


def straight(x, baseline, t):
    r"""The straight line, $x' + t (x - x')$: the path of Integrated Gradients.

    The only path of its kind that treats symmetric features alike. Both ends are exact
    in floating point: the half next to x is counted back from x.

    Args:
        x: pytree of arrays, the input.
        baseline: pytree like x, the starting point.
        t: scalar in [0, 1].

    Returns:
        The point at t, a pytree like x.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> igjax.paths.straight(jnp.ones(2), jnp.zeros(2), 0.25)
        Array([0.25, 0.25], dtype=float32)

    References:
        Sundararajan, Taly, Yan, "Axiomatic Attribution for Deep Networks", ICML 2017,
        Theorem 1.
    """

    def leaf(x, baseline):
        dx = x - baseline
        return jnp.where(t < 0.5, baseline + t * dx, x - (1 - t) * dx)

    return jax.tree.map(leaf, x, baseline)


def polyline(*waypoints) -> Callable:
    r"""Straight legs from the baseline through the waypoints to x, at equal times.

    Use it for paths found by a search, and for staircases, which move one feature at a
    time. The integrand jumps at the corners t = k/legs: give a fixed rule as many panels
    as there are legs, `rules.composite(rule, legs)`.

    Args:
        *waypoints: pytrees like x, in the order in which they are passed.

    Returns:
        A path of `len(waypoints) + 1` legs.

    Raises:
        ValueError: while tracing, if a waypoint is not like x.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> corner = igjax.paths.polyline(jnp.array([1.0, 0.0]))
        >>> corner(jnp.array([1.0, 1.0]), jnp.zeros(2), 0.75)
        Array([1. , 0.5], dtype=float32)
    """

    def path(x, baseline, t):
        points = [baseline, *(_like(x, w) for w in waypoints), x]
        legs = len(points) - 1
        leg = jnp.clip(jnp.floor(t * legs), 0, legs - 1).astype(jnp.int32)
        stacked = jax.tree.map(lambda *p: jnp.stack(p), *points)
        start = jax.tree.map(lambda a: a[leg], stacked)
        end = jax.tree.map(lambda a: a[leg + 1], stacked)
        return straight(end, start, t * legs - leg)

    return path


def _like(x, waypoint):
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (x, waypoint)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"paths.polyline: a waypoint must be like x, {shapes[0]}, got {shapes[1]}."
        )
    return cast_like(strong(waypoint), x)
