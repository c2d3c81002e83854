r"""The adaptive integrator: a tolerance that is a promise.

Why. Along the path of a long recurrent network F is smooth but can switch within a
millionth of the path. Any fixed rule steps over such a switch or hits it by chance with
a huge weight, and its completeness gap may not even show it. So the path is cut into
panels where, and only where, the samples say that a panel is not understood.

Unit of work: a panel [lo, hi] with the 15 Gauss-Kronrod nodes; what its samples tell of
it is said in `panels.py`. A panel within its share of the error budget is accepted into
the totals; otherwise it is cut: out comes the gap between two known scores that holds
most of the residual, or it becomes two, or, full of kinks, as many as its error asks for.
Panels are processed in generations (`queue.py`). A decision uses its own example's totals
at the end of the generation before, so an example's mesh does not depend on its
neighbors. A panel narrower than `jumps.narrowest` counts as the limit object (`jumps.py`).

What the estimates of a whole rest on. The errors of panels are independent in sign: those
of one feature add up in squares. Where each panel has its features (jumps, each at its
token) nothing is gained by that; where all have all (a network of ReLUs) the budget of a
panel grows with their number (`overlap`), and an example ends as soon as they are small
enough together. The completeness gap counts as many times as the features cancel in F,
but for what the slopes' own errors, in squares, let expect of it: so much is in the errors
of the features as it is. Where errors or gap are too wide in the end, the example is
integrated once more, with half of the tolerance.

What is promised. `bound` is relative to values that are off themselves, so it is tolerance
/ (1 + tolerance) of them, and rounding is never granted: it is part of the error. Where
it is coarser than the bound, the example is `hopeless`; where the slopes are wrong in
proportion all along a panel, it is `contradicted` and ends at once.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap

from igjax import rules
from igjax._program import telling
from igjax._program.jax_internals import varying
from igjax._program.rewrites import for_device
from igjax.integration import jumps, queue
from igjax.integration.panels import (
    CAUTION,
    NODES,
    NOISE,
    PROBES,
    Measured,
    Panels,
    Samples,
    amplified,
    disproportion,
    divided,
    measure,
    probes_at,
    shares,
    table,
    worst_gap,
)

SAFETY = 0.9  # share of the tolerance that the estimates may use up
MARGIN = 0.7  # pieces of a rough panel, in units of its error over its share
SOME = 3  # of so many, at most, if it is not full of kinks
ALONE = 1.6  # makes the error of one feature cover it in 95 of 100 where panels are rough
NEAR = 8.0  # in so many units of rounding nothing is refined
COARSE = 4.0  # how many typical scatters of scores in half precision may be rounding


class Solution(NamedTuple):
    """What the integrator returns for a batch: features flat, outputs flat."""

    values: Any  # (outputs, features)
    error: Any  # of each feature by itself
    together: Any  # (outputs,): of all features, which concentrates
    score: Any  # (outputs,)
    baseline_score: Any
    bound: Any  # (outputs,): what the error must not exceed
    gap: Any  # (outputs,): completeness gap, as large as it may be in the features
    evaluations: Any
    jumps: Any
    stopped: Any  # budget spent
    contradicted: Any  # (outputs,): the gradients are not those of the scores
    hopeless: Any  # (outputs,): rounding is coarser than the bound
    mesh: Any  # (capacity, 2): edges of the panels; those of width 0 are none


class _Totals(NamedTuple):
    done: Any  # (examples, 3, outputs, features): values, squared errors, mass
    pending: Any  # values and squared errors of the panels cut in this generation
    # (examples, 6, outputs): indicators, those of rough panels, integral of |slope|, astray
    # squared, by how much all features may be off together whatever else is known, mass.
    spent: Any
    pending_spent: Any  # the first two of them, of the panels cut in this generation
    moments: Any  # (examples, 10, outputs): of the accepted, see `panels.disproportion`
    unit: Any  # (examples, outputs): of what is squared, which might overflow or vanish
    size: Any  # (examples, outputs): sum of |values| at the end of the last generation
    most: Any  # what size was at the end of the first integration, if this is the second
    overlap: Any  # (examples, outputs): how much errors add up, 1 if each has its feature
    peak: Any  # (examples, outputs): largest |F| seen
    counts: Any  # (examples, 4): gradients, jumps, accepted panels, those cut just now
    open: Any  # (examples,): panels in this generation
    again: Any  # integrated a second time
    contradicted: Any  # (examples, outputs)
    stopped: Any
    mesh: Any  # (examples, panels, 2): edges; swapped while the panel is to be cut


class _State(NamedTuple):
    now: Any  # rows of `queue.panels`
    count: Any
    cursor: Any
    then: Any
    then_count: Any
    totals: _Totals


class _Problem(NamedTuple):
    profile: Any
    structure: Any
    max_evaluations: int
    outputs: int
    features: int
    dtype: Any
    eps: float  # the units of rounding of x, and of the score
    score_eps: float
    half: bool  # something is computed in half precision
    judged: int  # of so many features, the first ones, the tolerance is


class _Batch(NamedTuple):
    """What does not change while a batch of examples is integrated."""

    evaluate: Any  # (examples, t) -> scores and contributions at t (lanes, nodes)
    probes: Any  # (examples, PROBES + 2, outputs)
    tolerance: Any  # (examples,), relative
    absolute: Any
    lanes: int
    coarse: Any  # (examples, outputs): scatter of scores in half precision


def solve(profile, operands, rule: rules.Adaptive, shape) -> Solution:
    """Integrates one example; under `vmap`, all examples in one queue.

    Args:
        profile: `(score, contributions)`: functions of (operands, t) that return
            (outputs,) and ((outputs,), (outputs, features)).
        operands: pytree of arrays, of one example.
        rule: the tolerances, which are operands too, and the budget.
        shape: (outputs, features, dtype, eps, score_eps, half, judged): sizes, working
            dtype, units of rounding of x and the score, whether anything is in half
            precision, and of how many features, the first ones, the tolerance is.

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


