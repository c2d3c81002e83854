"""A sentence as one self-contained page: no script, nothing from the network.

The text to be explained may come from anyone. Every piece of it is escaped, and the page
tells the browser to run and load nothing at all. Its style is that of the class igjax
alone, so that in a notebook it changes nothing around it.
"""

import math
from collections.abc import Iterable, Sequence
from html import escape

from igjax.plots import _scale
from igjax.plots._sentence import Run, Sentence, sentence, shortened, visible

STRONGEST = 0.6  # opacity of the full color: text in either theme stays legible on it
LISTED = 12

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body.igjax {{ margin: 3rem auto; }}
.igjax {{
color-scheme: light dark; --ink: #1c2024; --soft: #60666d; --line: #e2e5e9;
--page: #ffffff;
@media (prefers-color-scheme: dark) {{
--ink: #e9ebee; --soft: #9ba3ac; --line: #33383f; --page: #15181c; }}
max-width: 46rem; padding: .5rem 1.5rem; background: var(--page); color: var(--ink);
font: 16px/1.55 system-ui, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif;
h1 {{ font-size: 1.15rem; font-weight: 600; margin: 0 0 1.4rem; }}
.text {{ font-size: 1.35rem; line-height: 2; margin: 0; overflow-wrap: anywhere; }}
.word {{ padding: .14em .22em; border-radius: .25em;
 -webkit-box-decoration-break: clone; box-decoration-break: clone; }}
.unknown {{ color: var(--soft); font-style: italic;
 text-decoration: underline dotted; text-underline-offset: .25em; }}
.legend {{ color: var(--soft); font-size: .85rem; margin: 1rem 0 0; }}
.ramp {{ display: inline-block; width: 9rem; height: .7em; border-radius: .2em;
 margin: 0 .5em; vertical-align: -.05em; }}
table {{ margin-top: 2rem; border-collapse: collapse; width: 100%; font-size: .92rem;
 font-variant-numeric: tabular-nums; }}
th, td {{ padding: .28rem .7rem; text-align: right; border-top: 1px solid var(--line);
 font-weight: normal; white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; padding-left: 0; white-space: normal; }}
th:last-child, td:last-child {{ padding-right: 0; }}
thead th {{ color: var(--soft); font-size: .85rem; border-top: 0;
 padding-bottom: .45rem; }}
thead th:first-child {{ color: var(--ink); font-size: .95rem; font-weight: 600; }}
.error {{ text-align: left; padding-left: 0; color: var(--soft); }}
.bars {{ width: 40%; }}
.bar {{ height: .8em; border-radius: .15em; }}
.notes {{ color: var(--soft); font-size: .88rem; margin-top: 1.6rem; }}
.notes p {{ margin: .35rem 0; overflow-wrap: anywhere; }}
}}
</style>
</head>
<body class="igjax tex2jax_ignore mathjax_ignore">
<h1>{title}</h1>
<p class="text">{text}</p>
<p class="legend">{legend}</p>
{words}
{certificate}
<div class="notes">{notes}</div>
</body>
</html>
"""


class Page(str):
    """A page that a notebook shows as the last value of a cell."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        """Its style and its body, as a part of another page."""
        style = self[self.index("<style>") : self.index("</head>")]
        body = self[self.index("<body") + len("<body") : self.index("</body>")]
        return f"{style}<div{body}</div>"


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
        TypeError: if words is one string.
        ValueError: if a length or shape does not fit.

    Example:
        >>> import igjax.plots
        >>> page = igjax.plots.text.html(["<script>", "fun"], [0.0, 1.0])
        >>> "&lt;script&gt;" in page
        True
    """
    s = sentence("html", words, values, errors, between, unknown)
    page = PAGE.format(
        title=escape(_scale.typeset(visible(title))),
        text=" ".join("".join(_run(s, run) for run in group) for group in s.groups),
        legend=_legend(s, *sides),
        words=_words(s),
        certificate=_certificate(certificate),
        notes="".join(f"<p>{escape(visible(note))}</p>" for note in notes),
    )
    return Page(page)


def _run(s: Sentence, run: Run) -> str:
    if run.place is None:
        return escape(run.text)
    color = _background(_scale.share(s.values[run.place], s.limit))
    hint = "unknown: exactly 0" if s.unknown[run.place] else _amount(s, run.place)
    kind = "word unknown" if s.unknown[run.place] else "word"
    return (
        f'<span class="{kind}" style="background:{color}" title="{hint}">'
        f"{escape(run.text)}</span>"
    )


def _background(share: float, strongest: float = STRONGEST) -> str:
    red, green, blue = _scale.POSITIVE if share > 0 else _scale.NEGATIVE
    return f"rgba({red},{green},{blue},{strongest * abs(share):.3f})"


def _amount(s: Sentence, place: int) -> str:
    return f"{_value(s, place)} {_error(s, place)}".strip()


def _value(s: Sentence, place: int) -> str:
    return _scale.typeset(_scale.number(s.values[place], s.limit, digits=4))


def _error(s: Sentence, place: int) -> str:
    return "" if s.errors is None else f"± {_scale.typeset(_scale.size(s.errors[place]))}"


def _legend(s: Sentence, negative: str, positive: str) -> str:
    shades = ",".join(_background(share) for share in (-1.0, -0.5, 0.0, 0.5, 1.0))
    ends = [_scale.typeset(_scale.number(end, s.limit)) for end in (-s.limit, s.limit)]
    return (
        f"{escape(visible(negative))} {ends[0]}"
        f'<span class="ramp" style="background:linear-gradient(90deg,{shades})"></span>'
        f"{ends[1]} {escape(visible(positive))}"
    )


def _words(s: Sentence) -> str:
    order = _scale.by_size(s.values)[:LISTED]
    count = len(s.words)
    head = "Words by size" if count <= LISTED else f"{LISTED} largest of {count} words"
    body = "".join(_word(s, int(place)) for place in order)
    return (
        f"<table><thead><tr><th>{head}</th><th>place</th><th>value</th>"
        '<th class="error"></th><th class="bars"></th></tr></thead>\n'
        f"<tbody>{body}</tbody></table>"
    )


def _word(s: Sentence, place: int) -> str:
    share = _scale.share(s.values[place], s.limit)
    start = 50 + 50 * min(share, 0)
    bar = (
        f'<div class="bar" style="margin-left:{start:.1f}%;width:{50 * abs(share):.1f}%;'
        f'background:{_background(math.copysign(1, share), 0.8)}"></div>'
    )
    return (
        f"<tr><td>{escape(shortened(s.words[place], 40))}</td><td>{place + 1}</td>"
        f'<td>{_value(s, place)}</td><td class="error">{_error(s, place)}</td>'
        f'<td class="bars">{bar}</td></tr>'
    )


def _certificate(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    head, *body = rows
    return (
        f"<table><thead>{_row('th', head)}</thead>\n"
        f"<tbody>{''.join(_row('td', row) for row in body)}</tbody></table>"
    )


def _row(tag: str, cells: Iterable[str]) -> str:
    inner = "".join(
        f"<{tag}>{escape(_scale.typeset(visible(cell)))}</{tag}>" for cell in cells
    )
    return f"<tr>{inner}</tr>"
