"""Gradients, smoothed and expected attributions are pure functions as the others are.

Over every method of the registry that takes no rule or draws at random: transformations,
pytrees, dtypes, chunks, what is compiled and when, and what is said to who misuses them.
What they compute is in the tests named after their modules.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax
from tests._program.test_compilation import Traces, compilations
from tests.registry import PLAIN, QUICKLY, RANDOM, together

# These share their code with others, and compiling is slow.
LIKE_OTHERS = {"input_x_gradient", "smooth_squared", "expected", "expected of a sampler"}
each_method = pytest.mark.parametrize(
    "method",
    [
        pytest.param(
            m, marks=[pytest.mark.slow] if m.name in LIKE_OTHERS else [], id=m.name
        )
        for m in PLAIN + RANDOM
    ],
)

X = np.array([0.5, -1.0, 2.0])
B = np.array([0.1, 0.2, -0.3])
W = np.array([1.0, 2.0, -0.5])
XS, BS, WS = (np.stack([a, 2 * a, a - 1]) for a in (X, B, W))


def curved(x, w):
    return jnp.tanh(jnp.vdot(w, x)) + jnp.sum(x**3) / 6


def close(got, want, rtol=1e-10):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    same = lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)
    jax.tree.map(same, got, want)


@each_method
def test_vmap_is_a_loop_and_chunks_change_nothing(method):
    attribute = method.transform(curved)
    options = {} if method in PLAIN else {"chunk_size": 3}
    batch, row, chunked = together(
        lambda: jax.vmap(attribute)(XS, BS, WS),
        lambda: attribute(XS[2], BS[2], WS[2]),
        lambda: method.transform(curved, **options)(XS[2], BS[2], WS[2]),
    )
    close(batch.example(2), row)
    close(chunked, row)
    assert np.abs(row.values).max() > 1e-3
    assert row.evaluations > 0


@each_method
def test_gradients_are_finite_differences(method):
    attribute = method.transform(curved)
    weights = np.array([1.0, -2.0, 0.5])
    loss = lambda x, w: jnp.vdot(weights, attribute(x, B, w).values)
    h = 1e-5

    def both(x, w):
        slopes = jax.grad(loss, (0, 1))(x, w)
        along = lambda s: loss(x + s * W, w + s * B)
        steps = jax.vmap(along)(jnp.array([h, -h]))
        return jnp.vdot(slopes[0], W) + jnp.vdot(slopes[1], B), (steps[0] - steps[1]) / 2

    ((got, want),) = together(lambda: both(X, W))
    np.testing.assert_allclose(got, want / h, rtol=1e-6)


@pytest.mark.slow
@each_method
def test_it_compiles_itself_once_and_sees_what_changes(method):
    traces = Traces()

    def f(x):
        traces.add()
        square = lambda a: (a.astype("float32") ** 2).sum()
        return FACTOR * sum(map(square, jax.tree.leaves(x)))

    global FACTOR
    FACTOR = 1.0
    x = {"half": jnp.array([1.0, 2.0], "float16"), "more": (np.ones((2, 2)), 3.0)}
    baseline = jax.tree.map(lambda a: 0.0, x)
    attribute = method.transform(f)
    first = attribute(x, baseline)
    for tree in (first.values, first.error):
        assert jax.tree.structure(tree) == jax.tree.structure(x)
        assert [a.shape for a in jax.tree.leaves(tree)] == [(2,), (2, 2), ()]
        assert all(a.dtype in ("float32", "float64") for a in jax.tree.leaves(tree))
    with compilations() as compiled:
        second = attribute(x, baseline)
    assert len(traces) == 1
    assert compiled == []
    close(first, second, rtol=0)
    if method.name in ("gradient", "smooth", "expected_gradients"):
        FACTOR = 4.0
        scaled = jax.tree.map(lambda a: 4.0 * a, first.values)
        close(attribute(x, baseline).values, scaled, rtol=1e-6)


FACTOR = 1.0


MANY = {
    "smooth": lambda f, n: igjax.smooth(igjax.gradient(f), draws=n, chunk_size=4),
    "expected": lambda f, n: igjax.expected(igjax.gradient(f), draws=n, chunk_size=4),
    "expected_gradients": lambda f, n: igjax.expected_gradients(f, draws=n, chunk_size=4),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MANY)
def test_memory_does_not_grow_with_the_draws(name):
    x, rows = jnp.ones(1000), jnp.zeros((512, 1000))
    baseline = x if name == "smooth" else rows

    def memory(n):
        run = jax.jit(MANY[name](lambda x: jnp.tanh(x).sum() ** 2, n))
        lowered = run.lower(jax.random.key(0), x, baseline)
        quickly: Any = QUICKLY
        analysis: Any = lowered.compile(compiler_options=quickly).memory_analysis()
        return analysis.temp_size_in_bytes

    assert memory(512) <= 1.1 * memory(64)


def test_trouble_is_data():
    spoiled = lambda x: jnp.sum(x) * jnp.nan
    results = together(*(lambda m=m: m.transform(spoiled)(X, B) for m in PLAIN + RANDOM))
    assert [int(r.status) for r in results] == len(results) * [igjax.Status.NON_FINITE]


def test_complex_inputs_have_real_values_or_are_refused():
    z = jnp.array([1 + 2j, 3.0])
    f = lambda z: jnp.sum(z.real**2 + z.imag**2)
    methods = [PLAIN[1], RANDOM[0], RANDOM[3], RANDOM[-1]]
    thunks = [lambda m=m: m.transform(f)(z, 0.0) for m in methods]
    for method, result in zip(methods, together(*thunks), strict=True):
        assert result.values.dtype == "float64"
        if method.name in ("input_x_gradient", "expected"):
            np.testing.assert_allclose(result.values, [10, 18])
        if method.name == "smooth":
            np.testing.assert_allclose(result.values, [10, 18], rtol=0.02)  # noise is 0.1
    with pytest.raises(TypeError, match=r"gradient: x must be real, .*input_x_gradient"):
        igjax.gradient(f)(z)


@each_method
def test_errors_of_inputs_name_what_is_wrong(method):
    attribute = method.transform(lambda x: x.sum())
    with pytest.raises(TypeError, match=r"x must be floating or complex, got int64\[3\]"):
        attribute(np.arange(3), 0.0)
    with pytest.raises(ValueError, match=r"f must return a scalar, shape \(\), got"):
        method.transform(lambda x: x)(X, B)


MAKERS = {
    "smooth": lambda f, **o: igjax.smooth(igjax.gradient(f), **o),
    "smooth_squared": lambda f, **o: igjax.smooth_squared(igjax.gradient(f), **o),
    "smooth_variance": lambda f, **o: igjax.smooth_variance(igjax.gradient(f), **o),
    "expected": lambda f, **o: igjax.expected(igjax.gradient(f), **o),
    "expected_integrated_gradients": igjax.expected_integrated_gradients,
    "expected_gradients": igjax.expected_gradients,
}


@pytest.mark.parametrize("name", MAKERS)
def test_errors_of_keys_and_draws_name_what_is_wrong(name):
    make = MAKERS[name]
    explain = make(jnp.sum)
    for key in (X, 0, jax.random.split(jax.random.key(0), 3), None):
        with pytest.raises(
            TypeError, match=f"^{name}: the first argument must be a random"
        ):
            explain(key, X, B[None])
    for draws in (0, 3, -8, 2.5, True, "8"):
        with pytest.raises(ValueError, match=f"^{name}: draws must be .*at least"):
            make(jnp.sum, draws=draws)
    with pytest.raises(ValueError, match=f"^{name}: chunk_size must be None or an integer"):
        make(jnp.sum, chunk_size=0)
    what = "f" if name.endswith("gradients") else "attribute"
    with pytest.raises(TypeError, match=f"^{name}: {what} must be callable, got"):
        getattr(igjax, name)(3)


def test_raw_keys_are_keys():
    smoothed = igjax.smooth(igjax.gradient(jnp.sum))
    np.testing.assert_allclose(smoothed(jax.random.PRNGKey(0), X, B).values, 1)


@pytest.mark.parametrize("name", ["smooth", "smooth_squared", "smooth_variance"])
def test_errors_of_scales_name_what_is_wrong(name):
    make = getattr(igjax, name)
    attribute = igjax.gradient(jnp.sum)
    for scale in (-1.0, np.inf, np.nan, np.array([1.0, -1.0, 1.0])):
        with pytest.raises(
            ValueError, match=f"^{name}: scale must be at least 0 and finite"
        ):
            make(attribute, scale=scale)
    key = jax.random.key(0)
    with pytest.raises(
        ValueError, match=f"^{name}: scale must be a number or have the str"
    ):
        make(attribute, scale={"a": 1.0})(key, X, B)
    with pytest.raises(
        ValueError, match=rf"^{name}: a scale must be a number .* got \(2,\)"
    ):
        make(attribute, scale=np.ones(2))(key, X, B)
    with pytest.raises(
        ValueError, match=f"^{name}: a leaf of a single number.*relative=Fal"
    ):
        make(attribute)(key, 1.0, 0.0)


@pytest.mark.parametrize("name", [name for name in MAKERS if name.startswith("expected")])
def test_errors_of_rows_name_what_is_wrong(name):
    explain, key = MAKERS[name](jnp.sum), jax.random.key(0)
    for rows in (B, 0.0, np.ones((4, 2)), np.ones((2, 2, 3))):
        with pytest.raises(
            ValueError, match=rf"^{name}: baselines must be rows like x, of"
        ):
            explain(key, X, rows)
    with pytest.raises(
        ValueError, match=f"^{name}: baselines must have the structure of x"
    ):
        explain(key, X, {"a": B[None]})
    with pytest.raises(ValueError, match=f"^{name}: baselines must have at least one row"):
        explain(key, X, np.ones((0, 3)))
    pair = {"a": X, "b": X}
    unequal = {"a": np.ones((4, 3)), "b": np.ones((5, 3))}
    with pytest.raises(
        ValueError, match=rf"^{name}: baselines\['a'\] must be .*as many rows"
    ):
        MAKERS[name](lambda x: x["a"].sum())(key, pair, unequal)
    with pytest.raises(TypeError, match=f"^{name}: sample must be callable, got 3"):
        MAKERS[name](jnp.sum, sample=3)


def test_errors_of_expected_name_what_is_wrong():
    attribute, key = igjax.gradient(jnp.sum), jax.random.key(0)
    with pytest.raises(
        ValueError, match="draws must be at most the number of rows, 4, got 5"
    ):
        igjax.expected(attribute, draws=5)(key, X, np.ones((4, 3)))
    with pytest.raises(ValueError, match=r"^expected: a sampler needs draws"):
        igjax.expected(attribute, igjax.baselines.noise(0.1))
    for rule in (igjax.rules.adaptive(), 8):
        with pytest.raises(TypeError, match=r"gradients: rule must be a fixed one"):
            igjax.expected_integrated_gradients(jnp.sum, rule=rule)
    for tolerance in (0, -1.0):
        with pytest.raises(ValueError, match=r"^expected: tolerance must be one positive"):
            igjax.expected(attribute, tolerance=tolerance)


def test_results_without_a_gap_are_stored_too(tmp_path):
    for method in PLAIN:
        result = method.transform(curved)(X, B, W)
        igjax.save(tmp_path / "result.npz", result)
        loaded = igjax.load(tmp_path / "result.npz").result
        for field in dataclasses.fields(result):
            np.testing.assert_array_equal(
                getattr(loaded, field.name), getattr(result, field.name)
            )
