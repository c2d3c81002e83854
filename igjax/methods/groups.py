r"""Groups of features: segments, channels, time steps, one-hot columns, words.

A group is one feature: how far its members have gone together from the baseline to x,

$$g(s) = f\bigl(x' + s_{\mathrm{group}(i)} (x_i - x'_i)\bigr).$$

The attribution of g from s = 0 to s = 1 is that of the groups: a change of variables, so
that every method does it unchanged, with certificates of the groups. Errors of features
that cancel within a group are no error of the group; the sum of the errors of its
features (`aggregate`) is only a bound, and the features' tolerance is not the groups'.

A mean over baselines or noise goes around the groups, and another method inside:

    igjax.expected(igjax.grouped(f, count, method=...))(key, x, rows, groups, *args)

The groups are labels: a pytree like x of integers in [0, count), in each leaf a scalar for
the whole leaf, or an array with as many axes as the leaf, of size 1 where all share.
Every feature is in one, so that the groups are as complete as the features were.
"""

import dataclasses
import itertools
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from igjax import _checks
from igjax._program import compiled
from igjax._tree import cast_like, parameter_dtype, strong, total, wide_labels, widen
from igjax.attribution import Attribution, Status
from igjax.methods.expectations import (
    expected,
    expected_gradients,
    expected_integrated_gradients,
)
from igjax.methods.integrated import integrated_gradients
from igjax.methods.smoothing import smooth, smooth_squared, smooth_variance

__all__ = ["aggregate", "grouped", "token_groups", "word_groups"]

_OF_ROWS = expected, expected_gradients, expected_integrated_gradients
_OF_NOISE = smooth, smooth_squared, smooth_variance
_STARTS = ("▁", "Ġ", "Ċ", " ", "\n")  # of words, as tokenizers write them
_MARK = re.compile(r"\[[A-Z_0-9]+\]|<[^<>\s]+>")


def grouped(
    f, count: int, *, method: Callable = integrated_gradients, **options: Any
) -> Callable:
    r"""Attributions of groups of features, with the errors and the tolerance of groups.

    $$a_G = \sum_{i \in G} (x_i - x'_i) \int_0^1
      \frac{\partial f}{\partial x_i}\bigl(x' + t (x - x')\bigr)\,dt$$

    for Integrated Gradients; the groups take the place of features in any other method:
    Shapley values, Hessians, a staircase path. Use it where single pixels or columns say
    nothing by themselves: the adaptive rule then spends what the groups need, and keeps
    `count` numbers for a panel where x may have a million. Of a result that is there
    already, `aggregate` adds up the features.

    Args:
        f: `f(x, *args) -> scalar`, or what the method takes.
        count: the number of groups.
        method: `method(f, **options) -> attribute(x, baseline, *args)`; one that draws at
            random with its key bound, `lambda f: partial(shapley_values(f), key)`.
        **options: of the method: rule, chunk_size. A `path` is one of the groups.

    Returns:
        `attribute(x, baseline, groups, *args) -> Attribution`, whose values have shape
        (count,) in place of the axes of x. `groups` are labels: a pytree like x of
        integers in [0, count); a leaf is a scalar, or has the axes of its leaf of x, of
        size 1 where all share a label: `jnp.arange(3)[None, None]` for the channels of an
        image. They are traced, and may differ between the examples of a batch. A label
        out of range is an error, or, where it is traced, a result of NaN.

    Raises:
        TypeError: as the method; if f is an attribution, or the method a mean over
            baselines or noise, both of which go around the groups:
            `expected(grouped(f, count, rule=...))`; and if a label is no integer.
        ValueError: as the method, if count is less than 1, or if the groups do not fit x.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> attribute = igjax.grouped(lambda x: x[0] * x[1] * x[2], 2)
        >>> result = attribute(jnp.full(3, 3.0), 0.0, jnp.array([0, 0, 1]))
        >>> result.values.round(3), bool(result.converged)
        (Array([18.,  9.], dtype=float32), True)
    """
    _checks.function("grouped", "f", f)
    _checks.function("grouped", "method", method)
    _check_count("grouped", count)
    _check_is_no_attribution(f, count)
    _check_is_no_mean(method, count)
    validate = getattr(f, "validate", None)

    def scaled(scales, groups, x, baseline, /, *args):
        def leaf(a, b, group):
            group, inside = _inside(group, count)
            dx = jnp.where(inside, a - b, jnp.nan)
            return moved(scales[group].astype(a.dtype), a, b, dx)

        point = jax.tree.map(leaf, widen(x), _wide_like(baseline, x), groups)
        return f(cast_like(point, x), *args)

    attribute = method(scaled, **options)
    _check_made(attribute, count)

    def attribute_groups(x, baseline, groups, /, *args):
        _check_no_key(x, count)
        _checks.inputs("grouped", x, baseline)
        x = strong(x)
        groups = labels_of("grouped", groups, x, (), count)
        ones, zeros = _ends(count, parameter_dtype(x))
        result = attribute(ones, zeros, groups, x, strong(baseline), *args)
        if validate is not None:  # last: a choice of outputs must have been traced
            validate(x, *args)
        return result

    return attribute_groups


