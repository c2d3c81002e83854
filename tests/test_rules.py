"""Rules are exact to their degree and no further, converge as they should, and know it."""

import functools
import pickle

import jax
import numpy as np
import pytest
from numpy.polynomial import legendre

import igjax
from igjax.rules import (
    Rule,
    adaptive,
    clenshaw_curtis,
    composite,
    gauss_kronrod,
    gauss_legendre,
    left,
    midpoint,
    right,
    simpson,
    trapezoid,
)
from tests.registry import discrepancy, padded, together


def gauss_in_four(n):
    return composite(gauss_legendre(n), 4)


# A maker, a legal number of nodes, and the degree of the rule that it makes.
DEGREES = [
    *((left, n, 0) for n in (1, 2, 7)),
    *((right, n, 0) for n in (1, 2, 7)),
    *((midpoint, n, 1) for n in (1, 2, 7)),
    *((trapezoid, n, 1) for n in (2, 3, 8)),
    *((simpson, n, 3) for n in (3, 5, 9)),
    *((gauss_legendre, n, 2 * n - 1) for n in (1, 2, 5, 12)),
    # 3g + 1 for an even number g of Gauss nodes, 3g + 2 for an odd one; 5 for g = 1.
    *((gauss_kronrod, n, d) for n, d in ((3, 5), (5, 7), (7, 11), (15, 23), (21, 31))),
    # n - 1, and one more by symmetry where n is odd.
    *((clenshaw_curtis, n, d) for n, d in ((2, 1), (3, 3), (4, 3), (9, 9), (16, 15))),
    *((gauss_in_four, n, 2 * n - 1) for n in (1, 3)),
]
MAKERS = [left, right, midpoint, trapezoid, simpson, gauss_legendre, gauss_kronrod]
MAKERS += [clenshaw_curtis, gauss_in_four]

each_degree = pytest.mark.parametrize(
    ("maker", "n", "degree"), DEGREES, ids=lambda a: getattr(a, "__name__", str(a))
)
each_maker = pytest.mark.parametrize("maker", MAKERS, ids=lambda m: m.__name__)


# Polynomials: shifted Legendre polynomials on [0, 1], of mean 0 but for the first. Mixed
# with lower ones, so that symmetry cannot hide an error.


def legendre_errors(rule, degree):
    """The rule's error on each Legendre polynomial up to the degree."""
    basis = legendre.legvander(2 * rule.nodes - 1, degree).T
    errors = basis @ rule.weights
    errors[0] -= 1
    return np.abs(errors)


@each_degree
def test_rule_is_exact_up_to_its_degree(maker, n, degree):
    assert legendre_errors(maker(n), degree).max() < 1e-13


@each_degree
def test_rule_is_not_exact_one_degree_above(maker, n, degree):
    above = legendre_errors(maker(n), degree + 1)[-1]
    # Composite rules divide by a power of the panels; Kronrod's by a geometric factor.
    assert above > 1e-5


@each_degree
def test_nodes_ascend_in_the_unit_interval_and_weights_add_up_to_one(maker, n, degree):
    rule = maker(n)
    assert rule.nodes.shape == rule.weights.shape
    assert rule.nodes[0] >= 0
    assert rule.nodes[-1] <= 1
    assert (np.diff(rule.nodes) > 0).all()
    assert (rule.weights > 0).all()
    np.testing.assert_allclose(rule.weights.sum(), 1, rtol=1e-14)


@each_degree
def test_rules_have_as_many_nodes_as_asked(maker, n, degree):
    panels = 4 if maker is gauss_in_four else 1
    assert len(maker(n).nodes) == panels * n


def test_many_gauss_nodes_lose_no_digits():
    # 1 / (1 + t) and its logarithm: any wrong digit of a node or weight shows.
    rule = gauss_legendre(200)
    np.testing.assert_allclose(rule.weights @ (1 / (1 + rule.nodes)), np.log(2), rtol=1e-14)


def test_the_outermost_of_many_gauss_nodes_are_exact_as_well():
    # By mpmath 1.4.1: Newton's method on mpmath.legendre(500, x) with 60 digits.
    node = [5.7716238935216747777e-6, 3.0410092731482203361e-5, 0.096694146630135358259]
    weight = [1.4811822242741418576e-5, 3.4478536413344937485e-5, 0.0018550801369063637087]
    rule = gauss_legendre(500)
    np.testing.assert_allclose(rule.nodes[[0, 1, 100]], node, rtol=1e-15)
    np.testing.assert_allclose(rule.weights[[0, 1, 100]], weight, rtol=1e-14)
    np.testing.assert_array_equal(rule.weights, rule.weights[::-1])


