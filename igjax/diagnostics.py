"""What a result says about itself, in numbers and in words."""

import jax
import jax.numpy as jnp
import numpy as np

from igjax._tree import total
from igjax.attribution import Attribution, Status

__all__ = ["report", "within"]


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
    error, size = _norms(result)
    bound = tolerance * size
    return (error <= bound) & (jnp.abs(result.delta) <= bound)


def report(result: Attribution) -> str:
    """The certificate of a result, with plain words on what can be trusted.

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
    error, size = map(np.asarray, _norms(result))
    if np.ndim(result.delta):
        return _report_many(result, error, size)
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
        "gradient evaluations": f"{int(result.evaluations)}",
        "status": Status(int(result.status)).meaning,
    }
    table = "\n".join(f"{name:<26} {value}" for name, value in lines.items())
    return f"{table}\n\n{_advice(result, error, size)}"


def _report_many(result, error, size) -> str:
    statuses = np.asarray(result.status).ravel()
    counts = ", ".join(
        f"{(statuses == s).sum()} {s.meaning}" for s in Status if (statuses == s).any()
    )
    ratio = error.ravel() / np.where(size == 0, 1, size).ravel()
    gap = np.abs(np.asarray(result.delta)).ravel() / np.where(size == 0, 1, size).ravel()
    return "\n".join(
        [
            f"results                    {statuses.size} (shape {np.shape(result.delta)})",
            f"completeness gap           median {np.median(gap):.2g}, worst {gap.max():.2g}"
            " of the attribution",
            f"estimated error            median {np.median(ratio):.2g}, worst "
            f"{ratio.max():.2g} of the attribution",
            f"gradient evaluations       {int(np.sum(result.evaluations))} in all",
            f"status                     {counts}",
        ]
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
        "jump is uncertain. Compute in float64."
    ),
    Status.NON_FINITE: (
        "A score or gradient on the path is not finite: nothing can be trusted. Look for "
        "NaN in x, the baseline or the weights, for a label out of range, and for a root, "
        "norm or logarithm at a zero baseline; try another baseline."
    ),
    Status.NOT_VERIFIED: (
        "The scores along the path are not explained by the gradients to within the "
        "tolerance. Ask for a smaller tolerance, or check custom derivatives in f."
    ),
}


def _advice(result, error, size) -> str:
    status = Status(int(result.status))
    if status in _ADVICE:
        return _ADVICE[status]
    if not np.isfinite(error):
        return "The rule has no error estimate: use one of three nodes or more."
    worst = max(float(error), abs(float(result.delta)))
    if worst <= 1e-2 * size:
        return f"By its own samples the rule resolves the path to 1% or better. {_BLIND}"
    return (
        f"The rule does not resolve the path: errors may reach {_percent(worst, size)} of "
        "the attribution. Use rules.adaptive(tolerance)."
    )


def _norms(result):
    keep = np.ndim(result.delta)
    size = jax.tree.map(jnp.abs, result.values)
    return total(result.error, keep), total(size, keep)


def _percent(part, whole) -> str:
    if not whole:
        return "all" if part else "0.00%"
    return f"{100 * abs(float(part)) / float(whole):.2f}%"
