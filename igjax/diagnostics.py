"""What to trust: what a result says of itself, what its rule saw, how rules compare."""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from igjax import _checks, paths
from igjax._program import compiled
from igjax._program.blocks import chunk
from igjax._program.jax_internals import varying
from igjax._tree import norms, parameter_dtype, total, wide
from igjax.attribution import Attribution, Status
from igjax.integration import recipes
from igjax.integration.adaptive import NODES
from igjax.integration.path_integral import integrand
from igjax.rules import Adaptive, adaptive, gauss_kronrod

__all__ = [
    "Convergence",
    "PathProfile",
    "convergence",
    "path_profile",
    "report",
    "within",
]


def within(result: Attribution, tolerance: float) -> jax.Array:
    r"""Whether the error estimates of a result meet a tolerance.

    True where $\sum_i \mathrm{error}_i$ and $|\mathrm{delta}|$ are both at most
    `tolerance` times $\sum_i |\mathrm{values}_i|$. This is what the samples of the rule
    say; it is weaker than `result.converged`, since a fixed rule can step over a jump.

    Args:
        result: an `Attribution` of any rule, of one example or a batch.
        tolerance: relative to the sum of the absolute values, positive.

    Returns:
        A boolean array of the shape of `result.delta`.

    Raises:
        ValueError: if the tolerance is not positive.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> attribute = igjax.integrated_gradients(jnp.prod)
        >>> bool(igjax.diagnostics.within(attribute(jnp.ones(2), 0.0), 1e-3))
        True
    """
    if not tolerance > 0:
        raise ValueError(f"within: the tolerance must be positive, got {tolerance}.")
    error, size = norms(result)
    bound = jax.device_put(np.asarray(tolerance, size.dtype)) * size
    return (error <= bound) & (jnp.abs(result.delta) <= bound)


def report(result: Attribution) -> str:
    """The certificate of a result, with plain words on what can be trusted.

    Of a mean over random draws it tells the error of the draws apart from that of the
    rule; and it says so where the score did not change at all.

    Args:
        result: an `Attribution` of one example, a batch, or a Jacobian.

    Returns:
        Text of several lines.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> result = igjax.integrated_gradients(jnp.prod)(jnp.array([1.0, 2.0]), 0.0)
        >>> print(igjax.diagnostics.report(result))
        score                      2
        baseline score             0
        sum of values              2
        completeness gap           ... (0.00% of the attribution)
        estimated error            ... (0.00% of the attribution)
        gradient evaluations       15
        status                     tolerance met and verified
        <BLANKLINE>
        The values are within the tolerance of the exact ones. ...
    """
    if np.ndim(result.delta):
        return _table(_lines_of_many(result))
    lines, advice = certificate(result)
    return f"{_table(lines)}\n\n{advice}"


def certificate(result: Attribution) -> tuple[dict[str, str], str]:
    """What `report` says of one result: the lines of its table, and the advice."""
    error, size = map(np.asarray, norms(result))
    drawn = _of_draws(result)
    share = lambda part: f"{part:.2g} ({_percent(part, size)} of the attribution)"
    delta, score, start = (
        float(a) for a in (result.delta, result.score, result.baseline_score)
    )
    lines = {
        "score": f"{score:.6g}",
        "baseline score": f"{start:.6g}",
        "sum of values": f"{delta + score - start:.6g}",
        "completeness gap": share(delta),
        "estimated error": share(float(error)),
        **({} if drawn is None else {"of it by random draws": share(float(drawn))}),
        "gradient evaluations": f"{int(result.evaluations)}",
        "status": Status(int(result.status)).meaning,
    }
    told = [_unchanged(result, size), _advice(result, error, size, drawn)]
    return lines, " ".join(filter(None, told))


def _table(lines: dict[str, str]) -> str:
    return "\n".join(f"{name:<26} {value}" for name, value in lines.items())


def _of_draws(result: Attribution) -> np.ndarray | None:
    """The part of the errors that random draws account for; None if nothing is drawn."""
    if result.sampling is None:
        return None
    return np.asarray(total(result.sampling, np.ndim(result.delta)))


