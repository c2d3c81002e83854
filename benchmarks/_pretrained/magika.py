"""Magika 1.0.3 (Apache-2.0): of which of 214 kinds is a file?

It reads the first and the last 1024 bytes, one-hot, by a dense layer, a convolution and
a maximum over positions.  Every file is real input; the padding token, which stands
for "no byte here", is the baseline.
"""

import functools
import itertools
import json
import os
import sysconfig
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from . import Problem, folder, initializers, predicted

ENDS, BLOCK = 1024, 4096
PADDING = 256
MODEL = "models/standard_v3_3"


def load():
    """The weights, from the ONNX file that the authors exported from Flax."""
    weights = initializers(folder("magika") / MODEL / "model.onnx")
    names = {name.rpartition("MagikaV2/")[2]: value for name, value in weights.items()}
    root = "jax2tf_get_logits_/"

    def norm(name):
        return names[f"{name}/Reshape_2:0"][0], names[f"{name}/Reshape_3:0"][0]

    return {
        "dense_0": (weights[f"{root}Const:0"], names["Dense_0/Reshape:0"].ravel()),
        "norm_0": norm("LayerNorm_0"),
        "conv": (
            names["Conv_0/transpose_3:0"][..., 0],
            weights["const_fold_opt__209"].ravel(),
        ),
        "norm_1": norm("LayerNorm_1"),
        "dense_1": (weights[f"{root}Const_24:0"], names["Dense_1/Reshape:0"].ravel()),
    }


def labels() -> tuple[str, ...]:
    """The names of the kinds, in the order of the logits."""
    config = json.loads((folder("magika") / MODEL / "config.min.json").read_text())
    return tuple(config["target_labels_space"])


def _normalize(y, scale, bias):
    y = y - y.mean(0, keepdims=True)
    return y / jnp.sqrt((y**2).mean(0, keepdims=True) + 1e-6) * scale + bias


def logits(x, params):
    """The logits of all kinds, of one-hot bytes `x` of shape `(2048, 257)`."""
    kernel, bias = params["dense_0"]
    y = jax.nn.gelu(x @ kernel + bias[None]).reshape(512, 256)
    y = _normalize(y, *params["norm_0"])
    kernel, bias = params["conv"]
    y = jax.lax.conv_general_dilated(
        y[None], kernel, (1,), "VALID", dimension_numbers=("NHC", "OIH", "NHC")
    )
    y = jax.nn.gelu(y[0] + bias[None]).max(0)
    kernel, bias = params["dense_1"]
    return _normalize(y, *params["norm_1"]) @ kernel + bias


def logit(x, label, params):
    """The logit of the kind number `label`."""
    return logits(x, params)[label]


def _torch_scores(params, device="cpu"):
    import torch
    from torch.nn import functional as F

    tensors = jax.tree.map(lambda w: torch.tensor(w, device=device), params)
    gelu = functools.partial(F.gelu, approximate="tanh")

    def normalize(y, scale, bias):
        y = y - y.mean(1, keepdim=True)
        return y / torch.sqrt((y**2).mean(1, keepdim=True) + 1e-6) * scale + bias

    def scores(x, label):
        kernel, bias = tensors["dense_0"]
        y = gelu(x @ kernel + bias).reshape(-1, 512, 256)
        y = normalize(y, *tensors["norm_0"]).transpose(1, 2)
        y = gelu(F.conv1d(y, *tensors["conv"])).amax(2)
        kernel, bias = tensors["dense_1"]
        y = normalize(y, *tensors["norm_1"]) @ kernel + bias
        return y.gather(1, label.long()[:, None])[:, 0]

    return scores


def tokens(content: bytes) -> np.ndarray:
    """The 2048 tokens that Magika makes of a file: bytes, or 256 where there is none."""
    head, tail = content[:BLOCK].lstrip()[:ENDS], content[-BLOCK:].rstrip()[-ENDS:]
    if len(content) <= BLOCK:
        head, tail = content.strip()[:ENDS], content.strip()[-ENDS:]
    row = np.full(2 * ENDS, PADDING, np.int32)
    row[: len(head)] = list(head)
    row[len(row) - len(tail) :] = list(tail)
    return row


def one_hot(tokens: np.ndarray) -> np.ndarray:
    """Float32, with a last axis of 257."""
    return np.eye(257, dtype=np.float32)[tokens]


def files(count: int) -> list[Path]:
    """Files of 2 KiB or more from this machine, of as many different suffixes as possible.

    They come from this repository, the Python installation and /usr/share, always in
    the same order: the first file of each suffix, the commonest suffix first, then the
    second of each.
    """
    roots = [Path(__file__).parents[2], *map(sysconfig.get_path, ("stdlib", "purelib"))]
    groups = {}
    for root in (*roots, "/usr/share"):
        for where, folders, names in os.walk(root):
            folders[:] = sorted(
                f for f in folders if not f.startswith((".", "__pycache__"))
            )
            for path in (Path(where, name) for name in sorted(names)):
                if path.is_file() and path.stat().st_size >= 2048:
                    groups.setdefault(path.suffix.lower(), {})[path] = None
    ranked = sorted(groups.values(), key=len, reverse=True)
    rows = itertools.zip_longest(*ranked)
    return list(itertools.islice((path for row in rows for path in row if path), count))


def problem(count: int = 64) -> Problem:
    """Files of different kinds; `args` is the number of the kind that Magika says.

    Args:
        count: How many files.

    Returns:
        The problem, with 2048 padding tokens as its baseline.
    """
    params = load()
    x = one_hot(np.stack([tokens(path.read_bytes()) for path in files(count)]))
    baseline = one_hot(np.full(2 * ENDS, PADDING))
    return Problem(
        *("magika", logit, params, x, baseline, (predicted(logits, x, params),)),
        functools.partial(_torch_scores, params),
    )
