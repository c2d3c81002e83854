"""Inputs on which published libraries go wrong, and our right answers to them.

Wrong numbers of others are literals. Those of Captum are the output of
`benchmarks/captum_references.py` with captum 0.9.0 and torch 2.13.0 (CPU), stored in
`benchmarks/captum_references.txt`. Where a fixed rule of ours is the same rule, it must
give the same number on kinks and spikes: then what counts is that `error` says so.
"""

import ast
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax
from igjax import baselines, rules
from igjax.models import SequenceTransformer
from tests.problems import named, tagged
from tests.registry import METHODS, together


def explain(f, x, baseline, *args, rule):
    return igjax.integrated_gradients(f, rule=rule)(x, baseline, *args)


def average(n):
    """The mean of n points with both ends, as many libraries take it."""
    return rules.Rule.of(np.linspace(0, 1, n), np.full(n, 1 / n), degree=0)


# Captum and alibi: trapezoid weights that add up to 1 - 1/n. Captum's numbers at n = 50.


def test_the_trapezoid_is_exact_on_a_linear_model():
    captum = np.array([0.97999984, 1.95999968, 2.94000006])
    weights = np.array([1.0, 2.0, 3.0])
    got = explain(lambda x: x @ weights, np.ones(3), np.zeros(3), rule=rules.trapezoid(50))
    np.testing.assert_allclose(got.values, weights, rtol=1e-14)
    np.testing.assert_allclose(got.delta, 0, atol=1e-14)
    np.testing.assert_allclose(captum / got.values, 1 - 1 / 50, rtol=1e-6)


@pytest.mark.parametrize("n", [2, 10, 50, 300])
def test_trapezoid_weights_add_up_to_one(n):
    np.testing.assert_allclose(rules.trapezoid(n).weights.sum(), 1, rtol=1e-14)


# Captum: float64 work with weights rounded to float32.


def test_float64_work_has_float64_weights():
    captum = 8.0000000140506895  # x^3 at 2, 50 nodes; 2 are exact
    few_and_many = [rules.gauss_legendre(n) for n in (2, 3, 10, 50)]
    cube = lambda x: x**3
    for got in together(
        *(functools.partial(explain, cube, 2.0, 0.0, rule=rule) for rule in few_and_many)
    ):
        assert got.values.dtype == np.float64
        np.testing.assert_allclose(got.values, 8, rtol=1e-14)
    assert abs(captum - 8) > 1e-8


def test_a_float64_tanh_network_has_no_float32_floor():
    w1 = np.array([[0.5, -0.3, 0.8], [-0.6, 0.9, 0.2], [0.1, 0.7, -0.4], [1.1, -0.2, 0.3]])
    b1, w2 = np.array([0.1, -0.2, 0.3, 0.05]), np.array([0.7, -1.2, 0.4, 0.9])
    x, b = np.array([0.9, -1.4, 0.6]), np.array([0.1, 0.2, -0.3])
    captum = np.array([0.95157321221426949, 0.81792966822946389, 0.24948866442284698])
    # One hidden layer: each unit is a ridge. (The file's own exact values are the same.)
    end, start = w1 @ x + b1, w1 @ b + b1
    exact = (w2 * (np.tanh(end) - np.tanh(start)) / (end - start)) @ w1 * (x - b)
    f = lambda x: jnp.tanh(w1 @ x + b1) @ w2 + 0.25
    got = explain(f, x, b, rule=rules.gauss_legendre(16))
    np.testing.assert_allclose(got.values, exact, rtol=1e-13)
    np.testing.assert_allclose(captum, exact, rtol=1e-9)
    assert np.abs(captum - exact).max() > 1e-10


# Captum: a complex input gave numbers without meaning, a complex output a raw error.


def test_complex_inputs_get_real_values_that_add_up():
    z, start = np.array([1 + 1j, 2 - 1j]), np.array([0j, 1j])
    f = lambda z: (z.real**2 + z.imag**2).sum()
    got = explain(f, z, start, rule=rules.gauss_legendre(2))
    np.testing.assert_allclose(got.values, np.abs(z) ** 2 - np.abs(start) ** 2, rtol=1e-14)
    np.testing.assert_allclose(got.delta, 0, atol=1e-14)


def test_complex_outputs_are_refused_with_a_remedy():
    with pytest.raises(TypeError, match=r"must return a real number.*jnp\.real"):
        explain(lambda z: z.sum(), np.array([1 + 1j]), 0.0, rule=rules.midpoint(2))


# Captum and unifiedig: a gap of zero over wrong values, since errors of features cancel.


