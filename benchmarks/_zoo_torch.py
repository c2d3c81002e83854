"""The networks of `_zoo_flax.py` in torch: the same parts under the same names."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from _zoo_flax import edges, inverted_blocks
from torch import nn
from torch.nn import functional


def load(twin, state):
    """Gives a twin the weights of an NNX module, by name; returns it ready to evaluate."""
    for path, leaf in state:
        *place, kind = (str(part) for part in path)
        array = np.asarray(leaf)
        if place and place[0] == "rnn":
            _put(getattr(twin.rnn, f"weight_{place[1]}h_l0"), array.T)
            continue
        part = twin.get_submodule(".".join(place)) if place else twin
        transposed = isinstance(part, nn.ConvTranspose2d)
        _put(getattr(part, _NAMES.get(kind, kind)), _turned(array, kind, transposed))
    for parameter in twin.parameters():
        parameter.requires_grad_(False)
    return twin.eval().to(DEVICE)


DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


_NAMES = {
    "kernel": "weight",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
}


def _turned(array, kind, transposed):
    """An array with the axes that torch wants."""
    if kind != "kernel":
        return array
    if transposed:  # torch puts copies of the kernel down; Flax slides it
        return np.flip(array, (0, 1)).transpose(2, 3, 0, 1)
    return np.moveaxis(array, (-1, -2), (0, 1))


def _put(there, array):
    assert tuple(there.shape) == array.shape, (there.shape, array.shape)
    there.data.copy_(torch.tensor(np.ascontiguousarray(array)))


class _Normed(nn.Module):
    def __init__(self, inputs, outputs, size, stride=1, groups=1):
        super().__init__()
        self.conv = nn.Conv2d(
            inputs, outputs, size, stride, size // 2, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x):
        return self.norm(self.conv(x))


class _Residual(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.first = _Normed(inputs, outputs, 3, stride)
        self.second = _Normed(outputs, outputs, 3)
        self.short = _Normed(inputs, outputs, 1, stride) if inputs != outputs else None

    def forward(self, x):
        y = self.second(self.first(x).relu())
        return (y + (x if self.short is None else self.short(x))).relu()


class ResNet18(nn.Module):
    """Eighteen layers."""

    def __init__(self):
        super().__init__()
        self.stem = _Normed(3, 64, 7, 2)
        widths = 64, 64, 64, 128, 128, 256, 256, 512, 512
        pairs = itertools.pairwise(widths)
        self.blocks = nn.ModuleList([_Residual(a, b, 1 + (a != b)) for a, b in pairs])
        self.head = nn.Linear(512, 10)

    def forward(self, x):
        """Logits of a batch."""
        x = functional.max_pool2d(self.stem(x).relu(), 3, 2, 1)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


class _Inverted(nn.Module):
    def __init__(self, inputs, outputs, stride, factor, size):
        super().__init__()
        inner = inputs * factor
        self.widen = _Normed(inputs, inner, 1) if factor > 1 else None
        self.depth = _Normed(inner, inner, size, stride, inner)
        self.narrow = _Normed(inner, outputs, 1)
        self.same = stride == 1 and inputs == outputs

    def forward(self, x):
        y = x if self.widen is None else functional.relu6(self.widen(x))
        y = self.narrow(functional.relu6(self.depth(y)))
        return x + y if self.same else y


class Inverted(nn.Module):
    """MobileNetV2, or EfficientNet-Lite0."""

    def __init__(self, table):
        super().__init__()
        self.stem = _Normed(3, 32, 3, 2)
        self.blocks = nn.ModuleList([_Inverted(*row) for row in inverted_blocks(table)])
        self.last = _Normed(320, 1280, 1)
        self.head = nn.Linear(1280, 10)

    def forward(self, x):
        """Logits of a batch."""
        x = functional.relu6(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.head(functional.relu6(self.last(x)).mean((2, 3)))


def _norm(width):
    return nn.LayerNorm(width, eps=1e-6)


def _gelu(x):
    return functional.gelu(x, approximate="tanh")


class _Next(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.depth = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = _norm(width)
        self.wide = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, x):
        y = self.norm(self.depth(x).permute(0, 2, 3, 1))
        return x + self.narrow(_gelu(self.wide(y))).permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    """Like ConvNeXt-T, with a third of its blocks."""

    def __init__(self):
        super().__init__()
        widths, counts = (96, 192, 384, 768), (1, 1, 3, 1)
        self.stem = nn.Conv2d(3, 96, 4, 4)
        self.blocks = nn.ModuleList(
            [_Next(w) for w, n in zip(widths, counts, strict=True) for _ in range(n)]
        )
        pairs = itertools.pairwise(widths)
        self.downs = nn.ModuleList([nn.Conv2d(a, b, 2, 2) for a, b in pairs])
        self.norm = _norm(768)
        self.head = nn.Linear(768, 10)

    def forward(self, x):
        """Logits of a batch."""
        x = self.stem(x)
        for i, block in enumerate(self.blocks):
            x = self.downs[(1, 2, 5).index(i)](x) if i in (1, 2, 5) else x
            x = block(x)
        return self.head(self.norm(x.mean((2, 3))))


class UNet(nn.Module):
    """Three levels; a score a pixel, classes last."""

    def __init__(self):
        super().__init__()
        down, up = ((3, 16), (16, 32), (32, 64)), ((64, 32), (32, 16))
        self.down = nn.ModuleList([_Normed(a, b, 3) for a, b in down])
        self.also = nn.ModuleList([_Normed(b, b, 3) for _, b in down])
        self.lift = nn.ModuleList([nn.ConvTranspose2d(a, b, 2, 2) for a, b in up])
        self.up = nn.ModuleList([_Normed(a, b, 3) for a, b in up])
        self.head = nn.Conv2d(16, 5, 1)

    def forward(self, x):
        """Scores of all pixels of a batch."""
        kept = []
        for i, (first, second) in enumerate(zip(self.down, self.also, strict=True)):
            x = functional.max_pool2d(x, 2) if i else x
            x = second(first(x).relu()).relu()
            kept.append(x)
        for lift, up, across in zip(self.lift, self.up, kept[1::-1], strict=True):
            x = up(torch.cat([lift(x), across], 1)).relu()
        return self.head(x).permute(0, 2, 3, 1)


class _Block(nn.Module):
    def __init__(self, width, heads, causal):
        super().__init__()
        self.norm1, self.norm2 = _norm(width), _norm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.heads, self.causal = heads, causal

    def forward(self, x):
        parts = self.qkv(self.norm1(x)).chunk(3, -1)
        q, k, v = (a.unflatten(-1, (self.heads, -1)).transpose(1, 2) for a in parts)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.narrow(_gelu(self.wide(self.norm2(x))))


class Transformer(nn.Module):
    """Blocks on what a first layer makes of patches, columns or embeddings."""

    def __init__(self, inputs, length, width, heads, blocks, outputs, causal=False):
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        self.place = nn.Parameter(torch.zeros(length, width))
        self.blocks = nn.ModuleList([_Block(width, heads, causal) for _ in range(blocks)])
        self.norm, self.head = _norm(width), nn.Linear(width, outputs)
        self.causal = causal

    def forward(self, x):
        """Logits of a batch."""
        x = self.embed(x) + self.place
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, -1] if self.causal else x.mean(1)))


class Audio(nn.Module):
    """Four convolutions over a wave, a pool after each."""

    def __init__(self):
        super().__init__()
        pairs = (1, 16), (16, 32), (32, 64), (64, 64)
        self.convs = nn.ModuleList([nn.Conv1d(a, b, 9, padding=4) for a, b in pairs])
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        """Logits of a batch."""
        for conv in self.convs:
            x = functional.max_pool1d(conv(x).relu(), 4)
        return self.head(x.mean(2))


class Recurrent(nn.Module):
    """An LSTM or GRU of 128 units; the last state is classified."""

    def __init__(self, kind):
        super().__init__()
        self.rnn = getattr(nn, kind)(32, 128, batch_first=True)
        for name, parameter in self.rnn.named_parameters():
            if name.startswith("bias"):
                nn.init.zeros_(parameter)
        self.head = nn.Linear(128, 10)

    def forward(self, x):
        """Logits of a batch."""
        return self.head(self.rnn(x)[0][:, -1])


class MLP(nn.Module):
    """784-512-512-10."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(
            [nn.Linear(784, 512), nn.Linear(512, 512), nn.Linear(512, 10)]
        )

    def forward(self, x):
        """Logits of a batch."""
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)


class Graph(nn.Module):
    """Three graph convolutions; the mean is classified."""

    def __init__(self):
        super().__init__()
        widths = 16, 64, 64, 64
        pairs = itertools.pairwise(widths)
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in pairs])
        self.head = nn.Linear(64, 10)
        from_, to = edges()
        self.register_buffer("starts", torch.tensor(from_))
        self.register_buffer("ends", torch.tensor(to))

    def forward(self, x):
        """Logits of a batch."""
        for layer in self.layers:
            messages = layer(x)[:, self.starts] / 4
            shape = len(x), x.shape[1], messages.shape[2]
            empty = torch.zeros(shape, device=x.device)
            x = empty.index_add(1, self.ends, messages).relu()
        return self.head(x.mean(1))
