"""Pictures of results: legible, symmetric, and never obeying the text that they show."""

import base64
import dataclasses
import io
import pickle
import re
import struct
import subprocess
import sys
from html.parser import HTMLParser
from typing import Any

import jax
import jax.numpy as jnp
import markupsafe
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import FancyBboxPatch

import igjax
from igjax.plots import _listing, _page, _scale, features, images, pages, signals, text
from igjax.plots._sentence import columns, visible

# Any text at all, surrogates included: the command line may bring them.
ANY_TEXT = st.text(st.characters(exclude_categories=()))
WORDS = ["A", "wonderful", "film", "zorblatt", "long"]
VALUES = [0.2, 2.9, 0.44, 0.0, -0.76]
ERRORS = [0.02, 0.047, 0.033, 0.0, 0.035]
BETWEEN = ["", " ", " ", ", ", " ", "."]
UNKNOWN = [False, False, False, True, False]
FUNCTIONS = [text.plain, text.ansi, text.html, text.tokens]


class Page(HTMLParser):
    """Collects tags, attributes and the text of words from a page."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.words, self.hints, self.heads, self.meta = [], [], [], [], []
        self.paragraphs, self.cells, self.open = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attributes = dict(attrs)
        if tag in ("meta", "img"):
            self.meta.append(attributes)
            return
        self.open.append(tag)
        sinks = {"h1": self.heads, "p": self.paragraphs, "td": self.cells}
        if "word" in (attributes.get("class") or "").split():
            self.words.append("")
            self.hints.append(attributes["title"])
        elif tag in sinks:
            sinks[tag].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        sinks = {"span": self.words, "h1": self.heads, "td": self.cells}
        sink = sinks.get(self.open[-1] if self.open else "", self.paragraphs)
        if sink:
            sink[-1] += data


def png(axes):
    content = io.BytesIO()
    axes.figure.savefig(content, format="png")
    return content.getvalue()


def contrast(one, other):
    """The contrast of two sRGB colors in [0, 1], as WCAG 2.1 defines it."""

    def luminance(color):
        c = np.array(color)
        linear = np.where(c <= 0.03928, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def attributed(f, x, baseline=None):
    rule = igjax.rules.gauss_legendre(3)
    start = igjax.baselines.zeros(x) if baseline is None else baseline
    return igjax.integrated_gradients(f, rule=rule)(x, start)


# Text: what is shown is never obeyed.


@given(ANY_TEXT)
def test_visible_text_is_printable_and_printable_text_is_unchanged(any_text):
    shown = visible(any_text)
    assert shown.isprintable()
    assert shown == any_text or not any_text.isprintable()


@settings(max_examples=60)
@given(ANY_TEXT, ANY_TEXT)
def test_any_word_round_trips_through_the_page_and_makes_no_tag(word, other):
    page = Page(text.html([word, other], [1.0, -1.0]))
    assert page.words == [visible(word), visible(other)]
    assert page.tags == Page(text.html(["one", "two"], [1.0, -1.0])).tags
    assert not page.open


@settings(max_examples=60)
@given(ANY_TEXT)
def test_title_sides_certificate_and_notes_make_no_tag(any_text):
    def page(shown):
        return Page(
            text.html(
                ["fun"],
                [1.0],
                [0.1],
                between=[f"({shown}", ")"],
                sides=(shown, shown),
                title=shown,
                certificate=[("head", shown), (shown, "cell")],
                notes=[shown],
            )
        )

    got = page(any_text)
    assert got.tags == page("plain").tags
    assert got.words[0].startswith("fun")
    assert got.cells[-1] == "cell"
    if not re.search(r"-\d", any_text):  # a minus before a digit is typeset
        assert got.heads == [visible(any_text)]
        assert got.cells[-2] == visible(any_text)
        assert got.paragraphs[-1].strip() == visible(any_text).strip()


def test_page_forbids_scripts_and_the_network():
    page = Page(text.html(["<script>alert(1)</script>"], [1.0]))
    policy = [m["content"] for m in page.meta if "http-equiv" in m]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]
    assert not {"script", "link", "img", "iframe", "a"} & set(page.tags)
    assert page.words == ["<script>alert(1)</script>"]


def test_a_text_in_any_place_of_a_report_is_shown_and_never_obeyed():
    bad = "</td><script>alert(1)</script>\u202eevil\x1b[31m"
    row = np.array([1.0, -2.0])
    page = pages.report(
        attributed(jnp.sum, row),
        picture=features.bars(attributed(jnp.sum, row)),
        names=[bad, "plain"],
        x=np.array([bad, "b"]),
        **dict.fromkeys(["method", "rule", "path", "baseline", "title"], bad),
        notes=[bad],
    )
    words = pages.report(attributed(jnp.sum, row), words=[bad, "plain"], title=bad)
    for shown, count in ((Page(page), 6), (Page(words), 2)):
        assert not {"script", "link", "iframe", "a"} & set(shown.tags)
        told = [*shown.heads, *shown.words, *shown.cells, *shown.paragraphs]
        assert (
            sum("<script>alert(1)</script>\\u202eevil\\x1b[31m" in t for t in told) >= count
        )
    safe = markupsafe.Markup(bad)  # what says that it is safe is shown as well
    marked = text.html(["fun"], [1.0], sides=(safe, safe), notes=[safe, np.str_(bad)])
    for sign in ("<script", "\u202e", "\x1b"):
        assert sign not in page + words + marked
    policy = [m["content"] for m in Page(page).meta if "http-equiv" in m]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def facts(page):
    """The tables of two columns of a report."""
    cells = Page(page).cells
    start = cells.index("score")
    return dict(zip(cells[start::2], cells[start + 1 :: 2], strict=False))


def test_a_report_has_what_the_result_says_and_what_made_it():
    row, rule = np.array([3.0, 1.5, -1.0]), igjax.rules.gauss_legendre(8)
    result = igjax.integrated_gradients(jnp.prod, rule=rule)(row, 0.0)
    page = pages.report(
        result,
        names=["age", "income", "height"],
        x=row,
        method=igjax.integrated_gradients,
        rule=rule,
        path=igjax.paths.straight,
        baseline=0.0,
        notes=["A product."],
    )
    told = facts(page)
    lines, advice = igjax.diagnostics.certificate(result)
    typeset = {name: _scale.typeset(line) for name, line in lines.items()}
    assert told.items() >= typeset.items()
    assert told["method"] == "integrated_gradients"
    assert told["rule"] == "gauss_legendre(8)"
    assert (told["path"], told["baseline"]) == ("straight", "0.0")
    assert told["jax"] == jax.__version__
    assert told["igjax"] == igjax.__version__
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", told["date"])
    assert [Page(page).cells[i] for i in (0, 5, 10)] == ["age", "income", "height"]
    assert Page(page).cells[10:14] == [
        "height",
        "\N{MINUS SIGN}1",
        _scale.typeset(_scale.number(float(result.values[2]), 1.5, digits=4)),
        f"± {_scale.size(float(result.error[2]))}",
    ]
    for note in (advice, "A product."):
        assert any(note in paragraph for paragraph in Page(page).paragraphs)
    saved = {"method": "DeepLIFT", "rule": None}
    assert facts(pages.report(result, **saved))["method"] == "DeepLIFT"
    assert "rule" not in facts(pages.report(result, **saved))
    rows = pages.report(result, baseline=np.zeros((20, 3)))
    assert facts(rows)["baseline"] == "float64[20, 3]"


def test_a_report_of_a_text_adds_up_what_embeds_its_words():
    x = np.array([[1.0, 2.0], [-4.0, 0.0], [0.0, 0.5]])
    page = Page(pages.report(attributed(jnp.sum, x), words=["a", "dull", "film"]))
    assert page.words == ["a", "dull", "film"]
    assert [hint.partition(" ")[0] for hint in page.hints] == [
        "+3.000",
        "\N{MINUS SIGN}4.000",
        "+0.500",
    ]
    assert page.cells[:2] == ["dull", "2"]
    # The certificate is that of the words: what cancels in one of them counts no more.
    rule = igjax.rules.midpoint(3)
    f = lambda x: (x**3 * np.array([[1.0, -0.9]])).sum()
    result = igjax.integrated_gradients(f, rule=rule)(np.ones((2, 2)), 0.0)
    error = np.asarray(result.error).sum()
    size = np.abs(np.asarray(result.values).sum(1)).sum()
    told = facts(pages.report(result, words=["a", "b"]))["estimated error"]
    assert told == f"{error:.2g} ({100 * error / size:.2f}% of the attribution)"


@pytest.mark.parametrize("kind", ["axes", "list", "figure"])
def test_a_report_holds_the_picture_it_is_given(kind):
    result = attributed(jnp.sum, np.ones(4))
    axes = signals.series(result, np.ones(4))
    given = {"axes": axes, "list": [axes], "figure": axes.figure}[kind]
    page = pages.report(result, picture=given)
    (encoded,) = re.findall(r'<img src="data:image/png;base64,([^"]+)"', page)
    assert imread(io.BytesIO(base64.b64decode(encoded))).ndim == 3
    assert "img" not in Page(pages.report(result)).tags


@pytest.mark.parametrize("status", igjax.Status)
@pytest.mark.parametrize("values", [[np.nan, np.inf, 1.0], [0.0, 0.0, 0.0]])
def test_a_report_of_any_result_is_a_page(values, status):
    strange = dataclasses.replace(
        attributed(jnp.sum, np.ones(3)),
        values=jnp.array(values),
        error=jnp.array([np.inf, np.nan, 0.0]),
        status=jnp.int32(status),
    )
    page = pages.report(strange)
    assert status.meaning in page
    assert page.count("<tr>") > 10


def test_a_report_of_a_tree_names_its_places():
    x = {"age": jnp.float32(3), "color": jnp.array([2.0, 0.0])}
    result = attributed(lambda x: x["age"] + x["color"].sum(), x)
    page = Page(pages.report(result, x=x))
    assert page.cells[0:2] == ["age", "3"]
    assert page.cells[5:7] == ["color[0]", "2"]


def test_a_report_refuses_what_is_not_one_result_or_no_picture():
    result = attributed(jnp.sum, np.ones(2))
    batch = jax.tree.map(lambda a: jnp.stack([a, a]), result)
    with pytest.raises(ValueError, match=r"report: .*Use result\.example\(i\)"):
        pages.report(batch)
    with pytest.raises(TypeError, match=r"report: picture must be axes.*got str"):
        pages.report(result, picture="picture.png")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="a number for each of 3 words"):
        pages.report(result, words=["a", "b", "c"])


def test_page_shows_values_errors_and_unknown_words():
    page = Page(text.html(WORDS, VALUES, ERRORS, between=BETWEEN, unknown=UNKNOWN))
    assert page.hints == [
        "+0.200 ± 0.020",
        "+2.900 ± 0.047",
        "+0.440 ± 0.033",
        "unknown: exactly 0",
        "\N{MINUS SIGN}0.760 ± 0.035",
    ]
    rows = [page.cells[i : i + 4] for i in range(0, len(page.cells), 5)]
    assert [row[0] for row in rows] == ["wonderful", "long", "film", "A", "zorblatt"]
    assert rows[0] == ["wonderful", "2", "+2.900", "± 0.047"]


@pytest.mark.parametrize("write", [text.plain, text.ansi])
@given(words=st.lists(ANY_TEXT, min_size=1, max_size=4), between=ANY_TEXT)
def test_no_word_reaches_a_terminal_with_control_characters(write, words, between):
    gaps = [between] * (len(words) + 1)
    shown = write(words, np.linspace(-1, 1, len(words)), between=gaps)
    own = re.compile(r"\x1b\[[0-9;]*m")
    assert own.sub("", shown).replace("\n", "").isprintable()


def test_formulas_in_a_page_are_not_set_by_the_page_around_it():
    shown = text.html([r"$\href{javascript:1}{x}$"], [1.0])._repr_html_()  # type: ignore[attr-defined]
    assert '<div class="igjax tex2jax_ignore mathjax_ignore">' in shown


def test_what_is_no_number_is_listed_before_all():
    listed = _scale.by_size(np.array([0.1, np.nan, -3.0, 2.0]))
    np.testing.assert_array_equal(listed, [1, 2, 3, 0])


def test_escape_sequences_and_reversed_text_are_shown_as_escapes():
    words = ["\x1b[31mred", "\u202eevil", "tab\there"]
    assert text.plain(words, [1.0, 0.0, 0.0]) == (
        r"\x1b[31mred[+1.00] \u202eevil[0] tab\there[0]"
    )


# Text in a terminal.


def test_plain_text_has_a_signed_number_after_each_word():
    shown = text.plain(WORDS, VALUES, between=BETWEEN, unknown=UNKNOWN)
    assert shown == "A[+0.20] wonderful[+2.90] film[+0.44], zorblatt?[0] long[-0.76]."


def test_colors_follow_sign_and_size():
    shown = text.ansi(["a", "b", "c", "d"], [4.0, -4.0, 2.0, 0.1])
    strong, against, middle, none = shown.split(" ")
    assert strong == "\x1b[1;48;5;26;38;5;231ma\x1b[0m"
    assert against == "\x1b[1;48;5;166;38;5;231mb\x1b[0m"
    assert middle == "\x1b[48;5;110;38;5;16mc\x1b[0m"
    assert none == "d"


def test_unknown_words_are_faint_and_slanted():
    assert text.ansi(["x", "y"], [1.0, 0.0], unknown=[False, True]).endswith(
        "\x1b[2;3my\x1b[0m"
    )


@pytest.mark.parametrize("write", [text.plain, text.ansi])
def test_lines_break_between_words_only_and_keep_the_width(write):
    words = ["word"] * 40
    between = ["(", *[" "] * 39, ").\n"]
    shown = write(words, np.linspace(-1, 1, 40), between=between, width=30)
    bare = re.sub(r"\x1b\[[0-9;]*m|\[[^\]]*\]", "", shown)
    assert bare.split() == ["(word", *["word"] * 38, "word)."]
    for line in shown.split("\n"):
        assert columns(re.sub(r"\x1b\[[0-9;]*m", "", line)) <= 30


def test_text_without_spaces_breaks_between_words():
    shown = text.ansi(["word"] * 30, [0.0] * 30, between=["", *["/"] * 29, ""], width=20)
    assert max(map(len, shown.split("\n"))) <= 20
    assert shown.replace("\n", "") == "/".join(["word"] * 30)


def test_columns_counts_wide_and_combining_characters():
    assert columns("film") == 4
    assert columns("映画") == 4
    assert columns("e\u0301") == 1


def test_largest_words_are_listed_in_order_with_aligned_columns():
    listing = _listing.largest(WORDS, VALUES, ERRORS, most=3, color=False, width=80)
    head, *rows = listing.split("\n")
    assert [row.split()[:3] for row in rows] == [
        ["wonderful", "2", "+2.900"],
        ["long", "5", "-0.760"],
        ["film", "3", "+0.440"],
    ]
    assert len({row.index("±") for row in rows}) == 1
    assert head.split() == ["word", "place", "value", "error"]
    assert rows[0].endswith("+" * 24)


@pytest.mark.parametrize("color", [False, True])
def test_legend_names_both_sides(color):
    legend = _listing.legend(2.0, ("worse", "better"), color)
    assert "worse" in legend
    assert "better" in legend
    assert ("\x1b[" in legend) == color


# What all drawings of text refuse, and what they draw all the same.


@pytest.mark.parametrize("draw", FUNCTIONS)
def test_a_batch_is_refused_with_the_remedy(draw):
    with pytest.raises(ValueError, match=r"result\.example\(i\)"):
        draw(WORDS, np.zeros((3, 5)))


@pytest.mark.parametrize("draw", FUNCTIONS)
def test_misfits_are_refused(draw):
    with pytest.raises(TypeError, match="words must be a list of strings"):
        draw("A wonderful film", [1.0])
    with pytest.raises(ValueError, match="at least one word"):
        draw([], [])
    with pytest.raises(ValueError, match="between must hold 6 strings"):
        draw(WORDS, VALUES, between=["", ""])
    with pytest.raises(ValueError, match="unknown must hold a boolean for each of 5"):
        draw(WORDS, VALUES, unknown=[True])


@pytest.mark.parametrize("draw", [text.html, text.tokens])
def test_errors_must_fit_the_words(draw):
    with pytest.raises(ValueError, match="errors must hold a number for each of 5 words"):
        draw(WORDS, VALUES, [0.1])


STRANGE = {
    "zeros": [0.0, 0.0, 0.0],
    "equal": [2.0, 2.0, 2.0],
    "tiny": [1e-30, -1e-30, 0.0],
    "huge": [1e30, -1e20, 0.0],
    "non-finite": [np.nan, np.inf, -1.0],
}


@pytest.mark.parametrize("draw", FUNCTIONS)
@pytest.mark.parametrize("values", STRANGE.values(), ids=STRANGE)
def test_strange_values_are_drawn(draw, values):
    drawn = draw(["one", "two", "three"], values)
    shown = drawn if isinstance(drawn, str) else " ".join(t.get_text() for t in drawn.texts)
    for word in ("one", "two", "three"):
        assert word in shown
    if draw is text.tokens:
        assert png(drawn)


def test_values_that_are_not_finite_get_no_color_and_are_named():
    shown = text.ansi(["bad", "good"], [np.nan, 1.0])
    assert shown.startswith("bad ")
    assert text.plain(["bad", "good"], [np.nan, 1.0]) == "bad[+nan] good[+1.00]"


# One color scale.


@given(st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_scale_is_symmetric_and_reaches_the_largest_value(values):
    limit = _scale.limit(values)
    assert limit == max(map(abs, values)) or (limit == 1.0 and not any(values))
    scale = _scale.mappable(limit)
    assert scale.get_clim() == (-limit, limit)
    np.testing.assert_allclose(
        scale.to_rgba(np.zeros(1))[0, :3], (1.0, 1.0, 1.0), atol=1 / 255
    )


def test_ink_is_legible_on_every_color_of_the_scale():
    for color in _scale.mappable(1.0).to_rgba(np.linspace(-1, 1, 257)):
        assert contrast(color[:3], to_rgb(_scale.ink(color[:3]))) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_of_the_page_is_legible_on_the_strongest_color(theme):
    page = text.html(["fun"], [1.0])
    style = page[page.index("<style>") :]
    style = style if theme == "light" else style[style.index("dark)") :]
    color_of = lambda name: np.array(to_rgb(style.partition(f"--{name}: ")[2][:7]))
    ink, below = color_of("ink"), color_of("page")
    for color in (_scale.POSITIVE, _scale.NEGATIVE):
        strongest = np.array(color) / 255 * _page.STRONGEST + below * (1 - _page.STRONGEST)
        assert contrast(ink, strongest) >= 4.5


@pytest.mark.parametrize(
    ("value", "limit", "shown"),
    [
        (1.234, 2.9, "+1.23"),
        (-0.001, 2.9, "+0.00"),
        (0.0, 2.9, "0"),
        (-12.34, 99.0, "-12.3"),
        (1234.0, 5678.0, "+1234"),
        (1.5e-12, 2e-12, "+1.50e-12"),
    ],
)
def test_numbers_have_the_places_that_the_largest_value_needs(value, limit, shown):
    assert _scale.number(value, limit) == shown


@pytest.mark.parametrize(
    ("error", "shown"),
    [(0.0203, "0.020"), (0.0, "0"), (12.3, "12"), (456.0, "456"), (np.inf, "inf")],
)
def test_errors_have_two_digits(error, shown):
    assert _scale.size(error) == shown


# A sentence in a figure.


def boxes(axes):
    patches = [p for p in axes.patches if isinstance(p, FancyBboxPatch)]
    return np.array(
        [[p.get_x(), p.get_y(), p.get_width(), p.get_height()] for p in patches]
    )


@pytest.mark.parametrize("count", [*range(1, 13), 256])
def test_boxes_neither_overlap_nor_leave_the_figure(count):
    words = [f"{'w' * (i % 13)}{i}" for i in range(count)]
    axes = text.tokens(words, np.linspace(-1, 2, count), np.full(count, 0.01))
    left, top, width, height = boxes(axes).T
    assert len(left) == count
    assert min(left.min(), top.min()) > 0
    assert (left + width).max() < axes.get_xlim()[1]
    *words_and_numbers, left_label, _ = (t.get_position()[1] for t in axes.texts)
    assert max(words_and_numbers) < left_label - 10 < axes.get_ylim()[0]
    same_line = np.diff(top) == 0
    assert (left[1:] >= (left + width)[:-1])[same_line].all()
    assert (np.diff(top)[~same_line] > height[0]).all()


def test_words_and_numbers_fit_their_boxes():
    words = ["i", "wonderful", "W" * 20, "$x_1$", "g" * 60]
    axes = text.tokens(words, [0.1, 2.0, -1.0, 0.0, 0.5], [0.12345] * 5)
    assert png(axes)  # drawing settles the extents
    patches = [p for p in axes.patches if isinstance(p, FancyBboxPatch)]
    extents = [t.get_window_extent() for t in axes.texts]
    for place, patch in enumerate(patches):
        box = patch.get_window_extent()
        for extent in extents[3 * place : 3 * place + 3]:  # word, value, error
            assert box.x0 - 1 <= extent.x0
            assert extent.x1 <= box.x1 + 1


def test_sentence_has_a_symmetric_color_bar():
    axes = text.tokens(WORDS, VALUES, ERRORS, sides=("worse", "better"))
    (bar,) = axes.child_axes
    assert bar.get_xlim() == (-2.9, 2.9)
    shown = [t.get_text() for t in axes.texts]
    assert "worse \N{MINUS SIGN}2.90" in shown
    assert "+2.90 better" in shown


def test_words_are_drawn_as_they_are():
    words = ["$", "$x^2$", r"\alpha", "a_b", "\x1b[0m", "映画"]
    axes = text.tokens(words, np.arange(6.0))
    shown = [t.get_text() for t in axes.texts]
    assert shown[:10:2] == ["$", "$x^2$", r"\alpha", "a_b", r"\x1b[0m"]
    assert not any(t.get_parse_math() for t in axes.texts)
    assert png(axes)  # a missing glyph would warn, and warnings are errors


def test_unknown_words_have_a_dotted_frame():
    axes = text.tokens(WORDS, VALUES, unknown=UNKNOWN)
    styles = [p.get_linestyle() for p in axes.patches if isinstance(p, FancyBboxPatch)]
    assert [style == ":" for style in styles] == UNKNOWN


def test_sentence_shrinks_to_fit_the_axes_it_is_given():
    figure = Figure(figsize=(6, 3), layout="constrained")
    above, below = figure.subplots(2, 1)
    below.plot([0, 1])
    words = WORDS * 8
    assert text.tokens(words, VALUES * 8, ERRORS * 8, ax=above) is above
    left, top, width, height = boxes(above).T
    assert (left + width).max() <= above.get_xlim()[1]
    assert (top + height).max() <= above.get_ylim()[0]
    assert not boxes(below).size


def test_picture_of_a_sentence_has_a_sensible_size_and_is_not_blank():
    content = png(text.tokens(WORDS, VALUES, ERRORS))
    width, height = struct.unpack(">II", content[16:24])
    assert content.startswith(b"\x89PNG")
    assert 400 <= width <= 800
    assert 80 <= height <= 300
    pixels = imread(io.BytesIO(content))[..., :3]
    for color in (_scale.POSITIVE, (255, 255, 255)):
        near = np.abs(pixels * 255 - color).max(axis=-1) < 3
        assert near.mean() > 0.01


# Tables; the other figures have tests of their own, in test_figures.py.


def test_bars_are_sorted_by_size_and_keep_values_errors_and_names_together():
    result = attributed(lambda x: x @ jnp.array([1.0, -5.0, 3.0]), jnp.ones(3))
    result = dataclasses.replace(result, error=jnp.array([0.1, 0.5, 0.3]))
    axes = features.bars(result, names=["a", "$b$", "c_1"])
    assert [t.get_text() for t in axes.get_yticklabels()] == ["$b$", "c_1", "a"]
    (bars,) = (c for c in axes.containers if isinstance(c, BarContainer))
    np.testing.assert_allclose([p.get_width() for p in bars], [-5, 3, 1], rtol=1e-6)
    (whiskers,) = (c for c in axes.collections if isinstance(c, LineCollection))
    reach = [np.ptp(segment[:, 0]) / 2 for segment in whiskers.get_segments()]
    np.testing.assert_allclose(reach, [0.5, 0.3, 0.1], rtol=1e-6)
    assert png(axes)


def test_bars_without_an_error_estimate_are_drawn():
    attribute = igjax.integrated_gradients(jnp.sum, rule=igjax.rules.midpoint(1))
    result = attribute(jnp.ones(2), 0.0)
    assert np.isinf(result.error).all()
    assert png(features.bars(result))


def test_many_bars_are_cut_and_the_cut_is_named():
    axes = features.bars(attributed(jnp.sum, jnp.arange(50.0)))
    labels = [t.get_text() for t in axes.get_yticklabels()]
    assert labels[0] == "49"
    assert labels[-1] == "20\n(20 smaller ones left out)"


@pytest.mark.parametrize("draw", [features.bars, features.waterfall, images.heat_map])
def test_batches_and_several_outputs_are_refused_with_the_remedy(draw):
    rule = igjax.rules.gauss_legendre(3)
    attribute = jax.vmap(igjax.integrated_gradients(jnp.sum, rule=rule), (0, None))
    with pytest.raises(ValueError, match=r"got a batch of shape \(4,\).*result\.example"):
        draw(attribute(jnp.ones((4, 3)), 0.0))
    outputs = igjax.integrated_jacobian(lambda x: x, rule=rule)(jnp.ones(3), 0.0)
    with pytest.raises(ValueError, match=r"one output.*igjax\.select"):
        draw(outputs)
    with pytest.raises(ValueError, match="values must be one array, got dict"):
        draw(attributed(lambda x: x["a"], {"a": jnp.float32(1)}))


def test_bars_refuse_images_and_names_that_do_not_fit():
    with pytest.raises(ValueError, match=r"got \(2, 2\)"):
        features.bars(attributed(jnp.sum, jnp.ones((2, 2))), names=["a", "b"])
    with pytest.raises(ValueError, match="1 names"):
        features.bars(attributed(jnp.sum, jnp.ones(3)), names=["a"])


WITHOUT = """
import sys
sys.modules["matplotlib"] = sys.modules["jinja2"] = None
import igjax.plots
print(igjax.plots.text.plain(["fun"], [1.0]))
print("fun" in igjax.plots.text.ansi(["fun"], [1.0]))
for draw in (igjax.plots.text.tokens, igjax.plots.text.html):
    try:
        draw(["fun"], [1.0])
    except ImportError as error:
        print(error)
