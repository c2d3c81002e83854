"""What fifteen samples tell of a panel, a piece of the path. Pure: no queue, no decision.

Samples in; integral, error and doubt out.

Two indicators cost nothing: (a) the embedded difference of Kronrod and Gauss, feature by
feature; (b) the profile residual: the slope, integrated, must reproduce F at every known
score, the 15 of the nodes, the two ends, and those of `PROBES` forward-only scores spread
over the path. (b) sees what (a) and completeness cannot: spikes between nodes, jumps that
cancel. Its sharpest part is (c): between two neighboring scores F changes by more than the
slopes of the panel allow. No kink does that; a step does, however small among the kinks,
and whose features it belongs to nobody has seen: it counts many times over. And (d) where
F changes by more or less than the slopes say in proportion, as it does where derivatives
are wrong, the features are off by that share of their size. What a panel has to say of it
are sums, which are read where they are added up over the whole path.

The embedded difference overestimates the error of a smooth panel; it is shrunk where the
nested rules say that the panel is smooth, each far better than the one before. Where it is
not, the panel is full of kinks, and its error a random number: null rules, which vanish on
polynomials and are as large as the error on steps at random places, estimate its size. And
a residual counts in the features as many times as they cancel in F, but for what rough
slopes let expect of it, by how far seven of the nodes are off: that much has been seen.
"""

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.polynomial import chebyshev

from igjax import rules

NODES = 15
PROBES = 48  # scores without gradients on an even grid, besides those towards the ends
CAUTION = 2.0  # how often an estimate counts that is not plainly an embedded difference
JITTER = 4.0  # rounding of t in a panel, in units of eps times its largest contributions
REACH = 0.5  # share of the range of slopes by which the interpolated one may be off
HALF = 10.0  # the same, in units of what all but one node say of every other node
DOUBT = 10.0  # how often, at least, a change of F counts that no slope in the panel shows
GRAIN = 4.0  # how many typical changes of F between neighboring scores are none
EVEN = 0.5  # in which share of a panel contributions change, if it is full of kinks
FEW = 1.25  # what is added where null rules differ, as they do if they say one thing
RANDOM = 1.35  # makes that of a rough panel cover what is random in all features
SURE = 2.0  # from how many scatters on slopes are off in proportion
COVER = 1.3  # makes the estimate of a feature cover its error in 95 of 100
NOISE = 8.0  # rounding, of a panel or the whole, in units of eps times the size of terms


@functools.cache
def probes_at() -> np.ndarray:
    """Where scores are taken without gradients, ends included, ascending.

    On an even grid, and in its first and last gap at distances that shrink to the ends:
    cliffs and roots are there.
    """
    near = 0.2 ** np.arange(1, 5) / (PROBES + 1)
    even = np.linspace(0, 1, PROBES + 2)
    return np.sort(np.concatenate([even, near, 1 - near]))


class Panels(NamedTuple):
    """Pieces of the path, each of one example."""

    edges: Any  # (panels, 2): lo, hi
    scores: Any  # (panels, 2, outputs): at both edges
    example: Any  # (panels,)


class Samples(NamedTuple):
    """What is evaluated in panels."""

    nodes: Any  # (panels, nodes)
    scores: Any  # (panels, nodes, outputs)
    parts: Any  # (panels, nodes, outputs, features): what each feature adds to the slope


class Measured(NamedTuple):
    """What is known of panels."""

    kronrod: Any  # (panels, outputs, features), as are mass and error
    mass: Any
    error: Any
    embedded: Any  # (panels, outputs), as all that follow
    residual: Any
    indicator: Any
    noise: Any
    jitter: Any
    contradicts: Any  # the slopes are wrong in proportion, all along the panel
    moments: Any  # (panels, 10, outputs): of its gaps and of itself
    astray: Any  # the embedded difference of the slope
    steep: Any
    rough: Any  # none of the nested rules is far better than the one before
    even: Any  # there are kinks all along
    overlap: Any  # how much less than linearly the changes from node to node add up
    known: Any


