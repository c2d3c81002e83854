"""LSTMs of any length: the hardest common models to attribute.

A trained LSTM is smooth on paper and nearly discontinuous in fact: on the path from a
baseline its gates can open within a thousandth of the way. Fixed rules miss that, which
is why these models are the yardstick here.

The classifier is an embedding and a ``SequenceLSTM`` on float inputs; the two are
separate modules so that the part behind the embedding, the one that attributions
differentiate, can be applied by itself.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from igjax.models._masks import valid_places

__all__ = ["LSTM", "LSTMClassifier", "SequenceLSTM"]


class LSTM(nn.Module):
    """One LSTM layer: a state for every step.

    Use it as a building block; it differs from ``nn.RNN(nn.OptimizedLSTMCell(hidden))``
    only in that its initial state follows the dtype of the inputs, so float64 works.

    Args:
        hidden: Number of units.

    Returns:
        From ``__call__(inputs)`` with ``inputs`` floating of shape ``(..., T, F)``: the
        states, of shape ``(..., T, hidden)``.

    Example:
        >>> inputs = jnp.ones((7, 3), jnp.float32)
        >>> model = LSTM(hidden=4)
        >>> jax.eval_shape(model.init_with_output, jax.random.key(0), inputs)[0].shape
        (7, 4)
    """

    hidden: int

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Run over the last axis but one; ``(..., T, F)`` to ``(..., T, hidden)``."""
        # Flax would start from zeros of the parameters' dtype, which breaks the scan
        # when inputs are wider; below float32 the parameters are the wider ones.
        wide = inputs.dtype.itemsize >= 4
        shape = (*inputs.shape[:-2], self.hidden)
        start = jnp.zeros(shape, inputs.dtype if wide else jnp.float32)
        layer = nn.RNN(nn.OptimizedLSTMCell(self.hidden))
        _, states = layer(inputs, initial_carry=(start, start), return_carry=True)
        return states


class SequenceLSTM(nn.Module):
    """LSTM, maximum over time, dense layer: a score for a sequence of float vectors.

    Use it for time series, and as the part of ``LSTMClassifier`` behind the embedding.

    Args:
        hidden: Number of LSTM units.
        outputs: Number of outputs.

    Returns:
        From ``__call__(inputs, lengths=None)`` with ``inputs`` floating of shape
        ``(..., T, F)`` and ``lengths`` integers of shape ``(...)``: logits of shape
        ``(..., outputs)``. Steps from ``lengths`` on are padding: they change nothing
        and their gradient is exactly zero. A length of 0 gives non-finite logits.

    Raises:
        ValueError: If T is 0, or ``lengths`` does not fit.

    Example:
        >>> model = SequenceLSTM(hidden=8, outputs=2)
        >>> series = jnp.ones((20, 3), jnp.float32)
        >>> params = jax.jit(model.init)(jax.random.key(0), series)
        >>> jax.jit(model.apply)(params, series).shape
        (2,)
    """

    hidden: int
    outputs: int = 1

    @nn.compact
    def __call__(
        self, inputs: jax.Array, lengths: jax.typing.ArrayLike | None = None
    ) -> jax.Array:
        """Score sequences; ``(..., T, F)`` to ``(..., outputs)``."""
        *batch, size, _ = inputs.shape
        if size == 0:
            raise ValueError(
                f"SequenceLSTM: a sequence must have at least one step, got inputs of "
                f"shape {inputs.shape}. Pad empty sequences to length 1."
            )
        valid = None
        if lengths is not None:
            valid = valid_places("SequenceLSTM", lengths, tuple(batch), size)[..., None]
        states = LSTM(self.hidden)(inputs)
        pooled = jnp.max(states, axis=-2, where=valid, initial=-jnp.inf)
        return nn.Dense(self.outputs)(pooled)


class LSTMClassifier(nn.Module):
    """Token ids to logits: embedding, LSTM, maximum over time, dense layer.

    Use it to classify texts. Attribute at the embedding: the submodule ``head`` is a
    ``SequenceLSTM``, its parameters are ``params["params"]["head"]``.

    Args:
        vocabulary_size: Number of token ids.
        embedding: Size of the vector of a token.
        hidden: Number of LSTM units.
        outputs: Number of outputs.

    Returns:
        From ``__call__(tokens, lengths=None)`` with ``tokens`` int32 of shape
        ``(..., T)`` and ``lengths`` integers of shape ``(...)``: logits of shape
        ``(..., outputs)``. Places from ``lengths`` on are padding and change nothing.

    Raises:
        ValueError: If T is 0, or ``lengths`` does not fit.

    Example:
        >>> model = LSTMClassifier(vocabulary_size=10, embedding=4, hidden=8)
        >>> tokens = jnp.array([[2, 3, 4], [5, 0, 0]], jnp.int32)
        >>> params = jax.jit(model.init)(jax.random.key(0), tokens)
        >>> jax.jit(model.apply)(params, tokens, jnp.array([3, 1])).shape
        (2, 1)
    """

    vocabulary_size: int
    embedding: int = 48
    hidden: int = 64
    outputs: int = 1

    def setup(self) -> None:
        """Name the two parts, so that each can be applied by itself."""
        self.embed = nn.Embed(self.vocabulary_size, self.embedding)
        self.head = SequenceLSTM(self.hidden, self.outputs)

    def __call__(
        self, tokens: jax.Array, lengths: jax.typing.ArrayLike | None = None
    ) -> jax.Array:
        """Classify; int32 ``(..., T)`` to ``(..., outputs)``."""
        return self.head(self.embed(tokens), lengths)
