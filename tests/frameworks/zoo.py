"""The same small networks in every framework, with equal weights.

A `Model` is what a test explains: a function of x and of what it is passed, in evaluation
mode, with the paths of its layers. The networks are those that people have: a table's
(batch normalization and dropout), an image's, a series' of a length of its own, a
sentence's. Their weights are drawn once, with NumPy; plain JAX says what they compute.
"""

# What the frameworks declare is wider than what is built here.
# pyright: reportOptionalSubscript=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false, reportIncompatibleMethodOverride=false

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import contextlib
import importlib.util
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

LIST: Any = getattr(nnx, "List", list)  # of Flax 0.12
FRAMEWORKS = ("jax", "linen", "nnx", "equinox", "keras", "haiku")
NETWORKS = ("table", "image", "series", "sentence")
HAS_KERAS = importlib.util.find_spec("keras") is not None


class Model(NamedTuple):
    """A network in a framework: f(x, *args) -> outputs of one example."""

    f: Callable
    args: tuple
    hidden: str | None  # the path of the layer before the head
    steps: str | None = None  # the path of a cell, whose last output is its hidden state
    table: str | None = None  # the path of the embedding


def _draw(*shape):
    return (_RANDOM.normal(size=shape) / np.sqrt(max(shape[0], 2))).astype("float32")


_RANDOM = np.random.default_rng(16)
TABLE_WEIGHTS = {
    "w1": _draw(5, 6), "b1": _draw(6), "scale": 1 + _draw(6), "shift": _draw(6),
    "mean": _draw(6), "var": 1 + _draw(6) ** 2, "w2": _draw(6, 3), "b2": _draw(3),
}  # fmt: skip
IMAGE_WEIGHTS = {
    "k1": _draw(3, 3, 2, 4) / 2, "b1": _draw(4), "w2": _draw(4, 3), "b2": _draw(3),
}  # fmt: skip
SERIES_WEIGHTS = {
    "wx": _draw(2, 4), "wh": _draw(4, 4), "b": _draw(4), "w2": _draw(4, 3), "b2": _draw(3),
}  # fmt: skip
SENTENCE_WEIGHTS = {
    "words": _draw(11, 4), "wq": _draw(4, 4), "wk": _draw(4, 4), "wv": _draw(4, 4),
    "scale": 1 + _draw(4), "shift": _draw(4), "w2": _draw(4, 3), "b2": _draw(3),
}  # fmt: skip
TOKENS = np.array([3, 7, 1, 1, 9])
LENGTH = 3  # of the series, which is padded to 5 steps
INPUTS = {
    "table": _draw(5) * 2,
    "image": _draw(6, 6, 2) * 2,
    "series": _draw(5, 2) * 2,
    "sentence": SENTENCE_WEIGHTS["words"][TOKENS],
}


@contextlib.contextmanager
def as_users_have_it():
    """Keras wants ranks to be promoted, and float32 is what the networks are."""
    jax.config.update("jax_enable_x64", False)
    with jax.numpy_rank_promotion("allow"):
        yield
    jax.config.update("jax_enable_x64", True)


def model(framework: str, network: str) -> Model:
    """The network in the framework."""
    return globals()[f"_{framework}_{network}"]()


# Plain JAX: what the others must compute.


def attend(x, q, k, v):
    """Attention of one head, of which a network gets the sum over the tokens."""
    weights = jax.nn.softmax(q(x) @ k(x).T / 2.0)
    return weights @ v(x)


def _jax_table():
    def f(x, w):
        x = x @ w["w1"] + w["b1"]
        x = (x - w["mean"]) / jnp.sqrt(w["var"] + 1e-5) * w["scale"] + w["shift"]
        return jnp.tanh(x) @ w["w2"] + w["b2"]

    return Model(f, (TABLE_WEIGHTS,), None)


def _convolved(x, kernel):
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x[None], kernel, (1, 1), "SAME", (1, 1), (1, 1),
                                        dimensions)[0]  # fmt: skip


def _jax_image():
    def f(x, w):
        x = jax.nn.gelu(_convolved(x, w["k1"]) + w["b1"]).mean((0, 1))
        return x @ w["w2"] + w["b2"]

    return Model(f, (IMAGE_WEIGHTS,), None)


def _jax_series():
    def f(x, w):
        step = lambda h, x: (jnp.tanh(x @ w["wx"] + h @ w["wh"] + w["b"]),) * 2
        states = jax.lax.scan(step, jnp.zeros(4, x.dtype), x)[1]
        return states[LENGTH - 1] @ w["w2"] + w["b2"]

    return Model(f, (SERIES_WEIGHTS,), None)