def look(profile, operands, rule: rules.Adaptive, shape):
    """What the path as one panel is judged by: probes, samples, both tolerances."""
    leaves, structure = jax.tree.flatten((operands, rule))
    problem = _Problem(profile, structure, rule.max_evaluations, *shape)
    leaves = list(map(jnp.asarray, leaves))
    batch = _batch(problem, (False,) * len(leaves), 1, leaves)
    nodes = table(problem.dtype, 0)[None]
    samples = Samples(nodes, *batch.evaluate(jnp.zeros(1, jnp.int32), nodes))
    return batch.probes, samples, (batch.tolerance, batch.absolute)


def settle(probes, samples: Samples, tolerances, shape) -> tuple[Solution, Any]:
    """The solution if one panel is enough, and whether it is: `solve` without its loops."""
    most = 3 * NODES  # `_again` may not be kept from asking for more
    problem = _Problem(None, None, most, *shape)
    given = samples.scores, samples.parts
    coarse = _coarse(problem, probes)
    tolerance, absolute = tolerances
    batch = _Batch(lambda *_: given, probes, tolerance, absolute, 1, coarse)
    state = _start(problem, 1, probes)
    limit = _limit(problem, batch, state.totals) * _strict(state.totals)
    state = _chunk(problem, batch, limit, state.totals, state)
    state = _turn(problem, batch, state)
    solution = _solution(problem, batch, state.totals)
    one = jax.tree.map(lambda a: a[0], solution)
    return one, (state.count == 0) & ~one.stopped


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
    if not size:
        return _nothing(problem, batched, leaves)
    batch = _batch(problem, batched, size, leaves)
    state = varying(_start(problem, size, batch.probes), (batch.probes, leaves))

    def generation(state):
        limit = _limit(problem, batch, state.totals) * _strict(state.totals)
        chunk = functools.partial(_chunk, problem, batch, limit, state.totals)
        state = jax.lax.while_loop(lambda s: s.cursor < s.count, chunk, state)
        telling.step("gradients", state.totals.counts[:, 0].sum())
        return varying(_turn(problem, batch, state), state)

    state = jax.lax.while_loop(lambda s: s.count > 0, generation, state)
    return _solution(problem, batch, state.totals)


def _nothing(problem: _Problem, batched, leaves) -> Solution:
    """The solution of no examples."""
    like = lambda a, b: jax.ShapeDtypeStruct((1, *a.shape[1:]) if b else a.shape, a.dtype)
    one = [like(a, b) for a, b in zip(leaves, batched, strict=True)]
    shapes = jax.eval_shape(functools.partial(_run, problem, batched, 1), one)
    return jax.tree.map(lambda a: jnp.zeros((0, *a.shape[1:]), a.dtype), shapes)


