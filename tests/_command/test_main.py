"""`python -m igjax` explains a text, says what it did, and refuses what it cannot."""

import contextlib
import dataclasses
import io
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax
import igjax.__main__ as cli
from igjax._command import explaining, record, texts
from igjax._command.explaining import explainer
from igjax.models import SequenceLSTM, sentiment
from igjax.plots import _report

TEXT = "A wonderful zorblatt film, though far too \u202elong."
KNOWN = [True, True, False, True, True, True, True, True]


class Terminal(io.TextIOWrapper):
    """Standard output that says it is a terminal."""

    def __init__(self, encoding="utf-8"):
        super().__init__(io.BytesIO(), encoding=encoding)

    def isatty(self):
        return True

    def shown(self):
        self.flush()
        return self.buffer.getvalue().decode(self.encoding)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run of the main job: its status, output, folder and explanation."""
    folder, kept = tmp_path_factory.mktemp("run") / "not" / "there", []
    paths = [f"--{kind}={folder}/e.{kind}" for kind in ("html", "png", "json")]

    def make(tolerance, *, compare):
        explain = explainer(tolerance, compare=compare)
        return lambda text: kept.append(explain(text)) or kept[0]

    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(io.StringIO()) as out,
    ):
        patch.setattr(cli, "explainer", make)
        status = cli.main([TEXT, *paths])
    return status, out.getvalue(), folder, kept[0]


@pytest.fixture
def quick(run, monkeypatch, tmp_path):
    """The main job without the model: the explanation is always that of TEXT.

    Texts with "unknown" in them are refused; at tolerances below 1e-4 none is met.
    """
    read = []

    def make(tolerance, *, compare):
        del compare
        status = jnp.int32(igjax.Status.RESOLUTION if tolerance < 1e-4 else 0)
        result = dataclasses.replace(run[3].result, status=status)

        def explain(text):
            read.append(text)
            if "unknown" in text:
                raise texts.Refusal("the model knows none of the words")
            return run[3]._replace(result=result, tolerance=tolerance)

        return explain

    monkeypatch.setattr(cli, "explainer", make)
    monkeypatch.chdir(tmp_path)
    return read


OPTIONS = ("--file", "--lines", "--html", "--png", "--json", "--tolerance")


def standard_input(monkeypatch, content):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def refused(capsys, arguments):
    """What is said on standard error about arguments that are refused."""
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("python -m igjax: ")
    return err.removeprefix("python -m igjax: ").strip()


def certificate(e):
    return {name: cells for name, *cells in _report.certificate(e)}


# What is computed.


@pytest.mark.slow
def test_values_of_the_words_agree_with_an_integral_by_jax_alone(run):
    e = run[3]
    model, params, vocabulary = sentiment.load()
    table = params["params"]["embed"]["embedding"]
    tokens = sentiment.tokenize(TEXT, vocabulary)
    x, baseline = table[np.array([t.id for t in tokens])], table[np.full(len(tokens), 1)]
    head = {"params": params["params"]["head"]}
    f = lambda x: SequenceLSTM(model.hidden).apply(head, x)[0]
    slope = jax.jit(jax.vmap(lambda t: jax.grad(f)(baseline + t * (x - baseline))))
    midpoints = (jnp.arange(2000, dtype=jnp.float32) + 0.5) / 2000
    exact = ((x - baseline) * slope(midpoints).mean(axis=0)).sum(axis=-1)
    # The reference itself is good to about 1e-4: its sum misses the scores by less.
    assert abs(exact.sum() - (f(x) - f(baseline))) < 1e-4
    assert (np.abs(e.values - exact) <= e.errors + 1e-4).all()


def test_score_is_that_of_the_whole_model(run):
    model, params, vocabulary = sentiment.load()
    ids = jnp.array([t.id for t in sentiment.tokenize(TEXT, vocabulary)], jnp.int32)
    both = jnp.stack([ids, jnp.full_like(ids, sentiment.UNKNOWN)])
    scores = np.asarray(jax.jit(model.apply)(params, both))[:, 0]
    result = run[3].result
    np.testing.assert_allclose([result.score, result.baseline_score], scores, atol=1e-5)


def test_unknown_words_get_exactly_zero(run):
    e = run[3]
    assert [not unknown for unknown in e.unknown] == KNOWN
    assert e.values[2] == e.errors[2] == 0
    assert (e.values != 0).tolist() == KNOWN


def test_words_and_what_is_between_make_up_the_text(run):
    e = run[3]
    pieces = [e.between[0]]
    for word, gap in zip(e.words, e.between[1:], strict=True):
        pieces += [word, gap]
    assert "".join(pieces) == TEXT


def test_certificate_is_that_of_both_results(run):
    e = run[3]
    rows = certificate(e)
    for column, result in enumerate((e.result, e.fixed)):
        total = np.asarray(result.values, np.float64).sum()
        assert result.values.shape == (16, 48)
        assert float(rows["sum of the values"][column]) == pytest.approx(total, abs=1e-5)
        gap = total - (float(result.score) - float(result.baseline_score))
        assert float(rows["gap"][column]) == pytest.approx(gap, abs=2e-5)
        assert rows["gradient evaluations"][column] == str(int(result.evaluations))
        assert rows["converged"][column] == ("yes" if result.converged else "no")
    assert rows["gradient evaluations"][1] == "50"
    errors = 100 * e.errors.sum() / np.abs(e.values).sum()
    assert rows["as a part of their sizes"][0] == f"{errors:.2f}%"
    change = np.abs(np.asarray(e.fixed.values - e.result.values).sum(-1)).max()
    shown = float(rows["largest difference for a word"][1])
    assert shown == pytest.approx(change, abs=1e-5)


def told(shares, statuses=(0, 0, 0)):
    """What `ask` gives, one after the other: two numbers for a word, of error 1 together.

    Their values cancel in part, so that the share of the word is the one given.
    """
    given = zip(shares, statuses, strict=False)
    results = [
        igjax.Attribution(
            values=jnp.array([[1 + 1 / share, -1.0]]),
            error=jnp.array([[0.5, 0.5]]),
            delta=jnp.float32(0),
            score=jnp.float32(1 / share),
            baseline_score=jnp.float32(0),
            evaluations=jnp.int32(45),
            forwards=jnp.int32(10),
            jumps=jnp.int32(0),
            status=jnp.int32(status),
        )
        for share, status in given
    ]
    asked = []
    return asked, lambda tolerance: asked.append(tolerance) or results[len(asked) - 1]


def test_a_tolerance_is_asked_for_until_the_words_meet_it():
    asked, ask = told([0.03, 0.009])
    result, last = explaining._good_for_words(ask, 0.01)
    assert asked == pytest.approx([0.01, 0.8 * 0.01 * 0.01 / 0.03])
    assert last == asked[-1]
    assert result.converged
    assert (result.evaluations, result.forwards) == (90, 20)
    asked, ask = told([0.01])
    assert explaining._good_for_words(ask, 0.01)[1] == 0.01
    assert len(asked) == 1


def test_words_that_never_meet_it_are_no_promise():
    asked, ask = told([0.03, 0.02, 0.015])
    result, _ = explaining._good_for_words(ask, 0.01)
    assert len(asked) == 3
    assert result.status == igjax.Status.BUDGET_SPENT
    for statuses in [(3,), (0, 3)]:  # nor is one that is refused asked for again
        asked, ask = told([0.03, 0.02], statuses)
        assert explaining._good_for_words(ask, 0.01)[0].status == 3
        assert len(asked) == len(statuses)


def test_the_tolerance_holds_for_the_words_that_are_shown(run):
    e = run[3]
    assert e.errors.sum() <= e.tolerance * np.abs(e.values).sum()
    note = next(note for note in _report.notes(e) if note.startswith("Tolerance: 0.01, "))
    assert "of the words as they are shown. It is met: theirs are 0." in note
    assert f"for which {e.asked:.2g} was asked at the embeddings" in note
    refused = dataclasses.replace(e.result, status=jnp.int32(2))
    notes = _report.notes(e._replace(result=refused))
    assert any("It was not met: theirs are" in note for note in notes)


# What is written.


def test_a_run_prints_words_certificate_status_and_paths(run):
    status, out, folder, e = run
    assert status == 0
    assert "zorblatt?[0]" in out
    assert r"\u202elong[" in out
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "The model reads praise: score +" in out
    for row in _report.certificate(e):
        assert re.search(r"\s+".join(map(re.escape, filter(None, row))), out)
    assert igjax.Status(int(e.result.status)).meaning in out
    assert "Unknown to the model, so exactly 0: zorblatt." in out
    assert f"wrote {folder / 'e.html'}" in out
    assert f"wrote {folder / 'e.png'}" in out


def test_a_run_writes_a_page_and_a_picture(run):
    _, _, folder, e = run
    page = (folder / "e.html").read_text(encoding="utf-8")
    assert "wonderful</span>" in page
    assert igjax.Status(int(e.result.status)).meaning in page
    assert "largest difference for a word" in page
    picture = (folder / "e.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert 10_000 < len(picture) < 300_000


def test_no_file_is_written_unless_asked_for(quick, tmp_path, capsys):
    assert cli.main(["some text"]) == 0
    assert not list(tmp_path.iterdir())
    assert "wrote" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("environment", "colored"),
    [
        ({}, True),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, True),
        ({"TERM": "dumb"}, False),
    ],
)
def test_colors_are_for_terminals_and_no_color_is_respected(
    quick, monkeypatch, environment, colored
):
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert cli.main(["some text"]) == 0
    assert ("\x1b[" in terminal.shown()) == colored
    assert ("wonderful[+" in terminal.shown()) != colored


def test_output_is_written_where_the_encoding_knows_ascii_alone(quick, monkeypatch):
    terminal = Terminal("ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert cli.main(["some text"]) == 0
    assert " +- " in terminal.shown()


def test_narrow_terminals_are_served(quick, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "1")
    assert cli.main(["some text"]) == 0
    assert "wonderful" in capsys.readouterr().out


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(quick, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert cli.main(["some text"]) == 0
    shown = re.sub(r"\x1b\[[\d;]*m", "", terminal.shown())
    assert max(map(len, shown.splitlines())) <= width


# JSON, for programs.


def loaded(content):
    """One JSON document, in which no number is infinite or NaN."""

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(content, parse_constant=refuse)


def test_json_holds_what_was_explained(run):
    _, _, folder, e = run
    content = (folder / "e.json").read_bytes()
    assert content.isascii()
    assert content.count(b"\n") == 1
    told = loaded(content)
    assert told["schema"] == "igjax.explanation/1"
    assert (told["text"], told["line"], told["refused"]) == (TEXT, None, None)
    assert [word["known"] for word in told["words"]] == KNOWN
    for word, text, value, error in zip(
        told["words"], e.words, e.values, e.errors, strict=True
    ):
        assert TEXT[word["start"] : word["end"]] == word["text"] == text
        assert np.float32(word["value"]) == np.float32(value)
        assert np.float32(word["error"]) == np.float32(error)
    assert told["sum"] == math.fsum(word["value"] for word in told["words"])
    assert told["error"] == math.fsum(word["error"] for word in told["words"])
    gap = told["sum"] - (told["score"] - told["baseline_score"])
    assert told["delta"] == pytest.approx(gap, abs=2e-6)
    assert told["score"] == pytest.approx(float(e.result.score), rel=1e-6)
    cost = {"gradients": int(e.result.evaluations), "scores": int(e.result.forwards)}
    assert told["cost"] == cost
    assert (told["status"], told["converged"]) == ("TOLERANCE_MET", True)
    assert told["tolerance"] == 0.01


def test_all_names_of_the_schema_are_explained_and_no_others(run):
    told = loaded((run[2] / "e.json").read_bytes())
    document = cast("str", record.__doc__)
    rows = re.findall(r"^ {4}( {0,4})(\w+(?:, \w+)*) ", document, flags=re.MULTILINE)
    names = lambda indent: [n for i, row in rows if i == indent for n in row.split(", ")]
    assert names("") == list(told)
    assert names("    ") == list(told["words"][0])
    assert list(loaded(record.refused("text", "reason"))) == list(told)


def test_numbers_that_are_not_finite_are_null(run):
    e = run[3]
    values = np.array([np.nan, *e.values[1:]])
    status = jnp.int32(igjax.Status.NON_FINITE)
    result = dataclasses.replace(e.result, score=jnp.float32(jnp.inf), status=status)
    told = loaded(record.explained(e._replace(values=values, result=result)))
    assert told["words"][0]["value"] is told["sum"] is told["score"] is None
    assert told["words"][1]["value"] is not None
    assert (told["status"], told["converged"]) == ("NON_FINITE", False)


@pytest.mark.parametrize("kind", ["html", "png", "json"])
def test_of_what_goes_to_standard_output_nothing_else_does(quick, run, capfdbinary, kind):
    assert cli.main(["some text", f"--{kind}", "-"]) == 0
    out = capfdbinary.readouterr().out
    if kind != "png":  # which tells the version of the library that made it
        assert out == (run[2] / f"e.{kind}").read_bytes()
    assert out.startswith({"html": b"<!doctype", "png": b"\x89PNG", "json": b"{"}[kind])
    assert not list(Path.cwd().iterdir())


# Lines.

REVIEWS = "A wonderful film\n\n  \r\nunknown words\r\nAnother\n"


def test_each_line_that_is_not_blank_has_an_object(quick, tmp_path, capsys):
    (tmp_path / "reviews").write_bytes(REVIEWS.encode())
    status = cli.main(["--lines", "--file", "reviews", "--json", "out/reviews.jsonl"])
    assert status == 2
    assert quick == ["A wonderful film", "unknown words", "Another"]
    rows = (tmp_path / "out" / "reviews.jsonl").read_text().splitlines()
    told = [loaded(row) for row in rows]
    assert [row["line"] for row in told] == [1, 4, 5]
    assert [row["refused"] is None for row in told] == [True, False, True]
    assert told[1]["text"] == "unknown words"
    assert told[1]["words"] is told[1]["score"] is told[1]["converged"] is None
    out, err = capsys.readouterr()
    assert err == "python -m igjax: line 4: the model knows none of the words\n"
    assert "Line 1: praise, score +" in out
    assert "Explained 2 of 3 texts, 2 to the tolerance." in out


def test_lines_go_to_standard_output_alone(quick, monkeypatch, capfd):
    standard_input(monkeypatch, b"one\ntwo")
    assert cli.main(["--lines", "-", "--json", "-"]) == 0
    out, err = capfd.readouterr()
    assert [loaded(row)["line"] for row in out.splitlines()] == [1, 2]
    assert err == ""


def test_lines_without_a_text_are_refused(capsys, monkeypatch):
    standard_input(monkeypatch, b"\n \r\n")
    assert "the text is empty" in refused(capsys, ["--lines", "-"])


@pytest.mark.slow
def test_texts_have_the_same_values_alone_and_among_others_and_one_program(run):
    e, explain = run[3], explainer(0.01, compare=False)
    again = [explain(text) for text in ("A film.", TEXT, "Dull, dull, dull!")][1]
    np.testing.assert_array_equal(again.values, e.values)
    np.testing.assert_array_equal(again.errors, e.errors)


# How it ends.


def test_a_tolerance_that_is_not_met_ends_with_status_1(quick, capsys):
    assert cli.main(["some text", "--tolerance", "1e-5", "--json", "-"]) == 1
    out, err = capsys.readouterr()
    told = loaded(out)
    assert (told["converged"], told["status"]) == (False, "RESOLUTION")
    assert told["tolerance"] == 1e-5
    meaning = "resolution of the dtype reached before the tolerance was met"
    assert err == f"python -m igjax: explained, but {meaning}.\n"
    assert cli.main(["--lines", "one\ntwo", "--tolerance", "1e-5"]) == 1
    out, err = capsys.readouterr()
    assert f"; {meaning}" in out
    assert err.count("explained, but") == 2
    assert "Explained 2 of 2 texts, 0 to the tolerance." in out


def test_the_tolerance_is_that_of_the_explainer(quick, capsys):
    assert cli.main(["some text", "--tolerance", "5e-2", "--json", "-"]) == 0
    assert loaded(capsys.readouterr().out)["tolerance"] == 0.05
    assert cli.main(["some text", "--tolerance", "5e-2"]) == 0
    assert "Tolerance: 0.05, all errors over all sizes" in capsys.readouterr().out


def test_an_interrupted_run_ends_with_status_130_and_no_traceback(quick, monkeypatch):
    def interrupted(text):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "explainer", lambda tolerance, compare: interrupted)
    assert cli.main(["some text"]) == 130


class Leaving(Terminal):
    """Standard output whose reader leaves, after so many flushes."""

    def __init__(self, flushes, error: type[OSError] = BrokenPipeError):
        super().__init__()
        self.left, self.error = flushes, error

    def flush(self):
        self.left -= 1
        if self.left < 0:
            raise self.error(28, "No space left on device")

    def close(self):
        self.left = 1 << 9  # Python 3.13 warns of what closing cannot flush
        super().close()

    def fileno(self):
        return os.open(os.devnull, os.O_WRONLY)


def test_when_the_reader_leaves_files_are_written_all_the_same(quick, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Leaving(0))
    assert cli.main(["some text", "--html", "page.html"]) == 0
    assert Path("page.html").exists()
    monkeypatch.setattr(sys, "stdout", Leaving(1))
    assert cli.main(["--lines", "one\ntwo\nthree", "--json", "texts.jsonl"]) == 0
    assert Path("texts.jsonl").read_bytes().count(b"\n") == 3


def test_when_the_reader_leaves_and_no_file_is_written_the_job_ends(quick, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Leaving(1))
    assert cli.main(["--lines", "one\ntwo\nthree\nfour"]) == 0
    assert quick == ["one", "two"]


def test_a_full_disk_behind_standard_output_is_told(quick, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Leaving(0, OSError))
    assert cli.main(["some text"]) == 2
    told = "cannot write to standard output: No space left on device."
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_who_watches_a_terminal_sees_what_is_being_done(quick, monkeypatch, term):
    monkeypatch.setenv("TERM", term)
    watched = Terminal()
    monkeypatch.setattr(sys, "stderr", watched)
    cli.main(["--lines", "one\ntwo", "--json", "texts.jsonl"])
    shown = watched.shown()
    assert ("explaining text 2 of 2 ..." in shown) == (term == "xterm")
    assert not shown or shown.endswith("\r\x1b[K")  # and nothing is left of it


# What is read.


def test_words_of_the_command_line_are_joined(quick):
    assert cli.main(["A", "wonderful", "film"]) == 0
    assert quick == ["A wonderful film"]


def test_a_file_is_read_without_its_byte_order_mark(quick, tmp_path):
    path = tmp_path / "review.txt"
    path.write_bytes(b"\xef\xbb\xbfna\xc3\xafve\r\nfilm")
    assert cli.main(["--file", str(path)]) == 0
    assert quick == ["naïve\r\nfilm"]


def test_a_dash_reads_standard_input(quick, monkeypatch):
    standard_input(monkeypatch, b"A wonderful film")
    assert cli.main(["-"]) == 0
    assert quick == ["A wonderful film"]


def test_a_file_called_dash_is_standard_input(quick, monkeypatch):
    standard_input(monkeypatch, b"A wonderful film")
    assert cli.main(["--file", "-"]) == 0
    assert quick == ["A wonderful film"]


def test_texts_may_start_with_a_dash(quick):
    assert cli.main(["--", "-5 stars"]) == 0
    assert quick == ["-5 stars"]


@pytest.mark.slow
def test_of_a_long_text_the_last_256_words_are_explained_and_the_note_says_so():
    text = "Left out, " * 300 + "but wonderful " * 128
    e = explainer(0.01, compare=False)(text)
    assert (len(e.words), e.left_out) == (256, 600)
    assert e.words[0] == "but"
    assert e.between[0] == ""
    assert e.starts[0] == text.index("but")
    told = json.loads(record.explained(e))
    assert told["left_out"] == 600
    assert told["words"][0]["start"] == 3000
    note = "The model reads the last 256 words; the first 600 were left out."
    assert note in _report.notes(e)
    assert len(_report.picture(e)) > 10_000
    assert _report.page(e).count(b'class="word"') == 256


# What is refused.


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the text is empty"),
        (" \n\t", "the text is empty"),
        ("... -- ...", "the text has no words"),
        ("zorblatt qwertzu", "the model knows none of the words"),
        ("wonderful " + "zorblatt " * 256, "the model knows none of the words"),
    ],
)
def test_texts_without_known_words_are_refused(capsys, text, said):
    assert said in refused(capsys, [text])


def test_bytes_of_the_command_line_that_are_no_text_are_refused(capsys):
    assert "the text is no UTF-8 text" in refused(capsys, ["na\udcefve film"])


def test_text_that_the_locale_cannot_read_is_read_as_utf_8(quick, monkeypatch):
    monkeypatch.setattr(
        os, "fsencode", lambda text: text.encode("ascii", "surrogateescape")
    )
    assert cli.main(["na\udcc3\udcafve film"]) == 0
    assert quick == ["na\u00efve film"]


def test_empty_standard_input_is_refused(capsys, monkeypatch):
    standard_input(monkeypatch, b"")
    assert "the text is empty" in refused(capsys, ["-"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x89PNG\r\n\x1a\n", "is no UTF-8 text: byte 0 is 0x89"),
        (b"film \xff", "is no UTF-8 text: byte 5 is 0xff"),
        (b"wonderful\0film", "is no text: it holds a zero byte"),
        (b"a " * 5_000_001, "is larger than 10 MB"),
    ],
    ids=["binary", "latin", "zero", "large"],
)
def test_files_that_are_no_text_are_refused(capsys, tmp_path, content, said):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert refused(capsys, ["--file", str(path)]).startswith(f"{path} {said}")


def test_binary_standard_input_is_refused(capsys, monkeypatch):
    standard_input(monkeypatch, b"\x89PNG")
    assert refused(capsys, ["-"]).startswith("standard input is no UTF-8 text")


def test_files_that_cannot_be_read_are_refused(capsys, tmp_path):
    missing = tmp_path / "missing.txt"
    said = refused(capsys, ["--file", str(missing)])
    assert said == f"cannot read {missing}: No such file or directory."
    said = refused(capsys, ["--file", str(tmp_path)])
    assert said == f"cannot read {tmp_path}: Is a directory."


def test_files_that_cannot_be_written_end_with_status_2(quick, capsys, tmp_path):
    assert cli.main(["some text", "--html", str(tmp_path)]) == 2
    assert f"cannot write {tmp_path}: Is a directory." in capsys.readouterr().err


def test_one_file_that_cannot_be_written_does_not_lose_the_others(quick, capsys, tmp_path):
    outputs = ["--html", str(tmp_path), "--json", "told.json"]
    assert cli.main(["some text", *outputs]) == 2
    told = capsys.readouterr()
    assert f"cannot write {tmp_path}: Is a directory." in told.err
    assert "wrote told.json" in told.out
    assert json.loads(Path("told.json").read_bytes())["converged"]


@pytest.mark.parametrize("options", [[], ["--lines"]], ids=["text", "lines"])
def test_the_name_of_a_file_is_not_taken_for_the_text(quick, capsys, options):
    Path("review.txt").write_text("Not bad at all!")
    with pytest.raises(SystemExit, match="2"):
        cli.main([*options, "review.txt"])
    assert "review.txt is a file: to explain what it says" in capsys.readouterr().err
    assert cli.main([*options, "--file", "review.txt"]) == cli.main([*options, "review"])
    assert quick == ["Not bad at all!", "review"]


def test_closed_streams_are_as_if_nobody_read_them(monkeypatch, quick, run):
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    assert cli.main(["text", "--json", "told.json"]) == run[0]
    assert json.loads(Path("told.json").read_bytes())["converged"]
    assert cli.main(["unknown"]) == 2
    for name in ("stdin", "stdout", "stderr"):
        getattr(sys, name).close()


def test_control_characters_of_a_path_are_not_obeyed(capsys):
    assert r"cannot read \x1b[31m" in refused(capsys, ["--file", "\x1b[31m"])


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["text", "--file", "path"],
        ["--steps", "50"],
        ["text", "--tolerance", "0"],
        ["text", "--tolerance", "1"],
        ["text", "--tolerance", "nan"],
        ["text", "--tolerance", "1%"],
        ["--lines", "text", "--html", "page.html"],
        ["--lines", "text", "--png", "picture.png"],
        ["text", "--json", "-", "--html", "-"],
        ["text", "--json", "same", "--html", "./same"],
        ["--file", "same", "--json", "same"],
    ],
    ids=" ".join,
)
def test_wrong_arguments_end_with_status_2_and_usage(capsys, arguments):
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert "usage: python -m igjax" in capsys.readouterr().err


def test_help_teaches(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    told = capsys.readouterr().out
    for part in ("examples:", "NO_COLOR", "exit status", "JSON Lines", *OPTIONS):
        assert part in told
    assert max(map(len, told.splitlines())) <= 82


WITHOUT = """
import runpy, sys
sys.modules[{name!r}] = None  # importing it fails
sys.argv = ["igjax", "A wonderful film", "--png", "picture.png", "--html", "page.html"]
runpy.run_module("igjax", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("name", ["flax", "jinja2", "matplotlib"])
def test_without_an_extra_the_way_to_install_it_is_told(name, tmp_path):
    command = [sys.executable, "-c", WITHOUT.format(name=name)]
    environment = os.environ | {"PYTHONPATH": str(Path(igjax.__file__).parents[1])}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert f"{name} cannot be imported" in done.stderr
    assert 'pip install "igjax[models,plots]"' in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
