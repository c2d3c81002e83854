"""What goes out: to a reader, who may leave; to a terminal, or not; to a file."""

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from igjax._command.texts import Refusal
from igjax.plots._sentence import visible

STANDARD_OUTPUT = Path("-")


def reopen() -> None:
    """Gives a process whose standard streams were closed some that lead nowhere."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 as long as we live


def say(text: str) -> bool:
    """Prints for a person; False if nobody reads it."""
    status()
    coding = sys.stdout.encoding or "utf-8"
    if not coding.lower().startswith("utf"):
        text = text.replace("±", "+-").replace("█", "#").replace("…", "...")
    encoded = text.encode(coding, "backslashreplace").decode(coding)
    return _heard(lambda: print(encoded, flush=True))


def complain(text: str) -> None:
    """Says on standard error what is wrong; nothing in it steers the terminal."""
    status()
    with contextlib.suppress(OSError):  # nobody reads it, or the disk is full
        print(f"python -m igjax: {visible(text)}", file=sys.stderr, flush=True)


def status(text: str = "") -> None:
    """Shows what is being done, until the next thing is said, to who watches."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def in_color() -> bool:
    """True for terminals, unless colors are unwanted."""
    silent = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not silent


def width() -> int:
    """The columns to write."""
    return min(max(shutil.get_terminal_size().columns, 24), 100)


def write(path: Path, content: bytes) -> None:
    """Writes a file, or to standard output.

    Raises:
        Refusal: if it cannot be written.
    """
    with sink(path) as put:
        put(content)


@contextlib.contextmanager
def sink(path: Path | None) -> Iterator[Callable[[bytes], bool]]:
    """Opens a file, or standard output: `put(content)` is False if nobody reads it.

    Without a path `put` writes nothing.

    Raises:
        Refusal: if it cannot be written.
    """
    if path is None or path == STANDARD_OUTPUT:
        yield _put if path else lambda content: True
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            yield lambda content: _into(file, content)
    except OSError as error:
        raise Refusal(f"cannot write {path}: {error.strerror}.") from error


def _into(file, content: bytes) -> bool:
    file.write(content)
    file.flush()
    return True


def _put(content: bytes) -> bool:
    status()
    return _heard(lambda: _into(sys.stdout.buffer, content))


def _heard(write: Callable[[], object]) -> bool:
    """False if a reader such as head has closed the pipe."""
    try:
        write()
    except OSError as error:
        # What is left in the buffer goes nowhere: at its end Python would try it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            reason = f"cannot write to standard output: {error.strerror}."
            raise Refusal(reason) from error
        return False
    return True
