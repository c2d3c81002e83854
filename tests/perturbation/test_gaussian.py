"""The Gaussian process over coalitions against sums over all of them."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from igjax.perturbation import _gaussian, shapley_values

from .games import unanimity

N = 7
ALL = np.array(list(itertools.product([-1.0, 1.0], repeat=N)))
COUPLINGS = {
    "weak": np.full(N, 0.03),
    "strong": np.full(N, 0.6),
    "some": np.array([0.99, 0.99, 0.99, 0.002, 0.002, 0.002, 0.002]),
    "mixed": np.linspace(0.01, 0.95, N),
}


def by_products(rho):
    """The kernel of all coalitions, from its definition."""
    terms = rho * ALL[:, None] * ALL[None]
    odd = np.prod(1 + terms, -1) - np.prod(1 - terms, -1)
    return (odd / 2 - terms.sum(-1)) / np.prod(1 + rho)


def by_definition():
    """How much each coalition counts in the Shapley value of each feature."""
    weights = np.zeros((len(ALL), N))
    for row, z in zip(weights, ALL, strict=True):
        size = (z > 0).sum()
        for i in range(N):
            inside = z[i] > 0
            of = size if inside else N - size
            row[i] = (1 if inside else -1) / (of * math.comb(N, size))
    return weights


@pytest.mark.parametrize("rho", COUPLINGS.values(), ids=COUPLINGS)
@pytest.mark.parametrize(("dtype", "close"), [("float32", 5e-5), ("float64", 1e-11)])
def test_the_kernel_its_values_and_variances(rho, dtype, close):
    kernel, weights = by_products(rho), by_definition()
    z, given = jnp.asarray(ALL, dtype), jnp.asarray(rho, dtype)
    values, variances = _gaussian._sections(z, given)
    expected = {
        "kernel": (_gaussian._kernel(z, given), kernel),
        "values": (values, kernel @ weights),
        "variances": (variances, np.einsum("ki,kl,li->i", weights, kernel, weights)),
    }
    for found, exact in expected.values():
        assert found.dtype == dtype
        np.testing.assert_allclose(found, exact, rtol=0, atol=close * np.abs(exact).max())


@pytest.mark.parametrize("rho", COUPLINGS.values(), ids=COUPLINGS)
def test_changes_where_one_feature_comes_or_goes(rho):
    pulled = np.random.default_rng(0).normal(size=len(ALL))
    pulled -= ALL @ np.linalg.lstsq(ALL, pulled, rcond=None)[0]  # as those of a posterior
    h = by_products(rho) @ pulled
    places = 2 ** np.arange(N)[::-1]
    index = ((ALL > 0) @ places).astype(int)
    flipped = np.where(np.eye(N, dtype=bool), -ALL[:, None], ALL[:, None])
    others = ((flipped > 0) @ places).astype(int)
    at = np.empty(len(ALL))
    at[index] = h
    found = _gaussian._flipped(jnp.asarray(ALL), jnp.asarray(rho), jnp.asarray(pulled))
    exact = at[others] - h[:, None]
    np.testing.assert_allclose(found, exact, atol=1e-9 * np.abs(exact).max())


@pytest.mark.slow
def test_the_few_that_act_together_are_found():
    # Eight of sixteen, whose product one coalition in 256 shows.
    game = unanimity(range(0, 16, 2), 16)
    result = shapley_values(game.f, budget=512)(jax.random.key(0), jnp.ones(16), 0.0)
    wrong = np.abs(result.values - game.shapley)
    assert wrong.sum() < 0.02
    assert (wrong <= result.error).all()


def test_the_couplings_are_steps_of_the_scores():
    # So the derivatives of values are those of a reading that is linear in the scores.
    rows = ALL[np.random.default_rng(1).permutation(len(ALL) // 2)[:40]]  # one of each pair
    z, y = jnp.asarray(rows), jnp.asarray(np.sin(2 * rows @ np.cos(np.arange(N))))
    seen = jnp.ones(40, bool)
    values = lambda y: _gaussian.posterior(z, y, seen, shapley=True).values
    step = 1e-5 * jnp.cos(jnp.arange(40.0))
    _, slope = jax.jvp(values, (y,), (step,))
    np.testing.assert_allclose(values(y + step) - values(y), slope, atol=1e-12)
