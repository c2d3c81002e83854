"""The axioms, over every method, fixed rules and a zoo of models.

Each model is explained once, in a batch of cases that differ in their operands: the
function is score(x[first]) + factor * score(x[second]), for permutations (or selections)
`first` and `second` of the features. So one compilation serves all axioms.

What is exact for every rule is tested at rounding: rules are sums. What holds in the limit
is tested with what the rule justifies: its discrepancy times the variation of the slope
along the path (Koksma), which needs no smoothness; smooth models also at 1e-9.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax
from tests.registry import (
    METHODS,
    QUICKLY,
    RULES,
    ZOO,
    discrepancy,
    over_rules,
    slope_variation,
    symmetric,
    together,
)

NAMES = ["gauss_legendre 16", "composite", "midpoint", "left", "right"]
TABLES = [RULES[name][0] for name in NAMES]
GAUSS, COMPOSITE, MIDPOINT, LEFT, RIGHT = range(5)
ROUNDING = 1e-11  # relative to the largest value: float64 through a model of many sums
FACTOR = 2.5

each_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
# Of the recurrent ones the longest is the hardest.
SLOW = ("lstm 20", "lstm 50")
each_model = pytest.mark.parametrize(
    "specimen",
    [pytest.param(s, marks=[pytest.mark.slow] * (s.name in SLOW), id=s.name) for s in ZOO],
)


@dataclasses.dataclass
class Cases:
    """Rows of operands by name, stacked: x, baseline, first, second, factor."""

    x: np.ndarray
    baseline: np.ndarray
    permutation: np.ndarray
    table: dict[str, tuple[Any, ...]]

    def stacked(self):
        columns = zip(*self.table.values(), strict=True)
        return [np.stack([np.asarray(a) for a in column]) for column in columns]


def cases(size):
    """The cases for a model of so many features."""
    generator = np.random.default_rng(size)
    x, b = generator.normal(size=(2, size))
    same = np.arange(size)
    shuffle = generator.permutation(size)
    swap = same.copy()
    swap[[0, 3]] = 3, 0
    selection = np.where(same == 1, 2, same)  # feature 1 is never read
    middle, tied_x, tied_b, still = (x + b) / 2, x.copy(), b.copy(), b.copy()
    tied_x[3], tied_b[3] = x[0], b[0]
    still[::2] = x[::2]
    unshuffled = np.empty(size)
    unshuffled[shuffle] = x
    unshuffled_b = np.empty(size)
    unshuffled_b[shuffle] = b
    table = {
        "plain": (x, b, same, same, 0.0),
        "swapped": (b, x, same, same, 0.0),
        "first half": (middle, b, same, same, 0.0),
        "second half": (x, middle, same, same, 0.0),
        "shuffled": (unshuffled, unshuffled_b, shuffle, same, 0.0),
        "other": (x, b, shuffle, same, 0.0),
        "combined": (x, b, same, shuffle, FACTOR),
        "symmetric": (tied_x, tied_b, same, swap, 1.0),
        "unread": (x, b, selection, same, 0.0),
        "unmoved": (x, still, same, same, 0.0),
    }
    return Cases(x, b, shuffle, table)


@functools.cache
def explain(specimen):
    """By method the results of (rules, cases), and the scores along each case's path."""
    shape = specimen.shape

    def f(x, params, first, second, factor):
        views = jnp.stack([x[first], x[second]]).reshape(2, *shape)
        scores = specimen.score(params, views)
        return scores[0] + factor * scores[1]

    def profile(x, b, *args):
        return jax.vmap(lambda t: f(b + t * (x - b), *args))(np.linspace(0, 1, 257))

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def everything(params, *operands):
        over_cases = lambda one: jax.vmap(lambda x, b, *args: one(x, b, params, *args))(
            *operands
        )
        results = {m.name: over_cases(over_rules(m.transform, f, TABLES)) for m in METHODS}
        return results, None if specimen.smooth else over_cases(profile)

    operands = cases(int(np.prod(shape))).stacked()
    return jax.device_get(everything(specimen.params, *operands))


def result(method, specimen, case):
    """The results of all rules for a case: fields lead with the rules."""
    names = list(cases(int(np.prod(specimen.shape))).table)
    i = names.index(case)
    return jax.tree.map(lambda a: a[i], explain(specimen)[0][method.name])


