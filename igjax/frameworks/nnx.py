"""Flax NNX: its modules, their paths, and whether they are in evaluation mode."""

import contextlib
import sys
import threading

from igjax.frameworks.calls import Call, dispatch
from igjax.frameworks.trees import Patches, named, subclasses, wrapper

_REMEDY = "Call model.eval() first, before nnx.split."


def is_module(value) -> bool:
    """True for an NNX module; Flax is not imported to find out."""
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and issubclass(type(value), nnx.Module)


@contextlib.contextmanager
def calls():
    """Dispatches the calls of modules inside."""
    if "flax.nnx" not in sys.modules:
        yield
        return
    with _PATCHES, named(_walk, is_module) as _NAMES.known:
        yield


def _walk(root):
    nodes = sys.modules["flax.nnx"].iter_graph(root)
    return [(path, node) for path, node in nodes if is_module(node)]


def _describe(module, inputs, keywords) -> Call:
    nnx = sys.modules["flax.nnx"]
    training = _training(module, keywords)
    path = _NAMES.known.path(module)
    return Call(module, path, training, _REMEDY, isinstance(module, nnx.Embed))


def _training(module, keywords) -> str:
    drops = getattr(module, "rate", 0) or getattr(module, "dropout_rate", 0)
    for flag, does in {"deterministic": drops, "use_running_average": True}.items():
        given = keywords.get(flag)
        given = getattr(module, flag, None) if given is None else given
        if does and given is False:
            return f"{flag}=False"
    return ""


_NAMES = threading.local()  # `known`, while a function is traced
_PATCHES = Patches(
    lambda: subclasses(sys.modules["flax.nnx"].Module), wrapper(_describe, dispatch)
)
