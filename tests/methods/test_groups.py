"""Groups of features against sums of closed forms, and against what they must not lose.

The group of a feature is a change of variables, so its value is the sum over its members,
whatever the method. Its error is that of the sum: less than the sum of the errors where
those cancel, and a tolerance met for the groups is met for values in which signs cancel.
"""

import dataclasses
import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax
from tests.registry import together

RULE = igjax.rules.gauss_legendre(24)
COARSE = igjax.rules.gauss_legendre(4)
IMAGE = np.random.default_rng(5).normal(size=(3, 4, 2))
SEGMENTS = np.array([[0, 0, 1, 1], [0, 2, 2, 1], [2, 2, 2, 1]])[..., None]
W = np.random.default_rng(6).normal(size=IMAGE.shape)


def ridge(x, bias=0.0):
    return jnp.tanh(jnp.sum(W * x) / 4 + bias)


def shares(x, baseline, bias=0.0):
    """Integrated Gradients of the ridge: its change, in proportion to w dx."""
    parts = W * (x - baseline)
    change = np.tanh((W * x).sum() / 4 + bias) - np.tanh((W * baseline).sum() / 4 + bias)
    return change * parts / parts.sum()


def sums(values, groups, count):
    labels = np.broadcast_to(groups, values.shape)
    return np.array([values[labels == g].sum() for g in range(count)])


LABELS = {
    "segments": (SEGMENTS, 3),
    "channels": (np.arange(2)[None, None], 2),
    "rows": (np.arange(3)[:, None, None], 3),
    "all": (0, 1),
    "pixels": (np.arange(24).reshape(3, 4, 2), 24),
    "one without features": (SEGMENTS * 2, 5),
}


# grouped


def test_groups_of_any_kind_have_the_sums_of_their_features():
    attributes = [igjax.grouped(ridge, count, rule=RULE) for _, count in LABELS.values()]
    results = together(
        *(
            partial(attribute, IMAGE, 0.1, groups, 0.3)
            for attribute, (groups, _) in zip(attributes, LABELS.values(), strict=True)
        )
    )
    for result, (groups, count) in zip(results, LABELS.values(), strict=True):
        exact = sums(shares(IMAGE, 0.1 * np.ones_like(IMAGE), 0.3), groups, count)
        np.testing.assert_allclose(result.values, exact, atol=1e-9)
        np.testing.assert_allclose(result.delta, 0, atol=1e-9)
        np.testing.assert_allclose(result.score, ridge(IMAGE, 0.3), rtol=1e-12)
        assert (result.error[~np.isin(np.arange(count), groups)] == 0).all()


@pytest.mark.slow
def test_the_tolerance_is_met_for_groups_in_which_signs_cancel():
    # Of 1000 sigmoid with both signs nothing is left in the group; 1e-5 of the features'
    # sizes would be 0.02, and is 1e-5 of 3 for the groups.
    def f(x):
        steep = 1000 * jax.nn.sigmoid(40 * x[:2] - 20)
        return steep[0] - steep[1] + jnp.arctan(30 * x[2] - 15)

    rule = igjax.rules.adaptive(tolerance := 1e-5)
    call = partial(igjax.grouped(f, 2, rule=rule), np.ones(3), 0.0, np.array([0, 0, 1]))
    (groups,) = together(call)
    exact = np.array([0.0, 2 * np.arctan(15)])
    assert groups.converged
    assert np.abs(groups.values - exact).sum() <= tolerance * np.abs(exact).sum()
    assert groups.error.sum() <= tolerance * np.abs(exact).sum()


def test_the_error_of_a_group_is_that_of_the_sum_and_covers():
    # arctan of each feature by itself: its change. The first two nearly cancel.
    f = lambda x: jnp.arctan(3 * x[0]) - jnp.arctan(2.9 * x[1]) + jnp.arctan(2 * x[2])
    x, labels = np.ones(3), np.array([0, 0, 1])
    groups, features = together(
        lambda: igjax.grouped(f, 2, rule=COARSE)(x, 0.0, labels),
        lambda: igjax.integrated_gradients(f, rule=COARSE)(x, 0.0),
    )
    exact = np.array([np.arctan(3) - np.arctan(2.9), np.arctan(2)])
    assert (np.abs(groups.values - exact) <= groups.error).all()
    added = igjax.aggregate(features, labels, 2)
    np.testing.assert_allclose(added.values, groups.values, rtol=1e-12)
    assert (np.abs(added.values - exact) <= added.error).all()
    # Of one feature they are the same; of two that cancel, the bound is far too wide.
    np.testing.assert_allclose(added.error[1], groups.error[1], rtol=1e-9)
    assert added.error[0] > 5 * groups.error[0]