def assert_close(got, expected, atol=ROUNDING):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(got, expected, rtol=0, atol=atol * scale)


@each_method
@each_model
def test_values_add_up_to_the_score_difference(method, specimen):
    got, profiles = explain(specimen)[0][method.name], explain(specimen)[1]
    scale = np.abs(got.values).sum(axis=-1)
    rounding = ROUNDING * (scale + np.abs(got.score) + np.abs(got.baseline_score))
    if specimen.smooth:
        assert (np.abs(got.delta) <= 1e-9 * scale + rounding)[:, COMPOSITE].all()
    else:
        bounds = np.array([discrepancy(rule) for rule in TABLES])
        # A sampled variation is a little less than the true one.
        bounds = 1.05 * np.outer(slope_variation(profiles), bounds)
        assert (np.abs(got.delta) <= bounds + rounding).all()


@each_method
@each_model
def test_attributions_are_not_trivially_zero(method, specimen):
    # Without this every test here would pass for a dead model.
    values = result(method, specimen, "plain").values
    assert (np.abs(values).max(axis=-1) > 1e-3).all()


@each_method
@each_model
def test_a_feature_that_is_never_read_gets_zero(method, specimen):
    np.testing.assert_array_equal(result(method, specimen, "unread").values[:, 1], 0)


@each_method
@each_model
def test_a_feature_that_does_not_move_gets_zero(method, specimen):
    values = result(method, specimen, "unmoved").values
    np.testing.assert_array_equal(values[:, ::2], 0)
    assert (values[:, 1::2] != 0).any()


@each_method
@each_model
def test_values_are_linear_in_the_function(method, specimen):
    plain, other, combined = (
        result(method, specimen, case).values for case in ("plain", "other", "combined")
    )
    assert_close(combined, plain + FACTOR * other)


@each_method
@each_model
def test_symmetric_features_of_a_symmetric_function_get_the_same(method, specimen):
    values = result(method, specimen, "symmetric").values
    np.testing.assert_allclose(
        values[:, 0], values[:, 3], rtol=0, atol=ROUNDING * np.abs(values).max()
    )


@each_method
@each_model
def test_permuting_the_features_permutes_the_values(method, specimen):
    shuffle = cases(int(np.prod(specimen.shape))).permutation
    plain = result(method, specimen, "plain").values
    assert_close(result(method, specimen, "shuffled").values[:, shuffle], plain)


@each_method
@each_model
def test_swapping_input_and_baseline_flips_the_signs(method, specimen):
    plain, swapped = (
        result(method, specimen, case).values for case in ("plain", "swapped")
    )
    # Exact for symmetric rules, whatever the function; the left sum becomes the right.
    for i in (GAUSS, COMPOSITE, MIDPOINT):
        assert symmetric(TABLES[i])
        assert_close(swapped[i], -plain[i], atol=1e-9)
    assert_close(swapped[LEFT], -plain[RIGHT], atol=1e-9)


@each_method
@each_model
def test_the_values_of_two_halves_of_the_path_add_up(method, specimen):
    plain, first, second = (
        result(method, specimen, case).values
        for case in ("plain", "first half", "second half")
    )
    # A rule on both halves is the rule's composite over two panels on the whole.
    assert_close(first[GAUSS] + second[GAUSS], plain[COMPOSITE], atol=1e-9)


@each_method
@each_model
def test_results_of_the_zoo_are_finite_and_say_that_no_tolerance_was_asked(
    method, specimen
):
    got = result(method, specimen, "plain")
    np.testing.assert_array_equal(got.status, igjax.Status.NO_TOLERANCE)
    assert not got.converged.any()
    assert np.isfinite(got.error).all()


# Implementation invariance: other parameters, the same function.


def _permuted_units(params):
    """The hidden units of the first layer in another order."""
    first, second = params["params"]["Dense_0"], params["params"]["Dense_1"]
    order = np.random.default_rng(1).permutation(first["bias"].shape[0])
    return {
        "Dense_0": {"kernel": first["kernel"][:, order], "bias": first["bias"][order]},
        "Dense_1": {"kernel": second["kernel"][order], "bias": second["bias"]},
    }


def _split_units(params):
    """Every hidden unit twice, with half of its weight."""
    first, second = params["params"]["Dense_0"], params["params"]["Dense_1"]
    twice = lambda a, axis: np.concatenate([a, a], axis)
    return {
        "Dense_0": {"kernel": twice(first["kernel"], 1), "bias": twice(first["bias"], 0)},
        "Dense_1": {"kernel": twice(second["kernel"] / 2, 0), "bias": second["bias"]},
    }