@pytest.mark.parametrize("maker", [gauss_legendre, midpoint, clenshaw_curtis])
def test_null_rules_of_many_nodes_vanish_on_polynomials(maker):
    rule = maker(500)
    powers = legendre.legvander(2 * rule.nodes - 1, 1 if maker is midpoint else 490).T
    assert estimate(rule, powers).max() < 1e-12
    jump = (rule.nodes > 0.3) * 1.0
    error = np.abs(rule.weights @ jump - 0.7)
    assert error < estimate(rule, jump[None])[0] < 100 / 500


def test_gauss_kronrod_has_the_published_nodes():
    # QUADPACK's qk15: its largest node and that node's weight, on [-1, 1].
    rule = gauss_kronrod(15)
    assert 2 * rule.nodes[-1] - 1 == pytest.approx(
        0.991455371120812639206854697526, abs=1e-15
    )
    assert 2 * rule.weights[-1] == pytest.approx(
        0.022935322010529224963732008058, abs=1e-15
    )


def test_kronrod_nodes_contain_the_gauss_nodes():
    np.testing.assert_allclose(
        gauss_kronrod(21).nodes[1::2], gauss_legendre(10).nodes, atol=1e-14
    )


def test_chebyshev_nodes_are_nested():
    np.testing.assert_allclose(
        clenshaw_curtis(17).nodes[::2], clenshaw_curtis(9).nodes, atol=1e-15
    )


# Rates.

SMOOTH = [
    # A function off-center on [0, 1] without symmetry, and its integral.
    (lambda t: np.exp(1.5 * t), (np.exp(1.5) - 1) / 1.5),
    (lambda t: np.sin(2 * t + 0.3), (np.cos(0.3) - np.cos(2.3)) / 2),
]


@pytest.mark.parametrize(
    ("maker", "extra", "order"),
    [(left, 0, 1), (right, 0, 1), (midpoint, 0, 2), (trapezoid, 1, 2), (simpson, 1, 4)],
    ids=["left", "right", "midpoint", "trapezoid", "simpson"],
)
@pytest.mark.parametrize(("g", "integral"), SMOOTH, ids=["exp", "sin"])
def test_smooth_integrands_converge_at_the_order_of_the_rule(
    maker, extra, order, g, integral
):
    sizes = [16, 32, 64]  # intervals
    rules = [maker(n + extra) for n in sizes]
    errors = [abs(rule.weights @ g(rule.nodes) - integral) for rule in rules]
    rates = np.log2(np.divide(errors[:-1], errors[1:]))
    np.testing.assert_allclose(rates, order, atol=0.1)


@pytest.mark.parametrize("maker", [gauss_legendre, clenshaw_curtis], ids=["gauss", "cc"])
def test_spectral_rules_converge_geometrically_on_analytic_integrands(maker):
    # 1 / (t + c) has its pole at -c: Bernstein's ellipse of radius r through it gives
    # r^(-2n) for Gauss; Clenshaw-Curtis starts at that rate and keeps at least r^(-n).
    c = 0.3
    r = (1 + 2 * c) + np.sqrt((1 + 2 * c) ** 2 - 1)
    g, integral = (lambda t: 1 / (t + c)), np.log((1 + c) / c)
    errors = [abs(maker(n).weights @ g(maker(n).nodes) - integral) for n in (5, 9, 13)]
    rates = np.diff(-np.log(errors)) / 4 / np.log(r)  # per node, in powers of r
    assert (rates > (1.9 if maker is gauss_legendre else 1.0)).all()
    assert (rates < 2.4).all()


def rms_error(rule, integrands):
    """Root mean square error over integrands given as `g(t)` and exact integrals."""
    g, exact = integrands
    return np.sqrt(np.mean((g(rule.nodes) @ rule.weights - exact) ** 2))


PLACES = (np.arange(4000) + 0.5)[:, None] / 4000 * 0.9 + 0.031
JUMPS = (lambda t: (t > PLACES) * 1.0), 1 - PLACES[:, 0]
CORNERS = (lambda t: np.maximum(t - PLACES, 0)), (1 - PLACES[:, 0]) ** 2 / 2