def test_trees_and_one_hot_columns():
    x = {"age": np.float64(2.0), "color": np.array([0.0, 1.0, 0.0]), "z": np.ones(2) * 1j}
    groups = {"age": 1, "color": 0, "z": np.array([1, 2])}
    prices = np.array([3.0, 5.0, 7.0])
    f = lambda x: x["age"] * jnp.dot(prices, x["color"]) + (x["z"] ** 2).real.sum()
    zeros = {"age": 0.0, "color": 0.0, "z": 0.0}
    result = igjax.grouped(f, 3, rule=COARSE)(x, zeros, groups)
    # A product of two is shared equally; (i s)**2 changes by -1.
    np.testing.assert_allclose(result.values, [5, 5 - 1, -1], rtol=1e-12)
    assert result.values.dtype == "float64"


def test_groups_pass_through_transformations():
    attribute = igjax.grouped(ridge, 3, rule=RULE)
    batch = np.stack([IMAGE, -IMAGE, 2 * IMAGE])
    labels = np.stack([SEGMENTS, 2 - SEGMENTS, 0 * SEGMENTS])
    biases = np.array([0.0, 0.5, -0.5])
    explain = jax.jit(jax.vmap(attribute, (0, None, 0, 0)))
    results = explain(batch, 0.1, labels, biases)
    for i, bias in enumerate(biases):
        exact = sums(shares(batch[i], 0.1, bias), labels[i], 3)
        np.testing.assert_allclose(results.values[i], exact, atol=1e-8)
    # d/dbias of the only group's value: the change of 1 - tanh**2.
    at = lambda bias: attribute(IMAGE, 0.1, 0 * SEGMENTS, bias).values[0]
    slope = lambda x: 1 - np.tanh((W * x).sum() / 4 + 0.2) ** 2
    exact = slope(IMAGE) - slope(0.1 * np.ones_like(IMAGE))
    np.testing.assert_allclose(jax.grad(at)(0.2), exact, atol=1e-8)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_both_ends_are_reached_exactly(dtype):
    # A step at x, that is lost by the rounding of baseline + (x - baseline).
    rows = np.random.default_rng(0).normal(size=(200, 2)) * [[1.0, 50.0]]
    x, baseline = jnp.asarray(rows, dtype).T
    met = lambda z, end: jnp.sum(z == end, dtype="float32")
    f = lambda z, x, baseline: met(z, x) - 2 * met(z, baseline) + 0 * z.sum()
    groups = np.arange(200) % 2
    result = igjax.grouped(f, 2, rule=COARSE)(x, baseline, groups, x, baseline)
    assert result.score == 200
    assert result.baseline_score == -400
    assert result.values.dtype == "float32"


def test_other_methods_take_groups():
    f = lambda x: x[0] * x[1] * x[2] + x[0] ** 2
    x, labels = np.array([2.0, 3.0, 5.0]), np.array([0, 0, 1])
    shapley = lambda f: partial(igjax.perturbation.shapley_values(f), jax.random.key(0))
    stairs = igjax.paths.staircase(jnp.array([1, 0]), 2)
    orders, interactions, matrix, jacobian, second_first = together(
        lambda: igjax.grouped(f, 2, method=shapley)(x, 0.0, labels),
        lambda: igjax.grouped(f, 2, method=igjax.integrated_hessians)(x, 0.0, labels),
        lambda: igjax.integrated_hessians(f)(x, 0.0),
        lambda: igjax.grouped(
            lambda x: jnp.stack([f(x), 2 * x.sum()]),
            2,
            method=igjax.integrated_jacobian,
            rule=RULE,
        )(x, 0.0, labels),
        lambda: igjax.grouped(f, 2, rule=igjax.rules.composite(RULE, 2), path=stairs)(
            x, 0.0, labels
        ),
    )
    # Of a group before the other: 4 of the square, and the product at the second turn.
    np.testing.assert_allclose(orders.values, [4 + 15, 15], rtol=1e-12)
    members = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    added = members @ matrix.values @ members.T
    np.testing.assert_allclose(interactions.values, added, rtol=1e-9)
    # s0**2 s1 is divided 2 to 1.
    np.testing.assert_allclose(jacobian.values, [[4 + 20, 10], [10, 10]], rtol=1e-12)
    np.testing.assert_allclose(second_first.values, [34, 0], atol=1e-9)


