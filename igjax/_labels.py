"""Outputs chosen by labels: a class, a position and a class, a key of a dict.

A label is a path into what a model returns: an index for each axis of an array, after the
keys and places of the dicts and tuples that hold it. Indices may be traced, count from the
end where they are negative, and are never clamped: one that leads nowhere is an error
where it is known, and NaN where it is not.
"""

import functools
import operator
import weakref
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from igjax import _checks
from igjax._program.jax_internals import is_explicit, spread_like
from igjax._tree import wrapped

# What functions have returned, by what they were called with. The walk that looks for
# changes (`_program/closures.py`) would take it for one if the functions held it.
_SHAPES: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def chosen(caller: str, f, outputs, labels, given) -> list:
    """The outputs of a function of `given` that labels choose, each a scalar.

    Raises:
        TypeError: if an index is no integer.
        ValueError: if a label does not fit the outputs, or is out of range.
    """
    outputs = jax.tree.map(lambda a: jnp.asarray(a) if _checks.is_array(a) else a, outputs)
    shapes = jax.tree.map(_shape, outputs)
    _SHAPES.setdefault(f, {})[_kinds(given)] = shapes
    paths = [_path(caller, label) for label in labels]
    for path in paths:
        _check(caller, shapes, path)
    return [_taken(caller, outputs, path) for path in paths]


def check(caller: str, f, labels, given) -> None:
    """Checks labels that are known against what f has returned for the like of `given`.

    Raises:
        ValueError: as `chosen`.
    """
    shapes = _SHAPES.get(f, {}).get(_kinds(given))
    for label in () if shapes is None else labels:
        _check(caller, shapes, _path(caller, label))


def _shape(a):
    return jax.ShapeDtypeStruct(a.shape, a.dtype) if hasattr(a, "dtype") else a


def _kinds(given):
    leaves, structure = jax.tree.flatten(given)
    return structure, tuple(getattr(leaf, "shape", ()) for leaf in leaves)


def _path(caller: str, label) -> tuple:
    """The keys and indices of a label."""
    if hasattr(label, "dtype") and np.ndim(label) == 1:
        label = tuple(label if isinstance(label, Tracer) else np.asarray(label))
    path = tuple(label) if isinstance(label, tuple | list) else (label,)
    for index in path:
        if not isinstance(index, str):
            _check_index(caller, index)
    return path


def _check_index(caller: str, index) -> None:
    kind = _checks.kind(index)
    if not jnp.issubdtype(kind, jnp.integer) or np.ndim(index):
        got = f"{kind}{list(index.shape)}" if hasattr(index, "shape") else repr(index)
        raise TypeError(
            f"{caller}: the label must be an integer, or a tuple with one for each axis of "
            f"the outputs, got {got}. One example has one label, f(x, label, *args); a "
            "batch of labels goes through jax.vmap(attribute)."
        )


def _check(caller: str, shapes, path: tuple) -> None:
    """Checks all that is known of a path into outputs of these shapes."""
    if isinstance(shapes, jax.ShapeDtypeStruct):
        _check_axes(caller, shapes.shape, path)
    elif _is_open(shapes, path):
        if not _fitting(caller, shapes, path):
            raise ValueError(
                f"{caller}: the label must lead to one number in one of the "
                f"{len(shapes)} outputs of g, got {_shown(path)}; the outputs are "
                f"{_listed(shapes)}."
            )
    else:
        _check(caller, _entered(caller, shapes, path), path[1:])


def _check_axes(caller: str, shape: tuple, path: tuple) -> None:
    if len(path) != len(shape) or any(isinstance(index, str) for index in path):
        raise ValueError(
            f"{caller}: the label must have one index for each axis of the outputs of g, "
            f"of shape {shape}, got {_shown(path)}. {_advice(caller, shape, path)}"
        )
    for axis, (index, size) in enumerate(zip(path, shape, strict=True)):
        if not isinstance(index, Tracer) and not -size <= int(index) < size:
            which = f"index {axis} of the label" if len(path) > 1 else "the label"
            raise ValueError(
                f"{caller}: {which} must be in [{-size}, {size}), got {index}. g returns "
                f"outputs of shape {shape}; negative ones count from the end."
            )


