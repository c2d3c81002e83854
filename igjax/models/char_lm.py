"""A character language model: an output at every step.

Attributions of such a model have an axis for the step that is explained beside the axes
of the input, and all of one side must be zero: a later character explains no earlier
prediction.
"""

import flax.linen as nn
import jax

from igjax.models.lstm import LSTM

__all__ = ["CharLM"]


class CharLM(nn.Module):
    """Predict the next character at every place.

    Use it where a model has many outputs in order: Jacobians, one row for each step.

    Args:
        vocabulary: Number of characters.
        embedding: Size of the vector of a character.
        hidden: Number of LSTM units.

    Returns:
        From ``__call__(tokens)`` with ``tokens`` int32 of shape ``(..., T)``: logits of
        shape ``(..., T, vocabulary)``; those at a place depend on no later token.

    Example:
        >>> model = CharLM(vocabulary=5, embedding=3, hidden=4)
        >>> tokens = jax.numpy.array([1, 2, 3], "int32")
        >>> jax.eval_shape(model.init_with_output, jax.random.key(0), tokens)[0].shape
        (3, 5)
    """

    vocabulary: int
    embedding: int = 16
    hidden: int = 64

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Predict; int32 ``(..., T)`` to ``(..., T, vocabulary)``."""
        embedded = nn.Embed(self.vocabulary, self.embedding)(tokens)
        return nn.Dense(self.vocabulary)(LSTM(self.hidden)(embedded))
