"""What stands below a sentence in a terminal: legend, largest words, aligned tables."""

import math
from collections.abc import Sequence

from igjax.plots import _scale
from igjax.plots._sentence import columns, sentence, shortened
from igjax.plots._terminal import RESET, paint

BAR, NUMBERS = 24, 31  # columns, of the longest bar and of what is before it
STEPS = (0.4, 0.6, 0.8, 1.0)


def legend(limit: float, sides: Sequence[str], color: bool) -> str:
    """What the colors or the signs mean."""
    if not color:
        return f"The sign of a number: + is for {sides[1]}, - for {sides[0]}."
    ramps = [
        "".join(f"{paint(sign * step)}  {RESET}" for step in STEPS[::sign])
        for sign in (-1, 1)
    ]
    ends = [_scale.number(end, limit) for end in (-limit, limit)]
    return f"{sides[0]} {ends[0]} {ramps[0]}  {ramps[1]} {ends[1]} {sides[1]}"


def largest(
    words: Sequence[str], values, errors, most: int, color: bool, width: int
) -> str:
    """The words of the largest size, with place, value, error and a bar."""
    s = sentence("largest", words, values, errors)
    order = [int(i) for i in _scale.by_size(s.values)[:most]]
    names = [shortened(s.words[i], 24) for i in order]
    widest = max(4, *map(columns, names))
    rows = [f"{'word':{widest}}   place      value   error"]
    bar = max(min(BAR, width - widest - NUMBERS), 0)
    for i, name in zip(order, names, strict=True):
        value, share = float(s.values[i]), _scale.share(float(s.values[i]), s.limit)
        number, error = _scale.number(value, s.limit, digits=4), _scale.size(errors[i])
        padded = name + " " * (widest - columns(name))
        row = f"{padded}   {i + 1:5}   {number:>8} ± {error:<8} {_bar(share, bar, color)}"
        rows.append(row.rstrip())
    return "\n".join(rows)


def _bar(share: float, longest: int, color: bool) -> str:
    length = round(longest * abs(share))
    if not color:
        return length * ("+" if share > 0 else "-")
    weakest = paint(math.copysign(0.2, share))  # letters alone: the bar is made of them
    return f"{weakest}{length * '█'}{RESET}" if length else ""


def aligned(rows: Sequence[Sequence[str]], width: int) -> str:
    """A table: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    gap = 3 if sum(widths) + 3 * (len(widths) - 1) <= width else 1
    return "\n".join(
        (gap * " ")
        .join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)]
        )
        .rstrip()
        for row in rows
    )