def _batch(problem: _Problem, batched, size, leaves) -> _Batch:
    """The functions of the problem, for examples by their index."""
    axes = [0 if b else None for b in batched]
    pick = lambda i: [
        leaf[i] if b else leaf for leaf, b in zip(leaves, batched, strict=True)
    ]
    unflatten = problem.structure.unflatten
    score, contributions = problem.profile

    def scores(i):
        operands, _ = unflatten(pick(i))
        grid = jnp.asarray(probes_at(), problem.dtype)
        along = jax.vmap(lambda t: score(operands, t).astype(problem.dtype))
        return for_device(along)(grid)

    def evaluate(examples, t):
        def lane(t, *leaves):
            operands, _ = unflatten(leaves)
            f, c = jax.vmap(lambda t: contributions(operands, t))(t)
            return f.astype(problem.dtype), c.astype(problem.dtype)

        along = jax.vmap(lane, in_axes=(0, *axes))
        return for_device(along)(t, *pick(examples))

    def limits(i):
        _, rule = unflatten(pick(i))
        absolute = rule.absolute_tolerance
        pair = rule.tolerance, 0.0 if absolute is None else absolute
        return [jnp.asarray(a, problem.dtype) for a in pair]

    probes = jax.lax.map(scores, jnp.arange(size))
    tolerance, absolute = jax.vmap(limits)(jnp.arange(size))
    coarse = _coarse(problem, probes)
    return _Batch(evaluate, probes, tolerance, absolute, lanes_of(size), coarse)


def _coarse(problem: _Problem, probes):
    """What scores in half precision scatter by: their differences on the even grid."""
    if not problem.half:
        return jnp.zeros_like(probes[:, 0])
    even = (probes_at()[:, None] == np.linspace(0, 1, PROBES + 2)[None]).any(1)
    rough = jnp.diff(probes[:, even], 6, axis=1) / math.sqrt(math.comb(12, 6))
    scatter = COARSE * jnp.median(jnp.abs(rough), axis=1)
    # Where the score is flat nothing scatters, but it is rounded.
    return jnp.maximum(scatter, problem.score_eps * jnp.abs(probes).max(1))


def lanes_of(examples: int) -> int:
    """How many panels are evaluated side by side."""
    return min(examples, {"cpu": 4}.get(jax.default_backend(), 64))


def _start(problem: _Problem, size: int, probes) -> _State:
    most = math.ceil(problem.max_evaluations / NODES)
    outputs, features, dtype = problem.outputs, problem.features, problem.dtype
    batch = lanes_of(size) * queue.MOST
    first, blank = queue.first(queue.whole(probes), size * 3 * most, batch)
    narrow = jnp.zeros((size, outputs), dtype)
    totals = _Totals(
        done=jnp.zeros((size, 3, outputs, features), dtype),
        pending=jnp.zeros((size, 2, outputs, features), dtype),
        spent=jnp.zeros((size, 6, outputs), dtype),
        pending_spent=jnp.zeros((size, 2, outputs), dtype),
        moments=jnp.zeros((size, 10, outputs), dtype),
        unit=_unit(probes),
        size=narrow,
        most=narrow + jnp.inf,
        overlap=narrow + 1,
        peak=jnp.abs(probes).max(1),
        counts=jnp.zeros((size, 4), jnp.int32),
        open=jnp.ones(size, jnp.int32),
        again=jnp.zeros(size, bool),
        stopped=jnp.zeros(size, bool),
        contradicted=jnp.zeros((size, outputs), bool),
        mesh=jnp.zeros((size, most, 2), dtype),
    )
    zero = jnp.int32(0)
    return _State(first, jnp.int32(size), zero, blank, zero, totals)


def _unit(probes):
    """The size of F: of its changes, if it has any."""
    change = probes.max(1) - probes.min(1)
    unit = jnp.where(change > 0, change, jnp.abs(probes).max(1))
    return _invertible(jnp.where((unit > 0) & jnp.isfinite(unit), unit, 1))


def _invertible(unit):
    """At most what has a reciprocal, by which XLA multiplies."""
    return jnp.minimum(unit, float(jnp.finfo(unit.dtype).max) ** 0.8)


