"""A small convolutional network for images.

ReLU and max pooling make its score piecewise linear: the gradient jumps along a path,
at places that depend on the image. Fixed rules converge slowly on it, for that reason.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

__all__ = ["CNN"]


class CNN(nn.Module):
    """Two convolutions, max pooling, two dense layers.

    Use it for small images of one size, such as 8x8x1 digits or 32x32x3 photos.

    Args:
        outputs: Number of outputs.
        channels: Channels of the two convolutions.
        hidden: Units of the dense layer.

    Returns:
        From ``__call__(images)`` with ``images`` floating of shape ``(..., H, W, C)``,
        H and W at least 2: logits of shape ``(..., outputs)``.

    Example:
        >>> model = CNN(outputs=3, channels=(2, 2))
        >>> image = jnp.ones((8, 8, 1), jnp.float32)
        >>> jax.eval_shape(model.init_with_output, jax.random.key(0), image)[0].shape
        (3,)
    """

    outputs: int = 10
    channels: Sequence[int] = (16, 32)
    hidden: int = 64

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Classify; ``(..., H, W, C)`` to ``(..., outputs)``."""
        x = images
        for channels in self.channels:
            x = nn.relu(nn.Conv(channels, (3, 3))(x))
        x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = jnp.reshape(x, (*images.shape[:-3], -1))
        return nn.Dense(self.outputs)(nn.relu(nn.Dense(self.hidden)(x)))
