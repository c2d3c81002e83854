"""Models of token ids, cut where ids become vectors.

Token ids have no gradient; their embeddings have. A model calls a module that looks rows
up in a table, or indexes an array itself: the rows are a named value of its program, which
is replaced (`igjax._program.tagged`). What each row was looked up for is read off the same
program (`igjax._program.origins`), so that no row can be taken for another token's.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from igjax import _checks
from igjax._program import compiled, tagged
from igjax._program.origins import MIXED, NONE
from igjax._program.watched import tagging, watched
from igjax.bridges import named_after
from igjax.frameworks.calls import MODULE, TABLE

__all__ = ["Embedded", "from_embedding"]


class Embedded(NamedTuple):
    """A model of token ids, cut at its embedding.

    Attributes:
        embed: `embed(tokens, *args) -> x`, floating, of shape tokens.shape + (features,).
        f: `f(x, tokens, *args) -> output`, the model with its embedding replaced by x.

    Example:
        >>> import flax.linen as nn, igjax, jax, jax.numpy as jnp
        >>> model = nn.Embed(9, 4)
        >>> params = model.init(jax.random.key(0), jnp.array([1]))
        >>> cut = igjax.from_embedding(lambda tokens, p: model.apply(p, tokens).sum())
        >>> cut.embed(jnp.array([1, 5, 2]), params).shape
        (3, 4)
    """

    embed: Callable
    f: Callable


def from_embedding(g, name: Any = None) -> Embedded:
    """Cuts an unmodified model of token ids at its embedding.

    `embed` computes the vectors of the tokens, and `f` runs the model with them replaced.
    Sum the values over the last axis for a score per token: the sum stays complete. Tables
    are the `Embed` of Flax linen, Flax NNX and Haiku, the `Embedding` of Equinox and Keras;
    of any other array name what was looked up, `jax.ad_checkpoint.checkpoint_name(
    table[tokens], "words")`.

    Several tables are moved together if they are named in a dict, `{"words": "wte",
    "places": "wpe"}`, or any pytree of names: x is then like it. A table that is used twice
    (source and target) is a tuple, in the order of use.

    Args:
        g: `g(tokens, *args) -> output`, for one example; tokens may be a pytree.
        name: which table, if there are several: a path as in `igjax.layer_names`, its last
            part, or a tag; or a pytree of these.

    Returns:
        `Embedded(embed, f)`. Rows that stand for tokens have the shape tokens.shape +
        (features,); others (of positions, of one column) that of the model.

    Raises:
        TypeError: if g is no function, or a name no string.
        ValueError: while tracing, if the model has no table of that name, or several and
            no name was given; the message lists the names there are. And if rows are not
            those of the tokens in their order, as where a model shifts its tokens.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> from flax import nnx
        >>> rngs = nnx.Rngs(0)
        >>> model = nnx.Sequential(nnx.Embed(9, 4, rngs=rngs), nnx.Linear(4, 1, rngs=rngs))
        >>> embed, f = igjax.from_embedding(lambda tokens, m: jnp.tanh(m(tokens)).sum())
        >>> tokens = jnp.array([1, 5, 2])
        >>> x = embed(tokens, model)
        >>> attribute = igjax.integrated_gradients(f)
        >>> attribute(x, jnp.zeros_like(x), tokens, model).values.sum(-1).shape
        (3,)
    """
    _checks.function("from_embedding", "g", g)
    names, structure = jax.tree.flatten(name)
    for one in names:
        if not isinstance(one, str):
            raise TypeError(f"from_embedding: name must be a string, got {one!r}.")
    if name is None:
        names, structure = [None], jax.tree.structure("")

    def embed(tokens, *args):
        cut = _Cut.of(g, names, tokens, args)
        rows = tagged.values("from_embedding", cut.program, cut.point, cut.layers)
        shaped = lambda rows, shape: rows.reshape(shape)
        return structure.unflatten(jax.tree.map(shaped, rows, cut.shapes()))

    def f(x, tokens, *args):
        cut = _Cut.of(g, names, tokens, args)
        given = structure.flatten_up_to(x)
        _check_shapes(given, cut.shapes())
        put = lambda rows, x: jnp.asarray(x).reshape(rows.shape).astype(rows.dtype)
        where = "from_embedding", cut.program, cut.point, cut.layers
        return tagged.changed(*where, put, given)

    return Embedded(named_after(embed, g), named_after(f, g))


class _Cut(NamedTuple):
    """A model at a point, and its tables as they stand in tags."""

    program: Callable
    point: Any
    layers: list[str]

    @classmethod
    def of(cls, g, names, tokens, args):
        """The model at tokens, cut at the tables of the names."""
        given, static = compiled.split("from_embedding", args)
        tokens = jax.tree.map(jnp.asarray, tokens)

        def at(point):
            tokens, given = point
            return g(tokens, *compiled.join(given, static))

        watching = watched("from_embedding", at)

        def program(point):
            with tagging():
                return watching(point)

        point = tokens, given
        tables = tagged.tables(program, point)
        layers = [_table(name, tables) for name in names]
        return cls(program, point, layers)

    def shapes(self):
        """For each array of each table the shape of its rows: that of tokens, if it can."""
        tokens, given = self.point
        leaves = jax.tree.leaves(tokens)
        is_token = [True] * len(leaves) + [False] * len(given)
        at = "from_embedding", self.program, self.point, self.layers
        found = tagged.sources(*at, is_token)
        shapes = [
            [_shape(layer, rows, leaves) for rows in arrays] or _refuse(layer, _UNTOLD)
            for layer, arrays in zip(self.layers, found, strict=True)
        ]
        return [s[0] if len(s) == 1 else tuple(s) for s in shapes]


_UNTOLD = "rows of which it cannot be told what tokens they stand for"


class _Shape(tuple):
    """A shape that is a leaf."""


def _table(name: str | None, tables: list[str]) -> str:
    """The tag of a table; of what is no table, the name as it was given."""
    paths = [table.removeprefix(TABLE) for table in tables]
    if name is None:
        if len(paths) == 1:
            return tables[0]
        if paths:
            raise ValueError(
                f"from_embedding: the model has several embeddings, {paths}. Choose one, "
                f"from_embedding(g, name={paths[0]!r}), or move them together: "
                f"name={dict.fromkeys(paths, ...)!r}, with a path for each."
            )
        raise ValueError(
            "from_embedding: g must call an Embed of Flax or Haiku, or an Embedding of "
            "Equinox or Keras, found none. Name what is looked up in any other array: "
            "jax.ad_checkpoint.checkpoint_name(table[tokens], 'words')."
        )
    ends = [path for path in paths if name in (path, path.rpartition("/")[-1])]
    return TABLE + ends[0] if len(ends) == 1 else name


def _shape(layer: str, numbers, tokens) -> _Shape:
    """The shape of an array of rows; an error if they are other tokens' rows."""
    shape = numbers.shape
    rows = numbers.reshape(-1, shape[-1]) if shape else numbers.reshape(1, 1)
    whole = (rows == rows[:, :1]).all()
    found = rows[:, 0]
    if not whole or (found == MIXED).any():
        return _refuse(layer, _UNTOLD)
    first = 0
    for leaf in tokens:
        here = np.arange(first, first + leaf.size)
        if np.array_equal(found, here):
            return _Shape((*leaf.shape, shape[-1]))
        first += leaf.size
    if (found == NONE).all() or len(found) == 1:
        return _Shape(shape)
    number = lambda k: "of no token" if k == NONE else f"of token {k}"
    places = ", ".join(f"row {i} {number(k)}" for i, k in enumerate(found[:3].tolist()))
    return _refuse(layer, f"{len(found)} rows for {first} tokens: {places}, ...")


def _refuse(layer: str, what: str) -> Any:
    name = layer.removeprefix(TABLE).removeprefix(MODULE)
    raise ValueError(
        f"from_embedding: the embedding {name!r} must look up the tokens in their order, "
        f"got {what}. Pass the tokens that it looks up (shifted, with what the model puts "
        "in front) and take the shift out of g; or attribute to the rows as they are: "
        f"igjax.layer_integrated_gradients(f, {name!r})."
    )


def _check_shapes(given, shapes):
    for x, shape in zip(given, shapes, strict=True):
        x, shape = (t if type(t) is tuple else (t,) for t in (x, shape))
        got = [np.shape(a) for a in x]
        if got != [tuple(s) for s in shape]:
            raise ValueError(
                f"from_embedding: x must have the shape that embed returns, {shape}, got "
                f"{got}."
            )
