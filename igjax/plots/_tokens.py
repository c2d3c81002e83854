"""A sentence in a figure: a colored box for each word, its value and error below.

Everything is placed in points, the unit of type, so that a box fits its word.
"""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from igjax.plots import _figures, _scale
from igjax.plots._sentence import Run, Sentence, lines, sentence, shortened, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZES = (13.0, 12.0, 11.0, 10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0)
WIDTH, NARROWEST = 8.0, 4.5  # inches, of a figure of its own
MARGIN = 14.0
SMALL = 0.62  # of the numbers, in sizes of the words
SPACE, TOUCH = 0.4, 0.12  # between groups and within one, in sizes
BAR = 34.0  # points below the text, for the color bar
BAR_WIDTH = 110.0
LABEL = 8.5  # points, of the numbers at the color bar
LONGEST = 40  # characters of a word


class Box(NamedTuple):
    """A run in its place; left and top in points from the top left corner."""

    run: Run
    left: float
    top: float
    width: float


def tokens(
    words: Sequence[str],
    values,
    errors=None,
    *,
    between: Sequence[str] | None = None,
    unknown: Sequence[bool] | None = None,
    sides: tuple[str, str] = ("lower score", "higher score"),
    ax: "Axes | None" = None,
) -> "Axes":
    """Draws a sentence: colored boxes with values and errors, wrapped over lines.

    Use it for papers and reports. Words are drawn as they are, `$` too; characters that
    the font lacks become `□`, words of more than 40 characters lose their middle.

    Args:
        words: at least one.
        values: a number for each word, of shape (T,).
        errors: their errors, of shape (T,). Default: none are shown.
        between: the text before, between and after the words, one more than there are
            words; white space in it may become a line break. Default: spaces.
        unknown: True for words that the model does not know; they have a dotted frame.
        sides: what negative and positive values mean.
        ax: axes to fill, in which the type is made as small as need be. Default: a
            figure of its own, 8 inches wide, as high as the text.

    Returns:
        The axes; `axes.figure.savefig(...)` writes them.

    Raises:
        ImportError: if matplotlib is not installed.
        TypeError: if words is one string.
        ValueError: if a length or shape does not fit.

    Example:
        >>> import igjax.plots
        >>> axes = igjax.plots.text.tokens(["good", "grief"], [1.5, -0.25])
        >>> [label.get_text() for label in axes.texts][0::2]
        ['good', 'grief', ...]
    """
    s = sentence("tokens", words, values, errors, between, unknown)
    axes, size, width, height, boxes = _canvas(s, ax)
    axes.set(xlim=(0.0, width), ylim=(height, 0.0))
    axes.set_axis_off()
    scale = _scale.mappable(s.limit)
    for box in boxes:
        _draw(axes, s, box, size, scale)
    _color_bar(axes, scale, sides, height)
    return axes


def _canvas(s: Sentence, ax: "Axes | None"):
    """Axes, the size of type, width and height in points, and the boxes that fit them."""
    if ax is None:
        figure, axes = _figures.new_axes("tokens", WIDTH, 1.0)
        boxes, height = _layout(s, SIZES[0], 72 * WIDTH)
        used = max(box.left + box.width for box in boxes) + MARGIN
        width = max(used, 72 * NARROWEST)
        figure.set_layout_engine("none")
        figure.set_size_inches(width / 72, height / 72)
        axes.set_position((0.0, 0.0, 1.0, 1.0))
        return axes, SIZES[0], width, height, boxes
    figure = _figures.figure_of(ax)
    figure.draw_without_rendering()  # settles the place of the axes
    frame = ax.get_window_extent().transformed(figure.dpi_scale_trans.inverted())
    width, height = 72 * frame.width, 72 * frame.height
    layouts = ((size, *_layout(s, size, width)) for size in SIZES)
    size, boxes, _ = next(
        (found for found in layouts if found[2] <= height),
        (SIZES[-1], *_layout(s, SIZES[-1], width)),
    )
    return ax, size, width, height, boxes


def _layout(s: Sentence, size: float, width: float) -> tuple[list[Box], float]:
    """The boxes at that size of type, and the height that they and the color bar need."""
    boxes = _boxes(s, size, width)
    return boxes, boxes[-1].top + _pitch(s, size) + BAR