def resized(maker, n):
    return maker(n + 1 - n % 2) if maker in (simpson, gauss_kronrod) else maker(n)


@each_maker
def test_jumps_cost_every_rule_its_order(maker):
    # Root mean square over the place of the jump: 1/n for all of them, high order or not.
    sizes = (17, 65)
    errors = [rms_error(resized(maker, n), JUMPS) for n in sizes]
    nodes = [len(resized(maker, n).nodes) for n in sizes]
    rate = np.log(errors[0] / errors[1]) / np.log(nodes[1] / nodes[0])
    assert rate == pytest.approx(1, abs=0.1)


@each_maker
def test_corners_allow_two_orders_at_most(maker):
    sizes = (17, 65)
    errors = [rms_error(resized(maker, n), CORNERS) for n in sizes]
    nodes = [len(resized(maker, n).nodes) for n in sizes]
    rate = np.log(errors[0] / errors[1]) / np.log(nodes[1] / nodes[0])
    assert rate == pytest.approx(1 if maker in (left, right) else 2, abs=0.2)


def test_midpoint_is_the_best_rule_on_jumps():
    # Its discrepancy, 1/(2n), is the least that n nodes can have.
    for maker in MAKERS[:-1]:
        rule = resized(maker, 33)
        assert discrepancy(rule) >= discrepancy(midpoint(33)) - 1e-15
    assert discrepancy(midpoint(33)) == pytest.approx(1 / 66)


# Error estimates.


def estimate(rule, samples):
    """The error estimate of each feature, of samples of shape (features, nodes)."""
    return np.sqrt(((samples @ rule.error_weights.T) ** 2).sum(axis=-1))


FEATURES = 2000


@functools.cache
def random_smooth():
    """Sums of six tanh ridges; exact integrals by the logarithm of cosh."""
    draw = lambda: np.random.default_rng(20).normal(size=(3, FEATURES, 6, 1))
    a, b, c = draw() * np.array([1, 3, 2]).reshape(3, 1, 1, 1)
    g = lambda t: (a * np.tanh(b * (t - 0.3) + c)).sum(1)
    log_cosh = lambda z: np.logaddexp(z, -z) - np.log(2)
    exact = (a / b * (log_cosh(0.7 * b + c) - log_cosh(-0.3 * b + c))).sum((1, 2))
    return g, exact


@functools.cache
def random_steps():
    """Sums of thirty jumps at random places: features of ReLU networks."""
    generator = np.random.default_rng(21)
    a = generator.normal(size=(FEATURES, 30))
    places = generator.uniform(size=(FEATURES, 30))
    g = lambda t: np.einsum("fj,fjt->ft", a, (t > places[..., None]) * 1.0)
    return g, (a * (1 - places)).sum(1)


@each_maker
@pytest.mark.parametrize("n", [5, 9, 15, 33, 65])
@pytest.mark.parametrize(
    ("integrands", "share"),
    [(random_smooth, 0.92), (random_steps, 0.95)],
    ids=["smooth", "steps"],
)
def test_error_estimate_covers_the_error_of_random_features(maker, n, integrands, share):
    rule = resized(maker, n)
    g, exact = integrands()
    samples = g(rule.nodes)
    error = np.abs(samples @ rule.weights - exact)
    covered = error <= estimate(rule, samples) + 1e-13  # rounding of sums of size 10
    assert covered.mean() >= share


@each_maker
@pytest.mark.parametrize("n", [33, 65])
def test_error_estimate_is_of_the_size_of_the_error_on_steps(maker, n):
    # Covering alone would be bought by an estimate of infinity.
    rule = resized(maker, n)
    g, exact = random_steps()
    samples = g(rule.nodes)
    ratio = estimate(rule, samples) / np.abs(samples @ rule.weights - exact)
    assert 2 < np.median(ratio) < 20


@each_maker
@pytest.mark.parametrize("n", [3, 5, 8, 21])
def test_error_estimate_vanishes_on_constants(maker, n):
    rule = resized(maker, n)
    assert estimate(rule, np.full((1, len(rule.nodes)), 7.0)) < 1e-13


