"""What a result says in numbers and words agrees with what is in it.

The results are made by hand, so that every number in a text is known beforehand.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax
from igjax import Attribution, Status
from igjax.diagnostics import report, within


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
    Status.NO_TOLERANCE: "The rule does not resolve the path: errors may reach 2.00%",
    Status.BUDGET_SPENT: "Raise max_evaluations",
    Status.RESOLUTION: "Compute in float64",
    Status.NON_FINITE: "nothing can be trusted",
    Status.NOT_VERIFIED: "check custom derivatives in f",
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