@each_method
@pytest.mark.parametrize("other", [_permuted_units, _split_units])
@pytest.mark.parametrize("name", ["mlp relu", "mlp tanh", "mlp gelu", "mlp softplus"])
def test_equal_functions_get_equal_values_however_they_are_built(method, other, name):
    (specimen,) = [s for s in ZOO if s.name == name]
    # The same model class with as many hidden units as the parameters say.
    rebuilt = {"params": {**specimen.params["params"], **other(specimen.params)}}

    def f(x, params):
        layers = params["params"]
        for i in range(3):
            x = x @ layers[f"Dense_{i}"]["kernel"] + layers[f"Dense_{i}"]["bias"]
            x = specimen.model.activation(x) if i < 2 else x
        return x[0]

    attribute = method.transform(f, rule=igjax.rules.gauss_legendre(16))
    given = cases(6)
    got = attribute(given.x, given.baseline, rebuilt).values
    assert_close(got, result(method, specimen, "plain").values[GAUSS])


@each_method
def test_equal_functions_of_unlike_formulas_get_equal_values(method):
    pairs = [
        (lambda x: jnp.tanh(x).sum(), lambda x: (2 * jax.nn.sigmoid(2 * x) - 1).sum()),
        (lambda x: jnp.log(jnp.exp(x).sum()), lambda x: jax.nn.logsumexp(x)),
        (lambda x: jnp.prod(x), lambda x: x[0] * (x[1] * x[2])),
    ]
    x, b = np.array([1.0, -0.5, 2.0]), np.array([0.2, 0.4, -1.0])
    rule = igjax.rules.midpoint(7)  # equal node by node, so that any rule will do
    explain = lambda f: method.transform(f, rule=rule)(x, b).values
    for one, other in together(lambda: [tuple(map(explain, pair)) for pair in pairs])[0]:
        assert_close(one, other)


# Sensitivity and symmetry, by examples that other methods fail.


@each_method
def test_saturation_does_not_hide_a_feature_that_matters(method):
    f = lambda x: 1 - jax.nn.relu(1 - x[0])
    x = np.array([2.0])
    assert jax.grad(f)(x) == 0
    # The kink is at the middle of the path, between the nodes of an even rule.
    attribute = method.transform(f, rule=igjax.rules.midpoint(10))
    np.testing.assert_allclose(attribute(x, 0 * x).values, [1.0], rtol=1e-13)


@each_method
def test_a_saturated_network_gets_values_where_its_gradient_is_zero(method):
    generator = np.random.default_rng(4)
    w = np.abs(generator.normal(size=(6, 4)))
    f = lambda x: 6 - jax.nn.relu(1 - w @ x).sum()
    x = np.full(4, 10.0)
    np.testing.assert_array_equal(jax.grad(f)(x), 0)
    rule = igjax.rules.midpoint(500)
    values = method.transform(f, rule=rule)(x, 0 * x).values
    # Every unit is a ridge that grows by 1: its share of each feature.
    exact = (w / w.sum(axis=1, keepdims=True)).sum(axis=0)
    variation = w.sum(axis=0) * 10  # of the integrands, all of which fall to 0
    assert (np.abs(values - exact) <= discrepancy(rule) * variation).all()
    assert (values > 0.5).all()


@each_method
def test_the_straight_path_keeps_symmetry_and_a_staircase_breaks_it(method):
    x, b = np.array([1.0, 1.0]), np.array([0.0, 0.0])
    rule = igjax.rules.composite(igjax.rules.gauss_legendre(2), 2)
    explain = lambda f, path: method.transform(f, rule=rule, path=path)(x, b).values
    staircase = igjax.paths.polyline(np.array([1.0, 0.0]))
    straight, product, minimum = together(
        lambda: explain(jnp.prod, igjax.paths.straight),
        lambda: explain(jnp.prod, staircase),
        lambda: explain(jnp.min, staircase),
    )
    np.testing.assert_allclose(straight, [0.5, 0.5], rtol=1e-13)
    np.testing.assert_allclose(product, [0.0, 1.0], atol=1e-13)
    np.testing.assert_allclose(minimum, [0.0, 1.0], atol=1e-13)
