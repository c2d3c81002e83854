"""Panels that wait to be evaluated: a queue that all examples of a `vmap` share.

Panels are processed in generations: those that are cut put their children into the queue
of the next one. The cost of a batch is the sum of what each example needs.
"""

import jax
import jax.numpy as jnp

from igjax.integration.panels import Known, Panels, row

MOST = 24  # pieces that a panel is cut into at once


def first(probes, capacity: int, dtype) -> tuple[Panels, Panels]:
    """A queue with one panel for each example, the whole path, and an empty one."""
    size, _, outputs = probes.shape
    blank = Panels(
        edges=jnp.tile(jnp.arange(2, dtype=dtype), (capacity, 1)),
        scores=jnp.zeros((capacity, 2, outputs), dtype),
        example=jnp.zeros(capacity, jnp.int32),
    )
    whole = blank._replace(
        scores=blank.scores.at[:size].set(probes[:, jnp.array([0, -1])]),
        example=blank.example.at[:size].set(jnp.arange(size, dtype=jnp.int32)),
    )
    return whole, blank


def cut(panel: Panels, known: Known, worst, zoom, pieces):
    """The children of each panel, up to `MOST`, and which are wider than nothing.

    Either the worst gap and what is beside it, or so many pieces, as even as known scores
    allow.
    """
    width, last = jnp.diff(panel.edges), known.t.shape[1] - 1
    nth = jnp.arange(1, MOST, dtype=jnp.int32)[None]
    share = nth.astype(width.dtype) / pieces[:, None].astype(width.dtype)
    places = panel.edges[:, :1] + width * jnp.minimum(share, 1)
    nearest = jnp.argmin(jnp.abs(known.t[:, :, None] - places[:, None]), 1)
    nearest = nearest.astype(jnp.int32)
    nearest = jnp.where(nth < pieces[:, None], nearest, last)
    gap = jnp.where(nth < 3, worst + nth - 1, last)
    inner = jnp.where(zoom[:, None], gap, nearest)
    both = lambda ends, a: jnp.concatenate([ends[:, :1], row(a, inner), ends[:, 1:]], 1)
    points, scores = both(panel.edges, known.t), both(panel.scores, known.score)
    pairs = lambda a: jnp.stack([a[:, :-1], a[:, 1:]], 2)
    edges = pairs(points)
    wide = edges[..., 1] > edges[..., 0]
    example = jnp.broadcast_to(panel.example[:, None], wide.shape)
    return Panels(edges, pairs(scores), example), wide


def append(queue: Panels, count, children: Panels, wanted):
    """Appends those children (lanes, MOST) to the queue that are wanted."""
    flat = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), children)
    wanted = wanted.ravel()
    place = count + jnp.cumsum(wanted, dtype=jnp.int32) - 1
    place = jnp.where(wanted, place, len(queue.example))
    put = lambda a, new: a.at[place].set(new, mode="drop")
    return jax.tree.map(put, queue, flat), count + wanted.sum().astype(count.dtype)


def add_whole(queue: Panels, count, probes, which):
    """Appends the whole path of those examples (examples,) that are wanted."""
    size = len(which)
    place = count + jnp.cumsum(which, dtype=jnp.int32) - 1
    place = jnp.where(which, place, len(queue.example))
    whole = Panels(
        jnp.tile(jnp.arange(2, dtype=queue.edges.dtype), (size, 1)),
        probes[:, jnp.array([0, -1])],
        jnp.arange(size, dtype=jnp.int32),
    )
    put = lambda a, new: a.at[place].set(new, mode="drop")
    return jax.tree.map(put, queue, whole), count + which.sum().astype(jnp.int32)


def only(queue: Panels, keep):
    """Those panels that are kept, to the front, and their number."""
    place = jnp.where(keep, jnp.cumsum(keep) - 1, len(keep))
    kept = jax.tree.map(lambda a: a.at[place].set(a, mode="drop"), queue)
    return kept, keep.sum().astype(jnp.int32)


def rank_within(example):
    """For each lane, how many lanes before it have its example."""
    return jnp.tril(example[:, None] == example[None], -1).sum(1).astype(jnp.int32)
