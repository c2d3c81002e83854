"""Language models: what is asked of them, and what their tokens get."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

import igjax
from igjax import language
from igjax._program import blocks
from igjax.models import CausalTransformer, reviewer

TOKENS = jnp.array([3, 1, 4, 1, 5, 9], jnp.int32)
RULE = igjax.rules.gauss_legendre(8)


@pytest.fixture(scope="module")
def model():
    return CausalTransformer(11, width=8, heads=2, layers=1, rngs=nnx.Rngs(0))


def g(tokens, model):
    return model(tokens)


def by_hand(f, model, question, baseline=0, tokens=TOKENS):
    """The values of tokens from those of their embeddings."""
    embed, at = igjax.from_embedding(f)
    x = embed(tokens, question, model)
    start = embed(jnp.full_like(tokens, baseline), question, model)
    attribute = igjax.integrated_gradients(at, rule=RULE)
    return attribute(x, start, tokens, question, model).values.sum(-1)


# What is asked.


def test_log_probabilities_are_those_of_the_logits(model):
    logp = jax.nn.log_softmax(model(TOKENS))
    f = language.next_token(g)
    assert f(TOKENS, 7, model) == logp[-1, 7]
    assert f(TOKENS, (2, 7), model) == logp[2, 7]
    each = language.each_token(g)(TOKENS, jnp.array([1, 5]), model)
    np.testing.assert_allclose(each, [logp[0, 1], logp[4, 9]], rtol=1e-6)
    whole = logp[jnp.arange(5), TOKENS[1:]]
    np.testing.assert_allclose(
        language.each_token(g)(TOKENS, None, model), whole, rtol=1e-6
    )
    np.testing.assert_allclose(
        language.continuation(g)(TOKENS, jnp.array([4, -1]), model),
        whole[3:].sum(),
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        language.loss(g)(TOKENS, None, model), -whole.mean(), rtol=1e-6
    )


def test_a_contrast_is_that_of_logits(model):
    f = language.contrast(g)
    logits = model(TOKENS)
    assert f(TOKENS, 2, 3, model) == logits[-1, 2] - logits[-1, 3]
    assert f(TOKENS, (1, 2), (1, 3), model) == logits[1, 2] - logits[1, 3]


def test_half_precision_is_read_in_float32(model):
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), nnx.state(model))
    model = nnx.merge(nnx.graphdef(model), half)
    assert language.next_token(g)(TOKENS, 2, model).dtype == jnp.float32
    assert language.contrast(g)(TOKENS, 2, 3, model).dtype == jnp.float32


# What tokens get.


@pytest.mark.parametrize("baseline", [0, pytest.param(7, marks=pytest.mark.slow)])
def test_values_are_the_sums_over_the_embeddings(model, baseline):
    f = language.next_token(g)
    result = igjax.token_attributions(f, rule=RULE)(TOKENS, baseline, 2, model)
    np.testing.assert_allclose(
        result.values, by_hand(f, model, 2, baseline), rtol=1e-4, atol=1e-6
    )


def test_a_table_has_a_row_for_each_text_that_ends_there(model):
    places = jnp.array([2, 5])
    table = igjax.token_attributions(language.each_token(g))(TOKENS, 0, places, model)
    assert table.values.shape == (2, 6)
    assert table.converged.all()
    exact = igjax.rules.gauss_legendre(60)
    one = igjax.token_attributions(language.next_token(g), rule=exact)
    for row, place in zip(table.values, [2, 5], strict=True):
        alone = one(TOKENS[:place], 0, TOKENS[place], model)
        off = np.abs(row[:place] - alone.values).sum()
        assert off < 0.01 * np.abs(alone.values).sum()
        assert not row[place:].any()  # exactly


@pytest.mark.slow
def test_a_whole_text_is_the_sum_of_its_tokens(model):
    attribute = lambda f: igjax.token_attributions(f, rule=RULE)(TOKENS, 0, None, model)
    table = attribute(language.each_token(g))
    whole, loss = attribute(language.continuation(g)), attribute(language.loss(g))
    np.testing.assert_allclose(whole.values, table.values.sum(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(loss.values, -table.values.mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_baselines_are_tokens_or_embeddings(model):
    attribute = igjax.token_attributions(language.next_token(g), rule=RULE)
    values = lambda baseline: attribute(TOKENS, baseline, 2, model).values
    table = model.embed.embedding[...]
    for same in (jnp.full(6, 7), table[7], jnp.tile(table[7], (6, 1))):
        np.testing.assert_allclose(values(7), values(same), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(values(0.0), values(jnp.zeros(8)), rtol=1e-5, atol=1e-6)
    kept = values(TOKENS.at[2].set(0))  # only what differs gets anything
    assert np.flatnonzero(kept).tolist() == [2]


def test_padding_on_the_right_changes_nothing(model):
    attribute = igjax.token_attributions(language.next_token(g), rule=RULE)
    explain = jax.jit(jax.vmap(attribute, in_axes=(0, None, (0, 0), None)))
    texts = jnp.stack([TOKENS, TOKENS.at[4:].set(0)])
    results = explain(texts, 0, (jnp.array([5, 3]), jnp.array([2, 2])), model)
    alone = attribute(TOKENS[:4], 0, 2, model)
    np.testing.assert_allclose(results.values[1, :4], alone.values, rtol=1e-4, atol=1e-6)
    assert not results.values[1, 4:].any()


@pytest.mark.slow
def test_half_precision_says_what_it_knows(model):
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), nnx.state(model))
    half = nnx.merge(nnx.graphdef(model), half)
    f = language.next_token(g)
    exact = igjax.rules.gauss_legendre(200)
    exact = igjax.token_attributions(f, rule=exact)(TOKENS, 0, 2, model).values
    result = igjax.token_attributions(f)(TOKENS, 0, 2, half)
    assert igjax.Status(int(result.status)).name in ("TOLERANCE_MET", "ROUNDING")
    assert np.abs(result.values - exact).sum() < 0.05 * np.abs(exact).sum()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 2])
def test_the_rounding_of_what_scales_move_is_found_soon(seed):
    """Scales are float32, embeddings are not: what is rounded are the points."""
    model = CausalTransformer(
        11, width=16, heads=2, layers=2, dtype=jnp.bfloat16, rngs=nnx.Rngs(seed)
    )
    result = igjax.token_attributions(language.next_token(g))(TOKENS, 0, 2, model)
    assert igjax.Status(int(result.status)).name in ("TOLERANCE_MET", "ROUNDING")
    assert result.evaluations < 300


@pytest.mark.slow
def test_it_is_compiled_once(model):
    traced = []

    def g(tokens, model):
        traced.append(1)
        return model(tokens)

    f = language.next_token(g)
    for target in range(4):  # the transform is built anew
        igjax.token_attributions(f, rule=RULE)(TOKENS, 0, target, model)
    first = len(traced)
    attribute = igjax.token_attributions(f, rule=RULE)
    attribute(TOKENS, 0, 1, model)
    again = len(traced)
    for target in range(4):
        attribute(TOKENS + 1, 3, target, model)
    assert len(traced) == again
    assert again - first <= first  # at the most once for a transform


@pytest.mark.slow
def test_other_methods_go_by_tokens(model):
    f = language.next_token(g)
    attribute = igjax.token_attributions(f, method=igjax.perturbation.ablation)
    result = attribute(TOKENS, 0, 2, model)
    hidden = [f(TOKENS.at[i].set(0), 2, model) for i in range(6)]
    np.testing.assert_allclose(
        result.values, f(TOKENS, 2, model) - jnp.stack(hidden), rtol=1e-4, atol=1e-5
    )


def test_models_of_linen_with_two_tables():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            embed = nn.Embed(11, 8, name="words")
            places = nn.Embed(6, 8, name="places")(jnp.arange(tokens.shape[-1]))
            x = jnp.tanh(jnp.cumsum(embed(tokens) + places, axis=-2))
            return embed.attend(nn.Dense(8)(x))

    model = Model()
    params = model.init(jax.random.key(0), TOKENS)
    f = language.each_token(lambda tokens, params: model.apply(params, tokens))
    attribute = igjax.token_attributions(f, name="words")
    table = attribute(TOKENS, 0, None, params)
    assert table.converged.all()
    assert not np.triu(table.values, 1).any()


@pytest.mark.slow
def test_outputs_are_pulled_back_in_blocks(model, monkeypatch):
    f = language.each_token(g)
    tokens = jnp.tile(TOKENS, 4)
    run = lambda: igjax.token_attributions(f, rule=RULE)(tokens, 0, None, model)
    whole = run()
    monkeypatch.setattr(blocks, "SHARE", 0.0)
    f = language.each_token(lambda *given: g(*given))
    np.testing.assert_allclose(run().values, whole.values, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_outputs(monkeypatch):
    monkeypatch.setattr(blocks, "SHARE", 0.0)
    weights = jnp.ones((64, 64))
    table = jnp.ones((9, 64))

    def g(tokens, table, weights):
        x = checkpoint_name(table[tokens], "words")
        for _ in range(8):
            x = jnp.tanh(jnp.cumsum(x @ weights, 0))
        return x[:, :9]

    attribute = igjax.token_attributions(
        language.each_token(g), name="words", rule=RULE, chunk_size=1
    )
    tokens = jnp.ones(128, jnp.int32)

    def peak(n) -> int:
        places = jnp.arange(1, 1 + n)
        return igjax.cost(attribute, tokens, 0, places, table, weights).peak_bytes or 0

    assert 0 < peak(120) < 2 * peak(16)  # the sums themselves grow


# Words.


def test_words_are_read_off_the_tokens():
    assert igjax.word_groups(["[CLS]", "un", "##able", "to", "[SEP]"]).tolist() == [
        *(0, 1, 1, 2, 3)
    ]
    assert igjax.word_groups(["The", "Ġfil", "m", "Ġis"]).tolist() == [0, 1, 1, 2]
    assert igjax.word_groups(["<s>", "▁a", "b", "▁c"]).tolist() == [0, 1, 1, 2]
    assert igjax.word_groups(["no", "marks"]).tolist() == [0, 1]


def test_words_of_a_table_stay_complete(model):
    attribute = igjax.token_attributions(language.each_token(g), rule=RULE)
    table = attribute(TOKENS, 0, jnp.array([3, 5]), model)
    groups = igjax.word_groups(["▁a", "b", "▁c", "▁d", "e", "f"])
    words = igjax.aggregate(table, groups, 3)
    np.testing.assert_allclose(words.values.sum(1), table.values.sum(1), rtol=1e-5)


@pytest.mark.parametrize(
    ("tokens", "error", "said"),
    [
        ("word", TypeError, "must be strings"),
        ([1, 2], TypeError, "word ids"),
        ([], ValueError, "at least one"),
    ],
)
def test_words_refuse(tokens, error, said):
    with pytest.raises(error, match=f"(?i){said}"):
        igjax.word_groups(tokens)


# Errors.


@pytest.mark.parametrize(
    ("bridge", "question", "error", "said"),
    [
        (language.next_token, (11,), ValueError, r"label must be in \[-11, 11\), got 11"),
        (language.next_token, ((6, 2),), ValueError, r"place of \(place, id\)"),
        (language.next_token, (1.5,), TypeError, "must be an integer"),
        (language.contrast, (1, 12), ValueError, r"got 12"),
        (language.each_token, (jnp.array([0]),), ValueError, r"in \[1, 6\)"),
        (language.each_token, (jnp.array([6]),), ValueError, r"got 6"),
        (language.loss, (3,), TypeError, r"shape \(n,\)"),
        (language.continuation, (jnp.array([1.0]),), TypeError, "must be integers"),
        (language.continuation, (jnp.zeros(0, int),), ValueError, "got none"),
    ],
)
def test_questions_that_do_not_fit(model, bridge, question, error, said):
    with pytest.raises(error, match=said):
        bridge(g)(TOKENS, *question, model)
    attribute = igjax.token_attributions(bridge(g), rule=RULE)
    with pytest.raises(error, match=said):
        attribute(TOKENS, 0, *question, model)


def test_what_is_known_later_is_told_by_the_result(model):
    attribute = jax.jit(igjax.token_attributions(language.next_token(g), rule=RULE))
    assert attribute(TOKENS, 0, 11, model).status == igjax.Status.NON_FINITE
    attribute = jax.jit(igjax.token_attributions(language.loss(g), rule=RULE))
    assert attribute(TOKENS, 0, jnp.array([0, 1]), model).status == igjax.Status.NON_FINITE


@pytest.mark.parametrize(
    ("g", "error", "said"),
    [
        (lambda t, m: (m(t), {}), TypeError, "keys and values for the next call"),
        (lambda t, m: m(t)[None], ValueError, "igjax.single"),
        (lambda t, m: m(t)[-1], ValueError, "igjax.select"),
        (lambda t, m: m(t)[-1:], ValueError, "Run the whole text at once"),
    ],
)
def test_outputs_that_do_not_fit(model, g, error, said):
    with pytest.raises(error, match=said):
        language.next_token(g)(TOKENS, 2, model)


def test_a_batch_is_refused(model):
    with pytest.raises(ValueError, match=r"jax\.vmap"):
        language.next_token(g)(TOKENS[None], 2, model)


def test_caches_are_refused():
    attention = nn.MultiHeadDotProductAttention(2, decode=True)
    variables = attention.init(jax.random.key(0), jnp.ones((6, 8)))
    f = language.next_token(lambda tokens, variables: jnp.ones((6, 3)))
    with pytest.raises(ValueError, match=r"'cached_\w+' in args\[0\].*whole text at once"):
        f(TOKENS, 1, variables)
    attention = nnx.MultiHeadAttention(2, 8, rngs=nnx.Rngs(0), decode=True)
    attention.init_cache((1, 6, 8))
    with pytest.raises(ValueError, match=r"cached_\w+"):
        f(TOKENS, 1, attention)


@pytest.mark.parametrize(
    ("tokens", "baseline", "error", "said"),
    [
        (jnp.ones(6), 0, TypeError, "tokens must be integers"),
        (jnp.zeros(0, int), 0, TypeError, "tokens must be integers"),
        (TOKENS, jnp.zeros(5, int), ValueError, r"fits tokens, of shape \(6,\)"),
        (TOKENS, jnp.zeros((6, 3)), ValueError, r"embeddings, of shape \(6, 8\)"),
    ],
)
def test_tokens_and_baselines_that_do_not_fit(model, tokens, baseline, error, said):
    attribute = igjax.token_attributions(language.next_token(g), rule=RULE)
    with pytest.raises(error, match=said):
        attribute(tokens, baseline, 2, model)


# The model that ships.


@pytest.mark.slow
def test_the_reviewer_is_explained_by_its_words():
    model, vocabulary = reviewer.load()
    tokens = jnp.asarray(reviewer.encode("one of the worst films i have ever", vocabulary))
    seen = vocabulary.index("seen")
    attribute = igjax.token_attributions(language.next_token(g))
    result = attribute(tokens, 1, seen, model)
    assert result.converged
    assert result.score > jnp.log(0.2)
    strongest = vocabulary[int(tokens[int(result.values.argmax())])]
    assert strongest in ("have", "ever", "i")