"""


def test_without_the_extra_text_is_written_and_figures_and_pages_name_it():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "fun[+1.00]",
        "True",
        'tokens needs matplotlib. Install it: pip install "igjax[plots]"',
        'html needs jinja2. Install it: pip install "igjax[plots]"',
    ]


@pytest.mark.slow
def test_a_figure_shows_itself_in_a_notebook_twice_as_fine():
    figure = features.bars(igjax.integrated_gradients(jnp.sum)(jnp.ones(3), 0.0)).figure
    picture, shown = pickle.loads(pickle.dumps(figure))._repr_png_()
    height, width, _ = imread(io.BytesIO(picture)).shape
    assert shown == {"width": width // 2, "height": height // 2}
    assert abs(shown["width"] - 600) < 20


def test_a_page_shows_itself_in_a_notebook_and_changes_nothing_around_it():
    page: Any = text.html(WORDS, VALUES, title="</head><body>", notes=["<style>"])
    shown = page._repr_html_()
    assert not any(tag in shown for tag in ("<html", "<body", "<title"))
    whole = Page(page).tags
    assert Page(shown).tags == ["style", "div", *whole[whole.index("body") + 1 :]]
    style, _, _ = shown.removeprefix("<style>").partition("</style>")
    flat = style
    while (flat := re.sub(r"\{[^{}]*\}", "", style)) != style:
        style = flat
    assert style.split() == ["body.igjax", ".igjax"]


@pytest.mark.slow
def test_drawing_leaves_pyplot_alone():
    source = (
        "import sys, igjax.plots as p; assert 'matplotlib' not in sys.modules;"
        "p.text.tokens(['fun'], [1.0]); assert 'matplotlib.pyplot' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", source]).returncode == 0
