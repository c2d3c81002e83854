"""Which process of a job computes which batch: by locks on one file of the directory.

A batch is computed by whoever locks it first. The system takes locks back from a process
that died, so none is ever stale, and what the dead had in hand is free again; those of
`flock` could live on in forked workers that load data. Byte 0 of the file is locked by all
who are there, byte 1 while one of them comes in, and one more for each batch in hand. Its
text says what the job is.

Without locks (Windows, some network file systems) processes that JAX knows of take turns,
others do the same work twice; but whole files replace equal ones.
"""

import contextlib
import os
from pathlib import Path

import jax

try:
    import fcntl
except ImportError:
    fcntl = None

_THERE, _DOOR, _FIRST = 0, 1, 2  # bytes of the file


@contextlib.contextmanager
def joined(directory: Path, job: str):
    """Gives the file of locks, for as long as this process is there; None without locks.

    Raises:
        RuntimeError: if a process of another job is there.
    """
    with open(directory / ".lock", "a+") as lock:
        try:
            _locked(lock, _DOOR, wait=True)
        except OSError:
            yield None
            return
        if _locked(lock, _THERE):  # nobody else is there
            _begin(lock, job)
            _clear(directory)
        else:
            _check(lock, directory, job)
        _locked(lock, _THERE, shared=True)
        _freed(lock, _DOOR)
        yield lock
        _locked(lock, _DOOR, wait=True)
        if _locked(lock, _THERE):
            _clear(directory)


@contextlib.contextmanager
def claimed(lock, i: int, *, wait: bool = False):
    """Gives whether this process is the one to compute batch i, until the context ends.

    With `wait`, it is, after whoever had it before is done or dead.
    """
    if lock is None:
        yield wait or i % jax.process_count() == jax.process_index()
        return
    mine = _locked(lock, _FIRST + i, wait=wait)
    try:
        yield mine
    finally:
        if mine:
            _freed(lock, _FIRST + i)


def _begin(lock, job: str) -> None:
    lock.truncate(0)
    lock.write(f"{job}\nprocess {os.getpid()} on {os.uname().nodename}")
    lock.flush()


def _clear(directory: Path) -> None:
    """Clears half files of killed processes away."""
    for half in directory.glob(".batch_*.part"):
        half.unlink()


def _check(lock, directory: Path, job: str) -> None:
    lock.seek(0)
    other, _, holder = lock.read().partition("\n")
    if other != job:
        raise RuntimeError(
            f"attribute_batches: only one job may be done in {directory}, but "
            f"{holder or 'another process'} does another one. Wait for it or end it, or "
            "use a new directory."
        )


def _locked(lock, byte: int, *, shared: bool = False, wait: bool = False) -> bool:
    """Whether a byte could be locked."""
    if fcntl is None:
        raise OSError("No locks on this system.")
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.lockf(lock, kind if wait else kind | fcntl.LOCK_NB, 1, byte)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _freed(lock, byte: int) -> None:
    if fcntl is not None:
        fcntl.lockf(lock, fcntl.LOCK_UN, 1, byte)
