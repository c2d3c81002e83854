"""Rules of DeepLIFT: each accounts for the whole change of a unit from the baseline to x.

A complete rule at every unit makes the values of all of f add up, by the chain rule of
multipliers.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from igjax import rules as quadrature
from igjax.propagation import _sums
from igjax.propagation._primitives import KINDS, MAXIMA, POOLS, QUOTIENTS
from igjax.propagation._rule import Rule

__all__ = ["integrated", "rescale", "reveal_cancel"]


def rescale() -> Rule:
    r"""DeepLIFT's Rescale: the change of the output over that of the input.

    $$m = \frac{g(x) - g(r)}{x - r}$$

    and its like where there are two operands: the Jacobian at the midpoint for products,
    which is exact for what is bilinear; a / b as a * (1 / b), and in softmax and
    normalizations by a root as exp(log a - log b); max(a, b) as b + relu(a - b); and the
    rise of a maximum over many goes to what is largest at x, the rest of the change to what
    was largest at the baseline. Each accounts for the whole change of its unit, so that the
    values of `deeplift` add up.

    Returns:
        A `Rule` for units with a baseline.

    Example:
        >>> import igjax
        >>> igjax.propagation.rescale().paired
        True

    References:
        Shrikumar, Greenside, Kundaje, "Learning Important Features Through Propagating
        Activation Differences", ICML 2017.
    """
    kinds = tuple(k for k in KINDS if k not in ("layer", "choice", "unknown"))
    return Rule("rescale", kinds, _rescale, paired=True)


def _rescale(unit, values, references, ct):
    name = unit.unit.steps[-1].name
    if name in POOLS:
        return _rises(unit, values, references, ct)
    if unit.unit.kind in ("activation", "relu") or len(unit.unit.steps) > 1:
        return _secant(unit, values, references, ct)
    if unit.unit.by_root or (unit.unit.kind == "softmax" and name in QUOTIENTS):
        return _logarithmic(unit, values, references, ct)
    if name in QUOTIENTS:
        return _reciprocal(unit, values, references, ct)
    if name in MAXIMA:
        return _larger(unit, values, references, ct)
    if unit.is_bilinear:
        middle = [(x + r) / 2 for x, r in zip(values, references, strict=True)]
        return unit.pull(middle, ct)
    return _secant(unit, values, references, ct)


def _secant(unit, values, references, ct):
    (x,), (r,) = values, references
    return (ct * _slope_between(unit, x, r),)


def _slope_between(g, x, r):
    return _secant_or_slope(g, x, r, g(x), g(r))


def _secant_or_slope(g, x, r, y, s):
    """The secant of g; its slope at the midpoint where rounding hides the difference."""
    middle = (x + r) / 2
    _, slope = jax.jvp(g, (middle,), (jnp.ones_like(middle),))
    d, rise = x - r, y - s
    # What rounding of y, s, x and r does to the rise; where it explains all that differs.
    eps = float(jnp.finfo(x.dtype).eps)
    noise = 4 * eps * (jnp.abs(y) + jnp.abs(s) + jnp.abs(slope) * (jnp.abs(x) + jnp.abs(r)))
    hidden = (d == 0) | (jnp.abs(rise - slope * d) <= noise)
    return jnp.where(hidden, slope, rise / jnp.where(hidden, 1, d)).astype(y.dtype)


def _reciprocal(unit, values, references, ct):
    """A / b as a * (1 / b): the secant of 1 / b is -1 / (b b')."""
    (a, b), (ra, rb) = unit.arguments(values), unit.arguments(references)
    parts = ct * (1 / b + 1 / rb) / 2, -ct * (a + ra) / 2 / (b * rb)
    return unit.of_operands(parts)


def _logarithmic(unit, values, references, ct):
    """Takes a * c, or a / b with c = 1 / b, as exp(log a + log c), where signs are kept.

    As a product, multipliers would be as large as c is at either end: of a softmax the
    ratio of its sums, of a normalization 1000 at a baseline that is constant. A softmax
    would have values without bound where all logits move alike, and a dozen normalizations
    multiply. So multipliers are as large as outputs are for what flows in. Where a changes
    its sign it gets all of the change: on its way it is 0, where c changes nothing.
    """
    swapped = -1 if unit.unit.signal == 1 else 1
    (a, b), (ra, rb) = (unit.arguments(v)[::swapped] for v in (values, references))
    divides = unit.unit.steps[-1].name in QUOTIENTS
    c, rc = (1 / b, 1 / rb) if divides else (b, rb)
    y, s = a * c, ra * rc
    kept = jnp.sign(c) * jnp.sign(rc) > 0
    both = kept & (jnp.sign(y) * jnp.sign(s) > 0)  # none has vanished
    share = partial(_logarithm_over, both)
    d = jnp.where(a == ra, 1, a - ra)
    alone = jnp.where(kept, jnp.where(a == ra, c, (y - s) / d), (c + rc) / 2)
    to_a = jnp.where(both, share(a, ra) / share(y, s), alone)
    to_c = jnp.where(both, share(c, rc) / share(y, s), jnp.where(kept, 0, (a + ra) / 2))
    to_b = -to_c / (b * rb) if divides else to_c
    return unit.of_operands((ct * to_a, ct * to_b)[::swapped])


def _logarithm_over(where, v, r):
    """The change of a logarithm over that of its number; 1 elsewhere."""
    one = lambda v: jnp.where(where, v, 1)
    return _slope_between(lambda v: jnp.log(jnp.abs(v)), one(v), one(r))


def _larger(unit, values, references, ct):
    """max(a, b) as b + relu(a - b), min(a, b) as b - relu(b - a)."""
    (a, b), (ra, rb) = unit.arguments(values), unit.arguments(references)
    sign = 1 if unit.unit.steps[-1].name == "max" else -1
    to_a = ct * _slope_between(jax.nn.relu, sign * (a - b), sign * (ra - rb))
    return unit.of_operands((to_a, ct - to_a))


def _rises(unit, values, references, ct):
    (x,), (r,) = values, references
    (y, up), (s, down) = jax.vjp(unit, x), jax.vjp(unit, r)
    falls = unit.unit.steps[-1].name in ("reduce_min", "reduce_window_min")
    top = jnp.minimum(y, s) if falls else jnp.maximum(y, s)
    given = up(ct * (top - s))[0] + down(ct * (y - top))[0]
    d = x - r
    return (jnp.where(d == 0, 0, given / jnp.where(d == 0, 1, d)),)


def reveal_cancel() -> Rule:
    r"""DeepLIFT's RevealCancel: what is added and what is taken away, each by itself.

    $$\Delta y^\pm = \tfrac12\bigl(g(r + \Delta^\pm) - g(r)\bigr)
      + \tfrac12\bigl(g(r + \Delta^+ + \Delta^-) - g(r + \Delta^\mp)\bigr)$$

    where $\Delta^+$ and $\Delta^-$ are the sums of the contributions to an activation g
    that are positive and negative. These two get their Shapley values, and share them in
    proportion. So two causes that cancel are both seen, where `rescale` sees no change, or
    gives all to one of them. Use it for dense layers; it takes a ReLU together with the
    sum before it, which `units` shows. It is complete.

    Returns:
        A `Rule` for activations and for the maximum of two, with a baseline.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> f = lambda x: x[0] - jax.nn.relu(x[0] - x[1])  # the smaller of the two
        >>> rules = (("activation", igjax.propagation.reveal_cancel()),)
        >>> x = jnp.array([3.0, 1.0])
        >>> attribute = igjax.propagation.deeplift(f, rules)
        >>> attribute(x, 0.0).values.round(4)  # by `rescale`: (0, 1)
        Array([0.5, 0.5], dtype=float32)

    References:
        Shrikumar, Greenside, Kundaje, "Learning Important Features Through Propagating
        Activation Differences", ICML 2017, section 3.5.2.
    """
    kinds = ("activation", "relu", "maximum")
    return Rule("reveal_cancel", kinds, _reveal, paired=True, sees_sums=True)


def _reveal(unit, values, references, ct):
    if unit.unit.kind == "maximum":
        return _reveal_larger(unit, values, references, ct)
    start, end = _sums.root(unit, references), _sums.root(unit, values)
    changes = [x - r for x, r in zip(values, references, strict=True)]
    (up, down), pull = jax.vjp(lambda *d: _sums.signed(unit, d), *changes)
    curve = lambda z: _sums.curve(unit, z)
    to_up, to_down = _shares(curve, start, end, up, down)
    return pull((ct * to_up, ct * to_down))


def _shares(curve, start, end, up, down):
    """Multipliers of what is added and of what is taken away: either may come first."""
    # Four places: without and with what is added, without and with what is taken away.
    places = jnp.stack([jnp.stack([start, start + down]), jnp.stack([start + up, end])])
    heights = jax.vmap(jax.vmap(curve))(places)
    slope = jax.vmap(partial(_secant_or_slope, curve))
    to_up = slope(places[1], places[0], heights[1], heights[0])
    to_down = slope(places[:, 1], places[:, 0], heights[:, 1], heights[:, 0])
    return to_up.mean(0), to_down.mean(0)


def _reveal_larger(unit, values, references, ct):
    """max(a, b) as b + relu(a - b), min(a, b) as b - relu(b - a)."""
    (a, b), (ra, rb) = unit.arguments(values), unit.arguments(references)
    sign = 1 if unit.unit.steps[-1].name == "max" else -1
    da, db = sign * (a - ra), -sign * (b - rb)
    up = jnp.maximum(da, 0) + jnp.maximum(db, 0)
    down = jnp.minimum(da, 0) + jnp.minimum(db, 0)
    ends = sign * (ra - rb), sign * (a - b)
    to_up, to_down = _shares(jax.nn.relu, *ends, up, down)
    of = lambda d: jnp.where(d > 0, to_up, to_down)
    return unit.of_operands((ct * of(da), ct - ct * of(db)))


def integrated(rule: quadrature.Rule | None = None) -> Rule:
    r"""Integrated Gradients of one unit, from what flows in at the baseline to that at x.

    $$m_i = \int_0^1 \frac{\partial g}{\partial x_i}\bigl(r + t (x - r)\bigr)\,dt$$

    The general fallback of DeepLIFT, for primitives that have no rule of their own: sort,
    cumulative products, what a user knows to be smooth or piecewise linear. Complete up
    to the error of the rule, which `delta` shows.

    Args:
        rule: nodes and weights, `igjax.rules.gauss_legendre(n)`; None takes 8 of these.

    Returns:
        A `Rule` for every kind, with a baseline.

    Raises:
        TypeError: if the rule is no fixed one.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> f = lambda x: jnp.cumprod(x)[1]
        >>> rules = (("cumprod", igjax.propagation.integrated()),)
        >>> attribute = igjax.propagation.deeplift(f, rules)
        >>> attribute(jnp.array([2.0, 3.0]), 0.0).values.round(4)
        Array([3., 3.], dtype=float32)
    """
    rule = quadrature.gauss_legendre(8) if rule is None else rule
    if not isinstance(rule, quadrature.Rule):
        raise TypeError(
            f"integrated: rule must be a fixed one, got {rule!r}. Pass "
            "igjax.rules.gauss_legendre(n)."
        )
    return Rule("integrated", KINDS, _integrated, (rule,), paired=True)


def _integrated(unit, values, references, ct, rule):
    total: Any = [jnp.zeros_like(v) for v in values]
    for t, weight in zip(rule.nodes, rule.weights, strict=True):
        pairs = zip(values, references, strict=True)
        point = [r + float(t) * (x - r) for x, r in pairs]
        total = [
            a + float(weight) * c for a, c in zip(total, unit.pull(point, ct), strict=True)
        ]
    return tuple(total)
