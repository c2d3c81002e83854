"""What the promise is tested on: trained models and hostile functions, with inputs.

A `Suite` is one score with a batch of inputs and what is needed to explain them by any
library: `f(x, *each, *shared)` is the score of one example, `each` varies with the
example, `shared` are the parameters, and `twin` makes the same scores in torch.
Everything is float64 here and cast where it is used.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import _twins
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _pretrained import CACHE

import igjax
from igjax.models import CNN, MLP, SequenceTransformer, data, sentiment, training


class Suite(NamedTuple):
    """A score and inputs: see the top of the file."""

    name: str
    f: Callable[..., jax.Array]
    x: np.ndarray
    baseline: np.ndarray
    each: tuple = ()
    shared: tuple = ()
    twin: Callable | None = None
    dtypes: tuple[str, ...] = ("float32",)
    kind: str = "smooth"  # smooth, kinked, recurrent, flat: decides which bar applies
    budget: int = 3000  # max_evaluations of the adaptive rule
    fine: int = 0  # nodes of the reference; 0 bisects


def arrays(suite: Suite, dtype: str) -> tuple:
    """The suite's x, baseline, each and shared in a dtype; labels stay integers."""
    cast = lambda a: jnp.asarray(a, dtype if np.asarray(a).dtype.kind == "f" else None)
    return jax.tree.map(cast, (suite.x, suite.baseline, suite.each, suite.shared))


def axes(suite: Suite) -> tuple:
    """Which of `arrays` are mapped over, as `jax.vmap` wants it."""
    return (0, None, (0,) * len(suite.each), None)


def explain(suite: Suite, rule):
    """The attributions of a batch, a function of `arrays`."""
    attribute = igjax.integrated_gradients(suite.f, rule=rule)
    return jax.vmap(lambda x, b, e, s: attribute(x, b, *e, *s), axes(suite))


def ends(suite: Suite, dtype: str) -> np.ndarray:
    """The scores at the baseline and at the input, (2, n)."""
    x, baseline, each, shared = arrays(suite, dtype)
    score = jax.vmap(lambda x, e: suite.f(x, *e, *shared), axis_size=len(x))
    start = jnp.broadcast_to(baseline, x.shape)
    return np.stack([score(start, each), score(x, each)])


def remembered(name: str, make: Callable[[], Any]):
    """The value of `make()`, kept on disk: training is done once a machine."""
    path = CACHE / f"{name}.pickle"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(pickle.dumps(make()))
        part.replace(path)
    return pickle.loads(path.read_bytes())


def fingerprint(suite: Suite) -> str:
    """A name for what is integrated: inputs, arguments and parameters."""
    digest = hashlib.sha256(f"{suite.name}{suite.fine or ''}".encode())
    for leaf in jax.tree.leaves((suite.x, suite.baseline, suite.each, suite.shared)):
        digest.update(np.ascontiguousarray(leaf))
    return f"{suite.name}-{digest.hexdigest()[:12]}"


def _float64(tree):
    return jax.tree.map(lambda a: np.asarray(a, np.float64), tree)


# A long-range task: the sign of a sum over the sequence in which a word turns the next.
UP, DOWN, NOT, WORDS = 0, 1, 2, 6


class SumLSTM(nn.Module):
    """16 units, the last state, one logit."""

    @nn.compact
    def __call__(self, x):
        """Score one sequence of embeddings."""
        start = (jnp.zeros(16, x.dtype),) * 2
        states = nn.RNN(nn.OptimizedLSTMCell(16))(x, initial_carry=start)
        return nn.Dense(1)(states[-1])[0]


def _sequences(key, count, tokens):
    chances = jnp.array([0.12, 0.12, 0.08, 0.28, 0.2, 0.2])
    words = jax.random.choice(key, WORDS, (count, tokens), p=chances)
    before = jnp.pad(words, ((0, 0), (1, 0)), constant_values=WORDS)[:, :-1]
    value = (words == UP).astype(float) - (words == DOWN)
    return words, (jnp.where(before == NOT, -value, value).sum(1) > 0)


def _train_sum():
    model, key = SumLSTM(), jax.random.key(0)
    params = {
        "model": model.init(key, jnp.ones((20, 8), jnp.float32)),
        "embedding": jax.random.normal(key, (WORDS, 8), jnp.float32),
    }

    def loss(params, words, label):
        score = jax.vmap(lambda w: model.apply(params["model"], params["embedding"][w]))
        losses = optax.sigmoid_binary_cross_entropy(score(words), label)
        return losses.mean()

    steps = (_sequences(jax.random.fold_in(key, i), 128, 20) for i in range(1500))
    steps = ((w, y.astype(jnp.float32)) for w, y in steps)
    fitted = training.fit(loss, params, steps, optax.adam(5e-3))
    return jax.tree.map(np.asarray, fitted.params)