def _lines_of_many(result: Attribution) -> dict[str, str]:
    error, size = (np.asarray(a).ravel() for a in norms(result))
    size = np.where(size == 0, 1, size)
    statuses = np.asarray(result.status).ravel()
    counts = [f"{(statuses == s).sum()} {s.meaning}" for s in Status if s in statuses]

    def spread(part) -> str:
        ratio = np.abs(part).ravel() / size
        told = f"median {np.median(ratio):.2g}, worst {ratio.max():.2g}"
        return f"{told} of the attribution"

    drawn = _of_draws(result)
    same = np.count_nonzero(_is_unchanged(result))
    return {
        "results": f"{statuses.size} (shape {np.shape(result.delta)})",
        "completeness gap": spread(np.asarray(result.delta)),
        "estimated error": spread(error),
        **({} if drawn is None else {"of it by random draws": spread(drawn)}),
        **({"score did not change": f"{same} of {statuses.size}"} if same else {}),
        "gradient evaluations": f"{int(np.sum(result.evaluations))} in all",
        "status": ", ".join(counts),
    }


def _is_unchanged(result: Attribution) -> np.ndarray:
    """Where both ends have the same score, and the values are shares of a change."""
    ends = (np.asarray(a) for a in (result.score, result.baseline_score, result.delta))
    score, start, delta = ends
    return (score == start) & np.isfinite(score) & np.isfinite(delta)


def _unchanged(result: Attribution, size) -> str:
    """What it means that the score did not change, or nothing."""
    if not _is_unchanged(result):
        return ""
    if size:
        return (
            "The score is the same at the baseline and at x, so the values add up to "
            "nothing: they say what raised it on the way and what lowered it again."
        )
    return (
        "The score did not change at all between the baseline and x, and no feature has a "
        "share. Either the two are the same where f looks (a baseline that is x, padding, "
        "a mask), or f is flat between them: saturated, clipped, rounded, behind a "
        "stop_gradient. Take another baseline, or attribute the logit."
    )


_BLIND = (
    "Structures narrower than the gaps between the samples that leave no net change of "
    "the score are not seen."
)
_ADVICE = {
    Status.TOLERANCE_MET: (
        f"The values are within the tolerance of the exact ones. {_BLIND}"
    ),
    Status.BUDGET_SPENT: (
        "The budget ended before the tolerance was met. Raise max_evaluations, or ask for "
        "a larger tolerance; the error estimates hold for what was computed."
    ),
    Status.RESOLUTION: (
        "The score jumps within less than the dtype resolves, and which features carry the "
        "jump is uncertain. igjax.in_float64(attribute) resolves what is only steep. Where "
        "f itself has a step, nothing does, and the error says what is at stake. A step is "
        "a place where the score changes at once and the gradient does not tell: a round, "
        "sign, argmax or top-k in f, a comparison as in where(x > 0.5, ...), a cast to "
        "integers, a lookup in a table."
    ),
    Status.NON_FINITE: (
        "A score or gradient on the path is not finite: nothing can be trusted. Look for "
        "NaN in x, the baseline or the weights, for a label out of range, and for a root, "
        "norm or logarithm at a zero baseline; try another baseline."
    ),
    Status.NOT_VERIFIED: (
        "The scores along the path are not explained by the gradients: the derivatives of "
        "f contradict its scores. Look for stop_gradient, straight-through estimators and "
        "custom derivatives in f; where there are none, ask for a smaller tolerance."
    ),
    Status.ROUNDING: (
        "The rounding of f itself is coarser than the tolerance: more gradients would not "
        "help, and the estimated errors contain it. Compute in a wider dtype, "
        "igjax.in_float64(attribute), or ask for a larger or an absolute tolerance."
    ),
}


def _advice(result, error, size, drawn) -> str:
    status = Status(int(result.status))
    if status is Status.BUDGET_SPENT and drawn is not None and 2 * drawn > error:
        return (
            "The draws ended before the tolerance was met: allow more of them, or ask for "
            "a larger tolerance; the error estimates hold for what was computed."
        )
    if status in _ADVICE:
        return _ADVICE[status]
    if not np.isfinite(error):
        return "The rule has no error estimate: use one of three nodes or more."
    if np.isinf(result.delta):
        return (
            "The values are not meant to add up to a difference of scores: there is no gap "
            "to judge them by, only their errors."
        )
    worst = max(float(error), abs(float(result.delta)))
    if worst <= 1e-2 * size:
        return f"By its own samples the rule resolves the path to 1% or better. {_BLIND}"
    told = f"Errors may reach {_percent(worst, size)} of the attribution."
    return f"{told} {_more(error, drawn)}"


