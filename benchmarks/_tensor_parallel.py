"""A gated decoder with its weights spread over a mesh, as shapes: nothing is allocated.

As in Megatron: heads, hidden units and vocabulary are shared between devices, activations
are on all of them, and there are two sums over devices in each block, on the way there and
on the way back. Each block is computed again on the way back (`jax.checkpoint`). Positions
are in the embeddings; turning queries and keys would add nothing that counts.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P

import igjax


class Size(NamedTuple):
    """The size of a decoder and of what it reads."""

    layers: int
    width: int
    heads: int
    hidden: int
    vocabulary: int
    tokens: int


FULL = Size(32, 4096, 32, 11008, 32000, 4096)
TOY = Size(4, 128, 8, 344, 1000, 128)


def weights(size: Size, mesh, dtype=jnp.bfloat16):
    """Shapes of all weights, spread over the axis "model"; those of blocks are stacked."""
    layers, width, heads, hidden, vocabulary, _ = size
    depth = width // heads

    def spread(shape, *names):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, P(*names)))

    blocks = {
        "norms": spread((layers, 2, width)),
        "qkv": spread((layers, width, 3, heads, depth), None, None, None, "model"),
        "out": spread((layers, heads, depth, width), None, "model"),
        "gates": spread((layers, width, 2, hidden), None, None, None, "model"),
        "down": spread((layers, hidden, width), None, "model"),
    }
    head = spread((width, vocabulary), None, "model")
    return {"blocks": blocks, "norm": spread((width,)), "head": head}


def _normed(x, scale):
    wide = x.astype(jnp.float32)
    root = jax.lax.rsqrt(jnp.mean(wide**2, -1, keepdims=True) + 1e-6)
    return (wide * root).astype(x.dtype) * scale


def _block(x, w):
    q, k, v = jnp.einsum("tw,wchd->cthd", _normed(x, w["norms"][0]), w["qkv"])
    looks = jnp.einsum("thd,shd->hts", q, k).astype(jnp.float32) * q.shape[-1] ** -0.5
    place = jnp.arange(x.shape[0])
    looks = jnp.where(place[:, None] >= place, looks, -jnp.inf)
    mixed = jnp.einsum("hts,shd->thd", jax.nn.softmax(looks).astype(x.dtype), v)
    x = x + jnp.einsum("thd,hdw->tw", mixed, w["out"])
    gate, up = jnp.einsum("tw,wch->cth", _normed(x, w["norms"][1]), w["gates"])
    return x + (jax.nn.silu(gate) * up) @ w["down"], None


def score(x, w, target):
    """The log probability of a token after so many embeddings."""
    x, _ = jax.lax.scan(jax.checkpoint(_block), x, w["blocks"])
    logits = _normed(x[-1], w["norm"]) @ w["head"]
    return jax.nn.log_softmax(logits.astype(jnp.float32))[target]


@functools.cache
def attribute(nodes: int):
    """Integrated Gradients at the embeddings."""
    rule = igjax.rules.gauss_legendre(nodes)
    return igjax.integrated_gradients(score, rule=rule)


def operands(size: Size, mesh):
    """Shapes of what the attribution is called with."""
    everywhere = NamedSharding(mesh, P())
    x = jax.ShapeDtypeStruct((size.tokens, size.width), jnp.bfloat16, sharding=everywhere)
    return x, 0.0, weights(size, mesh), 0


def matrices(size: Size) -> int:
    """Weights of the matrices of one block."""
    return 4 * size.width**2 + 3 * size.width * size.hidden


def flops(size: Size, nodes: int) -> float:
    """Flops of so many nodes and both ends, products only, on all devices together.

    A node goes forward twice, the second time without the last product of each block, and
    back once; back there is one product for each of a weight, and two for each of
    attention. Only the last token has logits.
    """
    weighted = 2 * size.tokens * matrices(size)
    attended = 4 * size.tokens**2 * size.width
    forward = weighted + attended
    again = forward - 2 * size.tokens * size.width * size.hidden
    back = weighted + 2 * attended
    return size.layers * (nodes * (forward + again + back) + 2 * forward)


def summed(size: Size, nodes: int) -> int:
    """Bytes of activations that devices add up, in bfloat16.

    Twice in a block, forward and back; once where it is computed again, without its end.
    """
    return (5 * nodes + 2 * 2) * size.layers * size.tokens * size.width * 2
