"""Baselines: what an input is compared with. The choice matters more than any other.

Two kinds of functions: those that return a baseline, an array tree like x, and those
that return a sampler, `sample(key, x) -> baseline`, for expectations over baselines.
A baseline belongs to the space of x: after a normalization, zero is the mean, not black.
`learned` searches for one, and `compare` says what depends on the choice.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from igjax import _checks
from igjax._program import compiled
from igjax._tree import cast_like, spread, strong, total, widen
from igjax.attribution import Attribution

__all__ = [
    "Comparison",
    "Learned",
    "blurred",
    "compare",
    "constant",
    "learned",
    "mean",
    "mean_embedding",
    "noise",
    "permuted",
    "repeated",
    "rows",
    "surprise",
    "uniform",
    "zeros",
]


def zeros(x):
    """The zero baseline: absence, where zero means absence.

    Args:
        x: pytree of arrays.

    Returns:
        Zeros, a pytree like x.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> igjax.baselines.zeros({"age": jnp.ones(2)})
        {'age': Array([0., 0.], dtype=float32)}
    """
    return constant(x, 0.0)


def constant(x, value: float):
    """One value everywhere: black, white or grey images, in the units of x.

    Args:
        x: pytree of arrays.
        value: the number to fill with.

    Returns:
        A pytree like x.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> igjax.baselines.constant(jnp.ones(2), 0.5)
        Array([0.5, 0.5], dtype=float32)
    """
    fill: Any = jax.device_put(value)
    return jax.tree.map(lambda a: jnp.full_like(a, fill.astype(a.dtype)), strong(x))


def mean(data):
    """The mean of a data set: the average example, for tables and features.

    Args:
        data: pytree of floating arrays of shape (examples, ...).

    Returns:
        The mean over the first axis, accumulated in float32 or wider.

    Raises:
        ValueError: if there is no example.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> igjax.baselines.mean(jnp.array([[0.0, 1.0], [2.0, 3.0]]))
        Array([1., 2.], dtype=float32)
    """
    data = strong(data)
    _check_rows("mean", data)
    return cast_like(jax.tree.map(lambda a: a.mean(axis=0), widen(data)), data)


def blurred(x, sigma: float, axes: tuple[int, ...] = (0, 1)):
    r"""A Gaussian blur of x: an image without its details, but with its colors.

    Args:
        x: pytree of arrays, images of shape (height, width, ...) unless axes say else.
        sigma: standard deviation in pixels, positive.
        axes: the axes to blur along.

    Returns:
        A pytree like x. Beyond its border an image is continued by its edge.

    Raises:
        ValueError: if sigma is not positive.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> spot = jnp.zeros((5, 5)).at[2, 2].set(1.0)
        >>> round(float(igjax.baselines.blurred(spot, 1.0)[2, 2]), 3)
        0.159

    References:
        Fong, Vedaldi, "Interpretable Explanations of Black Boxes", ICCV 2017.
    """
    if not sigma > 0:
        raise ValueError(f"baselines.blurred: sigma must be positive, got {sigma}.")
    return _blurred(strong(x), float(sigma), tuple(axes))


@partial(jax.jit, static_argnums=(1, 2))
def _blurred(x, sigma, axes):
    radius = int(4 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = kernel / kernel.sum()

    def along(a, axis):
        a = jnp.moveaxis(a, axis, -1)
        padded = jnp.pad(a, [(0, 0)] * (a.ndim - 1) + [(radius, radius)], mode="edge")
        weights = jnp.asarray(kernel, a.dtype)
        smooth = jnp.apply_along_axis(
            lambda r: jnp.convolve(r, weights, "valid"), -1, padded
        )
        return jnp.moveaxis(smooth, -1, axis)

    def leaf(a):
        for axis in axes:
            a = along(a, axis)
        return a

    return cast_like(jax.tree.map(leaf, widen(x)), x)


def noise(scale: float) -> Callable:
    """A sampler of x plus Gaussian noise.

    Args:
        scale: standard deviation, in the units of x.

    Returns:
        `sample(key, x) -> baseline`.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> igjax.baselines.noise(0.1)(jax.random.key(0), jnp.zeros(3)).shape
        (3,)
    """
    return _sampler(lambda key, a: a + scale * jax.random.normal(key, a.shape, a.dtype))


def uniform(low: float, high: float) -> Callable:
    """A sampler of independent uniform values: an image of random pixels.

    Args:
        low: the least value.
        high: the bound from above.

    Returns:
        `sample(key, x) -> baseline`.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> igjax.baselines.uniform(0.0, 1.0)(jax.random.key(0), jnp.zeros(3)).shape
        (3,)
    """
    draw = jax.random.uniform
    return _sampler(lambda key, a: draw(key, a.shape, a.dtype, minval=low, maxval=high))


def permuted(key, x):
    """A sampler: x with its entries shuffled, leaf by leaf.

    Args:
        key: a JAX random key.
        x: pytree of arrays.

    Returns:
        A pytree like x with the same entries in a random order.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> float(igjax.baselines.permuted(jax.random.key(0), jnp.arange(3.0)).sum())
        3.0
    """
    shuffle = lambda key, a: jax.random.permutation(key, a.ravel()).reshape(a.shape)
    return _sampler(shuffle)(key, x)


def rows(data) -> Callable:
    """A sampler of rows of a data set, joint rows over all leaves.

    Args:
        data: pytree of arrays of shape (examples, ...), each row a baseline.

    Returns:
        `sample(key, x) -> baseline`.

    Raises:
        ValueError: if there is no row, or leaves differ in the number of rows.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> sample = igjax.baselines.rows({"a": jnp.arange(4.0), "b": 10 * jnp.arange(4.0)})
        >>> row = sample(jax.random.key(0), None)
        >>> bool(row["b"] == 10 * row["a"])
        True
    """
    data = strong(data)
    n = _check_rows("rows", data)

    def sample(key, x):
        del x  # the signature of every sampler
        return _row(key, data, n)

    return sample


@partial(jax.jit, static_argnums=2)
def _row(key, data, n: int):
    i = jax.random.randint(key, (), 0, n)
    return jax.tree.map(lambda a: a[i], data)


def repeated(tokens, token: int, keep: tuple[int, ...] = ()):
    """A text of one token, as long as the given one: padding, unknown, a neutral word.

    Embed the result as the text is embedded, and it is a baseline for its embedding.

    Args:
        tokens: integer array, the token ids of the text.
        token: the id to repeat.
        keep: ids that stay where they are: separators, the padding behind the text.

    Returns:
        Token ids, an array like tokens.

    Raises:
        TypeError: if the tokens are no integers.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> igjax.baselines.repeated(jnp.array([101, 7, 9, 102, 0]), 3, keep=(101, 102, 0))
        Array([101,   3,   3, 102,   0], dtype=int32)
    """
    tokens = jnp.asarray(tokens)
    if not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise TypeError(
            f"baselines.repeated: tokens must be integers, got {tokens.dtype}. Of an "
            "embedding use mean_embedding, or embed the repeated tokens."
        )
    given: Any = jax.device_put((np.asarray(keep), token))
    stay, fill = (a.astype(tokens.dtype) for a in given)
    return jnp.where(jnp.isin(tokens, stay), tokens, fill)


def mean_embedding(table, x):
    """The mean embedding of a vocabulary at every position: a text of no word.

    Args:
        table: floating array of shape (vocabulary, features), the embedding's weights.
        x: floating array of shape (..., features), the embedded text.

    Returns:
        An array like x; the mean is accumulated in float32 or wider.

    Raises:
        ValueError: if the numbers of features differ, or there is no word.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> table = jnp.array([[0.0, 2.0], [4.0, 2.0]])
        >>> igjax.baselines.mean_embedding(table, jnp.zeros((3, 2)))
        Array([[2., 2.],
               [2., 2.],
               [2., 2.]], dtype=float32)
    """
    table, x = strong(table), strong(x)
    if table.ndim != 2 or not len(table) or table.shape[1:] != x.shape[-1:]:
        raise ValueError(
            "baselines.mean_embedding: table must have the shape (vocabulary, features) "
            f"with the features of x, {x.shape}, got {table.shape}."
        )
    return jnp.broadcast_to(widen(table).mean(0).astype(x.dtype), x.shape)


class Learned(NamedTuple):
    """What `learned` returns.

    Attributes:
        baseline: the best point that was seen, a pytree like the start.
        loss: its loss; float32 or wider.
        losses: shape (steps + 1,), the loss at the start and after each step.

    Example:
        >>> import igjax
        >>> igjax.baselines.Learned._fields
        ('baseline', 'loss', 'losses')
    """

    baseline: Any
    loss: Any
    losses: Any


def learned(loss, start, *args, steps: int = 300, optimizer=None) -> Learned:
    """A baseline found by minimizing a loss over the input, by gradient descent.

    With `surprise(g)` as the loss it is an input for which a classifier predicts all
    classes alike. Such a point need not look like data, and there are many: start from
    x, and the nearest ones are found first. Read the loss: nothing else says that the
    search was long enough.

    Args:
        loss: `loss(baseline, *args) -> scalar`, traceable by JAX. Add to it what else
            should hold, such as a small distance from x.
        start: pytree of real floating arrays, where to start: x, zeros, a mean.
        *args: passed to the loss.
        steps: how many steps to take, at least 1.
        optimizer: an optax optimizer; None is `optax.adam(0.05)`, which moves each entry
            by about 0.05 a step: choose it by the scale of x.

    Returns:
        `Learned(baseline, loss, losses)`. The best point counts, not the last.

    Raises:
        ImportError: if optax is not installed.
        TypeError: if the loss is no function or returns no real number, or a leaf of
            start is no real floating array.
        ValueError: if steps is less than 1, or the loss returns no scalar.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> w = jnp.array([[1.0, 0.0], [0.0, 2.0]])
        >>> loss = igjax.baselines.surprise(lambda x: w @ x - 1.0)
        >>> found = igjax.baselines.learned(loss, jnp.array([3.0, -1.0]))
        >>> logits = w @ found.baseline - 1.0
        >>> bool(found.loss < 1e-6), bool(abs(logits[0] - logits[1]) < 1e-2)
        (True, True)

    References:
        Tan, "Maximum Entropy Baseline for Integrated Gradients", 2022.
    """
    try:
        import optax  # an extra: only who calls this needs it
    except ImportError as error:
        raise ImportError(
            'baselines.learned needs optax. Install it: pip install "igjax[models]"'
        ) from error
    _checks.function("baselines.learned", "loss", loss)
    _checks.count("baselines.learned", "steps", steps)
    _checks.arrays("baselines.learned", "start", start)
    start = strong(start)
    _checks.real("baselines.learned", start, "start")
    kind = _loss_dtype(jax.eval_shape(loss, start, *args))
    optimizer = optax.adam(0.05) if optimizer is None else optimizer

    def search(start, *args):
        def step(carry, _):
            point, state, best, least = carry
            value, slope = jax.value_and_grad(loss)(point, *args)
            better = value < least
            best = jax.tree.map(lambda a, b: jnp.where(better, a, b), point, best)
            with jax.numpy_dtype_promotion("standard"):  # optax 0.2 needs it
                updates, state = optimizer.update(slope, state, point)
                moved = optax.apply_updates(point, updates)
            return (moved, state, best, jnp.where(better, value, least)), value

        carry = start, optimizer.init(start), start, jnp.asarray(jnp.inf, kind)
        (_, _, best, least), losses = jax.lax.scan(step, carry, length=steps + 1)
        return Learned(best, *widen((least, losses)))

    return compiled.function("baselines.learned", search)(start, *args)


def _loss_dtype(output):
    dtype = getattr(output, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        got = dtype or type(output).__name__
        raise TypeError(f"baselines.learned: loss must return one real number, got {got}.")
    if output.shape:
        raise ValueError(
            "baselines.learned: loss must return a scalar, shape (), got "
            f"{dtype}{list(output.shape)}. Take its mean or its sum."
        )
    return dtype


def surprise(g) -> Callable:
    r"""A loss for `learned` that is 0 where a classifier predicts all classes alike.

    $$-\frac{1}{n} \sum_c \log p_c(x) - \log n
      = \mathrm{KL}(\mathrm{uniform} \,\|\, p(x))$$

    Unlike the entropy of p, it has a gradient where the classifier is sure.

    Args:
        g: `g(x, *args) -> logits` of shape (classes,), for one example.

    Returns:
        `loss(x, *args) -> scalar`, at least 0.

    Raises:
        ValueError: while tracing, if the logits are no vector.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> float(igjax.baselines.surprise(lambda x: x)(jnp.zeros(3)))
        0.0
    """
    _checks.function("baselines.surprise", "g", g)

    def loss(x, *args):
        logits = g(x, *args)
        if jnp.ndim(logits) != 1:
            raise ValueError(
                "baselines.surprise: g must return a vector of logits, got shape "
                f"{jnp.shape(logits)}. For a batch-first model use igjax.single(g)."
            )
        logits = widen(logits)
        return -jax.nn.log_softmax(logits).mean() - math.log(len(logits))

    return loss


class Comparison(NamedTuple):
    """Attributions of one input under several baselines, one row for each.

    Attributes:
        results: an `Attribution` whose fields lead with the baselines: `baseline_score`,
            `score`, `delta` and `error` of each are there.
        sums: shape (baselines,), the sum of all values.
        spread: pytree like x: the standard deviation of a value over the baselines.
        ranks: pytree like x with the baselines in front, int32: the place of a feature
            by absolute value among all features of x; 0 is the largest.
        keeps_sign: pytree like x of booleans: whether a value has one sign under all
            baselines, also if each is wrong by its error.
        keeps_rank: pytree like x of booleans: whether the rank is always the same.

    Example:
        >>> import igjax
        >>> igjax.baselines.Comparison._fields[:2]
        ('results', 'sums')
    """

    results: Attribution
    sums: Any
    spread: Any
    ranks: Any
    keeps_sign: Any
    keeps_rank: Any


def compare(attribute, x, baselines, *args) -> Comparison:
    """What of an attribution depends on the choice of the baseline, and what does not.

    An explanation that changes its sign from black to blurred is one of the baseline.

    Args:
        attribute: `attribute(x, baseline, *args) -> Attribution` of a scalar f, of any
            method; bind the key of a random one with `functools.partial`.
        x: pytree of arrays, one example.
        baselines: a list or tuple of baselines, each like x; a scalar stands for a whole
            leaf. A data set is none of them: of two, attribute and look at the results.
        *args: passed to the attribution.

    Returns:
        A `Comparison`, in the order of the baselines.

    Raises:
        TypeError: if attribute is no function, and as the attribution.
        ValueError: if baselines is no list or tuple, or empty, and as the attribution.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> attribute = igjax.integrated_gradients(lambda x: 2 * x[0] - x[1])
        >>> found = igjax.baselines.compare(attribute, jnp.ones(2), [0.0, jnp.full(2, 3.0)])
        >>> found.sums, found.results.baseline_score
        (Array([ 1., -2.], dtype=float32), Array([0., 3.], dtype=float32))
        >>> found.keeps_sign, found.keeps_rank
        (Array([False, False], dtype=bool), Array([ True,  True], dtype=bool))
    """
    _checks.function("baselines.compare", "attribute", attribute)
    if not isinstance(baselines, list | tuple) or not baselines:
        raise ValueError(
            "baselines.compare: baselines must be a list of baselines, each like x, got "
            f"{type(baselines).__name__}{' of none' * isinstance(baselines, list | tuple)}."
        )
    x = strong(x)
    for baseline in baselines:
        _checks.inputs("baselines.compare", x, baseline)
    filled = [spread(baseline, x) for baseline in baselines]
    stacked = jax.tree.map(lambda *rows: jnp.stack(rows), *filled)
    results = jax.vmap(lambda baseline: attribute(x, baseline, *args))(stacked)
    return _compared(results)


@jax.jit
def _compared(results: Attribution) -> Comparison:
    values, structure = jax.tree.flatten(results.values)
    ranks = structure.unflatten(_ranks(values))
    surely = lambda v, e: (v > e).all(0) | (v < -e).all(0)
    return Comparison(
        results=results,
        sums=total(results.values, 1),
        spread=jax.tree.map(lambda v: v.std(0), results.values),
        ranks=ranks,
        keeps_sign=jax.tree.map(surely, results.values, results.error),
        keeps_rank=jax.tree.map(lambda r: (r == r[:1]).all(0), ranks),
    )


def _ranks(leaves):
    """The rank of each entry by absolute value among all leaves, row by row."""
    sizes = np.cumsum([math.prod(a.shape[1:]) for a in leaves])[:-1]
    dtype = np.result_type(*(a.dtype for a in leaves))
    rows = [jnp.abs(a).astype(dtype).reshape(len(a), -1) for a in leaves]
    flat = jnp.concatenate(rows, 1)
    order = jnp.argsort(-flat, axis=1)
    pieces = jnp.split(jnp.argsort(order, axis=1).astype(jnp.int32), sizes, axis=1)
    return [p.reshape(a.shape) for p, a in zip(pieces, leaves, strict=True)]


def _sampler(draw) -> Callable:
    """Draws each leaf with a key of its own."""

    def sample(key, x):
        leaves, structure = jax.tree.flatten(strong(x))
        keys = jax.random.split(key, len(leaves))
        return structure.unflatten([draw(k, a) for k, a in zip(keys, leaves, strict=True)])

    return jax.jit(sample)


def _check_rows(caller: str, data) -> int:
    counts = {a.shape[0] if a.ndim else 0 for a in jax.tree.leaves(data)}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(
            f"baselines.{caller}: every leaf must have the same number of examples on its "
            f"first axis, at least 1, got {sorted(counts)}."
        )
    return counts.pop()
