"""Keras: its layers, their paths, and the `training` that reaches them."""

import contextlib
import sys

from igjax.frameworks.calls import Call, dispatch
from igjax.frameworks.trees import Patches, path_of, walker, wrapper

_REMEDY = "Call the model with training=False."
_AMOUNTS = ("rate", "dropout", "recurrent_dropout", "stddev")


def is_module(value) -> bool:
    """True for a Keras layer; Keras is not imported to find out."""
    keras = sys.modules.get("keras")
    return keras is not None and issubclass(type(value), keras.Layer)


@contextlib.contextmanager
def calls():
    """Dispatches the calls of layers inside."""
    if "keras" not in sys.modules:
        yield
        return
    with _PATCHES:
        yield


def _children(layer) -> dict:
    """The parts of a layer: by the attributes that hold them, else by their own names."""
    parts = {id(part): part for part in _direct(layer)}
    found = {}
    for name, value in vars(layer).items():
        if not name.startswith("_") and _holds(value, parts):
            found[name] = value
    named = {id(module) for _, module in _inside(found)}
    own = {part.name: part for key, part in parts.items() if key not in named}
    return {**found, **own}


def _direct(layer):
    return layer._flatten_layers(include_self=False, recursive=False)


def _holds(value, parts) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    held = value if isinstance(value, list | tuple) else [value]
    return any(id(item) in parts for item in held)


def _inside(children):
    for value in children.values():
        if is_module(value):
            yield (), value
        else:
            yield from _walk(value)


_walk = walker(is_module, _children)


def _describe(layer, inputs, keywords) -> Call | None:
    if not is_module(layer):  # an operation of Keras on arrays
        return None
    embedding = sys.modules["keras"].layers.Embedding
    training = _training(layer, keywords)
    path = path_of("keras", layer, _walk, is_module)
    return Call(layer, path, training, _REMEDY, isinstance(layer, embedding))


def _training(layer, keywords) -> str:
    """What it is that a layer does in training mode: its parts speak for themselves."""
    given = keywords.get("training")
    if not isinstance(given, bool) or not given or list(_direct(layer)):
        return ""
    amounts = [getattr(layer, name) for name in _AMOUNTS if hasattr(layer, name)]
    if type(layer).__module__.partition(".")[0] != "keras":
        does = True  # whatever it is that a user's layer does
    elif amounts:
        does = any(amounts)
    else:  # what it counts, or draws
        does = layer.trainable and layer.non_trainable_variables
        does = does or hasattr(layer, "seed_generator")
    return "training=True" if does else ""


def _classes():
    keras = sys.modules["keras"]
    # Called by Layer.__call__, when what is given has been completed by the defaults.
    return [next(c for c in keras.Layer.__mro__[1:] if "__call__" in vars(c))]


_PATCHES = Patches(_classes, wrapper(_describe, dispatch))
