"""A sentence in a terminal: in color, or as plain text with a number after each word.

The 256 colors that every terminal has, set for letters and background together, so that
a word is legible whatever the colors of the terminal are.
"""

import re
from collections.abc import Callable, Sequence

from igjax.plots import _scale
from igjax.plots._sentence import Run, Sentence, columns, lines, sentence

RESET = "\x1b[0m"
FAINT = "\x1b[2;3m"
# From weak to strong. The first is letters alone: pale backgrounds would be the most
# striking ones in a dark terminal.
POSITIVES = (
    "38;5;32",
    "48;5;110;38;5;16",
    "48;5;74;38;5;16",
    "48;5;32;38;5;16",
    "1;48;5;26;38;5;231",
)
NEGATIVES = (
    "38;5;166",
    "48;5;180;38;5;16",
    "48;5;173;38;5;16",
    "48;5;172;38;5;16",
    "1;48;5;166;38;5;231",
)


def plain(
    words: Sequence[str],
    values,
    *,
    between: Sequence[str] | None = None,
    unknown: Sequence[bool] | None = None,
    width: int = 80,
) -> str:
    """Writes a sentence as plain text, with the value in brackets after each word.

    Use it for logs and files; what is not printable is shown as an escape.

    Args:
        words: at least one.
        values: a number for each word, of shape (T,).
        between: the text before, between and after the words, one more than there are
            words; white space in it may become a line break. Default: spaces.
        unknown: True for words that the model does not know; they get a `?`.
        width: of a line, in columns.

    Returns:
        One or more lines, without the last line break.

    Raises:
        TypeError: if words is one string.
        ValueError: if a length or shape does not fit.

    Example:
        >>> import igjax.plots
        >>> print(igjax.plots.text.plain(["good", "grief"], [1.5, -0.25]))
        good[+1.50] grief[-0.25]
    """
    return wrapped(
        sentence("plain", words, values, None, between, unknown), width, numbered
    )


def numbered(s: Sentence, run: Run) -> str:
    """A word with its number."""
    if run.place is None:
        return run.text
    mark = "?" if s.unknown[run.place] else ""
    return f"{run.text}{mark}[{_scale.number(s.values[run.place], s.limit)}]"


def ansi(
    words: Sequence[str],
    values,
    *,
    between: Sequence[str] | None = None,
    unknown: Sequence[bool] | None = None,
    width: int = 80,
) -> str:
    r"""Colors a sentence for a terminal: blue raises the score, orange lowers it.

    Use it where the output is a terminal; what is not printable is shown as an escape
    and never obeyed.

    Args:
        words: at least one.
        values: a number for each word, of shape (T,).
        between: the text before, between and after the words, one more than there are
            words; white space in it may become a line break. Default: spaces.
        unknown: True for words that the model does not know; they are faint and slanted.
        width: of a line, in columns.

    Returns:
        One or more lines, without the last line break.

    Raises:
        TypeError: if words is one string.
        ValueError: if a length or shape does not fit.

    Example:
        >>> import igjax.plots
        >>> igjax.plots.text.ansi(["good", "grief"], [1.5, 0.0])
        '\x1b[1;48;5;26;38;5;231mgood\x1b[0m grief'
    """
    return wrapped(sentence("ansi", words, values, None, between, unknown), width, colored)


def colored(s: Sentence, run: Run) -> str:
    """A word in its color."""
    if run.place is None:
        return run.text
    strength = _scale.share(s.values[run.place], s.limit)
    style = FAINT if s.unknown[run.place] else paint(strength)
    return f"{style}{run.text}{RESET}" if style else run.text


def paint(share: float) -> str:
    """The escape sequence for a strength in [-1, 1]; empty where it is weak."""
    colors = POSITIVES if share > 0 else NEGATIVES
    level = round(abs(share) * len(colors))
    return f"\x1b[{colors[level - 1]}m" if level else ""


_STYLE = re.compile(r"\x1b\[[0-9;]*m")


def wrapped(s: Sentence, width: int, draw: Callable[[Sentence, Run], str]) -> str:
    """The runs of a sentence, drawn and wrapped over lines of that many columns."""
    measure = lambda run: columns(_STYLE.sub("", draw(s, run)))
    rows = lines(s.groups, width, measure, 1)
    write = lambda group: "".join(draw(s, run) for run in group)
    return "\n".join(" ".join(map(write, row)) for row in rows)
