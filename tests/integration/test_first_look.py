"""One panel, compiled by itself outside of transformations: the loop says the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax
from igjax._program import compiled, jax_internals

X = jnp.array([0.3, -0.8, 1.4])
WEIGHTS = jnp.array([[0.2, -0.7, 0.4], [0.9, 0.3, -0.5]])

SETTLED = {
    "smooth": lambda x: jnp.tanh(WEIGHTS @ x).sum(),
    "flat": lambda x: 0.0 * x.sum() + 3.0,
    "linear": lambda x: WEIGHTS[0] @ x,
    "contradicting": lambda x: jax.lax.stop_gradient(x.sum()) + 0.1 * x[0],
    "not finite": lambda x: jnp.log(x).sum(),
}
UNSETTLED = {"switch": lambda x: jax.nn.sigmoid(1e3 * (x.sum() - 0.4))}


def names(f, monkeypatch) -> list[str]:
    """The programs that an eager attribution of f runs."""
    run, seen = jax.jit, []

    def jit(function, **options):
        inner = run(function, **options)

        def called(*args):
            seen.append(function.__name__)
            return inner(*args)

        return called

    monkeypatch.setattr(compiled.jax, "jit", jit)
    igjax.integrated_gradients(f)(X, 0.0)
    monkeypatch.undo()
    return [name for name in seen if name.startswith("igjax")]


@pytest.mark.parametrize("name", SETTLED)
def test_the_loop_is_not_compiled_where_one_panel_settles(name, monkeypatch):
    assert names(SETTLED[name], monkeypatch) == ["igjax_integrated_gradients_first_look"]


@pytest.mark.parametrize("name", UNSETTLED)
def test_the_loop_follows_where_it_does_not(name, monkeypatch):
    look, loop = names(UNSETTLED[name], monkeypatch)
    assert look == "igjax_integrated_gradients_first_look"
    assert loop == "igjax_integrated_gradients_adaptive_3000"


def same(eager, traced):
    for a, b in zip(jax.tree.leaves(eager), jax.tree.leaves(traced), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def squared(x, baseline, t):
    return baseline + t**2 * (x - baseline)


SLOW = [(name, igjax.paths.straight) for name in SETTLED]
CASES = [("smooth", squared), *(pytest.param(*c, marks=pytest.mark.slow) for c in SLOW)]


@pytest.mark.parametrize(("name", "path"), CASES)
def test_eager_results_are_those_of_jit(name, path):
    attribute = igjax.integrated_gradients(SETTLED[name], path=path)
    same(attribute(X, 0.0), jax.jit(attribute)(X, 0.0))


@pytest.mark.slow
def test_trees_outputs_and_dtypes():
    f = lambda x: jnp.stack([jnp.sin(x["a"]).sum() * x["b"], x["b"] ** 2])
    jacobian = igjax.integrated_jacobian(f)
    x = {"a": jnp.ones((2, 3), jnp.bfloat16), "b": jnp.bfloat16(2.0)}
    baseline = igjax.baselines.zeros(x)
    eager = jacobian(x, baseline)
    assert eager.values["a"].shape == (2, 2, 3)
    same(eager, jax.jit(jacobian)(x, baseline))


def test_a_small_budget_is_the_budget():
    rule = igjax.rules.adaptive(1e-6, max_evaluations=15)
    attribute = igjax.integrated_gradients(UNSETTLED["switch"], rule=rule)
    result = attribute(X, 0.0)
    assert igjax.Status(int(result.status)) is igjax.Status.BUDGET_SPENT
    assert int(result.evaluations) == 15


def test_once_it_was_not_enough_it_is_not_tried_again(monkeypatch):
    runs = []
    run = compiled._settled_first(
        lambda *_: runs.append("look"),
        lambda _: (None, jnp.bool_(False)),
        lambda *_: runs.append("whole"),
    )
    run([], X)
    run([], X)
    assert runs == ["look", "whole", "whole"]


def test_where_xla_does_not_know_the_options_it_takes_its_time(monkeypatch):
    monkeypatch.setattr(jax_internals, "_HURRIES", ({"xla_no_such_option": 1}, {}))
    double = jax_internals.in_a_hurry(lambda a: 2 * a)
    assert double(jnp.ones(2)).tolist() == [2, 2]


@pytest.mark.slow
def test_inside_of_a_trace_there_is_no_first_look():
    attribute = igjax.integrated_gradients(SETTLED["smooth"])
    inside = jax.jit(lambda scale: attribute(X, 0.0).values * scale)(1.0)
    np.testing.assert_allclose(inside, attribute(X, 0.0).values, rtol=1e-6)

    def scaled(scale):
        return igjax.integrated_gradients(lambda x: jnp.tanh(scale * x).sum())(X, 0.0)

    result = jax.vmap(scaled)(jnp.array([1.0, 2.0]))
    assert result.values.shape == (2, 3)
