"""The causal transformer, and the language model of reviews that ships."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from igjax.models import CausalTransformer, data, reviewer, train_reviewer


@pytest.fixture(scope="module")
def model():
    return CausalTransformer(11, width=16, heads=2, layers=2, rngs=nnx.Rngs(0))


TOKENS = jnp.array([3, 1, 4, 1, 5, 9], jnp.int32)


def test_a_place_depends_on_no_later_token(model):
    changed = model(TOKENS.at[4].set(2))
    np.testing.assert_allclose(changed[:4], model(TOKENS)[:4], rtol=1e-5, atol=1e-5)
    assert not np.allclose(changed[4:], model(TOKENS)[4:], atol=1e-3)


def test_a_batch_is_its_texts(model):
    batch = jnp.stack([TOKENS, TOKENS[::-1]])
    alone = jnp.stack([model(text) for text in batch])
    np.testing.assert_allclose(model(batch), alone, rtol=1e-5, atol=1e-5)


def test_places_are_told_by_their_distance():
    """Rotations tell places apart: with one token everywhere, order would be lost else."""
    one = CausalTransformer(5, width=8, heads=2, layers=1, rngs=nnx.Rngs(1))
    last = lambda tokens: one(jnp.array(tokens))[-1]
    assert not np.allclose(last([1, 2, 3]), last([2, 1, 3]), atol=1e-4)


def test_widths_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"multiple of twice heads, 2 \* 4, got 20"):
        CausalTransformer(5, width=20, heads=4, rngs=nnx.Rngs(0))


def test_the_shipped_model_is_float32_and_its_vocabulary_in_order():
    model, vocabulary = reviewer.load()
    assert {a.dtype.name for a in jax.tree.leaves(nnx.state(model))} == {"float32"}
    assert vocabulary[:2] == ("<pad>", "<unk>")
    assert len(set(vocabulary)) == len(vocabulary) == len(model.embed.embedding[...])


@pytest.mark.parametrize(
    ("text", "following"),
    [
        ("one of the", "best"),
        ("this is one of the worst films i have ever", "seen"),
        ("a waste of", "time"),
    ],
)
def test_the_shipped_model_has_read_reviews(text, following):
    model, vocabulary = reviewer.load()
    logits = model(jnp.asarray(reviewer.encode(text, vocabulary)))[-1]
    assert vocabulary[int(logits.argmax())] == following


def test_a_saved_model_comes_back(tmp_path):
    small = train_reviewer.train(jax.random.key(0), ["so very so " * 40], steps=0)
    reviewer.save(tmp_path / "model.npz", small, 9.0)
    again = reviewer.load(tmp_path / "model.npz")
    assert again.vocabulary == small.vocabulary
    assert reviewer.held_out_perplexity(tmp_path / "model.npz") == 9.0
    tokens = jnp.array([2, 3, 2])
    np.testing.assert_array_equal(again.model(tokens), small.model(tokens))


@pytest.mark.slow
def test_training_learns_what_follows():
    texts = ["one two three four five six seven eight nine ten " * 20]
    found = train_reviewer.train(jax.random.key(0), texts, steps=60)
    assert train_reviewer.perplexity(found, texts) < 2


@pytest.mark.slow
def test_the_recorded_perplexity_is_that_of_held_out_reviews():
    texts = data.reviews().held_out_texts[:2000]
    found = train_reviewer.perplexity(reviewer.load(), texts)
    assert found == pytest.approx(reviewer.held_out_perplexity(), rel=1e-3)
