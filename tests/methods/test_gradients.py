"""Plain gradients are gradients, and say what they are not: complete."""

import jax
import jax.numpy as jnp
import numpy as np

import igjax
from tests.problems import PROBLEMS, tagged
from tests.registry import together

X = np.array([0.5, -1.0, 2.0])
B = np.array([0.1, 0.2, -0.3])
W = np.array([1.0, 2.0, -0.5])


def test_the_gradient_is_that_of_a_closed_form():
    attribute = igjax.gradient(lambda x, w: jnp.sum(w * x**3))
    with_baseline, without = together(
        lambda: attribute(X, B, W), lambda: attribute(X, None, W)
    )
    for result in (with_baseline, without):
        np.testing.assert_allclose(result.values, 3 * W * X**2)
        np.testing.assert_array_equal(result.error, 0)
        np.testing.assert_allclose(result.score, np.sum(W * X**3))
        assert np.isposinf(result.delta)
        assert result.status == igjax.Status.NO_TOLERANCE
        assert result.evaluations == 1
    np.testing.assert_allclose(with_baseline.baseline_score, np.sum(W * B**3))
    np.testing.assert_array_equal(without.baseline_score, without.score)


def test_the_baseline_of_a_gradient_may_be_left_out():
    np.testing.assert_allclose(igjax.gradient(jnp.sum)(X).values, 1)


def test_input_x_gradient_is_exact_where_f_is_linear():
    linear = tagged("degree 0")
    thunks = [lambda p=p: igjax.input_x_gradient(p.f)(p.x, p.baseline) for p in linear]
    for problem, result in zip(linear, together(*thunks), strict=True):
        same = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12)
        if "open" not in problem.tags:
            jax.tree.map(same, result.values, problem.exact)
            np.testing.assert_allclose(result.delta, 0, atol=1e-12)
    assert len(linear) > 2


def test_input_x_gradient_is_exact_where_f_is_homogeneous():
    # Of degree 1, without biases: Euler's theorem, sum of x_i d_i f = f.
    w, v = np.array([[1.0, -2.0, 0.5], [0.3, 1.0, -1.0]]), np.array([2.0, -1.0])
    f = lambda x: v @ jax.nn.relu(w @ x)
    product, integral = together(
        lambda: igjax.input_x_gradient(f)(X, 0.0),
        # From 0 on a ray no unit switches: the gradient is the same at all t.
        lambda: igjax.integrated_gradients(f, rule=igjax.rules.midpoint(1))(X, 0.0),
    )
    np.testing.assert_allclose(product.values, integral.values)
    np.testing.assert_allclose(product.delta, 0, atol=1e-12)


def test_the_gap_is_what_a_first_order_expansion_leaves_out():
    result = igjax.input_x_gradient(lambda x: jnp.sum(W * x**2))(X, B)
    # 2 x (x - b) - (x**2 - b**2) = (x - b)**2
    np.testing.assert_allclose(result.delta, np.sum(W * (X - B) ** 2))
    np.testing.assert_allclose(result.values, 2 * W * X * (X - B))


def test_input_x_gradient_is_the_rule_of_one_node_at_x():
    smooth = [p for p in PROBLEMS if "smooth" in p.tags and "pytree" not in p.tags][:4]
    right = igjax.rules.right(1)
    pairs = together(
        *(
            lambda p=p, m=m: m(p.f)(p.x, p.baseline).values
            for p in smooth
            for m in (
                igjax.input_x_gradient,
                lambda f: igjax.integrated_gradients(f, rule=right),
            )
        )
    )
    for got, want in zip(pairs[::2], pairs[1::2], strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_a_score_that_is_not_finite_is_seen():
    products = igjax.input_x_gradient(lambda x: jnp.sum(jnp.log(x)))
    assert products(jnp.ones(2), 0.0).status == igjax.Status.NON_FINITE  # log 0 at 0
    slopes = igjax.gradient(lambda x: jnp.sum(jnp.log(x)))
    assert slopes(jnp.ones(2), 0.0).status == igjax.Status.NO_TOLERANCE
    assert slopes(jnp.zeros(2)).status == igjax.Status.NON_FINITE
