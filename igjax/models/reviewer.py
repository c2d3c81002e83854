"""A small language model of film reviews that ships with the package.

It predicts the next word of a review, and was trained with random words replaced by the
unknown word: a text of nothing else is one that it has seen, and the natural baseline.

Only the weights (float16 on disk) and the words of the vocabulary ship, never a text.
``python -m igjax.models.train_reviewer`` makes the file anew.
"""

import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from igjax.models import _shipped
from igjax.models.causal import CausalTransformer
from igjax.models.sentiment import tokenize

__all__ = ["Reviewer", "encode", "held_out_perplexity", "load", "save"]

_FILE = "reviewer.npz"
_SURPRISE = "held_out_perplexity"
_HEADS = "heads"


class Reviewer(NamedTuple):
    """The model, and its words by token id.

    Use ``model(tokens)``: logits of the next word at every place.

    Example:
        >>> load().vocabulary[:2]
        ('<pad>', '<unk>')
    """

    model: CausalTransformer
    vocabulary: tuple[str, ...]


def encode(text: str, vocabulary: tuple[str, ...]) -> np.ndarray:
    """Cut a text into words and look them up, after a mark of the start.

    Use it before the model; ``<pad>`` is the mark, so that the first word has one before.

    Args:
        text: Any string.
        vocabulary: Words by id, as in ``Reviewer.vocabulary``.

    Returns:
        Token ids int32 of shape ``(1 + words,)``.

    Example:
        >>> encode("A film!", ("<pad>", "<unk>", "film", "!"))
        array([0, 1, 2, 3], dtype=int32)
    """
    return np.array([0, *(token.id for token in tokenize(text, vocabulary))], np.int32)


def load(path: str | os.PathLike[str] | None = None) -> Reviewer:
    """Load the language model.

    Use it for examples, tests and benchmarks on a real model of text.

    Args:
        path: A file written by ``save``. Default: the one that ships with igjax.

    Returns:
        The model in float32, and its vocabulary.

    Example:
        >>> model, vocabulary = load()
        >>> tokens = encode("one of the", vocabulary)
        >>> vocabulary[int(model(jnp.asarray(tokens))[-1].argmax())]
        'best'
    """
    arrays = _shipped.read(_FILE, path)
    vocabulary = _shipped.unpacked(arrays.pop(_shipped.WORDS))
    heads = int(arrays.pop(_HEADS))
    del arrays[_SURPRISE]
    leaves = [jnp.asarray(a, jnp.float32) for a in arrays.values()]
    layers = sum("'gate'" in name for name in arrays)
    width = arrays["['embed']['embedding']"].shape[1]
    build = lambda: CausalTransformer(
        len(vocabulary), width=width, heads=heads, layers=layers, rngs=nnx.Rngs(0)
    )
    graph, state = nnx.split(nnx.eval_shape(build))
    filled = jax.tree.structure(state).unflatten(leaves)
    return Reviewer(nnx.merge(graph, filled), vocabulary)


def held_out_perplexity(path: str | os.PathLike[str] | None = None) -> float:
    """Read the perplexity of held-out reviews that was measured after training.

    Use it to know what to expect of the model; a slow test measures it anew.

    Args:
        path: A file written by ``save``. Default: the one that ships with igjax.

    Returns:
        At least 1; a model that knows nothing has that of its vocabulary, thousands.

    Example:
        >>> held_out_perplexity() < 250
        True
    """
    return float(_shipped.read(_FILE, path)[_SURPRISE])


def save(path: str | os.PathLike[str], reviewer: Reviewer, perplexity: float) -> None:
    """Write a language model: weights in float16, words, held-out perplexity.

    Use it after training. The file appears whole or not at all.

    Args:
        path: Where to write; a file there is replaced.
        reviewer: The model. Its words must not contain line breaks.
        perplexity: Measured on held-out reviews, with the weights rounded to float16.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(f"{folder}/copy.npz", load(), 100.0)
        ...     held_out_perplexity(f"{folder}/copy.npz")
        100.0
    """
    state = nnx.to_pure_dict(nnx.state(reviewer.model))
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    arrays: dict[str, Any] = {
        jax.tree_util.keystr(path): np.asarray(leaf, np.float16) for path, leaf in leaves
    }
    words = _shipped.packed(reviewer.vocabulary)
    heads = np.int32(reviewer.model.blocks[0].heads)
    told = {_shipped.WORDS: words, _HEADS: heads, _SURPRISE: np.float32(perplexity)}
    _shipped.write(path, arrays | told)
