r"""Attributions of tokens: ids in, a number and an error for each token out.

A token is the group of the numbers that embed it. All of them move together from the
embedding of the baseline to that of the text,

$$g(s)_i = e'_i + s_i (e_i - e'_i),$$

and the attribution of f(g(s)) from s = 0 to s = 1 is that of the tokens, with their own
errors and their own tolerance (as `igjax.grouped` does with any groups). Both embeddings
are computed inside of the one compiled program: ids are all that a caller handles.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from igjax import _checks
from igjax._tree import cast_like, wide_labels, widen
from igjax.bridges import named_after
from igjax.embeddings import from_embedding
from igjax.methods.groups import moved
from igjax.methods.integrated import integrated_jacobian

__all__ = ["token_attributions"]


def token_attributions(
    f, *, name: Any = None, method: Callable = integrated_jacobian, **options: Any
) -> Callable:
    r"""Attributions of a model of token ids to its tokens.

    $$a_i = \int_0^1 \sum_k (e_{ik} - e'_{ik})
      \frac{\partial f}{\partial e_{ik}}\bigl(e' + t (e - e')\bigr)\,dt$$

    for Integrated Gradients, with e the embeddings of the tokens, e' those of the baseline.
    Use it for classifiers of texts and for language models (`igjax.language`), of any
    framework and unmodified. Words and spans are sums of tokens: `igjax.aggregate` with
    `igjax.word_groups`.

    Memory is bounded by `chunk_size` as ever, and many outputs are taken in blocks; what
    one forward and backward pass of a long text keeps is up to the model: put its blocks
    into `jax.checkpoint`, and ask `igjax.cost` before.

    Args:
        f: `f(tokens, *args) -> scalar`, or an array, for one text.
        name: which table, as in `igjax.from_embedding`.
        method: `method(f, **options) -> attribute(x, baseline, *args)`, of the tokens'
            scales. The default takes scalars and arrays; outputs of an array share the
            forward pass of each node.
        **options: of the method: `rule`, `chunk_size`.

    Returns:
        `attribute(tokens, baseline, *args) -> Attribution`, whose values have the shape of
        the tokens, after the axes of the output. The baseline is ids, one for all places
        (padding, a mask, an unknown word: an integer) or one for each; or it is floating:
        the embedding itself, 0.0 for zeros, a row for all places (the mean of the table),
        or one for each. Everything else that f reads, masks and positions, stays that of
        the tokens.

    Raises:
        TypeError: if f is no function, or the tokens are no integers.
        ValueError: if the baseline does not fit; and as `igjax.from_embedding`.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> from flax import nnx
        >>> rngs = nnx.Rngs(0)
        >>> model = nnx.Sequential(nnx.Embed(9, 4, rngs=rngs), nnx.Linear(4, 9, rngs=rngs))
        >>> g = lambda tokens, model: jnp.cumsum(model(tokens), 0)
        >>> f = igjax.language.each_token(g)
        >>> attribute = igjax.token_attributions(f)
        >>> tokens, places = jnp.array([3, 1, 4, 1, 5]), jnp.array([3, 4])
        >>> table = attribute(tokens, 0, places, model)  # from a text of token 0
        >>> table.values.shape, bool(table.converged.all())
        ((2, 5), True)
        >>> table.values[0, 3:].tolist()  # nothing explains what stands before it
        [0.0, 0.0]

    References:
        Sundararajan, Taly, Yan, "Axiomatic Attribution for Deep Networks", ICML 2017.
    """
    _checks.function("token_attributions", "f", f)
    _checks.function("token_attributions", "method", method)
    embed, at = from_embedding(f, name)

    def scaled(scales, tokens, baseline, /, *args):
        x = embed(tokens, *args)
        start = _start(baseline, tokens, x, lambda ids: embed(ids, *args))

        def leaf(a, b):
            scale = scales.reshape(scales.shape + (1,) * (a.ndim - scales.ndim))
            return moved(scale.astype(a.dtype), a, b, a - b)

        point = jax.tree.map(leaf, widen(x), widen(start))
        return at(cast_like(point, x), tokens, *args)

    if validate := getattr(f, "validate", None):
        scaled.validate = lambda _, tokens, __, *args: validate(tokens, *args)  # pyright: ignore[reportFunctionMemberAccess]
    explain = method(named_after(scaled, f), **options)

    def attribute(tokens, baseline, /, *args):
        tokens = _ids(tokens)
        ones = jnp.ones(tokens.shape)
        return explain(ones, jnp.zeros_like(ones), tokens, baseline, *args)

    return attribute


def _ids(tokens):
    kind = _checks.kind(tokens)
    if not jnp.issubdtype(kind, jnp.integer) or not np.size(tokens):
        raise TypeError(
            "token_attributions: tokens must be integers, an array of token ids, got "
            f"{kind}{list(np.shape(tokens))}. Embeddings and other floating inputs go to "
            "igjax.integrated_gradients."
        )
    return wide_labels(tokens)


def _start(baseline, tokens, x, embed):
    """The embedding of the baseline, which is ids, or an embedding already."""
    kinds = {jnp.result_type(leaf) for leaf in jax.tree.leaves(baseline)}
    if kinds and all(jnp.issubdtype(kind, jnp.integer) for kind in kinds):
        return embed(_fitted(baseline, tokens.shape, "tokens"))
    if len(jax.tree.leaves(baseline)) == 1:
        (baseline,) = jax.tree.leaves(baseline)
        baseline = jax.tree.map(lambda _: baseline, x)
    fitted = lambda b, a: _fitted(b, a.shape, "their embeddings").astype(a.dtype)
    return jax.tree.map(fitted, baseline, x)


def _fitted(baseline, shape: tuple, what: str):
    try:
        return jnp.broadcast_to(jnp.asarray(baseline), shape)
    except ValueError:
        raise ValueError(
            f"token_attributions: baseline must be a number, a row or an array that fits "
            f"{what}, of shape {shape}, got {np.shape(baseline)}. Integers are tokens: one "
            "for all places, or one for each; what is floating is an embedding."
        ) from None
