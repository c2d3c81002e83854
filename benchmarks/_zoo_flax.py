"""Networks as people write them, in plain NNX and linen: nothing is for a compiler."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn, nnx


class _Normed(nnx.Module):
    """A convolution and its batch normalization."""

    def __init__(self, inputs, outputs, size, rngs, *, stride=1, groups=1):
        space = (size, size)
        around = ((size // 2, size // 2),) * 2
        self.conv = nnx.Conv(
            inputs,
            outputs,
            space,
            stride,
            padding=around,
            feature_group_count=groups,
            use_bias=False,
            rngs=rngs,
        )
        self.norm = nnx.BatchNorm(outputs, use_running_average=True, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.conv(x))


class _Residual(nnx.Module):
    def __init__(self, inputs, outputs, stride, rngs):
        self.first = _Normed(inputs, outputs, 3, rngs, stride=stride)
        self.second = _Normed(outputs, outputs, 3, rngs)
        wider = inputs != outputs
        self.short = _Normed(inputs, outputs, 1, rngs, stride=stride) if wider else None

    def __call__(self, x):
        y = self.second(nnx.relu(self.first(x)))
        return nnx.relu(y + (x if self.short is None else self.short(x)))


class ResNet18(nnx.Module):
    """Eighteen layers, as in the paper of 2015."""

    def __init__(self, rngs):
        self.stem = _Normed(3, 64, 7, rngs, stride=2)
        widths = 64, 64, 64, 128, 128, 256, 256, 512, 512
        pairs = itertools.pairwise(widths)
        self.blocks = nnx.List([_Residual(a, b, 1 + (a != b), rngs) for a, b in pairs])
        self.head = nnx.Linear(512, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.stem(x))
        x = nnx.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((1, 2)))


class _Inverted(nnx.Module):
    def __init__(self, inputs, outputs, stride, factor, size, rngs):
        inner = inputs * factor
        self.widen = _Normed(inputs, inner, 1, rngs) if factor > 1 else None
        self.depth = _Normed(inner, inner, size, rngs, stride=stride, groups=inner)
        self.narrow = _Normed(inner, outputs, 1, rngs)
        self.same = stride == 1 and inputs == outputs

    def __call__(self, x):
        y = x if self.widen is None else nnx.relu6(self.widen(x))
        y = self.narrow(nnx.relu6(self.depth(y)))
        return x + y if self.same else y


MOBILE = (  # factor, outputs, how many, stride, size
    *((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 32, 3, 2, 3), (6, 64, 4, 2, 3)),
    *((6, 96, 3, 1, 3), (6, 160, 3, 2, 3), (6, 320, 1, 1, 3)),
)
EFFICIENT = (
    *((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3)),
    *((6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3)),
)


def inverted_blocks(table):
    """The blocks of a table: inputs, outputs, stride, factor, size."""
    inputs = 32
    for factor, outputs, count, stride, size in table:
        for i in range(count):
            yield inputs, outputs, 1 if i else stride, factor, size
            inputs = outputs


class Inverted(nnx.Module):
    """MobileNetV2, or EfficientNet-Lite0: inverted bottlenecks by a table."""

    def __init__(self, table, rngs):
        self.stem = _Normed(3, 32, 3, rngs, stride=2)
        self.blocks = nnx.List([_Inverted(*row, rngs) for row in inverted_blocks(table)])
        self.last = _Normed(320, 1280, 1, rngs)
        self.head = nnx.Linear(1280, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu6(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.head(nnx.relu6(self.last(x)).mean((1, 2)))


class _Next(nnx.Module):
    def __init__(self, width, rngs):
        around = ((3, 3), (3, 3))
        self.depth = nnx.Conv(
            width, width, (7, 7), padding=around, feature_group_count=width, rngs=rngs
        )
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.wide = nnx.Linear(width, 4 * width, rngs=rngs)
        self.narrow = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x):
        y = self.wide(self.norm(self.depth(x)))
        return x + self.narrow(nnx.gelu(y))


class ConvNeXt(nnx.Module):
    """Like ConvNeXt-T, with a third of its blocks."""

    def __init__(self, rngs):
        widths = 96, 192, 384, 768
        self.stem = nnx.Conv(3, 96, (4, 4), 4, padding="VALID", rngs=rngs)
        counts = 1, 1, 3, 1
        self.blocks = nnx.List(
            [_Next(w, rngs) for w, n in zip(widths, counts, strict=True) for _ in range(n)]
        )
        pairs = itertools.pairwise(widths)
        self.downs = nnx.List(
            [nnx.Conv(a, b, (2, 2), 2, padding="VALID", rngs=rngs) for a, b in pairs]
        )
        self.norm = nnx.LayerNorm(768, rngs=rngs)
        self.head = nnx.Linear(768, 10, rngs=rngs)

    def __call__(self, x):
        x = self.stem(x)
        for i, block in enumerate(self.blocks):
            x = self.downs[(1, 2, 5).index(i)](x) if i in (1, 2, 5) else x
            x = block(x)
        return self.head(self.norm(x.mean((1, 2))))


class UNet(nnx.Module):
    """Three levels of convolutions, pooled and brought up again; a score a pixel."""

    def __init__(self, rngs):
        down = (3, 16), (16, 32), (32, 64)
        self.down = nnx.List([_Normed(a, b, 3, rngs) for a, b in down])
        self.also = nnx.List([_Normed(b, b, 3, rngs) for _, b in down])
        up = (64, 32), (32, 16)
        self.lift = nnx.List(
            [nnx.ConvTranspose(a, b, (2, 2), 2, padding="VALID", rngs=rngs) for a, b in up]
        )
        self.up = nnx.List([_Normed(a, b, 3, rngs) for a, b in up])
        self.head = nnx.Conv(16, 5, (1, 1), rngs=rngs)

    def __call__(self, x):
        kept = []
        for i, (first, second) in enumerate(zip(self.down, self.also, strict=True)):
            x = nnx.max_pool(x, (2, 2), (2, 2)) if i else x
            x = nnx.relu(second(nnx.relu(first(x))))
            kept.append(x)
        for lift, up, across in zip(self.lift, self.up, kept[1::-1], strict=True):
            x = nnx.relu(up(jnp.concatenate([lift(x), across], -1)))
        return self.head(x)


class _Block(nnx.Module):
    """A pre-norm block of a transformer."""

    def __init__(self, width, heads, rngs, *, causal=False):
        self.norm1, self.norm2 = (nnx.LayerNorm(width, rngs=rngs) for _ in range(2))
        self.qkv = nnx.Linear(width, 3 * width, rngs=rngs)
        self.out = nnx.Linear(width, width, rngs=rngs)
        self.wide = nnx.Linear(width, 4 * width, rngs=rngs)
        self.narrow = nnx.Linear(4 * width, width, rngs=rngs)
        self.heads, self.causal = heads, causal

    def __call__(self, x):
        parts = jnp.split(self.qkv(self.norm1(x)), 3, -1)
        q, k, v = (a.reshape(*a.shape[:2], self.heads, -1) for a in parts)
        y = jax.nn.dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(y.reshape(x.shape))
        return x + self.narrow(nnx.gelu(self.wide(self.norm2(x))))


class Transformer(nnx.Module):
    """Blocks on what a first layer makes of patches, columns or embeddings."""

    def __init__(self, inputs, length, width, heads, depth, outputs, causal=False, *, rngs):
        self.embed = nnx.Linear(inputs, width, rngs=rngs)
        self.place = nnx.Param(0.1 * rngs.params.normal((length, width)))
        self.blocks = nnx.List(
            [_Block(width, heads, rngs, causal=causal) for _ in range(depth)]
        )
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, outputs, rngs=rngs)
        self.causal = causal

    def __call__(self, x):
        x = self.embed(x) + self.place[...][None]
        for block in self.blocks:
            x = block(x)
        x = x[:, -1] if self.causal else x.mean(1)
        return self.head(self.norm(x))


class Audio(nnx.Module):
    """Four strided convolutions over a wave of 4096 samples, a gap between pools."""

    def __init__(self, rngs):
        pairs = (1, 16), (16, 32), (32, 64), (64, 64)
        self.convs = nnx.List(
            [nnx.Conv(a, b, (9,), padding=((4, 4),), rngs=rngs) for a, b in pairs]
        )
        self.head = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        for conv in self.convs:
            x = nnx.max_pool(nnx.relu(conv(x)), (4,), (4,))
        return self.head(x.mean(1))


class Recurrent(nn.Module):
    """A cell of 128 units over the steps, in linen; the last state is classified."""

    cell: Any

    @nn.compact
    def __call__(self, x):
        x = nn.RNN(self.cell(128, name="cell"))(x)[:, -1]
        return nn.Dense(10, name="head")(x)


class MLP(nnx.Module):
    """784-512-512-10."""

    def __init__(self, rngs):
        widths = 784, 512, 512, 10
        pairs = itertools.pairwise(widths)
        self.layers = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in pairs])

    def __call__(self, x):
        for layer in self.layers[:-1]:
            x = nnx.relu(layer(x))
        return self.layers[-1](x)


class Graph(nnx.Module):
    """Three graph convolutions over a ring with chords; the mean is classified."""

    def __init__(self, rngs):
        widths = 16, 64, 64, 64
        pairs = itertools.pairwise(widths)
        self.layers = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in pairs])
        self.head = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        from_, to = edges()
        for layer in self.layers:
            messages = layer(x)[:, from_] / 4
            x = nnx.relu(jnp.zeros_like(messages[:, :NODES]).at[:, to].add(messages))
        return self.head(x.mean(1))


NODES = 64


def edges() -> tuple[np.ndarray, np.ndarray]:
    """Where the edges of the graph start and end: four for each node."""
    nodes = np.arange(NODES)
    ends = [(nodes + step) % NODES for step in (0, 1, -1, 7)]
    return np.tile(nodes, 4), np.concatenate(ends)
