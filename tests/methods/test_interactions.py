"""Interactions: exact on polynomials, symmetric, complete, and never a whole Hessian.

What has no closed form is compared with the definition: a double integral over a grid of
Gauss nodes, with a dense Hessian at each.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax
from igjax.methods.interactions import _log_table
from tests.registry import together

close = functools.partial(np.testing.assert_allclose, rtol=1e-11, atol=1e-13)

X, B = np.array([0.8, -1.1, 0.6]), np.array([-0.2, 0.3, 0.1])
W = np.random.default_rng(3).normal(size=(5, 3))


def smooth(x, scale=1.0):
    return jnp.tanh(scale * (W @ x)) @ np.arange(1.0, 6.0) + x[0] * jnp.sin(x[2])


@pytest.mark.parametrize("n", [1, 2, 5, 16, 40])
def test_the_rule_integrates_polynomials_with_a_logarithm(n):
    nodes, weights, nulls = _log_table(n)
    assert (weights > 0).all()
    assert ((nodes > 0) & (nodes < 1)).all()
    powers = np.arange(2 * n)
    # The integral of -ln(s) s^k is 1 / (k + 1)^2.
    close(nodes ** powers[:, None] @ weights * (powers + 1) ** 2, 1.0, rtol=1e-12)
    if n < 10:
        assert abs(weights @ nodes ** (2 * n) * (2 * n + 1) ** 2 - 1) > 1e-12
    # Null rules see nothing of polynomials that the rule is far above.
    close(nulls @ (nodes ** np.arange(max(n - 2, 0))[:, None]).T, 0, atol=1e-14)


def test_two_nodes_are_those_of_the_published_table():
    nodes, weights, _ = _log_table(2)  # Abramowitz and Stegun, table 25.7
    close(nodes, [0.112009, 0.602277], atol=1e-6)
    close(weights, [0.718539, 0.281461], atol=1e-6)


@pytest.mark.parametrize("powers", [(1, 1, 0), (2, 1, 1), (1, 4, 3)], ids=str)
def test_monomials_share_by_their_powers(powers):
    m = np.array(powers)
    f = lambda x: jnp.prod(x**m)
    degree = m.sum()
    exact = np.outer(m, m) / degree**2 * np.prod(X**m)
    enough = -(-degree // 2)
    result = igjax.integrated_hessians(f, nodes=int(enough))(X, np.zeros(3))
    close(result.values, exact)
    close(result.delta, 0)
    if enough > 1:
        fewer = igjax.integrated_hessians(f, nodes=int(enough) - 1)(X, np.zeros(3))
        assert np.abs(fewer.values - exact).max() > 1e-6


def by_definition(f, x, b, n=40):
    t, w = np.polynomial.legendre.leggauss(n)
    t, w = (t + 1) / 2, w / 2
    d = x - b

    def at(a, c):
        point = b + a * c * d
        mixed = a * c * np.outer(d, d) * jax.hessian(f)(point)
        return mixed + jnp.diag(d * jax.grad(f)(point))

    grid = jax.vmap(lambda a: jax.vmap(lambda c: at(a, c))(t))(t)
    return jnp.einsum("a,c,acij->ij", w, w, grid)


def test_one_rule_of_few_nodes_is_the_double_integral():
    few, enough, exact, whole = together(
        lambda: igjax.integrated_hessians(smooth, nodes=6)(X, B),
        lambda: igjax.integrated_hessians(smooth, nodes=30)(X, B),
        lambda: by_definition(smooth, X, B),
        lambda: igjax.integrated_gradients(smooth, rule=igjax.rules.gauss_legendre(40))(
            X, B
        ),
    )
    close(enough.values, exact, rtol=1e-9, atol=1e-9)
    close(enough.values, enough.values.T)
    close(enough.values.sum(1), whole.values, rtol=1e-9)
    close(enough.delta, 0, atol=1e-9)
    errors = np.abs(few.values - exact)
    assert (errors <= few.error).all()
    assert errors.max() > 1e3 * np.abs(enough.values - exact).max()
    assert enough.status == igjax.Status.NO_TOLERANCE
    assert enough.evaluations == 90


def test_features_that_are_only_added_do_not_interact():
    f = lambda x: jnp.sin(x).sum()
    result = igjax.integrated_hessians(f, nodes=20)(X, B)
    close(result.values, np.diag(np.sin(X) - np.sin(B)))


def test_rows_and_blocks_are_those_of_the_matrix():
    product = igjax.integrated_hessian_product(smooth)
    matrix, chunked, rows, top = together(
        lambda: igjax.integrated_hessians(smooth)(X, B),
        lambda: igjax.integrated_hessians(smooth, chunk_size=2)(X, B),
        lambda: jax.vmap(product, (None, None, 0))(X, B, np.eye(3)[:2]),
        lambda: igjax.top_interactions(smooth, 2)(X, B),
    )
    close(chunked.values, matrix.values)
    close(rows.values, matrix.values[:2])
    close(rows.error, matrix.error[:2], atol=1e-12)
    order = np.argsort(-np.abs(matrix.values.sum(1)))[:2]
    np.testing.assert_array_equal(top.features, order)
    close(top.attribution.values, matrix.values[np.ix_(order, order)])


def test_matrices_of_pytrees_are_trees_of_trees():
    f = lambda x: x["a"].sum() * x["b"] ** 2
    x = {"a": np.array([[1.0, 2.0]]), "b": np.array(3.0)}
    values: Any = igjax.integrated_hessians(f, nodes=2)(x, zeros(x)).values
    total = 27.0
    share = np.array([9.0, 18.0]) / total  # of the monomials a b^2
    assert values["a"]["a"].shape == (1, 2, 1, 2)
    close(values["a"]["a"][0, :, 0], np.diag(share) * total / 9)
    close(values["a"]["b"][0], share * total * 2 / 9)
    close(values["b"]["a"][0], share * total * 2 / 9)
    close(values["b"]["b"], total * 4 / 9)


def zeros(x):
    return jax.tree.map(np.zeros_like, x)


def test_interactions_are_batched_jitted_and_differentiated():
    attribute = igjax.integrated_hessians(smooth, nodes=8)
    xs, scales = np.stack([X, -X]), np.array([1.0, 0.5])
    got = jax.jit(jax.vmap(attribute, (0, None, 0)))(xs, B, scales)
    want = [attribute(x, B, s).values for x, s in zip(xs, scales, strict=True)]
    close(got.values, want)
    # Of a product of two, each entry is a quarter.
    corner = lambda x: igjax.integrated_hessians(jnp.prod, nodes=2)(x, np.zeros(2)).values
    close(jax.jacrev(lambda x: corner(x)[0, 1])(X[:2]), X[1::-1] / 4)


def test_narrow_inputs_are_summed_in_float32():
    x = np.array([2.0, 4.0], "float16")
    result = igjax.integrated_hessians(jnp.prod, nodes=2)(x, np.zeros(2, "float16"))
    assert result.values.dtype == np.float32
    close(result.values, 2.0, rtol=1e-3)


def test_one_node_has_no_estimate():
    result = igjax.integrated_hessians(jnp.prod, nodes=1)(X[:2], np.zeros(2))
    close(result.values, X[0] * X[1] / 4)
    assert np.isinf(result.error).all()


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "4"], ids=repr)
def test_numbers_that_count_nothing_are_refused(n):
    with pytest.raises(ValueError, match="nodes must be an integer of at least 1"):
        igjax.integrated_hessians(smooth, nodes=n)
    with pytest.raises(ValueError, match="k must be an integer of at least 1"):
        igjax.top_interactions(smooth, n)


def test_misuse_is_refused():
    with pytest.raises(ValueError, match="weights must be like x"):
        igjax.integrated_hessian_product(smooth)(X, B, np.ones(2))
    with pytest.raises(ValueError, match="at least k features, got 3 for k = 4"):
        igjax.top_interactions(smooth, 4)(X, B)
    with pytest.raises(TypeError, match="weights must be real"):
        igjax.integrated_hessian_product(smooth)(X, B, 1j * X)
    with pytest.raises(TypeError, match="x must be real"):
        igjax.integrated_hessians(lambda z: jnp.abs(z).sum())(X + 1j, B + 0j)
