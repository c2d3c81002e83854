r"""Paths from a baseline to an input: functions `path(x, baseline, t) -> point`.

A path is any function that JAX can differentiate in t. Its velocity comes by `jax.jvp`,
exactly, so a new path is its formula and nothing else. The integral telescopes to
f(path at 1) - f(path at 0): a path that starts at the baseline and ends at x is complete.
The result's scores are those at the two ends of the path, whatever they are.
x, baseline and t arrive in float32 or wider; the point is cast to the dtype of x last.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from igjax import _checks
from igjax._tree import cast_like, strong, wide_labels

__all__ = ["blur", "latent", "polyline", "pushforward", "staircase", "straight"]


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
        share = jnp.asarray(t, dx.dtype)
        return jnp.where(t < 0.5, baseline + share * dx, x - (1 - share) * dx)

    return jax.tree.map(leaf, x, baseline)


def polyline(*waypoints) -> Callable:
    r"""Straight legs from the baseline through the waypoints to x, at equal times.

    Use it for paths found by a search, and for staircases, which move one feature at a
    time. The integrand jumps at the corners t = k/legs: give a fixed rule as many panels
    as there are legs, `rules.composite(rules.gauss_legendre(8), legs)`.

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
        leg, share = _leg(t, legs)
        stacked = jax.tree.map(lambda *p: jnp.stack(p), *points)
        start = jax.tree.map(lambda a: a[leg], stacked)
        end = jax.tree.map(lambda a: a[leg + 1], stacked)
        return straight(end, start, share)

    return path


def staircase(turns, steps: int) -> Callable:
    r"""The path that moves features one after the other, each when its turn comes.

    At step k of `steps`, of equal times, the features with turn k go from the baseline to
    x, the others stand still. Complete: each step gets what f gains in it. Use it where
    features come in an order of their own (time, causes, lines of a form). Who comes
    first matters; the mean over all orders is `perturbation.shapley_values`. Integrate it
    with whole panels, `rules.composite(rules.gauss_legendre(8), steps)`, or adaptively.

    Args:
        turns: pytree like x of integers in [0, steps); those with the same turn move
            together, as along a straight line.
        steps: the number of turns.

    Returns:
        A path of `steps` legs.

    Raises:
        TypeError: if turns are no integers.
        ValueError: if steps is less than 1, or a turn, unless it is traced, is out of
            range: its feature would not arrive; or while tracing, if turns are not like x.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> path = igjax.paths.staircase(jnp.array([1, 0]), 2)
        >>> path(jnp.array([1.0, 1.0]), jnp.zeros(2), 0.75)
        Array([0.5, 1. ], dtype=float32)

    References:
        Sundararajan, Najmi, "The Many Shapley Values for Model Explanation", ICML 2020.
    """
    if steps < 1:
        raise ValueError(f"paths.staircase: steps must be at least 1, got {steps}.")
    for leaf in jax.tree.leaves(turns):
        _check_turns(leaf, steps)

    def path(x, baseline, t):
        _check_like("staircase: turns", x, turns)
        step, share = _leg(t, steps)

        def leaf(turn, x, baseline):
            turn = wide_labels(turn)
            now = step.astype(turn.dtype)
            past = (turn < now).astype(share.dtype)
            return straight(x, baseline, jnp.where(turn == now, share, past))

        return jax.tree.map(leaf, turns, x, baseline)

    return path


def _leg(t, legs: int):
    """The leg of equal times that a path is on, and its share; at corners the next one."""
    leg = jnp.clip(jnp.floor(t * legs), 0, legs - 1)
    return leg.astype(jnp.int32), t * legs - leg


def blur(max_sigma: float = 50.0, axes: tuple[int, ...] = (0, 1)) -> Callable:
    r"""The path of Blur Integrated Gradients: from a blurred image to the image.

    $$\gamma(t) = G_{\sigma(t)} * x, \qquad
      \sigma(t) = \sinh\bigl((1 - t) \operatorname{asinh} \sigma_{\max}\bigr)$$

    Use it for images where no baseline is neutral: details come in from coarse to fine.
    There is no baseline (what is passed is ignored, 0.0 will do), and the values add up
    to f(x) - f(x blurred by max_sigma). The blur is diffusion on the grid of pixels: a
    Gaussian of standard deviation sigma that is exact, positive and smooth in sigma down
    to 0, mirrored at the borders. Its speed gives each octave of sigma the same time.

    Args:
        max_sigma: standard deviation at the start, in pixels, positive.
        axes: the axes of height and width in each leaf of x.

    Returns:
        The path.

    Raises:
        TypeError: if the axes are no tuple of integers.
        ValueError: if max_sigma is not positive, or while tracing, if a leaf has no such
            axes.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> spot = jnp.zeros((5, 5)).at[2, 2].set(1.0)
        >>> path = igjax.paths.blur(2.0)
        >>> [round(float(path(spot, 0.0, t)[2, 2]), 3) for t in (0.0, 0.5, 1.0)]
        [0.051, 0.35, 1.0]

    References:
        Xu, Venugopalan, Sundararajan, "Attribution in Scale and Space", CVPR 2020.
        Lindeberg, "Scale-Space for Discrete Signals", PAMI 1990.
    """
    if not max_sigma > 0:
        raise ValueError(f"paths.blur: max_sigma must be positive, got {max_sigma}.")
    if not isinstance(axes, tuple | list) or not all(map(_checks.is_whole, axes)):
        raise TypeError(
            f"paths.blur: axes must be a tuple of integers, got {axes!r}. One axis is (0,)."
        )

    def path(x, baseline, t):
        del baseline
        sigma = jnp.sinh((1 - t) * math.asinh(max_sigma))

        def leaf(a):
            if not all(-a.ndim <= axis < a.ndim for axis in axes):
                raise ValueError(
                    f"paths.blur: axes must be axes of each leaf of x, got {axes} for a "
                    f"leaf of shape {a.shape}."
                )
            for axis in axes:
                a = _diffused(a, sigma.astype(a.dtype) ** 2, axis)
            return a

        return jax.tree.map(leaf, x)

    return path


