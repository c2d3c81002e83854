"""The same networks in every framework: the same values, layers and embeddings.

What plain JAX gives is the answer; the others must give it in evaluation mode, jitted, in
batches, by the paths of their modules.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax
from tests.frameworks import zoo

RULE = igjax.rules.gauss_legendre(12)
NETWORKS = [
    pytest.param(n, marks=pytest.mark.slow) if n != "table" else n for n in zoo.NETWORKS
]
OTHERS = [f for f in zoo.FRAMEWORKS if f != "jax"]


@pytest.fixture(autouse=True)
def _as_users_have_it():
    with zoo.as_users_have_it():
        yield


def at(framework, network):
    """A function of floats in the framework, and its arguments."""
    if framework == "keras" and not zoo.HAS_KERAS:
        pytest.skip("Keras is not installed")
    model = zoo.model(framework, network)
    if model.table is None:
        return model, model.f, model.args
    _, f = igjax.from_embedding(model.f)
    return model, f, (zoo.TOKENS, *model.args)


def close(got, want, tolerance=2e-5):
    got, want = np.asarray(got), np.asarray(want)
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * np.abs(want).max())


def reference(network, attribute):
    model = zoo.model("jax", network)
    return attribute(model.f)(zoo.INPUTS[network], 0.0, *model.args)


def jacobian(f):
    return igjax.integrated_jacobian(f, rule=RULE)


def first(f):
    return lambda x, *args: f(x, *args)[0]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("framework", OTHERS)
def test_values_are_those_of_plain_jax(framework, network):
    model, f, args = at(framework, network)
    want = reference(network, jacobian)
    result = jacobian(f)(zoo.INPUTS[network], 0.0, *args)
    close(result.score, want.score)
    close(result.values, want.values)
    inside = jax.jit(lambda x, *args: jacobian(f)(x, 0.0, *args).values)
    close(inside(zoo.INPUTS[network], *args), want.values)
    if model.table is None:  # the same f, jitted and called before
        jitted = jax.jit(f)
        jitted(zoo.INPUTS[network], *args)
        close(jacobian(jitted)(zoo.INPUTS[network], 0.0, *args).values, want.values)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("framework", OTHERS)
def test_batches_are_single_examples(framework, network):
    _, f, args = at(framework, network)
    attribute = igjax.integrated_gradients(first(f), rule=RULE)
    x = zoo.INPUTS[network]
    batch = np.stack([x, 0.5 * x, -x])
    axes = (0, None, *(None for _ in args))
    results = jax.jit(jax.vmap(attribute, axes))(batch, 0.0, *args)
    want = reference(network, lambda f: igjax.integrated_gradients(first(f), rule=RULE))
    close(results.values[0], want.values)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("framework", OTHERS)
def test_layers_go_by_their_paths(framework, network):
    model, f, args = at(framework, network)
    x = zoo.INPUTS[network]
    assert model.hidden in igjax.layer_names(f)(x, *args)
    flow = igjax.layer_conductance(first(f), model.hidden, rule=RULE)(x, 0.0, *args)
    want = reference(network, lambda f: igjax.integrated_gradients(first(f), rule=RULE))
    close(flow.values.sum(), want.values.sum(), 1e-4)
    given = igjax.layer_activation(f, "two:input")(x, *args)
    weights = getattr(zoo, f"{network.upper()}_WEIGHTS")
    outputs = jnp.ravel(given) @ weights["w2"] + weights["b2"]
    close(outputs, f(x, *args), 1e-5)


@pytest.mark.parametrize("framework", OTHERS)
def test_the_states_of_a_recurrent_network_are_a_stack(framework):
    model, f, args = at(framework, "series")
    x, w = zoo.INPUTS["series"], zoo.SERIES_WEIGHTS
    states = [np.zeros(4)]
    for row in x:
        states.append(np.tanh(row @ w["wx"] + states[-1] @ w["wh"] + w["b"]))
    got = jax.tree.leaves(igjax.layer_activation(f, model.steps)(x, *args))[-1]
    got = got.reshape(5, 4)
    close(got[: zoo.LENGTH], np.stack(states[1 : zoo.LENGTH + 1]))


@pytest.mark.parametrize("framework", OTHERS)
def test_embeddings_are_found_and_named(framework):
    model, _, args = at(framework, "sentence")
    for name in (None, model.table):
        x = igjax.from_embedding(model.f, name).embed(*args)
        np.testing.assert_array_equal(x, zoo.INPUTS["sentence"])


@pytest.mark.slow
@pytest.mark.parametrize("framework", OTHERS)
def test_the_default_rule_certifies_a_model_of_every_framework(framework):
    _, f, args = at(framework, "table")
    result = igjax.integrated_gradients(first(f))(zoo.INPUTS["table"], 0.0, *args)
    assert bool(result.converged)
    want = reference("table", jacobian)
    close(result.values, want.values[0], 1e-2)
