"""From a function and a path to a result with its certificate, by both kinds of rule.

A recipe is what `compiled.attribution` compiles: a function of pure operands. The path
methods, layers and the diagnostics share those that stand here.
"""

import dataclasses
import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from igjax import paths, rules
from igjax._program.affine import Sweep
from igjax._program.blocks import chunk
from igjax._program.jax_internals import bodies, in_a_hurry, whole
from igjax._tree import gap, parameter_dtype, widen
from igjax.attribution import Attribution, Status
from igjax.integration import adaptive, hoisting
from igjax.integration.panels import probes_at
from igjax.integration.path_integral import integrand, path_integral


def along(path):
    """The recipe of a path: the straight one lets affine functions be hoisted."""
    return integrate_straight if path is paths.straight else integrate


def integrate(f, path, operands, rule, chunk_size, judged=None) -> Attribution:
    """The recipe of both methods, along any path.

    `judged` picks of the values what the adaptive rule's tolerance is of, if not of all:
    the first of them.
    """
    if isinstance(rule, rules.Adaptive):
        return _adaptive(*_profile(f, path, operands), operands.x, rule, judged)
    return fixed(partial(f, operands), partial(path, operands), operands, rule, chunk_size)


def integrate_straight(f, path, operands, rule, chunk_size) -> Attribution:
    """The same along the straight path, where affine functions are needed at its ends."""
    if isinstance(rule, rules.Adaptive):
        return _adaptive(*_straight_profile(f, path, operands), operands.x, rule)
    f, path = partial(f, operands), partial(path, operands)
    nodes, rows = np.shape(rule.nodes)[-1], 1 + np.shape(rule.error_weights)[-2]
    outputs = jax.eval_shape(f, operands.x).size
    dtype, lanes = parameter_dtype(operands.x), operands.lanes.count
    size = chunk_size or chunk(f, path, dtype, nodes, outputs, lanes)
    sweep = Sweep(nodes, rows, pulled=rows, block=size)
    hoisted = hoisting.integral(f, path, operands, sweep)
    if hoisted is None:
        return fixed(f, path, operands, rule, size)
    f, path, pull = hoisted
    return fixed(f, path, operands, rule, chunk_size, pull)


def _straight_profile(f, path, operands):
    sweep = Sweep(adaptive.NODES, rows=1, pulled=adaptive.NODES)
    hoisted = hoisting.profile(f, path, operands, sweep)
    return hoisted or _profile(f, path, operands)


def first_look(path, rule):
    """The recipe of what one panel is judged by, and the judge; None for a fixed rule.

    Outside `jit` most functions are settled by it: the loop need not be compiled, and
    the judge, which knows nothing of f, is compiled once for all f of equal shapes.
    """
    if not isinstance(rule, rules.Adaptive):
        return None
    profiled = _straight_profile if path is paths.straight else _profile

    def look(f, path, operands, rule, chunk_size) -> _Looked:
        del chunk_size
        score_at, parts_at, operands_ = profiled(f, path, operands)
        profile, like = _flat(score_at, parts_at, operands_, operands.x)
        return _Looked(*adaptive.look(profile, operands_, rule, like.sizes), like)

    return look, _JUDGE


def _judged(looked: "_Looked"):
    """The result, and whether it is settled."""
    found = looked.probes, looked.samples, looked.tolerances
    solution, settled = adaptive.settle(*found, looked.like.sizes)
    return _result(solution, looked.like), settled


_JUDGE = in_a_hurry(_judged)


def fixed(f, path, operands, rule, chunk_size, pull=None) -> Attribution:
    """The result of a fixed rule; `pull` as in `weighted_sums`."""
    dtype = parameter_dtype(operands.x)
    start, end = jax.vmap(lambda t: f(path(t)))(jnp.arange(2, dtype=dtype))
    evaluations = np.shape(rule.nodes)[-1]
    lanes = operands.lanes.count
    size = chunk_size or chunk(f, path, dtype, evaluations, end.size, lanes)
    values, error = path_integral(f, path, dtype, rule, size, pull)
    delta = gap(values, start, end)
    return without_tolerance(values, error, delta, start, end, evaluations, 2)


def _adaptive(score_at, parts_at, operands, x, rule, judged=None) -> Attribution:
    profile, like = _flat(score_at, parts_at, operands, x, judged)
    return _result(adaptive.solve(profile, operands, rule, like.sizes), like)


