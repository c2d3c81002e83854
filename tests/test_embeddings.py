"""Models cut at their embeddings, and rows that are those of the tokens, or an error.

Each cut is compared with the part of the model that stands behind its embedding, written
by hand. What rows belong to is compared with which rows change when a token does.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

import igjax

RULE = igjax.rules.gauss_legendre(16)


def explain(f):
    return igjax.integrated_gradients(f, rule=RULE)


TOKENS = np.array([3, 1, 4, 1, 5])


class Tagger(nn.Module):
    """An embedding, tanh, a sum over the tokens, and one output."""

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(9, 4, name="words")(tokens)
        return nn.Dense(1, name="head")(jnp.tanh(x).sum(-2))[..., 0]


class Placed(nn.Module):
    """Words and places, added."""

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(9, 4, name="words")(tokens)
        x = x + nn.Embed(7, 4, name="places")(jnp.arange(tokens.shape[-1]))
        return jnp.tanh(x).sum()


def initialized(model):
    params = model.init(jax.random.key(4), TOKENS)
    return jax.tree.map(lambda a: a.astype("float64"), params)


@pytest.fixture(scope="module")
def tagger():
    model = Tagger()
    return model, initialized(model)


def tail(x, params):
    """What stands behind the embedding of `Tagger`, by hand."""
    head = params["params"]["head"]
    return (jnp.tanh(x).sum(0) @ head["kernel"] + head["bias"])[0]


def check_against_the_tail(g, params):
    embed, f = igjax.from_embedding(g)
    x = embed(TOKENS, params)
    table = np.asarray(params["params"]["words"]["embedding"])
    np.testing.assert_array_equal(x, table[TOKENS])
    result = explain(f)(x, 0.0, TOKENS, params)
    by_hand = explain(tail)(x, 0.0, params)
    np.testing.assert_allclose(result.values, by_hand.values, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(result.score, g(TOKENS, params), rtol=1e-12)
    # tanh of each feature by itself: its change times its weight.
    kernel = np.asarray(params["params"]["head"]["kernel"])[:, 0]
    np.testing.assert_allclose(result.values, np.tanh(x) * kernel[None], rtol=1e-9)
    per_token = result.values.sum(-1)
    assert per_token.shape == TOKENS.shape
    change = result.score - result.baseline_score
    np.testing.assert_allclose(per_token.sum(), change, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_a_model_cut_at_its_embedding_has_the_values_of_its_tail(tagger):
    model, params = tagger
    check_against_the_tail(lambda tokens, p: model.apply(p, tokens), params)


def test_a_batch_first_model_is_cut_just_the_same(tagger):
    model, params = tagger
    check_against_the_tail(lambda tokens, p: model.apply(p, tokens[None])[0], params)


def test_a_cut_model_goes_through_vmap(tagger):
    model, params = tagger
    embed, f = igjax.from_embedding(lambda tokens, p: model.apply(p, tokens))
    batch = np.stack([TOKENS, TOKENS[::-1], TOKENS + 3])
    x = jax.vmap(embed, (0, None))(batch, params)
    result = jax.vmap(explain(f), (0, None, 0, None))(x, 0.0, batch, params)
    for i, tokens in enumerate(batch):
        one = explain(f)(embed(tokens, params), 0.0, tokens, params)
        np.testing.assert_allclose(result.values[i], one.values, rtol=1e-12, atol=1e-15)


def test_several_embeddings_need_a_name_and_the_error_lists_them():
    model = Placed()
    params = initialized(model)
    g = lambda tokens, p: model.apply(p, tokens)
    embed, f = igjax.from_embedding(g)
    x = np.ones((5, 4))
    with pytest.raises(ValueError, match=r"several embeddings, \['words', 'places'\]"):
        f(x, TOKENS, params)
    with pytest.raises(ValueError, match=r"several embeddings, \['words', 'places'\]"):
        embed(TOKENS, params)


def test_a_name_chooses_one_of_several_embeddings():
    model = Placed()
    params = initialized(model)
    tables = {k: np.asarray(v["embedding"]) for k, v in params["params"].items()}
    g = lambda tokens, p: model.apply(p, tokens)
    embed, f = igjax.from_embedding(g, name="words")
    x = embed(TOKENS, params)
    np.testing.assert_array_equal(x, tables["words"][TOKENS])
    # The places stay where they are: at the baseline 0 only the words are gone.
    result = explain(f)(x, 0.0, TOKENS, params)
    places = tables["places"][:5]
    exact = np.tanh(x + places) - np.tanh(places)
    np.testing.assert_allclose(result.values, exact, rtol=1e-9, atol=1e-12)
    places_x = igjax.from_embedding(g, name="places").embed(TOKENS, params)
    np.testing.assert_array_equal(places_x, places)


def test_an_unknown_name_is_an_error_that_lists_what_there_is(tagger):
    model, params = tagger
    cut = igjax.from_embedding(lambda tokens, p: model.apply(p, tokens), name="wrods")
    with pytest.raises(ValueError, match=r"named 'wrods'; .*: \['words', 'head'\]"):
        cut.embed(TOKENS, params)
    with pytest.raises(ValueError, match=r"named 'wrods'; .*: \['words', 'head'\]"):
        cut.f(np.ones((5, 4)), TOKENS, params)


def test_a_model_without_an_embedding_is_an_error():
    cut = igjax.from_embedding(lambda tokens: jnp.sum(tokens))
    with pytest.raises(
        ValueError,
        match=r"g must call an Embed of Flax or Haiku, .*found none",
    ):
        cut.embed(TOKENS)
    with pytest.raises(
        ValueError,
        match=r"g must call an Embed of Flax or Haiku, .*found none",
    ):
        cut.f(np.ones((5, 4)), TOKENS)


# Every framework, and any array.

TABLE = np.linspace(-1, 1, 36).reshape(9, 4).astype("float32")


def linen_words():
    model = nn.Embed(9, 4)
    return lambda tokens: model.apply({"params": {"embedding": TABLE}}, tokens)


def nnx_words():
    model = nnx.Embed(9, 4, rngs=nnx.Rngs(0))
    model.embedding[...] = TABLE
    graph, state = nnx.split(model)
    return lambda tokens: nnx.merge(graph, state)(tokens)


def equinox_words():
    return jax.vmap(eqx.nn.Embedding(weight=jnp.asarray(TABLE)))


def keras_words():
    layers = pytest.importorskip("keras").layers
    layer = layers.Embedding(9, 4)
    layer.build()
    layer.set_weights([TABLE])
    return layer


def haiku_words():
    model = hk.transform(lambda tokens: hk.Embed(embedding_matrix=TABLE)(tokens))
    params = model.init(jax.random.key(0), TOKENS)
    return lambda tokens: model.apply(params, None, tokens)


def indexed_words():
    return lambda tokens: checkpoint_name(jnp.asarray(TABLE)[tokens], "words")


def one_hot_words():
    return lambda tokens: checkpoint_name(jax.nn.one_hot(tokens, 9) @ TABLE, "words")


WORDS = {
    "linen": linen_words,
    "nnx": nnx_words,
    "equinox": equinox_words,
    "keras": keras_words,
    "haiku": haiku_words,
    "indexed": indexed_words,
    "one_hot": one_hot_words,
}
NAMED = ("indexed", "one_hot")


@pytest.mark.parametrize("kind", WORDS)
def test_a_table_of_every_framework_is_found(kind):
    words, name = WORDS[kind](), "words" if kind in NAMED else None
    g = lambda tokens: jnp.tanh(words(tokens)).sum()
    embed, f = igjax.from_embedding(g, name)
    x = embed(TOKENS)
    np.testing.assert_array_equal(x, TABLE[TOKENS])
    np.testing.assert_allclose(f(2 * x, TOKENS), np.tanh(2 * x).sum(), rtol=1e-5)
    jitted = igjax.from_embedding(jax.jit(g), name)
    np.testing.assert_array_equal(jitted.embed(TOKENS), x)
    many = jax.jit(jax.vmap(embed))(np.stack([TOKENS, TOKENS[::-1]]))
    np.testing.assert_array_equal(many[1], TABLE[TOKENS[::-1]])


def shifted(tokens):
    return jnp.concatenate([jnp.zeros(1, tokens.dtype), tokens[:-1]])


@pytest.mark.parametrize("kind", WORDS)
def test_rows_of_other_tokens_are_refused(kind):
    words, name = WORDS[kind](), "words" if kind in NAMED else None
    moves = {
        "5 rows for 5 tokens: row 0 of no token, row 1 of token 0": lambda t: (
            jnp.concatenate([jnp.zeros(1, t.dtype), t[:-1]])
        ),
        "6 rows for 5 tokens: row 0 of no token": lambda t: jnp.pad(t, (1, 0)),
        "5 rows for 5 tokens: row 0 of token 4, row 1 of token 3": lambda t: t[::-1],
        "4 rows for 5 tokens: row 0 of token 1": lambda t: t[1:],
        "it cannot be told what tokens": jnp.sort,
    }
    for text, move in moves.items():
        cut = igjax.from_embedding(lambda t, move=move: words(move(t)).sum(), name)
        with pytest.raises(ValueError, match=text):
            cut.embed(TOKENS)
        with pytest.raises(ValueError, match=text):
            cut.f(np.ones((5, 4)), TOKENS)


MOVES = {
    "itself": lambda t: t,
    "padded": lambda t: jnp.pad(t, (2, 1)),
    "rolled": lambda t: jnp.roll(t, 2).at[1].set(7),
    "every second": lambda t: t[::2],
    "one": lambda t: t[3],
    "a table of them": lambda t: jnp.stack([t, t[::-1]]).T,
    "masked": lambda t: jnp.where(t > 2, t, 0),
    "flattened": lambda t: jnp.tile(t, 2).reshape(2, 5)[1:],
}


@pytest.mark.parametrize("move", MOVES)
def test_the_tokens_of_rows_are_those_that_change_them(move):
    """By changing one token after the other, of a table whose rows all differ."""
    from igjax._program import tagged

    f = lambda t: checkpoint_name(jnp.asarray(TABLE)[MOVES[move](t)], "rows")
    tokens = jnp.array([3, 4, 5, 6, 8])
    ((numbers,),) = tagged.sources("test", f, tokens, ["rows"], [True])
    changes = [f(tokens) != f(tokens.at[k].set(7)) for k in range(5)]
    expected = np.full(f(tokens).shape, -1)
    for k, changed in enumerate(changes):
        expected = np.where(changed, k, expected)
    np.testing.assert_array_equal(numbers, expected)


def test_tables_are_moved_together_by_name():
    class Bert(nnx.Module):
        def __init__(self, rngs):
            self.words = nnx.Embed(9, 4, rngs=rngs)
            self.places = nnx.Embed(7, 4, rngs=rngs)
            self.segments = nnx.Embed(2, 4, rngs=rngs)

        def __call__(self, tokens, segments):
            x = self.words(tokens) + self.places(jnp.arange(len(tokens)))
            return jnp.tanh(x + self.segments(segments)).sum()

    model, segments = Bert(nnx.Rngs(0)), jnp.array([0, 0, 1, 1, 1])
    names = {name: name for name in ("words", "places", "segments")}
    embed, f = igjax.from_embedding(lambda t, s, model: model(t, s), names)
    x = embed(TOKENS, segments, model)
    assert {name: a.shape for name, a in x.items()} == dict.fromkeys(names, (5, 4))
    result = explain(f)(x, igjax.baselines.zeros(x), TOKENS, segments, model)
    # Along the line all three grow alike: each has its share of the sum.
    whole = sum(x.values())
    for name in names:
        exact = x[name] * np.tanh(whole) / whole
        np.testing.assert_allclose(result.values[name], exact, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match=r"several embeddings, .*move them together"):
        igjax.from_embedding(lambda t, s, m: m(t, s)).embed(TOKENS, segments, model)


def test_categorical_columns_have_a_table_each():
    tables = [nnx.Embed(5, 3, rngs=nnx.Rngs(k)) for k in range(3)]
    g = lambda row, tables: sum(t(row[k]).sum() for k, t in enumerate(tables))
    embed, f = igjax.from_embedding(g, {"job": "0", "city": "1", "size": "2"})
    row = np.array([4, 0, 2])
    x = embed(row, tables)
    np.testing.assert_array_equal(x["city"], tables[1](row[1]))
    result = explain(f)(x, igjax.baselines.zeros(x), row, tables)
    np.testing.assert_allclose(result.values["size"], x["size"], rtol=1e-6)


def test_a_table_that_is_used_twice_is_a_tuple_also_if_it_is_tied():
    words = nnx.Embed(9, 4, rngs=nnx.Rngs(0))

    def g(tokens, words):
        source, target = words(tokens["source"]), words(tokens["target"])
        return words.attend(jnp.tanh(source.sum(0) + target.sum(0)))[2]

    tokens = {"source": TOKENS, "target": TOKENS[:2]}
    embed, f = igjax.from_embedding(g)
    x = embed(tokens, words)
    assert [a.shape for a in x] == [(5, 4), (2, 4)]
    table = words.embedding[...]
    by_hand = lambda x: (table @ jnp.tanh(x[0].sum(0) + x[1].sum(0)))[2]
    got = explain(f)(x, igjax.baselines.zeros(x), tokens, words)
    want = explain(by_hand)(x, igjax.baselines.zeros(x))
    for a, b in zip(got.values, want.values, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_vectors_of_another_shape_are_refused(tagger):
    model, params = tagger
    _, f = igjax.from_embedding(lambda tokens, p: model.apply(p, tokens))
    with pytest.raises(ValueError, match=r"x must have the shape that embed returns"):
        f(np.ones((4, 5)), TOKENS, params)


@pytest.mark.slow
def test_nothing_leaks_where_a_cut_model_is_explained_inside_a_trace():
    model = nnx.Sequential(
        nnx.Embed(9, 4, rngs=nnx.Rngs(0)), nnx.Linear(4, 1, rngs=nnx.Rngs(0))
    )
    graph, state = nnx.split(model)
    g = lambda tokens, state: jnp.tanh(nnx.merge(graph, state)(tokens)).sum()
    embed, f = igjax.from_embedding(g)
    x = embed(TOKENS, state)
    head = lambda x, state: f(x, TOKENS, state)
    with jax.checking_leaks():
        attribute = igjax.layer_conductance(head, "layers/1", rule=RULE)
        result = attribute(x, jnp.zeros_like(x), state)
    np.testing.assert_allclose(result.delta, 0, atol=1e-5)
