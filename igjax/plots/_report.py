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
    """Words of a text with their values, and the results that they came from.

    Attributes:
        text: all of it.
        words: those that the model reads: the last ones of the text.
        starts: where they start in the text.
        unknown: which of them the model does not know.
        values: of the words, of shape (T,).
        errors: of the values.
        result: what the values came from, at the embeddings; padding follows, all 0.
        fixed: the same by 50 fixed steps, or None.
        tolerance: what the errors of all words may be, over their sizes.
        asked: what was asked for at the embeddings, so that this holds.
        left_out: how many words stand before those that the model reads.
    """

    text: str
    words: list[str]
    starts: list[int]
    unknown: list[bool]
    values: np.ndarray
    errors: np.ndarray
    result: igjax.Attribution
    fixed: igjax.Attribution | None
    tolerance: float
    asked: float
    left_out: int

    @property
    def between(self) -> list[str]:
        """The text before, between and after the words."""
        ends = [start + len(w) for w, start in zip(self.words, self.starts, strict=True)]
        first = self.starts[0] if self.left_out else 0
        gaps = zip([first, *ends], [*self.starts, len(self.text)], strict=True)
        return [self.text[a:b] for a, b in gaps]


def by_word(values) -> np.ndarray:
    """The values of words from those of their embeddings: the sum stays complete."""
    return np.asarray(values, np.float64).sum(axis=-1)


def share_of_words(result: igjax.Attribution) -> float:
    """The errors of all words, or the gap if that is more, over the sizes of their values.

    Infinite if the words have no size, but errors.
    """
    size, error = np.abs(by_word(result.values)).sum(), by_word(result.error).sum()
    doubt = max(error, abs(float(result.delta)))
    return float(doubt / size) if size else math.inf if doubt else 0.0


def terminal(e: Explanation, color: bool, width: int) -> str:
    """The explanation as a person reads it in a terminal."""
    parts = [
        _words(e, color, width),
        _listing.legend(_scale.limit(e.values), SIDES, color),
        _verdict(e),
        _listing.largest(e.words, e.values, e.errors, LISTED, color, width - 4),
        _listing.aligned(certificate(e), width - 4),
        "\n".join(line for note in notes(e) for line in textwrap.wrap(note, width - 4)),
    ]
    return "\n\n".join(textwrap.indent(part, "  ") for part in parts)


def brief(e: Explanation, line: int, color: bool, width: int) -> str:
    """The explanation as one of many: the number of its line, the score, the words."""
    score = float(e.result.score)
    told = [f"Line {line}: {SIDES[score > 0]}, score {score:+.3f}"]
    if not e.result.converged:
        told.append(meaning(e.result))
    return f"{'; '.join(told)}\n{textwrap.indent(_words(e, color, width), '  ')}"


def _words(e: Explanation, color: bool, width: int) -> str:
    write = text.ansi if color else text.plain
    return write(e.words, e.values, between=e.between, unknown=e.unknown, width=width - 4)


def meaning(result: igjax.Attribution) -> str:
    """The status of a result in words."""
    return igjax.Status(int(result.status)).meaning


def _verdict(e: Explanation) -> str:
    score = float(e.result.score)
    side = SIDES[score > 0]
    probability = 1 / (1 + math.exp(-abs(score)))
    return f"The model reads {side}: score {score:+.3f}, probability {probability:.2f}."


def certificate(e: Explanation) -> list[tuple[str, ...]]:
    """What is known about the values, beside what 50 fixed steps would have said."""
    results = [r for r in (e.result, e.fixed) if r is not None]
    row = lambda name, show: (name, *map(show, results))
    rows = [
        ("Certificate", "this result", "50 fixed steps")[: 1 + len(results)],
        row("score of the text", lambda r: f"{r.score:+.5f}"),
        row("score of the baseline", lambda r: f"{r.baseline_score:+.5f}"),
        row("sum of the values", lambda r: f"{_total(r.values):+.5f}"),
        row("gap", lambda r: f"{r.delta:+.5f}"),
        row("estimated error, all words", lambda r: f"{_total(r.error):.5f}"),
        row("as a part of their sizes", lambda r: f"{100 * share_of_words(r):.2f}%"),
        row("gradient evaluations", lambda r: f"{r.evaluations}"),
        row("converged", lambda r: "yes" if r.converged else "no"),
    ]
    if e.fixed is not None:
        changes = np.abs(by_word(e.fixed.values) - by_word(e.result.values))
        rows.insert(-1, ("largest difference for a word", "", f"{changes.max():.5f}"))
    return rows


def _total(values) -> float:
    return by_word(values).sum()


def notes(e: Explanation) -> list[str]:
    """What to know when reading the numbers."""
    told = [
        f"This result: {meaning(e.result)}.",
        f"Tolerance: {e.tolerance:g}, all errors over all sizes, of the words as they are "
        f"shown. {_held(e)}",
        "Baseline: as many words that the model does not know.",
    ]
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


def _held(e: Explanation) -> str:
    """Whether the tolerance holds for the words, and what it took."""
    share = f"{100 * share_of_words(e.result):.2g}%"
    if not e.result.converged:
        return f"It was not met: theirs are {share}."
    asked = f", for which {e.asked:.2g} was asked at the embeddings" * (
        e.asked < e.tolerance
    )
    return f"It is met: theirs are {share}{asked}."


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
    told = (
        f"sum of the values {_total(r.values):+.4f}, score {float(r.score):+.4f}, baseline "
        f"{float(r.baseline_score):+.4f}, gap {float(r.delta):+.5f}\n"
        f"estimated error, all words {_total(r.error):.2g}, {int(r.evaluations)} "
        f"gradients: {meaning(r)}"
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
