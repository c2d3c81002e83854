"""What a long call is doing, shown to a person who watches and has asked for it.

A line in a terminal or in a notebook, renewed in place and gone when the call is done.
Where nobody watches, in a log or a pipe, nothing is written at all.
"""

import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax

from igjax import _checks
from igjax._program import telling

__all__ = ["progress"]

PAUSE = 0.2  # seconds: calls that take less show nothing, and the line is renewed so often


def progress(attribute) -> Callable:
    """Makes an attribution say what it is doing while a person waits for it.

    Use it in a terminal or a notebook, where a call takes long and it is not clear
    whether it compiles or computes: `tracing`, `compiling`, then how many gradients or
    draws are done, and the seconds. The program that tells so is another than the one
    that does not, and is compiled by itself. Under `jit` or `vmap` nothing is told of what
    happens inside, since that is somebody else's program.

    Args:
        attribute: a function that returns attributions, of any method.

    Returns:
        A function of the same arguments, with the same results.

    Raises:
        TypeError: if attribute is no function.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> attribute = igjax.progress(igjax.integrated_gradients(jnp.prod))
        >>> attribute(jnp.array([1.0, 2.0]), 0.0).values  # nobody watches a doctest
        Array([1., 1.], dtype=float32)
    """
    _checks.function("progress", "attribute", attribute)
    board = _Board()

    @functools.wraps(attribute)
    def shown(*args, **options):
        draw = _watcher()
        if draw is None or _checks.any_traced(args):
            return attribute(*args, **options)
        board.begin()
        with _shown(board, draw), telling.to(board):
            return jax.block_until_ready(attribute(*args, **options))

    return shown


class _Board:
    """The latest news of a call: told by its programs, from threads of their own."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forgets the call before."""
        self.start, self.news = time.monotonic(), "starting"

    def __call__(self, what: str, done: int | None) -> None:
        """Hears what is done, and how much of it."""
        self.news = what if done is None else f"computing, {done} {what} done"

    def __str__(self) -> str:
        """One line."""
        return f"igjax: {self.news} ({time.monotonic() - self.start:.0f} s)"


@contextmanager
def _shown(board: _Board, draw: Callable[[str], Any]) -> Iterator[None]:
    """Draws the board again and again, and wipes it away at the end."""
    over = threading.Event()

    def run() -> None:
        seen = False
        while not over.wait(PAUSE):
            draw(str(board))
            seen = True
        if seen:
            draw("")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _watcher() -> Callable[[str], Any] | None:
    """What draws a line where a person is watching; None where nobody is."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is not None and getattr(shell, "kernel", None) is not None:
        show = ipython.display
        handle = show.display(show.Pretty(""), display_id=True)
        return lambda line: handle.update(show.Pretty(line))
    if sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return _in_terminal
    return None


def _in_terminal(line: str) -> None:
    print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
