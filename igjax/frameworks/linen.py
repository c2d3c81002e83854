"""Flax linen: the paths of modules as names of their outputs."""

import contextlib
import sys

import jax
from jax.ad_checkpoint import checkpoint_name

MODULE = "flax.linen: "  # set before the paths of modules: a user's tags come first


@contextlib.contextmanager
def tagging():
    """Tags the outputs of modules in what is traced inside."""
    linen = sys.modules.get("flax.linen")
    if linen is None:
        yield
    else:
        with linen.intercept_methods(_tag):
            yield


def _tag(call, inputs, keywords, context):
    output = call(*inputs, **keywords)
    path = "/".join(context.module.path)
    if context.method_name != "__call__" or not path:
        return output
    leaf = lambda a: checkpoint_name(a, MODULE + path) if isinstance(a, jax.Array) else a
    return jax.tree.map(leaf, output)
