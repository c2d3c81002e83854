"""A sentence with one number for each word: what every drawing of text starts from.

Text to be explained comes from anywhere, so what would steer a terminal or reverse the
direction of writing is turned into a visible escape here, before anything is drawn.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from igjax.plots import _scale


class Run(NamedTuple):
    """A piece of the text: a word and its place among the words, or what is between."""

    text: str
    place: int | None


class Sentence(NamedTuple):
    """Words in order with their values, safe to show.

    Attributes:
        groups: what a line break must not tear apart, a word with its punctuation.
        values: float64 of shape (T,).
        errors: the same, or None.
        unknown: booleans of shape (T,).
        limit: the size that gets the full color.
    """

    groups: list[list[Run]]
    words: list[str]
    values: np.ndarray
    errors: np.ndarray | None
    unknown: np.ndarray
    limit: float


def sentence(
    caller: str,
    words: Sequence[str],
    values,
    errors=None,
    between: Sequence[str] | None = None,
    unknown: Sequence[bool] | None = None,
) -> Sentence:
    """Checks what a drawing of text is given.

    Raises:
        TypeError: if the words are one string.
        ValueError: if a length or shape does not fit.
    """
    if isinstance(words, str):
        raise TypeError(f"{caller}: words must be a list of strings, got {words!r}.")
    count = len(words)
    if not count:
        raise ValueError(f"{caller}: there must be at least one word, got none.")
    gaps = ["", *[" "] * (count - 1), ""] if between is None else list(between)
    if len(gaps) != count + 1:
        raise ValueError(
            f"{caller}: between must hold {count + 1} strings, the text before, between "
            f"and after {count} words, got {len(gaps)}."
        )
    faint = np.zeros(count, bool) if unknown is None else np.asarray(unknown, bool)
    if faint.shape != (count,):
        raise ValueError(
            f"{caller}: unknown must hold a boolean for each of {count} words, got shape "
            f"{faint.shape}."
        )
    numbers = _numbers(caller, "values", values, count)
    known_errors = None if errors is None else _numbers(caller, "errors", errors, count)
    shown = [visible(word) for word in words]
    return Sentence(
        _groups(shown, gaps), shown, numbers, known_errors, faint, _scale.limit(numbers)
    )


def _numbers(caller: str, name: str, values, count: int) -> np.ndarray:
    got = np.asarray(values)
    if got.shape != (count,):
        raise ValueError(
            f"{caller}: {name} must hold a number for each of {count} words, shape "
            f"({count},), got {got.shape}. Of a batch use result.example(i); of embeddings "
            "take the sum over the last axis."
        )
    return got.astype(np.float64)


def visible(text: str) -> str:
    r"""Shows what is not printable (control, bidirectional, ...) as escapes like \x1b."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


def columns(text: str) -> int:
    """The columns of a terminal that a text takes."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def shortened(text: str, most: int) -> str:
    """Cuts the middle out of a text that is longer than `most` characters."""
    if len(text) <= most:
        return text
    return text[: most // 2] + "…" + text[-(most - most // 2 - 1) :]


def lines(groups: list[list[Run]], width: float, measure, space: float):
    """Fills lines with groups, greedily: `measure(run)` is the width of a run.

    Only a group that is wider than a line is torn apart.
    """
    size = lambda group: sum(map(measure, group))
    line, used = [], 0.0
    for group in groups:
        if line and used + space + size(group) > width:
            yield line
            line, used = [], 0.0
        *full, rest = _torn(group, width, measure) if size(group) > width else [group]
        yield from ([part] for part in full)
        used += size(rest) + (space if line else 0.0)
        line.append(rest)
    yield line


def _torn(group: list[Run], width: float, measure) -> list[list[Run]]:
    parts, used = [[group[0]]], measure(group[0])
    for run in group[1:]:
        used += measure(run)
        if used > width:
            parts.append([])
            used = measure(run)
        parts[-1].append(run)
    return parts


def _groups(words: list[str], gaps: list[str]) -> list[list[Run]]:
    groups: list[list[Run]] = [[]]
    for place, gap in enumerate(gaps):
        first, *rest = re.split(r"\s+", gap)
        groups[-1].append(Run(visible(first), None))
        groups.extend([Run(visible(part), None)] for part in rest)
        if place < len(words):
            groups[-1].append(Run(words[place], place))
    full = ([run for run in group if run.text or run.place is not None] for group in groups)
    return [group for group in full if group]
