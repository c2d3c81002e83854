"""Results on disk: npz files without pickle, written whole or not at all.

The arrays keep their dtypes, the pytree of the values its structure, and beside them
stands what made them: versions, rule, device and whatever the caller adds.
"""

import contextlib
import dataclasses
import datetime
import functools
import json
import os
import platform
import uuid
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from igjax import _checks
from igjax.attribution import Attribution

__all__ = ["Saved", "load", "save"]

FORMAT = 2  # from 2 on a result may have `sampling`


class Saved(NamedTuple):
    """What `load` returns.

    Attributes:
        result: the `Attribution`, with NumPy arrays.
        about: what made it: versions, rule, device, time, and the caller's notes.

    Example:
        >>> import igjax
        >>> igjax.Saved._fields
        ('result', 'about')
    """

    result: Attribution
    about: dict[str, Any]


def save(
    file,
    result: Attribution,
    *,
    rule=None,
    method=None,
    path=None,
    baseline=None,
    **notes,
) -> None:
    """Saves a result as an npz file, atomically: a reader never sees half of it.

    Args:
        file: path of the file, or a `Path`; an existing file is replaced.
        result: an `Attribution`, of one example or a batch, made of dicts, lists,
            tuples and arrays.
        rule: the rule that made it, to be recorded by its name, "gauss_legendre(8)".
        method: what made it, a name or the function, such as `igjax.integrated_gradients`.
        path: the path, likewise, such as `igjax.paths.straight`.
        baseline: what it was compared with, likewise: "mean of the training data".
        **notes: anything that JSON holds: the model's name, a seed, a label.

    Raises:
        TypeError: if the values contain other containers, or a note is not JSON.
        ValueError: if a note has the name of something that igjax records.

    Example:
        >>> import igjax, jax.numpy as jnp, os, tempfile
        >>> rule, method = igjax.rules.adaptive(1e-3), igjax.integrated_gradients
        >>> made_by = {"rule": rule, "method": method, "baseline": 0.0}
        >>> result = method(jnp.prod, rule=rule)(jnp.ones(2), 0.0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = os.path.join(folder, "result.npz")
        ...     igjax.save(file, result, **made_by, model="product")
        ...     saved = igjax.load(file)
        >>> saved.result.values
        array([0.5, 0.5], dtype=float32)
        >>> [saved.about[name] for name in (*made_by, "model")]
        ['adaptive(tolerance=0.001)', 'integrated_gradients', 0.0, 'product']
    """
    arrays: list[np.ndarray] = []
    fields = {
        field.name: _encode(getattr(result, field.name), arrays)
        for field in dataclasses.fields(result)
    }
    own = {
        "igjax": version("igjax"),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "rule": None if rule is None else repr(rule),
        "dtype": sorted({str(a.dtype) for a in jax.tree.leaves(result.values)}),
        "device": jax.devices()[0].device_kind,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    if taken := sorted(own.keys() & notes):
        raise ValueError(f"save: notes must not be called {taken}: igjax records them.")
    made_by = {"method": method, "path": path, "baseline": baseline}
    notes |= {name: called(thing) for name, thing in made_by.items()}
    _checks.notes("save", notes)
    about = own | notes
    header = json.dumps({"format": FORMAT, "fields": fields, "about": about})
    named = {f"array_{i}": a for i, a in enumerate(arrays)}
    _write(Path(file), {"header": np.array(header), **named})


def called(thing):
    """What a function is called, or the one that made it; anything else as it is."""
    if isinstance(thing, functools.partial):
        return called(thing.func)
    name = getattr(thing, "__qualname__", None) if callable(thing) else None
    return thing if name is None else name.partition(".<locals>")[0]


def load(file) -> Saved:
    """Loads a result that `save` has written.

    Args:
        file: path of the file.

    Returns:
        `Saved(result, about)`; the arrays are NumPy arrays, equal to the last bit.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no result of igjax, or of a later version.

    Example:
        >>> import igjax
        >>> igjax.load("no such file.npz")
        Traceback (most recent call last):
        ...
        FileNotFoundError: [Errno 2] No such file or directory: 'no such file.npz'
    """
    with open(file, "rb") as stream:
        try:
            with np.load(stream, allow_pickle=False) as data:
                header = json.loads(str(data["header"]))
                arrays = [data[f"array_{i}"] for i in range(len(data.files) - 1)]
            later = header["format"] > FORMAT
            fields = {} if later else _fields(header, arrays)
        except Exception as error:
            raise ValueError(
                f"load: {file} is not a result that igjax.save has written, or is damaged."
            ) from error
    if later:
        raise ValueError(
            f"load: {file} has format {header['format']}, this igjax reads up to {FORMAT}. "
            "Upgrade igjax."
        )
    return Saved(Attribution(**fields), header["about"])


def _fields(header, arrays) -> dict[str, Any]:
    return {name: _decode(node, arrays) for name, node in header["fields"].items()}


def _encode(tree, arrays: list):
    """The structure of a pytree as JSON; its leaves are appended to arrays."""
    if tree is None:
        return None
    if type(tree) is dict:
        if odd := [k for k in tree if type(k) not in (str, int)]:
            raise TypeError(f"save: keys of dicts must be str or int, got {odd[0]!r}.")
        return {"dict": [[k, _encode(v, arrays)] for k, v in tree.items()]}
    if type(tree) in (list, tuple):
        return {type(tree).__name__: [_encode(v, arrays) for v in tree]}
    if not jax.tree_util.all_leaves([tree]):
        raise TypeError(
            f"save: values must be made of dicts, lists, tuples and arrays, got "
            f"{type(tree).__name__}. Convert it first, {type(tree).__name__} to dict say."
        )
    arrays.append(np.asarray(tree))
    return len(arrays) - 1


def _decode(node, arrays) -> Any:
    if node is None:
        return None
    if isinstance(node, int):
        return arrays[node]
    ((kind, content),) = node.items()
    if kind == "dict":
        return {key: _decode(value, arrays) for key, value in content}
    return (list if kind == "list" else tuple)(_decode(v, arrays) for v in content)


def _write(file: Path, arrays: dict) -> None:
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex}.part")
    try:
        with open(temporary, "xb") as stream:
            _put(stream, arrays)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(file.parent)


def _put(stream, arrays: dict) -> None:
    """What `np.savez` does; NumPy 1 leaves its archive open where that fails."""
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)


def _sync(folder: Path) -> None:
    """Makes a new name in a folder survive a loss of power, where that is possible."""
    with contextlib.suppress(OSError):  # some systems and file systems cannot
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