def moved(scale, a, b, dx):
    """The place between b, at scale 0, and a = b + dx, reached exactly at scale 1."""
    rest = a - (b + dx)  # what rounding leaves out
    return b + scale * dx + scale * rest


def aggregate(result: Attribution, groups, count: int) -> Attribution:
    r"""The values of features, added up by groups: words of sub-tokens, spans, regions.

    $$a_G = \sum_{i \in G} a_i, \qquad
      \mathrm{error}_G = \sum_{i \in G} \mathrm{error}_i$$

    Use it on a result that is there, of any method; its completeness is kept, and so is
    `delta`. The error is a safe bound: it holds however the errors of the features add
    up. A tolerance that the features have met is relative to the sum of their absolute
    values; where signs cancel in a group, that of the groups is smaller. So `status` says
    NO_TOLERANCE in its place: `diagnostics.within` looks at the groups, and `grouped`
    meets a tolerance for them.

    Args:
        result: of one example, a batch, or a Jacobian: the axes of its `score` are kept.
        groups: pytree like x of labels, as in `grouped`, the same for a whole batch; map
            over results and groups (`jax.vmap`) if each example has its own.
        count: the number of groups; those that have no feature get 0.

    Returns:
        An `Attribution`, whose values have shape (count,), after the axes of `score`.
        Where a label is traced and out of range, all are NaN.

    Raises:
        TypeError: if a label is no integer.
        ValueError: if count is less than 1, the groups do not fit the values, or a label
            is out of range.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> rule = igjax.rules.gauss_legendre(8)
        >>> attribute = igjax.integrated_gradients(lambda x: (x**2).sum(), rule=rule)
        >>> result = attribute(jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), 0.0)
        >>> words = igjax.token_groups([None, 0, 0])  # a mark, and a word of two tokens
        >>> igjax.aggregate(result, words[:, None], 2).values.round()
        Array([ 5., 86.], dtype=float32)
    """
    _check_count("aggregate", count)
    lead = jnp.shape(result.score)
    labels = labels_of("aggregate", groups, result.values, lead, count)
    return _aggregated(result, labels, count)


@partial(jax.jit, static_argnums=2)
def _aggregated(result: Attribution, labels, count: int) -> Attribution:
    lead = jnp.ndim(result.score)
    insides = [_inside(g, count)[1].all() for g in jax.tree.leaves(labels)]
    valid = jnp.all(jnp.stack(insides))

    def sums(tree):
        parts = jax.tree.map(lambda a, g: _sums(a, g, lead, count), tree, labels)
        return jnp.where(valid, total(parts, lead + 1), jnp.nan)

    met = result.status == Status.TOLERANCE_MET
    status = jnp.where(met, Status.NO_TOLERANCE, result.status)
    return dataclasses.replace(
        result,
        values=sums(result.values),
        error=sums(result.error),
        sampling=None if result.sampling is None else sums(result.sampling),
        delta=jnp.where(valid, result.delta, jnp.nan),
        status=jnp.where(valid, status, Status.NON_FINITE).astype(jnp.int32),
    )


