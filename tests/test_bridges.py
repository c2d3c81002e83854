"""Bridges change how a model is called, never what is attributed.

Each is compared with the attribution of a function written by hand for one example. And
none may guess: a label that does not exist, or one Embed of two, must never be clamped
or chosen in silence.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax

RULE = igjax.rules.gauss_legendre(16)
W = np.array([[1.0, -2.0, 0.5], [0.3, 0.8, -1.0], [2.0, 0.0, 1.0], [-0.4, 1.5, 0.7]])
X = np.array([0.8, -1.1, 2.0])
CLASSES, FEATURES = W.shape


def outputs(x):
    return W @ x


def explain(f):
    return igjax.integrated_gradients(f, rule=RULE)


# single


def test_single_gives_and_takes_the_batch_axis():
    seen = []

    def g(batch, scale):
        seen.append((batch["a"].shape, batch["b"].shape))
        return {"out": scale * batch["a"] + batch["b"][:, None]}

    got = igjax.single(g)({"a": X, "b": np.float64(2.0)}, 3.0)
    assert seen == [((1, 3), (1,))]
    np.testing.assert_array_equal(got["out"], 3 * X + 2)


def test_single_of_a_batch_first_model_has_the_values_of_one_example():
    g = lambda batch: (batch @ W.T)[:, 1]
    # Linear: w * x.
    values = explain(igjax.single(g))(X, 0.0).values
    np.testing.assert_allclose(values, W[1] * X, rtol=1e-12)


@pytest.mark.parametrize(
    "g",
    [lambda x: x.sum(), lambda x: x[0], lambda x: jnp.tile(x, (2, 1))],
    ids=["scalar", "no batch axis", "larger batch"],
)
def test_single_refuses_outputs_without_a_batch_axis_of_one(g):
    with pytest.raises(ValueError, match="single: the output must keep the batch axis"):
        igjax.single(g)(X)


# select


@pytest.mark.parametrize("label", range(CLASSES))
def test_select_takes_the_output_of_the_label(label):
    f = igjax.select(outputs)
    np.testing.assert_allclose(f(X, label), W[label] @ X, rtol=1e-12)
    np.testing.assert_allclose(explain(f)(X, 0.0, label).values, W[label] * X, rtol=1e-12)


def test_select_passes_other_arguments_on():
    f = igjax.select(lambda x, scale: scale * (W @ x))
    values = explain(f)(X, 0.0, 2, 3.0).values
    np.testing.assert_allclose(values, 3 * W[2] * X, rtol=1e-12)


def test_labels_may_be_mapped():
    labels = np.array([3, 0, 2])
    result = jax.vmap(explain(igjax.select(outputs)), (None, None, 0))(X, 0.0, labels)
    np.testing.assert_allclose(result.values, W[labels] * X[None], rtol=1e-12)


@pytest.mark.parametrize("label", [-5, -1000, CLASSES, 1000])
def test_concrete_labels_out_of_range_are_errors(label):
    f = igjax.select(outputs)
    attribute = explain(f)
    message = rf"the label must be in \[-{CLASSES}, {CLASSES}\), got {label}"
    with pytest.raises(ValueError, match=message):
        f(X, label)
    with pytest.raises(ValueError, match=message):
        attribute(X, 0.0, label)
    attribute(X, 0.0, 1)
    # The compiled program does not see the value: the bridge must.
    with pytest.raises(ValueError, match=message):
        attribute(X, 0.0, np.int32(label))
    with pytest.raises(ValueError, match=message):
        attribute(X, 0.0, jnp.int32(label))


@pytest.mark.slow
@pytest.mark.parametrize("rule", [RULE, igjax.rules.adaptive()], ids=["fixed", "adaptive"])
def test_traced_labels_out_of_range_are_never_clamped(rule):
    attribute = igjax.integrated_gradients(igjax.select(outputs), rule=rule)
    labels = np.array([-5, 0, CLASSES - 1, CLASSES])
    result = jax.jit(jax.vmap(attribute, (None, None, 0)))(X, 0.0, labels)
    outside = np.array([True, False, False, True])
    np.testing.assert_array_equal(np.isnan(result.score), outside)
    np.testing.assert_array_equal(result.status == igjax.Status.NON_FINITE, outside)
    np.testing.assert_allclose(result.values[1:3], W[[0, 3]] * X[None], rtol=1e-12)


@pytest.mark.parametrize("label", [1.0, np.ones((2, 2), int), True, None, (0.5,)], ids=repr)
def test_labels_that_are_no_integers_are_errors(label):
    with pytest.raises(TypeError, match="select: the label must be an integer, or a tup"):
        igjax.select(outputs)(X, label)


def test_select_of_a_batch_first_model_advises_to_take_the_axis_off():
    with pytest.raises(ValueError, match=r"igjax\.select\(igjax\.single\(g\)\)"):
        igjax.select(lambda x: x[None])(X, 0)


def test_bridges_compose():
    f = igjax.select(igjax.single(lambda batch: batch @ W.T))
    np.testing.assert_allclose(explain(f)(X, 0.0, 3).values, W[3] * X, rtol=1e-12)


# contrast


def test_a_contrast_is_the_difference_of_two_outputs():
    f = igjax.contrast(lambda x, scale: scale * (W @ x))
    result = jax.vmap(explain(f), (None, None, 0, 0, None))(
        X, 0.0, np.array([0, 3, -5, 1]), np.array([1, 2, 0, CLASSES]), 2.0
    )
    np.testing.assert_allclose(result.values[0], 2 * (W[0] - W[1]) * X, rtol=1e-12)
    np.testing.assert_allclose(result.values[1], 2 * (W[3] - W[2]) * X, rtol=1e-12)
    np.testing.assert_array_equal(np.isnan(result.score), [False, False, True, True])
    np.testing.assert_array_equal(result.status == igjax.Status.NON_FINITE, [0, 0, 1, 1])


def test_a_contrast_of_logits_is_that_of_log_probabilities():
    logs = lambda x: jax.nn.log_softmax(outputs(x))
    f, g = igjax.contrast(outputs), igjax.contrast(logs)
    np.testing.assert_allclose(g(X, 2, 0), f(X, 2, 0), rtol=1e-12)
    np.testing.assert_allclose(igjax.select(logs)(X, 2), logs(X)[2], rtol=1e-12)


@pytest.mark.parametrize("labels", [(-5, 0), (0, CLASSES)])
def test_contrasts_with_concrete_labels_out_of_range_are_errors(labels):
    attribute = explain(igjax.contrast(outputs))
    message = rf"contrast: the label must be in \[-{CLASSES}, {CLASSES}\)"
    with pytest.raises(ValueError, match=message):
        attribute(X, 0.0, *labels)
    attribute(X, 0.0, 1, 2)
    with pytest.raises(ValueError, match=message):
        attribute(X, 0.0, *map(jnp.int32, labels))
