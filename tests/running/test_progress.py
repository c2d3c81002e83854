"""What a long call says of itself, and to whom."""

import io
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax
from igjax._program import telling
from igjax.running import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def watched(monkeypatch):
    """A terminal, set up in the test itself: pytest renews its own before that."""
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(progress, "PAUSE", 1e-3)
    monkeypatch.setenv("TERM", "xterm")
    return screen


def kinked(x, w):
    return jax.nn.relu(w @ jax.nn.relu(w @ x - 0.1) - 0.2).sum()


W = jax.random.normal(jax.random.key(0), (40, 40)) / 4
X = jax.random.normal(jax.random.key(1), (40,))
ATTRIBUTE = igjax.integrated_gradients(kinked, rule=igjax.rules.adaptive(1e-4))


def said(terminal):
    return {re.sub(r"\d+", "N", line) for line in terminal.getvalue().split("\r\x1b[K")}


@pytest.mark.slow
def test_a_terminal_is_told(monkeypatch):
    terminal = watched(monkeypatch)
    result = igjax.progress(ATTRIBUTE)(X, 0.0, W)
    lines = said(terminal) - {""}  # which of the news are drawn depends on the machine
    assert lines
    assert lines <= {
        "igjax: tracing (N s)",
        "igjax: compiling, or computing (N s)",
        "igjax: computing, N gradients done (N s)",
        "igjax: starting (N s)",
    }
    assert terminal.getvalue().endswith("\r\x1b[K")  # it is wiped away
    plain = ATTRIBUTE(X, 0.0, W)
    assert plain.evaluations > 15  # or there would be no loop to tell of
    np.testing.assert_array_equal(result.values, plain.values)


def test_the_phases_are_told():
    def once(x, w):  # a program of its own, that no other test has traced
        return kinked(x, w)

    news = []
    with telling.to(lambda what, done: news.append((what, done))):
        igjax.integrated_gradients(once, rule=igjax.rules.gauss_legendre(4))(X, 0.0, W)
        jax.effects_barrier()
    assert news[:2] == [("tracing", None), ("compiling, or computing", None)]


@pytest.mark.slow
def test_loops_tell_how_much_is_done():
    news = []
    with telling.to(lambda what, done: news.append((what, done))):
        result = jax.block_until_ready(ATTRIBUTE(X, 0.0, W))
        jax.effects_barrier()
    done = [count for what, count in news if what == "gradients"]
    assert done[-1] == result.evaluations
    assert done == sorted(done)


def test_draws_are_told():
    news = []
    attribute = igjax.expected_gradients(kinked, draws=64, chunk_size=16)
    with telling.to(lambda what, done: news.append((what, done))):
        jax.block_until_ready(attribute(jax.random.key(0), X, jnp.zeros((3, 40)), W))
        jax.effects_barrier()
    assert ("draws", 0) in news
    assert len([what for what, _ in news if what == "draws"]) > 1


@pytest.mark.slow
def test_nobody_is_told_in_a_log(capsys):
    igjax.progress(ATTRIBUTE)(X, 0.0, W)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_programs_of_others_hold_nothing_of_it(monkeypatch):
    watched(monkeypatch)
    loud = igjax.progress(ATTRIBUTE)
    for function in (loud, jax.jit(loud)):
        assert "callback" not in str(jax.make_jaxpr(function)(X, 0.0, W))
    batched = jax.vmap(loud, (0, None, None))
    assert "callback" not in str(jax.make_jaxpr(batched)(X[None], 0.0, W))
    results = igjax.progress(jax.jit(jax.vmap(ATTRIBUTE, (0, None, None))))(X[None], 0.0, W)
    np.testing.assert_allclose(
        results.values[0], ATTRIBUTE(X, 0.0, W).values, rtol=1e-3, atol=1e-5
    )


def test_errors_pass_and_the_line_is_wiped(monkeypatch):
    terminal = watched(monkeypatch)
    with pytest.raises(ValueError, match="baseline"):
        igjax.progress(ATTRIBUTE)(X, jnp.zeros(3), W)
    assert terminal.getvalue().rpartition("\r\x1b[K")[2] == ""


def test_what_is_no_function():
    with pytest.raises(TypeError, match="progress: attribute"):
        igjax.progress(3)