def test_errors_that_cancel_in_the_gap_show_in_the_error():
    captum = 35.555556416511536  # five Gauss nodes; the true values are +-1
    problem = named("cancelling steps")
    five, enough = together(
        *(
            lambda rule=rule: explain(problem.f, problem.x, problem.baseline, rule=rule)
            for rule in (
                rules.gauss_legendre(5),
                rules.composite(rules.gauss_legendre(16), 64),
            )
        )
    )
    np.testing.assert_allclose(five.values, [captum, -captum], rtol=1e-7)
    np.testing.assert_allclose(five.delta, 0, atol=1e-13)
    assert (five.error > captum - 1).all()
    np.testing.assert_allclose(enough.values, problem.exact, atol=2e-8)


# Captum's tutorial on distributed attribution prints these rows, with the default of 50
# Gauss nodes. The kink lies at t = 10 / sum(x).


@pytest.mark.parametrize(
    ("name", "captum", "panels"),
    [
        ("captum tutorial 3", [0.481256336, 0.641675115, 0.802093863], 12),
        ("captum tutorial 6", [3.18652964, 3.71761799, 4.24870634], 21),
        ("captum tutorial 9", [5.87741232, 6.53045845, 7.1835041], 3),
    ],
)
def test_published_tutorial_rows(name, captum, panels):
    problem = named(name)
    fifty, cut = together(
        *(
            lambda rule=rule: explain(problem.f, problem.x, problem.baseline, rule=rule)
            for rule in (
                rules.gauss_legendre(50),
                rules.composite(rules.gauss_legendre(1), panels),
            )
        )
    )
    np.testing.assert_allclose(cut.values, problem.exact, rtol=1e-13)
    np.testing.assert_allclose(fifty.values, captum, rtol=1e-6)
    assert (np.abs(fifty.values - problem.exact) <= fifty.error).all()


def test_x_exp_y_is_exact_where_captum_stops_at_float32():
    captum = np.array([1.1598939844286109, 0.053867043647561279])
    problem = named("x exp(y)")
    got = explain(problem.f, problem.x, problem.baseline, rule=rules.gauss_legendre(50))
    np.testing.assert_allclose(got.values, problem.exact, rtol=1e-13)
    assert np.abs(captum - problem.exact).max() > 5e-10


# saliency, irtk-jax and others: the mean over points with both ends, off by O(1/n).


def test_the_cube_needs_two_nodes_and_no_average_over_both_ends():
    two, saliency = together(
        lambda: explain(lambda x: x**3, 2.0, 0.0, rule=rules.gauss_legendre(2)),
        lambda: explain(lambda x: x**3, 2.0, 0.0, rule=average(25)),
    )
    np.testing.assert_allclose(two.values, 8, rtol=1e-14)
    np.testing.assert_allclose(saliency.values / 8, 1 + 1 / 48, rtol=1e-13)  # +2.1%
    assert abs(saliency.values - 8) <= saliency.error


def test_one_node_says_that_it_knows_nothing_of_its_error():
    got = explain(lambda x: x**3, 2.0, 0.0, rule=rules.left(1))
    assert got.values == 0  # saliency: zeros, without a word
    assert got.error == np.inf


def test_pixels_that_are_bytes_are_refused_instead_of_wrapping():
    image = np.full((2, 2, 3), 200, "uint8")
    with pytest.raises(TypeError, match=r"uint8\[2, 2, 3\]\. Cast pixels.*astype"):
        explain(jnp.sum, image, 255, rule=rules.midpoint(2))


# alibi: points on the path cast back to integers.


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_integer_inputs_are_refused(method):
    attribute = method.transform(lambda x: x["age"] * 0.5, rule=rules.midpoint(2))
    with pytest.raises(TypeError, match=r"x\['age'\] must be floating or complex.*int"):
        attribute({"age": np.array(3)}, 0)


# tf-explain and Xplique: the factor x - baseline left out, signs and channels averaged.


def test_values_keep_the_difference_the_signs_and_all_channels():
    weights = np.random.default_rng(41).normal(size=(4, 4, 3))
    image, start = np.full((4, 4, 3), 3.0), np.full((4, 4, 3), 1.0)
    f = lambda x: (weights * x).sum()
    got = explain(f, image, start, rule=rules.midpoint(1))
    np.testing.assert_allclose(got.values, 2 * weights, rtol=1e-13)
    np.testing.assert_allclose(got.values.sum(), f(image) - f(start), rtol=1e-12)


# Captum: joint rows of backgrounds torn apart, each input drawing its own.


def test_background_rows_stay_whole(getkey):
    first = np.arange(20.0)
    sample = baselines.rows({"a": first, "b": 10 * first})
    keys = jax.random.split(getkey(), 100)
    (drawn,) = together(lambda: jax.vmap(lambda key: sample(key, None))(keys))
    np.testing.assert_array_equal(drawn["b"], 10 * drawn["a"])


