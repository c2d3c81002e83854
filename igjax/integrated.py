"""The methods: integrated gradients and Jacobians, short recipes over the path integral."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from igjax import _compiled, adaptive, paths, rules
from igjax._tree import parameter_dtype, total, wide
from igjax.attribution import Attribution, Status
from igjax.path_integral import integrand, path_integral

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


def _integrate(f, path, operands, rule, chunk_size) -> Attribution:
    """The recipe of both methods."""
    if isinstance(rule, rules.Adaptive):
        return _adaptive(f, path, operands, rule)
    dtype = parameter_dtype(operands.x)
    f, path = partial(f, operands), partial(path, operands)
    start, end = jax.vmap(lambda t: f(path(t)))(jnp.arange(2, dtype=dtype))
    size = chunk_size or CHUNK.get(jax.default_backend(), CHUNK_ELSEWHERE)
    values, error = path_integral(f, path, dtype, rule, size)
    delta = total(values, end.ndim) - (_wide(end) - _wide(start))
    status = jnp.where(jnp.isfinite(delta), Status.NO_TOLERANCE, Status.NON_FINITE)
    evaluations = np.shape(rule.nodes)[-1]
    return _certified(values, error, delta, start, end, status, evaluations, 2, 0)


def _adaptive(f, path, operands, rule) -> Attribution:
    dtype = parameter_dtype(operands.x)
    t = jnp.zeros((), dtype)
    score, parts = jax.eval_shape(
        lambda o: integrand(partial(f, o), partial(path, o), t), operands
    )
    outputs = score.shape
    sizes = [math.prod(a.shape[len(outputs) :]) for a in jax.tree.leaves(parts)]
    flat = lambda parts: jnp.concatenate(
        [a.reshape(score.size, -1).astype(dtype) for a in jax.tree.leaves(parts)], 1
    )

    def contributions(o, t):
        score, parts = integrand(partial(f, o), partial(path, o), t)
        return score.ravel(), flat(parts)

    solution = adaptive.solve(
        (lambda o, t: f(o, path(o, t)).ravel(), contributions),
        operands,
        rule,
        (score.size, sum(sizes), dtype, _unit(operands.x, score.dtype)),
    )

    def unflat(a):
        pieces = jnp.split(a, np.cumsum(sizes)[:-1], axis=1)
        shaped = zip(pieces, jax.tree.leaves(parts), strict=True)
        leaves = [piece.reshape(like.shape).astype(like.dtype) for piece, like in shaped]
        return jax.tree.unflatten(jax.tree.structure(parts), leaves)

    shaped = lambda a: a.reshape(outputs)
    start, end = shaped(solution.baseline_score), shaped(solution.score)
    delta = shaped(solution.values.sum(-1)) - (end - start)
    return _certified(
        unflat(solution.values),
        unflat(solution.error),
        delta,
        start,
        end,
        _judge(solution).reshape(outputs),
        solution.evaluations,
        adaptive.PROBES + 2,
        solution.jumps,
    )


def _judge(solution):
    """The status of each output: the first trouble that is found."""
    error = solution.error.sum(-1)
    within = (error <= solution.bound) & (solution.gap <= solution.bound)
    known = jnp.isfinite(error) & jnp.isfinite(solution.gap)
    troubles = [~known, solution.stopped, within, solution.jumps > 0]
    answers = [
        Status.NON_FINITE,
        Status.BUDGET_SPENT,
        Status.TOLERANCE_MET,
        Status.RESOLUTION,
    ]
    shape = jnp.broadcast_arrays(*troubles)
    return jnp.select(
        shape, [jnp.int32(a) for a in answers], jnp.int32(Status.NOT_VERIFIED)
    )


def _unit(x, score) -> float:
    """The coarsest rounding unit among the dtypes of x and of the score."""
    kinds = [a.dtype for a in jax.tree.leaves(x)] + [score]
    return max(float(jnp.finfo(kind).eps) for kind in kinds)


def _certified(
    values, error, delta, start, end, status, evaluations, forwards, jumps
) -> Attribution:
    return Attribution(
        values=values,
        error=error,
        delta=delta,
        score=_wide(end),
        baseline_score=_wide(start),
        evaluations=jnp.asarray(evaluations, jnp.int32),
        forwards=jnp.asarray(forwards, jnp.int32),
        jumps=jnp.asarray(jumps, jnp.int32),
        status=jnp.asarray(status, jnp.int32),
    )


def _wide(a):
    return a.astype(wide(a.dtype))
