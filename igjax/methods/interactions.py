r"""Integrated Hessians: how much of an attribution two features owe to each other.

$$\Gamma_{ij} = \Delta_i \Delta_j \int_0^1\!\!\int_0^1 ab\,
    \frac{\partial^2 f}{\partial x_i \partial x_j}(x' + ab\,\Delta)\,da\,db
    + [i = j]\,\Delta_i \int_0^1\!\!\int_0^1
    \frac{\partial f}{\partial x_i}(x' + ab\,\Delta)\,da\,db$$

with $\Delta = x - x'$: Integrated Gradients of Integrated Gradients. The integrands depend
on s = ab only, whose density on [0, 1] is -ln s. So one Gauss rule for that weight does,
with k nodes where a grid takes k squared, exact for polynomials f of degree up to 2k.

Nothing here builds a Hessian. A weighted sum of rows is one Hessian-vector product a node
(a jvp of the gradient); the full matrix is one such sum for each feature.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.polynomial import legendre

from igjax import _checks, paths
from igjax._program import compiled
from igjax._program.jax_internals import varying
from igjax._tree import flattener, gap, parameter_dtype, strong
from igjax.attribution import Attribution
from igjax.integration.path_integral import estimated_error
from igjax.integration.recipes import without_tolerance

__all__ = [
    "TopInteractions",
    "integrated_hessian_product",
    "integrated_hessians",
    "top_interactions",
]

SIDE_BY_SIDE = 16  # directions taken together


def integrated_hessians(f, *, nodes: int = 16, chunk_size=None) -> Callable:
    r"""The matrix of all pairwise interactions: Integrated Hessians.

    The matrix is symmetric, and its rows add up to Integrated Gradients: off the diagonal
    stands what two features do together, on it what one does alone. Use it for tables of
    up to some hundreds of features; `top_interactions` and `integrated_hessian_product`
    never hold the matrix, and of groups of features, regions or words,
    `grouped(f, count, method=igjax.integrated_hessians)` computes the small one only.

    f must be smooth: second derivatives do not see the kinks of ReLU (replace it by
    softplus or GELU). `delta` shows what is missed.

    Args:
        f: `f(x, *args) -> scalar`, as in `integrated_gradients`; x is real.
        nodes: the number of points on the path; exact for polynomials f of degree up to
            twice that.
        chunk_size: how many rows are computed side by side; None is 16.

    Returns:
        `attribute(x, baseline, *args) -> Attribution`, whose values are a pytree like x
        of pytrees like x, as those of `jax.hessian`: `values[i][j]` has the axes of leaf
        i, then those of leaf j. Its sum is f(x) - f(baseline), up to `delta`.

    Raises:
        TypeError: as `integrated_gradients`, and if x is complex.
        ValueError: as `integrated_gradients`, and if nodes or chunk_size is less than 1.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> attribute = igjax.integrated_hessians(lambda x: x[0] * x[1] + x[1] ** 2)
        >>> attribute(jnp.array([2.0, 4.0]), jnp.zeros(2)).values.round(3)
        Array([[ 2.,  2.],
               [ 2., 18.]], dtype=float32)

    References:
        Janizek, Sturmfels, Lee, "Explaining Explanations: Axiomatic Feature Interactions
        for Deep Networks", JMLR 2021.
    """
    return _method("integrated_hessians", _dense, f, nodes, chunk_size)


def integrated_hessian_product(f, *, nodes: int = 16) -> Callable:
    r"""The interactions of each feature with a weighted sum of features.

    $$(\Gamma v)_i = \sum_j \Gamma_{ij} v_j$$

    with one Hessian-vector product for each node. Weights that are 1 at one feature give
    its row; at a group, the interactions with the group; all ones, Integrated Gradients.
    A block of rows is a `jax.vmap` over the weights.

    Args:
        f: as in `integrated_hessians`.
        nodes: as in `integrated_hessians`.

    Returns:
        `attribute(x, baseline, weights, *args) -> Attribution`, whose values are like x;
        weights is a pytree like x. `delta` is taken against f(x) - f(baseline), and so is
        small for weights of ones only.

    Raises:
        TypeError: as `integrated_hessians`, and if the weights are complex.
        ValueError: as `integrated_hessians`, and if the weights are not like x.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> f = lambda x: x[0] * x[1] + x[1] ** 2
        >>> row = igjax.integrated_hessian_product(f)
        >>> row(jnp.array([2.0, 4.0]), jnp.zeros(2), jnp.array([0.0, 1.0])).values.round(3)
        Array([ 2., 18.], dtype=float32)
    """
    _checks.function("integrated_hessian_product", "f", f)
    caller = "integrated_hessian_product"
    rule = compiled.on_device(_log_rule(caller, nodes))

    def attribute(x, baseline, weights, /, *args):
        shapes = [jax.tree.map(np.shape, tree) for tree in (x, weights)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"{caller}: weights must be like x, {shapes[0]}, got {shapes[1]}. For "
                "several, jax.vmap(attribute, in_axes=(None, None, 0))."
            )
        directions = strong(weights)
        _checks.real(caller, directions, "weights")
        sweep = rule()._replace(directions=directions)
        return _attribution(caller, _product, f, sweep, None)(x, baseline, *args)

    return attribute


class TopInteractions(NamedTuple):
    """Interactions among the features with the largest attributions.

    Attributes:
        features: shape (k,), where they stand among the raveled leaves of x, the largest
            attribution first.
        attribution: an `Attribution`, whose values have shape (k, k). Its `delta` is what
            the block leaves of f(x) - f(baseline): the share of all other pairs.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> attribute = igjax.top_interactions(lambda x: x[0] + x[1] * x[2], 2)
        >>> top = attribute(jnp.array([0.1, 2.0, 3.0]), jnp.zeros(3))
        >>> sorted(top.features.tolist())
        [1, 2]
    """

    features: jax.Array
    attribution: Attribution


def top_interactions(f, k: int, *, nodes: int = 16, chunk_size=None) -> Callable:
    """Interactions among the k features that Integrated Gradients finds most important.

    Use it where x is too large for the matrix: it takes k + 1 Hessian-vector products a
    node. The features are those with the largest absolute row sums.

    Args:
        f: as in `integrated_hessians`.
        k: how many features.
        nodes: as in `integrated_hessians`.
        chunk_size: how many rows are computed side by side; None is 16.

    Returns:
        `attribute(x, baseline, *args) -> TopInteractions(features, attribution)`.

    Raises:
        TypeError: as `integrated_hessians`.
        ValueError: as `integrated_hessians`, and if x has less than k features.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> attribute = igjax.top_interactions(lambda x: x[0] + x[1] * x[2], 2)
        >>> top = attribute(jnp.array([0.1, 4.0, 3.0]), jnp.zeros(3))
        >>> top.attribution.values.round()
        Array([[3., 3.],
               [3., 3.]], dtype=float32)
    """
    _checks.count("top_interactions", "k", k)
    return _method("top_interactions", _top(k), f, nodes, chunk_size)


def _method(caller, recipe, f, nodes, chunk_size):
    return _attribution(caller, recipe, f, _log_rule(caller, nodes), chunk_size)


def _attribution(caller, recipe, f, rule, chunk_size):
    return compiled.attribution(
        caller, recipe, f, paths.straight, rule, chunk_size, scalar=True
    )


# The rule.


class _LogRule(NamedTuple):
    """A Gauss rule for the weight -ln s on [0, 1], and what it is applied to."""

    nodes: Any
    weights: Any
    error_weights: Any
    directions: Any = None


def _log_rule(caller: str, n: int) -> _LogRule:
    _checks.count(caller, "nodes", n)
    return _LogRule(*_log_table(n))


@functools.lru_cache
def _log_table(n: int):
    """Nodes, weights and null rules, from the product rule that the weight stands for.

    The points a b of two Gauss rules with the products of their weights integrate -ln s
    times a polynomial of degree 2n + 1 exactly. A QR decomposition of Legendre's
    polynomials on these points gives the orthonormal polynomials of the weight, and the
    matrix of a multiplication by s in them has the nodes as its eigenvalues.
    """
    t, w = legendre.leggauss(n + 1)
    t, w = (t + 1) / 2, w / 2
    s, root = np.outer(t, t).ravel(), np.sqrt(np.outer(w, w).ravel())
    basis, _ = np.linalg.qr(root[:, None] * legendre.legvander(2 * s - 1, n - 1))
    multiply = basis.T @ (s[:, None] * basis)
    nodes, vectors = np.linalg.eigh((multiply + multiply.T) / 2)
    # The last two polynomials at the nodes: what they see is the tail of the integrand.
    nulls = [vectors[k] * np.abs(vectors[0]) for k in range(max(n - 2, 1), n)]
    signs = np.sign(vectors[0])
    return nodes, vectors[0] ** 2, np.reshape([r * signs for r in nulls], (-1, n))


# The recipes: functions of a flat point, and of directions (m, features).


class _Flat(NamedTuple):
    """The integral for any directions, and what is known besides."""

    products: Callable  # directions (m, features) -> rows (values and nulls, m, features)
    features: int
    ravel: Callable  # a pytree like x as a vector
    unravel: Callable
    dtype: np.dtype
    ends: tuple


def _flat(caller: str, f, path, operands, rule, chunk_size) -> _Flat:
    _checks.real(caller, operands.x)
    dtype = parameter_dtype(operands.x)
    ravel, unravel = flattener(operands.x, dtype)
    score = lambda flat: f(operands, unravel(flat))
    change = ravel(operands.x) - ravel(operands.baseline)
    nodes = varying(jnp.asarray(rule.nodes, dtype), change)
    table = jnp.concatenate([rule.weights[None], rule.error_weights]).astype(dtype)

    def product(direction):
        def add(sums, node):
            s, weights = node
            point = ravel(path(operands, s))
            gradient, second = jax.jvp(jax.grad(score), (point,), (change * direction,))
            part = change * (s * second + direction * gradient)
            return sums + weights[:, None] * part[None], None

        zeros = varying(jnp.zeros((len(table), change.size), dtype), change)
        return jax.lax.scan(add, zeros, (nodes, table.T))[0]

    def products(directions):
        directions = varying(jnp.asarray(directions, dtype), change)
        size = min(chunk_size or SIDE_BY_SIDE, len(directions))
        rows = jax.lax.map(product, directions, batch_size=size)
        return rows.swapaxes(0, 1)

    ends = tuple(f(operands, a) for a in (operands.x, operands.baseline))
    return _Flat(products, change.size, ravel, unravel, dtype, ends)


def _result(flat: _Flat, rows, shape, count) -> Attribution:
    """The result of sums (values and nulls, ...), brought into shape."""
    values, error = rows[0], estimated_error(rows)
    end, start = flat.ends
    delta = gap(values, start, end)
    return without_tolerance(shape(values), shape(error), delta, start, end, count, 2)


def _dense(f, path, operands, rule, chunk_size):
    flat = _flat("integrated_hessians", f, path, operands, rule, chunk_size)
    rows = flat.products(jnp.eye(flat.features))
    leaves, structure = jax.tree.flatten(operands.x)
    splits = np.cumsum([a.size for a in leaves])[:-1]

    def shape(matrix):
        blocks = [
            [
                block.reshape(*a.shape, *b.shape)
                for b, block in zip(leaves, jnp.split(row, splits, axis=1), strict=True)
            ]
            for a, row in zip(leaves, jnp.split(matrix, splits), strict=True)
        ]
        return structure.unflatten([structure.unflatten(row) for row in blocks])

    return _result(flat, rows, shape, len(rule.nodes) * flat.features)


def _product(f, path, operands, rule, chunk_size):
    caller = "integrated_hessian_product"
    flat = _flat(caller, f, path, operands, rule, chunk_size)
    rows = flat.products(flat.ravel(rule.directions)[None])[:, 0]
    return _result(flat, rows, flat.unravel, len(rule.nodes))


@functools.lru_cache  # an equal recipe must be the same one: programs are kept by it
def _top(k: int):
    def recipe(f, path, operands, rule, chunk_size):
        flat = _flat("top_interactions", f, path, operands, rule, chunk_size)
        if flat.features < k:
            raise ValueError(
                f"top_interactions: x must have at least k features, got {flat.features} "
                f"for k = {k}."
            )
        sums = flat.products(jnp.ones((1, flat.features)))[0, 0]
        _, features = jax.lax.top_k(jnp.abs(sums), k)
        rows = flat.products(jax.nn.one_hot(features, flat.features))
        block = rows[:, :, features]
        result = _result(flat, block, lambda a: a, len(rule.nodes) * (k + 1))
        return TopInteractions(features, result)

    return recipe
