"""Functions made to fool an integrator: steps of any width, roots, flat scores.

Each is written once for both libraries, `f(math, x, *each)` over the last axis, where
`math` has the few functions whose names differ. Those without a net change of the score
are apart, in `bench_blind_spot.py`.
"""

from __future__ import annotations

from types import SimpleNamespace

import _suites
import _twins
import jax
import jax.numpy as jnp
import numpy as np

from igjax.models import data

WIDTHS = 10.0 ** -np.arange(0, 9)  # of a step, in units of the path
FEATURES = 8
JAX = SimpleNamespace(
    sigmoid=jax.nn.sigmoid, sqrt=jnp.sqrt, tanh=jnp.tanh, softmax=jax.nn.softmax
)


def step(math, x, w, at, width):
    """One switch of any width: w.x is the place on the path."""
    return math.sigmoid(4 * ((x * w).sum(-1) - at) / width)


def norm(math, x):
    """Linear along the path, with a NaN for a gradient at the baseline."""
    return math.sqrt((x**2).sum(-1))


def root(math, x, w):
    """The gradient has an integrable pole at the baseline."""
    return math.sqrt(math.sqrt((x**2).sum(-1))) * math.sigmoid((x * w).sum(-1))


def linear(math, x, w):
    """The easiest function of all."""
    return (x * w).sum(-1)


def constant(math, x):
    """A score that ignores its input."""
    return 3 + 0 * x.sum(-1)


def sum_softmax(math, x):
    """One, to rounding, as a sum of terms that vary."""
    return math.softmax(10 * x, -1).sum(-1)


def offset(math, x, w):
    """A score of which float32 keeps only the first digits of the differences."""
    return 1000 + 1e-4 * math.tanh(3 * x * w).sum(-1)


def suites(count: int) -> list[_suites.Suite]:
    """All of them, each with `count` inputs."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, count, FEATURES))
    ridge = w / (x * w).sum(-1, keepdims=True)
    at, width = rng.uniform(0.05, 0.95, count), np.resize(WIDTHS, count)
    return [
        _suite(step, x, ridge, at, width),
        _suite(norm, x),
        _suite(root, x, w),
        _suite(linear, x, w, kind="flat"),
        _suite(constant, x, kind="flat"),
        _suite(sum_softmax, x, kind="flat"),
        _suite(offset, x, w, kind="flat"),
        *flat_classes(count),
    ]


def _suite(function, x, *each, kind="hostile") -> _suites.Suite:
    def twin(x, *each):
        import torch

        return function(torch, x, *each)

    return _suites.Suite(
        name=function.__name__,
        f=lambda x, *each: function(JAX, x, *each),
        x=x,
        baseline=np.zeros(FEATURES),
        each=each,
        twin=twin,
        dtypes=("float64", "float32"),
        kind=kind,
    )


def flat_classes(count: int) -> list[_suites.Suite]:
    """Probability and its logarithm where both ends of the path are saturated."""
    (params,) = next(s.shared for s in _suites.zoo(1) if s.name == "saturated")
    model, digits = _suites.DENSE(jax.nn.gelu), data.digits()
    images = np.concatenate([digits.held_out_inputs, digits.inputs]).reshape(-1, 64)
    images = images.astype(np.float64)
    labels = np.asarray(model.apply(params, images).argmax(-1))
    label = np.bincount(labels).argmax()
    x = images[labels == label][: count + 1]

    def log(x, params):
        return jax.nn.log_softmax(model.apply(params, x))[label]

    def twin(take, x):
        logits = _twins.mlp("gelu", False, params["params"], x)
        return take(logits, -1)[:, label]

    shared = {"baseline": x[0], "shared": (params,), "kind": "flat"}
    shared["dtypes"] = ("float64", "float32")
    return [
        _suites.Suite(
            *("flat_softmax", lambda x, p: jnp.exp(log(x, p)), x[1:]),
            twin=lambda x: twin(lambda z, axis: z.softmax(axis), x),
            **shared,
        ),
        _suites.Suite(
            *("flat_log_softmax", log, x[1:]),
            twin=lambda x: twin(lambda z, axis: z.log_softmax(axis), x),
            **shared,
        ),
    ]
