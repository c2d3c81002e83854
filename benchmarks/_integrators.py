"""Everybody who integrates along a path, on one suite: values, claims, cost, time.

A row is a function `(suite, dtype) -> {name: Outcome}`. What may be done once, building
and compiling, is not timed (unifiedig compiles at every call, and that is). A claim is
what a careful user would go by: igjax's `converged`, a fixed rule's own error estimate,
an embedded difference, or, where there is nothing else, a completeness gap below 1%.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import _suites
import jax
import jax.numpy as jnp
import numpy as np

from igjax import diagnostics, rules
from igjax.integration import adaptive

TOLERANCES = (5e-2, 1e-2, 1e-3)
COMMON = 1e-2  # the tolerance that rules without one are judged by
FIXED = 128  # nodes of the fixed rules, give or take one
STEPS = (50, 100, 300, 1000)


class Outcome(NamedTuple):
    """What one row gave: values (n, ...), claims (n,), cost (n,), seconds, gap (n,)."""

    values: np.ndarray
    claims: np.ndarray
    cost: np.ndarray
    seconds: float
    gap: np.ndarray
    tolerance: float = COMMON


def _timed(run):
    start = time.perf_counter()
    result = jax.block_until_ready(run())
    return result, time.perf_counter() - start


@contextlib.contextmanager
def _counting():
    """Counts the chunks that the adaptive rule really evaluates, padded lanes and all."""
    chunk, seen = adaptive._chunk, []

    def counted(*args):
        jax.debug.callback(seen.append, args[1].lanes)
        return chunk(*args)

    adaptive._chunk = counted
    yield seen
    adaptive._chunk = chunk


def ours(suite, dtype) -> dict[str, Outcome]:
    """igjax, at each tolerance: one program, since tolerances are operands."""
    arrays = _suites.arrays(suite, dtype)

    def program(f):
        def explain(tolerance, *arrays):
            rule = rules.adaptive(tolerance, max_evaluations=suite.budget)
            return _suites.explain(suite._replace(f=f), rule)(*arrays)

        return jax.jit(explain).lower(COMMON, *arrays).compile()

    compiled = program(suite.f)
    with _counting() as chunks:  # another function, since igjax remembers programs by it
        counted = program(lambda *args: suite.f(*args))
    outcomes = {}
    for tolerance in TOLERANCES:
        result, seconds = _timed(lambda: compiled(tolerance, *arrays))  # noqa: B023
        chunks.clear()
        jax.block_until_ready(counted(tolerance, *arrays))
        jax.effects_barrier()
        lanes = adaptive.NODES * sum(map(int, chunks))
        spent = np.asarray(result.evaluations)
        padding = (lanes - spent.sum()) / len(spent)
        outcomes[f"igjax {tolerance:g}"] = Outcome(
            values=np.asarray(result.values),
            claims=np.asarray(result.converged),
            cost=spent + np.asarray(result.forwards) / 3 + padding,
            seconds=seconds,
            gap=np.abs(np.asarray(result.delta)),
            tolerance=tolerance,
        )
    return outcomes


def fixed(suite, dtype) -> dict[str, Outcome]:
    """Every fixed rule of igjax, padded to one length so that one program serves all."""
    makers = (
        (rules.left, FIXED),
        (rules.right, FIXED),
        (rules.midpoint, FIXED),
        (rules.trapezoid, FIXED + 1),
        (rules.simpson, FIXED + 1),
        (rules.gauss_legendre, 9),
        (rules.gauss_legendre, 17),
        (rules.gauss_legendre, FIXED),
        (rules.gauss_kronrod, FIXED - 1),
        (rules.clenshaw_curtis, FIXED + 1),
    )
    arrays = _suites.arrays(suite, dtype)

    def explain(rule, *arrays):
        return _suites.explain(suite, rule)(*arrays)

    compiled, outcomes = None, {}
    for make, nodes in makers:
        rule = _padded(make(nodes), FIXED + 1, dtype)
        compiled = compiled or jax.jit(explain).lower(rule, *arrays).compile()
        result, seconds = _timed(lambda: compiled(rule, *arrays))  # noqa: B023
        outcomes[f"{make.__name__} {nodes}"] = _of_fixed(result, nodes, seconds)
    return outcomes


def _padded(rule, length, dtype):
    pad = lambda a, **kind: np.pad(
        a, [(0, 0)] * (a.ndim - 1) + [(0, length - a.shape[-1])], **kind
    )
    nodes, weights, error = map(np.asarray, (rule.nodes, rule.weights, rule.error_weights))
    error = np.pad(error, [(0, 5 - len(error)), (0, 0)])
    arrays = (pad(nodes, mode="edge"), pad(weights), pad(error))
    return rules.Rule(*(jnp.asarray(a, dtype) for a in arrays))


def _of_fixed(result, nodes, seconds):
    return Outcome(
        values=np.asarray(result.values),
        claims=np.asarray(diagnostics.within(result, COMMON)),
        cost=np.full(len(result.delta), nodes + 2 / 3),
        seconds=seconds,
        gap=np.abs(np.asarray(result.delta)),
    )


def loop(suite, dtype) -> dict[str, Outcome]:
    """The common loop: more trapezoids until the batch's mean |delta| is below 0.01."""
    arrays, cost, seconds = _suites.arrays(suite, dtype), 0, 0.0
    for steps in (50, 100, 200, 400):
        explain = jax.jit(_suites.explain(suite, rules.trapezoid(steps)))
        compiled = explain.lower(*arrays).compile()
        result, once = _timed(lambda: compiled(*arrays))  # noqa: B023
        cost, seconds = cost + steps, seconds + once
        gap = np.abs(np.asarray(result.delta))
        if gap.mean() < 0.01:
            break
    count = len(gap)
    claims, spent = np.full(count, gap.mean() < 0.01), np.full(count, cost + 2 / 3)
    values = np.asarray(result.values)
    return {"trapezoid loop": Outcome(values, claims, spent, seconds, gap)}


