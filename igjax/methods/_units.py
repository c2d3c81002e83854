"""Units of a layer, chosen as NumPy indexes: integers, slices, masks, traced or known.

What is known is static, an index that does not exist an error. Arrays are operands: one
program serves all units, mapped over or in turn; one that does not exist makes NaN there.
"""

import types
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from igjax import _checks
from igjax._tree import wrapped

MASK = "mask"


class Units(NamedTuple):
    """An index into a layer: its form, which is hashable, and the arrays in it."""

    form: Any
    arrays: tuple


def units(caller: str, neuron) -> Units:
    """Parts an index into what is static and what is not.

    Raises:
        TypeError: if it is no index.
    """
    if _is_mask(neuron):
        return Units(MASK, (neuron,))
    if hasattr(neuron, "dtype") and np.ndim(neuron) == 1:
        neuron = tuple(neuron)
    index = neuron if isinstance(neuron, tuple) else (neuron,)
    arrays = tuple(i for i in index if _is_array(i))
    form = tuple(None if _is_array(i) else _known(caller, i, neuron) for i in index)
    if form.count(...) > 1:
        raise _no_index(caller, neuron)
    return Units(form, arrays)


def _is_mask(neuron) -> bool:
    kind = getattr(neuron, "dtype", None)
    return kind is not None and jnp.issubdtype(kind, bool) and np.ndim(neuron) > 0


def _is_array(index) -> bool:
    kind = getattr(index, "dtype", None)
    whole = kind is not None and jnp.issubdtype(kind, jnp.integer)
    return whole and np.ndim(index) == 0 and not isinstance(index, np.generic)


def _known(caller: str, index, neuron):
    if isinstance(index, types.EllipsisType):
        return index
    if _checks.is_whole(index):
        return int(index)
    parts = (index.start, index.stop, index.step) if isinstance(index, slice) else (index,)
    if isinstance(index, slice) and all(p is None or _checks.is_whole(p) for p in parts):
        return "slice", *parts  # slices are not hashable before Python 3.12
    raise _no_index(caller, neuron)


def _no_index(caller: str, neuron) -> TypeError:
    return TypeError(
        f"{caller}: neuron must be an index of the layer as in NumPy, an integer, a slice "
        f"or a tuple of them, or a mask of booleans, got {neuron!r}."
    )


def marked(caller: str, y, form, arrays):
    """True at the units of a layer, and whether those that are traced exist.

    Raises:
        ValueError: if the layer is more than one array.
        IndexError: if there are no such units.
    """
    if isinstance(y, tuple):
        raise ValueError(f"{caller}: the layer must be one array, got a tuple of {len(y)}.")
    if form == MASK:
        return _of_mask(caller, y, *arrays), True
    rest = y.ndim - len(form) + form.count(...)
    if rest < 0:
        raise _no_unit(caller, y, form)
    fill = ("slice", None, None, None)
    form = form if ... in form else (*form, ...)
    place = form.index(...)
    form = (*form[:place], *[fill] * rest, *form[place + 1 :])
    mark, inside, given = jnp.ones((1,) * y.ndim, bool), True, iter(arrays)
    for axis, (index, size) in enumerate(zip(form, y.shape, strict=True)):
        if index is None:
            at, exists = wrapped(next(given), size)
            one, inside = jnp.arange(size, dtype=at.dtype) == at, inside & exists
        elif not (one := _of_known(index, size)).any():
            raise _no_unit(caller, y, form)
        mark = mark & one.reshape([-1 if k == axis else 1 for k in range(y.ndim)])
    return jnp.broadcast_to(mark, y.shape), inside


def _of_mask(caller: str, y, mask):
    if mask.shape != y.shape[: mask.ndim]:
        raise IndexError(
            f"{caller}: a mask must have the first axes of the layer, of shape {y.shape}, "
            f"got {mask.shape}."
        )
    more = (1,) * (y.ndim - mask.ndim)
    return jnp.broadcast_to(jnp.reshape(mask, (*mask.shape, *more)), y.shape)


def _of_known(index, size: int) -> np.ndarray:
    """Those of so many units that a known index takes."""
    one = np.zeros(size, bool)
    if isinstance(index, tuple):
        one[slice(*index[1:])] = True
    elif -size <= index < size:
        one[index] = True
    return one


def _no_unit(caller: str, y, form) -> IndexError:
    shown = [
        "traced" if i is None else slice(*i[1:]) if isinstance(i, tuple) else i
        for i in form
    ]
    return IndexError(
        f"{caller}: the neuron must be an index of the layer, of shape {y.shape}, got "
        f"{shown[0] if len(shown) == 1 else tuple(shown)}."
    )
