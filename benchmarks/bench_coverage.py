"""How often do the 95% errors of perturbations and metrics cover what they are about?

Perturbations: the six games of `_games.py`, 20 keys of each of ten inputs, at 128, 512 and
2048 scores, against exact values (`_readings.py`): the share of the values of features
within their errors. LIME is asked for its default kernel where all masks can be scored,
and for the infinite one elsewhere. Permutation importance: 400 data sets of 60 and of 200
rows, against a data set of 40 000. Metrics: 400 keys, against as many draws as there is
time for.
"""

import argparse
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from _games import INPUTS, games, judged, repeated
from _readings import banzhaf, interactions, lime, owen, unions

import igjax
from igjax import metrics, perturbation

BUDGETS = (128, 512, 2048)
DRAWN = 400


def _owen(f, budget):
    attribute = perturbation.owen_values(f, budget=budget)
    return lambda key, x, zero, given: attribute(key, x, zero, unions(len(x)), given)


def _lime(f, budget):
    # As in `_readings.lime`, which knows the default kernel of few players alone.
    def attribute(key, x, zero, given):
        width = 0.25 if len(x) <= 16 else np.inf
        method = perturbation.lime(f, width=width, budget=budget)
        return method(key, x, zero, given)

    return attribute


METHODS = {
    "shapley_values": (perturbation.shapley_values, lambda game, i: game.exact[i]),
    "banzhaf_values": (perturbation.banzhaf_values, banzhaf),
    "owen_values": (_owen, owen),
    "lime": (_lime, lime),
    "rise": (perturbation.rise, banzhaf),
    "sampled_interactions": (perturbation.sampled_interactions, interactions),
}


def of_game(name, game, budget, keys):
    """The share of values within their errors, over all inputs and keys."""
    make, exactly = METHODS[name]
    attribute = make(game.f, budget=budget)
    every = repeated(game, attribute, keys)
    return np.mean([judged(found, exactly(game, i))[1] for i, found in every])


def perturbations(options):
    """A table for each method: games by budgets."""
    kinds = list(games(options.games))
    for name in options.methods:
        print(f"\n| {name} |" + "".join(f" {b} |" for b in options.budgets))
        print("|---|" + "---|" * len(options.budgets))
        for game in kinds:
            cells = []
            for budget in options.budgets:
                try:
                    cells.append(f"{of_game(name, game, budget, options.keys):.3f}")
                except ValueError:
                    cells.append("too few")
            print(f"| {game.name} |", " | ".join(cells), "|", flush=True)


def importance(rows):
    """Of permutation importance on data sets of so many rows."""
    loss = lambda x, y: jnp.abs(jnp.tanh(x[0]) + x[0] * x[1] - y)
    measure = perturbation.permutation_importance(loss)

    def run(key, rows):
        xs = jax.random.normal(jax.random.fold_in(key, 0), (rows, 2))
        return measure(key, xs, jnp.tanh(xs[:, 0]) + xs[:, 0] * xs[:, 1])

    exact = run(jax.random.key(9), 40_000).values
    keys = jax.random.split(jax.random.key(0), DRAWN)
    found = jax.lax.map(lambda key: run(key, rows), keys)
    return (np.abs(found.values - exact) <= found.error).mean()


W = np.random.default_rng(5).normal(size=16).astype("f4")
X = np.cos(np.arange(16)).astype("f4")


def f(x):
    """A score of sixteen features that is no sum of them."""
    return jnp.tanh(x @ W / 3) + jnp.max(x) * x[2] + x[3] * x[4]


def noise(key, x):
    """What infidelity changes."""
    return 0.3 * jax.random.normal(key, x.shape)


def shares(make, some, many):
    """How often each (value, low, high) of some draws holds what many draws give."""
    run = make(*some)
    exact = [value for value, _, _ in make(*many)(jax.random.key(9))]
    keys = jax.random.split(jax.random.key(0), DRAWN)
    found = jax.jit(lambda keys: jax.lax.map(run, keys))(keys)
    pairs_of = zip(exact, found, strict=True)
    inside = [(low <= e) & (e <= high) for e, (_, low, high) in pairs_of]
    return [float(np.mean(a)) for a in inside]


def around(value, error):
    """A value, and its interval."""
    return value, value - error, value + error


def of_infidelity(draws):
    """Its value, its share."""

    def run(key):
        slopes = jax.grad(f)(X)
        found = metrics.infidelity(f, noise, draws=draws, chunk_size=256)(key, slopes, X)
        return [around(found.value, found.error), around(found.share, found.share_error)]

    return run


def of_correlation(subsets):
    """Sensitivity-4."""
    values = W * X + 0.5
    measure = metrics.sensitivity_n(f, 4, subsets=subsets, chunk_size=128)
    return lambda key: [tuple(measure(key, values, X, 0.0))]