def sum_lstm(tokens: int, count: int) -> Suite:
    """A 16-unit LSTM, trained on 20 tokens, at any length; embeddings from zero."""
    params = _float64(remembered("sum_lstm", _train_sum))
    words, _ = _sequences(jax.random.key(100 + tokens), count, tokens)
    x = params["embedding"][np.asarray(words)]
    return Suite(
        name=f"lstm_{tokens}",
        f=lambda x, params: SumLSTM().apply(params, x),
        x=x,
        baseline=np.zeros_like(x[0]),
        shared=(params["model"],),
        twin=functools.partial(_twins.last_lstm, params["model"]["params"]),
        dtypes=("float64", "float32"),
        kind="recurrent",
    )


def reviews_lstm(words: int, count: int) -> Suite:
    """The shipped sentiment LSTM on real reviews, from a review of unknown words."""
    model, params, vocabulary = sentiment.load()
    params = _float64(params)
    table = params["params"]["embed"]["embedding"]
    ids = (
        [token.id for token in sentiment.tokenize(text, vocabulary)][:words]
        for text in data.reviews().held_out_texts
    )
    ids = np.array([row for row in ids if len(row) == words][:count])
    head = {"params": params["params"]["head"]}

    def f(x, params):
        return model.apply({"params": {"head": params["params"]}}, x, method=_head)[0]

    return Suite(
        name=f"reviews_{words}",
        f=f,
        x=table[ids],
        baseline=np.broadcast_to(table[sentiment.UNKNOWN], (words, table.shape[1])),
        shared=(head,),
        twin=functools.partial(_twins.max_lstm, head["params"]),
        kind="recurrent",
    )


def _head(module, x):
    return module.head(x)


def _digits(name, model, count, *, shape=(64,), scale=1.0, probability=False, twin=None):
    """A classifier trained on scikit-learn's digits, from a blank image."""
    digits = data.digits()
    train, held = (
        np.asarray(a, np.float32).reshape(len(a), *shape)
        for a in (digits.inputs, digits.held_out_inputs)
    )

    def make():
        params = model.init(jax.random.key(0), jnp.asarray(train[0]))
        logits = jax.vmap(model.apply, (None, 0))
        loss = lambda p, x, y: training.cross_entropy(logits(p, x), y)
        steps = training.batches(
            *(jax.random.key(1), train, digits.labels), batch_size=64, epochs=30
        )
        fitted = training.fit(loss, params, steps, optax.adam(2e-3))
        return jax.tree.map(np.asarray, fitted.params)

    params = _float64(remembered(f"digits_{name}", make))
    chosen = jax.nn.softmax if probability else lambda z: z

    def f(x, label, params):
        return chosen(scale * model.apply(params, x))[label]

    x = held[:count].astype(np.float64)
    logits = jax.vmap(model.apply, (None, 0))(params, jnp.asarray(x))
    labels = np.asarray(logits.argmax(-1), np.int32)
    torch_scores = twin and functools.partial(
        _twins.chosen, functools.partial(twin, params["params"]), scale, probability
    )
    return Suite(
        *(name, f, x, np.zeros_like(x[0]), (labels,), (params,), torch_scores),
        kind="kinked" if "relu" in name or "cnn" in name else "smooth",
        dtypes=("float32", "float64"),
    )


DENSE = functools.partial(MLP, (128, 128, 128, 10))


def zoo(count: int) -> list[Suite]:
    """Small classifiers of digits: kinked, smooth, normalized, attending, saturated."""
    attention = SequenceTransformer(heads=2, layers=2, max_length=8, outputs=10)
    mlp = lambda activation, norm=False: functools.partial(_twins.mlp, activation, norm)
    return [
        _digits("relu_mlp", DENSE(nn.relu), count, twin=mlp("relu")),
        _digits("gelu_mlp", DENSE(nn.gelu), count, twin=mlp("gelu")),
        _digits("tanh_mlp", DENSE(nn.tanh), count, twin=mlp("tanh")),
        _digits("norm_mlp", DENSE(nn.gelu, layer_norm=True), count, twin=mlp("gelu", True)),
        _digits("cnn", CNN(10, channels=(4, 8)), count, shape=(8, 8, 1), twin=_twins.cnn),
        _digits(*("transformer", attention, count), shape=(8, 8), twin=_twins.transformer),
        _digits(
            *("saturated", DENSE(nn.gelu), count),
            scale=10.0,
            probability=True,
            twin=mlp("gelu"),
        ),
    ]