def _chunk(problem: _Problem, batch: _Batch, limit, before: _Totals, state: _State):
    """Evaluates the next few panels of the generation; accepts or cuts each.

    `before` are the totals at the end of the generation before, `limit` their bound.
    """
    index = state.cursor + jnp.arange(batch.lanes, dtype=jnp.int32)
    valid = index < state.count
    panel = queue.panels(state.now[jnp.minimum(index, state.count - 1)])
    example = panel.example
    lo, width = panel.edges[:, :1], jnp.diff(panel.edges)
    nodes = lo + width * table(problem.dtype, 0)[None]
    samples = Samples(nodes, *batch.evaluate(example, nodes))
    peak = jnp.maximum(before.peak[example], jnp.abs(samples.scores).max(1))
    rounding = NOISE * _eps(problem) * peak + batch.coarse[example]
    probes = batch.probes[example]
    unit, sizes = before.unit[example], (problem.eps, problem.judged)
    seen = measure(panel, samples, probes, rounding, unit, *sizes)

    share = _share(problem, batch, limit, before, example, seen)
    small = seen.error.sum(-1) <= share
    fine = (small | (seen.indicator <= seen.noise)).all(1)
    finite = jnp.isfinite(seen.indicator).all(1)
    narrow = width[:, 0] < jumps.narrowest(problem.dtype)
    # At an end of the path nothing is blurred: what fails there is a root or a cliff.
    blurred = (seen.indicator <= seen.jitter).all(1)
    blurred &= (panel.edges[:, 0] > 0) & (panel.edges[:, 1] < 1)
    accept = fine | narrow | blurred | ~finite
    jump = (narrow | blurred) & ~fine & finite

    worst, zoom = worst_gap(seen.known)
    cancel = jnp.maximum(_cancel(before)[example], 1)
    found = jumps.resolved(panel, samples, seen, cancel, jump & narrow, jump & blurred)
    seen = seen._replace(contradicts=seen.contradicts & (seen.residual > share / 4))
    totals = _booked(state.totals, before, panel, seen, found, valid, accept, jump, peak)
    zoom = zoom & (seen.residual.sum(1) > seen.embedded.sum(1) / 2)
    pieces = _pieces(problem, before, example, seen, share)
    children, wide = queue.cut(panel, seen.known, worst, zoom, pieces)
    wanted = wide & jnp.repeat(valid & ~accept, queue.MOST)
    then = queue.append(state.then, state.then_count, children, wanted)
    return _State(state.now, state.count, state.cursor + batch.lanes, *then, totals)


def _pieces(problem: _Problem, before: _Totals, example, seen: Measured, share):
    """How many pieces a panel becomes: two, or, if it is full of kinks, what it takes.

    Then the error falls as the number of its pieces. A rough panel that is not full of
    kinks has its trouble somewhere: a few pieces, and it is looked for again.
    """
    over = MARGIN * seen.error.sum(-1) / share
    most = jnp.where(seen.rough, jnp.where(seen.even, queue.MOST, SOME), 2)
    wanted = jnp.ceil(jnp.minimum(over, most)).astype(jnp.int32).max(1)
    room = problem.max_evaluations - before.counts[example, 0]
    room = jax.lax.div(room, NODES * jnp.maximum(before.open[example], 1))
    return jnp.clip(wanted, 2, jnp.clip(room, 2, queue.MOST))


def _share(problem, batch: _Batch, limit, before: _Totals, example, seen: Measured):
    """What the error of each panel may be, of the bound that is left."""
    # In the first generation the panel is all there is to know of the size.
    first = before.counts[example, :1] == 0
    own = jnp.where(first, _relative(batch)[example] * _size(problem, seen.kronrod), 0)
    ceiling = SAFETY * jnp.maximum(limit[example], own) / before.overlap[example]
    left = jnp.maximum(ceiling - before.spent[example, 0], 0.1 * ceiling)
    # Many panels do not use their shares up.
    left = left / jnp.sqrt(before.overlap[example])
    return left / before.open[example][:, None].astype(left.dtype)