def of_curve(make, ties, orders, **options):
    """The difference from random orders, of values many of which are equal."""
    values = np.round(2 * W * X) / 2
    measure = make(f, ties=ties, orders=orders, chunk_size=128, **options)

    def run(key):
        found = measure(key, values, X, 0.0)
        return [around(found.value - found.random, found.error)]

    return run


def of_road(ties, orders):
    """The same of ROAD, of an image of 8 by 8."""
    image = jax.random.uniform(jax.random.key(3), (8, 8, 1))
    weights = jax.random.normal(jax.random.key(4), (8, 8, 1))
    score = lambda x: jnp.tanh((weights * x).sum())
    values = jnp.round(4 * weights * image)
    measure = metrics.road(score, shares=(0.2, 0.5), ties=ties, orders=orders)

    def run(key):
        found = measure(key, values, image)
        return [around(found.value - found.random, found.error)]

    return run


def of_randomization(draws):
    """The rank correlation after a layer was permuted."""
    keys = jax.random.split(jax.random.key(5))
    layers = {
        name: jax.random.normal(key, (16, 16)) / 4
        for name, key in zip("ab", keys, strict=True)
    }
    score = lambda x, layers: jnp.tanh(jnp.tanh(x @ layers["a"]) @ layers["b"]).sum()
    attribute = igjax.gradient(score)
    measure = metrics.randomization(attribute, ["b", "a"], draws=draws)

    def run(key):
        found = measure(key, X, None, layers)
        return [around(found.value, found.error)]

    return run


def of_lower_bound(draws):
    """The mean beside the largest change of a gradient."""
    measure = metrics.max_sensitivity(igjax.gradient(f), 0.2, draws=draws, chunk_size=64)

    def run(key):
        found = measure(key, X, None)
        return [around(found.mean, found.error)]

    return run


def agreement():
    """How often its interval holds the agreement of two other answers as good as these."""
    exact = jax.random.normal(jax.random.key(6), (2, 16))
    plain = igjax.gradient(lambda x: x.sum())(X)
    noisy = lambda key: exact + 0.2 * jax.random.normal(key, exact.shape)

    def run(key):
        keys = jax.random.split(key, 3)
        answers = [
            dataclasses.replace(plain, values=a, error=jnp.full(16, 1.96 * 0.2))
            for a in noisy(keys[0])
        ]
        found = metrics.agreement(metrics.spearman)(keys[1], *answers)
        other = metrics.spearman(*noisy(keys[2]))
        return (found.low <= other) & (other <= found.high)

    return jax.lax.map(run, jax.random.split(jax.random.key(0), DRAWN)).mean()


def pairs(examples):
    """Of the mean difference of two methods, with skewed differences."""
    draws = np.random.default_rng(0).gamma(2.0, size=(DRAWN, 2, examples))
    found = [metrics.paired({"a": a, "b": 2 * b}) for a, b in draws]
    inside = [abs(p.differences[1, 0] - 2) <= p.difference_errors[1, 0] for p in found]
    return np.mean(inside)


CURVES = (
    *(metrics.deletion, metrics.insertion),
    *(metrics.comprehensiveness, metrics.sufficiency),
)
MEASURES = {
    "infidelity, 256 draws: value, share": (shares, of_infidelity, (256,), (2**19,)),
    "infidelity, 1024 draws: value, share": (shares, of_infidelity, (1024,), (2**19,)),
    "sensitivity_n, 128 subsets": (shares, of_correlation, (128,), (2**17,)),
    **{
        make.__name__: (shares, of_curve, (make, 4, 16), (make, 4096, 16384))
        for make in CURVES
    },
    "road": (shares, of_road, (4, 16), (512, 2048)),
    "road, 16 ways to break ties": (shares, of_road, (16, 16), (512, 2048)),
    "max_sensitivity, the mean of 32": (shares, of_lower_bound, (32,), (2**16,)),
    "randomization, 8 draws": (shares, of_randomization, (8,), (4096,)),
}


OTHERS = {
    "permutation_importance, 60 rows": (importance, 60),
    "permutation_importance, 200 rows": (importance, 200),
    "agreement of ranks": (agreement,),
    "paired, 16 examples": (pairs, 16),
}


def main():
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--games", nargs="*")
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--budgets", nargs="*", type=int, default=BUDGETS)
    parser.add_argument("--keys", type=int, default=200 // INPUTS, help="of each input")
    parser.add_argument("--metrics", nargs="*", help="these instead; all, if none is named")
    options = parser.parse_args()
    print(jax.devices()[0].device_kind, "jax", jax.__version__)
    if options.metrics is None:
        perturbations(options)
        return
    print("\n| what | covered |\n|---|---|")
    for name, (covered, *given) in (OTHERS | MEASURES).items():
        if options.metrics and name not in options.metrics:
            continue
        cells = ", ".join(f"{share:.3f}" for share in np.ravel(covered(*given)))
        print(f"| {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
