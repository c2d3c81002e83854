"""A small transformer encoder.

Pre-LayerNorm, since that is what trains without tricks. As with the LSTM, the
classifier is an embedding and a module on float vectors that can be applied by itself.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from igjax.models._masks import valid_places

__all__ = ["SequenceTransformer", "TransformerClassifier"]


class _Block(nn.Module):
    """Attention and a gelu MLP, each behind a LayerNorm and added to its input."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array, attend: jax.Array | None) -> jax.Array:
        width = x.shape[-1]
        attention = nn.MultiHeadDotProductAttention(self.heads)
        x = x + attention(nn.LayerNorm()(x), mask=attend)
        inner = nn.gelu(nn.Dense(4 * width)(nn.LayerNorm()(x)))
        return x + nn.Dense(width)(inner)


class SequenceTransformer(nn.Module):
    """Positions, transformer blocks, mean over places, dense layer: float vectors in.

    Use it as the part of ``TransformerClassifier`` behind the embedding.

    Args:
        heads: Number of attention heads; divides the width of the inputs.
        layers: Number of blocks.
        max_length: Number of learned positions.
        outputs: Number of outputs.

    Returns:
        From ``__call__(inputs, lengths=None)`` with ``inputs`` floating of shape
        ``(..., T, width)`` and ``lengths`` integers of shape ``(...)``: logits of shape
        ``(..., outputs)``. Places from ``lengths`` on are padding: they change nothing
        and their gradient is exactly zero. A length of 0 gives non-finite logits.

    Raises:
        ValueError: If T is not between 1 and ``max_length``, or ``lengths`` does not
            fit.

    Example:
        >>> model = SequenceTransformer(heads=2, layers=1, max_length=8)
        >>> inputs = jnp.ones((5, 4), jnp.float32)
        >>> jax.eval_shape(model.init_with_output, jax.random.key(0), inputs)[0].shape
        (1,)
    """

    heads: int = 4
    layers: int = 2
    max_length: int = 128
    outputs: int = 1

    @nn.compact
    def __call__(
        self, inputs: jax.Array, lengths: jax.typing.ArrayLike | None = None
    ) -> jax.Array:
        """Score sequences; ``(..., T, width)`` to ``(..., outputs)``."""
        *batch, size, width = inputs.shape
        if not 1 <= size <= self.max_length:
            raise ValueError(
                f"SequenceTransformer: the length must be between 1 and max_length "
                f"{self.max_length}, got {size}. Build the model with a larger "
                "max_length, or shorten the sequence."
            )
        lengths = jnp.full(batch, size) if lengths is None else lengths
        valid = valid_places("SequenceTransformer", lengths, tuple(batch), size)
        shape = (self.max_length, width)
        # float32, as all parameters of Flax: JAX would make it float64 under x64.
        start = nn.initializers.normal(0.02)
        positions = self.param("positions", start, shape, jnp.float32)
        x = inputs + jnp.broadcast_to(positions[:size], inputs.shape)
        for _ in range(self.layers):
            x = _Block(self.heads)(x, valid[..., None, None, :])
        pooled = jnp.mean(nn.LayerNorm()(x), axis=-2, where=valid[..., None])
        return nn.Dense(self.outputs)(pooled)


class TransformerClassifier(nn.Module):
    """Token ids to logits: embedding, positions, transformer blocks, mean, dense layer.

    Use it to classify texts. Attribute at the embedding: the submodule ``head`` is a
    ``SequenceTransformer``, its parameters are ``params["params"]["head"]``.

    Args:
        vocabulary_size: Number of token ids.
        width: Size of the vector of a token; a multiple of ``heads``.
        heads: Number of attention heads.
        layers: Number of blocks.
        max_length: The longest sequence.
        outputs: Number of outputs.

    Returns:
        From ``__call__(tokens, lengths=None)`` with ``tokens`` int32 of shape
        ``(..., T)`` and ``lengths`` integers of shape ``(...)``: logits of shape
        ``(..., outputs)``. Places from ``lengths`` on are padding and change nothing.

    Raises:
        ValueError: If T is not between 1 and ``max_length``, or ``lengths`` does not
            fit.

    Example:
        >>> model = TransformerClassifier(10, width=4, heads=2, layers=1)
        >>> tokens = jnp.array([[2, 3, 4], [5, 0, 0]], jnp.int32)
        >>> params = jax.jit(model.init)(jax.random.key(0), tokens)
        >>> jax.jit(model.apply)(params, tokens, jnp.array([3, 1])).shape
        (2, 1)
    """

    vocabulary_size: int
    width: int = 32
    heads: int = 4
    layers: int = 2
    max_length: int = 128
    outputs: int = 1

    def setup(self) -> None:
        """Name the two parts, so that each can be applied by itself."""
        self.embed = nn.Embed(self.vocabulary_size, self.width)
        self.head = SequenceTransformer(
            self.heads, self.layers, self.max_length, self.outputs
        )

    def __call__(
        self, tokens: jax.Array, lengths: jax.typing.ArrayLike | None = None
    ) -> jax.Array:
        """Classify; int32 ``(..., T)`` to ``(..., outputs)``."""
        return self.head(self.embed(tokens), lengths)
