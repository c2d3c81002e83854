"""No model in training mode is explained, in whatever form it reaches f, unless asked for.

The forms are those in which people pass models; what is refused is refused by name, and the
same form in evaluation mode gives what the model itself gives.
"""

import functools
from typing import Any

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import igjax
from tests.frameworks.zoo import equinox_norm

LIST: Any = getattr(nnx, "List", list)  # of Flax 0.12
RULE = igjax.rules.gauss_legendre(4)
X = np.array([1.0, 2.0, -1.0, 0.5], "float32")


def explain(f, *args):
    return igjax.integrated_gradients(f, rule=RULE)(X, 0.0, *args)


def refused(match, f, *args):
    with pytest.raises(ValueError, match=match):
        explain(f, *args)


# Flax NNX.


class Block(nnx.Module):
    def __init__(self, rngs, norm):
        self.linear = nnx.Linear(4, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs) if norm else None
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        x = self.linear(x)
        x = x if self.norm is None else self.norm(x)
        return self.drop(nnx.tanh(x))


class Net(nnx.Module):
    def __init__(self, norm=True):
        rngs = nnx.Rngs(0, dropout=1)
        self.blocks = LIST([Block(rngs, norm), Block(rngs, norm)])
        self.head = nnx.Linear(4, 2, rngs=rngs)

    def features(self, x):
        for block in self.blocks:
            x = block(x)
        return x

    def __call__(self, x):
        return self.head(self.features(x))

    def score(self, x):
        return self(x[None])[0, 0]


def in_a_partial(model):
    return (functools.partial(lambda model, x: model.score(x), model),)


def merged(model):
    graph, state = nnx.split(model)
    return lambda x, state: nnx.merge(graph, state).score(x), state


def merged_from_arguments(model):
    graph, state = nnx.split(model)
    return lambda x, graph, state: nnx.merge(graph, state).score(x), graph, state


def called_from_parts(model):
    return lambda x, parts: nnx.call(parts)(x[None])[0][0, 0], nnx.split(model)


def merged_under_jit(model):
    graph, state = nnx.split(model)
    f = jax.jit(lambda x, state: nnx.merge(graph, state).score(x))
    f(X, state)  # JAX keeps this trace
    return f, state


def under_nnx_jit(model):
    return lambda x, model: nnx.jit(lambda m, x: m.score(x))(model, x), model


FORMS = {
    "as_f": lambda model: (model.score,),
    "in_a_closure": lambda model: (lambda x: model.score(x),),
    "by_parts": lambda model: (lambda x: model.head(model.features(x[None]))[0, 0],),
    "as_an_argument": lambda model: (lambda x, model: model.score(x), model),
    "in_a_dict": lambda model: (lambda x, d: d["net"].score(x), {"net": model}),
    "in_a_partial": in_a_partial,
    "merged": merged,
    "merged_from_arguments": merged_from_arguments,
    "called_from_parts": called_from_parts,
    "merged_under_jit": merged_under_jit,
    "under_nnx_jit": under_nnx_jit,
}


@pytest.mark.parametrize("form", FORMS)
def test_nnx_batch_statistics_are_refused_in_every_form(form):
    text = (
        r"^integrated_gradients: the model must be in evaluation mode, got "
        r"BatchNorm\(use_running_average=False\) at (net/)?blocks/0/norm\. "
        r"Call model\.eval\(\) first"
    )
    refused(text, *FORMS[form](Net()))


@pytest.mark.parametrize("form", FORMS)
def test_nnx_dropout_is_refused_in_every_form(form):
    refused(
        r"Dropout\(deterministic=False\) at (net/)?blocks/0/drop\.",
        *FORMS[form](Net(False)),
    )


@pytest.mark.parametrize("form", FORMS)
def test_nnx_in_evaluation_mode_is_explained_in_every_form(form):
    model = Net()
    model.eval()
    result = explain(*FORMS[form](model))
    np.testing.assert_allclose(result.score, model.score(X), rtol=1e-6)
    np.testing.assert_allclose(result.values, explain(model.score).values, rtol=1e-6)


def test_nnx_is_refused_under_the_users_jit():
    graph, state = nnx.split(Net())
    attribute = igjax.integrated_gradients(lambda x, s: nnx.merge(graph, s).score(x))
    with pytest.raises(ValueError, match="at blocks/0/norm"):
        jax.jit(attribute)(X, 0.0, state)


def test_what_the_call_says_comes_before_the_flag():
    drop = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
    result = explain(lambda x: drop(x, deterministic=True).sum())
    np.testing.assert_allclose(result.values, X)
    drop.eval()
    refused("deterministic=False", lambda x, d: d(x, deterministic=False).sum(), drop)


def test_every_method_refuses_by_its_own_name():
    model = Net()
    for method, call in CALLS.items():
        with pytest.raises(ValueError, match=f"^{method}: the model must be in evaluation"):
            call(model)


CALLS = {
    "gradient": lambda m: igjax.gradient(m.score)(X),
    "cut": lambda m: igjax.cut(m.score, "head").trunk(X),
    "layer_conductance": lambda m: igjax.layer_conductance(m.score, "head")(X, 0.0),
    "expected_gradients": lambda m: igjax.expected_gradients(m.score, draws=16)(
        jax.random.key(0), X, X[None]
    ),
}


