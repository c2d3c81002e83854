"""Networks of Flax, their twins in torch with the same weights, and an example of each.

Twins have the same names for the same parts, so that weights are copied by name. Weights
are random: they cost the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import _zoo_torch as twins
import jax
import numpy as np
from _zoo_flax import (
    EFFICIENT,
    MLP,
    MOBILE,
    NODES,
    Audio,
    ConvNeXt,
    Graph,
    Inverted,
    Recurrent,
    ResNet18,
    Transformer,
    UNet,
)
from flax import linen as nn, nnx

LABEL = 3


class Network(NamedTuple):
    """A network, its torch twin, and one example."""

    f: Callable  # f(x, state) -> the score of one example
    state: Any
    make_twin: Callable[[], Any]  # the torch module, of the same weights
    x: np.ndarray  # one example, as Flax wants it
    features_first: bool  # in torch


def _score(module):
    """The score of one example: the label's logit, averaged where there are many."""
    graph, state = nnx.split(module)

    def f(x, state):
        return nnx.merge(graph, state)(x[None])[0, ..., LABEL].mean()

    return f, state


def _image(side):
    return np.random.default_rng(0).uniform(size=(side, side, 3)).astype(np.float32)


def _normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def networks() -> dict[str, Callable[[], Network]]:
    """Makers of all networks, by name."""
    vit, gpt = (192, 64, 192, 3, 12, 10), (128, 128, 128, 4, 4, 256)
    table = 8, 24, 32, 4, 3, 10
    return {
        "resnet18": _maker(ResNet18, (), twins.ResNet18, (), _image(64)),
        "mobilenet_v2": _maker(Inverted, (MOBILE,), twins.Inverted, (MOBILE,), _image(96)),
        "efficientnet_lite0": _maker(
            Inverted, (EFFICIENT,), twins.Inverted, (EFFICIENT,), _image(224)
        ),
        "convnext": _maker(ConvNeXt, (), twins.ConvNeXt, (), _image(64)),
        "unet": _maker(UNet, (), twins.UNet, (), _image(64)),
        "audio_cnn": _maker(Audio, (), twins.Audio, (), _normal(4096, 1)),
        "vit_tiny": _maker(Transformer, vit, twins.Transformer, vit, _normal(64, 192)),
        "gpt": _maker(
            Transformer, (*gpt, True), twins.Transformer, (*gpt, True), _normal(128, 128)
        ),
        "tabular": _maker(Transformer, table, twins.Transformer, table, _normal(24, 8)),
        "lstm": lambda: _recurrent(nn.OptimizedLSTMCell, "ifgo"),
        "gru": lambda: _recurrent(nn.GRUCell, "rzn"),
        "mlp": _maker(MLP, (), twins.MLP, (), _normal(784)),
        "graph": _maker(Graph, (), twins.Graph, (), _normal(NODES, 16)),
    }


IMAGES = (ResNet18, Inverted, ConvNeXt, UNet, Audio)


def _maker(kind, args, twin, its, x):
    def make() -> Network:
        module = kind(*args, rngs=nnx.Rngs(0))
        weights = nnx.to_flat_state(nnx.state(module, (nnx.Param, nnx.BatchStat)))
        loaded = lambda: twins.load(twin(*its), weights)
        return Network(*_score(module), loaded, x, kind in IMAGES)

    return make


def _recurrent(cell, gates: str) -> Network:
    module, x = Recurrent(cell), _normal(100, 32)
    state = module.init(jax.random.key(0), x[None])
    kernels, head = state["params"]["cell"], state["params"]["head"]
    weights = [(("head", kind), head[kind]) for kind in head]
    for side in "ih":
        parts = [kernels[side + gate]["kernel"] for gate in gates]
        weights.append((("rnn", side, "kernel"), np.concatenate(parts, 1)))

    def f(x, state):
        return module.apply(state, x[None])[0, LABEL]

    kind = {"ifgo": "LSTM", "rzn": "GRU"}[gates]
    return Network(f, state, lambda: twins.load(twins.Recurrent(kind), weights), x, False)
