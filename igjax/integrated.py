"""The methods: integrated gradients and Jacobians, short recipes over the path integral."""

import jax
import jax.numpy as jnp
import numpy as np

from igjax import _compiled, paths, rules
from igjax._tree import parameter_dtype, total, wide
from igjax.attribution import Attribution, Status
from igjax.path_integral import path_integral, position

__all__ = ["integrated_gradients", "integrated_jacobian"]

# Nodes evaluated side by side unless the caller says otherwise. A CPU is fastest while
# the activations of a block fit its caches; other devices want to be filled.
CHUNK = {"cpu": 8}
CHUNK_ELSEWHERE = 64


def integrated_gradients(f, *, rule=None, path=paths.straight, chunk_size=None):
    r"""Integrated Gradients as a function transformation, with its own error estimate.

    $$\mathrm{IG}_i = (x_i - x'_i) \int_0^1
      \frac{\partial f}{\partial x_i}\bigl(x' + t (x - x')\bigr)\,dt$$

    along the straight path, and $\int \partial_i f(\gamma)\,\dot\gamma_i\,dt$ along any
    other. The values add up to f(x) - f(baseline), up to the error of the rule. Use it
    to say which features of x made f differ from its score at the baseline.

    The attribution compiles itself once per shape and function; build it once, put what
    varies (parameters, labels) in `*args`. It is written for one example: a batch is
    `jax.vmap(attribute, in_axes=(0, None, ...))`, best inside `jax.jit`.

    Args:
        f: `f(x, *args) -> scalar`, traceable by JAX, for one example: x is a pytree of
            floating or complex arrays, the result has shape () and is real.
        rule: a `rules.Rule`; None is `rules.gauss_legendre(32)`.
        path: `path(x, baseline, t) -> point`, differentiable in the scalar t.
        chunk_size: how many nodes are evaluated side by side; it bounds the memory,
            which does not depend on the number of nodes. None is 8 on a CPU, else 64.

    Returns:
        `attribute(x, baseline, *args) -> Attribution`. The baseline has the structure of
        x; a scalar stands for a whole leaf. Array leaves and numbers in args are traced,
        all others are static and must be hashable.

    Raises:
        TypeError: if f, the path or a leaf of x or of the baseline has the wrong type.
        ValueError: if a structure or shape does not fit, or f returns no scalar.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> f = lambda x, w: jnp.tanh(x @ w)
        >>> attribute = igjax.integrated_gradients(f)
        >>> result = attribute(jnp.array([1.0, 2.0]), 0.0 * jnp.ones(2), jnp.ones(2))
        >>> result.values.round(4)  # tanh(3) in proportion to x * w
        Array([0.3317, 0.6634], dtype=float32)
        >>> bool(abs(result.delta) < 1e-6)
        True

    References:
        Sundararajan, Taly, Yan, "Axiomatic Attribution for Deep Networks", ICML 2017.
    """
    rule = rules.gauss_legendre(32) if rule is None else rule
    return _compiled.attribution(
        "integrated_gradients", _integrate, f, path, rule, chunk_size, scalar=True
    )


def integrated_jacobian(f, *, rule=None, path=paths.straight, chunk_size=None):
    r"""Integrated gradients of all outputs of a function, from one sweep of the path.

    $$J_{ki} = (x_i - x'_i) \int_0^1
      \frac{\partial f_k}{\partial x_i}\bigl(x' + t (x - x')\bigr)\,dt$$

    Use it to explain all classes or time steps at once: at each node one forward pass
    serves all outputs. A contrast of two outputs is the difference of their values.

    Args:
        f: `f(x, *args) -> array`, traceable by JAX, for one example.
        rule: as in `integrated_gradients`.
        path: as in `integrated_gradients`.
        chunk_size: as in `integrated_gradients`.

    Returns:
        `attribute(x, baseline, *args) -> Attribution`, whose values and errors have the
        axes of the output in front, as those of `jax.jacrev`; so have `score`,
        `baseline_score`, `delta` and `status`.

    Raises:
        TypeError: if f, the path or a leaf of x or of the baseline has the wrong type.
        ValueError: if a structure or shape does not fit.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> w = jnp.array([[1.0, 0.0], [2.0, 3.0]])
        >>> attribute = igjax.integrated_jacobian(lambda x: w @ x)
        >>> attribute(jnp.ones(2), jnp.zeros(2)).values.round(4)
        Array([[1., 0.],
               [2., 3.]], dtype=float32)

    References:
        Sundararajan, Taly, Yan, "Axiomatic Attribution for Deep Networks", ICML 2017.
    """
    rule = rules.gauss_legendre(32) if rule is None else rule
    return _compiled.attribution(
        "integrated_jacobian", _integrate, f, path, rule, chunk_size, scalar=False
    )


def _integrate(f, path, x, baseline, rule, chunk_size):
    ends = jnp.arange(2, dtype=parameter_dtype(x))
    start, end = jax.vmap(lambda t: f(position(path, x, baseline, t)))(ends)
    size = chunk_size or CHUNK.get(jax.default_backend(), CHUNK_ELSEWHERE)
    values, error = path_integral(f, path, x, baseline, rule, size)
    return _certified(values, error, start, end, np.shape(rule.nodes)[-1])


def _certified(values, error, start, end, evaluations: int) -> Attribution:
    start, end = (a.astype(wide(a.dtype)) for a in (start, end))
    delta = total(values, end.ndim) - (end - start)
    finite = jnp.isfinite(delta) & jnp.isfinite(total(values, end.ndim))
    return Attribution(
        values=values,
        error=error,
        delta=delta,
        score=end,
        baseline_score=start,
        evaluations=jnp.int32(evaluations),
        forwards=jnp.int32(2),
        jumps=jnp.int32(0),
        status=jnp.where(finite, Status.NO_TOLERANCE, Status.NON_FINITE).astype("int32"),
    )