def _more(error, drawn) -> str:
    """What makes the errors smaller."""
    if drawn is not None and 2 * drawn > error:
        return "Most of that is by the random draws: four times as many halve it."
    rule = (
        "Where f is smooth a fixed rule puts its own far too high: "
        "rules.adaptive(tolerance) tells, or a few more nodes."
    )
    if drawn is None:
        return f"{rule} Of random draws take more."
    return f"Most of that is by the rule of each draw, and more draws do not help. {rule}"


def _percent(part, whole) -> str:
    if not whole:
        return "all" if part else "0.00%"
    return f"{100 * abs(float(part)) / float(whole):.2f}%"


class PathProfile(NamedTuple):
    """The score of one example along its path, where its integrator looked.

    Attributes:
        t: shape (n,), positions on the path, ascending from 0 to 1: an even grid and the
            nodes of the rule. A position that is both is there twice.
        score: shape (n,), f at those positions; float32 or wider.
        slope: shape (n,), the gradient of f times the velocity of the path, summed over
            features: what is integrated, and d score/dt if the gradient is right.
        edges: shape (p, 2), the start and end of each panel of the adaptive rule,
            ascending; shape (0, 2) for a fixed rule.
        panels: int32, how many rows of `edges` are panels.

    Example:
        >>> import igjax
        >>> igjax.diagnostics.PathProfile._fields
        ('t', 'score', 'slope', 'edges', 'panels')
    """

    t: Any
    score: Any
    slope: Any
    edges: Any
    panels: Any


def path_profile(f, *, rule=None, path=paths.straight, points: int = 200):
    r"""The score and its slope along the path, at all places where the rule looked.

    $$F(t) = f(\gamma(t)), \qquad
      \phi(t) = \sum_i \partial_i f(\gamma(t))\,\dot\gamma_i(t)$$

    with $\gamma(t) = x' + t (x - x')$ on the straight path. The attributions are the
    terms of $\phi$, integrated. Use it to see why a result is what it is: a jump that a
    fixed rule steps over, a plateau that starts before t = 1, panels that crowd around
    one place. Where $\phi$ is not the slope of F, f has a custom derivative that is
    none. It costs one gradient a position, besides finding the mesh.

    Args:
        f: `f(x, *args) -> scalar`, as in `integrated_gradients`.
        rule: as in `integrated_gradients`; None is `rules.adaptive()`.
        path: `path(x, baseline, t) -> point`, as in `integrated_gradients`.
        points: how many even positions, both ends among them, join the nodes of the
            rule; at least 2.

    Returns:
        `profile(x, baseline, *args) -> PathProfile`, for one example: a batch goes
        through `jax.vmap`. With the adaptive rule the nodes are 15 for each panel. Called
        under `jit` or `vmap` the arrays have room for all panels of the budget: behind
        the last one, `edges` repeats the empty panel [1, 1] and t repeats 1, with the
        score and slope there, so that a curve drawn through them is the same. The
        padding is not evaluated.

    Raises:
        TypeError: if points is no integer, and as `integrated_gradients`.
        ValueError: if points is less than 2, and as `integrated_gradients`.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> f = lambda x: jax.nn.sigmoid(300.0 * (x.sum() - 1.0))
        >>> seen = igjax.diagnostics.path_profile(f)(jnp.array([1.0, 3.0]), 0.0)
        >>> seen.t.size == 200 + 15 * int(seen.panels) == seen.score.size
        True
        >>> bool(abs(seen.t[seen.slope.argmax()] - 0.25) < 1e-3)  # it switches at 1/4
        True
    """
    _checks.function("path_profile", "f", f)
    _check_points(points)
    rule = adaptive() if rule is None else rule
    recipe = _Profiler(points)
    look = compiled.attribution("path_profile", recipe, f, path, rule, None, scalar=True)

    def profile(x, baseline, /, *args):
        seen = look(x, baseline, *args)
        if isinstance(seen.panels, Tracer):
            return seen
        count = int(seen.panels)
        spare = NODES * (len(seen.edges) - count)
        first = lambda a, n: jax.lax.slice_in_dim(a, 0, n)
        t, score, slope = (first(a, len(a) - spare) for a in seen[:3])
        return PathProfile(t, score, slope, first(seen.edges, count), seen.panels)

    return profile