def token_groups(labels: Sequence) -> np.ndarray:
    """The groups of tokens that make a word, or a span, in the order of the text.

    Neighbors with the same label are one group. A token without one (None: the marks that
    a tokenizer adds, whatever is in no span) is a group by itself: it has a share of the
    score as well, and nothing is lost.

    Args:
        labels: the word of each token, as tokenizers give them (`encoding.word_ids()`),
            or its span; None for a token in none. In a pair of texts words are numbered
            twice; the mark between the texts keeps them apart.

    Returns:
        int32 labels of shape (tokens,), for `grouped` and `aggregate`; of embeddings,
        `labels[:, None]`. The number of groups is `labels.max() + 1`; the examples of a
        batch take the largest.

    Raises:
        ValueError: if there is no token.

    Example:
        >>> import igjax
        >>> igjax.token_groups([None, 0, 1, 1, 1, None])  # [CLS] un ##believ ##able [SEP]
        array([0, 1, 2, 2, 2, 3], dtype=int32)
    """
    if not len(labels):
        raise ValueError("token_groups: labels must have at least one token, got none.")
    new = [a is None or a != b for b, a in itertools.pairwise(labels)]
    return np.cumsum([0, *new]).astype(np.int32)


def word_groups(tokens: Sequence[str]) -> np.ndarray:
    """The groups of tokens that make a word, read off the tokens as they are written.

    Tokenizers mark where words begin, "▁film", "Ġfilm" or " film", or what goes on with
    one, "##able"; without any mark each token is a word. Marks of the tokenizer, "[CLS]",
    "<s>" or "<|end|>", are groups by themselves.

    Args:
        tokens: as strings, in the order of the text.

    Returns:
        Labels as those of `token_groups`, int32 of shape (tokens,).

    Raises:
        TypeError: if tokens is one string, or holds what is none.
        ValueError: if there is no token.

    Example:
        >>> import igjax
        >>> igjax.word_groups(["<s>", "▁un", "believ", "able", "▁film", "!"])
        array([0, 1, 1, 1, 2, 2], dtype=int32)
    """
    if isinstance(tokens, str) or not all(isinstance(token, str) for token in tokens):
        raise TypeError(
            f"word_groups: tokens must be strings, one for each token, got {tokens!r}. "
            "Word ids of a tokenizer go to igjax.token_groups."
        )
    inner = any(token.startswith("##") for token in tokens)
    marked = any(token.startswith(_STARTS) for token in tokens)
    word, labels = 0, []
    for token in tokens:
        begins = not token.startswith("##") if inner else token.startswith(_STARTS)
        word += begins or not (inner or marked)
        labels.append(None if _MARK.fullmatch(token) else word)
    return token_groups(labels)


@partial(jax.jit, static_argnums=(0, 1))
def _ends(count: int, dtype):
    """Where all groups are at x, and where all are at the baseline."""
    return jnp.ones(count, dtype), jnp.zeros(count, dtype)


def _wide_like(baseline, x):
    return jax.tree.map(lambda b, a: b.astype(a.dtype), baseline, widen(x))


def _inside(group, count: int):
    """Labels that exist, and where they do; an index is not clamped in silence."""
    inside = (group >= 0) & (group < count)
    return jnp.where(inside, group, 0), inside


