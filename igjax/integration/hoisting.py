"""The straight path behind an affine prefix: a straight line in the space of the frontier.

What `affine_split` finds is needed at both ends of the path only. Between them the
frontier moves in a straight line, and gradients with respect to it are pulled back to x:
their sums, once, by a fixed rule; node by node by the adaptive one, whose indicators need
what each feature contributes at each node.
"""

from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from igjax import paths
from igjax._program.affine import Split, Sweep, affine_split
from igjax._program.jax_internals import if_understood, varying
from igjax._tree import parameter_dtype
from igjax.integration.path_integral import along, gradients


class _Hoisted(NamedTuple):
    """The operands of one example, and the frontier at both ends of its path."""

    operands: Any
    start: Any
    end: Any


def integral(f, path, operands, sweep: Sweep):
    """What `path_integral` takes: f and path of the frontier, and `pull`; None unsplit.

    `f` is a function of a point, `path` the straight one, of t.
    """
    found = if_understood(_first, f, operands, sweep)
    if found is None:
        return None
    split, hoisted = found

    def pull(sums):
        lead = sums[0].shape[: sums[0].ndim - hoisted.end[0].ndim]
        pulled = _pulled(split, operands.x, sums, hoisted.end)
        split_rows = lambda a: a.reshape(*lead, *a.shape[1:])
        return along(jax.tree.map(split_rows, pulled), _velocity(path, operands.x))

    return split.suffix, partial(_line, hoisted), pull


def profile(f, path, operands, sweep: Sweep):
    """What the adaptive rule takes: score and contributions at t, and their operands.

    `f` and `path` are functions of (operands, point) and (operands, t). None unsplit.
    """
    found = if_understood(_first, partial(f, operands), operands, sweep)
    if found is None:
        return None

    def split_of(o) -> Split:  # as the first, but in the trace of these operands
        return cast(Split, _split(partial(f, o), o.x, sweep))

    def score_at(hoisted, t):
        return split_of(hoisted.operands).suffix(_line(hoisted, t))

    def parts_at(hoisted, t):
        o, point = hoisted.operands, _line(hoisted, t)
        split = split_of(o)
        score, frontier = gradients(split.suffix, point)
        pulled = _pulled(split, o.x, frontier, point)
        shaped = lambda g: g.reshape(*score.shape, *g.shape[1:])
        velocity = _velocity(partial(path, o), o.x)
        return score, along(jax.tree.map(shaped, pulled), velocity)

    return score_at, parts_at, found[1]


def _split(f, x, sweep) -> Split | None:
    return affine_split(f, x, sweep._replace(outputs=jax.eval_shape(f, x).size))


def _first(f, operands, sweep):
    """The split of f and the frontier at both ends; both parts have been traced once."""
    split = _split(f, operands.x, sweep)
    if split is None:
        return None
    start, end = split.prefix(operands.baseline), split.prefix(operands.x)
    jax.eval_shape(split.suffix, end)
    return split, _Hoisted(operands, start, end)


def _line(hoisted, t):
    start, end = hoisted.start, hoisted.end
    t = varying(t, (start, end))

    def leaf(a, b):
        # A masked score, -inf at both ends, stays where it is: inf - inf is no number.
        moved = paths.straight(a, b, t.astype(a.dtype))
        return jnp.where((a == b) & jnp.isinf(a), a, moved)

    return jax.tree.map(leaf, end, start)


def _pulled(split, x, frontier, like):
    """Gradients of the frontier, any axes in front, as those of x, one axis in front."""
    _, pullback = jax.vjp(split.prefix, x)
    rows = [g.reshape(-1, *z.shape) for g, z in zip(frontier, like, strict=True)]
    return jax.vmap(pullback)(tuple(rows))[0]


def _velocity(path, x):
    """The velocity of a straight path, which is the same at all t."""
    zero, one = (jnp.full((), a, parameter_dtype(x)) for a in range(2))
    return jax.jvp(path, (zero,), (one,))[1]
