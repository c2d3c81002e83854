"""Flax NNX: its modules, their paths, and whether they are in evaluation mode."""

import contextlib
import sys

import jax

from igjax.frameworks.calls import THREAD, Call, announce, dispatch
from igjax.frameworks.trees import Patches, path_of, subclasses, wrapper

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
    with _PATCHES:
        yield


def _walk(root):
    nodes = sys.modules["flax.nnx"].iter_graph(root)
    return [(path, node) for path, node in nodes if is_module(node)]


def _describe(module, inputs, keywords) -> Call:
    nnx = sys.modules["flax.nnx"]
    training = _training(module, keywords)
    path = path_of("nnx", module, _walk, is_module)
    return Call(module, path, training, _REMEDY, isinstance(module, nnx.Embed))


def _training(module, keywords) -> str:
    drops = getattr(module, "rate", 0) or getattr(module, "dropout_rate", 0)
    for flag, does in {"deterministic": drops, "use_running_average": True}.items():
        given = keywords.get(flag)
        given = getattr(module, flag, None) if given is None else given
        if does and given is False:
            return f"{flag}=False"
    return ""


def _dispatch(call: Call, run, inputs, keywords):
    """Looks whether statistics have changed, too: whoever's module it was that did it."""
    if THREAD.stack:
        return dispatch(call, run, inputs, keywords)
    before = _statistics(sys.modules["flax.nnx"], call.module)
    output = dispatch(call, run, inputs, keywords)
    after = _statistics(sys.modules["flax.nnx"], call.module)
    changed = [path for path, value in after.items() if value is not before.get(path)]
    if changed:
        where = "/".join(filter(None, (call.path, changed[0])))
        announce(Call(call.module, where, "its statistics change", _REMEDY))
    return output


def _statistics(nnx, module) -> dict:
    """The arrays of batch statistics of a module, by their paths."""
    state = jax.tree_util.tree_leaves_with_path(nnx.state(module, nnx.BatchStat))
    return {jax.tree_util.keystr(path, simple=True, separator="/"): a for path, a in state}


_PATCHES = Patches(
    lambda: subclasses(sys.modules["flax.nnx"].Module), wrapper(_describe, _dispatch)
)
