r"""A model as a game of its features: the score where some are at x, the others are not.

$$v(S) = f\bigl(x_S, x'_{N \setminus S}\bigr)$$

with each feature of the coalition S at x and every other one at the baseline. All that the
methods of this wing ask of f is v: they draw masks, have them scored here, block by block,
and read the scores. A mask is made from its number inside of the loop, so that memory does
not grow with the number of masks.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from igjax import _checks, paths
from igjax._program import compiled
from igjax._program.blocks import chunk
from igjax._tree import flattener, gap, parameter_dtype, widen
from igjax.attribution import Attribution
from igjax.integration.recipes import without_tolerance


class Game(NamedTuple):
    """One example's game; masks are vectors of booleans, True for x."""

    players: int  # features of x, over all its leaves
    dtype: np.dtype  # of what is computed from the scores
    unravel: Callable  # a vector of the features as a pytree like x
    scores: Callable  # (mask_of, count) -> scores (count,) of the masks mask_of(k)


class Draws(NamedTuple):
    """Stands where a rule stands: what a method draws with, a key or more."""

    nodes: Any
    given: Any


def attribution(caller: str, recipe, f, chunk_size):
    """`attribute(given, x, baseline, *args)` of a recipe that gets `Draws` for a rule.

    Args:
        caller: the public name.
        recipe: as in `compiled.attribution`; the same object for the same options.
        f: the user's function.
        chunk_size: as the user gives it.

    Returns:
        The attribution; what is given is None, or arrays that the recipe draws with.
    """
    _checks.function(caller, "f", f)
    _checks.chunk_size(caller, chunk_size)
    nodes = compiled.on_device(np.zeros(1))

    def attribute(given, x, baseline, /, *args):
        draws = Draws(nodes(), given)
        inner = compiled.attribution(
            caller, recipe, f, paths.straight, draws, chunk_size, scalar=True
        )
        return inner(x, baseline, *args)

    return attribute


def random_attribution(caller: str, recipe, f, chunk_size):
    """`attribute(key, x, baseline, *args)`: the recipe is given the key."""
    inner = attribution(caller, recipe, f, chunk_size)

    def attribute(key, x, baseline, /, *args):
        _checks.key(caller, key)
        return inner(key, x, baseline, *args)

    return attribute


def check_budget(caller: str, budget: int, least: int, why: str) -> None:
    """Checks a budget where the number of features is known.

    Raises:
        ValueError: if it is too small.
    """
    if budget < least:
        raise ValueError(
            f"{caller}: budget must be at least {least} scores, {why}, got {budget}. "
            "Raise it, or explain groups of features: igjax.grouped(f, count, method=...)."
        )


def played(f, operands, chunk_size) -> Game:
    """The game of f at the operands of a recipe."""
    x, baseline = operands.x, operands.baseline
    dtype = parameter_dtype(x)
    _, unravel = flattener(x, dtype)

    def score(mask):
        choose = lambda take, a, b: jnp.where(take, a, b)
        return widen(f(operands, jax.tree.map(choose, unravel(mask), x, baseline)))

    def scores(mask_of, count: int):
        at = lambda k: score(mask_of(k))
        size = chunk_size or chunk(at, lambda k: k, jnp.int32, count)
        blocks = -(-count // size)
        size = -(-count // blocks)
        # A last block that is not full repeats the last mask.
        numbers = np.minimum(np.arange(blocks * size, dtype=np.int32), count - 1)
        run = lambda block: jax.vmap(at)(block)
        found = jax.lax.map(run, jnp.asarray(numbers).reshape(blocks, size))
        return found.reshape(-1)[:count]

    players = sum(a.size for a in jax.tree.leaves(x))
    kind = jax.eval_shape(score, jax.ShapeDtypeStruct((players,), bool)).dtype
    return Game(players, np.result_type(dtype, kind), unravel, scores)


def ends(game: Game):
    """The scores of the baseline and of x."""
    return game.scores(lambda k: jnp.full(game.players, k == 1), 2)


def result(game: Game, values, error, scores, forwards: int) -> Attribution:
    """The result of values and errors, vectors of the features, and both ends' scores."""
    start, end = scores
    delta = gap(values, start, end)
    both = game.unravel(values), game.unravel(error)
    return without_tolerance(*both, delta, start, end, 0, forwards)