def _result(solution: adaptive.Solution, like: "_Like") -> Attribution:
    """The result of a solution, unflattened."""

    def unflat(a):
        sizes = [math.prod(leaf.shape[len(like.outputs) :]) for leaf in like.leaves]
        pieces = zip(jnp.split(a, np.cumsum(sizes)[:-1], axis=1), like.leaves, strict=True)
        return like.structure.unflatten(
            [p.reshape(leaf.shape).astype(leaf.dtype) for p, leaf in pieces]
        )

    shaped = lambda a: a.reshape(like.outputs)
    start, end = shaped(solution.baseline_score), shaped(solution.score)
    return certified(
        unflat(solution.values),
        unflat(solution.error),
        shaped(solution.values.sum(-1)) - (end - start),
        start,
        end,
        shaped(_judge(solution)),
        solution.evaluations,
        len(probes_at()),
        solution.jumps,
    )


def mesh(f, path, operands, rule, chunk_size):
    """The recipe of `adaptive_rule`: panels (capacity, 2) and how many are in use."""
    del chunk_size
    profile, like = _flat(*_profile(f, path, operands), operands.x)
    solution = adaptive.solve(profile, operands, rule, like.sizes)
    # Panels that were cut leave a row of zeros: the others to the front, in order.
    lo, hi = solution.mesh.T
    used = hi > lo
    order = jnp.argsort(jnp.where(used, lo, jnp.inf))
    return solution.mesh[order], used.sum(dtype=jnp.int32)


def _profile(f, path, operands):
    """The score at t and the contributions to it, functions of (operands, t); operands."""

    def parts_at(o, t):
        return integrand(partial(f, o), partial(path, o), t)

    return lambda o, t: f(o, path(o, t)), parts_at, operands


class _Like(NamedTuple):
    """What results look like: hashable, to be kept beside flat arrays."""

    outputs: tuple  # the shape of the score
    leaves: tuple  # shapes and dtypes of the values
    structure: Any
    sizes: tuple  # as `adaptive.solve` wants them


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["probes", "samples", "tolerances"],
    meta_fields=["like"],
)
@dataclasses.dataclass
class _Looked:
    """What `adaptive.look` returns, and what the result will look like."""

    probes: Any
    samples: Any
    tolerances: Any
    like: _Like


def _flat(score_at, parts_at, operands, x, judged=None):
    """The profile with flat outputs and features, and what restores their shapes."""
    dtype = parameter_dtype(x)
    program, (score, parts) = jax.make_jaxpr(parts_at, return_shape=True)(
        operands, jnp.zeros((), dtype)
    )
    leaves, structure = jax.tree.flatten(parts)
    count = lambda tree: sum(a.size // max(score.size, 1) for a in jax.tree.leaves(tree))
    features, asked = count(parts), count(judged(parts) if judged else parts)

    def contributions(o, t):
        score, parts = whole(parts_at(o, t))  # one vector of all features
        rows = [a.reshape(score.size, -1).astype(dtype) for a in jax.tree.leaves(parts)]
        return score.ravel(), jnp.concatenate(rows, 1)

    half = list(_in_half(program))
    # What the scales of groups move may be narrower than they are.
    points = jax.tree.leaves(x) + [a for a in half if a.shape]
    units = [unit({a.dtype for a in points}), unit([score.dtype])]
    sizes = (score.size, features, dtype, *units, bool(half), asked)
    kinds = tuple(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in leaves)
    scores = lambda o, t: whole(score_at(o, t)).ravel()
    return (scores, contributions), _Like(score.shape, kinds, structure, sizes)


def _judge(solution):
    """The status of each output: the first trouble that is found."""
    error = solution.together
    within = (error <= solution.bound) & (solution.gap <= solution.bound)
    known = jnp.isfinite(error) & jnp.isfinite(solution.gap)
    troubles = {
        Status.NON_FINITE: ~known,
        Status.NOT_VERIFIED: solution.contradicted,
        Status.TOLERANCE_MET: within,
        Status.BUDGET_SPENT: solution.stopped,
        Status.ROUNDING: solution.hopeless,
        Status.RESOLUTION: solution.jumps > 0,
    }
    shape = jnp.broadcast_arrays(*troubles.values())
    return jnp.select(
        shape, [jnp.int32(a) for a in troubles], jnp.int32(Status.NOT_VERIFIED)
    )


def _in_half(program):
    """What in a program has a floating dtype of less than 32 bits."""
    narrow = lambda kind: jnp.issubdtype(kind, jnp.floating) and kind.itemsize < 4
    for eqn in program.eqns:
        kinds = (v.aval for v in eqn.outvars if hasattr(v.aval, "dtype"))
        yield from (a for a in kinds if narrow(a.dtype))
        for body in bodies(eqn):
            yield from _in_half(body.jaxpr)


def unit(kinds) -> float:
    """The coarsest rounding unit among dtypes."""
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