def _diffused(a, variance, axis: int):
    """Diffusion along an axis: each cosine, an eigenvector, decays at its own rate."""
    n = a.shape[axis]
    angles = np.pi * np.arange(n) / n
    cosines = np.cos(angles[:, None] * (np.arange(n) + 0.5)) * np.sqrt(2 / n)
    cosines[0] /= np.sqrt(2)
    cosines = jnp.asarray(cosines, a.dtype)
    # What is taken away, so that nothing is rounded where nothing is blurred.
    lost = jnp.expm1(variance * jnp.asarray(np.cos(angles) - 1, a.dtype))
    rows = jnp.moveaxis(a, axis, 0).reshape(n, -1)
    spectrum = jnp.matmul(cosines, rows, precision="highest")
    change = jnp.matmul(cosines.T, lost[:, None] * spectrum, precision="highest")
    moved = jnp.moveaxis(a, axis, 0)
    return jnp.moveaxis(moved + change.reshape(moved.shape), 0, axis)


def pushforward(g, path=straight) -> Callable:
    """The image of a path: `g(path(x, baseline, t))`.

    Use it to keep the points between where they make sense, by a g that maps points like
    x to points like x: a projection onto the sphere, a clip, a denoiser. The values add
    up to f(g(x)) - f(g(baseline)), along a path from the baseline to x; that is complete
    for x and the baseline themselves where g leaves them as they are.

    Args:
        g: `g(point) -> point`, differentiable by JAX.
        path: the path to map.

    Returns:
        The path.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> path = igjax.paths.pushforward(lambda x: x / jnp.linalg.norm(x))
        >>> path(jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]), 0.5).round(3)
        Array([0.707, 0.707], dtype=float32)
    """
    _checks.function("paths.pushforward", "g", g)
    return lambda x, baseline, t: g(path(x, baseline, t))


def latent(encode, decode, path=straight) -> Callable:
    r"""A path through the latent space of an autoencoder, from the baseline to x.

    $$\gamma(t) = D(z(t)) + r(t)$$

    where z leads from E(baseline) to E(x), and r, straight, from what the decoder misses
    at the baseline to what it misses at x: so the path starts and ends exactly where it
    should, and is complete, however well the decoder does. Use it where straight lines
    leave the data: the points between are decoded, not averaged.

    Args:
        encode: `encode(point) -> z`, a pytree.
        decode: `decode(z) -> point`, like x.
        path: the path of z.

    Returns:
        The path.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> path = igjax.paths.latent(jnp.log, jnp.exp)
        >>> path(jnp.array([4.0]), jnp.array([1.0]), 0.5).round(3)
        Array([2.], dtype=float32)

    References:
        Jha et al., "Enhanced Integrated Gradients", Genome Biology 2020.
    """
    _checks.function("paths.latent", "encode", encode)
    _checks.function("paths.latent", "decode", decode)

    def latent_path(x, baseline, t):
        ends = encode(x), encode(baseline)
        missed = [
            jax.tree.map(jnp.subtract, point, decode(z))
            for point, z in zip((x, baseline), ends, strict=True)
        ]
        decoded = decode(path(*ends, t))
        return jax.tree.map(jnp.add, decoded, straight(missed[0], missed[1], t))

    return latent_path


def _check_turns(turns, steps: int) -> None:
    if not jnp.issubdtype(jnp.result_type(turns), jnp.integer):
        raise TypeError(
            f"paths.staircase: turns must be integers, got {jnp.result_type(turns)}."
        )
    if isinstance(turns, Tracer) or not np.size(turns):
        return
    least, most = np.min(turns), np.max(turns)
    if least < 0 or most >= steps:
        raise ValueError(
            f"paths.staircase: turns must be in [0, {steps}), got {least} to {most}."
        )


def _like(x, waypoint):
    _check_like("polyline: a waypoint", x, waypoint)
    return cast_like(strong(waypoint), x)


def _check_like(what: str, x, given) -> None:
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (x, given)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"paths.{what} must be like x, {shapes[0]}, got {shapes[1]}.")
