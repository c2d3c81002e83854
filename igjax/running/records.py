"""Results as tables: a flat dict for each feature, as data frames and CSV files take them.

Everything in a record is a number, a string or a bool of Python, so that no reader needs
igjax, JAX or NumPy.
"""

import math
from typing import Any

import jax
import numpy as np

from igjax import _checks
from igjax.attribution import Attribution, Status

__all__ = ["to_records"]

_OF_EXAMPLES = ("score", "baseline_score", "delta")


def to_records(
    result: Attribution, names=None, *, x=None, baseline=None
) -> list[dict[str, Any]]:
    """A result as a list of flat dicts, one for each feature of each example.

    Use it for what is done with tables: `pandas.DataFrame(igjax.to_records(result))`, or
    `csv.DictWriter` with the keys of the first record.

    Args:
        result: an `Attribution`, of one example, a batch, or a Jacobian.
        names: of the features: a sequence, or an array of the shape of one example. Of a
            pytree one for each leaf, None where a leaf has none; of a single number its
            name. Default: the place in x, such as 2, (0, 1) or color[2].
        x: what was explained, to be told beside: like the values of the result, a pytree
            of arrays or data frames, of anything; without the axes of the batch where all
            examples share it.
        baseline: the same; a scalar stands for a whole leaf.

    Returns:
        Records in the order of examples, outputs and features, with the keys

        * `example`, the index in the batch, 0 for a single one;
        * `output`, the index of the output, of a Jacobian only;
        * `feature`, its name, `value` and `error`, of a mean over draws `sampling`, too;
        * `x` and `baseline`, of the feature, if they are given;
        * `score`, `baseline_score`, `delta`, `status` (the name of an `igjax.Status`) and
          `converged`, those of the whole.

        Where there are several axes of examples or outputs, the index is a text, "(0, 1)".

    Raises:
        TypeError: if result is no `Attribution`, or is traced.
        ValueError: if names, x or baseline do not fit the values.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> row, rule = jnp.array([3.0, -1.0]), igjax.rules.midpoint(1)
        >>> result = igjax.integrated_gradients(jnp.sum, rule=rule)(row, 0.0)
        >>> records = igjax.to_records(result, ["age", "income"], x=row)
        >>> [(record["feature"], record["x"], record["value"]) for record in records]
        [('age', 3.0, 3.0), ('income', -1.0, -1.0)]
    """
    _check(result)
    lead, batch = np.shape(result.score), np.shape(result.evaluations)
    features = _names(names, result.values, lead)
    cells = {"value": result.values, "error": result.error}
    if result.sampling is not None:
        cells["sampling"] = result.sampling
    for name, given in {"x": x, "baseline": baseline}.items():
        if given is not None:
            cells[name] = _spread(name, given, result.values, lead, batch)
    table = {name: _rows(tree, lead) for name, tree in cells.items()}
    wholes = zip(_places(lead, batch), _told(result), strict=True)
    return [
        place | {"feature": feature} | {n: a[i, k] for n, a in table.items()} | told
        for i, (place, told) in enumerate(wholes)
        for k, feature in enumerate(features)
    ]


def _check(result) -> None:
    if not isinstance(result, Attribution):
        raise TypeError(
            "to_records: result must be an igjax.Attribution, got "
            f"{type(result).__name__}. Of several layers, take one at a time."
        )
    if _checks.any_traced(result):
        raise TypeError(
            "to_records: result must be concrete, got a traced one. Call it outside of jit "
            "and vmap, on what they return."
        )


def _names(names, values, lead: tuple) -> list[str]:
    """The names of all features of one example."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(values)
    try:
        given = (
            structure.flatten_up_to(names) if names is not None else [None] * len(leaves)
        )
    except ValueError:
        raise ValueError(
            f"to_records: names must have the structure of the values, {structure}, with a "
            f"sequence of names for each leaf, got {jax.tree.structure(names)}."
        ) from None
    found = []
    for (path, leaf), own in zip(leaves, given, strict=True):
        shape = leaf.shape[len(lead) :]
        found += _default(path, shape) if own is None else _own(path, shape, own)
    return found


def _own(path, shape: tuple, names) -> list[str]:
    found = [str(name) for name in np.asarray(names, object).ravel()]
    if len(found) != math.prod(shape):
        raise ValueError(
            f"to_records: names{jax.tree_util.keystr(path)} must be a name for each of the "
            f"{math.prod(shape)} features, of shape {shape}, got {len(found)}."
        )
    return found


def _default(path, shape: tuple) -> list[str]:
    place = jax.tree_util.keystr(path, simple=True, separator=".")
    if not shape:
        return [place or "x"]
    index = [str(_index(i)) for i in np.ndindex(shape)]
    return [f"{place}[{i.strip('()')}]" for i in index] if place else index


def _index(index: tuple):
    """A number for one axis, a text for more."""
    return index[0] if len(index) == 1 else str(index)


def _places(lead: tuple, batch: tuple) -> list[dict[str, Any]]:
    """Which example a row is of, and of a Jacobian which output."""
    found = []
    for index in np.ndindex(lead):
        example, output = index[: len(batch)], index[len(batch) :]
        place: dict[str, Any] = {"example": _index(example) if example else 0}
        found.append(place | ({"output": _index(output)} if output else {}))
    return found


def _told(result: Attribution) -> list[dict[str, Any]]:
    """What is known of each row as a whole."""
    columns = {name: _plain(getattr(result, name)).ravel() for name in _OF_EXAMPLES}
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    statuses = [Status(int(status)) for status in np.ravel(result.status)]
    return [
        dict(zip(columns, row, strict=True))
        | {"status": status.name, "converged": status == Status.TOLERANCE_MET}
        for row, status in zip(rows, statuses, strict=True)
    ]


def _rows(tree, lead: tuple) -> np.ndarray:
    """The entries of all leaves as Python's objects, of shape (rows, features)."""
    rows = [
        _plain(leaf).reshape(math.prod(lead), math.prod(np.shape(leaf)[len(lead) :]))
        for leaf in jax.tree.leaves(tree)
    ]
    return np.concatenate([a.astype(object) for a in rows], axis=1)


def _spread(name: str, given, values, lead: tuple, batch: tuple):
    """What stands beside the values, made to fit them."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(values)
    parts, found = jax.tree.flatten(given)
    if found != structure:
        raise ValueError(
            f"to_records: {name} must have the structure of the values, {structure}, got "
            f"{found}. Of layers and groups there is none: leave it out."
        )
    outputs = (1,) * (len(lead) - len(batch))

    def fitted(path, leaf, part):
        a, shape = _plain(part), leaf.shape[len(lead) :]
        if a.shape not in ((), shape, batch + shape):
            raise ValueError(
                f"to_records: {name}{jax.tree_util.keystr(path)} must have the shape of "
                f"the values, {batch + shape}, or {shape} where all examples share it, "
                f"got {a.shape}."
            )
        own = a.reshape(batch + outputs + shape) if a.shape == batch + shape else a
        return np.broadcast_to(own, lead + shape)

    pairs = zip(leaves, parts, strict=True)
    return [fitted(path, leaf, part) for (path, leaf), part in pairs]


def _plain(a) -> np.ndarray:
    """An array of NumPy, of numbers that Python has, too: bfloat16 is none of them."""
    a = np.asarray(a)
    return a.astype(np.float64) if a.dtype.kind == "V" else a
