"""The price of knowing: gradients of the adaptive rule over those of the best fixed one.

The best fixed one is found with hindsight: the smallest midpoint rule from which on all
larger ones are truly within the tolerance. Networks of ReLUs, random and trained on
digits, a CNN with pooling and a residual one; float64; exact values by a midpoint rule of
12,000 nodes. A price of 1 is that of a prophet.
"""

from __future__ import annotations

import argparse
import itertools

import _suites
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import igjax
from igjax.models import CNN, MLP

GRID = (5, 7, 10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320, 450, 640, 900, 1280)
FINE = 12_000
TOLERANCES = (5e-2, 1e-2)
RANDOM = {
    "mlp_1": (100, 64),
    "mlp_2": (100, 64, 64),
    "mlp_3": (60, 96, 96, 96),
    "mlp_4": (300, 128, 128, 128, 128),
}


class Residual(nn.Module):
    """Three residual blocks of 3 by 3 convolutions, a mean, a logit for each class."""

    @nn.compact
    def __call__(self, x):
        """Score one image."""
        x = nn.Conv(8, (3, 3))(x)
        for _ in range(3):
            y = nn.Conv(8, (3, 3))(nn.relu(x))
            x = x + nn.Conv(8, (3, 3))(nn.relu(y))
        return nn.Dense(10)(nn.relu(x).mean((0, 1)))


def random_mlp(name: str, count: int):
    """A random network of ReLUs with He's initialization: f, inputs, parameters."""
    g = np.random.default_rng(sum(RANDOM[name]))
    sizes = (*RANDOM[name], 1)
    params = [
        (g.normal(size=(a, b)) * np.sqrt(2 / a), g.normal(size=b) * 0.1)
        for a, b in itertools.pairwise(sizes)
    ]

    def f(x, params):
        for w, b in params[:-1]:
            x = jax.nn.relu(x @ w + b)
        return (x @ params[-1][0] + params[-1][1])[0]

    return f, g.normal(size=(count, sizes[0])), (), (params,)


def digits(name: str, count: int):
    """A classifier trained on digits."""
    make = {
        "digits_mlp": (MLP((128, 128, 128, 10), nn.relu), {}),
        "digits_cnn": (CNN(10, channels=(4, 8)), {"shape": (8, 8, 1)}),
        "digits_residual": (Residual(), {"shape": (8, 8, 1)}),
    }
    model, options = make[name]
    suite = _suites._digits(name, model, count, **options)
    return suite.f, suite.x, suite.each, suite.shared


CASES = {name: random_mlp for name in RANDOM}
CASES |= dict.fromkeys(("digits_mlp", "digits_cnn", "digits_residual"), digits)


def truth(f, x, each, shared):
    """Exact values of one example, and those of each midpoint rule of `GRID`."""

    def slope(t):
        return x * jax.grad(f)(t * x, *each, *shared)

    def midpoint(n):
        t = (jnp.arange(n) + 0.5) / n
        return jax.lax.map(slope, t, batch_size=50).mean(0)

    return midpoint(FINE), jnp.stack([midpoint(n) for n in GRID])


def main():
    """Prints a line for each network and tolerance."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    parser.add_argument("--inputs", type=int, default=24)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    print(
        f"{'network':<16}{'tol':>6}{'fixed':>7}{'ours':>7}{'price':>7}{'90%':>6}"
        f"{'error/tol':>11}{'worst':>7}{'est/true':>9}{'false':>7}{'refused':>9}"
    )
    for name in options.cases:
        f, x, each, shared = CASES[name](name, options.inputs)
        x, each, shared = jax.tree.map(jnp.asarray, (x, each, shared))
        compiled = jax.jit(lambda x, e, s, f=f: truth(f, x, e, s))

        def references(compiled=compiled, x=x, each=each, shared=shared):
            one = lambda i: compiled(x[i], tuple(a[i] for a in each), shared)
            return jax.tree.map(np.asarray, [one(i) for i in range(len(x))])

        found = _suites.remembered(f"price_{name}_{len(x)}", references)
        exact, rules = (np.stack(a) for a in zip(*found, strict=True))
        axes = x.ndim - 1
        flat = lambda a, axes=axes: a.reshape(*a.shape[: a.ndim - axes], -1)
        size = np.abs(flat(exact)).sum(-1)
        errors = np.abs(flat(rules) - flat(exact)[:, None]).sum(-1) / size[:, None]

        def explain(tolerance, x, each, shared, f=f):
            rule = igjax.rules.adaptive(tolerance)
            attribute = igjax.integrated_gradients(f, rule=rule)
            return jax.vmap(lambda x, e: attribute(x, 0.0, *e, *shared))(x, each)

        explain = jax.jit(explain)
        for tolerance in TOLERANCES:
            last = [max(np.flatnonzero(row > tolerance), default=-1) for row in errors]
            best = np.array([GRID[min(i + 1, len(GRID) - 1)] for i in last])
            result = explain(tolerance, x, each, shared)
            error = np.abs(flat(np.asarray(result.values)) - flat(exact)).sum(-1) / size
            price = np.asarray(result.evaluations) / best
            claims = np.asarray(result.converged)
            estimated = flat(np.asarray(result.error)).sum(-1) / size
            print(
                f"{name:<16}{tolerance:>6g}{np.median(best):>7.0f}"
                f"{np.median(result.evaluations):>7.0f}{np.median(price):>7.2f}"
                f"{np.quantile(price, 0.9):>6.1f}{np.median(error / tolerance):>11.2f}"
                f"{(error / tolerance).max():>7.2f}{np.median(estimated / error):>9.2f}"
                f"{(claims & (error > tolerance)).sum():>7}{(~claims).sum():>9}",
                flush=True,
            )


if __name__ == "__main__":
    main()