def test_labels_of_the_function_are_checked_through_the_groups():
    f = igjax.select(lambda x: x * jnp.array([1.0, 2.0]))
    attribute = igjax.grouped(f, 1, rule=COARSE)
    np.testing.assert_allclose(attribute(np.ones(2), 0.0, 0, 1).values, [2.0])
    for one in (attribute, igjax.grouped(f, 1, rule=COARSE)):
        with pytest.raises(ValueError, match="the label must be in"):
            one(np.ones(2), 0.0, 0, 2)


def product(x):
    return x[0] * x[1] * x[2]


X, ROWS = np.array([2.0, 3.0, 4.0]), np.zeros((2, 3))
PAIR = np.array([0, 1, 1])
KEY = jax.random.key(0)
AROUND = r"igjax\.expected\(igjax\.grouped\(f, 2, rule=\.\.\.\)\)\(key, x, rows, groups\)"


def test_a_mean_over_baselines_goes_around_the_groups():
    attribute, key = igjax.grouped(product, 2, rule=RULE), jax.random.key(0)
    # Two of three factors: 24 is divided by 1 to 2.
    result = igjax.expected(attribute)(key, X, ROWS, PAIR)
    np.testing.assert_allclose(result.values, [8, 16], rtol=1e-12)


MEANS = {
    "expected": igjax.expected,
    "expected_gradients": igjax.expected_gradients,
    "expected_integrated_gradients": igjax.expected_integrated_gradients,
    "with options": partial(igjax.expected_gradients, draws=16),
    "of a method": lambda f: igjax.expected(igjax.integrated_gradients(f)),
    "with its key": lambda f: partial(igjax.expected_gradients(f), jax.random.key(0)),
}


@pytest.mark.parametrize("method", MEANS.values(), ids=MEANS)
def test_a_mean_inside_of_the_groups_names_the_right_form(method):
    with pytest.raises(TypeError, match=f"method must explain .* over baselines.*{AROUND}"):
        igjax.grouped(product, 2, method=method)


def test_noise_inside_of_the_groups_names_the_right_form():
    with pytest.raises(
        TypeError, match=r"igjax\.smooth\(igjax\.grouped\(f, 2, rule=.*base"
    ):
        igjax.grouped(product, 2, method=igjax.smooth)


ATTRIBUTIONS = {
    "integrated_gradients": igjax.integrated_gradients,
    "expected": lambda f: igjax.expected(igjax.integrated_gradients(f)),
    "expected_gradients": igjax.expected_gradients,
    "smooth_squared": lambda f: partial(igjax.smooth_squared(igjax.gradient(f)), KEY),
    "input_x_gradient": lambda f: jax.jit(igjax.input_x_gradient(f)),
}


@pytest.mark.parametrize("name", ATTRIBUTIONS)
def test_groups_of_an_attribution_name_the_right_forms(name):
    told = f"function to explain, got what {name} made of it.*{AROUND}.*method=\\.\\.\\."
    with pytest.raises(TypeError, match=told):
        igjax.grouped(ATTRIBUTIONS[name](product), 2)


KEYED = {
    "expected": lambda f: igjax.expected(igjax.integrated_gradients(f)),
    "jitted": lambda f: jax.jit(igjax.smooth(igjax.integrated_gradients(f))),
    "shapley_values": igjax.perturbation.shapley_values,
    "another's": lambda f: lambda key, x, baseline: f(x),
}


@pytest.mark.parametrize("combine", [igjax.expected, igjax.smooth, igjax.smooth_variance])
@pytest.mark.parametrize("make", KEYED.values(), ids=KEYED)
def test_a_mean_of_what_is_keyed_asks_for_its_key(make, combine):
    told = rf"{combine.__name__}: attribute .*{combine.__name__}\(functools\.partial\(attr"
    with pytest.raises(TypeError, match=told):
        combine(make(product))


