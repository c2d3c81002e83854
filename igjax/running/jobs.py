"""Jobs: a batched attribution over a data set, which survives the end of its process.

Each batch becomes one file, written whole or not at all, that records what it was made
of: a hash of the compiled program, with its weights, and one of the batch. At the next
start a file is taken for a result only if both are still the same, so that what is
resumed is this job on these data. There is no other state that could be half written.
Several processes that are at it share the batches (`_shares.py`).
"""

import contextlib
import hashlib
import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from igjax import _checks
from igjax.attribution import Attribution
from igjax.running._shares import claimed, joined
from igjax.running.storage import load, save

__all__ = ["attribute_batches"]

_TAKEN = ("file", "result", "program", "inputs", "settings")
# Recorded by `save`, not compared.
_MAY_CHANGE = ("jax", "python", "device", "dtype", "time")
_SETTINGS = ("jax_enable_x64", "jax_default_matmul_precision")


class _Job(NamedTuple):
    """One job, as one of its processes sees it."""

    attribute: Any
    directory: Path
    made_of: dict  # the same for all batches
    rule: Any
    lock: Any


def attribute_batches(
    attribute, batches: Iterable, directory, *, rule=None, progress: bool = True, **notes
) -> Iterator[Attribution]:
    """Runs a batched attribution over a data set, one file a batch, and resumes.

    `attribute(*batch)` for each batch, written to `directory` as it goes. Use it where a
    run is long enough to be killed: call it again with the same arguments, and it goes on
    where it was. No batch whose file is written is computed again, none is left out, and
    a killed process costs the batch in hand. The directory belongs to one job: with
    other data, or another order of them, another program or igjax, it is refused.

    Several processes that make the same call with one directory share the batches: on one
    machine or on many with a common file system, under `jax.distributed` or not, as many
    as there are, begun at any time. Each takes the next batch that nobody has, also one
    of a process that died. Each reads all batches, and computes on its own devices: the
    mesh of an `igjax.sharded` is one of `jax.local_devices()`.

    Args:
        attribute: function of a batch that returns an `Attribution`, best
            `jax.jit(jax.vmap(igjax.integrated_gradients(f), in_axes=...))`. Of a jitted
            function the program itself is compared: f, the rule, and the weights that it
            closes over. Of any other function nothing is known but rule and notes.
        batches: iterable of tuples, the arguments of `attribute`: the same ones, in the
            same order, at every start. The last batch may be shorter: it is compiled
            once more. Where that takes long, repeat examples to fill it, and ignore the
            results of these; with the adaptive rule they cost as much as others.
        directory: where the files go, a path; made if it is not there. Batch i is
            `batch_<i>.npz`, eight digits, for `igjax.load`.
        rule: the rule, to be recorded and compared.
        progress: shows a bar on stderr, if tqdm is installed: `pip install igjax[jobs]`.
        **notes: as in `save`, recorded and compared: the model's version, a seed.

    Returns:
        An iterator over the results, one `Attribution` with NumPy arrays a batch, in the
        order of the batches: all of them, whichever process computed them. All are
        computed by then; each is read when it is asked for.

    Raises:
        ValueError: if the directory holds results of another job or other batches, a
            damaged file, or more files than there are batches; if a note has the name
            of something that igjax records.
        TypeError: if `attribute` is no function or returns no `Attribution`, a batch is no
            tuple, or a note is nothing that JSON can hold.
        RuntimeError: if a process works in the directory at another job.
        OSError: if a file cannot be written. Results that are there stay.

    Example:
        >>> import igjax, jax, jax.numpy as jnp, numpy as np, tempfile
        >>> f, rule = lambda x, w: jnp.prod(x) * w, igjax.rules.gauss_legendre(4)
        >>> attribute = igjax.integrated_gradients(f, rule=rule)
        >>> explain = jax.jit(jax.vmap(attribute, in_axes=(0, None, 0)))
        >>> rows, weights = np.ones((5, 2)), np.arange(5.0)
        >>> batches = [(rows[i : i + 2], 0.0, weights[i : i + 2]) for i in range(0, 5, 2)]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     results = igjax.attribute_batches(explain, batches, folder, progress=False)
        ...     np.concatenate([result.values for result in results])[:, 0].round(4)
        array([0. , 0.5, 1. , 1.5, 2. ], dtype=float32)
    """
    if taken := sorted(set(_TAKEN) & notes.keys()):
        raise ValueError(
            f"attribute_batches: notes must not be called {taken}: igjax uses these names."
        )
    _checks.function("attribute_batches", "attribute", attribute)
    _checks.notes("attribute_batches", notes)
    directory = Path(directory)
    unwritable = f"{directory} must be a directory that can be written to"
    with _explained(unwritable):
        directory.mkdir(parents=True, exist_ok=True)
    given = iter(_shown(batches, progress))
    first = [_checked(0, batch) for batch in itertools.islice(given, 1)]
    made_of = notes | {
        "program": _program(attribute, first[0]) if first else None,
        "settings": {name: str(getattr(jax.config, name)) for name in _SETTINGS},
    }
    name = hashlib.sha256(_described(made_of, rule, *first).encode()).hexdigest()
    with contextlib.ExitStack() as there:
        with _explained(unwritable):
            lock = there.enter_context(joined(directory, name))
        job = _Job(attribute, directory, made_of, rule, lock)
        files = _run(job, itertools.chain(first, given))
        if beyond := sorted(set(directory.glob("batch_*.npz")) - set(files)):
            raise ValueError(
                f"attribute_batches: there must be a batch for each file, got "
                f"{len(files)} batches, and {beyond[0]}. Pass all batches at every start "
                "(a generator can be used only once), or use a new directory."
            )
    return (load(file).result for file in files)


