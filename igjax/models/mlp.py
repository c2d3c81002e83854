"""The zoo of multilayer perceptrons.

One class with an activation and a switch for LayerNorm covers what attributions meet in
dense networks: kinks (relu), saturation (tanh), smooth curves (gelu, softplus), and a
normalization that is singular where its input is constant, as at a baseline of zeros.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax

__all__ = ["MLP"]


class MLP(nn.Module):
    """Dense layers with an activation between them.

    Use it for tables and as a small test model.

    Args:
        features: Width of every layer; the last is the number of outputs.
        activation: After every layer but the last: ``nn.relu``, ``nn.tanh``,
            ``nn.gelu``, ``nn.softplus``, or any other function of arrays.
        layer_norm: Normalize before every activation.

    Returns:
        From ``__call__(x)`` with ``x`` floating of shape ``(..., d)``: an array of
        shape ``(..., features[-1])``.

    Example:
        >>> model = MLP((8, 3), nn.tanh, layer_norm=True)
        >>> x = jax.numpy.ones((5,), "float32")
        >>> model.init_with_output(jax.random.key(0), x)[0].shape
        (3,)
    """

    features: Sequence[int]
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    layer_norm: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Apply; ``(..., d)`` to ``(..., features[-1])``."""
        for width in self.features[:-1]:
            x = nn.Dense(width)(x)
            if self.layer_norm:
                x = nn.LayerNorm()(x)
            x = self.activation(x)
        return nn.Dense(self.features[-1])(x)