def _booked(
    totals: _Totals, before, panel: Panels, seen: Measured, found, valid, accept, jump, peak
) -> _Totals:
    """The totals with those panels that are valid, accepted or waiting to be cut."""
    example, (value, error, unknown) = panel.example, found
    at = jnp.where(valid, example, len(totals.open))

    def add(total, where, amount):
        amount = amount.astype(total.dtype)
        keep = where.reshape(-1, *[1] * (amount.ndim - 1))
        return total.at[at].add(jnp.where(keep, amount, 0), mode="drop")

    unit = before.unit[example]
    capped = lambda a: jnp.minimum(a, float(jnp.finfo(a.dtype).max) ** 0.45)
    both = jnp.stack([value, capped(error / unit[..., None]) ** 2, seen.mass], 1)
    astray = jnp.where(jump[:, None], 0, capped(seen.astray / unit))
    spent = (error + unknown / max(value.shape[-1], 1)).sum(-1)
    lone = [spent, spent * seen.rough.astype(spent.dtype), seen.steep, astray**2]
    lone = jnp.stack([*lone, unknown[..., 0], seen.mass.sum(-1)], 1)
    slot = jax.lax.div(totals.counts[example, 0], jnp.int32(NODES)) + queue.rank_within(at)
    counts = jnp.stack([jnp.ones_like(jump), jump, accept, ~accept], 1).astype(jnp.int32)
    kept = jnp.where(accept[:, None], panel.edges, panel.edges[:, ::-1])
    return totals._replace(
        done=add(totals.done, accept, both),
        pending=add(totals.pending, ~accept, both[:, :2]),
        spent=add(totals.spent, accept, lone),
        pending_spent=add(totals.pending_spent, ~accept, lone[:, :2]),
        moments=add(totals.moments, accept, seen.moments),
        peak=totals.peak.at[at].max(peak, mode="drop"),
        counts=add(totals.counts, valid, counts * jnp.array([[NODES, 1, 1, 1]], jnp.int32)),
        contradicted=totals.contradicted.at[at].max(seen.contradicts, mode="drop"),
        overlap=jnp.where(
            totals.counts[:, :1] > 0,
            totals.overlap,
            totals.overlap.at[at].set(seen.overlap, mode="drop"),
        ),
        mesh=totals.mesh.at[at, slot].set(kept, mode="drop"),
    )


def _turn(problem: _Problem, batch: _Batch, state: _State) -> _State:
    """Ends a generation: sizes are brought up to date, and examples end.

    They end where the budget is spent, and where all errors together, those of the panels
    to be cut among them, are within the bound, if these are plain embedded differences.
    """
    totals = state.totals
    capacity = len(state.then)
    waiting = jnp.arange(capacity, dtype=jnp.int32) < state.then_count
    example = jnp.where(waiting, queue.owners(state.then), len(totals.open))
    children = jnp.zeros_like(totals.open).at[example].add(1, mode="drop")
    over = totals.counts[:, 0] + NODES * children > problem.max_evaluations

    # What is known of the whole: the accepted panels and those that were cut.
    values, squares = (totals.done[:, :2] + totals.pending).swapaxes(0, 1)
    errors = _errors(totals, squares)
    together = errors.sum(-1)
    size = jnp.minimum(_size(problem, values), totals.most)
    gap = _gap(problem, batch, totals, values, errors)
    limit = SAFETY * _limit(problem, batch, totals._replace(size=size))
    small = (together <= _strict(totals) * limit) & (gap <= limit)
    enough = small.all(1)
    stop = (children > 0) & over & ~enough
    drop = stop | enough | totals.contradicted.any(1)
    drop |= ~jnp.isfinite(totals.spent).all((1, 2))
    largest = jnp.abs(values).sum(-1)
    totals = _ended(totals, drop, together, largest, children)._replace(
        size=size,
        open=jnp.where(drop, 0, children),
        stopped=totals.stopped | stop,
    )
    keep = waiting & ~drop[jnp.minimum(example, len(drop) - 1)]
    now, count = queue.only(state.then, keep)
    state = _State(now, count, jnp.int32(0), state.then, jnp.int32(0), totals)
    finished = (totals.open == 0) & (children == 0) & (totals.counts[:, 1] == 0)
    most = _limit(problem, batch, totals)
    wide = ((gap > most) | (together > most)).any(1) & jnp.isfinite(gap).all(1)
    wide &= ~(totals.contradicted | _hopeless(problem, batch, totals)).any(1)
    room = 3 * totals.counts[:, 0] <= problem.max_evaluations
    return _again(state, finished & wide & room & ~totals.again, batch.probes)