# Rules of 15 nodes: their estimate vanishes up to this degree, where they are exact. A
# spectral null rule of n nodes can vanish up to degree n - 2, and there are four.
@pytest.mark.parametrize(
    ("maker", "degree"),
    [
        (left, 0),
        (right, 0),
        (midpoint, 1),
        (trapezoid, 1),
        (simpson, 3),
        (gauss_legendre, 10),
        (gauss_kronrod, 10),
        (clenshaw_curtis, 10),
    ],
    ids=lambda a: getattr(a, "__name__", str(a)),
)
def test_error_estimate_vanishes_where_the_rule_is_exact(maker, degree):
    rule = maker(33 if maker in (left, right, midpoint, trapezoid, simpson) else 15)
    powers = legendre.legvander(2 * rule.nodes - 1, degree + 1).T
    assert estimate(rule, powers[:-1]).max() < 1e-12
    assert estimate(rule, powers[-1:]).min() > 1e-6


@each_maker
@pytest.mark.parametrize("n", [3, 4, 7])
def test_three_nodes_or_more_give_an_estimate(maker, n):
    rule = resized(maker, n)
    generator = np.random.default_rng(22)
    assert (estimate(rule, generator.normal(size=(50, len(rule.nodes)))) > 0).all()


@pytest.mark.parametrize("maker", [left, right, midpoint, gauss_legendre])
def test_one_node_has_an_infinite_estimate(maker):
    assert maker(1).error_weights.shape == (0, 1)
    attribute = igjax.integrated_gradients(lambda x: x @ x, rule=maker(1))
    result = attribute(np.ones(3), np.zeros(3))
    np.testing.assert_array_equal(result.error, np.full(3, np.inf))


@pytest.mark.parametrize("maker", [midpoint, trapezoid, gauss_legendre, clenshaw_curtis])
def test_two_symmetric_nodes_are_blind_to_even_integrands(maker):
    # Both nodes see one value, as of a constant; odd integrands, whose integral is 0
    # for any symmetric rule, are what such a rule estimates from.
    rule = maker(2)
    even, odd = np.abs(rule.nodes - 0.5) ** 3, rule.nodes - 0.5
    assert abs(rule.weights @ even - 1 / 32) > 1e-3
    assert estimate(rule, even[None]) < 1e-15
    assert estimate(rule, odd[None]) > 1e-2


def test_error_of_a_result_is_the_estimate_of_its_rule():
    rule = clenshaw_curtis(5)
    f = lambda x: (x**3).sum() / 3
    x = np.array([2.0, -1.0])
    result = igjax.integrated_gradients(f, rule=rule)(x, 0 * x)
    samples = x[:, None] ** 3 * rule.nodes**2
    np.testing.assert_allclose(
        result.error, estimate(rule, samples), rtol=1e-10, atol=1e-15
    )


# Rules as objects.


def test_equal_tables_are_equal_rules_with_equal_hashes():
    again = Rule.of(np.array([0.25, 0.75]), np.array([0.5, 0.5]), degree=1)
    assert again == midpoint(2)
    assert hash(again) == hash(midpoint(2))
    assert midpoint(2) != midpoint(3)
    assert midpoint(1) != left(1)
    assert midpoint(2) != "midpoint"


def test_a_rule_is_a_pytree_of_its_three_tables():
    leaves, structure = jax.tree.flatten(simpson(5))
    assert [leaf.shape for leaf in leaves] == [(5,), (5,), simpson(5).error_weights.shape]
    assert structure.unflatten(leaves) == simpson(5)
    assert repr(structure.unflatten(leaves)) == "Rule(5 nodes)"


def test_rules_are_called_what_they_were_made_by():
    assert repr(simpson(5)) == "simpson(5)"
    assert repr(gauss_legendre(np.int64(8))) == "gauss_legendre(8)"
    assert repr(composite(midpoint(1), 4)) == "composite(midpoint(1), 4)"
    of_tables = Rule.of([0.25, 0.75], [0.5, 0.5], degree=1)
    assert repr(composite(of_tables, 2)) == "composite(Rule(2 nodes), 2)"
    assert repr(adaptive(0.05)) == "adaptive(tolerance=0.05)"
    told = "adaptive(tolerance=0.01, absolute_tolerance=0.001, max_evaluations=150)"
    assert repr(adaptive(1e-2, 1e-3, 150)) == told


def test_a_name_is_no_part_of_a_table():
    # Programs are kept by the shapes of rules: another name of the same shape is no other.
    assert midpoint(2) == Rule.of([0.25, 0.75], [0.5, 0.5], degree=1)
    assert jax.tree.structure(left(8)) == jax.tree.structure(gauss_legendre(8))
    assert pickle.loads(pickle.dumps(left(8))).name == "left(8)"