def test_arguments_in_another_order_are_named():
    attribute, key = igjax.grouped(product, 2, rule=RULE), jax.random.key(0)
    explain = igjax.expected(attribute)
    for any_key in (key, jax.random.key_data(key)):
        with pytest.raises(TypeError, match=f"must be x, got a random key.*{AROUND}"):
            attribute(any_key, X, ROWS, PAIR)
    with pytest.raises(ValueError, match=r"Rows of baselines go to igjax\.expected"):
        attribute(X, ROWS, PAIR)
    with pytest.raises(TypeError, match=r"must be integers.* after x and the baseline"):
        attribute(X, PAIR, ROWS[0])
    for order in [(X, key, ROWS, PAIR), (X, ROWS, key, PAIR), (ROWS, X, PAIR, key)]:
        with pytest.raises(
            TypeError, match=r"must be a random key.*\(key, x, baseline, \*ar"
        ):
            explain(*order)
    for order in [(key, ROWS, X, PAIR), (key, X, PAIR, ROWS)]:
        with pytest.raises(ValueError, match="baselines must be rows like x"):
            explain(*order)


def test_attributions_say_what_they_are_called_with():
    made = [
        igjax.integrated_gradients(product),
        igjax.expected_gradients(product),
        igjax.smooth(igjax.gradient(product)),
    ]
    assert [f"{f.__name__}{inspect.signature(f)}" for f in made] == [
        "integrated_gradients(x, baseline, /, *args)",
        "expected_gradients(key, x, baselines, /, *args)",
        "smooth(key, x, baseline, /, *args)",
    ]


@pytest.mark.parametrize(
    ("dtype", "count"), [("uint8", 256), ("int8", 128), ("uint8", 300)]
)
def test_small_integers_may_be_labels_of_many_groups(dtype, count):
    f = igjax.select(lambda x: x.sum() * jnp.arange(300.0))
    groups, label = np.array([0, 1, 100, 120], dtype), np.array(100, dtype)
    x = np.arange(1.0, 5.0)
    want = np.zeros(count)
    want[groups] = 100 * x
    for as_array in (np.asarray, jnp.asarray):
        labels = as_array(groups), as_array(label)
        whole = igjax.integrated_gradients(f, rule=COARSE)(x, 0.0, labels[1])
        results = [
            igjax.aggregate(whole, labels[0], count),
            igjax.grouped(f, count, rule=COARSE)(x, 0.0, *labels),
        ]
        for result in results:
            np.testing.assert_allclose(result.values, want)


# aggregate


@pytest.mark.slow
def test_sums_keep_batches_outputs_and_their_completeness():
    g = lambda x: jnp.stack([ridge(x), (x**2).sum(), x[0, 0, 0]])
    jacobian = igjax.integrated_jacobian(g, rule=COARSE)
    batch = np.stack([IMAGE, -2 * IMAGE])

    @jax.jit
    def explain(batch):
        results = jax.vmap(jacobian, (0, None))(batch, 0.1)
        return results, [igjax.aggregate(results, *labels) for labels in LABELS.values()]

    results, all_added = explain(batch)
    for added, (groups, count) in zip(all_added, LABELS.values(), strict=True):
        assert added.values.shape == (2, 3, count)
        for i, k in np.ndindex(2, 3):
            pick = lambda a: sums(np.asarray(a)[i, k], groups, count)  # noqa: B023
            np.testing.assert_allclose(added.values[i, k], pick(results.values), atol=1e-12)
            np.testing.assert_allclose(added.error[i, k], pick(results.error), atol=1e-12)
        change = added.score - added.baseline_score
        np.testing.assert_allclose(added.values.sum(-1) - change, added.delta, atol=1e-9)
        np.testing.assert_array_equal(added.status, results.status)


def test_sums_pass_through_jit_and_vmap_and_over_trees():
    x = {"a": np.array([1.0, 2.0, 3.0]), "b": np.float64(4.0)}
    f = lambda x: (x["a"] ** 2).sum() + x["b"]
    attribute = igjax.integrated_gradients(f, rule=COARSE)

    @jax.jit
    @partial(jax.vmap, in_axes=(None, 0))
    def explain(x, groups):
        return igjax.aggregate(attribute(x, {"a": 0.0, "b": 0.0}), groups, 3)

    groups = {"a": np.array([[0, 1, 1], [2, 0, 0]]), "b": np.array([0, 0])}
    exact = [[5, 13, 0], [17, 0, 1]]
    np.testing.assert_allclose(explain(x, groups).values, exact, atol=1e-12)


