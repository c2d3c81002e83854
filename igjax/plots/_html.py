"""A sentence as one self-contained page: no script, nothing from the network."""

from collections.abc import Sequence

from igjax.plots import _page
from igjax.plots._sentence import sentence


def html(
    words: Sequence[str],
    values,
    errors=None,
    *,
    between: Sequence[str] | None = None,
    unknown: Sequence[bool] | None = None,
    sides: tuple[str, str] = ("lower score", "higher score"),
    title: str = "Attribution of the score to the words",
    certificate: Sequence[Sequence[str]] = (),
    notes: Sequence[str] = (),
) -> str:
    """Writes a page with the colored sentence, its strongest words and a certificate.

    Use it to keep or to send an explanation. The page is self-contained, follows the
    light or dark theme, and shows every text that it is given, never obeys it.

    Args:
        words: at least one.
        values: a number for each word, of shape (T,).
        errors: their errors, of shape (T,). Default: none are shown.
        between: the text before, between and after the words, one more than there are
            words. Default: spaces.
        unknown: True for words that the model does not know; they are dotted.
        sides: what negative and positive values mean.
        title: of the page.
        certificate: rows of a table, the first one its head.
        notes: paragraphs below it.

    Returns:
        The page; write it with `encoding="utf-8"`. As the last value of a notebook's cell
        it is shown there.

    Raises:
        ImportError: if jinja2 is not installed.
        TypeError: if words is one string.
        ValueError: if a length or shape does not fit.

    Example:
        >>> import igjax.plots
        >>> page = igjax.plots.text.html(["<script>", "fun"], [0.0, 1.0])
        >>> "&lt;script&gt;" in page
        True
    """
    s = sentence("html", words, values, errors, between, unknown)
    return _page.page(
        "html",
        title,
        words=_page.words(s, *sides),
        bars=_page.word_bars(s),
        tables=[certificate] if certificate else [],
        notes=notes,
    )
