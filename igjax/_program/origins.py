"""Which token each row of a value belongs to, read off the jaxpr of a model.

A model may shift its tokens, put one in front, or look up a part of them: the rows of its
embedding are then other tokens'. Each value gets an array like itself of the numbers of
the tokens that its elements were made from, and what only moves elements (slices,
concatenations, transpositions) is applied to the numbers as it stands. What is computed
element by element keeps its number; a row that is looked up has that of its index.
"""

import jax
import numpy as np
from jax.core import Tracer

from igjax._program import jax_internals as internals

NONE, MIXED = -1, -2  # of no token; of several, or nobody can tell

_MOVING = {
    *("reshape", "squeeze", "expand_dims", "transpose", "rev", "slice", "concatenate"),
    *("broadcast_in_dim", "pad", "dynamic_slice", "dynamic_update_slice", "split", "tile"),
    *("stack", "scatter", "gather", "copy", "copy_p", "name", "stop_gradient"),
}
_ELEMENTWISE = {
    *("add", "sub", "mul", "div", "rem", "max", "min", "select_n", "clamp", "neg", "sign"),
    *("convert_element_type", "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not"),
    *("xor", "abs", "pow", "integer_pow", "sqrt", "rsqrt", "exp", "stop_gradient"),
}
# Which inputs are elements, and not places; all of them, where there is none.
_MOVED = {
    "concatenate": (),
    "stack": (),
    "pad": (0, 1),
    "dynamic_update_slice": (0, 1),
    "scatter": (0, 2),
}
_SMALL = 1 << 16  # constants of so many elements are known


def of_values(closed, tokens: list[bool], names, until: int) -> dict[str, list]:
    """The tokens that named values are made from.

    Args:
        closed: the program of the model.
        tokens: which of its inputs are arrays of tokens; they are numbered through.
        names: those of the values, as they stand in tags.
        until: the number of equations after which none of them is computed.

    Returns:
        For each name a list with an array of numbers, like the value, for each value.
    """
    inputs, first = [], 0
    for variable, is_token in zip(closed.jaxpr.invars, tokens, strict=True):
        shape = variable.aval.shape
        if is_token:
            size = int(np.prod(shape))
            inputs.append(_Value(np.arange(first, first + size).reshape(shape), None))
            first += size
        else:
            inputs.append(_Value(_full(shape, NONE), None))
    found: dict[str, list] = {name: [] for name in names}
    with jax.ensure_compile_time_eval():
        _follow(closed, inputs, found, until)
    return found


class _Value:
    """What is known of a value: the tokens of its elements, and itself if constant."""

    def __init__(self, tokens, known):
        self.tokens, self.known = tokens, known

    @property
    def is_free(self) -> bool:
        """Whether no token went into it."""
        return bool((self.tokens == NONE).all())


def _full(shape, number):
    return np.broadcast_to(np.int32(number), shape)


def _constant(a) -> _Value:
    known = None if isinstance(a, Tracer) or np.size(a) > _SMALL else jax.device_put(a)
    return _Value(_full(np.shape(a), NONE), known)


def _follow(closed, inputs, found, until=None) -> list[_Value]:
    wrap = lambda a: a if isinstance(a, _Value) else _constant(a)

    def rule(eqn, inputs):
        inputs = list(map(wrap, inputs))
        name = internals.tag(eqn)
        if name in found:
            found[name].append(inputs[0].tokens)
        body = internals.called(eqn)
        if body is not None and len(body.jaxpr.invars) == len(inputs):
            return _follow(body, inputs, found)
        return _result(eqn, inputs)

    return list(map(wrap, internals.evaluate(closed, inputs, rule, until)))


def _result(eqn, inputs) -> list[_Value]:
    """What is known of the outputs of an equation."""
    if all(v.known is not None for v in inputs) and _is_small(eqn):
        made = internals.bind(eqn, [v.known for v in inputs])
        return [_constant(a) for a in made]
    shapes = [v.aval.shape for v in eqn.outvars]
    if all(v.is_free for v in inputs):
        return [_Value(_full(shape, NONE), None) for shape in shapes]
    tokens = _tokens(eqn, inputs)
    if tokens is None:
        tokens = [_full(shape, MIXED) for shape in shapes]
    return [_Value(a, None) for a in tokens]


def _is_small(eqn) -> bool:
    small = all(v.aval.size <= _SMALL for v in eqn.outvars)
    return small and not eqn.effects and not internals.bodies(eqn)


def _tokens(eqn, inputs):
    """The tokens of the outputs, where some of the inputs are made of any; None: mixed."""
    name, shapes = eqn.primitive.name, [v.aval.shape for v in eqn.outvars]
    if name in _ELEMENTWISE and all(v.tokens.ndim in (0, len(shapes[0])) for v in inputs):
        return [_together([np.broadcast_to(v.tokens, shapes[0]) for v in inputs])]
    if name == "dynamic_slice" and inputs[0].is_free:  # one row
        return [_full(shapes[0], _together([v.tokens for v in inputs[1:]]))]
    rows = internals.looked_up(eqn)
    if rows is not None and inputs[0].is_free:
        index = _together(list(np.moveaxis(inputs[1].tokens, -1, 0)))
        others = [i for i in range(len(shapes[0])) if i not in rows]
        return [np.broadcast_to(np.expand_dims(index, tuple(others)), shapes[0])]
    axes = internals.contracted(eqn)
    if axes is not None and inputs[1].is_free:
        tokens = np.moveaxis(inputs[0].tokens, axes, range(len(axes)))
        free = tokens.shape[len(axes) :]
        row = _together(list(tokens.reshape(-1, *free)))
        more = (1,) * (len(shapes[0]) - row.ndim)
        return [np.broadcast_to(row.reshape(*free, *more), shapes[0])]
    return _moved(eqn, inputs) if name in _MOVING else None


def _moved(eqn, inputs):
    """What only moves elements, done to the numbers of their tokens."""
    moved = _MOVED.get(eqn.primitive.name, (0,)) or range(len(inputs))
    if any(v.known is None for i, v in enumerate(inputs) if i not in moved):
        return None  # where to is not known
    put = lambda v: jax.device_put(np.int32(v.tokens))
    given = [put(v) if i in moved else v.known for i, v in enumerate(inputs)]
    return list(jax.device_get(internals.bind(eqn, given)))


def _together(arrays):
    """The tokens of elements that are made from one of each array."""
    tokens = arrays[0]
    for other in arrays[1:]:
        differ = (tokens != NONE) & (other != NONE) & (tokens != other)
        mixed = differ | (tokens == MIXED) | (other == MIXED)
        tokens = np.where(mixed, MIXED, np.maximum(tokens, other))
    return tokens