def test_statuses_that_are_no_promise_are_kept():
    result = igjax.input_x_gradient(jnp.sum)(np.ones(2), 0.0)
    for status in igjax.Status:
        added = igjax.aggregate(dataclasses.replace(result, status=jnp.int32(status)), 0, 1)
        assert added.status == (status or igjax.Status.NO_TOLERANCE)
        assert not added.converged


# Labels, of both


def of_labels(groups, count=3):
    result = igjax.integrated_gradients(ridge, rule=COARSE)(IMAGE, 0.0)
    yield lambda: igjax.grouped(ridge, count, rule=COARSE)(IMAGE, 0.0, groups)
    yield lambda: igjax.aggregate(result, groups, count)


@pytest.mark.parametrize(
    ("groups", "count", "kind", "message"),
    [
        (SEGMENTS, 2, ValueError, r"groups must be in \[0, 2\), got 0 to 2"),
        (SEGMENTS - 1, 3, ValueError, r"groups must be in \[0, 3\), got -1 to 1"),
        (SEGMENTS * 1.0, 3, TypeError, "groups must be integers, got float64"),
        (SEGMENTS[..., 0], 3, ValueError, r"the axes of x, \(3, 4, 2\).* got \(3, 4\)"),
        (np.arange(2), 2, ValueError, r"the axes of x, \(3, 4, 2\).* got \(2,\)"),
        ([SEGMENTS], 3, ValueError, "groups must have the structure of x"),
        (SEGMENTS, 0, ValueError, "count must be an integer of at least 1, got 0"),
    ],
    ids=lambda a: a if isinstance(a, str) else "",
)
def test_labels_that_do_not_fit_are_errors(groups, count, kind, message):
    for call in of_labels(groups, count):
        with pytest.raises(kind, match=message):
            call()


def test_traced_labels_out_of_range_lose_nothing_in_silence():
    labels = np.stack([SEGMENTS, SEGMENTS - 1, SEGMENTS + 1])

    @jax.jit
    @jax.vmap
    def both(groups):
        return [call() for call in of_labels(groups)]

    for result in both(labels):
        outside = np.array([False, True, True])
        np.testing.assert_array_equal(np.isnan(result.delta), outside)
        np.testing.assert_array_equal(result.status == igjax.Status.NON_FINITE, outside)
        assert np.isfinite(result.values[0]).all()
        assert np.isnan(result.values[1:]).any(-1).all()


# Tokens


@pytest.mark.parametrize(
    ("labels", "groups"),
    [
        ([None, 0, 1, 1, 2, None], [0, 1, 2, 2, 3, 4]),
        ([None, None, 0, None, None], [0, 1, 2, 3, 4]),
        # A pair of texts: words are numbered twice.
        ([None, 0, 0, None, 0, 1, None], [0, 1, 1, 2, 3, 4, 5]),
        (["name", "name", None, "place"], [0, 0, 1, 2]),
        ([7], [0]),
    ],
)
def test_words_are_neighbors_of_one_label(labels, groups):
    got = igjax.token_groups(labels)
    assert got.dtype == "int32"
    np.testing.assert_array_equal(got, groups)


def test_words_add_up_to_what_their_tokens_did():
    embeddings = np.random.default_rng(1).normal(size=(6, 3))
    f = lambda x: (x**3).sum() + jnp.prod(x[:, 0])
    words = igjax.token_groups([None, 0, 0, 1, 1, None])
    result = igjax.integrated_gradients(f, rule=COARSE)(embeddings, 0.0)
    added = igjax.aggregate(result, words[:, None], words.max() + 1)
    tokens = result.values.sum(-1)
    exact = [tokens[0], tokens[1] + tokens[2], tokens[3] + tokens[4], tokens[5]]
    np.testing.assert_allclose(added.values, exact, atol=1e-12)
    np.testing.assert_allclose(added.values.sum(), f(embeddings) - f(0 * embeddings))


def test_no_tokens_are_an_error():
    with pytest.raises(ValueError, match="at least one token"):
        igjax.token_groups([])
