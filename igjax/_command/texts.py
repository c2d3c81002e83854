"""Where the text comes from: the command line, a file or standard input.

Whatever cannot be explained is refused with a message that says what to do about it.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

LARGEST_TEXT = 10_000_000  # bytes
LARGEST_LINES = 1_000_000_000  # bytes, of a file with a text on each line


class Refusal(Exception):
    """Something that the user has to change; its message says what."""


def read(words: Sequence[str], file: Path | None, largest: int) -> str:
    """The text of the command line; of the file, if there is one; `-` is standard input.

    Raises:
        Refusal: if it cannot be read, is larger than that many bytes, or is no text.
    """
    if file is None and list(words) != ["-"]:
        return _argument(" ".join(words))
    file = None if file == Path("-") else file
    source = file or "standard input"
    try:
        return _decoded(_bytes(file, largest + 1), source, largest)
    except OSError as error:
        raise Refusal(f"cannot read {source}: {error.strerror}.") from error


def _argument(text: str) -> str:
    # What the locale cannot read comes as halves of surrogate pairs: the bytes themselves.
    if not any("\ud800" <= c <= "\udfff" for c in text):
        return text
    try:
        return os.fsencode(text).decode()
    except UnicodeError:
        told = "the text is no UTF-8 text. Save it in a file as UTF-8: --file PATH"
        raise Refusal(told) from None


def _bytes(file: Path | None, most: int) -> bytes:
    if file is None:
        return sys.stdin.buffer.read(most)
    with file.open("rb") as stream:
        return stream.read(most)


def _decoded(raw: bytes, source, largest: int) -> str:
    if len(raw) > largest:
        raise Refusal(f"{source} is larger than {largest // 10**6} MB.")
    if b"\0" in raw:
        raise Refusal(f"{source} is no text: it holds a zero byte.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refusal(
            f"{source} is no UTF-8 text: byte {error.start} is "
            f"0x{error.object[error.start]:02x}. Save it as UTF-8."
        ) from error


def lines(text: str) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers, which are those of an editor.

    Raises:
        Refusal: if there is none.
    """
    all_lines = text.replace("\r\n", "\n").split("\n")
    told = [(number, line) for number, line in enumerate(all_lines, 1) if line.strip()]
    if not told:
        raise Refusal("the text is empty: --lines needs a text on each line.")
    return told
