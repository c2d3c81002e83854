r"""A budget spent step by step, until the errors are within a tolerance.

What is drawn is looked at after some draws, twice as many, and so on. Each look could stop
by luck; so the 5% by which intervals may miss are shared among all the looks that there can
be. And a tolerance that seems met is checked: the two halves of what was drawn are
estimates of their own, and must agree within the errors of both.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from igjax import _checks
from igjax._program.jax_internals import varying
from igjax.attribution import Status
from igjax.methods._draws import CONFIDENCE, student

FIRST_LOOK = 32  # draws before it, at the least
DOUBT = 2  # deviations by which two estimates may differ


def asked(caller: str, tolerance) -> float | None:
    """The tolerance that is asked for, if one is.

    Raises:
        TypeError: if it is traced, or no number.
        ValueError: if it is not positive and finite.
    """
    if tolerance is None:
        return None
    _checks.tolerance(caller, tolerance)
    return float(tolerance)


def half_width(quantile, count):
    """Of an interval by so many draws, in deviations; one, where none is asked for."""
    return 1.0 if quantile is None else student(quantile, count - 1)


def plan(n: int, draws: int, step: int) -> np.ndarray:
    """After how many draws errors are looked at: at the last, half of them, and so on."""
    looks = [draws]
    while (half := looks[-1] // 2 // step * step) >= max(FIRST_LOOK, 2 * n):
        looks.append(half)
    return np.array(looks[::-1])


def is_within(values, error, tolerance: float):
    """Whether errors are within the tolerance, relative to the values as they truly are."""
    return error.sum() <= tolerance / (1 + tolerance) * jnp.abs(values).sum()


def spend(more: Callable, read: Callable, rows, looks, step: int, tolerance: float):
    """Draws until the errors are within a tolerance, or all is drawn.

    Args:
        more: `more(count) -> rows` of the next `step` draws.
        read: `read(rows, seen, quantile) -> values, error`, of the rows that are seen;
            the error is that many deviations, where the quantile is None just one.
        rows: zeros, an array of all draws.
        looks: see `plan`.
        step: how many are drawn together.
        tolerance: positive.

    Returns:
        Values, error, how many were drawn, and the status.
    """
    quantile = (1 + 1 - (1 - CONFIDENCE) / len(looks)) / 2
    numbers = jnp.arange(len(rows), dtype=jnp.int32)

    def draw(carry):
        rows, count = carry
        start = (count, *[jnp.zeros_like(count)] * (rows.ndim - 1))
        return jax.lax.dynamic_update_slice(rows, more(count), start), count + step

    def look(carry):
        rows, count, k, _ = carry
        stop = jnp.asarray(looks, jnp.int32)[k]
        rows, count = jax.lax.while_loop(lambda c: c[1] < stop, draw, (rows, count))
        values, error = read(rows, numbers < count, quantile)
        return rows, count, k + 1, is_within(values, error, tolerance)

    carry = rows, jnp.int32(0), jnp.int32(0), jnp.array(False)
    carry = varying(carry, jax.eval_shape(more, jnp.int32(0)))
    unmet = lambda carry: ~carry[-1] & (carry[-2] < len(looks))
    rows, count, _, met = jax.lax.while_loop(unmet, look, carry)
    values, error = read(rows, numbers < count, quantile)
    halves = [read(rows, seen, None) for seen in _halves(numbers, count)]
    status = answer(values, met, _agree(*halves))
    return values, error, count, status


def _halves(numbers, count):
    middle = count // 2
    return numbers < middle, (numbers >= middle) & (numbers < count)


def _agree(one, other):
    apart = (one[0] - other[0]) ** 2
    known = one[1] ** 2 + other[1] ** 2
    rounding = 1e2 * float(jnp.finfo(apart.dtype).eps) * (one[0] ** 2 + other[0] ** 2)
    return apart.sum() <= DOUBT**2 * (known + rounding).sum()


def answer(values, met, agrees):
    """The status of values whose errors are within the tolerance or not, and checked."""
    finite = jnp.isfinite(values.sum())
    answers = [Status.NON_FINITE, Status.BUDGET_SPENT, Status.NOT_VERIFIED]
    status = jnp.select([~finite, ~met, ~agrees], answers, Status.TOLERANCE_MET)
    return status.astype(jnp.int32)
