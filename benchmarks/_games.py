"""Games of 10 to 60 players with exact Shapley values: networks, and sums of unanimities.

A game is a function of masks, `f(mask, parameters)`, traceable by JAX; each input of each
model is one. Exact values come from all subsets in NumPy, or from the closed form; neither
shares code with igjax.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_diabetes, load_digits, load_wine
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

INPUTS = 10


class Game(NamedTuple):
    """Ten games of one kind: f(masks, parameters of one) -> a score for a mask."""

    name: str
    players: int
    f: Any
    parameters: list
    exact: list

    def first(self, count):
        """Of its inputs the first few."""
        return self._replace(parameters=self.parameters[:count], exact=self.exact[:count])


def repeated(game, attribute, keys):
    """Of each input its number and the results of `attribute` with so many keys."""
    x, zero = np.ones(game.players, "f4"), np.zeros(game.players, "f4")
    one = lambda given: lambda key: attribute(key, x, zero, given)
    every = jax.jit(lambda keys, given: jax.lax.map(one(given), keys))
    for i, given in enumerate(game.parameters):
        yield i, every(jax.random.split(jax.random.key(i), keys), given)


def judged(found, exact):
    """By how much values are wrong, and the share of them within their errors."""
    wrong = np.abs(np.asarray(found.values) - exact)
    rounding = 1e-6 * np.abs(exact).sum()
    return wrong, (wrong <= np.asarray(found.error) + rounding).mean()


def network(name, data, model, groups=None, output=None):
    """A fitted scikit-learn MLP on rows of its data, against their mean."""
    xs = StandardScaler().fit_transform(data.data)
    model.fit(xs, data.target)
    layers = [
        (w.astype("f4"), b.astype("f4"))
        for w, b in zip(model.coefs_, model.intercepts_, strict=True)
    ]
    act = {"tanh": jnp.tanh, "relu": jax.nn.relu}[model.activation]
    players = xs.shape[1] if groups is None else int(groups.max()) + 1
    labels = np.arange(players) if groups is None else groups

    def f(mask, given):
        x, k = given
        h = mask[labels] * x
        for w, b in layers[:-1]:
            h = act(h @ w + b)
        y = h @ layers[-1][0] + layers[-1][1]
        return y[0] if output is None else output(y)[k]

    rows = np.random.default_rng(0).choice(len(xs), INPUTS, replace=False)
    label = lambda i: 0 if output is None else int(data.target[i])
    parameters = [(xs[i].astype("f4"), label(i)) for i in rows]
    return Game(
        name, players, f, parameters, [by_subsets(f, p, players) for p in parameters]
    )


def by_subsets(f, parameters, n):
    """Shapley values from all subsets, in float64 from the scores on."""
    ids = np.arange(1 << n)
    masks = ((ids[:, None] >> np.arange(n)) & 1).astype("f4")
    scores = jax.jit(jax.vmap(f, (0, None)))
    v = np.concatenate(
        [scores(masks[i : i + 8192], parameters) for i in ids[::8192]]
    ).astype(float)
    size = masks.sum(1).astype(int)
    inside = np.array([0.0] + [1 / (s * math.comb(n, s)) for s in range(1, n + 1)])
    outside = np.array([1 / ((n - s) * math.comb(n, s)) for s in range(n)] + [0.0])
    weights = np.where(masks > 0, inside[size][:, None], -outside[size][:, None])
    return weights.T @ v


def unanimities(name, n, count, sizes):
    """A sum of products of random members with normal weights."""

    def f(mask, given):
        members, weights = given
        return weights @ jnp.where(members, mask[None], 1.0).prod(1)

    parameters, exact = [], []
    for seed in range(INPUTS):
        rng = np.random.default_rng(seed)
        members = np.zeros((count, n), bool)
        for row in members:
            row[rng.choice(n, rng.integers(*sizes, endpoint=True), replace=False)] = True
        weights = rng.normal(size=count) if count > 1 else np.ones(1)
        parameters.append((members, weights.astype("f4")))
        exact.append((weights[:, None] * members / members.sum(1, keepdims=True)).sum(0))
    return Game(name, n, f, parameters, exact)


def games(names=None):
    """The games, made when they are asked for."""
    blocks = (np.arange(64) // 8 // 2) * 4 + np.arange(64) % 8 // 2
    regression = MLPRegressor(
        hidden_layer_sizes=(64, 64), activation="tanh", max_iter=2000, random_state=0
    )
    classes = lambda *sizes: MLPClassifier(
        hidden_layer_sizes=sizes, max_iter=500, random_state=0
    )
    makers = {
        "diabetes": lambda: network("diabetes", load_diabetes(), regression),
        "wine": lambda: network(
            "wine", load_wine(), classes(64, 64), output=jax.nn.softmax
        ),
        "digits": lambda: network(
            "digits",
            load_digits(),
            classes(
                64,
            ),
            blocks,
            lambda y: y,
        ),
        "one8of16": lambda: unanimities("one8of16", 16, 1, (8, 8)),
        "sum60of30": lambda: unanimities("sum60of30", 30, 60, (1, 6)),
        "sum100of60": lambda: unanimities("sum100of60", 60, 100, (1, 8)),
    }
    for name in names or makers:
        yield makers[name]()
