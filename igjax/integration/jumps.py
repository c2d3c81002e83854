"""Jumps: what is narrower than the dtype resolves counts as the limit object.

A jump is the change of F times a direction: the gradient's at the steepest node, or, where
the jump is blurred by the rounding of t, the mean one of the panel.
"""

import jax
import jax.numpy as jnp

from igjax.integration.panels import (
    Measured,
    Panels,
    Samples,
    divided,
    over_nodes,
    row,
    table,
    worst_gap,
)


def narrowest(dtype) -> float:
    """The width below which a panel that still fails is a jump."""
    return 2.0**-20 if jnp.finfo(dtype).bits <= 32 else 1e-12


def resolved(panel: Panels, samples: Samples, seen: Measured, cancel, narrow, blurred):
    """Integral, error and what all features may be off by together, of panels.

    `cancel` says how many times features cancel in F elsewhere; `narrow` and `blurred`
    which panels are jumps of either kind.
    """
    worst, _ = worst_gap(seen.known)
    c, left = samples.parts, samples.nodes <= row(seen.known.t, worst)
    found = seen.kronrod, seen.error, jnp.zeros_like(seen.residual[..., None])
    found = _where(narrow[:, None, None], _sharp(c, panel, seen, left, cancel), found)
    better, *blur = _blurred(c, panel, seen)
    return _where(blurred[:, None, None] & better, tuple(blur), found)


def _sharp(c, panel: Panels, seen: Measured, left, cancel):
    """The limit object of a jump: the change of F along the steepest gradient.

    Its error is how much the steepest gradients on the two sides of the jump disagree
    about the direction. And what the slopes do not explain of the change, which is all of
    it if one side is flat, may be that of other features than those whose tails are seen:
    it is missing there, times `cancel`, and too much here, as much as it was given. `left`
    says which nodes (panels, nodes) lie before the jump.
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
    missing = jnp.minimum(jnp.abs(seen.known.residual).max(1), jnp.abs(change))
    blind = (low == 0) | (high == 0)
    given = jnp.abs(divided(value, size)).sum(-1, keepdims=True)
    unseen = (cancel[..., None] + given) * jnp.where(
        blind, jnp.abs(size), missing[..., None]
    )
    return value, doubt, unseen


def _blurred(c, panel: Panels, seen: Measured):
    """A jump hardly wider than the rounding of t: the change of F along its directions.

    Its nodes are not where they should be, but each has the gradient of where it is.
    So the weight of each is uncertain, by the share of the change that the slopes do not
    explain; where all have one direction, nothing is.
    """
    change = (panel.scores[:, 1] - panel.scores[:, 0])[..., None]
    slope = c.sum(-1, keepdims=True)
    mean = divided(seen.kronrod, seen.kronrod.sum(-1, keepdims=True))
    weights, width = table(c.dtype, 1)[0], jnp.diff(panel.edges)[..., None]
    spread = width * over_nodes(weights, jnp.abs(c - slope * mean[:, None]))
    stray = jnp.abs(seen.known.residual).max(1)[..., None]
    doubt = divided(4 * stray, jnp.abs(change))
    error = spread * doubt
    smaller = error.sum(-1, keepdims=True) < seen.error.sum(-1, keepdims=True)
    # At least three nodes lie in the jump, and their slopes explain half of the change.
    heights = weights[None, :, None] * jnp.abs(slope[..., 0])
    seen_by = divided(heights.sum(1) ** 2, (heights**2).sum(1))[..., None]
    good = smaller & (doubt < 2) & (seen_by >= 3)
    return good, change * mean, error, jnp.zeros_like(change)


def _where(mask, ours, theirs):
    return jax.tree.map(lambda a, b: jnp.where(mask, a, b), ours, theirs)
