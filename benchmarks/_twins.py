"""The models of the suites once more, in torch, with the same weights.

Each function takes the Flax parameters first and returns the scores of a batch. Only
what other libraries need runs through here; igjax never does.
"""

from __future__ import annotations

import numpy as np

_MADE = {}  # weights are converted once, as a torch user's would be


def _once(make, key, *args):
    """`make(*args)`, remembered for the object `key` and the dtype of the last argument."""
    name = make.__name__, id(key), args[-1].dtype
    if name not in _MADE:
        _MADE[name] = key, make(*args)
    return _MADE[name][1]


def _tensor(array, like):
    return _once(_converted, array, array, like)


def _converted(array, like):
    import torch

    return torch.tensor(np.asarray(array), dtype=like.dtype)


def _dense(leaf, x):
    kernel, bias = _tensor(leaf["kernel"], x), _tensor(leaf["bias"], x)
    return x @ kernel.reshape(x.shape[-1], -1) + bias.reshape(-1)


def _norm(leaf, x):
    from torch.nn import functional

    scale, bias = _tensor(leaf["scale"], x), _tensor(leaf["bias"], x)
    return functional.layer_norm(x, x.shape[-1:], scale, bias, 1e-6)


def _activation(name):
    import torch

    gelu = torch.nn.GELU(approximate="tanh")
    return {"relu": torch.relu, "tanh": torch.tanh, "gelu": gelu}[name]


def chosen(logits, scale, probability, x, label):
    """The label's logit, or its probability, of a classifier of batches."""
    scores = scale * logits(x)
    scores = scores.softmax(-1) if probability else scores
    return scores.gather(1, label.long()[:, None])[:, 0]


def mlp(activation, norm, params, x):
    """Dense layers, the activation between them, perhaps normalized before it."""
    last = sum(name.startswith("Dense") for name in params) - 1
    for layer in range(last):
        x = _dense(params[f"Dense_{layer}"], x)
        x = _norm(params[f"LayerNorm_{layer}"], x) if norm else x
        x = _activation(activation)(x)
    return _dense(params[f"Dense_{last}"], x)


def cnn(params, x):
    """Two convolutions, max pooling, two dense layers."""
    from torch.nn import functional

    x = x.permute(0, 3, 1, 2)
    for name in ("Conv_0", "Conv_1"):
        kernel = _tensor(params[name]["kernel"], x).permute(3, 2, 0, 1)
        x = functional.conv2d(x, kernel, _tensor(params[name]["bias"], x), padding=1)
        x = x.relu()
    x = functional.max_pool2d(x, 2).permute(0, 2, 3, 1).flatten(1)
    # Flax names modules in the order in which they are made: the outer one comes first.
    return _dense(params["Dense_0"], _dense(params["Dense_1"], x).relu())


def transformer(params, x):
    """Positions, blocks of attention and dense layers before a mean over places."""
    from torch.nn import functional

    x = x + _tensor(params["positions"], x)[: x.shape[1]]
    for block in (params[name] for name in sorted(params) if "Block" in name):
        h = _norm(block["LayerNorm_0"], x)
        attention = block["MultiHeadDotProductAttention_0"]
        heads = np.shape(attention["query"]["bias"])[0]
        split = lambda a: a.unflatten(-1, (heads, -1)).transpose(1, 2)  # noqa: B023
        q, k, v = (split(_dense(attention[n], h)) for n in ("query", "key", "value"))
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        out = attention["out"]
        kernel = _tensor(out["kernel"], x).reshape(-1, x.shape[-1])
        x = x + mixed.flatten(2) @ kernel + _tensor(out["bias"], x)
        h = _dense(block["Dense_0"], _norm(block["LayerNorm_1"], x))
        x = x + _dense(block["Dense_1"], _activation("gelu")(h))
    return _dense(params["Dense_0"], _norm(params["LayerNorm_0"], x).mean(1))


def _lstm(cell, x):
    return _once(_lstm_layer, cell, cell, x)(x)[0]


def _lstm_layer(cell, x):
    import torch

    gates = "ifgo"
    stack = lambda kind, part: np.concatenate(
        [np.asarray(cell[kind + g][part]).T for g in gates]
    )
    hidden = np.shape(cell["hi"]["bias"])[0]
    layer = torch.nn.LSTM(x.shape[-1], hidden, batch_first=True, dtype=x.dtype)
    weights = [stack("i", "kernel"), stack("h", "kernel"), stack("h", "bias")]
    weights.append(np.zeros(4 * hidden))
    for parameter, weight in zip(layer.parameters(), weights, strict=True):
        parameter.data = _converted(weight, x)
        parameter.requires_grad_(False)
    return layer


def last_lstm(params, x):
    """The last state, one logit."""
    states = _lstm(params["OptimizedLSTMCell_0"], x)
    return _dense(params["Dense_0"], states[:, -1])[:, 0]


def max_lstm(params, x):
    """The maximum of each unit over time, one logit."""
    states = _lstm(params["LSTM_0"]["OptimizedLSTMCell_0"], x)
    return _dense(params["Dense_0"], states.amax(1))[:, 0]
