"""What a long call is doing, told to a person who asked (`igjax.running.progress`).

A program that is traced while somebody listens calls back at each turn of its loops; all
others hold nothing of it. The listener is part of what a program is kept by, so that none
calls back to who has left.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import jax

Listener = Callable[[str, int | None], None]  # what is being done, and how much of it

_LISTENER: contextvars.ContextVar[Listener | None] = contextvars.ContextVar(
    "igjax_listener", default=None
)


@contextlib.contextmanager
def to(listener: Listener | None) -> Iterator[None]:
    """Tells a listener, or nobody, what is done inside."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def listener() -> Listener | None:
    """Who listens, if anybody does."""
    return _LISTENER.get()


def tell(what: str) -> None:
    """Says what is being done now."""
    if (heard := _LISTENER.get()) is not None:
        heard(what, None)


def step(what: str, done) -> None:
    """Says, at each run of the traced code around, how much is done of what."""
    if (heard := _LISTENER.get()) is not None:
        jax.debug.callback(lambda done: heard(what, int(done)), done)