def _ended(totals: _Totals, drop, together, size, children) -> _Totals:
    """The totals after a generation; what was to be cut of those that end counts as is."""
    only = lambda where, a: jnp.where(where.reshape(-1, *[1] * (a.ndim - 1)), a, 0)
    linear = totals.spent[:, 0] + totals.pending_spent[:, 0]
    to_be_cut = totals.mesh[..., :1] > totals.mesh[..., 1:]
    kept = only(drop, totals.mesh[..., ::-1])
    measured = jnp.where(linear > 0, divided(together, linear), 1)
    # The probes may have seen nothing of what is large.
    largest = _invertible(jnp.where(jnp.isfinite(size), size, 0))
    unit = jnp.maximum(totals.unit, largest)
    smaller = totals.unit / unit
    done = totals.done.at[:, :2].add(only(drop, totals.pending))
    spent = totals.spent.at[:, :2].add(only(drop, totals.pending_spent))
    return totals._replace(
        done=done.at[:, 1].multiply(smaller[..., None] ** 2),
        unit=unit,
        moments=totals.moments * jnp.stack([smaller**k for k in (2, 2, 4, 4, 4) * 2], 1),
        spent=spent.at[:, 3].multiply(smaller**2),
        overlap=_overlap(totals, measured, children),
        pending=jnp.zeros_like(totals.pending),
        pending_spent=jnp.zeros_like(totals.pending_spent),
        mesh=jnp.where(to_be_cut, kept, totals.mesh),
        counts=totals.counts.at[:, 3].set(0),
    )


def _overlap(totals: _Totals, measured, children):
    """How much the errors of the next generation add up: as now, but with more panels.

    It falls as a power of their number. Of one panel the changes between its nodes tell.
    """
    accepted, cut = totals.counts[:, 2], totals.counts[:, 3]
    used = accepted + cut
    number, one = lambda a: a[:, None].astype(measured.dtype), (used == 1)[:, None]
    seen = jnp.where(one, totals.overlap, measured)
    count = jnp.where(one, NODES - 1, number(used))
    power = divided(jnp.log(number(accepted + children)), jnp.log(count))
    return jnp.minimum(seen, 1) ** power


def _again(state: _State, which, probes) -> _State:
    """Integrates those examples again, with half of the tolerance.

    All their panels were accepted, but the gap is wider than it may be, as can happen by
    chance where there are many, none of which is to blame; or the size that their errors
    were measured by was too large at first.
    """
    totals = state.totals
    now, count = queue.append(state.now, state.count, queue.whole(probes), which)
    clear = lambda a: jnp.where(which.reshape(-1, *[1] * (a.ndim - 1)), 0, a)
    return state._replace(
        now=now,
        count=count,
        totals=totals._replace(
            done=clear(totals.done),
            spent=clear(totals.spent),
            moments=clear(totals.moments),
            mesh=clear(totals.mesh),
            counts=totals.counts.at[:, 2].multiply(1 - which.astype(jnp.int32)),
            open=jnp.where(which, 1, totals.open),
            overlap=jnp.where(which[:, None], 1, totals.overlap),
            most=jnp.where(which[:, None], totals.size, totals.most),
            again=totals.again | which,
        ),
    )


def _solution(problem: _Problem, batch: _Batch, totals: _Totals) -> Solution:
    values, squares, mass = (totals.done[:, i] for i in range(3))
    rounding = _rounding(problem, batch, totals)
    share = shares(mass)
    errors = _errors(totals, squares)
    # What covers the error of all together is a mean for that of one.
    alone = 1 + (ALONE - 1) * divided(totals.spent[:, 1], totals.spent[:, 0])
    whole = totals._replace(size=_size(problem, values))
    gap = _gap(problem, batch, totals, values, errors)
    # Where there are jumps, and far more than rounding is unknown, they are the trouble.
    most = _limit(problem, batch, whole)
    smooth = (totals.counts[:, 1:2] == 0) | ((errors.sum(-1) <= most) & (gap <= most))
    return Solution(
        values=values,
        error=errors * alone[..., None] + rounding[..., None] * share,
        together=errors.sum(-1) + jnp.where(totals.spent[:, 5] > 0, rounding, 0),
        score=batch.probes[:, -1],
        baseline_score=batch.probes[:, 0],
        bound=_bound(batch, whole),
        gap=gap,
        evaluations=totals.counts[:, 0],
        jumps=totals.counts[:, 1],
        stopped=totals.stopped,
        contradicted=totals.contradicted,
        hopeless=smooth & _hopeless(problem, batch, whole),
        mesh=totals.mesh,
    )


