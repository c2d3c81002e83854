"""Flax NNX: which objects are modules, and whether they are in evaluation mode."""

import sys


def is_module(value) -> bool:
    """True for an NNX module; Flax is not imported to find out."""
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and issubclass(type(value), nnx.Module)


def evaluation_mode(caller: str, models) -> None:
    """Checks that NNX models neither drop units nor update batch statistics.

    Raises:
        ValueError: if a dropout or a batch normalization is in training mode.
    """
    for model in models:
        nodes = sys.modules["flax.nnx"].iter_graph(model)
        for path, module in ((path, node) for path, node in nodes if is_module(node)):
            drops = getattr(module, "rate", 0) and not getattr(
                module, "deterministic", True
            )
            if drops or not getattr(module, "use_running_average", True):
                flag = "deterministic" if drops else "use_running_average"
                raise ValueError(
                    f"{caller}: the model must be in evaluation mode, got "
                    f"{type(module).__name__}({flag}=False) at "
                    f"{'.'.join(map(str, path)) or 'its root'}. Call model.eval() first."
                )
