r"""Do the values tell what the function does? Completeness, infidelity, sensitivity-n.

Each compares what values say of a change of x with what f does: of the one change to the
baseline, of changes drawn by the user, of random subsets put to the baseline.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from igjax import _checks
from igjax._program import compiled
from igjax._tree import strong, total
from igjax.attribution import Attribution
from igjax.metrics._features import (
    alike,
    fitted,
    half_width,
    mapped,
    mixer,
    score,
    subset,
    vector,
)

__all__ = [
    "Completeness",
    "Correlation",
    "Infidelity",
    "completeness",
    "infidelity",
    "sensitivity_n",
]


class Completeness(NamedTuple):
    """What the values leave of the change of the score, beside what they may.

    Attributes:
        value: the gap: sum of the values, less the change of the score.
        error: the sum of the errors of the values.
        share: |gap| in proportion to the sum of the absolute values.

    Example:
        >>> import igjax
        >>> igjax.metrics.Completeness(0.5, 0.1, 0.05).share
        0.05
    """

    value: Any
    error: Any
    share: Any


def completeness(result: Attribution) -> Completeness:
    r"""The completeness gap, beside the error that the result tells of itself.

    $$\Bigl| \sum_i a_i - \bigl(f(x) - f(x')\bigr) \Bigr| \;\text{against}\;
      \sum_i \mathrm{error}_i$$

    Numbers are never equal, so there is no yes or no here: a gap far above the error is a
    fault of the method, or a method that is not meant to be complete. A small gap proves
    little, because errors of features cancel in it, and nothing where values are scaled or
    solved to add up.

    Args:
        result: of one example; a batch through `jax.vmap`.

    Returns:
        A `Completeness`.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> result = igjax.input_x_gradient(lambda x: (x**2).sum())(jnp.ones(2), 0.0)
        >>> float(igjax.metrics.completeness(result).share)  # values 2, 2; the score 2
        0.5
    """
    return _completeness(result)


@jax.jit
def _completeness(result) -> Completeness:
    size = total(jax.tree.map(jnp.abs, result.values), 0)
    gap, whole = alike(jnp.abs(result.delta), jnp.where(size > 0, size, 1))
    return Completeness(result.delta, total(result.error, 0), gap / whole)


class Infidelity(NamedTuple):
    """The mean square of what slopes do not tell.

    Attributes:
        value: in squared units of the score.
        error: half-width of a 95% interval of it; squares have heavy tails.
        share: value in proportion to the mean square of the changes: 0 is best, and with
            the best scale 1 says that the slopes told nothing.
        share_error: half-width of a 95% interval of the share; at 256 draws it covers
            about 91%, that of the value less.
        scale: what the slopes were multiplied with.

    Example:
        >>> import igjax
        >>> igjax.metrics.Infidelity(0.2, 0.1, 0.02, 0.01, 1.0).share
        0.02
    """

    value: Any
    error: Any
    share: Any
    share_error: Any
    scale: Any


def infidelity(f, draw, *, draws: int = 256, scaled: bool = True, chunk_size=None):
    r"""Infidelity: how far slopes are from telling the changes of a score.

    $$\mathrm{E}_I \bigl( f(x) - f(x - I) - b \, \langle I, s \rangle \bigr)^2$$

    with I drawn by `draw` and b the best scale, or 1. Look at the share first: the value
    has the units of the score, and is small where f hardly moves. It is about slopes, in
    units of the score for a unit of x: gradients, smoothed gradients; values of features,
    which are for the whole way from the baseline, are divided by x - baseline, or go to
    `sensitivity_n`. The best slopes are a regression on the same draws, so it rewards
    whatever smooths as widely as I is drawn.

    Args:
        f: `f(x, *args) -> scalar`.
        draw: `draw(key, x) -> I`, a pytree like x: the change that is taken off x.
        draws: how many.
        scaled: False compares the slopes as they are, b = 1.
        chunk_size: how many scores are computed side by side; None chooses.

    Returns:
        `measure(key, slopes, x, *args) -> Infidelity`.

    Raises:
        TypeError: if f or draw is not callable, the key none, or x no floating array.
        ValueError: if draws are fewer than 2, or the slopes are not like x.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> f = lambda x: 3 * x[0] - x[1]
        >>> noise = lambda key, x: jax.random.normal(key, x.shape)
        >>> measure = igjax.metrics.infidelity(f, noise)
        >>> found = measure(jax.random.key(0), jnp.array([3.0, -1.0]), jnp.ones(2))
        >>> bool(found.share < 1e-9)
        True

    References:
        Yeh, Hsieh, Suggala, Inouye, Ravikumar, "On the (In)fidelity and Sensitivity of
        Explanations", NeurIPS 2019.
    """
    caller = "infidelity"
    _checks.function(caller, "f", f)
    _checks.function(caller, "draw", draw)
    _checks.count(caller, "draws", draws, 2)
    _checks.chunk_size(caller, chunk_size)

    def measure(key, slopes, x, /, *args):
        _checks.key(caller, key)
        slopes, x = fitted(caller, slopes, x), strong(x)
        here = score(f, x, args)

        def one(k):
            change = draw(jax.random.fold_in(key, k), x)
            there = jax.tree.map(lambda a, d: (a - d).astype(a.dtype), x, change)
            told, by = alike(vector(change), slopes)
            return alike(here - score(f, there, args), told @ by)

        change, told = mapped(one, draws, chunk_size)
        squares = (told**2).mean()
        best = (change * told).mean() / jnp.where(squares > 0, squares, 1)
        scale = best if scaled else jnp.ones_like(best)
        left = (change - scale * told) ** 2
        value, power = left.mean(), (change**2).mean()
        some = jnp.where(power > 0, power, 1)
        share = value / some
        influence = (left - share * change**2) / some
        widths = (half_width(a.std(ddof=1), draws) for a in (left, influence))
        error, share_error = widths
        return Infidelity(value, error, share, share_error, scale)

    return compiled.function(caller, measure)


class Correlation(NamedTuple):
    """A correlation and its 95% interval.

    Attributes:
        value: Pearson's r; NaN where one side does not vary.
        low: lower end of the interval.
        high: upper end of the interval.

    Example:
        >>> import igjax
        >>> igjax.metrics.Correlation(0.5, 0.3, 0.7).low
        0.3
    """

    value: Any
    low: Any
    high: Any


def sensitivity_n(f, size: int, *, subsets: int = 128, chunk_size=None):
    r"""Sensitivity-n: how sums of values go with what the score loses without them.

    $$\mathrm{corr}_S \Bigl( \sum_{i \in S} a_i, \;
      f(x) - f(x \text{ with } x_S = x'_S) \Bigr), \qquad |S| = n$$

    over random subsets of one size; faithfulness correlation is the same number. It is 1
    for exact values of an additive f, at every size. Only proportions count, not the
    scale, and masking leaves the data: what f does there may be nobody's question.

    Args:
        f: `f(x, *args) -> scalar`.
        size: how many features a subset has, fewer than x.
        subsets: how many are drawn.
        chunk_size: how many scores are computed side by side; None chooses.

    Returns:
        `measure(key, values, x, baseline, *args) -> Correlation`. Take the baseline that
        the values were computed for.

    Raises:
        TypeError: if f is not callable, the key none, or x no floating array.
        ValueError: if the values are not like x, or the size or number makes no sense.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> f = lambda x: x @ jnp.arange(5.0)
        >>> measure = igjax.metrics.sensitivity_n(f, 2)
        >>> found = measure(jax.random.key(0), jnp.arange(5.0), jnp.ones(5), 0.0)
        >>> round(float(found.value), 5)
        1.0

    References:
        Ancona, Ceolini, Oztireli, Gross, "Towards Better Understanding of Gradient-based
        Attribution Methods for Deep Neural Networks", ICLR 2018.
        Bhatt, Weller, Moura, "Evaluating and Aggregating Feature-based Model
        Explanations", IJCAI 2020.
    """
    caller = "sensitivity_n"
    _checks.function(caller, "f", f)
    _checks.count(caller, "size", size)
    _checks.count(caller, "subsets", subsets, 8)
    _checks.chunk_size(caller, chunk_size)

    def measure(key, values, x, baseline, /, *args):
        _checks.key(caller, key)
        values = fitted(caller, values, x)
        _checks.inputs(caller, x, baseline)
        if size >= len(values):
            raise ValueError(
                f"{caller}: size must be less than the {len(values)} features of x, got "
                f"{size}: else all subsets are the same."
            )
        mixed = mixer(x, baseline)
        here = score(f, strong(x), args)

        def one(k):
            chosen = subset(jax.random.fold_in(key, k), len(values), size)
            told = (values * chosen.astype(values.dtype)).sum()
            return alike(told, here - score(f, mixed(~chosen), args))

        return _correlation(*mapped(one, subsets, chunk_size))

    return compiled.function(caller, measure)


def _correlation(a, b) -> Correlation:
    """Pearson's r, and its interval by Fisher's z with the moments of the sample."""
    count = len(a)
    a, b = a - a.mean(), b - b.mean()
    a, b = (v / jnp.sqrt((v**2).mean()) for v in (a, b))  # NaN where nothing varies
    r = (a * b).mean()
    influence = a * b - r / 2 * (a**2 + b**2)
    tiny = float(jnp.finfo(r.dtype).eps)
    width = half_width(influence.std(), count) / jnp.maximum(1 - r**2, tiny)
    z = jnp.arctanh(jnp.clip(r, -1 + tiny, 1 - tiny))
    return Correlation(r, jnp.tanh(z - width), jnp.tanh(z + width))
