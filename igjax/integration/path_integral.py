r"""THE idea: the gradient along a path, weighted by a rule.

$$\int_0^1 \nabla f(\gamma(t)) \cdot \dot\gamma(t)\,dt
  \approx \sum_k w_k \nabla f(\gamma(t_k)) \cdot \dot\gamma(t_k)$$

feature by feature. One call of `integrand` is one gradient; the same gradients, weighted
by the error weights of the rule, give the error estimate. Everything is done in blocks
of `chunk_size` nodes, and only running sums are kept: memory does not grow with the rule.
Small blocks are weighed several at a time, as many as take no more memory than the sums.
Devices that share the nodes add up their sums, before any error is made of them.
"""

import jax
import jax.numpy as jnp
import numpy as np

from igjax import _checks
from igjax._program.blocks import outputs_at_once
from igjax._program.jax_internals import is_explicit, shapes, spread_like, varying


def gradients(f, point):
    """The score at a point, and the gradients of all outputs, output axes first."""
    score, pullback = jax.vjp(f, point)
    if not score.shape:
        return score, pullback(varying(jnp.ones_like(score), score))[0]
    units = jnp.eye(score.size, dtype=score.dtype).reshape(score.size, *score.shape)
    units = spread_like(varying(units, score), score, 1)
    (gradient,) = _pulled(pullback, units, outputs_at_once(f, point, score.size))
    shaped = lambda g, p: g.reshape(score.shape + p.shape)
    return score, jax.tree.map(shaped, gradient, point)


def _pulled(pullback, units, at_once: int):
    """The pullbacks of unit vectors, so many at once."""
    if at_once >= len(units) or is_explicit(units):
        return jax.vmap(pullback)(units)
    return jax.lax.map(pullback, units, batch_size=at_once)


def along(gradient, velocity):
    """The real part of gradients, of any axes in front, times a velocity.

    A feature that does not move contributes nothing, though its derivative be NaN.
    """

    def times(g, v):
        v = v.reshape((1,) * (g.ndim - v.ndim) + v.shape)
        # Not the product is replaced: where it is finite it has a derivative.
        still = (v == 0) & ~jnp.isfinite(g)
        return (jnp.where(still, jnp.zeros_like(g), g) * v).real

    return jax.tree.map(times, gradient, velocity)


def integrand(f, path, t):
    """The score at t, and each feature's gradient times its velocity, output axes first."""
    point, velocity = jax.jvp(path, (t,), (jnp.ones_like(t),))
    score, gradient = gradients(f, point)
    return score, along(gradient, velocity)


def path_integral(f, path, dtype, rule, chunk_size, pull=None):
    """Returns the integral and its estimated error, pytrees of (outputs..., leaf...)."""
    sums = weighted_sums(f, path, dtype, rule, chunk_size, pull)
    return jax.tree.map(lambda a: a[0], sums), jax.tree.map(estimated_error, sums)


def estimated_error(sums):
    """What the rows below the first say of the error of that one."""
    if len(sums) == 1:
        return jnp.full_like(sums[0], np.inf)
    return jnp.sqrt((sums[1:] ** 2).sum(0))


def weighted_sums(f, path, dtype, rule, chunk_size, pull=None):
    """Integrals by all rows of weights of a rule: leaves (rows, outputs..., leaf...).

    `f` is a function of a point, `path` one of t, a scalar of the given dtype. `pull`
    takes sums of gradients (rows, outputs..., leaf...) to what they say of the features,
    where that is the same all along the path; then it is done once, after summing.
    """
    nodes = jnp.asarray(rule.nodes).astype(dtype)
    rows = jnp.concatenate([rule.weights[None], rule.error_weights]).astype(dtype)
    if rule.axis_name is not None:
        nodes, rows = _own(nodes, rows, rule.axis_name)
    blocks = -(-len(nodes) // chunk_size)
    size = -(-len(nodes) // blocks)  # blocks of equal size, at most chunk_size
    turns = _turns(len(rows) // size, blocks)
    blocks = -(-blocks // turns)
    nodes, rows = _padded(nodes, rows, blocks * turns * size)
    rows = rows.reshape(-1, blocks, turns * size)
    if pull is None:
        parts_at, pull = lambda t: integrand(f, path, t)[1], lambda sums: sums
    else:
        parts_at = lambda t: gradients(f, path(t))[1]

    def add(sums, block):
        t, w = block
        parts = jax.vmap(parts_at)(t) if turns == 1 else _in_turn(parts_at, t, turns)
        weigh = lambda a: jnp.tensordot(w.astype(a.dtype), a, 1, precision="highest")
        return jax.tree.map(lambda s, a: s + weigh(a), sums, parts), None

    kinds = shapes(parts_at, nodes[0])
    zero = lambda a: spread_like(jnp.zeros((len(rows), *a.shape), a.dtype), a, 1)
    zeros = varying(jax.tree.map(zero, kinds), kinds)
    blocks_of = (nodes.reshape(blocks, turns * size), rows.swapaxes(0, 1))
    sums, _ = jax.lax.scan(add, zeros, blocks_of)
    if rule.axis_name is not None:
        sums = jax.lax.psum(sums, rule.axis_name)
    return pull(sums)


def _turns(most: int, blocks: int) -> int:
    """How many blocks are weighed together: about as many as may, and divide them well.

    Where sums are large, of many outputs, moving them costs as much as the gradients.
    """
    most = max(1, min(most, blocks))
    return min(range(most, most // 2, -1), key=lambda n: -(-blocks // n) * n)


def _in_turn(parts_at, t, turns: int):
    """`parts_at` all of t, in so many blocks one after the other."""
    if turns == t.size:  # without an axis of one node, which CPUs are slower with
        return jax.lax.map(parts_at, t)
    parts = jax.lax.map(jax.vmap(parts_at), t.reshape(turns, -1))
    return jax.tree.map(lambda a: a.reshape(t.size, *a.shape[2:]), parts)


def _own(nodes, rows, axis_name: str):
    """This device's equal share of the nodes of a rule and of the rows of weights."""
    devices = _checks.axis_size(axis_name)
    share = -(-len(nodes) // devices)
    nodes, rows = _padded(nodes, rows, devices * share)
    start = jax.lax.axis_index(axis_name) * share
    return (jax.lax.dynamic_slice_in_dim(a, start, share, -1) for a in (nodes, rows))


def _padded(nodes, rows, n: int):
    """Nodes and rows of weights, n of them; those that are added have weight 0."""
    fill = n - len(nodes)
    # They repeat a node that is evaluated anyway, and so cannot bring in a NaN.
    return jnp.pad(nodes, (0, fill), mode="edge"), jnp.pad(rows, ((0, 0), (0, fill)))
