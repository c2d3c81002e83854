r"""THE idea: the gradient along a path, weighted by a rule.

$$\int_0^1 \nabla f(\gamma(t)) \cdot \dot\gamma(t)\,dt
  \approx \sum_k w_k \nabla f(\gamma(t_k)) \cdot \dot\gamma(t_k)$$

feature by feature. One call of `integrand` is one gradient; the same gradients, weighted
by the error weights of the rule, give the error estimate. Everything is done in blocks
of `chunk_size` nodes, and only running sums are kept: memory does not grow with the rule.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from igjax._convolutions import in_loop_layout
from igjax._tree import cast_like, parameter_dtype, widen


def position(path, x, baseline, t):
    """The point of the path at t, in the dtypes of x: computed wide, cast last."""
    return cast_like(path(widen(x), widen(baseline), t), x)


def integrand(f, path, x, baseline, t):
    """Each feature's gradient times its velocity, at t: output axes first, wide."""
    along = lambda t: path(widen(x), widen(baseline), t)
    point, velocity = jax.jvp(along, (t,), (jnp.ones_like(t),))
    score, pullback = jax.vjp(f, cast_like(point, x))
    units = jnp.eye(score.size, dtype=score.dtype).reshape(score.size, *score.shape)
    (gradient,) = jax.vmap(pullback)(units) if score.shape else pullback(units[0])
    outputs = score.shape

    def leaf(g, v):
        g = g.reshape(outputs + v.shape).astype(jnp.promote_types(g.dtype, v.dtype))
        return (g * v).real

    return jax.tree.map(leaf, gradient, velocity)


def path_integral(f, path, x, baseline, rule, chunk_size):
    """Returns the integral and its estimated error, pytrees of (outputs..., leaf...)."""
    n = rule.nodes.shape[-1]
    blocks = -(-n // chunk_size)
    size = -(-n // blocks)  # blocks of equal size, at most chunk_size
    dtype = parameter_dtype(x)
    rows = jnp.concatenate([rule.weights[None], rule.error_weights]).astype(dtype)
    nodes = jnp.asarray(rule.nodes).astype(dtype)
    # Padding repeats a node that is evaluated anyway, so it cannot bring in a NaN.
    fill = blocks * size - n
    nodes = jnp.pad(nodes, (0, fill), mode="edge").reshape(blocks, size)
    rows = jnp.pad(rows, ((0, 0), (0, fill))).reshape(-1, blocks, size)

    def add(sums, block):
        t, w = block
        parts = in_loop_layout(jax.vmap(partial(integrand, f, path, x, baseline)))(t)
        weigh = lambda a: jnp.tensordot(w.astype(a.dtype), a, 1, precision="highest")
        return jax.tree.map(lambda s, a: s + weigh(a), sums, parts), None

    shape = jax.eval_shape(partial(integrand, f, path, x, baseline), nodes[0, 0])
    zeros = jax.tree.map(lambda a: jnp.zeros((len(rows), *a.shape), a.dtype), shape)
    sums, _ = jax.lax.scan(add, zeros, (nodes, rows.swapaxes(0, 1)))
    values = jax.tree.map(lambda a: a[0], sums)
    if len(rows) == 1:
        return values, jax.tree.map(lambda a: jnp.full_like(a, np.inf), values)
    return values, jax.tree.map(lambda a: jnp.sqrt((a[1:] ** 2).sum(0)), sums)
