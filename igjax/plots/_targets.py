"""A table of targets times sources: what each token of a continuation owes to the text.

One color scale for all rows, so that a pale row is one that hardly depends on anything.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from igjax.plots import _figures, _page, _scale, _terminal
from igjax.plots._sentence import Run, Sentence, columns, sentence, shortened, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LONGEST = 24  # characters of a label
WRITTEN = 12  # sources whose numbers fit into the cells
TYPE = 7  # points, of the labels where there are many


class Targets(NamedTuple):
    """A table that is safe to show: `values` and `errors` are (targets, sources)."""

    sources: list[str]
    targets: list[str]
    values: np.ndarray
    errors: np.ndarray | None
    limit: float


def checked(caller: str, sources, targets, values, errors=None) -> Targets:
    """Checks what a drawing of a table is given.

    Raises:
        TypeError: if sources or targets are one string.
        ValueError: if there are none, or a shape does not fit.
    """
    for name, words in (("sources", sources), ("targets", targets)):
        if isinstance(words, str):
            raise TypeError(f"{caller}: {name} must be a list of strings, got {words!r}.")
        if not len(words):
            raise ValueError(f"{caller}: {name} must hold at least one token, got none.")
    shape = len(targets), len(sources)
    arrays = {"values": values} | ({} if errors is None else {"errors": errors})
    for name, given in arrays.items():
        if np.shape(given) != shape:
            raise ValueError(
                f"{caller}: {name} must have a row for each target and a column for each "
                f"source, shape {shape}, got {np.shape(given)}. Of a batch use "
                "result.example(i)."
            )
    numbers = np.asarray(values, np.float64)
    doubts = None if errors is None else np.asarray(errors, np.float64)
    label = lambda word: shortened(visible(word), LONGEST)
    names = list(map(label, sources)), list(map(label, targets))
    return Targets(names[0], names[1], numbers, doubts, _scale.limit(numbers))


def table(
    sources: Sequence[str],
    targets: Sequence[str],
    values,
    errors=None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draws what each target owes to each source, as a heat map.

    Use it for the values of `igjax.language.each_token`. A cell is hatched if its error
    exceeds its value and a tenth of the full color; up to 12 sources have numbers.

    Args:
        sources: the tokens of the text, at least one, its columns.
        targets: the tokens that were predicted, its rows.
        values: of shape (targets, sources).
        errors: their errors, of the same shape. Default: none are shown.
        ax: axes to draw on. Default: those of a new figure.

    Returns:
        The axes, with a color bar beside them.

    Raises:
        ImportError: if matplotlib is not installed.
        TypeError: if sources or targets are one string.
        ValueError: if there are none, or a shape does not fit.

    Example:
        >>> import igjax.plots
        >>> axes = igjax.plots.text.table(["one", "of"], ["of", "the"], [[1, 0], [0.5, -2]])
        >>> [label.get_text() for label in axes.get_yticklabels()]
        ['of', 'the']
    """
    t = checked("table", sources, targets, values, errors)
    rows, places = t.values.shape
    width, height = 2.4 + 0.3 * min(places, 40), 1.6 + 0.3 * min(rows, 40)
    axes = ax or _figures.new_axes("table", width, height, "compressed")[1]
    scale = _scale.mappable(t.limit)
    doubts = np.zeros_like(t.values) if t.errors is None else t.errors
    _figures.cells(axes, t.values, doubts, scale, dashes=places > WRITTEN)
    if places <= WRITTEN:
        _write(axes, t, scale)
    size = None if max(rows, places) <= 40 else TYPE
    upright = {"rotation": 90, "ha": "center", "fontsize": size, "parse_math": False}
    axes.set_xticks(np.arange(places), t.sources, **upright)
    axes.set_yticks(np.arange(rows), t.targets, fontsize=size, parse_math=False)
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.set_aspect("auto" if max(rows, places) > 40 else "equal")
    axes.spines[:].set_visible(False)
    _figures.color_bar(axes, scale)
    return axes


def _write(axes: "Axes", t: Targets, scale) -> None:
    for (row, place), value in np.ndenumerate(t.values):
        if value:
            ink = _scale.ink(scale.to_rgba(value)[:3])
            text = _scale.typeset(_scale.number(value, t.limit, digits=2))
            axes.text(place, row, text, ha="center", va="center", color=ink, fontsize=6)