def test_training_mode_that_is_meant_is_explained():
    graph, state = nnx.split(Net(False))

    def f(x, state, key):
        model = nnx.merge(graph, state)
        nnx.reseed(model, dropout=key)
        return model.score(x)

    keys = jax.random.split(KEY, 8)
    attribute = igjax.integrated_gradients(igjax.in_training_mode(f), rule=RULE)
    results = jax.vmap(attribute, (None, None, None, 0))(X, 0.0, state, keys)
    assert len(np.unique(np.round(results.score, 8))) > 1
    for k in range(2):  # one mask for the whole path
        want = f(X, state, keys[k])
        np.testing.assert_allclose(results.score[k], want, rtol=1e-6)
    refused("evaluation mode", f, state, keys[0])
    jitted = jax.jit(f)  # whose trace, if it is kept, is kept for this alone
    explain(igjax.in_training_mode(jitted), state, keys[0])
    refused("evaluation mode", jitted, state, keys[0])


class OwnNorm(nnx.Module):
    """A normalization that a user wrote, whose flag nobody knows."""

    def __init__(self):
        self.mean = nnx.BatchStat(jnp.ones(4))
        self.training = True

    def __call__(self, x):
        if self.training:
            self.mean[...] = 0.9 * self.mean[...] + 0.1 * x
        return (x - self.mean[...]).sum()


def test_statistics_that_a_users_module_changes_are_refused():
    model = OwnNorm()
    graph, state = nnx.split(model)
    f = lambda x, state: nnx.merge(graph, state)(x)
    refused(r"OwnNorm\(its statistics change\) at mean", f, state)
    model.training = False
    graph, state = nnx.split(model)
    np.testing.assert_allclose(explain(f, state).values, X)


# Equinox.


class Layer(eqx.Module):
    linear: eqx.nn.Linear
    drop: eqx.nn.Dropout

    def __init__(self, key):
        self.linear = eqx.nn.Linear(4, 4, key=key)
        self.drop = eqx.nn.Dropout(0.5)

    def __call__(self, x, key=None):
        return self.drop(jnp.tanh(self.linear(x)), key=key)


class Stack(eqx.Module):
    layers: list

    def __call__(self, x, key=None):
        for layer in self.layers:
            x = layer(x, key)
        return x.sum()


@pytest.fixture
def stack():
    return Stack([Layer(key) for key in jax.random.split(jax.random.key(0))])


KEY = jax.random.key(1)


def combined(model):
    arrays, rest = eqx.partition(model, eqx.is_array)
    return lambda x, arrays: eqx.combine(arrays, rest)(x, KEY), arrays


EQUINOX = {
    "as_f": lambda model: (model,),
    "in_a_closure": lambda model: (lambda x: model(x, KEY),),
    "without_a_key": lambda model: (lambda x: model(x),),
    "as_an_argument": lambda model: (lambda x, model: model(x, KEY), model),
    "combined": combined,
    "filter_jit": lambda model: (eqx.filter_jit(lambda x, model: model(x, KEY)), model),
}


@pytest.mark.parametrize("form", EQUINOX)
def test_equinox_dropout_is_refused(form, stack):
    text = r"got Dropout\(inference=False\) at layers/0/drop\. Call model = equinox\.nn"
    refused(text, *EQUINOX[form](stack))
    model = eqx.nn.inference_mode(stack)
    result = explain(*EQUINOX[form](model))
    np.testing.assert_allclose(result.score, model(X), rtol=1e-6)


def test_equinox_batch_normalization_is_refused():
    norm, state = equinox_norm(4)
    f = lambda x, norm: norm(x, state)[0].sum()
    refused(r"BatchNorm\(inference=False\)", f, norm)
    values = explain(f, eqx.nn.inference_mode(norm)).values
    np.testing.assert_allclose(values / values.sum(), X / X.sum(), rtol=1e-4)


# Flax linen and Haiku.


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(4)(x)
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(1)(nn.tanh(x))[0, 0]


def test_linen_batch_statistics_are_refused():
    model = Linen()
    variables = model.init(jax.random.key(0), X[None], False)

    def f(x, train):
        updated = model.apply(variables, x[None], train, mutable=["batch_stats"])
        return updated[0]

    refused(r"BatchNorm\(use_running_average=False\) at BatchNorm_0", lambda x: f(x, True))
    kept = jax.jit(lambda x: f(x, True))
    kept(X)
    refused("BatchNorm_0", kept)
    result = explain(lambda x: f(x, False))
    np.testing.assert_allclose(result.score, f(X, False), rtol=1e-6)


class OwnLinenNorm(nn.Module):
    @nn.compact
    def __call__(self, x):
        mean = self.variable("batch_stats", "mean", jnp.ones, 4)
        if not self.is_initializing() and self.is_mutable_collection("batch_stats"):
            mean.value = 0.9 * mean.value + 0.1 * x
        return (x - mean.value).sum()


