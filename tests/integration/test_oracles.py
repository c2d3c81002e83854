"""Values equal closed forms, to the accuracy that each rule justifies.

Three justifications. A rule of degree d is exact, up to rounding, where the integrand is a
polynomial of degree d. The three spectral rules are at rounding where it is analytic. And
everywhere the error is at most discrepancy times total variation (Koksma), which holds
for kinks too and knows no constant to tune.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

import igjax
from tests.problems import PROBLEMS, B, W, X, hidden_layer_values, named, tagged
from tests.registry import METHODS, QUICKLY, RULES, discrepancy, over_rules, together

ROUNDING = 1e-12  # of float64, with a safety for sums over up to 33 nodes
SPECTRAL = ("gauss_legendre", "gauss_kronrod", "clenshaw_curtis", "composite")
ALL_RULES = [rule for rule, _ in RULES.values()]
OPEN = [name for name, (rule, _) in RULES.items() if rule.nodes[0] > 0]
GRID = np.linspace(0, 1, 4001)

each_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)


def names_for(problem):
    return OPEN if "open" in problem.tags else list(RULES)


def flat(tree, axes=0):
    """All leaves side by side, after the leading axes."""
    leaves = [np.reshape(a, (*np.shape(a)[:axes], -1)) for a in jax.tree.leaves(tree)]
    return np.concatenate(leaves, axis=-1)


@functools.cache
def solve(problem):
    """By method the results of all rules that may be used, and the integrands on a grid.

    In one program, since methods share most of it and compiling costs more than running.
    """
    rules = [RULES[name][0] for name in names_for(problem)]
    attributes = {m.name: over_rules(m.transform, problem.f, rules) for m in METHODS}
    # A gradient that is undefined at the baseline is not sampled there.
    grid = GRID[1:] if "open" in problem.tags else GRID

    def everything(x, baseline):
        def integrand(t):
            point = jax.tree.map(lambda x, b: b + t * (x - b), x, baseline)
            slope = lambda g, x, b: (g * (x - b)).real
            return jax.tree.map(slope, jax.grad(problem.f)(point), x, baseline)

        results = {name: attribute(x, baseline) for name, attribute in attributes.items()}
        return results, jax.vmap(integrand)(grid)

    results, integrands = jax.jit(everything, compiler_options=QUICKLY)(
        problem.x, problem.baseline
    )
    return results, np.abs(np.diff(flat(integrands, 1), axis=0)).sum(0)


def values(method, problem):
    """Names of the rules, their values, and the exact ones, as flat arrays."""
    got = flat(solve(problem)[0][method.name].values, 1)
    return zip(names_for(problem), got, strict=True), flat(problem.exact)


def cases(problems):
    return pytest.mark.parametrize("problem", problems, ids=lambda p: p.name)


@each_method
@cases([p for p in PROBLEMS if p.degree is not None])
def test_rules_are_exact_where_the_integrand_is_a_polynomial_of_their_degree(
    method, problem
):
    by_rule, exact = values(method, problem)
    for name, got in by_rule:
        if RULES[name][1] >= problem.degree:
            atol = ROUNDING * np.abs(exact).max()
            np.testing.assert_allclose(got, exact, rtol=0, atol=atol, err_msg=name)


@each_method
@cases(tagged("smooth"))
def test_spectral_rules_are_at_rounding_where_the_integrand_is_analytic(method, problem):
    by_rule, exact = values(method, problem)
    for name, got in by_rule:
        if name in SPECTRAL:
            atol = ROUNDING * np.abs(exact).max()
            np.testing.assert_allclose(got, exact, rtol=0, atol=atol, err_msg=name)


@each_method
@cases(PROBLEMS)
def test_every_rule_is_within_discrepancy_times_variation(method, problem):
    by_rule, exact = values(method, problem)
    _, variation = solve(problem)
    for name, got in by_rule:
        # A sampled variation of an integrand with sharp extremes lacks a part of them.
        bound = (
            1.01 * discrepancy(RULES[name][0]) * variation + ROUNDING * np.abs(exact).max()
        )
        assert (np.abs(got - exact) <= bound).all(), name


@each_method
@cases(PROBLEMS)
def test_delta_is_what_the_values_lack_of_the_score_difference(method, problem):
    result = solve(problem)[0][method.name]
    gap = problem.f(problem.x) - problem.f(problem.baseline)
    sums = flat(result.values, 1).sum(1)
    scale = np.abs(flat(result.values, 1)).sum(1).max() + np.abs(gap)
    np.testing.assert_allclose(result.score - result.baseline_score, gap, rtol=1e-13)
    np.testing.assert_allclose(result.delta, sums - gap, rtol=0, atol=1e-13 * scale)


def test_error_estimates_cover_kinks_as_often_as_rules_promise():
    # 95% of features of kinked integrands: a kink may fall where a rule cannot see it.
    covered = []
    for problem in tagged("kinked"):
        by_rule, exact = values(METHODS[0], problem)
        estimates = flat(solve(problem)[0][METHODS[0].name].error, 1)
        for (name, got), estimate in zip(by_rule, estimates, strict=True):
            if len(RULES[name][0].nodes) >= 5:
                rounding = ROUNDING * np.abs(exact).max()
                covered.extend(np.abs(got - exact) <= estimate + rounding)
    assert len(covered) > 200
    assert np.mean(covered) >= 0.95


def test_enough_panels_resolve_narrow_steps():
    # 64 panels of width 1/64 against a step of width 1/125: GL(16) has the poles of the
    # sigmoid at a relative distance of 0.8 and converges as 2^-32.
    rule = igjax.rules.composite(igjax.rules.gauss_legendre(16), 64)
    for problem in tagged("spike"):
        attribute = igjax.integrated_gradients(problem.f, rule=rule)
        result = attribute(problem.x, problem.baseline)
        np.testing.assert_allclose(result.values, problem.exact, rtol=0, atol=2e-8)


# A tanh and a sigmoid of random slopes up to 6 along the path: analytic within an
# ellipse on which 32 nodes are at rounding.
@pytest.mark.parametrize(
    ("activation", "host"),
    [(jnp.tanh, np.tanh), (jax.nn.sigmoid, expit), (jnp.exp, np.exp)],
    ids=["tanh", "sigmoid", "exp"],
)
def test_random_networks_of_one_hidden_layer_are_exact(activation, host):
    generator = np.random.default_rng(11)
    draw = lambda *shape: generator.normal(size=shape)
    w, c, v = draw(50, 8, 5) / 2, draw(50, 8), draw(50, 8)
    x, b = draw(50, 5), draw(50, 5)
    slopes = np.abs(np.einsum("nji,ni->nj", w, x - b))
    assert 1e-3 < slopes.min() < slopes.max() < 7  # the closed form divides by them
    f = lambda x, w, c, v: v @ activation(w @ x + c)
    attribute = igjax.integrated_gradients(f, rule=igjax.rules.gauss_legendre(32))
    values = jax.jit(jax.vmap(attribute))(x, b, w, c, v).values
    exact = np.stack(
        [hidden_layer_values(host, *case) for case in zip(w, c, v, x, b, strict=True)]
    )
    scale = np.abs(exact).max(axis=1, keepdims=True)
    np.testing.assert_allclose(values / scale, exact / scale, rtol=0, atol=1e-11)


def test_units_that_do_not_change_share_their_slope():
    # w.d = 0: the limit of the quotient is the derivative, and the values cancel.
    w, x, b = np.array([2.0, 1.0]), np.array([1.0, -2.0]), np.zeros(2)
    f = lambda x: jnp.tanh(w @ x + 0.5)
    attribute = igjax.integrated_gradients(f, rule=igjax.rules.gauss_legendre(4))
    slope = 1 - np.tanh(0.5) ** 2
    np.testing.assert_allclose(attribute(x, b).values, slope * w * x, rtol=1e-13)


def test_homogeneous_functions_from_zero_need_one_gradient():
    # f(s x) = s^k f(x): values x * gradient / k. Here k = 1 (norm) and k = 2.
    for problem, k in ((named("norm"), 1), (named("homogeneous square"), 2)):
        by_rule, _ = values(METHODS[0], problem)
        expected = problem.x * jax.grad(problem.f)(problem.x) / k
        np.testing.assert_allclose(dict(by_rule)["one midpoint"], expected, rtol=1e-13)


def test_nonlinear_rates_hold_for_values_too():
    # The rate of the whole chain, rule to values: h -> h/2 gains 2^order.
    problem = named("hidden tanh")
    orders = {"left": 1, "midpoint": 2, "trapezoid": 2, "simpson": 4}
    makers = [getattr(igjax.rules, name) for name in orders]
    # 64 intervals, then 128; rules with nodes at both ends have one node more.
    extra = [0, 0, 1, 1]
    rules = [m(n + e) for n in (64, 128) for m, e in zip(makers, extra, strict=True)]
    attribute = over_rules(igjax.integrated_gradients, problem.f, rules)
    got = jax.jit(attribute)(problem.x, problem.baseline).values
    coarse, fine = np.abs(got - problem.exact[None]).sum(1).reshape(2, 4)
    np.testing.assert_allclose(np.log2(coarse / fine), list(orders.values()), atol=0.1)


# Jacobians: closed forms with many outputs.


def test_jacobian_of_many_ridges_is_exact_in_every_row():
    slopes = np.array([0.5, -1.0, 2.0])
    f = lambda x: jnp.sin(slopes * (W @ x))
    rules = [RULES[name][0] for name in SPECTRAL]
    result = jax.jit(over_rules(igjax.integrated_jacobian, f, rules))(X, B)
    growth = np.sin(slopes * (W @ X)) - np.sin(slopes * (W @ B))
    exact = np.outer(growth, W * (X - B) / (W @ (X - B)))
    np.testing.assert_allclose(result.values, np.stack([exact] * 4), atol=1e-12)
    np.testing.assert_allclose(result.delta, np.zeros((4, 3)), atol=1e-12)
    assert result.error.shape == (4, 3, 4)
    assert result.status.shape == (4, 3)


def test_jacobian_of_a_linear_map_is_exact_for_every_rule():
    matrix = np.random.default_rng(3).normal(size=(2, 3, 4))
    f = lambda x: jnp.tensordot(matrix, x, 1)
    values = jax.jit(over_rules(igjax.integrated_jacobian, f, ALL_RULES))(X, B).values
    expected = np.broadcast_to(matrix * (X - B).reshape(1, 1, 4), values.shape)
    np.testing.assert_allclose(values, expected, atol=1e-13)


def test_jacobian_rows_are_the_gradients_of_the_outputs():
    problem = named("hidden relu")  # kinked: equal only because the nodes are the same
    f = lambda x: jnp.stack([problem.f(x), problem.f(-x), jnp.prod(x)])
    rule = igjax.rules.clenshaw_curtis(9)
    row = lambda i: igjax.integrated_gradients(lambda x: f(x)[i], rule=rule)(X, B)
    jacobian, *rows = together(
        lambda: igjax.integrated_jacobian(f, rule=rule)(X, B),
        *(functools.partial(row, i) for i in range(3)),
    )
    for i, one in enumerate(rows):
        np.testing.assert_allclose(jacobian.values[i], one.values, rtol=1e-12)
        np.testing.assert_allclose(jacobian.error[i], one.error, rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(jacobian.score[i], one.score, rtol=1e-14)


def test_jacobian_of_a_pytree_has_output_axes_in_front_of_every_leaf():
    problem = named("table times number")
    f = lambda x: jnp.stack([problem.f(x), 3 * problem.f(x)])
    attribute = igjax.integrated_jacobian(f, rule=igjax.rules.midpoint(1))
    values = attribute(problem.x, problem.baseline).values
    for leaf, exact in zip(
        jax.tree.leaves(values), jax.tree.leaves(problem.exact), strict=True
    ):
        np.testing.assert_allclose(leaf, np.stack([exact, 3 * exact]), rtol=1e-13)


# Games: what the values have to do with Shapley's.


def test_multilinear_functions_get_the_shapley_value():
    # Shapley from all orders of switching features on, b to x, for a multilinear f.
    f = lambda x: x[0] * x[1] + 2 * x[1] * x[2] - x[0] * x[1] * x[2]
    x, b = X[:3], np.zeros(3)
    shapley = np.zeros(3)
    for order in itertools.permutations(range(3)):
        point = b.copy()
        for i in order:
            before = f(point)
            point[i] = x[i]
            shapley[i] += (f(point) - before) / 6
    attribute = igjax.integrated_gradients(f, rule=igjax.rules.gauss_legendre(2))
    np.testing.assert_allclose(attribute(x, b).values, shapley, rtol=1e-12)


def test_squares_break_the_tie_with_shapley():
    # x1^2 x2 from 0: (2/3, 1/3) of f along the line, (1/2, 1/2) in Shapley's orders.
    f = lambda x: x[0] ** 2 * x[1]
    attribute = igjax.integrated_gradients(f, rule=igjax.rules.gauss_legendre(2))
    x = np.array([2.0, 3.0])
    np.testing.assert_allclose(attribute(x, 0 * x).values, [8.0, 4.0], rtol=1e-13)


def test_linear_functions_get_the_expected_gap_over_baselines():
    data = np.random.default_rng(5).normal(size=(30, 4))
    attribute = igjax.integrated_gradients(lambda x: W @ x, rule=igjax.rules.midpoint(1))
    values = jax.vmap(attribute, in_axes=(None, 0))(X, data).values.mean(axis=0)
    np.testing.assert_allclose(values, W * (X - data.mean(axis=0)), rtol=1e-12)
