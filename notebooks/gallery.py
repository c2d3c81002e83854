"""Every kind of picture, of real models and data: `make gallery` writes gallery/*.png.

Digits, a table and film reviews come with packages; the photo and the speech are those of
`benchmarks/_pretrained`, installed by `make pretrained`. Nothing is downloaded here.
"""

import functools
import sys
import time
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import igjax
from igjax import models, plots

TEXT = "Not a great film, but the actors are wonderful and it is never boring."
SHORT = "Not a bad film at all!"


# The models.


def trained(model, data, epochs):
    """The variables of a classifier, trained on the training rows."""
    key = jax.random.key(0)
    params = model.init(key, data.inputs[:1])
    loss = lambda params, x, y: models.training.cross_entropy(model.apply(params, x), y)
    rows = models.training.batches(
        key, data.inputs, data.labels, batch_size=64, epochs=epochs
    )
    return models.training.fit(loss, params, rows, optax.adam(3e-3)).params


@functools.cache
def digit():
    """The logit of the predicted class, and the arguments for a held-out digit."""
    data = models.data.digits()
    model = models.CNN()
    params = trained(model, data, 8)
    f = lambda x, label, params: model.apply(params, x)[label]
    image = jnp.asarray(data.held_out_inputs[3])
    return f, image, model.apply(params, image).argmax(), params


@functools.cache
def row():
    """The logit that a tumor is benign, a held-out row, the names of its features."""
    data = models.data.breast_cancer()
    model = models.MLP((16, 16, 2), nn.gelu)
    params = trained(model, data, 20)
    f = lambda x, params: model.apply(params, x)[1] - model.apply(params, x)[0]
    return f, jnp.asarray(data.held_out_inputs[8]), params, data.feature_names


@functools.cache
def sentence(text):
    """The sentiment of embedded words, the words, embedded text and baseline, arguments."""
    model, params, vocabulary = models.sentiment.load()
    tokens = models.sentiment.tokenize(text, vocabulary)
    ids = jnp.array([token.id for token in tokens])
    embed, f = igjax.from_embedding(lambda ids, params: model.apply(params, ids)[..., 0])
    unknown = embed(jnp.full_like(ids, models.sentiment.UNKNOWN), params)
    words = [token.text for token in tokens]
    return f, words, embed(ids, params), unknown, (ids, params)


@functools.cache
def photo():
    """The logit of the predicted class of a photo, photo, black, arguments."""
    from _pretrained import efficientnet

    problem = efficientnet.problem(1)
    args = (problem.args[0][0], jax.tree.map(jnp.asarray, problem.params))
    return problem.f, problem.x[0], problem.baseline, args


@functools.cache
def speech():
    """The logit that a recording ends in speech, one second of it."""
    from _pretrained import silero

    problem = silero.problem(count=4, frames=32)
    return problem.f, problem.x[1], problem.params


# The pictures.


def image_digit():
    """A digit: its pixels, against a black image."""
    f, x, *args = digit()
    result = igjax.integrated_gradients(f)(x, 0.0, *args)
    return plots.images.heat_map(result)


def image_positive():
    """The part of a digit that speaks for the class."""
    f, x, *args = digit()
    return plots.images.positive(igjax.integrated_gradients(f)(x, 0.0, *args))


def image_four_panels():
    """A photo, 224 by 224: 64 gradients."""
    f, x, baseline, args = photo()
    rule = igjax.rules.midpoint(64)
    result = igjax.integrated_gradients(f, rule=rule, chunk_size=8)(x, baseline, *args)
    picture = (x * 128 + 127) / 255
    return plots.images.four_panels(result, picture, limit=0.995)[0]


def image_blended():
    """The patches of the photo, 14 by 14: how far each is faded in."""
    f, x, black, args = photo()

    def faded(share, *args):
        mask = jnp.kron(share, jnp.ones((16, 16)))[..., None]
        return f(black + mask * (x - black), *args)

    attribute = igjax.integrated_gradients(
        faded, rule=igjax.rules.midpoint(128), chunk_size=8
    )
    return plots.images.blended(attribute(jnp.ones((14, 14)), 0.0, *args), x)


def image_overlay():
    """A digit under its values, and a bar that says where the scale is cut."""
    f, x, *args = digit()
    result = igjax.integrated_gradients(f)(x, 0.0, *args)
    return plots.images.overlay(result, x, limit=0.95)


def image_side_by_side():
    """Three rules for one digit: a fixed one of 4 nodes is not to be trusted."""
    f, x, *args = digit()
    few = igjax.integrated_gradients(f, rule=igjax.rules.midpoint(4))
    results = {
        "adaptive": igjax.integrated_gradients(f)(x, 0.0, *args),
        "midpoint, 4 nodes": few(x, 0.0, *args),
        "gray baseline": igjax.integrated_gradients(f)(x, 0.5, *args),
    }
    return plots.images.side_by_side(results)[0]


def table_bars():
    """A row of a table, against the mean."""
    f, x, params, names = row()
    return plots.features.bars(igjax.integrated_gradients(f)(x, 0.0, params), names)


def table_waterfall():
    """The first ten features of the same table, from score to score."""
    f, x, params, names = row()
    few = lambda part, params: f(jnp.zeros_like(x).at[:10].set(part), params)
    result = igjax.integrated_gradients(few)(x[:10], 0.0, params)
    return plots.features.waterfall(result, names[:10])


