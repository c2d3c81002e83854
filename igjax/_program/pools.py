"""Pools and their gradients, without XLA's scalar loops over windows.

The gradient of a maximum over windows goes to the first of the largest numbers, as JAX
has it: the numbers of a window are compared in order, and one is kept while it is not
less than the next. So ties and NaNs end up where JAX's own primitive puts them.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax

from igjax._program import jax_internals as internals, windows


def summed(eqn, inputs):
    """The sum over a window at every place; None for all else.

    In strides XLA's own loop is the faster one.
    """
    window = internals.summed_window(eqn)
    if window is None or not windows.unrolls(window) or max(window.strides) > 1:
        return None
    (operand,) = inputs
    wide = windows.padded(windows.widened(operand), window, 0)
    shifted = (windows.shifted(wide, tap, window) for tap in windows.taps(window))
    return [windows.total(shifted).astype(operand.dtype)]


def routed(eqn, inputs):
    """The gradient of the maximum over a window, put where that was; None for all else.

    Where a window is at every place XLA's own loop is the faster one.
    """
    window = internals.routed_window(eqn)
    if window is None or not windows.unrolls(window) or max(window.strides) == 1:
        return None
    source, operand = inputs
    wide = windows.padded(operand, window, -np.inf)
    chosen = _chosen(wide, window)
    source = windows.widened(source)
    sent = lambda i: jnp.where(chosen == i, source, jnp.zeros_like(source))
    parts = (
        windows.spread(sent(i), tap, wide.shape, window)
        for i, tap in enumerate(windows.taps(window))
    )
    low = [a for a, _ in window.padding]
    ends = [a + n for a, n in zip(low, operand.shape, strict=True)]
    return [lax.slice(windows.total(parts), low, ends).astype(operand.dtype)]


def _chosen(operand, window):
    """The number of the tap that a window chooses, at all its places."""
    first, *others = windows.taps(window)
    best = windows.shifted(operand, first, window)
    chosen = jnp.zeros_like(best, np.int32)
    for i, tap in enumerate(others, 1):
        new = windows.shifted(operand, tap, window)
        kept = best >= new
        best, chosen = jnp.where(kept, best, new), jnp.where(kept, chosen, i)
    return chosen
