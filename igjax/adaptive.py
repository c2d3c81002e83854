r"""The adaptive integrator: a tolerance that is a promise.

Why. Along the path of a long recurrent network F is smooth but can switch within a
millionth of the path. Any fixed rule steps over such a switch or hits it by chance with
a huge weight, and its completeness gap may not even show it. So the path is cut into
panels where, and only where, the samples say that a panel is not understood.

Unit of work: a panel [lo, hi] with the 15 Gauss-Kronrod nodes. Its two indicators cost
nothing: (a) the embedded difference of Kronrod and Gauss, feature by feature; (b) the
profile residual: the slope, integrated, must reproduce F at every known score, the 15 of
the nodes, the two ends, and those of `PROBES` forward-only scores spread over the path.
(b) sees what (a) and completeness cannot: spikes between nodes, jumps that cancel.

A panel within its share of the error budget is accepted into the totals; otherwise it
is cut: out comes the gap between two known scores that holds most of the residual, or
the panel is bisected. Panels are processed in generations. A decision uses its own
example's totals at the end of the generation before, so an example's mesh does not
depend on its neighbors. All examples of a `vmap` share one queue: the cost is the sum of
what each needs. A jump narrower than `NARROWEST` counts as the limit object: the change
of F times the gradient's direction at the steepest node.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from numpy.polynomial import legendre

from igjax import rules
from igjax._convolutions import in_loop_layout
from igjax._tree import varying

NODES = 15
PROBES = 48
SAFETY = 0.5  # share of the tolerance that the indicators may use up
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
    panels: Any  # how many panels the mesh has
    edges: Any  # (capacity, 2): the mesh, zeros behind its end


class _Panels(NamedTuple):
    lo: Any  # (capacity,)
    hi: Any
    f_lo: Any  # (capacity, outputs)
    f_hi: Any
    example: Any  # (capacity,)


class _Totals(NamedTuple):
    values: Any  # (examples, outputs, features): accepted panels
    error: Any
    mass: Any  # integral of |contribution|
    pending: Any  # the same of the panels cut in this generation
    pending_error: Any
    spent: Any  # (examples, outputs): indicators of the accepted panels, summed
    pending_spent: Any
    size: Any  # (examples, outputs): sum of |values| at the end of the last generation
    steep: Any  # (examples, outputs): integral of |slope|
    peak: Any  # (examples, outputs): largest |F| seen
    open: Any  # (examples,): panels in this generation
    evaluations: Any
    jumps: Any
    stopped: Any
    accepted: Any  # (examples,): number of panels in the mesh
    edges: Any  # (examples, panels, 2)


class _State(NamedTuple):
    now: _Panels
    count: Any
    cursor: Any
    then: _Panels
    then_count: Any
    totals: _Totals


@functools.cache
def _tables() -> tuple[np.ndarray, ...]:
    """Kronrod nodes and weights on [0, 1], Gauss weights, and antiderivatives."""
    rule = rules.gauss_kronrod(NODES)
    t, k = np.asarray(rule.nodes), np.asarray(rule.weights)
    g = np.zeros(NODES)
    g[1::2] = rules.gauss_legendre(NODES // 2).weights
    to_legendre = np.linalg.inv(legendre.legvander(2 * t - 1, NODES - 1))
    # Legendre coefficients of the integral from 0 of the interpolant of slopes.
    integral = np.stack(
        [legendre.legint(column, lbnd=-1, scl=0.5) for column in to_legendre.T], axis=1
    )
    ends = legendre.legvander(2 * np.append(t, 1.0) - 1, NODES)
    return t, k, g, integral, ends @ integral


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
    lanes = min(size, _LANES.get(jax.default_backend(), 64))

    def bound(totals):
        mass = totals.mass.sum(-1)
        floor = FLOOR * problem.eps * (totals.peak + mass)
        return jnp.maximum(tolerance[:, None] * totals.size, absolute[:, None] + floor)

    def generation(state):
        limit = bound(state.totals)
        chunk = functools.partial(
            _chunk, problem, evaluate, probes, tolerance, limit, state.totals, lanes
        )
        state = jax.lax.while_loop(lambda s: s.cursor < s.count, chunk, state)
        return varying(_turn(problem, state), state)

    state = jax.lax.while_loop(lambda s: s.count > 0, generation, state)
    totals = state.totals
    mass = totals.mass.sum(-1)
    floor = FLOOR / 8 * problem.eps * (totals.peak + mass)
    share = totals.mass / jnp.where(mass == 0, 1, mass)[..., None]
    delta = jnp.abs(totals.values.sum(-1) - (probes[:, -1] - probes[:, 0]))
    return Solution(
        values=totals.values,
        error=totals.error + floor[..., None] * share,
        score=probes[:, -1],
        baseline_score=probes[:, 0],
        bound=bound(totals._replace(size=jnp.abs(totals.values).sum(-1))),
        gap=_amplified(delta, floor, totals.mass, totals.steep),
        evaluations=totals.evaluations,
        jumps=totals.jumps,
        stopped=totals.stopped,
        panels=totals.accepted,
        edges=totals.edges,
    )


_LANES = {"cpu": 4}  # panels evaluated side by side


def _start(problem: _Problem, size: int, probes) -> _State:
    most = math.ceil(problem.max_evaluations / NODES)
    capacity = size * 3 * most
    outputs, features, dtype = problem.outputs, problem.features, problem.dtype
    blank = _Panels(
        lo=jnp.zeros(capacity, dtype),
        hi=jnp.ones(capacity, dtype),
        f_lo=jnp.zeros((capacity, outputs), dtype),
        f_hi=jnp.zeros((capacity, outputs), dtype),
        example=jnp.zeros(capacity, jnp.int32),
    )
    first = blank._replace(
        f_lo=blank.f_lo.at[:size].set(probes[:, 0]),
        f_hi=blank.f_hi.at[:size].set(probes[:, -1]),
        example=blank.example.at[:size].set(jnp.arange(size, dtype=jnp.int32)),
    )
    wide = jnp.zeros((size, outputs, features), dtype)
    narrow, count = jnp.zeros((size, outputs), dtype), jnp.zeros(size, jnp.int32)
    totals = _Totals(
        *(wide,) * 5,
        *(narrow,) * 2,
        size=narrow,
        steep=narrow,
        peak=jnp.abs(probes).max(1),
        open=count + 1,
        evaluations=count,
        jumps=count,
        stopped=count > 0,
        accepted=count,
        edges=jnp.zeros((size, most, 2), dtype),
    )
    zero = jnp.int32(0)
    return _State(first, jnp.int32(size), zero, blank, zero, totals)


def _chunk(problem, evaluate, probes, tolerance, limit, before, lanes, state: _State):
    """Evaluates the next few panels of the generation; accepts or cuts each.

    `before` are the totals at the end of the generation before, `limit` their bound.
    """
    size = limit.shape[0]
    index = state.cursor + jnp.arange(lanes, dtype=jnp.int32)
    valid = index < state.count
    panel = jax.tree.map(lambda a: a[jnp.minimum(index, state.count - 1)], state.now)
    example = panel.example
    nodes = panel.lo[:, None] + (panel.hi - panel.lo)[:, None] * _table(problem, 0)[None]
    f, c = evaluate(example, nodes)
    peak = jnp.maximum(before.peak[example], jnp.abs(f).max(1))
    seen = _measure(problem, panel, nodes, f, c, probes[example], peak)

    # In the first generation the panel is all there is to know of the size.
    first = (before.evaluations[example] == 0)[:, None]
    own = jnp.where(first, tolerance[example][:, None] * seen.volume, 0)
    ceiling = jnp.maximum(limit[example], own)
    left = jnp.maximum(SAFETY * ceiling - before.spent[example], 0.1 * SAFETY * ceiling)
    share = left / before.open[example][:, None].astype(problem.dtype)
    fine = (seen.indicator <= jnp.maximum(share, seen.noise)).all(1)
    finite = jnp.isfinite(seen.indicator).all(1)
    narrow = panel.hi - panel.lo < _narrowest(problem.dtype)
    jump = (narrow & ~fine & finite)[:, None, None]
    accept = fine | narrow | ~finite

    worst, cut, zoom = _worst_gap(panel, seen.known_t, seen.known_r)
    limit_value, limit_error = _jump(c, panel, nodes <= cut[:, None])
    value = jnp.where(jump, limit_value, seen.kronrod)
    error = jnp.where(jump, limit_error, seen.error)
    spent = error.sum(-1)

    totals = state.totals
    at = jnp.where(valid, example, size)
    shaped = lambda where, a: where.reshape(-1, *[1] * (a.ndim - 1))
    add = lambda total, amount, where: total.at[at].add(
        jnp.where(shaped(where, amount), amount, 0), mode="drop"
    )
    one = jnp.ones(lanes, jnp.int32)
    rank = _rank_within(at, accept & valid)
    slot = jnp.where(accept & valid, totals.accepted[example] + rank, totals.edges.shape[1])
    edges = jnp.stack([panel.lo, panel.hi], -1)
    totals = totals._replace(
        values=add(totals.values, value, accept),
        error=add(totals.error, error, accept),
        mass=add(totals.mass, seen.mass, accept),
        pending=add(totals.pending, seen.kronrod, ~accept),
        pending_error=add(totals.pending_error, error, ~accept),
        spent=add(totals.spent, spent, accept),
        pending_spent=add(totals.pending_spent, spent, ~accept),
        steep=add(totals.steep, seen.steep, accept),
        peak=totals.peak.at[at].max(peak, mode="drop"),
        evaluations=add(totals.evaluations, NODES * one, valid),
        jumps=add(totals.jumps, one, jump.ravel()),
        accepted=add(totals.accepted, one, accept),
        edges=totals.edges.at[at, slot].set(edges, mode="drop"),
    )
    zoom = zoom & (seen.residual.sum(1) > seen.embedded.sum(1) / 2)
    children, number = _cut(panel, seen.known_t, seen.known_f, worst, zoom)
    number = jnp.where(valid & ~accept, number, 0)
    then, then_count = _append(state.then, state.then_count, children, number)
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
    volume: Any  # sum of |kronrod|
    steep: Any
    known_t: Any  # (panels, known points, ...)
    known_r: Any
    known_f: Any


def _measure(problem, panel, nodes, f, c, probes, peak) -> _Measured:
    """The integrals of panels and both indicators of their error."""
    _, k, g, integral, collocation = (_table(problem, i) for i in range(5))
    dot = functools.partial(jnp.einsum, precision="highest")
    width = panel.hi - panel.lo
    scale = width[:, None, None]
    kronrod = scale * dot("k,pkof->pof", k, c)
    gauss = scale * dot("k,pkof->pof", g, c)
    mass = scale * dot("k,pkof->pof", k, jnp.abs(c))
    slope = c.sum(-1)  # (panels, nodes, outputs)

    # (a) the embedded difference, shrunk on smooth panels as quadrature software does.
    difference = jnp.abs(kronrod - gauss)
    raw, volume = difference.sum(-1), jnp.abs(kronrod).sum(-1)
    shrink = jnp.minimum(1, jnp.sqrt(10 * raw / jnp.where(volume == 0, 1, volume)))
    embedded = raw * shrink

    # (b) the profile residual at the nodes, the end and the probes inside the panel.
    known_t, known_r, known_f = _residuals(
        panel, width, nodes, f, slope, collocation, integral, probes
    )
    noise = NOISE * problem.eps * (peak + mass.sum(-1))
    steep = width[:, None] * dot("k,pko->po", k, jnp.abs(slope))
    residual = _amplified(jnp.abs(known_r).max(1), noise, mass, steep)

    # What the profile does not explain belongs to some feature: spread it by size.
    excess = jnp.maximum(residual - embedded, 0)[..., None]
    whole = mass.sum(-1)[..., None]
    even = 1 / max(problem.features, 1)
    spread = jnp.where(whole == 0, even, mass / jnp.where(whole == 0, 1, whole))
    return _Measured(
        kronrod=kronrod,
        mass=mass,
        error=difference * shrink[..., None] + excess * spread,
        embedded=embedded,
        residual=residual,
        indicator=jnp.maximum(embedded, residual),
        noise=noise,
        volume=volume,
        steep=steep,
        known_t=known_t,
        known_r=known_r,
        known_f=known_f,
    )


def _table(problem, index: int):
    return jnp.asarray(_tables()[index], problem.dtype)


def _residuals(panel, width, nodes, f, slope, collocation, integral, probes):
    """Time, residual and score of each known point of a panel, in order of time.

    The residual is the score minus the integral of the interpolated slope up to there.
    """
    dot = functools.partial(jnp.einsum, precision="highest")
    scores = jnp.concatenate([f, panel.f_hi[:, None]], 1)
    at = jnp.concatenate([nodes, panel.hi[:, None]], 1)
    integrated = dot("jk,pko->pjo", collocation, slope)
    residual = scores - panel.f_lo[:, None] - width[:, None, None] * integrated

    grid = jnp.linspace(0, 1, PROBES + 2, dtype=nodes.dtype)[1:-1]
    tau = (grid[None] - panel.lo[:, None]) / width[:, None]
    inside = (tau > 0) & (tau < 1)
    basis = _legendre(2 * jnp.clip(tau, 0, 1) - 1)
    integrated = dot("nqj,nk,qko->qjo", basis, integral, slope)
    probed = probes[:, 1:-1]
    more = probed - panel.f_lo[:, None] - width[:, None, None] * integrated
    # A probe outside the panel counts as one more copy of its end: an empty gap.
    at = jnp.concatenate([at, jnp.where(inside, grid[None], panel.hi[:, None])], 1)
    keep = inside[..., None]
    residual = jnp.concatenate([residual, jnp.where(keep, more, residual[:, -1:])], 1)
    scores = jnp.concatenate([scores, jnp.where(keep, probed, scores[:, -1:])], 1)
    order = jnp.argsort(at, axis=1)
    take = lambda a: jnp.take_along_axis(a, order[..., None], 1)
    return jnp.take_along_axis(at, order, 1), take(residual), take(scores)


def _legendre(u):
    """Legendre polynomials of degrees 0 to NODES at u, stacked in front."""
    values = [jnp.ones_like(u), u]
    for n in range(1, NODES):
        values.append(((2 * n + 1) * u * values[n] - n * values[n - 1]) / (n + 1))
    return jnp.stack(values)


def _amplified(gap, noise, mass, steep):
    """A change of F that is not explained, as large as it may be in the features.

    What the slopes miss is missing in every feature: where features cancel in F, it
    stands for more than its size, by the ratio of mass to slope.
    """
    ratio = mass.sum(-1) / jnp.where(steep == 0, 1, steep)
    return jnp.maximum(gap, (gap - noise) * ratio)


def _worst_gap(panel, t, residual):
    """The gap of most residual: its index, its start, whether it holds over half."""
    start = jnp.zeros_like(residual[:, :1])
    gaps = jnp.abs(jnp.diff(residual, axis=1, prepend=start)).sum(-1)
    worst = jnp.argmax(gaps, 1)[:, None]
    most = jnp.take_along_axis(gaps, worst, 1)[:, 0]
    before = jnp.concatenate([panel.lo[:, None], t[:, :-1]], 1)
    at = jnp.take_along_axis(before, worst, 1)[:, 0]
    return worst, at, most > gaps.sum(1) / 2


def _jump(c, panel, left):
    """The limit object of a jump: the change of F along the steepest gradient.

    Its error is how much the steepest gradients on the two sides of the jump disagree
    about the direction: all of the change, if one of them is flat. `left` says which
    nodes (panels, nodes) lie before the jump.
    """
    left = left[..., None]
    slope = c.sum(-1)
    change = panel.f_hi - panel.f_lo
    steep = slope * jnp.sign(change)[:, None]

    def direction(side):
        node = jnp.argmax(jnp.where(side, steep, -jnp.inf), 1)[:, None]
        height = jnp.take_along_axis(jnp.where(side, steep, 0), node, 1)[:, 0]
        along = jnp.take_along_axis(slope, node, 1)[:, 0]
        parts = jnp.take_along_axis(c, node[..., None], 1)[:, 0]
        upward = height > 0
        unit = parts / jnp.where(upward, along, 1)[..., None]
        return jnp.where(upward[..., None], unit, 0), jnp.where(upward, height, 0)[
            ..., None
        ]

    (before, low), (after, high) = direction(left), direction(~left)
    size = change[..., None]
    value = size * jnp.where(low > high, before, after)
    doubt = jnp.abs(size * (before - after))
    blind = (low == 0) | (high == 0)
    even = jnp.abs(size) / max(c.shape[-1], 1)
    return value, jnp.where(blind, jnp.maximum(doubt, even), doubt)


def _cut(panel, t, f, worst, zoom):
    """The children of each panel, up to three, and how many there are."""
    before = jnp.concatenate([panel.lo[:, None], t[:, :-1]], 1)
    f_before = jnp.concatenate([panel.f_lo[:, None], f[:, :-1]], 1)
    at = lambda a: jnp.take_along_axis(a, worst, 1)[:, 0]
    f_at = lambda a: jnp.take_along_axis(a, worst[..., None], 1)[:, 0]
    middle = (panel.lo + panel.hi) / 2
    nearest = jnp.argmin(jnp.abs(t - middle[:, None]), 1)[:, None]
    pick = lambda z, m: jnp.where(zoom.reshape(-1, *[1] * (z.ndim - 1)), z, m)
    f_half = jnp.take_along_axis(f, nearest[..., None], 1)[:, 0]
    half = jnp.take_along_axis(t, nearest, 1)[:, 0]
    a, f_a = pick(at(before), half), pick(f_at(f_before), f_half)
    b, f_b = pick(at(t), half), pick(f_at(f), f_half)

    edges = jnp.stack([panel.lo, a, b, panel.hi], 1)
    scores = jnp.stack([panel.f_lo, f_a, f_b, panel.f_hi], 1)
    wide = edges[:, 1:] > edges[:, :-1]
    order = jnp.argsort(~wide, axis=1, stable=True)
    line = lambda a: jnp.take_along_axis(a, order, 1)
    block = lambda a: jnp.take_along_axis(a, order[..., None], 1)
    children = _Panels(
        lo=line(edges[:, :-1]),
        hi=line(edges[:, 1:]),
        f_lo=block(scores[:, :-1]),
        f_hi=block(scores[:, 1:]),
        example=jnp.broadcast_to(panel.example[:, None], wide.shape),
    )
    return children, wide.sum(1)


def _append(queue: _Panels, count, children: _Panels, number):
    """Appends the first `number` children of each lane to the queue."""
    capacity = queue.lo.shape[0]
    child = jnp.arange(3, dtype=jnp.int32)[None]
    number = number.astype(jnp.int32)
    place = (count + jnp.cumsum(number) - number)[:, None] + child
    place = jnp.where(child < number[:, None], place, capacity)
    put = lambda a, new: a.at[place].set(new, mode="drop")
    return jax.tree.map(put, queue, children), count + number.sum().astype(count.dtype)


def _rank_within(example, mask):
    """For each lane, how many lanes before it have its example and pass the mask."""
    same = (example[:, None] == example[None]) & mask[None]
    return jnp.tril(same, -1).sum(1).astype(jnp.int32)


def _turn(problem: _Problem, state: _State) -> _State:
    """Ends a generation: sizes are brought up to date, and spent budgets stop examples."""
    totals = state.totals
    capacity = state.then.lo.shape[0]
    waiting = jnp.arange(capacity, dtype=jnp.int32) < state.then_count
    example = jnp.where(waiting, state.then.example, len(totals.open))
    children = jnp.zeros_like(totals.open).at[example].add(1, mode="drop")
    over = totals.evaluations + NODES * children > problem.max_evaluations
    stop = (children > 0) & over
    broken = ~jnp.isfinite(totals.spent).all(1)
    drop = stop | broken
    rest = lambda done, open: (
        done + jnp.where(drop.reshape(-1, *[1] * (done.ndim - 1)), open, 0)
    )
    totals = totals._replace(
        values=rest(totals.values, totals.pending),
        error=rest(totals.error, totals.pending_error),
        spent=rest(totals.spent, totals.pending_spent),
        size=jnp.abs(totals.values + totals.pending).sum(-1),
        open=jnp.where(drop, 0, children),
        stopped=totals.stopped | stop,
        pending=jnp.zeros_like(totals.pending),
        pending_error=jnp.zeros_like(totals.pending_error),
        pending_spent=jnp.zeros_like(totals.pending_spent),
    )
    keep = waiting & ~drop[jnp.minimum(example, len(drop) - 1)]
    place = jnp.where(keep, jnp.cumsum(keep) - 1, capacity)
    now = jax.tree.map(lambda a: a.at[place].set(a, mode="drop"), state.then)
    count, zero = keep.sum().astype(jnp.int32), jnp.int32(0)
    return _State(now, count, zero, state.then, zero, totals)


def _narrowest(dtype) -> float:
    """The width below which a panel that still fails is a jump."""
    return 2.0**-20 if jnp.finfo(dtype).bits <= 32 else 1e-12