def _normal(x, w):
    x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * w["scale"] + w["shift"]


def _jax_sentence():
    def f(x, w):
        x = x + attend(x, *(lambda x, k=k: x @ w[k] for k in ("wq", "wk", "wv")))
        return _normal(x, w).sum(0) @ w["w2"] + w["b2"]

    return Model(f, (SENTENCE_WEIGHTS,), None)


# Flax linen.


def _dense(w, b=None):
    return {"kernel": w} if b is None else {"kernel": w, "bias": b}


class LinenTable(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(6, name="one")(x)
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        x = nn.Dropout(0.5, deterministic=not train, name="drop")(jnp.tanh(x))
        return nn.Dense(3, name="two")(x)


def _linen_table():
    w = TABLE_WEIGHTS
    norm = {"scale": w["scale"], "bias": w["shift"]}
    parts = {"one": _dense(w["w1"], w["b1"]), "norm": norm, "two": _dense(w["w2"], w["b2"])}
    stats = {"norm": {"mean": w["mean"], "var": w["var"]}}
    variables = {"params": parts, "batch_stats": stats}
    return Model(lambda x, v: LinenTable().apply(v, x, False), (variables,), "drop")


class LinenImage(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.gelu(nn.Conv(4, (3, 3), name="conv")(x)).mean((-3, -2))
        return nn.Dense(3, name="two")(x)


def _linen_image():
    w = IMAGE_WEIGHTS
    parts = {"conv": _dense(w["k1"], w["b1"]), "two": _dense(w["w2"], w["b2"])}
    f = lambda x, v: LinenImage().apply(v, x[None])[0]
    return Model(f, ({"params": parts},), "conv")


class LinenSeries(nn.Module):
    @nn.compact
    def __call__(self, x, length):
        x = nn.RNN(nn.SimpleCell(4, name="cell"))(x, seq_lengths=length)
        return nn.Dense(3, name="two")(jnp.take(x, length - 1, axis=0))


def _linen_series():
    w = SERIES_WEIGHTS
    cell = {"i": _dense(w["wx"], w["b"]), "h": _dense(w["wh"])}
    parts = {"cell": cell, "two": _dense(w["w2"], w["b2"])}
    f = lambda x, v: LinenSeries().apply(v, x, jnp.array(LENGTH))
    return Model(f, ({"params": parts},), "two", "cell")


class LinenSentence(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(11, 4, name="words")(tokens)
        linear = [nn.Dense(4, use_bias=False, name=name) for name in ("q", "k", "v")]
        x = nn.LayerNorm(name="norm", use_fast_variance=False)(x + attend(x, *linear))
        return nn.Dense(3, name="two")(x.sum(0))


def _linen_sentence():
    w = SENTENCE_WEIGHTS
    linear = {name: _dense(w[f"w{name}"]) for name in "qkv"}
    norm = {"scale": w["scale"], "bias": w["shift"]}
    parts = {"words": {"embedding": w["words"]}, "norm": norm, **linear}
    variables = {"params": {**parts, "two": _dense(w["w2"], w["b2"])}}
    f = lambda tokens, v: LinenSentence().apply(v, tokens)
    return Model(f, (variables,), "norm", table="words")


# Flax NNX: split into parts, and merged inside f.


def _merged(module, call, *paths, **more):
    module.eval()
    graph, state = nnx.split(module)
    f = lambda x, state: call(nnx.merge(graph, state), x)
    return Model(f, (state,), *paths, **more)


def _nnx_linear(w, b=None):
    linear = nnx.Linear(*w.shape, use_bias=b is not None, rngs=nnx.Rngs(0))
    linear.kernel[...] = w
    if b is not None:
        linear.bias[...] = b
    return linear


class NNXTable(nnx.Module):
    def __init__(self, w):
        self.one, self.two = _nnx_linear(w["w1"], w["b1"]), _nnx_linear(w["w2"], w["b2"])
        self.norm = nnx.BatchNorm(6, rngs=nnx.Rngs(0))
        self.norm.scale[...], self.norm.bias[...] = w["scale"], w["shift"]
        self.norm.mean[...], self.norm.var[...] = w["mean"], w["var"]
        self.drop = nnx.Dropout(0.5, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.two(self.drop(jnp.tanh(self.norm(self.one(x)))))


def _nnx_table():
    return _merged(NNXTable(TABLE_WEIGHTS), lambda m, x: m(x), "drop")


class NNXImage(nnx.Module):
    def __init__(self, w):
        self.conv = nnx.Conv(2, 4, (3, 3), rngs=nnx.Rngs(0))
        self.conv.kernel[...], self.conv.bias[...] = w["k1"], w["b1"]
        self.two = _nnx_linear(w["w2"], w["b2"])

    def __call__(self, x):
        return self.two(nnx.gelu(self.conv(x)).mean((-3, -2)))


def _nnx_image():
    return _merged(NNXImage(IMAGE_WEIGHTS), lambda m, x: m(x[None])[0], "conv")


class NNXSeries(nnx.Module):
    def __init__(self, w):
        cell = nnx.SimpleCell(2, 4, rngs=nnx.Rngs(0))
        cell.dense_i, cell.dense_h = _nnx_linear(w["wx"], w["b"]), _nnx_linear(w["wh"])
        self.rnn, self.two = nnx.RNN(cell), _nnx_linear(w["w2"], w["b2"])

    def __call__(self, x):
        carry = jnp.zeros((1, 4), x.dtype)
        states = self.rnn(x[None], seq_lengths=jnp.array([LENGTH]), initial_carry=carry)
        return self.two(states[0, LENGTH - 1])


def _nnx_series():
    return _merged(NNXSeries(SERIES_WEIGHTS), lambda m, x: m(x), "two", "rnn/cell")


class NNXSentence(nnx.Module):
    def __init__(self, w):
        self.words = nnx.Embed(11, 4, rngs=nnx.Rngs(0))
        self.words.embedding[...] = w["words"]
        self.linear = LIST([_nnx_linear(w[k]) for k in ("wq", "wk", "wv")])
        self.norm = nnx.LayerNorm(4, use_fast_variance=False, rngs=nnx.Rngs(0))
        self.norm.scale[...], self.norm.bias[...] = w["scale"], w["shift"]
        self.two = _nnx_linear(w["w2"], w["b2"])

    def __call__(self, tokens):
        x = self.words(tokens)
        return self.two(self.norm(x + attend(x, *self.linear)).sum(0))


def _nnx_sentence():
    call = lambda m, tokens: m(tokens)
    return _merged(NNXSentence(SENTENCE_WEIGHTS), call, "norm", table="words")


# Equinox: one example, with its arrays apart.


def _combined(module, *paths, **more):
    arrays, rest = eqx.partition(eqx.nn.inference_mode(module), eqx.is_array)
    f = lambda x, arrays: eqx.combine(arrays, rest)(x)
    return Model(f, (arrays,), *paths, **more)


def _eqx_linear(w, b=None):
    linear = eqx.nn.Linear(*w.shape, use_bias=b is not None, key=jax.random.key(0))
    linear = eqx.tree_at(lambda m: m.weight, linear, jnp.asarray(w.T))
    return linear if b is None else eqx.tree_at(lambda m: m.bias, linear, jnp.asarray(b))


def equinox_norm(size):
    """A batch normalization by running averages, as of all versions, and its state."""
    known = inspect.signature(eqx.nn.BatchNorm.__init__).parameters
    mode = {"mode": "ema"} if "mode" in known else {}
    return eqx.nn.make_with_state(eqx.nn.BatchNorm)(size, "batch", **mode)


class EquinoxTable(eqx.Module):
    one: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    drop: eqx.nn.Dropout
    two: eqx.nn.Linear
    state: Any

    def __init__(self, w):
        self.one, self.two = _eqx_linear(w["w1"], w["b1"]), _eqx_linear(w["w2"], w["b2"])
        norm, state = equinox_norm(6)
        leaves = lambda m: (m.weight, m.bias)
        given = jnp.asarray(w["scale"]), jnp.asarray(w["shift"])
        self.norm = eqx.tree_at(leaves, norm, given)
        moments = jnp.asarray(w["mean"]), jnp.asarray(w["var"])
        name = "ema_state_index" if hasattr(norm, "mode") else "state_index"
        index = getattr(norm, name)
        self.state = state.set(index, moments)
        self.drop = eqx.nn.Dropout(0.5)

    def __call__(self, x):
        x, _ = self.norm(self.one(x), self.state)
        return self.two(self.drop(jnp.tanh(x)))


def _equinox_table():
    return _combined(EquinoxTable(TABLE_WEIGHTS), "drop")


class EquinoxImage(eqx.Module):
    conv: eqx.nn.Conv2d
    two: eqx.nn.Linear

    def __init__(self, w):
        conv = eqx.nn.Conv2d(2, 4, 3, padding=1, key=jax.random.key(0))
        given = (
            jnp.asarray(w["k1"].transpose(3, 2, 0, 1)),
            jnp.asarray(w["b1"])[:, None, None],
        )
        self.conv = eqx.tree_at(lambda m: (m.weight, m.bias), conv, given)
        self.two = _eqx_linear(w["w2"], w["b2"])

    def __call__(self, x):
        x = jax.nn.gelu(self.conv(x.transpose(2, 0, 1)))
        return self.two(x.mean((1, 2)))


def _equinox_image():
    return _combined(EquinoxImage(IMAGE_WEIGHTS), "conv")


class EquinoxCell(eqx.Module):
    x: eqx.nn.Linear
    h: eqx.nn.Linear

    def __call__(self, h, x):
        return jnp.tanh(self.x(x) + self.h(h))


class EquinoxSeries(eqx.Module):
    cell: EquinoxCell
    two: eqx.nn.Linear

    def __call__(self, x):
        step = lambda h, x: (self.cell(h, x),) * 2
        states = jax.lax.scan(step, jnp.zeros(4, x.dtype), x)[1]
        return self.two(states[LENGTH - 1])


def _equinox_series():
    w = SERIES_WEIGHTS
    cell = EquinoxCell(_eqx_linear(w["wx"], w["b"]), _eqx_linear(w["wh"]))
    return _combined(EquinoxSeries(cell, _eqx_linear(w["w2"], w["b2"])), "two", "cell")


class EquinoxSentence(eqx.Module):
    words: eqx.nn.Embedding
    linear: list
    norm: eqx.nn.LayerNorm
    two: eqx.nn.Linear

    def __init__(self, w):
        self.words = eqx.nn.Embedding(weight=jnp.asarray(w["words"]))
        self.linear = [_eqx_linear(w[k]) for k in ("wq", "wk", "wv")]
        norm = eqx.nn.LayerNorm(4, eps=1e-6)
        given = jnp.asarray(w["scale"]), jnp.asarray(w["shift"])
        self.norm = eqx.tree_at(lambda m: (m.weight, m.bias), norm, given)
        self.two = _eqx_linear(w["w2"], w["b2"])

    def __call__(self, tokens):
        x = jax.vmap(self.words)(tokens)
        x = x + attend(x, *map(jax.vmap, self.linear))
        return self.two(jax.vmap(self.norm)(x).sum(0))


def _equinox_sentence():
    return _combined(EquinoxSentence(SENTENCE_WEIGHTS), "norm", table="words")


# Keras: a model in a closure.


def _keras(layers, weights, call, *paths, **more):
    import keras

    class Network(keras.Model):
        def __init__(self):
            super().__init__()
            self._parts = layers(keras.layers)
            for name, part in self._parts.items():
                setattr(self, name, part)

        def call(self, x, training=None):
            return call(keras, x, training, **self._parts)

    network = Network()
    for name, (shape, values) in weights.items():
        network._parts[name].build(shape)
        network._parts[name].set_weights(values)
    return Model(lambda x: network(x[None])[0], (), *paths, **more)


def _keras_table():
    w = TABLE_WEIGHTS

    def layers(room):
        norm, drop = room.BatchNormalization(epsilon=1e-5), room.Dropout(0.5)
        return {"one": room.Dense(6), "norm": norm, "drop": drop, "two": room.Dense(3)}

    weights = {
        "one": ((None, 5), [w["w1"], w["b1"]]),
        "norm": ((None, 6), [w["scale"], w["shift"], w["mean"], w["var"]]),
        "two": ((None, 6), [w["w2"], w["b2"]]),
    }

    def call(keras, x, training, one, norm, drop, two):
        return two(drop(keras.ops.tanh(norm(one(x)))))

    return _keras(layers, weights, call, "drop")


def _keras_image():
    w = IMAGE_WEIGHTS

    def layers(room):
        return {"conv": room.Conv2D(4, 3, padding="same"), "two": room.Dense(3)}

    weights = {
        "conv": ((None, 6, 6, 2), [w["k1"], w["b1"]]),
        "two": ((None, 4), [w["w2"], w["b2"]]),
    }

    def call(keras, x, training, conv, two):
        return two(keras.ops.mean(keras.ops.gelu(conv(x), approximate=True), (1, 2)))

    return _keras(layers, weights, call, "conv")


def _keras_series():
    w = SERIES_WEIGHTS

    def layers(room):
        return {"rnn": room.RNN(room.SimpleRNNCell(4), True), "two": room.Dense(3)}

    weights = {
        "rnn": ((None, 5, 2), [w["wx"], w["wh"], w["b"]]),
        "two": ((None, 4), [w["w2"], w["b2"]]),
    }

    def call(keras, x, training, rnn, two):
        return two(rnn(x)[:, LENGTH - 1])

    return _keras(layers, weights, call, "two", "rnn/cell")


def _keras_sentence():
    w = SENTENCE_WEIGHTS

    def layers(room):
        linear = {name: room.Dense(4, use_bias=False) for name in "qkv"}
        norm = room.LayerNormalization(epsilon=1e-6)
        return {
            "words": room.Embedding(11, 4),
            **linear,
            "norm": norm,
            "two": room.Dense(3),
        }

    weights = {
        "words": ((None, 5), [w["words"]]),
        "norm": ((None, 5, 4), [w["scale"], w["shift"]]),
        "two": ((None, 4), [w["w2"], w["b2"]]),
        **{name: ((None, 5, 4), [w[f"w{name}"]]) for name in "qkv"},
    }

    def call(keras, tokens, training, words, q, k, v, norm, two):
        x = words(tokens)
        x = x + attend(x[0], *(lambda x, part=part: part(x[None])[0] for part in (q, k, v)))
        return two(keras.ops.sum(norm(x), 1))

    return _keras(layers, weights, call, "norm", table="words")


# Haiku: one example, the parameters in the arguments.


def _haiku(forward, params, *paths, state=None, **more):
    network = hk.transform_with_state(forward)
    given = jax.tree.map(jnp.asarray, (params, state or {}))
    f = lambda x, params, state: network.apply(params, state, None, x)[0]
    return Model(f, given, *paths, **more)


def _haiku_linear(w, b=None):
    return {"w": w} if b is None else {"w": w, "b": b}


def _haiku_table():
    def forward(x):
        x = hk.Linear(6, name="one")(x)[None]
        x = hk.BatchNorm(True, True, 0.9, name="norm")(x, is_training=False)
        return hk.Linear(3, name="two")(jnp.tanh(x))[0]

    w = TABLE_WEIGHTS
    norm = {"scale": w["scale"][None], "offset": w["shift"][None]}
    params = {"one": _haiku_linear(w["w1"], w["b1"]), "norm": norm}
    params["two"] = _haiku_linear(w["w2"], w["b2"])
    averages = {"mean": w["mean"][None], "var": w["var"][None]}
    state = {
        f"norm/~/{name}_ema": {"counter": np.int32(0), "hidden": a, "average": a}
        for name, a in averages.items()
    }
    return _haiku(forward, params, "norm", state=state)


def _haiku_image():
    def forward(x):
        x = jax.nn.gelu(hk.Conv2D(4, 3, name="conv")(x)).mean((0, 1))
        return hk.Linear(3, name="two")(x)

    w = IMAGE_WEIGHTS
    params = {"conv": _haiku_linear(w["k1"], w["b1"])}
    return _haiku(forward, {**params, "two": _haiku_linear(w["w2"], w["b2"])}, "conv")


class HaikuCell(hk.RNNCore):
    def __call__(self, x, h):
        h = jnp.tanh(hk.Linear(4, name="x")(x) + hk.Linear(4, False, name="h")(h))
        return h, h

    def initial_state(self, batch_size):
        return jnp.zeros(4)


def _haiku_series():
    def forward(x):
        cell = HaikuCell(name="cell")
        states, _ = hk.dynamic_unroll(cell, x, cell.initial_state(None))
        return hk.Linear(3, name="two")(states[LENGTH - 1])

    w = SERIES_WEIGHTS
    params = {
        "cell/x": _haiku_linear(w["wx"], w["b"]),
        "cell/h": _haiku_linear(w["wh"]),
        "two": _haiku_linear(w["w2"], w["b2"]),
    }
    return _haiku(forward, params, "two", "cell")


def _haiku_sentence():
    def forward(tokens):
        x = hk.Embed(11, 4, name="words")(tokens)
        linear = [hk.Linear(4, with_bias=False, name=name) for name in "qkv"]
        norm = hk.LayerNorm(-1, True, True, eps=1e-6, name="norm")
        return hk.Linear(3, name="two")(norm(x + attend(x, *linear)).sum(0))

    w = SENTENCE_WEIGHTS
    params = {name: _haiku_linear(w[f"w{name}"]) for name in "qkv"}
    params |= {"words": {"embeddings": w["words"]}}
    params |= {"norm": {"scale": w["scale"], "offset": w["shift"]}}
    return _haiku(forward, {**params, "two": _haiku_linear(w["w2"], w["b2"])}, "norm",
                  table="words")  # fmt: skip