# irtk-jax: a LayerNorm next to a baseline of zeros puts the integrand near t = 0, where a
# mean over both ends counts the node at 0 as much as all others; token scores were norms.


@pytest.mark.slow
def test_a_layer_normed_transformer_at_a_zero_baseline():
    model = SequenceTransformer(2, 1, 8)
    generator = np.random.default_rng(42)
    shapes = jax.eval_shape(
        model.init, jax.random.key(0), jax.ShapeDtypeStruct((5, 4), "float32")
    )
    params = jax.tree.map(lambda a: 0.5 * generator.normal(size=a.shape), shapes)
    params["params"]["positions"] *= 0.04  # as they are initialized
    tokens = generator.normal(size=(5, 4))
    f = lambda x, params: model.apply(params, x)[0]
    graded = np.concatenate([[0.0], 2.0 ** np.arange(-9, 1)])
    sizes = np.diff(graded)[:, None]
    panels = rules.Rule.of(
        (graded[:-1, None] + sizes * rules.gauss_legendre(10).nodes).ravel(),
        (sizes * rules.gauss_legendre(10).weights).ravel(),
        degree=19,
    )
    mean, fixed = together(
        *(
            lambda rule=rule: explain(f, tokens, 0.0, params, rule=rule)
            for rule in (average(51), panels)
        )
    )
    gain = fixed.score - fixed.baseline_score
    assert abs(mean.delta) > 0.1 * abs(gain)
    assert abs(fixed.delta) < 1e-6 * abs(gain)
    # Values of a token add up to its share, with a sign.
    shares = fixed.values.sum(axis=1)
    np.testing.assert_allclose(shares.sum(), gain, rtol=1e-6)
    assert shares.min() < 0 < shares.max()


# Captum: validation by assert, gone under python -O; NaN in, NaN out, no message.


def test_nothing_is_validated_by_assert():
    package = pathlib.Path(igjax.__file__).parent
    for file in package.rglob("*.py"):
        tree = ast.parse(file.read_text("utf8"))
        found = [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Assert)]
        assert not found, f"{file}: assert in lines {found}"


def test_zero_steps_are_refused_at_once():
    with pytest.raises(ValueError, match="at least 1 nodes, got 0"):
        rules.gauss_legendre(0)


def test_a_nan_in_the_input_is_a_status_of_that_example():
    attribute = igjax.integrated_gradients(jnp.sum, rule=rules.gauss_legendre(3))
    x = np.array([[1.0, np.nan], [1.0, 2.0]])
    results = jax.vmap(attribute)(x, np.zeros((2, 2)))
    np.testing.assert_array_equal(
        results.status, [igjax.Status.NON_FINITE, igjax.Status.NO_TOLERANCE]
    )
    np.testing.assert_allclose(results.values[1], [1, 2], rtol=1e-14)


# Captum: a gradient of an attribution that forgets the gradient inside it.


def test_the_gradient_of_an_attribution_is_the_whole_gradient():
    attribute = igjax.integrated_gradients(
        lambda x, w: w * x**3, rule=rules.gauss_legendre(2)
    )
    value = lambda x, b, w: attribute(x, b, w).values
    # w (x^3 - b^3): Captum gives 4 with respect to x at 2; the rest raises.
    by_x, by_b, by_w = jax.grad(value, argnums=(0, 1, 2))(2.0, 0.0, 1.0)
    assert by_x == pytest.approx(12, rel=1e-14)
    assert by_b == pytest.approx(0, abs=1e-14)
    assert by_w == pytest.approx(8, rel=1e-14)


# Captum's own tests accept values that are a little off (3.96 for 4 - 1/30).


def test_values_that_published_tests_hide_in_their_tolerance():
    half = rules.gauss_legendre(3)

    def explain_cut_at_the_kink(problem):
        # Kinks at t = 10 / sum(x); of the head alone, whose first unit goes from -10 to
        # 90, at 1/10.
        cut = 0.1 if problem.name == "captum multilayer head" else 10 / np.sum(problem.x)
        nodes = np.concatenate([cut * half.nodes, cut + (1 - cut) * half.nodes])
        weights = np.concatenate([cut * half.weights, (1 - cut) * half.weights])
        rule = rules.Rule.of(nodes, weights, degree=5)
        return explain(problem.f, problem.x, problem.baseline, rule=rule)

    problems = tagged("captum")
    results = together(*(functools.partial(explain_cut_at_the_kink, p) for p in problems))
    for problem, got in zip(problems, results, strict=True):
        np.testing.assert_allclose(
            got.values, problem.exact, rtol=1e-13, atol=1e-13, err_msg=problem.name
        )
