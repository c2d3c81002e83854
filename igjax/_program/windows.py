"""What a window sees, as whole shifted arrays instead of a loop over its places.

XLA's CPU compiler runs a scalar loop for each number of most windowed operations. Here the
operand is padded once, and each place in the window (a tap) sees a strided slice of it;
the compiler fuses the slices of all taps into one loop over long rows. The price is a
term per tap in the program.
"""

import functools
import itertools
import math
import operator

import jax.numpy as jnp
import numpy as np
from jax import lax

from igjax._program.jax_internals import Window

MOST_TAPS = 49  # a term each: of 64 and more the gradient takes longer than a convolution


def unrolls(window: Window) -> bool:
    """Whether a window is small enough to have a term for each tap."""
    return math.prod(window.size) <= MOST_TAPS


def taps(window: Window) -> list:
    """The offsets of a window's taps into the padded operand, the last axis fastest."""
    steps = zip(window.size, window.dilation, strict=True)
    return list(itertools.product(*(range(0, n * d, d) for n, d in steps)))


def padded(operand, window: Window, fill):
    """The operand as a window meets it: dilated, and padded or cropped at its ends."""
    edges = [(*p, d - 1) for p, d in zip(window.padding, window.base_dilation, strict=True)]
    if not any(map(any, edges)):
        return operand
    return lax.pad(operand, _scalar(operand, fill), edges)


def shifted(operand, tap, window: Window):
    """What a tap sees of a padded operand, at all places of the window."""
    ends = [o + n for o, n in zip(tap, _reaches(operand.shape, window), strict=True)]
    return lax.slice(operand, tap, ends, window.strides)


def total(terms):
    """The sum of terms, one for each tap."""
    return functools.reduce(operator.add, terms)


def spread(values, tap, shape, window: Window):
    """The transpose of `shifted`: values where a tap sees them, and zeros elsewhere."""
    sides = zip(tap, shape, _reaches(shape, window), window.strides, strict=True)
    edges = [(o, total - o - n, s - 1) for o, total, n, s in sides]
    return lax.pad(values, _scalar(values, 0), edges)


def _reaches(shape, window: Window) -> list[int]:
    """How far the places of a tap go along each axis of a padded operand."""
    sides = zip(shape, window.size, window.dilation, window.strides, strict=True)
    return [(total - (n - 1) * d - 1) // s * s + 1 for total, n, d, s in sides]


def widened(a):
    """What sums are taken in: float32 or wider."""
    return a.astype(jnp.promote_types(a.dtype, np.float32))


def _scalar(like, value):
    return np.asarray(value, like.dtype)[()]
