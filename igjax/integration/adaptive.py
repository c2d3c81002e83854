r"""The adaptive integrator: a tolerance that is a promise.

Why. Along the path of a long recurrent network F is smooth but can switch within a
millionth of the path. Any fixed rule steps over such a switch or hits it by chance with
a huge weight, and its completeness gap may not even show it. So the path is cut into
panels where, and only where, the samples say that a panel is not understood.

Unit of work: a panel [lo, hi] with the 15 Gauss-Kronrod nodes. Its two indicators cost
nothing: (a) the embedded difference of Kronrod and Gauss, feature by feature; (b) the
profile residual: the slope, integrated, must reproduce F at every known score, the 15 of
the nodes, the two ends, and those of `PROBES` forward-only scores spread over the path.
(b) sees what (a) and completeness cannot: spikes between nodes, jumps that cancel. Its
sharpest part is (c): between two neighboring scores F changes by more than the slopes of
the panel allow. No kink does that; a step does, however small among the kinks, and whose
features it belongs to nobody has seen: it counts many times over.

A panel within its share of the error budget is accepted into the totals; otherwise it
is cut: out comes the gap between two known scores that holds most of the residual, or
it becomes two, or three if it is rough and far from its share. Panels are processed in
generations. A decision uses its own example's totals at the end of the generation
before, so an example's mesh does not depend on its neighbors. All examples of a `vmap`
share one queue: the cost is the sum of what each needs. A jump narrower than
`_narrowest` counts as the limit object: the change of F times the gradient's direction
at the steepest node; one that is blurred by the rounding of t, as the change of F times
the mean direction.

Three things that the estimates rest on. The embedded difference overestimates the error
of a smooth panel and not that of one with a kink; it is shrunk only where the nested
rules say that the panel is smooth, each far better than the one before. And the errors
of panels are independent in sign: those of one feature add up in squares. Where each
panel has its features (jumps, each at its token) nothing is gained by that; where all
have all (a network of ReLUs) the budget of a panel grows with their number (`overlap`),
and an example ends as soon as they are small enough together. And a residual counts in
the features as many times as they cancel in F, but for what rough slopes let expect of
it, by how far seven of the nodes are off: that much the embedded difference has seen.
So does the completeness gap, but for what the embedded differences of the slope, in
squares, let expect of it: so much is in the errors of the features as it is. Where the
gap alone is too wide, the example is integrated once more, with half of the tolerance.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from numpy.polynomial import chebyshev

from igjax import rules
from igjax._program.convolutions import in_loop_layout
from igjax._program.jax_internals import varying

NODES = 15
PROBES = 48
SAFETY = 0.9  # share of the tolerance that the estimates may use up
CAUTION = 2.0  # how often an estimate counts that is not plainly an embedded difference
BELIEF = 3.0  # how far, at most, many panels are believed more than one
JITTER = 4.0  # rounding of t in a panel, in units of eps times its largest contributions
SPARE = 0.5  # how far shares are overdrawn: many panels do not use theirs up
REACH = 0.5  # share of the range of slopes by which the interpolated one may be off
DOUBT = 10.0  # how often, at least, a change of F counts that no slope in the panel shows
GRAIN = 4.0  # how many typical changes of F between neighboring scores are none
FAR = 8.0  # from so many shares on a rough panel is cut in three: it would be cut again
COVER = 1.3  # makes the estimate of a feature cover its error in 95 of 100
NOISE = 8.0  # rounding of a panel, in units of eps times the size of its terms
FLOOR = 64.0  # rounding of the whole, likewise


class Solution(NamedTuple):
    """What the integrator returns for a batch: features flat, outputs flat."""

    values: Any  # (outputs, features)
    error: Any
    score: Any  # (outputs,)
    baseline_score: Any
    bound: Any  # (outputs,): what the error must not exceed
    gap: Any  # (outputs,): completeness gap, as large as it may be in the features
    evaluations: Any
    jumps: Any
    stopped: Any  # budget spent
    mesh: Any  # (capacity, 2): edges of the panels; those of width 0 are none


class _Panels(NamedTuple):
    edges: Any  # (capacity, 2): lo, hi
    scores: Any  # (capacity, 2, outputs): at both edges
    example: Any  # (capacity,)


class _Totals(NamedTuple):
    done: Any  # (examples, 3, outputs, features): values, squared errors, mass
    pending: Any  # values and squared errors of the panels cut in this generation
    # (examples, 4, outputs): indicators, integral of |slope|, astray squared, and by how
    # much all features may be off together whatever else is known.
    spent: Any
    pending_spent: Any
    unit: Any  # (examples, outputs): of what is squared, which might overflow or vanish
    size: Any  # (examples, outputs): sum of |values| at the end of the last generation
    overlap: Any  # (examples, outputs): how much errors add up, 1 if each has its feature
    peak: Any  # (examples, outputs): largest |F| seen
    counts: Any  # (examples, 2): gradients, jumps
    open: Any  # (examples,): panels in this generation
    again: Any  # integrated a second time
    stopped: Any
    mesh: Any  # (examples, panels, 2): edges; swapped while the panel is to be cut


class _State(NamedTuple):
    now: _Panels
    count: Any
    cursor: Any
    then: _Panels
    then_count: Any
    totals: _Totals


@functools.cache
def _tables() -> tuple[np.ndarray, ...]:
    """Kronrod nodes and, on [0, 1], four nested rules; antiderivatives at the nodes.

    The last two are what a polynomial through the seven nodes of Gauss is off by: its
    antiderivative, and itself.
    """
    rule = rules.gauss_kronrod(NODES)
    t, k = np.asarray(rule.nodes), np.asarray(rule.weights)
    g = np.zeros(NODES)
    g[1::2] = rules.gauss_legendre(NODES // 2).weights
    # Eight nodes in pairs: positive weights, and what they miss is not what Gauss misses.
    pairs = _interpolating(t, [1, 2, 5, 6, 8, 9, 12, 13])
    three = _interpolating(t, [1, 7, 13])
    integral = _antiderivative(t)
    at = 2 * np.append(t, 1.0) - 1
    collocation = chebyshev.chebvander(at, NODES) @ integral
    coarse, through = np.zeros_like(collocation), np.zeros((NODES, NODES))
    coarse[:, 1::2] = chebyshev.chebvander(at, NODES // 2) @ _antiderivative(t[1::2])
    powers = chebyshev.chebvander(2 * t - 1, NODES // 2 - 1)
    through[:, 1::2] = powers @ np.linalg.inv(powers[1::2])
    weights = np.stack([k, g, pairs, three])
    missed = np.eye(NODES) - through
    return t, weights, integral, collocation, collocation - coarse, missed


def _antiderivative(t) -> np.ndarray:
    """Chebyshev coefficients of the integral from 0 of the interpolant of values at t."""
    coefficients = np.linalg.inv(chebyshev.chebvander(2 * t - 1, len(t) - 1))
    columns = [chebyshev.chebint(a, lbnd=-1, scl=0.5) for a in coefficients.T]
    return np.stack(columns, axis=1)


def _interpolating(t, some) -> np.ndarray:
    """The weights, on all nodes, of the rule that interpolates at some of them."""
    weights, n = np.zeros(len(t)), len(t[some])
    moments = np.diff(
        [
            [chebyshev.chebval(u, chebyshev.chebint(row, scl=0.5)) for u in (-1, 1)]
            for row in np.eye(n)
        ]
    )
    weights[some] = np.linalg.solve(
        chebyshev.chebvander(2 * t[some] - 1, n - 1).T, moments
    )[:, 0]
    return weights


def solve(profile, operands, rule: rules.Adaptive, shape) -> Solution:
    """Integrates one example; under `vmap`, all examples in one queue.

    Args:
        profile: `(score, contributions)`: functions of (operands, t) that return
            (outputs,) and ((outputs,), (outputs, features)).
        operands: pytree of arrays, of one example.
        rule: the tolerances, which are operands too, and the budget.
        shape: (outputs, features, dtype, eps): sizes, working dtype, rounding unit.

    Returns:
        A `Solution`.
    """
    leaves, structure = jax.tree.flatten((operands, rule))
    problem = _Problem(profile, structure, rule.max_evaluations, *shape)

    @jax.custom_jvp
    def forward_only(*leaves):
        return _solver(problem, (False,) * len(leaves), 1)(*map(jnp.asarray, leaves))

    @forward_only.defjvp
    def _(primals, tangents):
        raise TypeError(
            "The adaptive rule cannot be differentiated: its mesh depends on the input. "
            "Use a fixed rule, rules.gauss_legendre(n), or the mesh of this example as "
            "one: igjax.adaptive_rule(f)(x, baseline, *args)."
        )

    return jax.tree.map(lambda a: a[0], forward_only(*leaves))


class _Problem(NamedTuple):
    profile: Any
    structure: Any
    max_evaluations: int
    outputs: int
    features: int
    dtype: Any
    eps: float


def _solver(problem: _Problem, batched: tuple[bool, ...], size: int):
    """The solver of `size` examples as a function of leaves, some of them batched."""

    @custom_vmap
    def run(*leaves):
        return _run(problem, batched, size, leaves)

    @run.def_vmap
    def _(axis_size, in_batched, *leaves):
        total = axis_size * size

        def merge(leaf, was, now):
            if now and was:
                return leaf.reshape(total, *leaf.shape[2:])
            if now:
                return jnp.repeat(leaf, size, axis=0)
            return jnp.tile(leaf, (axis_size, *[1] * (leaf.ndim - 1))) if was else leaf

        merged = map(merge, leaves, batched, in_batched)
        flags = tuple(a or b for a, b in zip(batched, in_batched, strict=True))
        out = _solver(problem, flags, total)(*merged)
        split = lambda a: a.reshape(axis_size, size, *a.shape[1:])
        return jax.tree.map(split, out), jax.tree.map(lambda _: True, out)

    return run


def _run(problem: _Problem, batched, size, leaves) -> Solution:
    axes = [0 if b else None for b in batched]
    pick = lambda i: [
        leaf[i] if b else leaf for leaf, b in zip(leaves, batched, strict=True)
    ]
    unflatten = problem.structure.unflatten
    score, contributions = problem.profile

    def scores(i):
        operands, _ = unflatten(pick(i))
        grid = jnp.linspace(0, 1, PROBES + 2, dtype=problem.dtype)
        along = jax.vmap(lambda t: score(operands, t).astype(problem.dtype))
        return in_loop_layout(along)(grid)

    def evaluate(examples, t):
        """Scores and contributions of lanes (lanes, nodes, ...)."""
        lanes = pick(examples)

        def lane(t, *leaves):
            operands, _ = unflatten(leaves)
            f, c = jax.vmap(lambda t: contributions(operands, t))(t)
            return f.astype(problem.dtype), c.astype(problem.dtype)

        along = jax.vmap(lane, in_axes=(0, *axes))
        return in_loop_layout(along)(t, *lanes)

    def limits(i):
        _, rule = unflatten(pick(i))
        pair = (
            rule.tolerance,
            0.0 if rule.absolute_tolerance is None else rule.absolute_tolerance,
        )
        return [jnp.asarray(a, problem.dtype) for a in pair]

    probes = jax.lax.map(scores, jnp.arange(size))
    tolerance, absolute = jax.vmap(limits)(jnp.arange(size))
    state = varying(_start(problem, size, probes), (probes, leaves))
    lanes = lanes_of(size)

    def bound(totals):
        floor = FLOOR * _rounding(problem, totals)
        return jnp.maximum(tolerance[:, None] * totals.size, absolute[:, None] + floor)

    def generation(state):
        limit = bound(state.totals) * _strict(state.totals)
        chunk = functools.partial(
            _chunk, problem, evaluate, probes, tolerance, limit, state.totals, lanes
        )
        state = jax.lax.while_loop(lambda s: s.cursor < s.count, chunk, state)
        return varying(_turn(problem, state, bound, probes), state)

    state = jax.lax.while_loop(lambda s: s.count > 0, generation, state)
    totals = state.totals
    values, squares, mass = (totals.done[:, i] for i in range(3))
    floor = FLOOR / 8 * _rounding(problem, totals)
    share = _divided(mass, mass.sum(-1, keepdims=True))
    errors = _errors(totals, squares)
    return Solution(
        values=values,
        error=errors + floor[..., None] * share,
        score=probes[:, -1],
        baseline_score=probes[:, 0],
        bound=bound(totals._replace(size=jnp.abs(values).sum(-1))),
        gap=_gap(problem, totals, values, errors, probes),
        evaluations=totals.counts[:, 0],
        jumps=totals.counts[:, 1],
        stopped=totals.stopped,
        mesh=totals.mesh,
    )


def _rounding(problem, totals):
    """One unit of rounding of an example: of its largest score and its contributions."""
    tiny = float(jnp.finfo(problem.dtype).tiny)
    return problem.eps * (totals.peak + totals.done[:, 2].sum(-1)) + tiny


def _divided(a, b):
    """The quotient a / b, and a where b is 0."""
    return a / jnp.where(b == 0, 1, b)


def _strict(totals):
    """Which part of the bound the estimates may use, of (examples, 1)."""
    return jnp.where(totals.again, 0.5, 1.0).astype(totals.size.dtype)[:, None]


def _gap(problem, totals, values, errors, probes):
    """The completeness gap of values, as large as it may be in the features.

    What the rough slopes of all panels are astray by, added up in squares, is in the
    features what their errors say, at the most: were all steps in one direction, the two
    would be in proportion. What exceeds it may be as much as the features cancel.
    """
    delta = jnp.abs(values.sum(-1) - (probes[:, -1] - probes[:, 0]))
    mass, steep = totals.done[:, 2].sum(-1), totals.spent[:, 1]
    floor = FLOOR / 8 * _rounding(problem, totals)
    known = COVER * jnp.sqrt(totals.spent[:, 2]) * totals.unit
    strict = _amplified(delta, floor, mass, steep)
    excess = jnp.maximum(delta - known, 0)
    return jnp.minimum(
        strict,
        jnp.maximum(delta, errors.sum(-1) + _amplified(excess, floor, mass, steep)),
    )


def lanes_of(examples: int) -> int:
    """How many panels are evaluated side by side."""
    return min(examples, {"cpu": 4}.get(jax.default_backend(), 64))


def _start(problem: _Problem, size: int, probes) -> _State:
    most = math.ceil(problem.max_evaluations / NODES)
    capacity = size * 3 * most
    outputs, features, dtype = problem.outputs, problem.features, problem.dtype
    blank = _Panels(
        edges=jnp.tile(jnp.arange(2, dtype=dtype), (capacity, 1)),
        scores=jnp.zeros((capacity, 2, outputs), dtype),
        example=jnp.zeros(capacity, jnp.int32),
    )
    first = blank._replace(
        scores=blank.scores.at[:size].set(probes[:, jnp.array([0, -1])]),
        example=blank.example.at[:size].set(jnp.arange(size, dtype=jnp.int32)),
    )
    narrow = jnp.zeros((size, outputs), dtype)
    totals = _Totals(
        done=jnp.zeros((size, 3, outputs, features), dtype),
        pending=jnp.zeros((size, 2, outputs, features), dtype),
        spent=jnp.zeros((size, 4, outputs), dtype),
        pending_spent=narrow,
        unit=_unit(probes),
        size=narrow,
        overlap=narrow + 1,
        peak=jnp.abs(probes).max(1),
        counts=jnp.zeros((size, 2), jnp.int32),
        open=jnp.ones(size, jnp.int32),
        again=jnp.zeros(size, bool),
        stopped=jnp.zeros(size, bool),
        mesh=jnp.zeros((size, most, 2), dtype),
    )
    zero = jnp.int32(0)
    return _State(first, jnp.int32(size), zero, blank, zero, totals)


def _unit(probes):
    """The size of F: of its changes, if it has any."""
    change = probes.max(1) - probes.min(1)
    unit = jnp.where(change > 0, change, jnp.abs(probes).max(1))
    return jnp.where((unit > 0) & jnp.isfinite(unit), unit, 1)


def _errors(totals: _Totals, squares):
    """The errors of features, of which those of panels are independent."""
    even = totals.spent[:, 3, :, None] / max(squares.shape[-1], 1)
    return jnp.sqrt(squares) * totals.unit[..., None] + even


def _chunk(problem, evaluate, probes, tolerance, limit, before, lanes, state: _State):
    """Evaluates the next few panels of the generation; accepts or cuts each.

    `before` are the totals at the end of the generation before, `limit` their bound.
    """
    size = limit.shape[0]
    index = state.cursor + jnp.arange(lanes, dtype=jnp.int32)
    valid = index < state.count
    panel = jax.tree.map(lambda a: a[jnp.minimum(index, state.count - 1)], state.now)
    example = panel.example
    lo, width = panel.edges[:, :1], jnp.diff(panel.edges)
    nodes = lo + width * _table(problem, 0)[None]
    f, c = evaluate(example, nodes)
    peak = jnp.maximum(before.peak[example], jnp.abs(f).max(1))
    belief = jnp.minimum(1 / before.overlap[example], BELIEF)
    seen = _measure(problem, panel, nodes, f, c, probes[example], peak, belief)

    # In the first generation the panel is all there is to know of the size.
    first = before.counts[example, :1] == 0
    own = jnp.where(first, tolerance[example][:, None] * seen.volume, 0)
    ceiling = SAFETY * jnp.maximum(limit[example], own) / before.overlap[example]
    left = jnp.maximum(ceiling - before.spent[example, 0], 0.1 * ceiling)
    left = left * (1 + SPARE * (belief - 1))
    share = left / before.open[example][:, None].astype(problem.dtype)
    small = seen.error.sum(-1) <= share
    fine = (small | (seen.indicator <= seen.noise)).all(1)
    finite = jnp.isfinite(seen.indicator).all(1)
    narrow = width[:, 0] < _narrowest(problem.dtype)
    blurred = (seen.indicator <= seen.jitter).all(1)
    jump = (narrow | blurred) & ~fine & finite
    accept = fine | narrow | blurred | ~finite

    worst, zoom = _worst_gap(seen.known)
    found = seen.kronrod, seen.error, jnp.zeros_like(seen.residual[..., None])
    sharp = _sharp_jump(c, panel, seen, nodes <= _row(seen.known.t, worst))
    found = _where((jump & narrow)[:, None, None], sharp, found)
    better, *blur = _blurred_jump(problem, c, panel, seen)
    best = _where((jump & blurred)[:, None, None] & better, tuple(blur), found)
    value, error, unknown = best

    totals = state.totals
    at = jnp.where(valid, example, size)

    def add(total, where, *amounts):
        amount = jnp.stack(amounts, 1)
        keep = where.reshape(-1, *[1] * (amount.ndim - 1))
        return total.at[at].add(jnp.where(keep, amount, 0), mode="drop")

    unit = before.unit[example]
    both = value, (error / unit[..., None]) ** 2
    astray = jnp.where(jump[:, None], 0, seen.astray / unit)
    spent = (error + unknown / max(problem.features, 1)).sum(-1)
    slot = totals.counts[example, 0] // NODES + _rank_within(at)
    kept = jnp.where(accept[:, None], panel.edges, panel.edges[:, ::-1])
    totals = totals._replace(
        done=add(totals.done, accept, *both, seen.mass),
        pending=add(totals.pending, ~accept, *both),
        spent=add(totals.spent, accept, spent, seen.steep, astray**2, unknown[..., 0]),
        pending_spent=add(totals.pending_spent[:, None], ~accept, spent)[:, 0],
        peak=totals.peak.at[at].max(peak, mode="drop"),
        counts=add(totals.counts, valid, jnp.full(lanes, NODES, jnp.int32), jump),
        mesh=totals.mesh.at[at, slot].set(kept, mode="drop"),
    )
    zoom = zoom & (seen.residual.sum(1) > seen.embedded.sum(1) / 2)
    far = ((seen.error.sum(-1) > FAR * share) & seen.rough).any(1)
    children, wide = _cut(panel, seen.known, worst, zoom, far)
    wanted = wide & (valid & ~accept)[:, None]
    then, then_count = _append(state.then, state.then_count, children, wanted)
    return state._replace(
        cursor=state.cursor + lanes, then=then, then_count=then_count, totals=totals
    )


class _Measured(NamedTuple):
    kronrod: Any  # (panels, outputs, features), as are mass and error
    mass: Any
    error: Any
    embedded: Any  # (panels, outputs), as all that follow
    residual: Any
    indicator: Any
    noise: Any
    jitter: Any
    volume: Any  # sum of |kronrod|
    astray: Any  # the embedded difference of the slope
    steep: Any
    rough: Any  # none of the nested rules is far better than the one before
    known: Any


class _Known(NamedTuple):
    """What is known along panels: both ends, the nodes, and the probes inside."""

    t: Any  # (panels, points), ascending
    residual: Any  # (panels, points, outputs)
    score: Any


def _measure(problem, panel, nodes, f, c, probes, peak, belief) -> _Measured:
    """The integrals of panels and both indicators of their error."""
    tables = (_table(problem, i) for i in range(6))
    _, weights, integral, collocation, finer, missed = tables
    dot = functools.partial(jnp.einsum, precision="highest")
    width = panel.edges[:, 1] - panel.edges[:, 0]
    scale = width[:, None, None]
    kronrod, gauss, pairs, three = scale[None] * dot("rk,pkof->rpof", weights, c)
    mass = scale * _over_nodes(weights[0], jnp.abs(c))
    slope = c.sum(-1)  # (panels, nodes, outputs)

    # (a) the embedded difference, shrunk where it falls off as on a smooth panel: there
    # each rule is far better than the one before. At a kink none is. Two rules may agree
    # by chance; then the one on pairs of nodes does not, and on a smooth panel its
    # relative error squared is still far above the error of all fifteen.
    difference = jnp.abs(kronrod - gauss)
    raw, rough = difference.sum(-1), jnp.abs(gauss - three).sum(-1)
    volume = jnp.abs(kronrod).sum(-1)
    second = jnp.abs(kronrod - pairs).sum(-1)
    shrink = jnp.minimum(1, _divided(10 * raw, rough))
    squared = second * jnp.minimum(1, _divided(second, volume))
    embedded = jnp.maximum(raw * shrink, squared)

    # (b) the profile residual at the nodes, the end and the probes inside the panel.
    known = _profile(panel, width, nodes, f, slope, collocation, integral, probes)
    whole = mass.sum(-1)
    noise = NOISE * problem.eps * (peak + whole)
    steep = width[:, None] * _over_nodes(weights[0], jnp.abs(slope))
    expected = shrink * (scale * jnp.abs(dot("jk,pko->pjo", finer, slope))).max(1)
    residual = jnp.abs(known.residual).max(1)
    residual = _amplified(residual, expected + noise, whole, steep)

    # (c) what F changes by between two known scores beyond any slope of the panel, or
    # beyond what the polynomial through its slopes may be off by. Not so what F changes
    # by everywhere: steps are few, rounding is in all scores.
    miss = jnp.abs(dot("jk,pko->pjo", missed, slope)).max(1)
    off = jnp.minimum(REACH * (slope.max(1) - slope.min(1)), 2 * miss)[:, None]
    change = jnp.abs(jnp.diff(known.residual, axis=1))
    grain = GRAIN * jnp.sqrt(change).mean(1, keepdims=True) ** 2
    steps = jnp.diff(known.t, axis=1)[..., None]
    allowed = jnp.maximum(noise[:, None] + steps * off, grain)
    unseen = jnp.maximum(change - allowed, 0).sum(1)
    unseen = jnp.maximum(DOUBT * unseen, _amplified(unseen, 0, whole, steep))

    # What the profile does not explain belongs to some feature: spread it by size. And
    # where the two rules agree on a feature by chance, it shares in what they do not;
    # less so the more panels there are, since not all of them agree by chance.
    excess = jnp.maximum(jnp.maximum(residual - belief * embedded, unseen), 0)[..., None]
    chance = embedded / belief
    even, total = 1 / max(problem.features, 1), whole[..., None]
    spread = jnp.where(total == 0, even, _divided(mass, total))
    caution = jnp.where((shrink < 1) | (excess[..., 0] > 0), CAUTION, 1)
    return _Measured(
        kronrod=kronrod,
        mass=mass,
        error=caution[..., None]
        * (
            COVER * jnp.hypot(shrink[..., None] * difference, chance[..., None] * spread)
            + excess * spread
        ),
        embedded=embedded,
        residual=residual,
        indicator=jnp.maximum(embedded, residual),
        noise=noise,
        jitter=JITTER * problem.eps * jnp.abs(c).sum(-1).max(1),
        volume=volume,
        astray=shrink * jnp.abs((kronrod - gauss).sum(-1)),
        steep=steep,
        rough=shrink == 1,
        known=known,
    )


def _over_nodes(weights, a):
    """The weighted sum of `a` (panels, nodes, ...) over the nodes."""
    return jnp.einsum("k,pk...->p...", weights, a, precision="highest")


def _table(problem, index: int):
    return jnp.asarray(_tables()[index], problem.dtype)


def _profile(panel, width, nodes, f, slope, collocation, integral, probes) -> _Known:
    """What is known along each panel, in order of time.

    The residual is the score minus the integral of the interpolated slope up to there.
    """
    dot = functools.partial(jnp.einsum, precision="highest")
    lo, hi, start = panel.edges[:, :1], panel.edges[:, 1:], panel.scores[:, :1]
    scale = width[:, None, None]
    scores = jnp.concatenate([f, panel.scores[:, 1:]], 1)
    residual = scores - start - scale * dot("jk,pko->pjo", collocation, slope)

    grid = jnp.linspace(0, 1, PROBES + 2, dtype=nodes.dtype)[None, 1:-1]
    tau = (grid - lo) / width[:, None]
    inside = (tau > 0) & (tau < 1)
    basis = _chebyshev(2 * jnp.clip(tau, 0, 1) - 1)
    probed = probes[:, 1:-1]
    more = probed - start - scale * dot("nqj,nk,qko->qjo", basis, integral, slope)
    # A probe outside the panel counts as one more copy of its end: an empty gap.
    keep = inside[..., None]
    more, probed = (
        jnp.where(keep, more, residual[:, -1:]),
        jnp.where(keep, probed, scores[:, -1:]),
    )
    at = jnp.concatenate([lo, nodes, hi, jnp.where(inside, grid, hi)], 1)
    residual = jnp.concatenate([jnp.zeros_like(start), residual, more], 1)
    scores = jnp.concatenate([start, scores, probed], 1)
    order = jnp.argsort(at, axis=1)[..., None]
    known = jnp.concatenate([at[..., None], residual, scores], -1)
    known = jnp.take_along_axis(known, order, 1)
    return _Known(known[..., 0], *jnp.split(known[..., 1:], 2, axis=-1))


def _chebyshev(u):
    """Chebyshev polynomials of degrees 0 to NODES at u, stacked in front."""
    return jnp.cos(
        jnp.arange(NODES + 1, dtype=u.dtype)[:, None, None] * jnp.arccos(u)[None]
    )


def _amplified(gap, known, mass, steep):
    """A change of F that is not explained, as large as it may be in the features.

    What the slopes miss is missing in every feature: where features cancel in F, it
    stands for more than its size, by the ratio of mass to slope. Not so what is `known`:
    rounding, and what rough slopes are off by.
    """
    return jnp.maximum(gap, (gap - known) * _divided(mass, steep))


def _worst_gap(known: _Known):
    """The gap of most residual: its index (panels, 1), and whether it holds over half."""
    gaps = jnp.abs(jnp.diff(known.residual, axis=1)).sum(-1)
    return jnp.argmax(gaps, 1)[:, None], gaps.max(1) > gaps.sum(1) / 2


def _row(a, index):
    """For each panel the rows of `a` (panels, points, ...) at `index` (panels, rows)."""
    return jnp.take_along_axis(a, index.reshape(*index.shape, *[1] * (a.ndim - 2)), 1)


def _sharp_jump(c, panel, seen, left):
    """The limit object of a jump: the change of F along the steepest gradient.

    Its error is how much the steepest gradients on the two sides of the jump disagree
    about the direction. And what the slopes do not explain of the change, which is all of
    it if one side is flat, may be that of other features than those whose tails are seen:
    it is missing there, and too much here. `left` says which nodes (panels, nodes) lie
    before the jump.
    """
    slope = c.sum(-1)
    change = panel.scores[:, 1] - panel.scores[:, 0]
    steep = slope * jnp.sign(change)[:, None]
    size = change[..., None]

    def direction(side):
        upward = jnp.where(side[..., None] & (steep > 0), steep, 0)
        node = jnp.argmax(upward, 1)[:, None, :, None]
        parts = jnp.take_along_axis(c, node, 1)[:, 0]
        height = upward.max(1)[..., None]
        along = jnp.where(height > 0, parts.sum(-1, keepdims=True), 1)
        return jnp.where(height > 0, parts / along, 0), height

    (before, after), (low, high) = jax.vmap(direction)(jnp.stack([left, ~left]))
    value = size * jnp.where(low > high, before, after)
    doubt = jnp.abs(size * (before - after))
    missing = jnp.minimum(jnp.abs(seen.kronrod.sum(-1) - change), jnp.abs(change))
    blind = (low == 0) | (high == 0)
    unseen = 2 * jnp.where(blind, jnp.abs(size), missing[..., None])
    return value, doubt, unseen


def _blurred_jump(problem, c, panel, seen):
    """A jump hardly wider than the rounding of t: the change of F along its directions.

    Its nodes are not where they should be, but each has the gradient of where it is.
    So the weight of each is uncertain, by the share of the change that the slopes do not
    explain; where all have one direction, nothing is.
    """
    change = (panel.scores[:, 1] - panel.scores[:, 0])[..., None]
    slope = c.sum(-1, keepdims=True)
    mean = _divided(seen.kronrod, seen.kronrod.sum(-1, keepdims=True))
    weights, width = _table(problem, 1)[0], jnp.diff(panel.edges)[..., None]
    spread = width * _over_nodes(weights, jnp.abs(c - slope * mean[:, None]))
    stray = jnp.abs(seen.known.residual).max(1)[..., None]
    doubt = _divided(4 * stray, jnp.abs(change))
    error = spread * doubt
    smaller = error.sum(-1, keepdims=True) < seen.error.sum(-1, keepdims=True)
    # At least three nodes lie in the jump, and their slopes explain half of the change.
    heights = weights[None, :, None] * jnp.abs(slope[..., 0])
    seen_by = _divided(heights.sum(1) ** 2, (heights**2).sum(1))[..., None]
    good = smaller & (doubt < 2) & (seen_by >= 3)
    return good, change * mean, error, jnp.zeros_like(change)


def _where(mask, ours, theirs):
    return jax.tree.map(lambda a, b: jnp.where(mask, a, b), ours, theirs)


def _cut(panel, known: _Known, worst, zoom, far):
    """The children of each panel, three, and which of them are wider than nothing."""
    width = jnp.diff(panel.edges)
    third = jnp.where(far[:, None], 1 / 3, 1 / 2).astype(width.dtype)
    places = panel.edges[:, :1] + width * jnp.concatenate([third, 1 - third], 1)
    nearest = jnp.argmin(jnp.abs(known.t[:, :, None] - places[:, None]), 1)
    inner = jnp.concatenate([worst, worst + 1], 1)
    inner = jnp.where(zoom[:, None], inner, nearest)
    both = lambda ends, a: jnp.concatenate([ends[:, :1], _row(a, inner), ends[:, 1:]], 1)
    points, scores = both(panel.edges, known.t), both(panel.scores, known.score)
    pairs = lambda a: jnp.stack([a[:, :-1], a[:, 1:]], 2)
    edges = pairs(points)
    wide = edges[..., 1] > edges[..., 0]
    example = jnp.broadcast_to(panel.example[:, None], wide.shape)
    return _Panels(edges, pairs(scores), example), wide


def _append(queue: _Panels, count, children: _Panels, wanted):
    """Appends those children (lanes, 3) to the queue that are wanted."""
    flat = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), children)
    wanted = wanted.ravel()
    before = jnp.tril(jnp.broadcast_to(wanted[None], (len(wanted),) * 2), -1).sum(1)
    place = jnp.where(wanted, count + before.astype(jnp.int32), len(queue.example))
    put = lambda a, new: a.at[place].set(new, mode="drop")
    return jax.tree.map(put, queue, flat), count + wanted.sum().astype(count.dtype)


def _rank_within(example):
    """For each lane, how many lanes before it have its example."""
    return jnp.tril(example[:, None] == example[None], -1).sum(1).astype(jnp.int32)


def _turn(problem: _Problem, state: _State, bound, probes) -> _State:
    """Ends a generation: sizes are brought up to date, and examples end.

    They end where the budget is spent, and where all errors together, those of the panels
    to be cut among them, are within the bound, if these are plain embedded differences.
    """
    totals = state.totals
    capacity = len(state.then.example)
    waiting = jnp.arange(capacity, dtype=jnp.int32) < state.then_count
    example = jnp.where(waiting, state.then.example, len(totals.open))
    children = jnp.zeros_like(totals.open).at[example].add(1, mode="drop")
    over = totals.counts[:, 0] + NODES * children > problem.max_evaluations
    only = lambda where, a: jnp.where(where.reshape(-1, *[1] * (a.ndim - 1)), a, 0)

    # What is known of the whole: the accepted panels and those that were cut.
    values, squares = (totals.done[:, :2] + totals.pending).swapaxes(0, 1)
    linear = totals.spent[:, 0] + totals.pending_spent
    errors = _errors(totals, squares)
    together = errors.sum(-1)
    size = jnp.abs(values).sum(-1)
    gap = _gap(problem, totals, values, errors, probes)
    limit = SAFETY * bound(totals._replace(size=size))
    small = (together <= _strict(totals) * limit) & (gap <= limit)
    enough = small.all(1)
    stop = (children > 0) & over & ~enough
    drop = stop | enough | ~jnp.isfinite(totals.spent).all((1, 2))
    to_be_cut = totals.mesh[..., :1] > totals.mesh[..., 1:]
    kept = only(drop, totals.mesh[..., ::-1])
    totals = totals._replace(
        done=totals.done.at[:, :2].add(only(drop, totals.pending)),
        spent=totals.spent.at[:, 0].add(only(drop, totals.pending_spent)),
        size=size,
        overlap=jnp.where(linear > 0, _divided(together, linear), 1),
        open=jnp.where(drop, 0, children),
        stopped=totals.stopped | stop,
        pending=jnp.zeros_like(totals.pending),
        pending_spent=jnp.zeros_like(totals.pending_spent),
        mesh=jnp.where(to_be_cut, kept, totals.mesh),
    )
    keep = waiting & ~drop[jnp.minimum(example, len(drop) - 1)]
    place = jnp.where(keep, jnp.cumsum(keep) - 1, capacity)
    now = jax.tree.map(lambda a: a.at[place].set(a, mode="drop"), state.then)
    count, zero = keep.sum().astype(jnp.int32), jnp.int32(0)
    state = _State(now, count, zero, state.then, zero, totals)
    finished = (state.totals.open == 0) & (children == 0) & (totals.counts[:, 1] == 0)
    gap = (gap > bound(totals)).any(1) & jnp.isfinite(gap).all(1)
    room = 3 * totals.counts[:, 0] <= problem.max_evaluations
    return _again(state, finished & gap & room & ~totals.again, probes)


def _again(state: _State, which, probes) -> _State:
    """Integrates those examples again, with half of the tolerance.

    All their panels were accepted, but the gap is wider than it may be: as can happen
    by chance where there are many, none of which is to blame.
    """
    totals, size = state.totals, len(which)
    place = state.count + jnp.cumsum(which, dtype=jnp.int32) - 1
    place = jnp.where(which, place, len(state.now.example))
    first = _Panels(
        jnp.tile(jnp.arange(2, dtype=state.now.edges.dtype), (size, 1)),
        probes[:, jnp.array([0, -1])],
        jnp.arange(size, dtype=jnp.int32),
    )
    put = lambda a, new: a.at[place].set(new, mode="drop")
    clear = lambda a: jnp.where(which.reshape(-1, *[1] * (a.ndim - 1)), 0, a)
    return state._replace(
        now=jax.tree.map(put, state.now, first),
        count=state.count + which.sum().astype(jnp.int32),
        totals=totals._replace(
            done=clear(totals.done),
            spent=clear(totals.spent),
            mesh=clear(totals.mesh),
            open=jnp.where(which, 1, totals.open),
            overlap=jnp.where(which[:, None], 1, totals.overlap),
            again=totals.again | which,
        ),
    )


def _narrowest(dtype) -> float:
    """The width below which a panel that still fails is a jump."""
    return 2.0**-20 if jnp.finfo(dtype).bits <= 32 else 1e-12
