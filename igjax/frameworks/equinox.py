"""Equinox: its modules, their paths, and whether they are in inference mode."""

import contextlib
import sys

from igjax.frameworks.calls import Call, dispatch
from igjax.frameworks.trees import Patches, path_of, subclasses, walker, wrapper

_REMEDY = "Call model = equinox.nn.inference_mode(model) first."


def is_module(value) -> bool:
    """True for an Equinox module; Equinox is not imported to find out.

    What its transformations return are modules too, of private classes: they are not meant.
    """
    equinox, kind = sys.modules.get("equinox"), type(value)
    if equinox is None or not issubclass(kind, equinox.Module):
        return False
    return not (kind.__name__.startswith("_") and kind.__module__.startswith("equinox."))


@contextlib.contextmanager
def calls():
    """Dispatches the calls of modules inside."""
    if "equinox" not in sys.modules:
        yield
        return
    with _PATCHES:
        yield


_walk = walker(is_module, vars)


def _describe(module, inputs, keywords) -> Call | None:
    if not is_module(module):
        return None
    nn = sys.modules["equinox"].nn
    training = _training(module, keywords)
    path = path_of("equinox", module, _walk, is_module)
    return Call(module, path, training, _REMEDY, isinstance(module, nn.Embedding))


def _training(module, keywords) -> str:
    given = keywords.get("inference")
    given = getattr(module, "inference", None) if given is None else given
    rate = getattr(module, "p", None)  # of a dropout, which drops nothing where it is 0
    drops = not (isinstance(rate, int | float) and rate == 0)
    return "inference=False" if given is False and drops else ""


_PATCHES = Patches(
    lambda: subclasses(sys.modules["equinox"].Module), wrapper(_describe, dispatch)
)
