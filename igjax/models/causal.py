"""A small causal transformer, as language models are built today.

Rotary positions, RMSNorm, a gated feed-forward part, tied embeddings, no biases. It is the
one model here in NNX, since that is what people write now.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

__all__ = ["CausalTransformer"]


def _rotated(x: jax.Array) -> jax.Array:
    """Turn the pairs of numbers of each head by the place; ``(..., T, heads, size)``."""
    places, size = x.shape[-3], x.shape[-1] // 2
    pace = 10_000.0 ** (-jnp.arange(size, dtype=jnp.float32) / size)
    angle = jnp.outer(jnp.arange(places, dtype=jnp.float32), pace)
    angle = angle.reshape(*[1] * (x.ndim - 3), places, 1, size)
    cos, sin = (a.astype(x.dtype) for a in (jnp.cos(angle), jnp.sin(angle)))
    one, other = x[..., :size], x[..., size:]
    return jnp.concatenate([one * cos - other * sin, other * cos + one * sin], axis=-1)


class _Block(nnx.Module):
    """Attention to what came before, and a gated part, each added to its input."""

    def __init__(self, width: int, heads: int, kind: dict[str, Any]) -> None:
        self.heads = heads
        linear = functools.partial(nnx.Linear, use_bias=False, **kind)
        self.before = nnx.RMSNorm(width, **kind)
        self.qkv = linear(width, 3 * width)
        self.out = linear(width, width)
        self.between = nnx.RMSNorm(width, **kind)
        inner = 8 * width // 3
        self.gate = linear(width, 2 * inner)
        self.down = linear(inner, width)

    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (*x.shape[:-1], 3, self.heads, -1)
        query, key, value = jnp.moveaxis(self.qkv(self.before(x)).reshape(shape), -3, 0)
        size = x.shape[-2]
        before = jnp.tri(size, dtype=bool).reshape(*[1] * (x.ndim - 1), size, size)
        seen = nnx.dot_product_attention(_rotated(query), _rotated(key), value, mask=before)
        x = x + self.out(seen.reshape(x.shape))
        gate, inner = jnp.split(self.gate(self.between(x)), 2, axis=-1)
        return x + self.down(nnx.silu(gate) * inner)


class CausalTransformer(nnx.Module):
    """Token ids to logits of the next token, at every place.

    Use it for attributions of language models: ``igjax.language``.

    Args:
        vocabulary: Number of token ids.
        width: Size of the vector of a token; a multiple of twice ``heads``.
        heads: Number of attention heads.
        layers: Number of blocks.
        dtype: Of the parameters and of what is computed, such as bfloat16.
        rngs: Keys of NNX.

    Returns:
        From ``__call__(tokens)`` with ``tokens`` int32 of shape ``(..., T)``: logits of
        shape ``(..., T, vocabulary)``; those at a place depend on no later token.

    Raises:
        ValueError: If ``width`` is no multiple of twice ``heads``.

    Example:
        >>> model = CausalTransformer(9, width=8, heads=2, layers=1, rngs=nnx.Rngs(0))
        >>> model(jnp.array([1, 2, 3])).shape
        (3, 9)
    """

    def __init__(
        self,
        vocabulary: int,
        *,
        width: int = 96,
        heads: int = 4,
        layers: int = 3,
        dtype: jax.typing.DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        if width % (2 * heads):
            raise ValueError(
                f"CausalTransformer: width must be a multiple of twice heads, 2 * {heads}, "
                f"got {width}."
            )
        kind = {"dtype": dtype, "param_dtype": dtype, "rngs": rngs}
        self.embed = nnx.Embed(vocabulary, width, **kind)
        blocks = [_Block(width, heads, kind) for _ in range(layers)]
        self.blocks = nnx.List(blocks) if hasattr(nnx, "List") else blocks
        self.norm = nnx.RMSNorm(width, **kind)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Predict; int32 ``(..., T)`` to ``(..., T, vocabulary)``."""
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return self.embed.attend(self.norm(x))
