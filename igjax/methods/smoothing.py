"""Combinators: from an attribution of one input to the mean over many, key first.

They take an attribute function, `attribute(x, baseline, *args) -> Attribution`, and return
one with a random key in front, which draws noise for x. What they return nests: with its
key bound by `functools.partial` it can be given to another combinator, here or in
`igjax.expectations`. It compiles itself once per shape: build it once.

The result is an `Attribution` like any other. Its `error` is the mean of the errors of the
draws plus the half-width of a 95% confidence interval; its scores are means over the
draws, and `delta` is the gap between those: sum(values) - (score - baseline_score).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from igjax import _checks
from igjax._program import compiled
from igjax._tree import strong, wide
from igjax.attribution import Attribution
from igjax.methods._draws import mean_of, of_one, worst

__all__ = ["smooth", "smooth_squared", "smooth_variance"]


def smooth(attribute, *, scale: Any = 0.15, relative=True, draws=64, chunk_size=None):
    r"""The mean of an attribution over Gaussian noise on the input: SmoothGrad.

    $$a_i = \mathrm{E}_\varepsilon\, A_i(x + \varepsilon), \qquad
      \varepsilon \sim \mathcal{N}(0, \sigma^2)$$

    Use it where attributions of neighboring inputs differ more than those inputs do. It
    explains the score under noise, not f at x: `score` is the mean of f(x + noise) over the
    draws, and `delta` the gap against that. The noise is antithetic (each draw of it is
    used with both signs), so that where A is affine nothing random is left.

    Args:
        attribute: `attribute(x, baseline, *args) -> Attribution`, of any method.
        scale: the standard deviation of the noise: a number, or a pytree like x of
            numbers or arrays, for features of different units.
        relative: True takes `scale` as a share of the range, maximum - minimum, of each
            leaf of x; False in the units of x.
        draws: how many inputs are attributed; even, at least 8.
        chunk_size: how many of them are evaluated side by side; it bounds the memory.
            None chooses.

    Returns:
        `smoothed(key, x, baseline, *args) -> Attribution`. Each `error` is the mean error
        of the draws plus a 95% confidence half-width of their mean, which takes means to
        be near normal: of a squared normal it covers 85% at 16 draws, 91% at 64, 94% at
        512.
        `status` is NO_TOLERANCE, or the worst of the draws.

    Raises:
        TypeError: if attribute is not callable, or draws at random and has not its key
            bound, or the key is none.
        ValueError: if draws, scale or chunk_size make no sense, or the noise is relative
            to the range of a single number.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> f = lambda x: jax.nn.relu(x).sum()
        >>> smoothed = igjax.smooth(igjax.gradient(f), scale=1.0, relative=False)
        >>> result = smoothed(jax.random.key(0), jnp.array([0.0, 9.0]), None)
        >>> result.values  # at the kink both slopes are seen
        Array([0.5, 1. ], dtype=float32)

    References:
        Smilkov, Thorat, Kim, Viegas, Wattenberg, "SmoothGrad", 2017.
    """
    options = (scale, relative, draws, chunk_size)
    return _smoothed("smooth", attribute, _mean, 1, options)


def smooth_squared(
    attribute, *, scale: Any = 0.15, relative=True, draws=64, chunk_size=None
):
    r"""The mean square of an attribution over noise on the input: SmoothGrad squared.

    $$a_i = \mathrm{E}_\varepsilon\, A_i(x + \varepsilon)^2$$

    It has no sign and no completeness: `delta` is infinite. It is the square of the mean
    plus the variance; see `smooth` and `smooth_variance` for either.

    Args:
        attribute: as in `smooth`.
        scale: as in `smooth`.
        relative: as in `smooth`.
        draws: as in `smooth`.
        chunk_size: as in `smooth`.

    Returns:
        `smoothed(key, x, baseline, *args) -> Attribution`, as in `smooth`.

    Raises:
        TypeError: as `smooth`.
        ValueError: as `smooth`.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> squared = igjax.smooth_squared(igjax.gradient(lambda x: 3 * x.sum()))
        >>> squared(jax.random.key(0), jnp.array([0.0, 1.0]), None).values
        Array([9., 9.], dtype=float32)

    References:
        Hooker, Erhan, Kindermans, Kim, "A Benchmark for Interpretability Methods in Deep
        Neural Networks", NeurIPS 2019.
    """
    options = (scale, relative, draws, chunk_size)
    return _smoothed("smooth_squared", attribute, _mean_square, 1, options)


def smooth_variance(
    attribute, *, scale: Any = 0.15, relative=True, draws=64, chunk_size=None
):
    r"""The variance of an attribution over noise on the input: VarGrad.

    $$a_i = \mathrm{Var}_\varepsilon\, A_i(x + \varepsilon)$$

    It has no sign and no completeness: `delta` is infinite. The estimate is unbiased and
    made of differences of attributions only, never of squares, so that a constant
    attribution has a variance of exactly 0, however large it is.

    Args:
        attribute: as in `smooth`.
        scale: as in `smooth`.
        relative: as in `smooth`.
        draws: how many inputs are attributed; a multiple of 4, at least 16.
        chunk_size: as in `smooth`.

    Returns:
        `smoothed(key, x, baseline, *args) -> Attribution`, as in `smooth`. Variances are
        skewed: the errors cover about 90% at 64 draws, 93% at 256, 94% at 1024.

    Raises:
        TypeError: as `smooth`.
        ValueError: as `smooth`.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> variance = igjax.smooth_variance(igjax.gradient(lambda x: 1000.1 * x.sum()))
        >>> variance(jax.random.key(0), jnp.array([0.0, 1.0]), None).values
        Array([0., 0.], dtype=float32)

    References:
        Adebayo, Gilmer, Goodfellow, Kim, "Local Explanation Methods for Deep Neural
        Networks Lack Sensitivity to Parameter Values", ICLR workshop 2018.
    """
    options = (scale, relative, draws, chunk_size)
    return _smoothed("smooth_variance", attribute, _variance, 2, options)


def _smoothed(caller, attribute, statistic, pairs: int, options):
    """A statistic of groups of antithetic pairs, averaged over the groups."""
    scale, relative, draws, chunk_size = options
    _checks.function(caller, "attribute", attribute)
    _checks.unkeyed(caller, attribute)
    _checks.chunk_size(caller, chunk_size)
    _checks.draws(caller, draws, 8 * pairs, 2 * pairs)
    for leaf in jax.tree.leaves(scale):
        if not isinstance(leaf, Tracer) and not np.all((leaf >= 0) & (leaf < np.inf)):
            raise ValueError(f"{caller}: scale must be at least 0 and finite, got {leaf}.")
    size = None if chunk_size is None else max(1, chunk_size // (2 * pairs))

    def smoothed(key, x, baseline, /, *args):
        _checks.key(caller, key)
        _checks.inputs(caller, x, x)
        x = strong(x)
        widths = _widths(caller, x, scale, relative)

        def draw(k):
            keys = jax.random.split(jax.random.fold_in(key, k), pairs)
            noise = jax.vmap(lambda key: _noise(key, x, widths))(keys)
            inputs = jax.tree.map(_both_ways, x, noise)
            explain = lambda x: of_one(caller, attribute(x, baseline, *args))
            results = jax.vmap(explain)(inputs)
            return _combined(results, statistic)

        return mean_of(draw, draws // (2 * pairs), size)

    return compiled.function(caller, smoothed)


def _widths(caller, x, scale, relative):
    """The standard deviation of the noise for each leaf of x."""
    leaves, structure = jax.tree.flatten(x)
    scales, found = jax.tree.flatten(scale)
    if len(scales) == 1 and found == jax.tree.structure(0):
        scales = scales * len(leaves)
    elif found != structure:
        raise ValueError(
            f"{caller}: scale must be a number or have the structure of x, {structure}, "
            f"got {found}."
        )
    for leaf, s in zip(leaves, scales, strict=True):
        if np.shape(s) not in ((), leaf.shape):
            raise ValueError(
                f"{caller}: a scale must be a number or have the shape of its leaf, "
                f"{leaf.shape}, got {np.shape(s)}."
            )
        if relative and leaf.size == 1:
            raise ValueError(
                f"{caller}: a leaf of a single number, shape {leaf.shape}, has no range "
                "for noise to be relative to. Pass relative=False and scale in its units."
            )

    def width(a, s):
        s = jnp.asarray(s, wide(jnp.finfo(a.dtype).dtype))
        return s * _range(a).astype(s.dtype) if relative else s

    return structure.unflatten(map(width, leaves, scales))


def _range(a):
    if not a.size:
        return jnp.zeros(())
    parts = jnp.stack([a.real, a.imag] if jnp.iscomplexobj(a) else [a]).reshape(-1, a.size)
    return (parts.max(1) - parts.min(1)).max()


def _noise(key, x, widths):
    leaves, structure = jax.tree.flatten(x)
    keys = structure.unflatten(list(jax.random.split(key, len(leaves))))

    def normal(key, a, width):
        drawn = jax.random.normal(key, a.shape, wide(a.dtype))
        return width.astype(drawn.dtype) * drawn

    return jax.tree.map(normal, keys, x, widths)


def _both_ways(a, noise):
    """A leaf with each of several noises added, and subtracted."""
    signed = jnp.stack([noise, -noise], 1).reshape(2 * len(noise), *a.shape)
    return (a.astype(noise.dtype)[None] + signed).astype(a.dtype)


def _mean(values, error):
    """Statistics of A(x + e), A(x - e), and again for another e, with their errors."""
    return values.mean(0), error.mean(0)


def _mean_square(values, error):
    return (values**2).mean(0), (error * (2 * jnp.abs(values) + error)).mean(0)


def _variance(values, error):
    # With m and h the half sum and half difference of a pair, h has mean 0, and the
    # variance is that of m plus the mean of h**2.
    values, error = (a.reshape(2, 2, *a.shape[1:]) for a in (values, error))
    half = (values[:, 0] - values[:, 1]) / 2
    middle, doubt = values.mean(1), error.mean(1)
    between, wide_doubt = middle[0] - middle[1], doubt.sum(0)
    size = (doubt * (2 * jnp.abs(half) + doubt)).mean(0)
    size = size + wide_doubt * (2 * jnp.abs(between) + wide_doubt) / 2
    return between**2 / 2 + (half**2).mean(0), size


def _combined(results: Attribution, statistic) -> Attribution:
    """One result from a few, which lead every field."""
    pairs = [
        statistic(v, e)
        for v, e in zip(
            jax.tree.leaves(results.values), jax.tree.leaves(results.error), strict=True
        )
    ]
    structure = jax.tree.structure(results.values)
    values, error = (structure.unflatten(list(a)) for a in zip(*pairs, strict=True))
    delta = results.delta.mean(0)
    return Attribution(
        values=values,
        error=error,
        delta=delta if statistic is _mean else jnp.full_like(delta, jnp.inf),
        score=results.score.mean(0),
        baseline_score=results.baseline_score.mean(0),
        evaluations=results.evaluations.sum(0, dtype=jnp.int32),
        forwards=results.forwards.sum(0, dtype=jnp.int32),
        jumps=results.jumps.sum(0, dtype=jnp.int32),
        status=worst(results.status),
    )
