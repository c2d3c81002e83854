"""Games whose values are known in closed form, and a slow reference that shares no code."""

import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


def by_orders(f, x, baseline):
    """Shapley values by all orders, one score after the other, in NumPy."""
    n = len(x)
    values = np.zeros(n)
    for order in itertools.permutations(range(n)):
        point = np.array(baseline, float)
        before = float(f(point))
        for i in order:
            point[i] = x[i]
            after = float(f(point))
            values[i] += after - before
            before = after
    return values / math.factorial(n)


class Known(NamedTuple):
    """A game of n features, all at 1 against 0, and its values in closed form."""

    f: Any
    n: int
    shapley: Any
    banzhaf: Any
    ablation: Any


def unanimity(members, n):
    """1 where all members are there: Shapley 1 / |T|, Banzhaf 2 / 2^|T|."""
    t = len(members)
    inside = np.isin(np.arange(n), members)
    f = lambda x: jnp.prod(jnp.where(inside, x, 1.0))
    return Known(f, n, inside / t, inside * 2.0 ** (1 - t), inside * 1.0)


def majority(n):
    """1 where more than half are there, n odd: one in n; ablation sees nothing."""
    f = lambda x: jnp.where(x.sum() > n / 2, 1.0, 0.0)
    swing = math.comb(n - 1, n // 2) / 2 ** (n - 1)
    return Known(f, n, np.full(n, 1 / n), np.full(n, swing), np.zeros(n))


def additive(n):
    """All values are the weights."""
    w = np.linspace(-1, 2, n)
    return Known(lambda x: x @ w, n, w, w, w)


def second_order(n):
    """x A x with a symmetric A: half of each pair for each, and the diagonal alone."""
    a = np.cos(np.add.outer(np.arange(n), np.arange(n)) ** 1.5)
    rows = a.sum(1)
    alone = 2 * rows - np.diag(a)
    return Known(lambda x: x @ a @ x, n, rows, rows, alone)


# Captum's BasicModel_MultiLayer, first output.
def multilayer(x, target=0):
    """Four units of the sum, the first of which starts at 10."""
    h = jax.nn.relu(x.sum() + jnp.array([-10.0, 1.0, 1.0, 1.0]))
    return h.sum() + jnp.array([-1.0, 1.0])[target]


def multi_input(x):
    """The same of three inputs, added up."""
    return multilayer(x[0] + x[1] + x[2])