def _advice(caller: str, shape: tuple, path: tuple) -> str:
    if not shape:
        return "g returns a scalar: explain it as it is."
    if len(path) > len(shape):
        return "A batch of labels goes through jax.vmap(attribute)."
    if shape[0] == 1 and len(shape) == len(path) + 1:
        return f"Take a batch axis off first: igjax.{caller}(igjax.single(g))."
    return (
        "Of outputs by position and class it is (position, class), of images (row, "
        "column, class); for all places together, let g return their mean."
    )


def _entered(caller: str, outputs, path: tuple):
    """What a key, or a place that is known, leads to."""
    first = path[0] if path else None
    names = _names(outputs)
    if isinstance(first, str) and first in names:
        return outputs[first] if isinstance(outputs, Mapping) else getattr(outputs, first)
    if isinstance(outputs, tuple | list) and first is not None:
        if not isinstance(first, str) and -len(outputs) <= int(first) < len(outputs):
            return outputs[int(first)]
        names = [*range(len(outputs)), *names]
    raise ValueError(
        f"{caller}: the label must begin with the key of an output, as in (key, 3), got "
        f"{_shown(path)}; g returns a {type(outputs).__name__} with {names}."
    )


def _names(outputs) -> list:
    return list(
        outputs if isinstance(outputs, Mapping) else getattr(outputs, "_fields", ())
    )


def _is_open(outputs, path: tuple) -> bool:
    """Whether a place in a tuple is not known yet."""
    first = path[0] if path else None
    return isinstance(outputs, tuple | list) and isinstance(first, Tracer)


def _fitting(caller: str, outputs, path: tuple) -> list[int]:
    """The places of a tuple where the rest of a path leads to a number."""

    def fits(part) -> bool:
        try:
            _check(caller, jax.tree.map(_shape, part), path[1:])
        except ValueError:
            return False
        return True

    return [k for k, part in enumerate(outputs) if fits(part)]


def _taken(caller: str, outputs, path: tuple):
    """The output at a path; NaN where an index that is traced leads nowhere."""
    if _is_open(outputs, path):
        at, inside = wrapped(path[0], len(outputs))
        taken = jnp.nan
        for k in _fitting(caller, outputs, path):
            taken = jnp.where(
                inside & (at == k), _taken(caller, outputs[k], path[1:]), taken
            )
        return taken
    if not hasattr(outputs, "shape"):
        return _taken(caller, _entered(caller, outputs, path), path[1:])
    found = [wrapped(i, n) for i, n in zip(path, outputs.shape, strict=True)]
    inside = functools.reduce(operator.and_, (inside for _, inside in found), True)
    return jnp.where(inside, _entry(outputs, [at for at, _ in found]), jnp.nan)


def _entry(outputs, index: list):
    """One entry; of outputs on an explicit mesh without a gather of what is spread."""
    if not is_explicit((outputs, index)):
        return outputs[tuple(index)]
    for at in index:
        size = outputs.shape[0]
        here = jnp.arange(size, dtype=at.dtype) == at
        here = here.reshape(size, *[1] * (outputs.ndim - 1))
        here = spread_like(jnp.broadcast_to(here, outputs.shape), outputs, 0)
        outputs = jnp.where(here, outputs, jnp.zeros_like(outputs)).sum(0)
    return outputs


def _shown(path: tuple) -> str:
    known = lambda i: "traced" if isinstance(i, Tracer) else int(i)
    parts = [repr(i) if isinstance(i, str) else str(known(i)) for i in path]
    return parts[0] if len(parts) == 1 else f"({', '.join(parts)})"


def _listed(shapes) -> str:
    return str(
        jax.tree.map(lambda a: a.shape, shapes, is_leaf=lambda a: hasattr(a, "dtype"))
    )