def _sums(a, group, lead: int, count: int):
    """Sums of a leaf over its groups: first over the axes that share their labels."""
    if not group.ndim:
        group = group.reshape((1,) * (a.ndim - lead))
    shared = tuple(lead + i for i, n in enumerate(group.shape) if n == 1)
    rows = a.sum(shared).reshape(*a.shape[:lead], group.size)
    zeros = jnp.zeros((*a.shape[:lead], count), a.dtype)
    return zeros.at[..., _inside(group, count)[0].ravel()].add(rows)


def _check_count(caller: str, count) -> None:
    advice = " It is the number of groups, groups.max() + 1."
    _checks.count(caller, "count", count, advice=advice)


def _check_is_no_attribution(f, count: int) -> None:
    if (name := compiled.maker(f)) is not None:
        raise TypeError(
            f"grouped: f must be the function to explain, got what {name} made of it. A "
            f"mean goes around the groups, {_around(count)}; another method inside, "
            f"igjax.grouped(f, {count}, method=...)."
        )


def _check_is_no_mean(method, count: int) -> None:
    while isinstance(method, partial):
        method = method.func
    if method in (*_OF_ROWS, *_OF_NOISE):
        raise _mean_inside(method.__name__, count)


def _check_made(attribute, count: int) -> None:
    """Checks what the method made, which may be a mean with its key bound."""
    name = compiled.maker(attribute)
    if name in [method.__name__ for method in _OF_ROWS]:
        raise _mean_inside(name, count)


def _mean_inside(name: str, count: int) -> TypeError:
    over = "baselines" if name.startswith("expected") else "noise"
    return TypeError(
        f"grouped: method must explain x against one baseline, got {name}, a mean over "
        f"{over}. Take the mean around the groups: {_around(count, over)}."
    )


def _around(count: int, over: str = "baselines") -> str:
    mean, given = ("expected", "rows") if over == "baselines" else ("smooth", "baseline")
    return f"igjax.{mean}(igjax.grouped(f, {count}, rule=...))(key, x, {given}, groups)"


def _check_no_key(x, count: int) -> None:
    if _checks.is_one_key(x):
        raise TypeError(
            "grouped: the first argument must be x, got a random key. A method that draws "
            "at random has its key bound, method=lambda f: partial(shapley_values(f), key);"
            f" a mean over baselines or noise goes around the groups: {_around(count)}."
        )


def labels_of(caller: str, groups, values, lead: tuple, count: int):
    """Checks labels against the leaves they are for, and makes them arrays."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(values)
    found_leaves, found = jax.tree.flatten(groups)
    if found != structure:
        raise ValueError(
            f"{caller}: groups must have the structure of x, {structure}, got {found}. A "
            "number stands for a whole leaf."
        )
    for (path, leaf), group in zip(leaves, found_leaves, strict=True):
        name, shape = "groups" + jax.tree_util.keystr(path), leaf.shape[len(lead) :]
        if not jnp.issubdtype(jnp.result_type(group), jnp.integer):
            raise TypeError(
                f"{caller}: {name} must be integers, got {jnp.result_type(group)}. "
                "igjax.token_groups makes them of word ids with None; they come after x "
                "and the baseline."
            )
        _check_fit(caller, name, np.shape(group), shape)
        _check_range(caller, name, group, count)
    return jax.tree.map(wide_labels, groups)


def _check_fit(caller: str, name: str, got, shape) -> None:
    same = len(got) == len(shape)
    if got and not (same and all(n in (1, m) for n, m in zip(got, shape, strict=True))):
        raise ValueError(
            f"{caller}: {name} must be a scalar or have the axes of x, {shape}, of size 1 "
            f"where all share a label, got {got}. Tokens with features take "
            "groups[:, None], channels groups[None, None]."
        )


def _check_range(caller: str, name: str, group, count: int) -> None:
    if isinstance(group, Tracer) or not np.size(group):
        return
    least, most = int(np.min(group)), int(np.max(group))
    if least < 0 or most >= count:
        raise ValueError(
            f"{caller}: {name} must be in [0, {count}), got {least} to {most}. Features of "
            "no interest are a group as well: without it the values would not add up."
        )
