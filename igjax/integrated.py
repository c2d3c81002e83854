"""The methods: integrated gradients and Jacobians, short recipes over the path integral."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from igjax import _compiled, _hoisting, adaptive, paths, rules
from igjax._affine import Sweep
from igjax._blocks import chunk
from igjax._tree import parameter_dtype, total, widen
from igjax.attribution import Attribution, Status
from igjax.path_integral import integrand, path_integral

__all__ = ["adaptive_rule", "integrated_gradients", "integrated_jacobian"]


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
        rule: None is `rules.adaptive()`, which meets a relative tolerance of 1e-2;
            `rules.adaptive(tolerance)` another; or a fixed one, a `rules.Rule`.
        path: `path(x, baseline, t) -> point`, differentiable in the scalar t.
        chunk_size: how many nodes are evaluated side by side; it bounds the memory,
            which does not depend on the number of nodes. None chooses it by the
            size of the intermediate values of f and the memory of the device; it does
            not see the batch of a `vmap`: give a small one if a large batch of a large
            model does not fit, and ask `igjax.cost`.

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
    rule = rules.adaptive() if rule is None else rule
    return _compiled.attribution(
        "integrated_gradients", _recipe(path), f, path, rule, chunk_size, scalar=True
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
    rule = rules.adaptive() if rule is None else rule
    return _compiled.attribution(
        "integrated_jacobian", _recipe(path), f, path, rule, chunk_size, scalar=False
    )


def adaptive_rule(f, *, rule=None, path=paths.straight):
    """The mesh that the adaptive rule finds for an example, as a fixed rule.

    Use it to differentiate: reverse mode cannot go through the adaptive rule, whose mesh
    depends on the input, but it can through the mesh found for that input.

    Args:
        f: as in `integrated_gradients`.
        rule: a `rules.Adaptive`; None is `rules.adaptive()`.
        path: as in `integrated_gradients`.

    Returns:
        `make(x, baseline, *args) -> rules.Rule`, 15 Gauss-Kronrod nodes for each panel.
        Called under `jit` the rule is padded, by nodes of weight 0, to the budget. Jumps
        narrower than the dtype resolves are beyond any fixed rule.

    Raises:
        TypeError: if the rule is a fixed one, and as `integrated_gradients`.
        ValueError: as `integrated_gradients`.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> f = lambda x: jax.nn.sigmoid(300.0 * (x.sum() - 1.0))
        >>> x, baseline = jnp.array([1.0, 3.0]), jnp.zeros(2)
        >>> rule = igjax.adaptive_rule(f)(x, baseline)
        >>> attribute = igjax.integrated_gradients(f, rule=rule)
        >>> jax.grad(lambda x: attribute(x, baseline).values[0])(x).shape
        (2,)
    """
    rule = rules.adaptive() if rule is None else rule
    if not isinstance(rule, rules.Adaptive):
        raise TypeError(f"adaptive_rule: rule must be rules.adaptive(...), got {rule!r}.")
    make = _compiled.attribution("adaptive_rule", mesh, f, path, rule, None, scalar=True)

    def fixed(x, baseline, /, *args):
        edges, panels = make(x, baseline, *args)
        if not isinstance(panels, Tracer):
            edges = edges[: int(panels)]
        return rules.on_panels(edges, panels)

    return fixed


def _recipe(path):
    return integrate_straight if path is paths.straight else integrate


def integrate(f, path, operands, rule, chunk_size) -> Attribution:
    """The recipe of both methods, along any path."""
    if isinstance(rule, rules.Adaptive):
        return _adaptive(*_profile(f, path), operands, operands.x, rule)
    return _fixed(partial(f, operands), partial(path, operands), operands, rule, chunk_size)


def integrate_straight(f, path, operands, rule, chunk_size) -> Attribution:
    """The same along the straight path, where affine functions are needed at its ends."""
    if isinstance(rule, rules.Adaptive):
        sweep = Sweep(adaptive.NODES, rows=1, pulled=adaptive.NODES)
        hoisted = _hoisting.profile(f, path, operands, sweep)
        profile = hoisted or (*_profile(f, path), operands)
        return _adaptive(*profile, operands.x, rule)
    f, path = partial(f, operands), partial(path, operands)
    nodes, rows = np.shape(rule.nodes)[-1], 1 + np.shape(rule.error_weights)[-2]
    outputs = jax.eval_shape(f, operands.x).size
    size = chunk_size or chunk(f, path, parameter_dtype(operands.x), nodes, outputs)
    sweep = Sweep(nodes, rows, pulled=rows, block=size)
    hoisted = _hoisting.integral(f, path, operands, sweep)
    if hoisted is None:
        return _fixed(f, path, operands, rule, size)
    f, path, pull = hoisted
    return _fixed(f, path, operands, rule, chunk_size, pull)


def _fixed(f, path, operands, rule, chunk_size, pull=None) -> Attribution:
    dtype = parameter_dtype(operands.x)
    start, end = jax.vmap(lambda t: f(path(t)))(jnp.arange(2, dtype=dtype))
    evaluations = np.shape(rule.nodes)[-1]
    size = chunk_size or chunk(f, path, dtype, evaluations, end.size)
    values, error = path_integral(f, path, dtype, rule, size, pull)
    delta = total(values, end.ndim) - (widen(end) - widen(start))
    return without_tolerance(values, error, delta, start, end, evaluations, 2)


def _adaptive(score_at, parts_at, operands, x, rule) -> Attribution:
    solution, score, parts = _solve(score_at, parts_at, operands, x, rule)
    shape = score.shape

    def unflat(a):
        leaves, structure = jax.tree.flatten(parts)
        sizes = [math.prod(like.shape[len(shape) :]) for like in leaves]
        pieces = zip(jnp.split(a, np.cumsum(sizes)[:-1], axis=1), leaves, strict=True)
        return structure.unflatten([p.reshape(b.shape).astype(b.dtype) for p, b in pieces])

    start, end = (a.reshape(shape) for a in (solution.baseline_score, solution.score))
    return certified(
        unflat(solution.values),
        unflat(solution.error),
        solution.values.sum(-1).reshape(shape) - (end - start),
        start,
        end,
        _judge(solution).reshape(shape),
        solution.evaluations,
        adaptive.PROBES + 2,
        solution.jumps,
    )


def mesh(f, path, operands, rule, chunk_size):
    """The recipe of `adaptive_rule`: panels (capacity, 2) and how many are in use."""
    del chunk_size
    solution, _, _ = _solve(*_profile(f, path), operands, operands.x, rule)
    # Panels that were cut leave a row of zeros: the others to the front, in order.
    lo, hi = solution.mesh.T
    used = hi > lo
    order = jnp.argsort(jnp.where(used, lo, jnp.inf))
    return solution.mesh[order], used.sum(dtype=jnp.int32)


def _profile(f, path):
    """The score at t, and with it the contributions: functions of (operands, t)."""

    def parts_at(o, t):
        return integrand(partial(f, o), partial(path, o), t)

    return lambda o, t: f(o, path(o, t)), parts_at


def _solve(score_at, parts_at, operands, x, rule):
    """The solution with flat outputs and features, and the shapes to restore them."""
    dtype = parameter_dtype(x)
    score, parts = jax.eval_shape(parts_at, operands, jnp.zeros((), dtype))
    sizes = [a.size // max(score.size, 1) for a in jax.tree.leaves(parts)]

    def contributions(o, t):
        score, parts = parts_at(o, t)
        rows = [a.reshape(score.size, -1).astype(dtype) for a in jax.tree.leaves(parts)]
        return score.ravel(), jnp.concatenate(rows, 1)

    shape = (score.size, sum(sizes), dtype, _unit(x, score.dtype))
    scores = lambda o, t: score_at(o, t).ravel()
    return adaptive.solve((scores, contributions), operands, rule, shape), score, parts


def _judge(solution):
    """The status of each output: the first trouble that is found."""
    error = solution.error.sum(-1)
    within = (error <= solution.bound) & (solution.gap <= solution.bound)
    known = jnp.isfinite(error) & jnp.isfinite(solution.gap)
    troubles = [~known, within, solution.stopped, solution.jumps > 0]
    answers = [
        Status.NON_FINITE,
        Status.TOLERANCE_MET,
        Status.BUDGET_SPENT,
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


def without_tolerance(
    values, error, delta, start, end, evaluations, forwards
) -> Attribution:
    """The result of a method that asks for no tolerance, from numbers of any dtype."""
    status = jnp.where(jnp.isfinite(delta), Status.NO_TOLERANCE, Status.NON_FINITE)
    return certified(values, error, delta, start, end, status, evaluations, forwards, 0)


def certified(
    values, error, delta, start, end, status, evaluations, forwards, jumps
) -> Attribution:
    """The result of any method, its fields in their dtypes."""
    return Attribution(
        values=values,
        error=error,
        delta=delta,
        score=widen(end),
        baseline_score=widen(start),
        evaluations=jnp.asarray(evaluations, jnp.int32),
        forwards=jnp.asarray(forwards, jnp.int32),
        jumps=jnp.asarray(jumps, jnp.int32),
        status=jnp.asarray(status, jnp.int32),
    )
