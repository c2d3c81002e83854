"""Sums over axes, without the axes of one element that a batch of one brings along.

A model of batches is asked for one example as `model(x[None])[0]`. Next to such an axis
XLA's CPU compiler sums number by number; without it, in vectors.
"""

from jax import lax

from igjax._program import jax_internals as internals


def concerns(eqn) -> bool:
    """Whether an equation sums an operand that has such an axis before its last one."""
    if internals.summed_axes(eqn) is None:
        return False
    *others, last = eqn.invars[0].aval.shape
    return 1 in others and last != 1


def squeezed(eqn, inputs):
    """The same sum of an operand without such axes; None for all else."""
    if not concerns(eqn):
        return None
    (operand,), summed = inputs, internals.summed_axes(eqn) or ()
    idle = [i for i, n in enumerate(operand.shape) if n == 1]
    kept = [i for i in range(operand.ndim) if i not in idle]
    axes = tuple(kept.index(i) for i in summed if i in kept)
    (total,) = internals.bind(eqn, [lax.squeeze(operand, idle)], axes=axes)
    return [total.reshape(eqn.outvars[0].aval.shape)]
