"""What `python -m igjax` tells of an explanation: in a terminal, a page and a picture.

All three show the same certificate, made here once.
"""

import io
import math
import textwrap
from typing import NamedTuple

import numpy as np

import igjax
from igjax.plots import _figures, _listing, _scale, text
from igjax.plots._sentence import shortened, visible

LISTED = 10
SIDES = ("criticism", "praise")


class Explanation(NamedTuple):
    """Words of a text with their values, and the results that they came from."""

    words: list[str]
    between: list[str]
    unknown: list[bool]
    values: np.ndarray
    errors: np.ndarray
    result: igjax.Attribution
    fixed: igjax.Attribution
    left_out: int


def by_word(values) -> np.ndarray:
    """The values of words from those of their embeddings: the sum stays complete."""
    return np.asarray(values, np.float64).sum(axis=-1)


def terminal(e: Explanation, color: bool, width: int) -> str:
    """The explanation as a person reads it in a terminal."""
    write = text.ansi if color else text.plain
    parts = [
        write(e.words, e.values, between=e.between, unknown=e.unknown, width=width - 4),
        _listing.legend(_scale.limit(e.values), SIDES, color),
        _verdict(e),
        _listing.largest(e.words, e.values, e.errors, LISTED, color),
        _listing.aligned(certificate(e)),
        "\n".join(line for note in notes(e) for line in textwrap.wrap(note, width - 4)),
    ]
    return "\n\n".join(textwrap.indent(part, "  ") for part in parts)


def _verdict(e: Explanation) -> str:
    score = float(e.result.score)
    side = SIDES[score > 0]
    probability = 1 / (1 + math.exp(-abs(score)))
    return f"The model reads {side}: score {score:+.3f}, probability {probability:.2f}."


def certificate(e: Explanation) -> list[tuple[str, str, str]]:
    """What is known about the values, beside what 50 fixed steps would have said."""
    both = (e.result, e.fixed)
    change = np.abs(by_word(e.fixed.values) - e.values)
    row = lambda name, show: (name, *map(show, both))
    total = lambda tree: by_word(tree).sum()
    return [
        ("Certificate", "this result", "50 fixed steps"),
        row("score of the text", lambda r: f"{r.score:+.5f}"),
        row("score of the baseline", lambda r: f"{r.baseline_score:+.5f}"),
        row("sum of the values", lambda r: f"{total(r.values):+.5f}"),
        row("gap", lambda r: f"{r.delta:+.5f}"),
        row("estimated error, all words", lambda r: f"{total(r.error):.5f}"),
        row("gradient evaluations", lambda r: f"{r.evaluations}"),
        ("largest difference for a word", "", f"{change.max():.5f}"),
        row("converged", lambda r: "yes" if r.converged else "no"),
    ]


def notes(e: Explanation) -> list[str]:
    """What to know when reading the numbers."""
    status = igjax.Status(int(e.result.status)).meaning
    told = [f"This result: {status}."]
    told.append("Baseline: as many words that the model does not know.")
    unknown = sorted({w for w, hidden in zip(e.words, e.unknown, strict=True) if hidden})
    if unknown:
        more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
        shown = ", ".join(shortened(visible(word), 24) for word in unknown[:8])
        told.append(f"Unknown to the model, so exactly 0: {shown}{more}.")
    if e.left_out:
        told.append(
            f"The model reads the last {len(e.words)} words; the first {e.left_out} were "
            "left out."
        )
    return told


def page(e: Explanation) -> bytes:
    """The explanation as an HTML file."""
    return text.html(
        e.words,
        e.values,
        e.errors,
        between=e.between,
        unknown=e.unknown,
        sides=SIDES,
        title=_verdict(e),
        certificate=certificate(e),
        notes=notes(e),
    ).encode()


def picture(e: Explanation) -> bytes:
    """The explanation as a PNG file."""
    axes = text.tokens(
        e.words, e.values, e.errors, between=e.between, unknown=e.unknown, sides=SIDES
    )
    r = e.result
    total = lambda tree: by_word(tree).sum()
    told = (
        f"sum of the values {total(r.values):+.4f}, score {float(r.score):+.4f}, baseline "
        f"{float(r.baseline_score):+.4f}, gap {float(r.delta):+.5f}\n"
        f"estimated error, all words {total(r.error):.2g}, {int(r.evaluations)} gradients: "
        f"{igjax.Status(int(r.status)).meaning}"
    )
    height = axes.get_ylim()[0]
    axes.text(14, -4, _scale.typeset(_verdict(e)), fontsize=10, color="0.1")
    axes.text(
        14,
        height,
        _scale.typeset(told),
        fontsize=7.5,
        color="0.35",
        va="top",
        linespacing=1.5,
    )
    content = io.BytesIO()
    _figures.figure_of(axes).savefig(
        content, format="png", dpi=200, bbox_inches="tight", pad_inches=0.15
    )
    return content.getvalue()
