"""Which places of a padded sequence are real.

Models with a ``lengths`` argument promise that padding changes nothing: not the output,
and not one bit of any gradient. Masking by position keeps that promise where a learned
padding embedding would not.
"""

import jax
import jax.numpy as jnp

__all__ = ["valid_places"]


def valid_places(
    caller: str, lengths: jax.typing.ArrayLike, batch: tuple[int, ...], size: int
) -> jax.Array:
    """Mark the first ``lengths`` of ``size`` places.

    Use it in a model that takes padded batches, before pooling or attention.

    Args:
        caller: Name of the public function, for the error message.
        lengths: Integers of shape ``batch``.
        batch: The leading axes of the inputs.
        size: Number of places, padding included.

    Returns:
        Booleans of shape ``(*batch, size)``.

    Raises:
        ValueError: If ``lengths`` has another shape than ``batch``.

    Example:
        >>> print(valid_places("model", jnp.array([1, 3]), (2,), 3))
        [[ True False False]
         [ True  True  True]]
    """
    lengths = jnp.asarray(lengths).astype(jnp.int32)
    if lengths.shape != batch:
        raise ValueError(
            f"{caller}: lengths must have the batch axes {batch} of the inputs, got "
            f"{lengths.shape}. Pass one length for each sequence."
        )
    # Not arange: it would need rank promotion against the batch axes.
    places = jax.lax.broadcasted_iota(jnp.int32, (*batch, size), len(batch))
    return places < lengths[..., None]