@dataclasses.dataclass(frozen=True)
class _Profiler:
    """The recipe of `path_profile`, hashable by its grid: programs are cached by recipe."""

    points: int

    def __call__(self, f, path, operands, rule, chunk_size) -> PathProfile:
        dtype = parameter_dtype(operands.x)
        if isinstance(rule, Adaptive):
            edges, panels = recipes.mesh(f, path, operands, rule, chunk_size)
            used = jnp.arange(len(edges), dtype=jnp.int32) < panels
            edges = jnp.where(used[:, None], edges, 1)
            kronrod = jnp.asarray(gauss_kronrod(NODES).nodes, dtype)
            # The nodes of the empty panel [1, 1] are all 1: behind the others.
            nodes = edges[:, :1] + (edges[:, 1:] - edges[:, :1]) * kronrod[None]
            count = self.points + NODES * panels
        else:
            edges, panels = jnp.zeros((0, 2), dtype), 0
            nodes = jnp.asarray(rule.nodes).astype(dtype)
            count = self.points + nodes.size
        grid = jnp.linspace(0, 1, self.points, dtype=dtype)
        t = jnp.sort(jnp.concatenate([grid, nodes.ravel()]))
        f, path = partial(f, operands), partial(path, operands)

        def at(t):
            score, parts = integrand(f, path, t)
            return score.astype(wide(score.dtype)), total(parts, 0)

        size = chunk(f, path, dtype, t.size, lanes=operands.lanes.count)
        score, slope = _sweep(at, t, count, size)
        return PathProfile(t, score, slope, edges, jnp.asarray(panels, jnp.int32))