def _size(problem: _Problem, values):
    """What the tolerance is relative to: all features, or some that a method asks for.

    Where there is nothing of these, of all: nobody can tell how much is seen of nothing.
    """
    size = jnp.abs(values).sum(-1)
    if problem.judged == problem.features:
        return size
    part = jnp.abs(values[..., : problem.judged]).sum(-1)
    return jnp.where(part > 0, part, size)


def _bound(batch: _Batch, totals: _Totals):
    """What the error of each example must not exceed: the promise.

    Relative to values that are off by the tolerance themselves.
    """
    return jnp.maximum(_relative(batch) * totals.size, batch.absolute[:, None])


def _relative(batch: _Batch):
    return (batch.tolerance / (1 + batch.tolerance))[:, None]


def _limit(problem: _Problem, batch: _Batch, totals: _Totals):
    """What is left of the bound for what samples tell; never below rounding."""
    rounding = _rounding(problem, batch, totals)
    least = rounding + (NEAR - 1) * _own_rounding(problem, totals)
    return jnp.maximum(_bound(batch, totals) - rounding, least)


def _rounding(problem: _Problem, batch: _Batch, totals: _Totals):
    """What the values of an example may be off by whatever the samples.

    Rounding of its largest score and its contributions, and what scores in half precision
    scatter by, as large as it may be in the features.
    """
    own = _own_rounding(problem, totals)
    return own + batch.coarse * jnp.maximum(_cancel(totals), 1)


def _hopeless(problem: _Problem, batch: _Batch, totals: _Totals):
    """Whether rounding leaves less of the bound than is refined to."""
    left = _bound(batch, totals) - _rounding(problem, batch, totals)
    return _limit(problem, batch, totals) > left


def _own_rounding(problem: _Problem, totals: _Totals):
    tiny = float(jnp.finfo(problem.dtype).tiny)
    mass = totals.spent[:, 5]
    own = NOISE * _eps(problem) * (totals.peak + mass) + tiny
    return own + (problem.eps - _eps(problem)) * mass  # of points in a narrower dtype


def _cancel(totals: _Totals):
    """How many times features cancel in F, in what is done."""
    return divided(totals.spent[:, 5], totals.spent[:, 2])


def _eps(problem: _Problem) -> float:
    return float(jnp.finfo(problem.dtype).eps)


def _strict(totals):
    """Which part of the bound the estimates may use, of (examples, 1)."""
    return jnp.where(totals.again, 0.5, 1.0).astype(totals.size.dtype)[:, None]


def _errors(totals: _Totals, squares):
    """The errors of features, of which those of panels are independent."""
    even = totals.spent[:, 4, :, None] / max(squares.shape[-1], 1)
    return jnp.sqrt(squares) * totals.unit[..., None] + even


def _gap(problem, batch: _Batch, totals: _Totals, values, errors):
    """The completeness gap of values, as large as it may be in the features.

    What the rough slopes of all panels are astray by, added up in squares, is in the
    features what their errors say, at the most: were all steps in one direction, the two
    would be in proportion. What exceeds it may be as much as the features cancel.
    And slopes that are off in proportion are off in all features.
    """
    delta = jnp.abs(values.sum(-1) - (batch.probes[:, -1] - batch.probes[:, 0]))
    mass, steep = totals.spent[:, 5], totals.spent[:, 2]
    floor = NOISE * _eps(problem) * (totals.peak + mass) + batch.coarse
    known = CAUTION * jnp.sqrt(totals.spent[:, 3]) * totals.unit
    strict = amplified(delta, floor, mass, steep)
    excess = jnp.maximum(delta - known, 0)
    loose = jnp.maximum(delta, errors.sum(-1) + amplified(excess, floor, mass, steep))
    return jnp.maximum(jnp.minimum(strict, loose), disproportion(totals.moments) * mass)
