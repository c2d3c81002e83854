"""How many nodes are evaluated side by side, where the caller does not say.

As many as suit the device: a CPU is fastest while a block fits its caches (measured,
benchmarks/README.md), other devices want to be filled. Weights are read twice for a block,
forward and back: where they fit no cache it has twice as many values. And no more than fit
its memory: the intermediate values of a block take at most a small share of it. Under
`vmap` there is a block for each example of the batch, and all of them together are one
block in this sense: they share the weights that are read. A function whose values at one
point do not fit is evaluated point by point. A batch that nobody sees, of a `vmap` around a
`jit`, is what the share is small for. Of many outputs only some are pulled back at once.
"""

import os

import jax
import jax.numpy as jnp

from igjax._program.tracing import footprint

# At least and at most so many nodes, and so many bytes of values.
CHUNK = {"cpu": (4, 25, 5 << 20)}
CHUNK_ELSEWHERE = (1, 64, 1 << 30)
FEW = 8  # outputs, whose gradients are always taken together
SHARE = 1 / 64  # of the memory for a block: half of it for a batch of 32 that is not seen


def chunk(f, path, dtype, nodes: int, outputs: int = 1, lanes: int = 1) -> int:
    """A number of nodes for one block that suits the device and wastes no evaluation.

    At each node there are the gradients of so many outputs, of so many examples.
    """
    least, most, budget = CHUNK.get(jax.default_backend(), CHUNK_ELSEWHERE)
    known = footprint(lambda t: f(path(t)), jnp.zeros((), dtype))
    least = -(-least // lanes) if outputs == 1 else 1
    if known is None:  # the program of f is not understood
        return least
    values, touched = (max(lanes * outputs * n, 1) for n in (known.values, known.touched))
    fit = max(least, min(most, max(budget, 2 * known.constants) // touched))
    fit = min(fit, max(1, int(SHARE * memory()) // values), nodes)
    return min(range(fit, fit // 2, -1), key=lambda size: -(-nodes // size) * size)


def outputs_at_once(f, point, outputs: int) -> int:
    """How many outputs are pulled back side by side at a point: what fits the memory.

    Few are not looked at: to count what f computes it is traced once more.
    """
    if outputs <= FEW:
        return outputs
    known = footprint(f, point)
    values = 1 if known is None else max(known.values, 1)
    return min(outputs, max(FEW, int(SHARE * memory()) // values))


def memory() -> int:
    """Bytes of memory of the device that programs run on; of the host, for a CPU."""
    known = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in known:
        return known["bytes_limit"]
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on this system
        return 8 << 30
