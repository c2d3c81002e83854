"""What the diagnostics say is so: of a result, of a path, of rules beside each other.

Reports are on results made by hand, so that every number in a text is known beforehand;
profiles and convergence are on ridges f(w.x), whose attributions have closed forms.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import trapezoid
from scipy.special import expit

import igjax
from igjax import Attribution, Status
from igjax.diagnostics import convergence, path_profile, report, within
from igjax.rules import adaptive, gauss_legendre, midpoint
from tests.registry import QUICKLY


def result(values, error, delta, status=Status.NO_TOLERANCE, evaluations: object = 32):
    """A result whose score is the sum of its values less the gap, from 0."""
    values, delta = np.asarray(values), np.asarray(delta)
    total = values.sum(axis=tuple(range(delta.ndim, values.ndim)))
    return Attribution(
        values=jnp.asarray(values),
        error=jnp.asarray(error),
        delta=jnp.asarray(delta),
        score=jnp.asarray(total - delta),
        baseline_score=jnp.zeros(delta.shape),
        evaluations=jnp.array(evaluations),
        forwards=jnp.asarray(2),
        jumps=jnp.asarray(0),
        status=jnp.broadcast_to(jnp.asarray(status), delta.shape),
    )


# The absolute values sum to 4, the errors to 0.04: 1%; the gap is 2%.
ONE = result([3.0, -1.0], [0.03, 0.01], -0.08)
# The same three times, with gaps of 2%, 0% and 1%.
MANY = result(
    [[3.0, -1.0]] * 3, [[0.03, 0.01]] * 3, [-0.08, 0.0, 0.04], evaluations=[32] * 3
)


def lines(text):
    """The table of a report as a dict."""
    table = text.partition("\n\n")[0].splitlines()
    return {line[:26].strip(): line[26:].strip() for line in table}


def test_within_asks_for_the_errors_and_the_gap():
    assert not within(ONE, 0.019)  # the gap is 2%
    assert within(ONE, 0.021)
    complete = dataclasses.replace(ONE, delta=jnp.array(0.0))
    assert not within(complete, 0.009)  # the errors are 1%
    assert within(complete, 0.011)


def test_within_adds_up_the_leaves_of_a_pytree():
    split = lambda a: {"a": a[:1], "b": a[1:]}
    tree = dataclasses.replace(ONE, values=split(ONE.values), error=split(ONE.error))
    for tolerance in (0.009, 0.019, 0.021):
        assert within(tree, tolerance) == within(ONE, tolerance)


def test_within_judges_each_example_of_a_batch():
    np.testing.assert_array_equal(within(MANY, 0.015), [False, True, True])
    np.testing.assert_array_equal(within(MANY, 0.009), [False, False, False])


def test_within_judges_each_output_of_a_jacobian():
    # The first output is linear; the kink of the second is more than 3 nodes resolve.
    f = lambda x: jnp.stack([x.sum(), jnp.abs(x[0] - 0.3)])
    attribute = igjax.integrated_jacobian(f, rule=igjax.rules.gauss_legendre(3))
    np.testing.assert_array_equal(within(attribute(np.ones(2), 0.0), 1e-6), [True, False])


def test_within_goes_through_jit():
    got = jax.jit(lambda r: within(r, 0.015))(MANY)
    np.testing.assert_array_equal(got, [False, True, True])


def test_within_is_false_for_what_is_not_finite():
    assert not within(dataclasses.replace(ONE, delta=jnp.array(np.nan)), 1.0)
    assert not within(dataclasses.replace(ONE, error=jnp.full(2, np.inf)), 1.0)


@pytest.mark.parametrize("tolerance", [0, -1e-3, np.nan])
def test_a_tolerance_that_is_not_positive_is_an_error(tolerance):
    with pytest.raises(ValueError, match="within: the tolerance must be positive, got"):
        within(ONE, tolerance)


def test_a_report_states_the_numbers_of_the_result():
    assert lines(report(ONE)) == {
        "score": "2.08",
        "baseline score": "0",
        "sum of values": "2",
        "completeness gap": "-0.08 (2.00% of the attribution)",
        "estimated error": "0.04 (1.00% of the attribution)",
        "gradient evaluations": "32",
        "status": Status.NO_TOLERANCE.meaning,
    }


ADVICE = {
    Status.TOLERANCE_MET: "The values are within the tolerance of the exact ones.",
    Status.NO_TOLERANCE: "Errors may reach 2.00% of the attribution",
    Status.BUDGET_SPENT: "Raise max_evaluations",
    Status.RESOLUTION: "resolves what is only steep",
    Status.NON_FINITE: "nothing can be trusted",
    Status.NOT_VERIFIED: "custom derivatives in f",
    Status.ROUNDING: "more gradients would not help",
}


@pytest.mark.parametrize("status", Status)
def test_a_report_explains_every_status(status):
    text = report(dataclasses.replace(ONE, status=jnp.int32(status)))
    table, _, advice = text.partition("\n\n")
    assert table.endswith(status.meaning)
    assert ADVICE[status] in advice
    others = [ADVICE[s] for s in Status if s is not status]
    assert not any(other in advice for other in others)


@pytest.mark.parametrize("status", Status)
def test_every_status_has_its_own_meaning(status):
    others = [s.meaning for s in Status if s is not status]
    assert status.meaning not in others


def test_a_report_of_a_resolving_fixed_rule_says_so():
    text = report(result([3.0, -1.0], [1e-3, 1e-3], 1e-4))
    assert "resolves the path to 1% or better" in text


def test_a_report_of_a_rule_without_an_estimate_says_so():
    attribute = igjax.integrated_gradients(jnp.prod, rule=igjax.rules.midpoint(1))
    assert "no error estimate" in report(attribute(np.ones(3), 0.0))


def test_a_report_of_a_nan_is_a_report():
    rule = igjax.rules.gauss_legendre(3)
    attribute = igjax.integrated_gradients(lambda x: jnp.log(x).sum(), rule=rule)
    text = report(attribute(np.ones(2), 0.0))
    assert lines(text)["baseline score"] == "-inf"
    assert ADVICE[Status.NON_FINITE] in text


def test_a_report_of_a_constant_knows_no_share_that_is_missing():
    # No gap and no error: nothing of the attribution is in doubt.
    text = report(result([0.0, 0.0], [0.0, 0.0], 0.0, Status.TOLERANCE_MET))
    assert lines(text)["completeness gap"] != "0 (all of the attribution)"


def test_a_report_says_that_the_score_did_not_change():
    flat = result([0.0, 0.0], [0.0, 0.0], 0.0, Status.TOLERANCE_MET)
    assert "The score did not change at all" in report(flat)
    assert "attribute the logit" in report(flat)
    cancelled = result([1.0, -1.0], [0.0, 0.0], 0.0, Status.TOLERANCE_MET)
    assert "The score is the same at the baseline and at x" in report(cancelled)
    assert "did not change" not in report(cancelled)
    for other in (ONE, igjax.gradient(jnp.sum)(np.ones(2))):  # slopes are no shares
        assert "The score" not in report(other).partition("\n\n")[2]


@pytest.mark.slow
def test_a_report_says_what_a_step_is():
    attribute = igjax.integrated_gradients(lambda x: jnp.round(x).sum())
    found = attribute(np.array([1.2, 0.8]), 0.0)
    assert found.status == Status.RESOLUTION
    assert "A step is a place where the score changes at once" in report(found)


def drawn(share, **options):
    """ONE, with that share of its errors from random draws."""
    return dataclasses.replace(ONE, sampling=share * ONE.error, **options)


def test_a_report_tells_the_error_of_the_draws_from_that_of_the_rule():
    table = lines(report(drawn(0.75)))
    assert table["estimated error"] == "0.04 (1.00% of the attribution)"
    assert table["of it by random draws"] == "0.03 (0.75% of the attribution)"
    assert "four times as many halve it" in report(drawn(0.75))
    assert "by the rule of each draw" in report(drawn(0.25))
    assert not any("draws" in line for line in lines(report(ONE)))


def test_a_report_of_a_mean_whose_budget_ended_names_what_ended():
    spent = {"status": jnp.int32(Status.BUDGET_SPENT)}
    assert "The draws ended before" in report(drawn(0.75, **spent))
    assert "Raise max_evaluations" in report(drawn(0.25, **spent))


def test_a_report_of_a_batch_of_means_tells_the_part_of_the_draws():
    means = dataclasses.replace(MANY, sampling=MANY.error * np.array([[1], [0.5], [0]]))
    table = lines(report(means))
    told = "median 0.005, worst 0.01 of the attribution"
    assert table["of it by random draws"] == told


def test_a_report_of_a_batch_counts_scores_that_did_not_change():
    same = jnp.array([2.08, 0.0, 0.0])
    table = lines(report(dataclasses.replace(MANY, score=same)))
    assert table["score did not change"] == "2 of 3"
    assert "score did not change" not in lines(report(MANY))


def test_a_report_of_a_batch_counts_and_summarizes():
    mixed = dataclasses.replace(MANY, status=jnp.array([0, 2, 0]))
    table = lines(report(mixed))
    assert table["results"] == "3 (shape (3,))"
    assert table["completeness gap"] == "median 0.01, worst 0.02 of the attribution"
    assert table["estimated error"] == "median 0.01, worst 0.01 of the attribution"
    assert table["gradient evaluations"] == "96 in all"
    met, spent = Status.TOLERANCE_MET.meaning, Status.BUDGET_SPENT.meaning
    assert table["status"] == f"2 {met}, 1 {spent}"


@pytest.mark.parametrize("status", Status)
def test_a_report_of_a_batch_names_every_status(status):
    text = report(dataclasses.replace(MANY, status=jnp.array([status] * 3)))
    assert lines(text)["status"] == f"3 {status.meaning}"


def test_a_report_of_a_batch_with_a_nan_in_it_is_a_report():
    broken = dataclasses.replace(
        MANY, delta=jnp.array([np.nan, 0.0, 0.0]), status=jnp.array([4, 0, 0])
    )
    assert f"1 {Status.NON_FINITE.meaning}" in report(broken)


def test_a_report_of_a_jacobian_counts_its_outputs_and_its_gradients_once():
    attribute = igjax.integrated_jacobian(lambda x: x**2, rule=igjax.rules.midpoint(4))
    table = lines(report(attribute(np.ones(3), 0.0)))
    assert table["results"] == "3 (shape (3,))"
    # One sweep of the path serves all outputs.
    assert table["gradient evaluations"] == "4 in all"
    assert table["status"] == f"3 {Status.NO_TOLERANCE.meaning}"


# A score that switches at t = place: F(t) = sigmoid(k (t - place)) from 0 to X, whose
# features add up to 1. What varies is an operand, so one program serves most tests.
X = np.array([0.5, 0.2, 0.3])
POINTS = 40


def switch(x, k, place):
    return jax.nn.sigmoid(k * (x.sum() - place))


# The nodes of the Gauss-Kronrod rule in [0, 1], of [-1, 1]: xgk in QUADPACK's qk15.
KRONROD = np.array(
    [
        0.991455371120812639206854697526329,
        0.949107912342758524526189684047851,
        0.864864423359769072789712788640926,
        0.741531185599394439863864773280788,
        0.586087235467691130294144691258130,
        0.405845151377397166906606412076961,
        0.207784955007898467600689403773245,
        0.0,
    ]
)
LOOK = path_profile(switch, rule=adaptive(1e-6), points=POINTS)
FIXED = path_profile(switch, rule=gauss_legendre(5), points=POINTS)
# Easy, a switch in the middle, a switch of the width 1e-4.
SWITCHES = [(2.0, 0.5), (60.0, 0.5), (4e4, 0.3712)]


@pytest.mark.parametrize(("k", "place"), SWITCHES)
@pytest.mark.parametrize("look", [LOOK, FIXED], ids=["adaptive", "fixed"])
def test_score_and_slope_are_those_of_the_closed_form(look, k, place):
    seen = look(X, 0.0, k, place)
    u = k * (np.asarray(seen.t) - place)
    # The point is rounded: u is known to k eps, and so is the logarithm of the slope.
    tolerance = 8 * k * np.finfo(np.float64).eps
    np.testing.assert_allclose(seen.score, expit(u), rtol=tolerance, atol=tolerance)
    slope = k * expit(u) * expit(-u)
    np.testing.assert_allclose(seen.slope, slope, rtol=tolerance, atol=k * tolerance)


@pytest.mark.parametrize(
    "path", [igjax.paths.straight, igjax.paths.polyline(np.array([0.5, 0.0, 0.0]))]
)
def test_the_slope_integrates_to_the_change_of_the_score(path):
    k = 10.0
    look = path_profile(switch, rule=midpoint(64), path=path, points=1001)
    seen = look(X, 0.0, k, 0.5)
    t, slope = np.asarray(seen.t), np.asarray(seen.slope)
    # The trapezoid rule errs by h^3/12 max|F'''| a step, and |sigmoid'''| <= 1/8.
    bound = (np.diff(t) ** 3).sum() / 12 * k**3 / 8
    change = seen.score[-1] - seen.score[0]
    assert abs(trapezoid(slope, t) - change) <= bound < 1e-4


def test_the_slope_is_the_gradient_that_is_integrated_even_where_it_is_wrong():
    @jax.custom_vjp
    def wrong(a):
        return a**2

    wrong.defvjp(lambda a: (a**2, a), lambda a, g: (3 * a * g,))
    look = path_profile(lambda x: wrong(x.sum()), rule=midpoint(4))
    seen = look(X, 0.0)
    np.testing.assert_allclose(seen.score, seen.t**2, atol=1e-15)
    np.testing.assert_allclose(seen.slope, 3 * seen.t, atol=1e-14)


@pytest.mark.parametrize(("k", "place"), SWITCHES)
def test_the_mesh_covers_the_path_without_overlap(k, place):
    seen = LOOK(X, 0.0, k, place)
    edges = np.asarray(seen.edges)
    assert len(edges) == seen.panels
    assert edges[0, 0] == 0
    assert edges[-1, 1] == 1
    np.testing.assert_array_equal(edges[1:, 0], edges[:-1, 1])
    assert (edges[:, 1] > edges[:, 0]).all()


@pytest.mark.slow
def test_the_mesh_covers_the_path_where_the_budget_ends_too():
    # The panels that were still to be cut are where the trouble is.
    look = path_profile(switch, rule=adaptive(1e-6, max_evaluations=90))
    edges = np.asarray(look(X, 0.0, *SWITCHES[2]).edges)
    assert (edges[:, 1] - edges[:, 0]).sum() == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize(("k", "place"), SWITCHES)
def test_positions_are_an_even_grid_and_the_nodes_of_all_panels(k, place):
    seen = LOOK(X, 0.0, k, place)
    middle, half = seen.edges.mean(1, keepdims=True), jnp.diff(seen.edges) / 2
    nodes = (middle + half * np.append(KRONROD[None], -KRONROD[None, :7], 1)).ravel()
    expected = np.sort(np.concatenate([np.linspace(0, 1, POINTS), nodes]))
    np.testing.assert_allclose(seen.t, expected, rtol=0, atol=1e-15)


def test_positions_of_a_fixed_rule_are_an_even_grid_and_its_nodes():
    seen = FIXED(X, 0.0, 2.0, 0.5)
    expected = np.concatenate([np.linspace(0, 1, POINTS), gauss_legendre(5).nodes])
    np.testing.assert_allclose(seen.t, np.sort(expected), rtol=0, atol=1e-15)
    assert seen.edges.shape == (0, 2)
    assert seen.panels == 0


def test_a_switch_narrower_than_the_grid_has_positions_in_it():
    k, place = SWITCHES[2]
    inside = lambda t: (np.abs(k * (np.asarray(t) - place)) < 2).sum()
    assert inside(np.linspace(0, 1, POINTS)) == 0
    assert inside(LOOK(X, 0.0, k, place).t) >= 5


def check_padded(padded, k, place):
    """That the first entries are those of the eager profile, and all others its end."""
    seen = LOOK(X, 0.0, k, place)
    assert padded.panels == seen.panels
    tolerance = 8 * k * np.finfo(np.float64).eps  # another program rounds otherwise
    for got, expected in zip(padded[:3], seen[:3], strict=True):
        size = np.abs(expected).max()
        atol = tolerance * size
        np.testing.assert_allclose(got[: len(expected)], expected, rtol=0, atol=atol)
        np.testing.assert_array_equal(got[len(expected) :], got[-1])
    assert padded.t[-1] == 1
    real = padded.edges[: seen.panels]
    np.testing.assert_allclose(real, seen.edges, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(padded.edges[seen.panels :], 1.0)


@pytest.mark.slow
def test_under_jit_a_profile_is_padded_to_the_budget_by_its_end():
    padded = jax.jit(LOOK, compiler_options=QUICKLY)(X, 0.0, *SWITCHES[1])
    assert padded.edges.shape == (3000 // 15, 2)
    assert padded.t.shape == (POINTS + 3000,)
    check_padded(padded, *SWITCHES[1])


@pytest.mark.slow
def test_under_vmap_every_example_has_its_own_profile():
    looks = jax.vmap(LOOK, (None, None, 0, 0))
    batch = jax.jit(looks, compiler_options=QUICKLY)(X, 0.0, *np.array(SWITCHES).T)
    for i, (k, place) in enumerate(SWITCHES):
        check_padded(jax.tree.map(lambda a, i=i: a[i], batch), k, place)


def test_a_profile_of_a_fixed_rule_is_the_same_under_jit_and_vmap():
    k = np.array([2.0, 60.0])
    batch = jax.jit(jax.vmap(FIXED, (None, None, 0, None)))(X, 0.0, k, 0.5)
    for i in range(2):
        seen = FIXED(X, 0.0, k[i], 0.5)
        one = jax.tree.map(lambda a, i=i: a[i], batch)
        jax.tree.map(np.testing.assert_array_equal, one[3:], seen[3:])
        for got, expected in zip(one[:3], seen[:3], strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.slow
def test_the_padding_is_not_evaluated():
    calls = []

    def counted(x):
        jax.debug.callback(lambda x: calls.append(x.sum()), x)
        return x.sum()

    look = jax.jit(path_profile(counted, points=POINTS), compiler_options=QUICKLY)
    assert look(X, 0.0).t.shape == (POINTS + 3000,)
    jax.effects_barrier()
    assert len(calls) >= POINTS + 15
    # At the end: once while integrating, once in the grid, and what fills the last block.
    assert sum(total > 1 - 1e-12 for total in calls) <= 2 + 64


def test_a_profile_of_a_pytree_is_that_of_its_leaves_side_by_side():
    split = lambda x: {"a": x[:1], "b": (x[1:],)}
    f = lambda x, k: switch(jnp.concatenate([x["a"], x["b"][0]]), k, 0.5)
    seen = path_profile(f, rule=gauss_legendre(5), points=POINTS)(
        split(X), split(0 * X), 60.0
    )
    expected = FIXED(X, 0 * X, 60.0, 0.5)
    for got, wanted in zip(seen, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "rule"),
    [("float32", adaptive(1e-3)), ("float32", midpoint(8)), ("bfloat16", midpoint(8))],
    ids=["float32 adaptive", "float32 fixed", "bfloat16 fixed"],
)
def test_a_profile_of_a_narrow_dtype_is_in_float32(dtype, rule):
    x = jnp.asarray(X, dtype)
    f = lambda x: jax.nn.sigmoid(4 * (x.sum() - 0.5))
    look = path_profile(f, rule=rule, points=POINTS)
    seen = jax.jit(look, compiler_options=QUICKLY)(x, 0.0)
    assert {str(a.dtype) for a in seen[:4]} == {"float32"}
    # A score in (0, 1), of sums of features that are each rounded to the dtype.
    unit = float(jnp.finfo(dtype).eps)
    exact = expit(4 * (np.asarray(seen.t) * np.asarray(x, float).sum() - 0.5))
    np.testing.assert_allclose(seen.score, exact, atol=8 * unit)


def test_a_profile_built_anew_is_not_traced_anew():
    traces = []

    def f(x):
        traces.append(1)
        return x.sum()

    look = lambda points: path_profile(f, rule=midpoint(3), points=points)(X, 0.0)
    look(5)
    before = len(traces)
    assert look(5).t.shape == (8,)
    assert len(traces) == before
    assert look(6).t.shape == (9,)  # and another grid is another program


@pytest.mark.parametrize("points", [1, 0, -3])
def test_too_few_points_are_an_error(points):
    with pytest.raises(ValueError, match="path_profile: points must be at least 2"):
        path_profile(switch, points=points)


@pytest.mark.parametrize("points", [2.5, "many", True, None])
def test_points_that_are_no_number_are_an_error(points):
    with pytest.raises(TypeError, match="path_profile: points must be an integer, got"):
        path_profile(switch, points=points)


def test_what_cannot_be_profiled_is_an_error_of_that_name():
    with pytest.raises(ValueError, match=r"path_profile: f must return a scalar"):
        path_profile(lambda x: x, rule=midpoint(3))(X, 0.0)
    with pytest.raises(TypeError, match=r"path_profile: rule must be a rule, got 32"):
        path_profile(switch, rule=32)


# F(t) = exp(s t) with s = 2: feature i gets x_i w_i (e^s - 1)/s.
W = np.array([1.0, -2.0, 8.0])
S = float(W @ X)
EXACT = X * W * (math.exp(S) - 1) / S


def exponential(x):
    return jnp.exp(x @ W)


def compare(rules, **options):
    return convergence(exponential, X, 0.0, rules=rules, **options)


@pytest.mark.slow
def test_the_midpoint_rule_gains_a_factor_of_four_by_doubling():
    found = compare([midpoint(8 * 2**i) for i in range(5)], reference=EXACT)
    # Its relative error on exp is h^2 s^2/24 - 7 h^4 s^4/5760 ..., h = 1/n.
    np.testing.assert_allclose(found.error[:-1] / found.error[1:], 4, rtol=2e-2)
    np.testing.assert_allclose(found.error[-1], S**2 / 128**2 / 24, rtol=1e-3)


def test_gauss_legendre_converges_as_its_error_formula_says():
    n = range(1, 6)
    found = compare([gauss_legendre(i) for i in n], reference=EXACT)
    # (n!)^4 / ((2n + 1) (2n)!^3) times derivative 2n, between s^2n and s^2n e^s.
    factor = [
        math.factorial(i) ** 4 / ((2 * i + 1) * math.factorial(2 * i) ** 3) for i in n
    ]
    least = np.array(factor) * S ** (2.0 * np.array(n)) / ((math.exp(S) - 1) / S)
    assert (found.error > least).all()
    assert (found.error < least * math.exp(S)).all()


def test_on_a_kink_no_rule_is_faster_than_one_over_n():
    f = lambda x: jax.nn.relu(x.sum() - 3 / 7)
    tried = [midpoint(n) for n in (8, 64, 512)]
    found = convergence(f, X, 0.0, rules=tried, reference=X * 4 / 7)
    # 8^k = 1 modulo 7, so that (4 n + 3)/7 of the n nodes lie above 3/7: (3/7)/n too much.
    np.testing.assert_allclose(found.error * [8, 64, 512], 3 / 4, rtol=1e-11)


def test_the_gap_can_be_nothing_where_the_error_is_not():
    f = lambda x: jax.nn.relu(x[0] - 0.3) - jax.nn.relu(x[1] - 0.3)
    exact = np.array([0.7, -0.7])
    found = convergence(f, np.ones(2), 0.0, rules=[midpoint(4)], reference=exact)
    # Three nodes of four are above 0.3.
    np.testing.assert_allclose(found.error, 0.05 / 0.7, rtol=1e-12)
    np.testing.assert_allclose(found.gap, 0, atol=1e-15)


@pytest.mark.slow
def test_a_row_says_what_the_result_of_its_rule_says():
    tried = [midpoint(1), midpoint(7), adaptive(1e-3)]
    found = compare(tried, reference=EXACT)
    for i, rule in enumerate(tried):
        one = igjax.integrated_gradients(exponential, rule=rule)(X, 0.0)
        size = np.abs(one.values).sum()
        assert found.evaluations[i] == one.evaluations
        assert found.converged[i] == one.converged
        np.testing.assert_allclose(found.estimate[i], one.error.sum() / size, rtol=1e-12)
        np.testing.assert_allclose(found.gap[i], abs(one.delta) / size, rtol=1e-12)
    np.testing.assert_array_equal(found.evaluations[:2], [1, 7])
    assert np.isinf(found.estimate[0])
    assert not found.converged[:2].any()
    assert found.converged[2]
    assert found.error[2] <= 1e-3


def test_all_columns_are_numpy_arrays():
    found = compare([midpoint(3), midpoint(4)], reference=EXACT)
    assert all(isinstance(column, np.ndarray) for column in found)
    assert [column.shape for column in found] == [(2,)] * 5 + [()] * 2
    kinds = [column.dtype.kind for column in found]
    assert kinds == ["i", "f", "f", "f", "b", "i", "f"]


@pytest.mark.slow
def test_the_reference_is_computed_where_none_is_given():
    found = compare([midpoint(8), midpoint(64)])
    assert found.reference_status == Status.TOLERANCE_MET
    assert found.reference_error <= 1e-6
    exact = compare([midpoint(8), midpoint(64)], reference=EXACT)
    np.testing.assert_allclose(found.error, exact.error, rtol=0, atol=1e-6)


def test_a_reference_that_is_not_converged_says_so():
    attribute = igjax.integrated_gradients(exponential, rule=midpoint(5))
    poor = dataclasses.replace(attribute(X, 0.0), status=np.int32(Status.BUDGET_SPENT))
    found = compare([midpoint(5)], reference=poor)
    assert found.error == 0
    assert found.reference_status == Status.BUDGET_SPENT
    share = np.sum(poor.error) / np.abs(poor.values).sum()
    np.testing.assert_allclose(found.reference_error, share, rtol=1e-12)


def test_bare_values_say_nothing_of_themselves():
    found = compare([midpoint(5)], reference=EXACT)
    assert found.reference_status == Status.NO_TOLERANCE
    assert np.isnan(found.reference_error)


def test_convergence_adds_up_the_leaves_of_a_pytree():
    split = lambda x: {"a": x[:1], "b": (x[1:],)}
    f = lambda x: exponential(jnp.concatenate([x["a"], x["b"][0]]))
    tried = [midpoint(8), gauss_legendre(3)]
    found = convergence(f, split(X), split(0 * X), rules=tried, reference=split(EXACT))
    for got, expected in zip(found, compare(tried, reference=EXACT), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-15)


def test_convergence_passes_arguments_and_follows_the_path():
    # By way of (1, 0) the product x0 x1 changes only while x1 does.
    corner = igjax.paths.polyline(np.array([1.0, 0.0]))
    f = lambda x, scale: scale * x[0] * x[1]
    exact = np.array([0.0, 3.0])
    found = convergence(
        f, np.ones(2), 0.0, 3.0, rules=[midpoint(2)], reference=exact, path=corner
    )
    np.testing.assert_allclose(found.error, 0, atol=1e-15)


def test_convergence_in_float32_ends_at_its_rounding():
    f = lambda x: jnp.exp(x @ W.astype("float32"))
    found = convergence(
        f, X.astype("float32"), 0.0, rules=[gauss_legendre(16)], reference=EXACT
    )
    eps = np.finfo(np.float32).eps
    assert found.error < 16 * eps  # a mean of terms of one sign, each good to a few eps


def test_a_constant_has_no_error_and_needs_no_warning():
    f = lambda x: 0 * x.sum() + 1
    found = convergence(f, X, 0.0, rules=[midpoint(3)], reference=0 * X)
    assert found.error == found.estimate == found.gap == 0


def test_what_is_not_finite_is_data():
    # The gradient of the logarithm of a zero baseline.
    tried = [igjax.rules.left(3), midpoint(3)]
    log = lambda x: jnp.log(x).sum()
    reference = igjax.integrated_gradients(log, rule=midpoint(3))(X, 0.0)
    found = convergence(log, X, 0.0, rules=tried, reference=reference)
    assert found.reference_status == Status.NON_FINITE
    assert not np.isfinite(found.error[0])
    assert found.error[1] == 0
    assert not np.isfinite(found.gap).any()


@pytest.mark.parametrize("rules", [32, midpoint(3), adaptive()], ids=repr)
def test_one_rule_is_no_sequence_of_rules(rules):
    with pytest.raises(TypeError, match="convergence: rules must be a sequence of rules"):
        compare(rules)


def test_rules_must_be_rules_and_at_least_one():
    with pytest.raises(TypeError, match=r"convergence: rule must be a rule, got 32\."):
        compare([midpoint(3), 32])
    with pytest.raises(ValueError, match="convergence: rules must hold at least one"):
        compare([])


@pytest.mark.parametrize("reference", [EXACT[:2], 0.0, {"a": EXACT}, [*EXACT]], ids=str)
def test_a_reference_that_does_not_fit_is_an_error(reference):
    with pytest.raises(ValueError, match="convergence: reference must have the structure"):
        compare([midpoint(3)], reference=reference)


def test_convergence_under_a_transformation_is_an_error():
    error = lambda x: (
        convergence(exponential, x, 0.0, rules=[midpoint(3)], reference=EXACT).error
    )
    with pytest.raises(TypeError, match="convergence: all arguments must be concrete"):
        jax.jit(error)(X)
    with pytest.raises(TypeError, match="convergence: all arguments must be concrete"):
        jax.vmap(error)(X[None])


def test_what_cannot_be_compared_is_an_error_of_that_name():
    with pytest.raises(ValueError, match=r"convergence: f must return a scalar"):
        convergence(lambda x: x, X, 0.0, rules=[midpoint(3)])