def test_linen_statistics_that_a_users_module_changes_are_refused():
    model = OwnLinenNorm()
    variables = model.init(jax.random.key(0), X)
    changing = lambda x: model.apply(variables, x, mutable=["batch_stats"])[0]
    refused(r"OwnLinenNorm\(its statistics change\) at mean", changing)
    np.testing.assert_allclose(explain(lambda x: model.apply(variables, x)).values, X)


def test_linen_attention_with_dropout_is_refused():
    attention: Any = nn.MultiHeadDotProductAttention(2, dropout_rate=0.5)
    x = np.ones((3, 4))
    variables = attention.init(jax.random.key(0), x, deterministic=True)

    def f(x, deterministic):
        rngs = {"dropout": jax.random.key(0)}
        x = jnp.stack([x, 2 * x])
        return attention.apply(variables, x, deterministic=deterministic, rngs=rngs).sum()

    refused(r"MultiHeadDotProductAttention\(deterministic=False\)", lambda x: f(x, False))
    np.testing.assert_allclose(explain(lambda x: f(x, True)).score, f(X, True), rtol=1e-6)


def network(x, is_training):
    x = hk.Linear(4)(x)
    x = hk.BatchNorm(True, True, 0.9)(x, is_training)
    if is_training:
        x = hk.dropout(hk.next_rng_key(), 0.5, x)
    return hk.Linear(1)(jnp.tanh(x))[0, 0]


def test_haiku_in_training_is_refused():
    model = hk.transform_with_state(network)
    params, state = model.init(KEY, X[None], is_training=True)

    def f(x, is_training):
        return model.apply(params, state, KEY, x[None], is_training=is_training)[0]

    refused(r"BatchNorm\(is_training=True\) at batch_norm\. Call", lambda x: f(x, True))
    np.testing.assert_allclose(explain(lambda x: f(x, False)).score, f(X, False), rtol=1e-6)


def test_haiku_dropout_is_refused_and_left_alone_afterwards():
    dropout = hk.dropout
    model = hk.transform(lambda x, rate: hk.dropout(hk.next_rng_key(), rate, x).sum())
    refused(r"dropout\(rate=0.5\)", lambda x: model.apply({}, KEY, x, 0.5))
    np.testing.assert_allclose(explain(lambda x: model.apply({}, KEY, x, 0.0)).values, X)
    assert hk.dropout is dropout


def test_haiku_state_that_changes_is_refused():
    class Counter(hk.Module):
        def __call__(self, x):
            hk.set_state("seen", hk.get_state("seen", [], init=jnp.zeros) + 1)
            return x.sum()

    model = hk.transform_with_state(lambda x: Counter()(x))
    params, state = model.init(None, X)
    f = lambda x: model.apply(params, state, None, x)[0]
    refused(r"Counter\(its state changes\) at counter", f)
    np.testing.assert_allclose(explain(igjax.in_training_mode(f)).values, X)


# Keras.


@pytest.fixture
def layers():
    with jax.numpy_rank_promotion("allow"):  # Keras adds biases so
        yield pytest.importorskip("keras").layers


def test_keras_in_training_is_refused_and_stays_usable(layers):
    keras = pytest.importorskip("keras")
    parts = [
        layers.Dense(4, activation="tanh", name="one"),
        layers.BatchNormalization(name="norm"),
        layers.Dropout(0.5, name="drop"),
        layers.Dense(1, name="two"),
    ]
    model = keras.Sequential(parts)
    model.build((None, 4))
    want = model(X[None])[0, 0]
    f = lambda x, training: model(x[None], training=training)[0, 0]
    text = (
        r"^integrated_gradients: .* got BatchNormalization\(training=True\) at norm\. Call"
    )
    refused(text, lambda x: f(x, True))
    parts[1].trainable = False  # which uses the averages, Keras says
    refused(r"Dropout\(training=True\) at drop", lambda x: f(x, True))
    np.testing.assert_allclose(explain(lambda x: f(x, False)).score, want, rtol=1e-5)
    np.testing.assert_allclose(f(X, None), want, rtol=1e-5)


def test_keras_stateless_training_is_refused(layers):
    keras = pytest.importorskip("keras")
    model = keras.Sequential([layers.Dense(4), layers.Dropout(0.5, name="drop")])
    model.build((None, 4))
    state = [
        [v.value for v in vs] for vs in (model.trainable_variables, model.variables[2:])
    ]

    def f(x, state, training):
        return model.stateless_call(*state, x[None], training=training)[0].sum()

    refused(r"Dropout\(training=True\) at drop", f, state, True)
    meant = igjax.in_training_mode(lambda x, state: f(x, state, True))
    explained = explain(meant, state)
    np.testing.assert_allclose(explained.score, meant(X, state), rtol=1e-5)
    np.testing.assert_allclose(explain(f, state, False).delta, 0, atol=1e-5)


# Other threads, and what comes after.


def test_calls_are_left_alone_outside_of_traces():
    classes = (nnx.Linear, eqx.nn.Linear)
    before = [vars(cls)["__call__"] for cls in classes]
    refused("evaluation mode", Net().score)
    assert [vars(cls)["__call__"] for cls in classes] == before
