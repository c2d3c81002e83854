"""Convolutions as XLA's CPU compiler is fast with them inside a loop.

The gradient of a convolution is a convolution with its kernel transposed. XLA for CPU
turns such layouts into the one it has a fast kernel for only in the entry computation of
a program, not in the body of a loop, where it falls back to a scalar loop, several times
slower. The integral is a loop; so its convolutions get explicit transposes around them.

One of a single place is a product of matrices, for which there are faster kernels.

It has no fast kernel for groups of features. A group each is a convolution each; and
where a group has one feature (a depthwise convolution) the sum of the operand's shifted
copies, each times its number of the kernel, is what is left of it.
"""

import math

import jax.numpy as jnp
from jax import lax

from igjax._program import jax_internals as internals, windows

MOST_GROUPS = 64  # a convolution each
MOST_ZEROS = 16  # for each number: the scalar loop is so many times slower


def rewritten(eqn, inputs):
    """A convolution in the canonical layout, its groups taken apart; None for all else."""
    found = internals.convolution(eqn)
    if found is None:
        return None
    operand, kernel = _canonical(found.numbers, *inputs)
    output = _in_groups(eqn, found, operand, kernel)
    order = _features_last(found.numbers.out_spec)
    output = output.transpose(sorted(range(len(order)), key=order.__getitem__))
    return [output.astype(eqn.outvars[0].aval.dtype)]


def _features_last(spec) -> tuple:
    return (spec[0], *spec[2:], spec[1])


def _canonical(numbers, operand, kernel):
    """Both as (batch, space, features) and (space, in, out)."""
    out_feature, in_feature, *space = numbers.rhs_spec
    operand = operand.transpose(_features_last(numbers.lhs_spec))
    return operand, kernel.transpose(*space, in_feature, out_feature)


def _in_groups(eqn, found, operand, kernel):
    window, groups = found.window, found.groups
    if found.batch_groups > 1:
        return _convolved(eqn, window, operand, kernel)
    if groups == 1:
        return _alone(eqn, window, operand, kernel)
    if kernel.shape[-2] == 1 and windows.unrolls(window):
        return _depthwise(operand, kernel, window)
    if groups > MOST_GROUPS:
        return _convolved(eqn, window, operand, kernel)
    parts = (jnp.split(a, groups, -1) for a in (operand, kernel))
    each = [_alone(eqn, window, *part) for part in zip(*parts, strict=True)]
    return jnp.concatenate(each, -1)


def _alone(eqn, window, operand, kernel):
    """A convolution without groups; one of a single place is a product of features."""
    if math.prod(window.size) > 1:
        return _convolved(eqn, window, operand, kernel, feature_group_count=1)
    matrix, start = kernel.reshape(kernel.shape[-2:]), (0,) * operand.ndim
    seen = lambda a: windows.shifted(windows.padded(a, window, 0), start, window)
    if math.prod(window.base_dilation) > 1:  # of zeros the product is zero
        return seen(internals.multiplied(eqn, operand, matrix))
    return internals.multiplied(eqn, seen(operand), matrix)


def _convolved(eqn, window, operand, kernel, **changes):
    """A convolution in the canonical layout.

    The fast kernel is not for operands that are smaller than the window, unpadded; and it
    multiplies with the zeros that dilate an operand, as the scalar loop does not.
    """
    axes = operand.ndim
    space = range(1, axes - 1)
    small = any(n > m for n, m in zip(window.size, operand.shape, strict=True))
    if small and math.prod(window.base_dilation) <= MOST_ZEROS:
        # The compiler would take the padding back.
        operand = lax.optimization_barrier(windows.padded(operand, window, 0))
        changes |= {"padding": ((0, 0),) * len(space), "lhs_dilation": (1,) * len(space)}
    numbers = lax.ConvDimensionNumbers(
        lhs_spec=(0, axes - 1, *space),
        rhs_spec=(axes - 1, axes - 2, *(k - 1 for k in space)),
        out_spec=(0, axes - 1, *space),
    )
    return internals.convolved(eqn, [operand, kernel], numbers, **changes)


def _depthwise(operand, kernel, window):
    """The sum of shifted copies of the operand, each times its numbers of the kernel."""
    wide = windows.padded(windows.widened(operand), window, 0)
    wide = jnp.repeat(wide, kernel.shape[-1] // operand.shape[-1], -1)
    rows = kernel.reshape(-1, *[1] * (operand.ndim - 1), kernel.shape[-1])
    taps = zip(windows.taps(window), rows, strict=True)
    return windows.total(windows.shifted(wide, tap, window) * row for tap, row in taps)