def test_tables_are_float64_and_cannot_be_written_to():
    for table in jax.tree.leaves(gauss_legendre(4)):
        assert table.dtype == np.float64
        with pytest.raises(ValueError, match="read-only"):
            table[...] = 0


def test_rule_of_leaves_the_callers_arrays_writable():
    nodes, weights = np.array([0.25, 0.75]), np.array([0.5, 0.5])
    Rule.of(nodes, weights, degree=1)
    nodes[0] = 0.5  # raises if the rule has frozen it
    assert nodes[0] == weights[0]


def test_nodes_padded_with_weight_zero_change_nothing():
    f = lambda x: jax.numpy.tanh(x).prod()
    x, b = np.array([1.0, -2.0, 0.5]), np.array([0.3, 0.1, -0.2])
    rules = [gauss_legendre(3), simpson(5), midpoint(4)]
    explain = lambda rule: igjax.integrated_gradients(f, rule=rule)(x, b)
    batch, *each = together(
        lambda: jax.vmap(explain)(padded(rules, 9)),
        *(functools.partial(explain, rule) for rule in rules),
    )
    for i, alone in enumerate(each):
        np.testing.assert_allclose(batch.values[i], alone.values, rtol=1e-13)
        np.testing.assert_allclose(batch.error[i], alone.error, rtol=1e-9, atol=1e-15)


def test_composite_rules_may_put_nodes_on_both_sides_of_a_corner():
    # A jump at 1/2 between the panels: each trapezoid sees its own side of it.
    rule = composite(trapezoid(2), 2)
    assert len(rule.nodes) == 4
    np.testing.assert_allclose(rule.weights @ (rule.nodes >= 0.5), 0.5, rtol=1e-14)


def test_composite_estimates_add_up_over_panels():
    rule = composite(gauss_legendre(7), 5)
    samples = random_steps()[0](rule.nodes)
    error = np.abs(samples @ rule.weights - random_steps()[1])
    assert (error <= estimate(rule, samples)).mean() >= 0.95


# Errors.


@pytest.mark.parametrize("maker", [simpson, gauss_kronrod], ids=["simpson", "kronrod"])
def test_even_counts_name_the_nearest_odd_ones(maker):
    with pytest.raises(ValueError, match=r"must be odd, got 10\. Pass 9 or 11\."):
        maker(10)


@pytest.mark.parametrize(
    ("maker", "n", "least"),
    [
        (left, 0, 1),
        (right, -3, 1),
        (midpoint, 0, 1),
        (gauss_legendre, 0, 1),
        (trapezoid, 1, 2),
        (clenshaw_curtis, 1, 2),
        (simpson, 1, 3),
        (gauss_kronrod, 2, 3),
        (functools.partial(composite, midpoint(2)), 0, 1),
    ],
)
def test_too_few_nodes_name_the_least_number(maker, n, least):
    with pytest.raises(ValueError, match=f"at least {least} .*got {n}. Pass {least}"):
        maker(n)


@pytest.mark.parametrize("n", [2.0, True, "8", None])
def test_counts_must_be_integers(n):
    with pytest.raises(TypeError, match="must be an integer, got"):
        gauss_legendre(n)


def test_numpy_integers_are_counts():
    assert midpoint(np.int64(3)) == midpoint(3)


@pytest.mark.parametrize(
    ("nodes", "weights", "message"),
    [
        ([0.5, 0.5], [0.5, 0.5], "must ascend"),
        ([0.7, 0.2], [0.5, 0.5], "must ascend"),
        ([-0.1, 0.5], [0.5, 0.5], "must ascend"),
        ([0.2, 1.1], [0.5, 0.5], "must ascend"),
        ([0.2, np.nan], [0.5, 0.5], "must ascend"),
        ([0.2, 0.4], [1.5, -0.5], "positive with sum 1"),
        ([0.2, 0.4], [0.5, 0.4], "positive with sum 1, got sum 0.9"),
        ([0.2, 0.4], [0.5, np.nan], "positive with sum 1"),
        ([0.2, 0.4], [1.0], "one shape"),
        ([], [], "one shape"),
    ],
)
def test_tables_that_are_no_rule_are_refused(nodes, weights, message):
    with pytest.raises(ValueError, match=message):
        Rule.of(nodes, weights, degree=0)
