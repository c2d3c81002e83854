"""Pages: self-contained, without a script, with nothing from the network.

What a page shows may come from anyone. The template engine escapes all of it, after what
is not printable was made visible; and the page tells the browser to run and load nothing at
all. Its style is that of the class igjax alone, so that in a notebook it changes nothing
around it.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from igjax.plots import _scale
from igjax.plots._sentence import Run, Sentence, shortened, visible

STRONGEST = 0.6  # opacity of the full color: text in either theme stays legible on it
LISTED = 12


class Page(str):
    """A page that a notebook shows as the last value of a cell."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        """Its style and its body, as a part of another page."""
        style = self[self.index("<style>") : self.index("</head>")]
        body = self[self.index("<body") + len("<body") : self.index("</body>")]
        return f"{style}<div{body}</div>"


class Bar(NamedTuple):
    """A row of a table of the largest values."""

    name: str
    told: str
    value: str
    error: str
    style: str


class Words(NamedTuple):
    """A sentence with the color of each word and what is told of it when it is hovered."""

    groups: list[list[Run]]
    unknown: np.ndarray
    colors: list[str]
    hints: list[str]
    legend: dict[str, str]


class Cell(NamedTuple):
    """A cell of a grid: its color, what is told where it is hovered, its number."""

    color: str
    hint: str
    told: str


def page(
    caller: str,
    title: str,
    *,
    words: Words | None = None,
    grid: dict[str, Any] | None = None,
    picture: str | None = None,
    bars: dict[str, Any] | None = None,
    tables: Sequence[Sequence[Sequence[str]]] = (),
    notes: Sequence[str] = (),
) -> Page:
    """Fills in the template with what is given; tables are rows, the first one a head.

    Raises:
        ImportError: if jinja2 is not installed.
    """
    parts = {
        "words": words,
        "grid": grid,
        "picture": picture,
        "bars": bars,
        "tables": tables,
    }
    return Page(_template(caller).render(title=title, notes=notes, **parts))


def words(s: Sentence, negative: str, positive: str) -> Words:
    """What a page shows of a sentence."""
    shares = [_scale.share(value, s.limit) for value in s.values]
    amounts = [_scale.number(value, s.limit, digits=4) for value in s.values]
    hints = [f"{a} {error_of(s.errors, i)}".strip() for i, a in enumerate(amounts)]
    told = [
        "unknown: exactly 0" if unknown else _scale.typeset(hint)
        for unknown, hint in zip(s.unknown, hints, strict=True)
    ]
    colors = [background(share) for share in shares]
    return Words(s.groups, s.unknown, colors, told, legend(s.limit, negative, positive))


def bars(names: Sequence[str], told: Sequence[str], values, errors, kind: str, column: str):
    """The table of the largest values, with their errors and a bar."""
    limit, count = _scale.limit(values), len(values)
    order = [int(i) for i in _scale.by_size(values)[:LISTED]]
    rows = [
        Bar(
            shortened(visible(names[i]), 40),
            told[i],
            _scale.number(values[i], limit, digits=4),
            error_of(errors, i),
            _style(_scale.share(values[i], limit)),
        )
        for i in order
    ]
    capital = kind.capitalize()
    head = (
        f"{capital} by size" if count <= LISTED else f"{LISTED} largest of {count} {kind}"
    )
    return {"head": head, "column": column, "rows": rows}


def word_bars(s: Sentence):
    """The table of the largest words of a sentence, with their places."""
    places = [str(place + 1) for place in range(len(s.words))]
    return bars(s.words, places, s.values, s.errors, "words", "place")


def error_of(errors: np.ndarray | None, place: int) -> str:
    """An error as it stands behind its value."""
    return "" if errors is None else f"± {_scale.size(errors[place])}"


def background(share: float, strongest: float = STRONGEST) -> str:
    """The color of a value, from none to the full one."""
    red, green, blue = _scale.POSITIVE if share > 0 else _scale.NEGATIVE
    return f"rgba({red},{green},{blue},{strongest * abs(share):.3f})"


def legend(limit: float, negative: str, positive: str) -> dict[str, str]:
    """What the colors mean."""
    shades = ",".join(background(share) for share in (-1.0, -0.5, 0.0, 0.5, 1.0))
    low, high = (_scale.typeset(_scale.number(end, limit)) for end in (-limit, limit))
    ramp = f"linear-gradient(90deg,{shades})"
    return {
        "negative": negative,
        "low": low,
        "ramp": ramp,
        "high": high,
        "positive": positive,
    }


def _style(share: float) -> str:
    start = 50 + 50 * min(share, 0)
    color = background(math.copysign(1, share), 0.8)
    return f"margin-left:{start:.1f}%;width:{50 * abs(share):.1f}%;background:{color}"


@functools.cache
def _template(caller: str):
    try:
        import jinja2
    except ImportError as error:
        raise ImportError(
            f'{caller} needs jinja2. Install it: pip install "igjax[plots]"'
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("igjax.plots"),
        autoescape=True,
        finalize=lambda a: visible(str(a)),  # also of what says that it is safe
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["typeset"] = lambda text: _scale.typeset(str(text))
    return environment.get_template("page.html")
