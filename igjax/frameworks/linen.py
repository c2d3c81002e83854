"""Flax linen: its modules know their paths, and their calls can be intercepted."""

import contextlib
import sys

import jax

from igjax.frameworks.calls import THREAD, Call, announce, argument, dispatch

_REMEDY = "Call the model with train=False, deterministic=True, or what it names it."


@contextlib.contextmanager
def calls():
    """Dispatches the calls of modules inside."""
    linen = sys.modules.get("flax.linen")
    if linen is None:
        yield
    else:
        with linen.intercept_methods(_intercept):
            yield


def _intercept(call, inputs, keywords, context):
    if context.method_name != "__call__" or not THREAD.handlers:
        return call(*inputs, **keywords)
    module = context.module
    linen = sys.modules["flax.linen"]
    path = "/".join(module.path)
    training = _training(module, inputs, keywords)
    made = Call(module, path, training, _REMEDY, isinstance(module, linen.Embed))
    run = lambda inputs, keywords: call(*inputs, **keywords)
    if path:
        return dispatch(made, run, inputs, keywords)
    before = _statistics(module)
    output = dispatch(made, run, inputs, keywords)
    changed = [k for k, a in _statistics(module).items() if a is not before.get(k)]
    if changed:  # whoever's module it was that did it
        announce(Call(module, changed[0], "its statistics change", _REMEDY))
    return output


def _statistics(module) -> dict:
    """The arrays of batch statistics of a bound module, by their paths."""
    state = jax.tree_util.tree_leaves_with_path(module.variables.get("batch_stats", {}))
    return {jax.tree_util.keystr(path, simple=True, separator="/"): a for path, a in state}


def _training(module, inputs, keywords) -> str:
    for flag, amounts in {
        "deterministic": ("rate", "dropout_rate"),
        "use_running_average": (),
    }.items():
        if not hasattr(module, flag):
            continue
        given = argument(type(module).__call__, flag, inputs, keywords)
        given = getattr(module, flag) if given is None else given
        does = not amounts or any(getattr(module, name, 0) for name in amounts)
        if does and given is False:
            return f"{flag}=False"
    return ""