class Known(NamedTuple):
    """What is known along panels: at both ends, the nodes, and the probes inside."""

    points: Any  # (panels, points, 1 + outputs): t, ascending, and scores
    residual: Any  # (panels, points, outputs)
    halves: Any  # (2, panels, points, outputs): the same by every other node

    @property
    def t(self):
        """When, of (panels, points)."""
        return self.points[..., 0]

    @property
    def score(self):
        """Of (panels, points, outputs)."""
        return self.points[..., 1:]


@functools.cache
def tables() -> tuple[np.ndarray, ...]:
    """Kronrod nodes and, on [0, 1], four rules and four null rules; polynomials.

    Of those through all nodes, the seven of Gauss, and the other eight the antiderivatives;
    and, of the last two, what they are off by at the nodes. Last, Chebyshev polynomials at
    the lower end, the nodes and the upper end.
    """
    rule = rules.gauss_kronrod(NODES)
    t, k = np.asarray(rule.nodes), np.asarray(rule.weights)
    g = np.zeros(NODES)
    g[1::2] = rules.gauss_legendre(NODES // 2).weights
    # Eight nodes in pairs: positive weights, and what they miss is not what Gauss misses.
    pairs = _interpolating(t, [1, 2, 5, 6, 8, 9, 12, 13])
    three = _interpolating(t, [1, 7, 13])
    # Their sum of squares is, on steps at random places, the square error of Kronrod's.
    nulls = np.asarray(rule.error_weights[1:]) / rules.SAFETY
    at = chebyshev.chebvander(2 * np.concatenate([[0], t, [1]]) - 1, NODES)
    powers = at[1:-1]
    integrals, missed = np.zeros((3, NODES + 1, NODES)), np.tile(np.eye(NODES), (2, 1, 1))
    integrals[0] = _antiderivative(t)
    for half, some in enumerate((slice(1, None, 2), slice(0, None, 2))):
        n = len(t[some])
        integrals[1 + half, : n + 1, some] = _antiderivative(t[some])
        missed[half, :, some] -= powers[:, :n] @ np.linalg.inv(powers[some, :n])
    weights = np.concatenate([np.stack([k, g, pairs, three]), nulls])
    return t, weights, integrals, missed, at.T


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


def table(dtype, index: int):
    """One of `tables`, as it is used."""
    return jnp.asarray(tables()[index], dtype)


def measure(
    panel: Panels, samples: Samples, probes, rounding, unit, eps, judged
) -> Measured:
    """The integrals of panels and both indicators of their error.

    `rounding` is that of a score, `eps` that of t, `unit` the size of F, `judged` how many
    features, the first ones, the tolerance is of.
    """
    c, width = samples.parts, panel.edges[:, 1] - panel.edges[:, 0]
    scale, weights = width[:, None, None], table(c.dtype, 1)
    rows = scale[None] * _dot("rk,pkof->rpof", weights, c)
    mass = scale * over_nodes(weights[0], jnp.abs(c))
    slope, whole = c.sum(-1), mass.sum(-1)  # (panels, nodes, outputs), (panels, outputs)
    embedded, shrink = _embedded(rows[:4], mass, judged)
    known = _profile(panel, width, samples, slope, probes)
    noise = rounding + NOISE * float(jnp.finfo(c.dtype).eps) * whole
    steep = width[:, None] * over_nodes(weights[0], jnp.abs(slope))
    difference, astray, apart = _differences(rows, shrink)
    even, rough = _evenness(c) > EVEN, shrink == 1
    claimed = jnp.where(rough, COVER * difference.sum(-1), embedded)
    residual = _residual(known, shrink, noise, whole, steep)
    excess = jnp.maximum(residual - claimed, _unseen(known, slope, noise, whole, steep))
    return Measured(
        kronrod=rows[0],
        mass=mass,
        error=_error(difference, excess, embedded, mass, shrink),
        embedded=embedded,
        residual=residual,
        indicator=jnp.maximum(embedded, residual),
        noise=noise,
        contradicts=_contradicts(known, noise + jnp.maximum(apart, astray)),
        moments=_moments(known, unit),
        jitter=JITTER * eps * jnp.abs(c).sum(-1).max(1),
        astray=astray,
        steep=steep,
        rough=rough,
        overlap=_overlap(c),
        even=even,
        known=known,
    )


def _differences(rows, shrink):
    """The error of each feature, that of the slope, and by how far Gauss's is off.

    Of smooth panels by the embedded difference, of rough ones by null rules.
    """
    rough, between = shrink == 1, rows[0] - rows[1]
    own = shrink[..., None] * jnp.abs(between)
    own = jnp.where(rough[..., None], _random(rows[4:]), own)
    apart = jnp.abs(between.sum(-1))
    random = _random(rows[4:].sum(-1, keepdims=True)).sum(-1)
    return own, jnp.where(rough, random, shrink * apart), apart


def _embedded(rows, mass, judged):
    """(a) The embedded difference, and by how much it is shrunk.

    It is shrunk where it falls off as on a smooth panel: there each rule is far better
    than the one before. At a kink none is. Two rules may agree by chance; then the one on
    pairs of nodes does not, and on a smooth panel its relative error squared, feature by
    feature, is still far above the error of all fifteen.
    """
    kronrod, gauss, pairs, three = rows
    difference = jnp.abs(kronrod - gauss)
    second = jnp.abs(kronrod - pairs)
    raw, coarse, finer = (
        a[..., :judged].sum(-1) for a in (difference, jnp.abs(gauss - three), second)
    )
    shrink = jnp.maximum(divided(10 * raw, coarse), divided(raw, finer))
    shrink = jnp.minimum(1, shrink)
    squared = (second * jnp.minimum(1, divided(second, mass))).sum(-1)
    return jnp.maximum(difference.sum(-1) * shrink, squared), shrink


def _random(nulls):
    """The error of each feature where the panel is full of kinks: a random one.

    What null rules return is then of the size of the error. Where all features say the
    same, the rules are but four numbers, and differ; where many do not, they agree.
    """
    sizes = jnp.abs(nulls).sum(-1)
    wobble = divided(sizes, sizes.mean(0, keepdims=True)).std(0)
    cover = (RANDOM + FEW * wobble) / COVER
    return _norm(nulls, 0) * cover[..., None]


def _norm(a, axis: int):
    """The root of the sum of squares, of numbers whose squares may vanish."""
    largest = jnp.abs(a).max(axis, keepdims=True)
    return jnp.sqrt((divided(a, largest) ** 2).sum(axis)) * largest.squeeze(axis)


def _overlap(c):
    """Errors of one feature add up in squares, those of many without signs."""
    change = jnp.abs(jnp.diff(c, axis=1))
    apart = change.sum((1, -1))
    together = _norm(change, 1).sum(-1)
    return jnp.where(apart > 0, divided(together, apart), 1)


def _evenness(c):
    """The share of the panel in which contributions change: 1 if from node to node."""
    change = jnp.abs(jnp.diff(c, axis=1)).sum(-1)
    return divided(change.sum(1), _norm(change, 1)) ** 2 / (NODES - 1)


def _residual(known: Known, shrink, noise, whole, steep):
    """(b) The profile residual at the nodes, the end and the probes inside the panel."""
    expected = shrink * jnp.abs(known.halves[0] - known.residual).max(1)
    return amplified(jnp.abs(known.residual).max(1), expected + noise, whole, steep)


def _unseen(known: Known, slope, noise, whole, steep):
    """(c) What F changes by between two known scores beyond any slope of the panel.

    Or beyond what the polynomial through its slopes may be off by; one node that lies in
    a step bends that as far as the step is high, so it is asked twice more, through every
    other node, and what one node alone is off by is no excuse. Not so what F changes by
    everywhere: steps are few, rounding is in all scores.
    """
    missed = jnp.abs(_dot("hjk,pko->hpjo", table(slope.dtype, 3), slope))
    slope, *missed = jnp.sort(jnp.concatenate([slope[None], missed]), axis=2)
    off = [jnp.minimum(REACH * (slope[:, -2] - slope[:, 1]), 2 * missed[0][:, -1])]
    off = jnp.stack(off + [HALF * half[:, -2] for half in missed])[:, :, None]
    residuals = jnp.concatenate([known.residual[None], known.halves])
    change = jnp.abs(jnp.diff(residuals, axis=2))
    steps = jnp.diff(known.t, axis=1)[None, ..., None]
    grain = GRAIN * jnp.sqrt(change[0]).mean(1, keepdims=True) ** 2
    allowed = jnp.maximum(noise[None, :, None] + steps * off, grain[None])
    unseen = jnp.maximum(change - allowed, 0).max(0).sum(1)
    return jnp.maximum(DOUBT * unseen, amplified(unseen, 0, whole, steep))


def _moments(known: Known, unit):
    """What tells of the line through what F changes by beyond the slopes, over these.

    Of the gaps of each panel, and of each panel as one gap: noise hides it in many narrow
    gaps, and there may be few panels.
    """
    most = float(jnp.finfo(unit.dtype).max) ** 0.2
    part = lambda a: jnp.clip(a / unit[:, None], -most, most)
    of = lambda a: jnp.diff(a, axis=1)
    whole = lambda a: a[:, -1:] - a[:, :1]
    found = []
    for change in (of, whole):
        b = part(change(known.residual))
        a = part(change(known.score)) - b
        terms = jnp.stack([a * b, a * a, (a * b) ** 2, a**3 * b, a**4], 1)
        found.append(terms.sum(2))
    return jnp.concatenate(found, 1)


def disproportion(moments):
    """(d) By what share, at least, slopes are off in proportion, of (..., 10, outputs).

    Rough slopes scatter around the line, and its inclination is known to that; of a few
    gaps not even the scatter is.
    """
    ab, aa, aabb, aaab, aaaa = jnp.moveaxis(
        moments.reshape(*moments.shape[:-2], 2, 5, moments.shape[-1]), -2, 0
    )
    share, number = divided(ab, aa), divided(aa * aa, aaaa)
    square = jnp.maximum(aabb - 2 * share * aaab + share**2 * aaaa, 0)
    many = number > 3
    sure = SURE * jnp.sqrt(number / jnp.where(many, number - 3, 1))
    excess = jnp.abs(share) - sure * divided(jnp.sqrt(square), aa)
    return jnp.where(many, jnp.maximum(excess, 0), 0).max(-2)


def _contradicts(known: Known, expected):
    """Whether F and its integrated slope part all along the panel, gap by gap.

    What the slopes of a true derivative miss is missed in some gaps, or is no more than
    the rules let expect.
    """
    change, steps = jnp.diff(known.residual, axis=1), jnp.diff(known.t, axis=1)
    total, width = known.residual[:, -1], known.t[:, -1:] - known.t[:, :1]
    even = total[:, None] * (steps / width)[..., None]
    apart = jnp.abs(change - even).sum(1)
    return (jnp.abs(total) > 4 * expected) & (apart < jnp.abs(total) / 4)


def _error(difference, excess, chance, mass, shrink):
    """The error of each feature.

    What the profile does not explain belongs to some feature: it is spread by size. And
    where the two rules agree on a feature by chance, it shares in what they do not.
    """
    chance = jnp.where(shrink == 1, 0, chance)
    excess, even = excess[..., None], 1 / max(mass.shape[-1], 1)
    spread = jnp.where((mass == 0).all(-1, keepdims=True), even, shares(mass))
    caution = jnp.where(shrink < 1, CAUTION, 1)[..., None]
    own = COVER * jnp.hypot(difference, chance[..., None] * spread)
    return caution * own + CAUTION * excess * spread


def _profile(panel: Panels, width, samples: Samples, slope, probes) -> Known:
    """What is known along each panel, in order of time.

    The residual is the score minus the integral of the interpolated slope up to there.
    """
    lo, hi = panel.edges[:, :1], panel.edges[:, 1:]
    start, end = panel.scores[:, :1], panel.scores[:, 1:]
    # A probe outside the panel counts as one more copy of its end: an empty gap.
    grid = jnp.asarray(probes_at()[None, 1:-1], lo.dtype)
    inside = (grid > lo) & (grid < hi)
    t = jnp.concatenate([lo, samples.nodes, hi, jnp.where(inside, grid, hi)], 1)
    probed = jnp.where(inside[..., None], probes[:, 1:-1], end)
    scores = jnp.concatenate([start, samples.scores, end, probed], 1)

    tau = jnp.where(inside, (grid - lo) / width[:, None], 1)
    own = jnp.broadcast_to(table(lo.dtype, 4)[:, None], (NODES + 1, len(t), NODES + 2))
    basis = jnp.concatenate([own, _chebyshev(2 * tau - 1)], -1)
    integrals = _dot("nqj,hnk,qko->hqjo", basis, table(slope.dtype, 2), slope)
    residuals = (scores - start)[None] - width[None, :, None, None] * integrals
    known = jnp.concatenate([t[..., None], scores, *residuals], -1)
    known, outputs = row(known, jnp.argsort(t, axis=1)), scores.shape[-1]
    residual, *halves = jnp.split(known[..., 1 + outputs :], 3, axis=-1)
    return Known(known[..., : 1 + outputs], residual, jnp.stack(halves))


def _chebyshev(u):
    """Chebyshev polynomials of degrees 0 to NODES at u, stacked in front."""
    return jnp.cos(
        jnp.arange(NODES + 1, dtype=u.dtype)[:, None, None] * jnp.arccos(u)[None]
    )


def _dot(subscripts, *arrays):
    return jnp.einsum(subscripts, *arrays, precision="highest")


def over_nodes(weights, a):
    """The weighted sum of `a` (panels, nodes, ...) over the nodes."""
    return _dot("k,pk...->p...", weights, a)


def divided(a, b):
    """The quotient a / b, and a where b is 0."""
    return a / (b + (b == 0).astype(b.dtype))


def shares(mass):
    """What part of the whole each feature is; nothing of nothing."""
    total = mass.sum(-1, keepdims=True)
    # XLA multiplies by the reciprocal, which of the largest numbers is nothing.
    scale = jnp.where(total > 1, 2.0**-32, 1.0).astype(mass.dtype)
    return divided(mass * scale, total * scale)


def amplified(gap, known, mass, steep):
    """A change of F that is not explained, as large as it may be in the features.

    What the slopes miss is missing in every feature: where features cancel in F, it
    stands for more than its size, by the ratio of mass to slope. Not so what is `known`:
    rounding, and what rough slopes are off by.
    """
    return jnp.maximum(gap, (gap - known) * divided(mass, steep))


def worst_gap(known: Known):
    """The gap of most residual: its index (panels, 1), and whether it holds over half."""
    gaps = jnp.abs(jnp.diff(known.residual, axis=1)).sum(-1)
    return jnp.argmax(gaps, 1).astype(jnp.int32)[:, None], gaps.max(1) > gaps.sum(1) / 2


def row(a, index):
    """For each panel the rows of `a` (panels, points, ...) at `index` (panels, rows)."""
    return jnp.take_along_axis(a, index.reshape(*index.shape, *[1] * (a.ndim - 2)), 1)
