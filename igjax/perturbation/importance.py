r"""Permutation importance: what a loss over a data set gains if a column tells nothing.

It is a number about a model and a data set, not about an example. Rows lend each other
their values: each row gets those of another one, and gives its own to a third, in each
shuffle. So a row matters twice, as a receiver and as a lender, and the error is that of
both: the spread of what the rows contribute (a jackknife of a two-sample mean).
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from igjax import _checks
from igjax._program import compiled
from igjax._program.blocks import chunk
from igjax._tree import flattener, parameter_dtype, strong, widen
from igjax.attribution import Attribution, Status
from igjax.integration.recipes import certified
from igjax.methods._draws import CONFIDENCE, student

__all__ = ["permutation_importance"]


def permutation_importance(loss, *, shuffles: int = 8, chunk_size=None):
    r"""Permutation importance: the loss with a column of other rows, less the loss.

    $$a_i = \mathrm{E}\, \ell(x \text{ with } x_i = \tilde x_i, y)
      - \mathrm{E}\, \ell(x, y), \qquad \tilde x \text{ another row}$$

    Use it to ask which columns a model needs on this data. Columns that say the same share
    nothing: each is replaced by the other, and both seem useless; and the rows that come
    about (a pregnant man) may be like none that the model has seen. An importance below 0
    by more than its error means that the model is misled by the column.

    Args:
        loss: `loss(x, y, *args) -> scalar`, of one row of each.
        shuffles: how often each row gets the values of another one; at most one less than
            there are rows.
        chunk_size: how many losses are computed side by side; None chooses.

    Returns:
        `importance(key, xs, ys, *args) -> Attribution`, of rows, pytrees with an axis of
        rows in front. Values are like one row of xs, in units of the loss; `error` is the
        half-width of a 95% interval for the importance on the population that the rows
        are drawn from. `score` is the mean loss, `baseline_score` and `delta` are
        infinite.

    Raises:
        TypeError: if loss is not callable, xs have no floating leaves, or the key is none.
        ValueError: if there are fewer than four rows, or too many shuffles.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> xs = jax.random.normal(jax.random.key(0), (64, 2))
        >>> loss = lambda x, y: (x[0] - y) ** 2
        >>> importance = igjax.perturbation.permutation_importance(loss)
        >>> result = importance(jax.random.key(1), xs, xs[:, 0])
        >>> bool(result.values[0] - result.error[0] > 0), float(result.values[1])
        (True, 0.0)

    References:
        Breiman, "Random Forests", 2001.
        Fisher, Rudin, Dominici, "All Models are Wrong, but Many are Useful", JMLR 2019.
    """
    caller = "permutation_importance"
    _checks.function(caller, "loss", loss)
    _checks.count(caller, "shuffles", shuffles)
    _checks.chunk_size(caller, chunk_size)

    def importance(key, xs, ys, /, *args):
        _checks.key(caller, key)
        _checks.arrays(caller, "xs", xs)
        rows = _rows(caller, (xs, ys), shuffles)
        return _importance(loss, (key, rows, shuffles, chunk_size), strong(xs), ys, args)

    return compiled.function(caller, importance)


def _rows(caller: str, tree: Any, shuffles: int) -> int:
    counts = {jnp.shape(a)[:1] for a in jax.tree.leaves(tree)}
    if len(counts) != 1 or () in counts:
        raise ValueError(
            f"{caller}: the leaves of xs and ys must have an axis of as many rows in "
            f"front, got {sorted(counts)}."
        )
    ((rows,),) = counts
    if rows < 4 or shuffles >= rows:
        raise ValueError(
            f"{caller}: there must be at least 4 rows, and fewer shuffles than rows, got "
            f"{rows} rows and {shuffles} shuffles."
        )
    return rows


def _importance(loss, settings, xs, ys, args) -> Attribution:
    key, rows, shuffles, chunk_size = settings
    row = jax.tree.map(lambda a: a[0], xs)
    dtype = parameter_dtype(row)
    _, unravel = flattener(row, dtype)
    n = sum(a.size for a in jax.tree.leaves(row))
    pick = lambda tree, i: jax.tree.map(lambda a: jnp.asarray(a)[i], tree)
    # Along a random circle a shift gives each row another one.
    circle = jax.random.permutation(key, rows)
    place = jnp.argsort(circle)
    shifts = 1 + jax.random.permutation(jax.random.fold_in(key, 1), rows - 1)[:shuffles]
    lender = lambda r, i: circle[(place[i] + shifts[r]) % rows]

    def at(k):
        """The loss of a row with one column of its lender."""
        (i, column), r = jnp.divmod(k // shuffles, n), k % shuffles
        mask = unravel(jnp.arange(n, dtype=jnp.int32) == column)
        mixed = jax.tree.map(jnp.where, mask, pick(xs, lender(r, i)), pick(xs, i))
        return widen(loss(mixed, pick(ys, i), *args))

    every = jnp.arange(rows, dtype=jnp.int32)
    alone = jax.lax.map(
        lambda i: widen(loss(pick(xs, i), pick(ys, i), *args)),
        every,
        batch_size=min(chunk_size or 32, rows),
    )
    count = rows * n * shuffles
    size = min(chunk_size or chunk(at, lambda k: k, jnp.int32, count), count)
    mixed = jax.lax.map(at, jnp.arange(count, dtype=jnp.int32), batch_size=size)
    gains = mixed.reshape(rows, n, shuffles) - alone[:, None, None]
    received = gains.mean(2)
    lent = jnp.zeros_like(received)
    for r in range(shuffles):
        lent = lent.at[lender(r, every)].add(gains[:, :, r] / shuffles)
    values = received.mean(0)
    spread = (received + lent).std(0, ddof=1) / math.sqrt(rows)
    error = student((1 + CONFIDENCE) / 2, rows - 1) * spread
    unknown = jnp.full_like(alone[0], jnp.inf)
    both = unravel(values.astype(dtype)), unravel(error.astype(dtype))
    finite = jnp.isfinite(values).all()
    status = jnp.where(finite, Status.NO_TOLERANCE, Status.NON_FINITE)
    ends = unknown, alone.mean()
    return certified(*both, unknown, *ends, status, 0, count + rows, 0)