def embedded(suite, dtype) -> dict[str, Outcome]:
    """Plain adaptive Gauss-Kronrod: bisects while the embedded difference is too large."""
    x, baseline, each, shared = _suites.arrays(suite, dtype)
    rule = rules.gauss_kronrod(15)
    t, k = np.asarray(rule.nodes), np.asarray(rule.weights)
    g = np.zeros(15)
    g[1::2] = rules.gauss_legendre(7).weights
    lanes = 16

    def panel(lo, width, x, baseline, each, shared):
        slope = lambda t: jax.grad(suite.f)(baseline + t * (x - baseline), *each, *shared)
        rows = jax.vmap(slope)((lo + width * t).astype(x.dtype))
        both = width * jnp.tensordot(jnp.stack([k, g]).astype(x.dtype), rows, 1)
        both = both * (x - baseline)
        return both[0], jnp.abs(both[0] - both[1]).sum()

    panels = jax.jit(jax.vmap(panel, (0, 0, *_suites.axes(suite))))
    pick = lambda i: (x[i], baseline, tuple(a[i] for a in each), shared)
    first = np.zeros(lanes, x.dtype)
    panels(first, first, *pick(np.zeros(lanes, int)))
    count = len(x)

    def run():
        total, used = np.zeros(x.shape), np.zeros(count)
        spent, claims = np.zeros(count), np.ones(count, bool)
        example, lo = np.arange(count), np.zeros(count)
        width = np.ones(count)
        while len(lo):
            parts = np.array_split(np.arange(len(lo)), -(-len(lo) // lanes))
            out = []
            for part in parts:
                rows = np.resize(part, lanes)
                at = (a[rows].astype(x.dtype) for a in (lo, width))
                out.append(
                    [np.asarray(a)[: len(part)] for a in panels(*at, *pick(example[rows]))]
                )
            value, error = (np.concatenate(a) for a in zip(*out, strict=True))
            np.add.at(spent, example, 15)
            rough = total.copy()
            np.add.at(rough, example, value)
            size = np.abs(rough).reshape(count, -1).sum(1)
            open_now = np.bincount(example, minlength=count)
            left = np.maximum(COMMON * size - used, 0) / np.maximum(open_now, 1)
            over = spent > suite.budget
            fine = (error <= left[example]) | over[example] | (width < 1e-12)
            claims &= ~(
                over & (np.bincount(example[error > left[example]], minlength=count) > 0)
            )
            np.add.at(total, example[fine], value[fine])
            np.add.at(used, example[fine], error[fine])
            half = width[~fine] / 2
            lo = np.stack([lo[~fine], lo[~fine] + half], 1).ravel()
            example, width = np.repeat(example[~fine], 2), np.repeat(half, 2)
        return total, claims & np.isfinite(used), spent

    (total, claims, spent), seconds = _timed(run)
    start, end = _suites.ends(suite, dtype)
    gap = np.abs(total.reshape(count, -1).sum(1) - (end - start))
    return {"embedded only 0.01": Outcome(total, claims, spent, seconds, gap)}


def captum(suite, dtype, steps=STEPS) -> dict[str, Outcome]:
    """Captum's Gauss-Legendre on the torch twin, with the faster of two batch sizes."""
    import torch
    from captum.attr import IntegratedGradients

    twin = suite.twin
    if twin is None:
        return {}
    cast = lambda a: torch.tensor(
        np.asarray(a, dtype if np.asarray(a).dtype.kind == "f" else None)
    )
    x, each = cast(suite.x), tuple(map(cast, suite.each))
    baseline = cast(np.broadcast_to(suite.baseline, suite.x.shape[1:]))[None]
    method = IntegratedGradients(twin)

    def run(steps, batch):
        start = time.perf_counter()
        values, delta = method.attribute(
            *(x, baseline),
            additional_forward_args=each or None,
            n_steps=steps,
            internal_batch_size=batch,
            return_convergence_delta=True,
        )
        return values, delta, time.perf_counter() - start

    count = len(x)
    batch = min((2 * count, 32 * count), key=lambda size: run(STEPS[0], size)[2])
    outcomes = {}
    with torch.no_grad():
        change = twin(x, *each) - twin(baseline.expand_as(x), *each)
    for n in steps:
        values, delta, seconds = run(n, batch)
        gap = np.abs(delta.numpy())
        outcomes[f"Captum {n}"] = Outcome(
            values=values.detach().numpy(),
            claims=gap <= COMMON * np.abs(change.numpy()),
            cost=np.full(count, n + 2 / 3),
            seconds=seconds,
            gap=gap,
        )
    return outcomes


def unifiedig(suite, dtype) -> dict[str, Outcome]:
    """Retries of unifiedig (16, 32, 64 nodes for the batch, by completeness).

    It takes no argument that varies with the example: such suites are explained one
    example at a time, and since it compiles at every call, only the first few.
    """
    arrays = _suites.arrays(suite, dtype)
    if not suite.each:
        return {"unifiedig": _retried(suite, *arrays)}
    x, baseline, each, shared = arrays
    one = lambda i: (x[i : i + 1], baseline, tuple(a[i : i + 1] for a in each), shared)
    parts = [_retried(suite, *one(i)) for i in range(min(4, len(x)))]
    join = lambda name: np.concatenate([getattr(part, name) for part in parts])
    seconds = sum(part.seconds for part in parts)
    joined = (join("values"), join("claims"), join("cost"), seconds, join("gap"))
    return {"unifiedig": Outcome(*joined)}


def _retried(suite, x, baseline, each, shared):
    from unifiedig import Explainer
    from unifiedig.jax import JaxModel

    axes = (0, 0 if each else None)
    scores = lambda x: jax.vmap(lambda x, e: suite.f(x, *e, *shared), axes)(x, each)
    start = np.broadcast_to(baseline, x.shape[1:])[None]
    explainer = Explainer(JaxModel(scores, dtype=x.dtype), np.asarray(start))
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        result = explainer(np.asarray(x))
    seconds = time.perf_counter() - begin
    gap = np.abs(np.asarray(result.completeness_error)).ravel()
    spent = {16: 16, 32: 48, 64: 112}[explainer.n_steps]
    return Outcome(
        values=np.asarray(result.values).reshape(x.shape),
        claims=gap <= 1e-6 + 1e-4 * np.abs(np.asarray(scores(x))),
        cost=np.full(len(x), spent + 2 / 3),
        seconds=seconds,
        gap=gap,
    )


ROWS: dict[str, Callable[..., dict[str, Outcome]]] = {
    "igjax": ours,
    "fixed": fixed,
    "loop": loop,
    "embedded": embedded,
    "captum": captum,
    "captum_3000": lambda suite, dtype: (
        captum(suite, dtype, (3000,)) if suite.kind == "recurrent" else {}
    ),
    "unifiedig": unifiedig,
}
