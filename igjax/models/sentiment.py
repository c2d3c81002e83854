"""A trained sentiment LSTM that ships with the package: the running example.

It has one logit, positive for praise, and was trained on reviews with random words
replaced by the unknown word, some reviews entirely. So ``<unk>`` is a word it has seen
everywhere, and a sentence of nothing else scores near zero: the natural baseline.

Only the weights (float16 on disk) and the words of the vocabulary ship, never a text.
``python -m igjax.models.train_sentiment`` makes the file anew.
"""

import functools
import os
import re
import unicodedata
from typing import Any, NamedTuple

import flax.traverse_util
import jax.numpy as jnp
import numpy as np

from igjax.models import _shipped
from igjax.models.lstm import LSTMClassifier

__all__ = [
    "PADDING",
    "UNKNOWN",
    "Sentiment",
    "Token",
    "held_out_accuracy",
    "load",
    "save",
    "tokenize",
]

PADDING = 0
UNKNOWN = 1

_FILE = "sentiment.npz"
_ACCURACY = "held_out_accuracy"

# Markup first, so that its name is no word. A letter takes its combining marks along,
# and an apostrophe joins what stands on both its sides.
_LETTER = r"[^\W_][\u0300-\u036f]*"
_PATTERN = re.compile(
    rf"</?[a-zA-Z]+\s*/?>|(?P<token>(?:{_LETTER})+(?:['\u2019](?:{_LETTER})+)*|[!?])"
)


class Sentiment(NamedTuple):
    """The model, its variables for ``model.apply``, and its words by token id.

    Use ``model.apply(params, tokens)[..., 0]``: the logit that a text is praise.

    Example:
        >>> load().vocabulary[:2]
        ('<pad>', '<unk>')
    """

    model: LSTMClassifier
    params: Any
    vocabulary: tuple[str, ...]


class Token(NamedTuple):
    """A word: as written, as looked up, where it stands, and its id.

    Use ``start`` and ``end`` to color the text that was explained.

    Example:
        >>> Token("Don\u2019t", "don't", 0, 5, 1).word
        "don't"
    """

    text: str
    word: str
    start: int
    end: int
    id: int


def tokenize(text: str, vocabulary: tuple[str, ...]) -> list[Token]:
    """Cut a text into words, ``!`` and ``?``, and look them up.

    Use it before ``model.apply``; other punctuation and simple markup are left out.

    Args:
        text: Any string.
        vocabulary: Words by id, as in ``Sentiment.vocabulary``.

    Returns:
        The tokens in order; ``text[token.start:token.end] == token.text``, and the id
        of a word that is not in the vocabulary is 1. An empty text has no tokens.

    Example:
        >>> for token in tokenize("Don't<br />GO!", ("<pad>", "<unk>", "don't", "!")):
        ...     print(token)
        Token(text="Don't", word="don't", start=0, end=5, id=2)
        Token(text='GO', word='go', start=11, end=13, id=1)
        Token(text='!', word='!', start=13, end=14, id=3)
    """
    ids = _ids(vocabulary)
    return [
        Token(match["token"], word := _normal(match["token"]), *match.span(), ids(word))
        for match in _PATTERN.finditer(text)
        if match["token"] is not None
    ]


@functools.lru_cache(maxsize=4)
def _ids(vocabulary: tuple[str, ...]) -> Any:
    table = {word: id for id, word in enumerate(vocabulary)}
    return lambda word: table.get(word, UNKNOWN)


def _normal(text: str) -> str:
    # Folding can undo the normal form (and does for some letters), hence twice.
    folded = unicodedata.normalize("NFKC", text).casefold()
    return unicodedata.normalize("NFKC", folded).replace("\u2019", "'")


def load(path: str | os.PathLike[str] | None = None) -> Sentiment:
    """Load the sentiment LSTM.

    Use it for examples, tests and benchmarks on a real model of text.

    Args:
        path: A file written by ``save``. Default: the one that ships with igjax.

    Returns:
        The model, its variables in float32, and its vocabulary.

    Example:
        >>> model, params, vocabulary = load()
        >>> praise = [token.id for token in tokenize("A wonderful film!", vocabulary)]
        >>> bool(model.apply(params, jnp.array(praise, jnp.int32))[0] > 0)
        True
    """
    arrays = _shipped.read(_FILE, path)
    vocabulary = _shipped.unpacked(arrays.pop(_shipped.WORDS))
    del arrays[_ACCURACY]
    flat = {name: jnp.asarray(value, jnp.float32) for name, value in arrays.items()}
    params = flax.traverse_util.unflatten_dict(flat, sep="/")
    embedding = params["params"]["embed"]["embedding"].shape[1]
    hidden, outputs = params["params"]["head"]["Dense_0"]["kernel"].shape
    model = LSTMClassifier(len(vocabulary), embedding, hidden, outputs)
    return Sentiment(model, params, vocabulary)


def held_out_accuracy(path: str | os.PathLike[str] | None = None) -> float:
    """Read the accuracy on held-out reviews that was measured after training.

    Use it to know what to expect of the model; a slow test measures it anew.

    Args:
        path: A file written by ``save``. Default: the one that ships with igjax.

    Returns:
        A fraction between 0 and 1.

    Example:
        >>> held_out_accuracy() > 0.85
        True
    """
    return float(_shipped.read(_FILE, path)[_ACCURACY])


def save(path: str | os.PathLike[str], sentiment: Sentiment, accuracy: float) -> None:
    """Write a sentiment model: weights in float16, words, held-out accuracy.

    Use it after training. The file appears whole or not at all.

    Args:
        path: Where to write; a file there is replaced.
        sentiment: The model. Its words must not contain line breaks.
        accuracy: Measured on held-out reviews, with the weights rounded to float16.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(f"{folder}/copy.npz", load(), 0.5)
        ...     held_out_accuracy(f"{folder}/copy.npz")
        0.5
    """
    flat = flax.traverse_util.flatten_dict(sentiment.params, sep="/")
    arrays: dict[str, Any] = {
        name: np.asarray(value, np.float16) for name, value in flat.items()
    }
    words = _shipped.packed(sentiment.vocabulary)
    arrays |= {_shipped.WORDS: words, _ACCURACY: np.float32(accuracy)}
    _shipped.write(path, arrays)