def _run(job: _Job, batches) -> list[Path]:
    """Sees to all batches; those that others have in hand are looked at again."""
    count, elsewhere = 0, {}
    for i, batch in enumerate(batches):
        elsewhere[i] = _checked(i, batch)
        elsewhere = {k: b for k, b in elsewhere.items() if not _settled(job, k, b)}
        count = i + 1
    for i, batch in elsewhere.items():
        _settled(job, i, batch, wait=True)
    return [_file(job, i) for i in range(count)]


def _settled(job: _Job, i: int, batch, *, wait: bool = False) -> bool:
    """Whether the file of a batch is there by now, found or computed here."""
    file = _file(job, i)
    if not file.exists():
        with claimed(job.lock, i, wait=wait) as mine:
            if not mine:
                return False
            if not file.exists():
                _compute(job, i, batch)
                return True
    _check(job, i, batch)
    return True


def _file(job: _Job, i: int) -> Path:
    return job.directory / f"batch_{i:08d}.npz"


def _checked(i: int, batch):
    if not isinstance(batch, tuple | list):
        raise TypeError(
            f"attribute_batches: a batch must be the tuple of the arguments of "
            f"attribute, got {type(batch).__name__} for batch {i}. Pass (x, baseline, "
            "...), or (x,)."
        )
    return batch


def _compute(job: _Job, i: int, batch) -> None:
    result = job.attribute(*batch)
    if not isinstance(result, Attribution):
        raise TypeError(
            f"attribute_batches: attribute must return an Attribution, got "
            f"{type(result).__name__}. Pass jax.jit(jax.vmap(igjax.integrated_gradients("
            "f), in_axes=...))."
        )
    jax.block_until_ready(result)
    kept = "Those that are there are kept: make room, call again, and it goes on"
    with _explained(f"batch {i} could not be written to {_file(job, i)}. {kept}"):
        save(_file(job, i), result, rule=job.rule, inputs=_digest(batch), **job.made_of)


def _check(job: _Job, i: int, batch) -> None:
    """Checks that a file is the result of this batch of this job."""
    file = _file(job, i)
    try:
        about = load(file).about
    except ValueError as error:
        raise ValueError(
            f"attribute_batches: {file} is damaged, or no result. Delete it and call "
            "again: only this batch is computed anew."
        ) from error
    wanted = json.loads(_described(job.made_of, job.rule, batch))
    found = {name: about[name] for name in about if name not in _MAY_CHANGE}
    other = sorted(k for k in wanted | found if wanted.get(k) != found.get(k))
    if other == ["inputs"]:
        raise ValueError(
            f"attribute_batches: batch {i} must be the one that {file} was computed from, "
            "got other data. Pass the same batches in the same order at every start (turn "
            "shuffling off, or fix its seed), or use a new directory."
        )
    if other:
        changes = [f"{k} was {found.get(k)!r}, is {wanted.get(k)!r}" for k in other]
        raise ValueError(
            f"attribute_batches: {file} belongs to another job: {'; '.join(changes)}. Use "
            "a new directory, or go back to what it was begun with. The program is what "
            "JAX compiles: f, its weights, the rule, the shape of a batch; it can also "
            f"change with JAX (was {about.get('jax')}, is {jax.__version__}) and the "
            f"device (was {about.get('device')}, is {jax.devices()[0].device_kind})."
        )


def _described(made_of, rule, *batch) -> str:
    """What `save` records of a batch of a job, as JSON."""
    own = {"igjax": version("igjax"), "rule": None if rule is None else repr(rule)}
    inputs = {"inputs": _digest(*batch)} if batch else {}
    return json.dumps(made_of | own | inputs, sort_keys=True)


def _program(attribute, batch) -> str:
    """A hash of the program of a jitted function, with all constants, as it is lowered."""
    if not isinstance(attribute, jax.stages.Wrapped):
        return "unknown"
    return hashlib.sha256(attribute.lower(*batch).as_text().encode()).hexdigest()


def _digest(batch) -> str:
    """A hash of all leaves of a batch: their places, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(batch):
        if _checks.is_key(leaf):
            leaf = jax.random.key_data(leaf)
        a = np.asarray(leaf)
        # Of other objects only the type is the same in the next process.
        content = repr(type(leaf)).encode() if a.dtype == object else a.tobytes()
        place = jax.tree_util.keystr(path)
        digest.update(f"{place} {a.dtype} {a.shape}\n".encode() + content)
    return digest.hexdigest()


@contextlib.contextmanager
def _explained(what: str):
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"attribute_batches: {what}: {reason}") from error


def _shown(batches, progress: bool):
    if not progress:
        return batches
    try:
        from tqdm import tqdm
    except ImportError:
        return batches
    return tqdm(batches, desc="attributions", unit=" batches", file=sys.stderr)
