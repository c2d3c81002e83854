"""Tables of targets and sources: in a terminal, and as a picture."""

from typing import Any

import numpy as np
import pytest

from igjax.plots import text

SOURCES = ["one", "of", "\u202ethe\x1b[2J"]
TARGETS = ["of", "<script>"]
VALUES = [[1.0, 0.0, 0.0], [0.5, -2.0, 0.0]]


def test_a_paragraph_for_each_target():
    lines = text.table_plain(SOURCES, TARGETS, VALUES).split("\n")
    assert lines == ["of        one[+1.00]", "<script>  one[+0.50] of[-2.00]"]


def test_paragraphs_are_wrapped_behind_their_target():
    words = [f"w{i}" for i in range(40)]
    lines = text.table_plain(words, ["x"], np.ones((1, 40)), width=40).split("\n")
    assert all(len(line) <= 40 for line in lines)
    assert all(line.startswith("   ") for line in lines[1:])
    assert sum(line.count("[+1.00]") for line in lines) == 40


def test_colors_are_those_of_the_whole_table():
    colored = text.table_ansi(["a"], ["x", "y"], [[4.0], [0.4]]).split("\n")
    assert "48;5;26" in colored[0]
    assert "\x1b[1" in colored[1]  # of the target
    assert "48;5;26" not in colored[1]


def test_what_would_steer_a_terminal_is_shown():
    for draw in (text.table_plain, text.table_ansi):
        drawn = draw(SOURCES, ["\x1b[2J"], [[1.0, 1.0, 1.0]])
        assert "\x1b[2J" not in drawn
        assert "\u202e" not in drawn
        assert r"\u202ethe" in drawn


def test_a_picture_has_a_cell_for_each_pair():
    axes: Any = text.table(SOURCES, TARGETS, VALUES, np.full((2, 3), 0.01))
    assert [label.get_text() for label in axes.get_xticklabels()][:2] == ["one", "of"]
    assert axes.images[0].get_array().shape == (2, 3)
    assert [t.get_text()[1:] for t in axes.texts] == ["1.0", "0.5", "2.0"]
    axes.figure.draw_without_rendering()


def test_a_page_shows_and_never_obeys():
    page: Any = text.table_html(SOURCES, TARGETS, VALUES, np.full((2, 3), 0.01))
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "\u202e" not in page
    assert r"\u202ethe" in page
    assert page.count("<td ") == 6
    assert "of for &lt;script&gt;: -2.000 ± 0.010" in page
    assert "<div" in page._repr_html_()
    wide = text.table_html(["w"] * 20, ["x"], np.ones((1, 20)))
    assert "></td>" in wide  # numbers only where they fit


@pytest.mark.parametrize(
    "draw", [text.table, text.table_plain, text.table_ansi, text.table_html]
)
@pytest.mark.parametrize(
    ("sources", "targets", "error", "said"),
    [
        ("one", TARGETS, TypeError, "sources must be a list"),
        (SOURCES, "of", TypeError, "targets must be a list"),
        ([], TARGETS, ValueError, "sources must hold at least one"),
        (SOURCES, TARGETS[:1], ValueError, r"shape \(1, 3\), got \(2, 3\)"),
    ],
)
def test_tables_that_do_not_fit(draw, sources, targets, error, said):
    with pytest.raises(error, match=said):
        draw(sources, targets, VALUES)