def _sweep(at, t, count, size):
    """`at` the first `count` positions, in blocks; the others repeat the last of them.

    A block of others alone is not evaluated, so that the padding costs only memory.
    """
    blocks = -(-t.size // size)
    padded = jnp.pad(t, (0, blocks * size - t.size), mode="edge")
    along = jax.vmap(at)

    def block(i, outputs):
        new = along(jax.lax.dynamic_slice_in_dim(padded, i * size, size))
        put = partial(jax.lax.dynamic_update_slice_in_dim, start_index=i * size, axis=0)
        return jax.tree.map(put, outputs, new)

    shapes = jax.eval_shape(at, t[0])
    zeros = jax.tree.map(lambda a: jnp.zeros(padded.shape, a.dtype), shapes)
    filled = jax.lax.fori_loop(0, -(-count // size), block, varying(zeros, shapes))
    place = jnp.minimum(jnp.arange(t.size, dtype=jnp.int32), count - 1)
    return jax.tree.map(lambda a: a[place], filled)


def _check_points(points) -> None:
    if not isinstance(points, int | np.integer) or isinstance(points, bool):
        raise TypeError(f"path_profile: points must be an integer, got {points!r}.")
    if points < 2:
        raise ValueError(
            f"path_profile: points must be at least 2, the ends of the path, got {points}."
        )


class Convergence(NamedTuple):
    """What several rules make of one attribution: NumPy arrays, one entry for each rule.

    Attributes:
        evaluations: the gradients that each rule spent.
        error: sum of |values - reference|, relative to the sum of |reference|.
        estimate: what the result says of that error: the sum of its errors, relative to
            its sum of |values|; infinite for a rule of one node.
        gap: the completeness gap |delta|, relative to the sum of |values|.
        converged: whether a tolerance was asked for, met and verified.
        reference_status: a `Status`, of the reference. Unless it is TOLERANCE_MET, the
            column `error` is the distance from something that is not known to be right;
            NO_TOLERANCE for bare values, which say nothing of themselves.
        reference_error: the estimated error of the reference, relative to its sum of
            |values|: what `error` cannot tell from 0. NaN for bare values.

    Example:
        >>> import igjax
        >>> igjax.diagnostics.Convergence._fields[:3]
        ('evaluations', 'error', 'estimate')
    """

    evaluations: np.ndarray
    error: np.ndarray
    estimate: np.ndarray
    gap: np.ndarray
    converged: np.ndarray
    reference_status: np.ndarray
    reference_error: np.ndarray


def convergence(f, x, baseline, *args, rules, reference=None, path=paths.straight):
    r"""How far each of several rules is from a reference, and how far it thinks it is.

    $$\mathrm{error} = \frac{\sum_i |\mathrm{values}_i - \mathrm{reference}_i|}
      {\sum_i |\mathrm{reference}_i|}$$

    Use it to choose a fixed rule for a model by measurement, and to see that its error is
    not its completeness gap. On a logarithmic plot of `error` over `evaluations`, a
    smooth f falls by the order of the rule, a ReLU network by 1/n, and a narrow jump not
    at all until the nodes resolve it. It runs on the host, outside `jit` and `vmap`, on
    one example; each shape of rule is compiled once.

    Args:
        f: `f(x, *args) -> scalar`, as in `integrated_gradients`.
        x: pytree of arrays, one example.
        baseline: like x; a scalar stands for a whole leaf.
        *args: as in `integrated_gradients`.
        rules: a sequence of rules, fixed or adaptive, such as
            `[rules.midpoint(n) for n in (8, 32, 128)] + [rules.adaptive(1e-3)]`.
        reference: an `Attribution` of x, or bare values, a pytree of the shapes of x. None
            computes it with `rules.adaptive(1e-5, max_evaluations=30_000)`. Whether it
            is to be trusted stands in `reference_status` and `reference_error`: in float32
            a steep f may not reach so much, and float64 is the remedy.
        path: `path(x, baseline, t) -> point`, as in `integrated_gradients`.

    Returns:
        A `Convergence`, in the order of the rules. Where a sum to be relative to is 0,
        the number is absolute.

    Raises:
        TypeError: if rules is no sequence of rules, if something is traced, and as
            `integrated_gradients`.
        ValueError: if there are no rules, if the reference does not have the shapes of x,
            and as `integrated_gradients`.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> f = lambda x: jax.nn.sigmoid(100.0 * (x.sum() - 1.0))
        >>> x, tried = jnp.array([1.0, 3.0]), [igjax.rules.midpoint(n) for n in (16, 160)]
        >>> found = igjax.diagnostics.convergence(f, x, 0.0, rules=tried)
        >>> found.error.round(2).tolist()
        [1.0, 0.01]
        >>> igjax.Status(found.reference_status).name
        'TOLERANCE_MET'
    """
    _checks.function("convergence", "f", f)
    tried = _sequence(rules)
    run = lambda rule: compiled.attribution(
        "convergence", recipes.integrate, f, path, rule, None, scalar=True
    )(x, baseline, *args)
    if reference is None:
        reference = run(REFERENCE)
    status, doubt = Status.NO_TOLERANCE, np.nan
    if isinstance(reference, Attribution):
        status, doubt = int(_host(reference.status)), _shares(reference)[0]
        reference = reference.values
    _check_reference(x, reference)
    exact = jax.tree.leaves(_host(reference))
    whole = sum(np.abs(a).sum() for a in exact)

    def row(result):
        values = jax.tree.leaves(_host(result.values))
        pairs = zip(values, exact, strict=True)
        with np.errstate(invalid="ignore"):  # infinity less infinity is NaN, and data
            distance = sum(np.abs(a - b).sum() for a, b in pairs)
        measured = _share(distance, whole), *_shares(result)
        return int(result.evaluations), *measured, bool(result.converged)

    rows = [row(run(rule)) for rule in tried]
    trust = [np.array(status, np.int32), np.array(doubt)]
    return Convergence._make([*map(np.array, zip(*rows, strict=True)), *trust])


REFERENCE = adaptive(1e-5, max_evaluations=30_000)


def _shares(result) -> tuple[float, float]:
    """The estimated error and the gap of one result, relative to the attribution."""
    error, size = map(_host, norms(result))
    return _share(error, size), _share(np.abs(_host(result.delta)), size)


def _share(part, whole) -> float:
    with np.errstate(invalid="ignore"):
        return float(part / whole if whole else part)


def _host(tree):
    """The same tree in NumPy, wide enough for any sum."""
    if _checks.any_traced(tree):
        raise TypeError(
            "convergence: all arguments must be concrete, got traced ones. Call it outside "
            "jit, vmap and grad, for one example at a time."
        )
    return jax.tree.map(lambda a: np.asarray(a, np.float64), tree)


def _sequence(rules) -> list:
    try:
        tried = list(rules)
    except TypeError:
        raise TypeError(
            f"convergence: rules must be a sequence of rules, got {rules!r}. Pass "
            "[igjax.rules.midpoint(n) for n in (8, 32, 128)], say."
        ) from None
    if not tried:
        raise ValueError("convergence: rules must hold at least one rule, got none.")
    for rule in tried:
        _checks.rule("convergence", rule)
    return tried


def _check_reference(x, reference) -> None:
    shapes = [jax.tree.map(np.shape, tree) for tree in (x, reference)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"convergence: reference must have the structure and shapes of x, {shapes[0]}, "
            f"got {shapes[1]}. Pass an Attribution of this x, its values, or None."
        )
