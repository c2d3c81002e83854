"""What does a language model's attribution cost: one token, a contrast, many positions?

A causal transformer of four layers and 128 numbers a token (rotary positions, RMSNorm, tied
embeddings), beside Captum's LayerIntegratedGradients on a torch twin of equal weights. The
same 16 Gauss nodes, one process, medians; Captum has no table of many positions, so that
is one call for each, measured on four of them.
"""

from __future__ import annotations

import argparse
import statistics

import jax
import jax.numpy as jnp
import numpy as np
import torch
from bench_fixed_rules import device, timed
from captum.attr import LayerIntegratedGradients
from flax import nnx
from torch import nn
from torch.nn import functional

import igjax
from igjax.models import CausalTransformer

NODES = 16
WORDS, WIDTH, HEADS, LAYERS = 1024, 128, 4, 4
BLOCKS = (1, 4, 16)
POSITIONS = 32  # of the table, spread over the text
SAMPLE = 4  # positions that Captum is asked about


def ours():
    """The model of igjax."""
    return CausalTransformer(
        WORDS, width=WIDTH, heads=HEADS, layers=LAYERS, rngs=nnx.Rngs(0)
    )


class Twin(nn.Module):
    """The same in torch."""

    def __init__(self, model):
        super().__init__()
        table = torch.tensor(np.asarray(model.embed.embedding[...]))
        self.embed = nn.Embedding.from_pretrained(table)
        self.blocks = nn.ModuleList([Block(block) for block in model.blocks])
        self.norm = norm(model.norm)

    def forward(self, tokens):
        """Logits of a batch."""
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.embed.weight.T


class Block(nn.Module):
    """Attention with rotary positions, and a gated part."""

    def __init__(self, block):
        super().__init__()
        self.before, self.between = norm(block.before), norm(block.between)
        self.qkv, self.out = linear(block.qkv), linear(block.out)
        self.gate, self.down = linear(block.gate), linear(block.down)

    def forward(self, x):
        """The block of a batch."""
        q, k, v = self.qkv(self.before(x)).unflatten(-1, (3, HEADS, -1)).unbind(-3)
        q, k, v = (a.transpose(1, 2) for a in (rotated(q), rotated(k), v))
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        gate, inner = self.gate(self.between(x)).chunk(2, -1)
        return x + self.down(functional.silu(gate) * inner)


def rotated(x):
    """Queries or keys turned by their places."""
    size = x.shape[-1] // 2
    pace = 10_000.0 ** (-torch.arange(size) / size)
    angle = torch.arange(x.shape[1])[:, None, None] * pace
    one, other = x.split(size, -1)
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([one * cos - other * sin, other * cos + one * sin], -1)


def linear(layer):
    """A dense layer without bias, of equal weights."""
    kernel = np.asarray(layer.kernel[...])
    made = nn.Linear(*kernel.shape, bias=False)
    made.weight.data = torch.tensor(kernel.T.copy())
    return made


def norm(layer):
    """A root-mean-square norm of equal weights."""
    made = nn.RMSNorm(WIDTH, eps=1e-6)
    made.weight.data = torch.tensor(np.asarray(layer.scale[...]))
    return made


def plain(tokens, model):
    """Logits, as people write it."""
    return model(tokens)


def sparing(tokens, model):
    """The same, whose blocks are computed once more on the way back.

    In a loop: XLA for CPUs would compute nothing again in a row of blocks.
    """
    graph, states = nnx.split(model.blocks[0])[0], map(nnx.state, model.blocks)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    block = jax.checkpoint(lambda x, state: nnx.merge(graph, state)(x))
    step = lambda x, state: (block(x, state), None)
    x, _ = jax.lax.scan(step, model.embed(tokens), stacked)
    return model.embed.attend(model.norm(x))


def questions(size: int, g=plain):
    """Names, functions to explain and what they are asked, for a text of that length."""
    return {
        "one token": (igjax.language.next_token(g), (5,)),
        "contrast": (igjax.language.contrast(g), (5, 6)),
        f"{POSITIONS} positions": (
            igjax.language.each_token(g),
            (places(size, POSITIONS),),
        ),
    }


def peer(twin, tokens, name: str, block: int):
    """Captum's attributions, and how many calls they stand for."""

    def one(place: int, score):
        forward = lambda ids: score(twin(ids)[:, place])
        method = LayerIntegratedGradients(forward, twin.embed)
        ids = torch.tensor(np.asarray(tokens))[None]
        options = {
            "n_steps": NODES,
            "method": "gausslegendre",
            "internal_batch_size": block,
        }
        found = method.attribute(ids, torch.zeros_like(ids), **options)
        return found.sum(-1)[0].detach().numpy()

    logp = lambda token: lambda row: row.log_softmax(-1)[:, token]
    if name == "one token":
        return lambda: one(-1, logp(5)), 1
    if name == "contrast":
        return lambda: one(-1, lambda row: row[:, 5] - row[:, 6]), 1
    asked = places(len(tokens), SAMPLE).tolist()
    each = lambda: [one(place - 1, logp(int(tokens[place]))) for place in asked]
    return each, POSITIONS / SAMPLE


def places(size: int, count: int):
    """Where the targets stand: some of all places but the first."""
    return jnp.linspace(1, size - 1, count).astype(jnp.int32)


def median(run, repeats: int) -> float:
    """The median time of a call after the first."""
    run()
    return statistics.median(timed(run) for _ in range(repeats))


def distance(ours, theirs) -> float:
    """How far two attributions are apart, relative to the first."""
    return float(np.abs(ours - theirs).sum() / np.abs(ours).sum())


def peak(f, rule, tokens, asked, model) -> str:
    """The memory of a call, in MiB, one node at a time."""
    attribute = igjax.token_attributions(f, rule=rule, chunk_size=1)
    known = igjax.cost(attribute, tokens, 0, *asked, model).peak_bytes
    return "" if known is None else f"{known / 2**20:.0f}"


def row(size: int, name: str, repeats: int, model, twin) -> list[str]:
    """One line of the table."""
    f, asked = questions(size)[name]
    tokens = jax.random.randint(jax.random.key(size), (size,), 1, WORDS)
    rule = igjax.rules.gauss_legendre(NODES)
    attribute = igjax.token_attributions(f, rule=rule)
    run = lambda: np.asarray(attribute(tokens, 0, *asked, model).values)
    spent = median(run, repeats)
    peaks = [peak(f, rule, tokens, asked, model)]
    f, asked = questions(size, sparing)[name]
    peaks.append(peak(f, rule, tokens, asked, model))
    theirs = []
    for block in BLOCKS:
        again, calls = peer(twin, tokens, name, block)
        theirs.append(calls * median(again, repeats))
    found, values = again(), run()
    if values.ndim == 2:
        found, values = found[0], values[0]
    return [
        str(size),
        name,
        f"{spent:.3g}",
        f"{min(theirs):.3g}",
        f"{min(theirs) / spent:.2f}",
        *peaks,
        f"{distance(values, found):.0e}",
    ]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(device() + "\n", flush=True)
    columns = (
        "tokens",
        "asked",
        "igjax, s",
        "Captum, s",
        "ratio",
        "MiB",
        "MiB, checkpoint",
        "apart",
    )
    print("| " + " | ".join(columns) + " |\n" + "| --- " * len(columns) + "|", flush=True)
    model = ours()
    twin = Twin(model).eval()
    for size in options.tokens:
        for name in questions(size):
            cells = row(size, name, options.repeats, model, twin)
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