def _boxes(s: Sentence, size: float, width: float) -> list[Box]:
    measure = lambda run: _width(s, run, size)
    taken = lambda run: measure(run) + TOUCH * size
    rows = lines(s.groups, width - 2 * MARGIN, taken, (SPACE - TOUCH) * size)
    boxes = []
    for number, row in enumerate(rows):
        left = MARGIN
        for group in row:
            for run in group:
                top = MARGIN + number * _pitch(s, size)
                boxes.append(Box(run, left, top, measure(run)))
                left += measure(run) + TOUCH * size
            left += (SPACE - TOUCH) * size
    return boxes


def _pitch(s: Sentence, size: float) -> float:
    return size * (3.2 if s.errors is None else 4.1)


def _width(s: Sentence, run: Run, size: float) -> float:
    text = _measured(_drawable(run.text), size)
    if run.place is None:
        return text
    below = [_measured(line, SMALL * size) for line in _below(s, run.place)]
    return max(text + 0.7 * size, *below)


def _below(s: Sentence, place: int) -> list[str]:
    value = _scale.typeset(_scale.number(s.values[place], s.limit))
    if s.errors is None:
        return [value]
    return [value, f"±{_scale.typeset(_scale.size(s.errors[place]))}"]


def _draw(axes: "Axes", s: Sentence, box: Box, size: float, scale) -> None:
    from matplotlib.patches import FancyBboxPatch

    text, place = _drawable(box.run.text), box.run.place
    middle, base = box.left + box.width / 2, box.top + 1.22 * size
    style = {"ha": "center", "parse_math": False}
    if place is None:
        axes.text(middle, base, text, fontproperties=_font(size), **style)
        return
    unknown = bool(s.unknown[place])
    color = scale.to_rgba(s.limit * _scale.share(s.values[place], s.limit))
    patch = FancyBboxPatch(
        (box.left, box.top),
        box.width,
        1.75 * size,
        boxstyle=f"round,pad=0,rounding_size={0.3 * size}",
        facecolor="white" if unknown else color,
        edgecolor="0.55" if unknown else "0.88",
        linestyle=":" if unknown else "-",
        linewidth=0.8,
    )
    axes.add_patch(patch)
    ink = "0.4" if unknown else _scale.ink(color[:3])
    axes.text(middle, base, text, color=ink, fontproperties=_font(size), **style)
    for row, line in enumerate(_below(s, place)):
        y = box.top + (2.55 + 0.8 * row) * size
        ink, font = ("0.25", "0.5")[row], _font(SMALL * size)
        axes.text(middle, y, line, color=ink, fontproperties=font, **style)


def _color_bar(axes: "Axes", scale, sides: tuple[str, str], height: float) -> None:
    limit = scale.norm.vmax
    numbers = [_scale.typeset(_scale.number(end, limit)) for end in (-limit, limit)]
    left, right = (_drawable(visible(side)) for side in sides)
    left, right = f"{left} {numbers[0]}", f"{numbers[1]} {right}"
    start, top = MARGIN + _measured(left, LABEL) + 6, height - MARGIN - 8.0
    bar = axes.inset_axes((start, top, BAR_WIDTH, 8.0), transform=axes.transData)
    _figures.figure_of(axes).colorbar(scale, cax=bar, orientation="horizontal", ticks=[])
    bar.spines[:].set_visible(False)
    style = {"color": "0.25", "fontproperties": _font(LABEL), "parse_math": False}
    axes.text(MARGIN, top + 6.8, left, **style)
    axes.text(start + BAR_WIDTH + 6, top + 6.8, right, **style)


def _face() -> str:
    from matplotlib.font_manager import FontProperties, findfont

    return findfont(FontProperties())


def _font(size: float):
    from matplotlib.font_manager import FontProperties

    return FontProperties(fname=_face(), size=size)


def _drawable(text: str) -> str:
    return _with_glyphs(shortened(text, LONGEST), _face())


def _measured(text: str, size: float) -> float:
    return size * _width_of_size_1(text, _face())


# A layout measures every word several times, and the next size of type again.
@functools.lru_cache(maxsize=4096)
def _with_glyphs(text: str, face: str) -> str:
    from matplotlib.font_manager import get_font

    font = get_font(face)
    have = lambda c: font.get_char_index(ord(c)) != 0
    missing = next(filter(have, "\u25a1?"), " ")
    return "".join(c if have(c) else missing for c in text)


@functools.lru_cache(maxsize=4096)
def _width_of_size_1(text: str, face: str) -> float:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(fname=face, size=1)
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]
