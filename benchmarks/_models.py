"""Small models, each in Flax and as a torch twin with the same weights.

A `Case` holds everything that a benchmark needs: a scalar `f(x, label, params)` of
one example, inputs, labels, and a maker of the torch module.  Nothing here is
trained: random weights cost the same time and have the same kinks.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

NUM_CLASSES = 10
LABEL = 3  # one class for the whole batch: not every library takes one per example


@dataclasses.dataclass(frozen=True)
class Case:
    """One model with its inputs; `f(x, label, params)` is the score to explain."""

    name: str
    f: Callable[..., jax.Array]
    params: Any
    inputs: np.ndarray
    labels: np.ndarray
    make_torch: Callable[[], Any]
    to_torch: Callable[[np.ndarray], np.ndarray]
    from_torch: Callable[[np.ndarray], np.ndarray]


class MLP(nn.Module):
    """784-512-512-10 with ReLU."""

    @nn.compact
    def __call__(self, x):
        """Return the logits of one example."""
        x = nn.relu(nn.Dense(512)(x))
        x = nn.relu(nn.Dense(512)(x))
        return nn.Dense(NUM_CLASSES)(x)


class CNN(nn.Module):
    """Three 3x3 convolutions and two pools on a 32x32x3 image."""

    pool: Callable[..., jax.Array] = nn.avg_pool

    @nn.compact
    def __call__(self, x):
        """Return the logits of one image."""
        x = nn.relu(nn.Conv(32, (3, 3))(x))
        x = nn.relu(nn.Conv(32, (3, 3))(x))
        x = self.pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Conv(64, (3, 3))(x))
        x = self.pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Dense(128)(x.reshape(-1)))
        return nn.Dense(NUM_CLASSES)(x)


class LSTM(nn.Module):
    """128 units over 100 steps of 32 features; the last state is classified."""

    @nn.compact
    def __call__(self, x):
        """Return the logits of one sequence."""
        states = nn.RNN(nn.OptimizedLSTMCell(128, param_dtype=x.dtype))(x)
        return nn.Dense(NUM_CLASSES)(states[-1])


class Text(nn.Module):
    """An LSTM of 64 units over the projections of 50 one-hot tokens."""

    @nn.compact
    def __call__(self, x):
        """Return the logits of one text."""
        x = nn.Dense(64)(x)
        states = nn.RNN(nn.OptimizedLSTMCell(64, param_dtype=x.dtype))(x)
        return nn.Dense(NUM_CLASSES)(states[-1])


class Transformer(nn.Module):
    """Two pre-norm blocks of width 64 with four heads, on embeddings."""

    @nn.compact
    def __call__(self, x):
        """Return the logits of one sequence of embeddings."""
        for _ in range(2):
            h = nn.LayerNorm(epsilon=1e-5)(x)
            x = x + nn.MultiHeadDotProductAttention(num_heads=4)(h, h)
            h = nn.Dense(256)(nn.LayerNorm(epsilon=1e-5)(x))
            x = x + nn.Dense(64)(nn.gelu(h, approximate=True))
        x = nn.LayerNorm(epsilon=1e-5)(x)
        return nn.Dense(NUM_CLASSES)(x.mean(0))


def _torch_mlp(params):
    from torch import nn as tnn

    layers = []
    for i in range(3):
        layers += [_torch_dense(params[f"Dense_{i}"]), tnn.ReLU()]
    return tnn.Sequential(*layers[:-1])


def _tensor(array):
    import torch

    return torch.nn.Parameter(torch.tensor(np.array(array)), requires_grad=False)


def _torch_dense(leaf):
    from torch import nn as tnn

    kernel, bias = np.asarray(leaf["kernel"]), np.asarray(leaf["bias"])
    layer = tnn.Linear(*kernel.shape)
    layer.weight, layer.bias = _tensor(kernel.T), _tensor(bias)
    return layer


def _torch_conv(leaf):
    from torch import nn as tnn

    kernel = np.asarray(leaf["kernel"])
    layer = tnn.Conv2d(kernel.shape[2], kernel.shape[3], 3, padding=1)
    layer.weight = _tensor(kernel.transpose(3, 2, 0, 1))
    layer.bias = _tensor(leaf["bias"])
    return layer


def _torch_cnn(params, pool="AvgPool2d"):
    from torch import nn as tnn

    # Flax flattens (8, 8, 64), torch (64, 8, 8): permute the rows of the kernel.
    dense = dict(params["Dense_0"])
    kernel = np.asarray(dense["kernel"]).reshape(8, 8, 64, 128)
    dense["kernel"] = kernel.transpose(2, 0, 1, 3).reshape(-1, 128)
    conv = [_torch_conv(params[f"Conv_{i}"]) for i in range(3)]
    return tnn.Sequential(
        *(conv[0], tnn.ReLU(), conv[1], tnn.ReLU(), getattr(tnn, pool)(2)),
        *(conv[2], tnn.ReLU(), getattr(tnn, pool)(2), tnn.Flatten()),
        *(_torch_dense(dense), tnn.ReLU(), _torch_dense(params["Dense_1"])),
    )


def _torch_lstm(params, inputs=32, units=128):
    from torch import nn as tnn

    cell = params["OptimizedLSTMCell_0"]
    head = params[f"Dense_{len(params) - 2}"]
    gates = "ifgo"
    weight_ih = np.concatenate([np.asarray(cell["i" + g]["kernel"]).T for g in gates])
    weight_hh = np.concatenate([np.asarray(cell["h" + g]["kernel"]).T for g in gates])
    bias = np.concatenate([np.asarray(cell["h" + g]["bias"]) for g in gates])

    class Net(tnn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = tnn.LSTM(inputs, units, batch_first=True)
            self.lstm.weight_ih_l0 = _tensor(weight_ih)
            self.lstm.weight_hh_l0 = _tensor(weight_hh)
            self.lstm.bias_ih_l0 = _tensor(bias)
            self.lstm.bias_hh_l0 = _tensor(np.zeros_like(bias))
            self.head = _torch_dense(head)

        def forward(self, x):
            return self.head(self.lstm(x)[0][:, -1])

    return Net()


def _torch_text(params):
    from torch import nn as tnn

    return tnn.Sequential(_torch_dense(params["Dense_0"]), _torch_lstm(params, 64, 64))


def _torch_norm(leaf):
    from torch import nn as tnn

    layer = tnn.LayerNorm(64, eps=1e-5)
    layer.weight, layer.bias = _tensor(leaf["scale"]), _tensor(leaf["bias"])
    return layer


def _torch_attention(leaf):
    from torch import nn as tnn

    names = ("query", "key", "value")
    kernels = [np.asarray(leaf[n]["kernel"]).reshape(64, 64).T for n in names]
    layer = tnn.MultiheadAttention(64, 4, batch_first=True)
    layer.in_proj_weight = _tensor(np.concatenate(kernels))
    biases = [np.asarray(leaf[n]["bias"]).reshape(64) for n in names]
    layer.in_proj_bias = _tensor(np.concatenate(biases))
    layer.out_proj.weight = _tensor(np.asarray(leaf["out"]["kernel"]).reshape(64, 64).T)
    layer.out_proj.bias = _tensor(leaf["out"]["bias"])
    return layer


def _torch_transformer(params):
    from torch import nn as tnn

    class Net(tnn.Module):
        def __init__(self):
            super().__init__()
            self.norms = tnn.ModuleList(
                _torch_norm(params[f"LayerNorm_{i}"]) for i in range(5)
            )
            self.dense = tnn.ModuleList(
                _torch_dense(params[f"Dense_{i}"]) for i in range(5)
            )
            self.attention = tnn.ModuleList(
                _torch_attention(params[f"MultiHeadDotProductAttention_{i}"])
                for i in range(2)
            )
            self.gelu = tnn.GELU(approximate="tanh")

        def forward(self, x):
            for i in range(2):
                h = self.norms[2 * i](x)
                x = x + self.attention[i](h, h, h, need_weights=False)[0]
                h = self.gelu(self.dense[2 * i](self.norms[2 * i + 1](x)))
                x = x + self.dense[2 * i + 1](h)
            return self.dense[4](self.norms[4](x).mean(1))

    return Net()


_MODELS = {
    "mlp": (MLP(), (784,), 64, _torch_mlp),
    "cnn": (CNN(), (32, 32, 3), 16, _torch_cnn),
    "cnn_max": (
        *(CNN(nn.max_pool), (32, 32, 3), 16),
        functools.partial(_torch_cnn, pool="MaxPool2d"),
    ),
    "lstm": (LSTM(), (100, 32), 32, _torch_lstm),
    "text": (Text(), (50, 2000), 16, _torch_text),
    "transformer": (Transformer(), (64, 64), 16, _torch_transformer),
}
NAMES = tuple(_MODELS)


def _channels_first(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(x, -1, 1)) if x.ndim == 4 else x


def _channels_last(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, 1, -1) if x.ndim == 4 else x


def make(name: str, seed: int = 0) -> Case:
    """Build the case called `name` (one of `NAMES`): same seed, same numbers."""
    model, shape, batch, torch_twin = _MODELS[name]
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(batch, *shape)).astype(np.float32)
    if name.startswith(("mlp", "cnn")):
        inputs = np.abs(inputs)
    if name == "text":
        inputs = np.eye(shape[1], dtype=np.float32)[
            rng.integers(shape[1], size=inputs.shape[:2])
        ]
    params = model.init(jax.random.key(seed), jnp.asarray(inputs[0]))["params"]
    params = jax.tree.map(np.asarray, params)

    def f(x, label, params):
        return model.apply({"params": params}, x)[label]

    def make_torch():
        return torch_twin(params).eval()

    labels = np.full(batch, LABEL, np.int32)
    return Case(
        *(name, f, params, inputs, labels),
        *(make_torch, _channels_first, _channels_last),
    )