def table_html(
    sources: Sequence[str],
    targets: Sequence[str],
    values,
    errors=None,
    *,
    sides: tuple[str, str] = ("less likely", "more likely"),
    title: str = "What each token owes to those before it",
    notes: Sequence[str] = (),
) -> str:
    """Writes a page with what each target owes to each source, as a table in colors.

    Use it to keep or to send it: self-contained, in the reader's theme, as
    `igjax.plots.text.html`; numbers are told where a cell is hovered.

    Args:
        sources: the tokens of the text, at least one, its columns.
        targets: the tokens that were predicted, its rows.
        values: of shape (targets, sources).
        errors: their errors, of the same shape. Default: none are told.
        sides: what negative and positive values mean.
        title: of the page.
        notes: paragraphs at its end.

    Returns:
        The page; write it with `encoding="utf-8"`. As the last value of a notebook's cell
        it is shown there.

    Raises:
        ImportError: if jinja2 is not installed.
        TypeError: if sources or targets are one string.
        ValueError: if there are none, or a shape does not fit.

    Example:
        >>> import igjax.plots
        >>> page = igjax.plots.text.table_html(["<script>"], ["fun"], [[1.0]])
        >>> "&lt;script&gt;" in page, "<script>" in page
        (True, False)
    """
    t = checked("table_html", sources, targets, values, errors)
    rows = [
        (name, [_cell(t, row, place) for place in range(len(t.sources))])
        for row, name in enumerate(t.targets)
    ]
    legend = _page.legend(t.limit, *sides)
    grid = {"sources": t.sources, "rows": rows, "legend": legend}
    return _page.page("table_html", title, grid=grid, notes=notes)


def _cell(t: Targets, row: int, place: int) -> _page.Cell:
    value = float(t.values[row, place])
    number = _scale.number(value, t.limit, digits=4)
    error = _page.error_of(None if t.errors is None else t.errors[row], place)
    hint = f"{t.sources[place]} for {t.targets[row]}: {number} {error}".strip()
    color = _page.background(_scale.share(value, t.limit))
    told = len(t.sources) <= WRITTEN and value
    return _page.Cell(color, hint, _scale.number(value, t.limit, digits=2) if told else "")


def table_plain(
    sources: Sequence[str], targets: Sequence[str], values, *, width: int = 80
) -> str:
    """Writes the table as plain text: a paragraph for each target, with its sources.

    Use it for logs and files. Sources of exactly 0 behind the last other one, which stand
    behind the target, are left out.

    Args:
        sources: the tokens of the text, at least one.
        targets: the tokens that were predicted.
        values: of shape (targets, sources).
        width: of a line, in columns.

    Returns:
        Lines, without the last line break.

    Raises:
        TypeError: if sources or targets are one string.
        ValueError: if there are none, or a shape does not fit.

    Example:
        >>> import igjax.plots
        >>> words = ["one", "of"], ["of", "the"]
        >>> print(igjax.plots.text.table_plain(*words, [[1.5, 0], [0.5, -2]]))
        of   one[+1.50]
        the  one[+0.50] of[-2.00]
    """
    t = checked("table_plain", sources, targets, values)
    return _paragraphs(t, width, _terminal.numbered, lambda name: name)


def table_ansi(
    sources: Sequence[str], targets: Sequence[str], values, *, width: int = 80
) -> str:
    r"""Colors the table for a terminal: a paragraph for each target, with its sources.

    Use it where the output is a terminal; what is not printable is shown as an escape
    and never obeyed. Otherwise as `table_plain`.

    Args:
        sources: the tokens of the text, at least one.
        targets: the tokens that were predicted.
        values: of shape (targets, sources).
        width: of a line, in columns.

    Returns:
        Lines, without the last line break.

    Raises:
        TypeError: if sources or targets are one string.
        ValueError: if there are none, or a shape does not fit.

    Example:
        >>> import igjax.plots
        >>> igjax.plots.text.table_ansi(["good"], ["fun"], [[1.5]])
        '\x1b[1mfun\x1b[0m  \x1b[1;48;5;26;38;5;231mgood\x1b[0m'
    """
    t = checked("table_ansi", sources, targets, values)
    return _paragraphs(t, width, _terminal.colored, lambda name: f"{BOLD}{name}{RESET}")


BOLD, RESET = "\x1b[1m", _terminal.RESET


def _paragraphs(
    t: Targets, width: int, draw: Callable[[Sentence, Run], str], emphasize
) -> str:
    side = 2 + max(map(columns, t.targets))
    lines = []
    for name, values in zip(t.targets, t.values, strict=True):
        count = 1 + max(np.flatnonzero(values), default=0)
        row = sentence("table", t.sources[:count], values[:count])._replace(limit=t.limit)
        text = _terminal.wrapped(row, width - side, draw)
        gap = " " * (side - columns(name))
        lines.append(emphasize(name) + gap + text.replace("\n", "\n" + " " * side))
    return "\n".join(lines)