def table_compare():
    """Three baselines, and what each of them says."""
    f, x, params, names = row()
    data = models.data.breast_cancer()
    attribute = igjax.integrated_gradients(f)
    means = {
        name: jnp.asarray(data.inputs[data.labels == label].mean(0))
        for label, name in enumerate(data.class_names)
    }
    results = {"mean of all": attribute(x, 0.0, params)}
    results |= {f"mean of {name}": attribute(x, b, params) for name, b in means.items()}
    return plots.features.compare(results, names)


def text_tokens():
    """A sentence, word by word, with errors."""
    f, words, x, unknown, args = sentence(TEXT)
    result = igjax.integrated_gradients(f)(x, unknown, *args)
    values, errors = (np.asarray(a).sum(-1) for a in (result.values, result.error))
    return plots.text.tokens(words, values, errors, sides=("criticism", "praise"))


def text_compare():
    """A sentence under three rules; few nodes see the switches of an LSTM badly."""
    f, words, x, unknown, args = sentence(TEXT)
    few = igjax.integrated_gradients(f, rule=igjax.rules.gauss_legendre(5))
    results = {
        "adaptive": igjax.integrated_gradients(f)(x, unknown, *args),
        "5 nodes": few(x, unknown, *args),
        "zero baseline": igjax.integrated_gradients(f)(x, 0.0, *args),
    }
    summed = lambda a: np.asarray(a).sum(-1) if np.ndim(a) else a
    by_word = {name: jax.tree.map(summed, result) for name, result in results.items()}
    return plots.features.compare(by_word, words)


def signal_series():
    """How high each frame of a recording is: the energies that a model of speech reads."""
    f, x, params = speech()
    gain = lambda g, params: f((x.reshape(-1, 128) * g[:, None]).ravel(), params)
    result = igjax.integrated_gradients(gain)(jnp.ones(x.size // 128), 0.0, params)
    loudness = np.sqrt((x.reshape(-1, 128) ** 2).mean(1))
    return plots.signals.series(result, loudness, np.arange(len(loudness)) * 128 / 16000)


def signal_audio():
    """A second of speech: why a voice detector fires at its end."""
    f, x, params = speech()
    rule = igjax.rules.gauss_legendre(128)
    start = 1e-4 * np.random.default_rng(0).standard_normal(x.shape).astype(np.float32)
    result = igjax.integrated_gradients(f, rule=rule)(x, start, params)
    return plots.signals.audio(result, x, 16000)


def layers_stacked():
    """Through which units of a network for digits the score comes."""
    f, x, *args = digit()
    names = ("Conv_0", "Conv_1", "Dense_1")
    attribute = igjax.layer_conductance(f, {name: name for name in names})
    return plots.layers.stacked(attribute(x, 0.0, *args))


def by_word(text):
    """What pairs of words do together, and the words."""
    f, words, x, unknown, args = sentence(text)
    groups = jnp.arange(len(words))[:, None]
    attribute = igjax.grouped(f, len(words), method=igjax.integrated_hessians, nodes=64)
    return attribute(x, unknown, groups, *args), words


def interactions_matrix():
    """Pairs of words: "not" turns what follows."""
    return plots.interactions.matrix(*by_word(SHORT))


def interactions_network():
    """The pairs of a longer sentence."""
    return plots.interactions.network(*by_word(TEXT))


def diagnostics_path_profile():
    """Speech, louder and louder: a voice detector switches, and the rule looks there."""
    f, x, params = speech()
    profile = igjax.diagnostics.path_profile(f)(x, 1e-4 * x, params)
    return plots.diagnostics.path_profile(profile)


def diagnostics_convergence():
    """What a digit costs, rule by rule."""
    f, x, *args = digit()
    makers = {"midpoint": igjax.rules.midpoint, "Gauss": igjax.rules.gauss_legendre}
    counts = (4, 8, 16, 32, 64, 128)
    rules = [maker(n) for maker in makers.values() for n in counts]
    names = [name for name in makers for _ in counts]
    for tolerance in (1e-1, 1e-2, 1e-3):
        rules, names = [*rules, igjax.rules.adaptive(tolerance)], [*names, "adaptive"]
    found = igjax.diagnostics.convergence(f, x, 0.0, *args, rules=rules)
    return plots.diagnostics.convergence(found, names)


def diagnostics_landscape():
    """Two words of a sentence, each faded in from the unknown word."""
    f, words, x, unknown, args = sentence(TEXT)
    places = jnp.array([words.index("never"), words.index("boring")])

    def faded(shares):
        share = jnp.ones((len(words), 1)).at[places, 0].set(shares)
        return f(unknown + share * (x - unknown), *args)

    ways = {
        "straight": igjax.paths.straight,
        "boring first": igjax.paths.polyline(jnp.array([0.0, 1.0])),
        "never first": igjax.paths.polyline(jnp.array([1.0, 0.0])),
    }
    axes = plots.diagnostics.landscape(faded, jnp.ones(2), jnp.zeros(2), ways)
    axes.set(xlabel="never", ylabel="boring")
    return axes


PICTURES = (
    *(image_digit, image_positive, image_overlay, image_blended, image_four_panels),
    *(image_side_by_side, table_bars, table_waterfall, table_compare),
    *(text_tokens, text_compare, signal_series, signal_audio, layers_stacked),
    *(interactions_matrix, interactions_network),
    *(diagnostics_path_profile, diagnostics_convergence, diagnostics_landscape),
)


def main(folder, *names):
    """Draws the pictures of those names, or all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for draw in PICTURES:
        if names and draw.__name__ not in names:
            continue
        start = time.perf_counter()
        path = folder / f"{draw.__name__}.png"
        draw().figure.savefig(path, dpi=150)
        print(f"{path}  {time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
