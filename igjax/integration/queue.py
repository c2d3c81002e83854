"""Panels that wait to be evaluated: a queue that all examples of a `vmap` share.

Panels are processed in generations: those that are cut put their children into the queue
of the next one. The cost of a batch is the sum of what each example needs. All there is to
know of a panel is one row of one array, since each array that is moved has to be compiled.
"""

import jax
import jax.numpy as jnp

from igjax.integration.panels import Known, Panels, row

MOST = 24  # pieces that a panel is cut into at once


def first(rows, capacity: int, batch: int):
    """A queue that begins with these rows, and an empty one, with room for so many.

    What is appended, up to `batch` rows, is written with those that are not wanted behind.
    """
    room = capacity + max(batch, len(rows))
    blank = jnp.zeros((room, *rows.shape[1:]), rows.dtype)
    return blank.at[: len(rows)].set(rows), blank


def whole(probes):
    """The whole path of each example as one row: (examples, 2, 2 + outputs).

    Of both ends: the example, t, and the scores.
    """
    size, dtype = len(probes), probes.dtype
    example = jnp.arange(size, dtype=dtype)[:, None, None]
    ends = jnp.arange(2, dtype=dtype)[None, :, None]
    both = [jnp.broadcast_to(a, (size, 2, 1)) for a in (example, ends)]
    return jnp.concatenate([*both, probes[:, jnp.array([0, -1])]], -1)


def panels(rows) -> Panels:
    """What rows say."""
    return Panels(rows[..., 1], rows[..., 2:], owners(rows))


def owners(rows):
    """The examples of rows."""
    return rows[:, 0, 0].astype(jnp.int32)


def cut(panel: Panels, known: Known, worst, zoom, pieces):
    """The children of each panel, `MOST` rows, and which are wider than nothing.

    Either the worst gap and what is beside it, or so many pieces, as even as known scores
    allow.
    """
    width, last = jnp.diff(panel.edges), known.t.shape[1] - 1
    nth = jnp.arange(MOST + 1, dtype=jnp.int32)[None]
    share = nth.astype(width.dtype) / pieces[:, None].astype(width.dtype)
    places = panel.edges[:, :1] + width * jnp.minimum(share, 1)
    nearest = jnp.argmin(jnp.abs(known.t[:, :, None] - places[:, None]), 1)
    gap = jnp.where(nth == 0, 0, jnp.where(nth < 3, worst + nth - 1, last))
    nearest = jnp.where(nth < pieces[:, None], nearest.astype(jnp.int32), last)
    points = row(known.points, jnp.where(zoom[:, None], gap, nearest))
    example = jnp.broadcast_to(panel.example[:, None, None], (*points.shape[:2], 1))
    points = jnp.concatenate([example.astype(points.dtype), points], -1)
    rows = jnp.stack([points[:, :-1], points[:, 1:]], 2)
    rows = rows.reshape(-1, *rows.shape[2:])
    return rows, rows[:, 1, 1] > rows[:, 0, 1]


def append(queue, count, rows, wanted):
    """Appends those rows that are wanted."""
    rows, more = only(rows, wanted)
    return jax.lax.dynamic_update_slice_in_dim(queue, rows, count, 0), count + more


def only(queue, keep):
    """Those rows that are kept, to the front, and their number."""
    order = jnp.argsort(~keep, stable=True)
    return queue.at[order].get(mode="clip"), keep.sum(dtype=jnp.int32)


def rank_within(example):
    """For each lane, how many lanes before it have its example."""
    return jnp.tril(example[:, None] == example[None], -1).sum(1).astype(jnp.int32)
