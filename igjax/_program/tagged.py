"""A function met at its named values: tags of `checkpoint_name`, read off its jaxpr.

`jax.ad_checkpoint.checkpoint_name(value, "name")` does nothing but leave its name in the
jaxpr, which is where a model can be cut without hooks and without touching it. Modules
of Flax, Equinox, Keras and Haiku need no tag: while f is traced, what each gets and
returns is tagged with its path. Jitted and rematerialized calls on the way to a tag are opened; inside loops,
branches and custom derivatives a value is not one value, or not the derivative's, and
asking for it is an error.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from igjax._program import jax_internals as internals
from igjax.frameworks.calls import INPUT, MODULE


def names(f, x) -> tuple[str, ...]:
    """The names of the values at which f can be cut, in the order of their making."""
    return _open(_places(jax.make_jaxpr(lambda x: f(x))(x).jaxpr))


def values(caller: str, f, x, layers) -> list:
    """The named values of f at x: for each layer its array, or a tuple of several."""
    taken: dict[str, list] = {}

    def take(name, value):
        taken.setdefault(name, []).append(value)
        return value

    _, layers = _visit(caller, f, x, layers, take)
    kept = [taken[layer] for layer in layers]
    return [arrays[0] if len(arrays) == 1 else tuple(arrays) for arrays in kept]


def changed(caller: str, f, x, layers, change: Callable, given: list):
    """Evaluates f at x with `change(value, given)` in the place of each named value.

    Args:
        caller: the function to name in errors.
        f: a function of x alone, whose tracers may be closed over.
        x: pytree of arrays.
        layers: names.
        change: gets a value and its counterpart in `given`.
        given: for each layer what `values` returns for it, or its like.

    Returns:
        What f returns.
    """
    queues: dict[str, list] = {}

    def put(name, value):
        return change(value, queues[name].pop(0))

    def fill(layers):
        queues.update(
            (name, list(g) if isinstance(g, tuple) else [g])
            for name, g in zip(layers, given, strict=True)
        )

    return _visit(caller, f, x, layers, put, fill)[0]


def _visit(caller, f, x, layers, visit, ready=lambda layers: None):
    """Evaluates f at x with `visit(name, value)` at the tags of the layers."""
    closed, shapes = jax.make_jaxpr(lambda x: f(x), return_shape=True)(x)
    layers = [_resolve(caller, closed.jaxpr, layer) for layer in layers]
    ready(layers)

    def rule(eqn, inputs):
        name = internals.tag(eqn)
        if name in layers and _is_inexact(eqn):
            return [visit(name, inputs[0])]
        body = internals.opened(eqn)
        if body is not None and any(name in layers for name, _ in _found(body.jaxpr)):
            return internals.evaluate(body, inputs, rule)
        return internals.bind(eqn, inputs)

    outputs = internals.evaluate(closed, jax.tree.leaves(x), rule)
    return jax.tree.unflatten(jax.tree.structure(shapes), outputs), layers


def _is_inexact(eqn) -> bool:
    return jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.inexact)


def _found(jaxpr, inside: str = ""):
    """Yields the name of each floating tag, and the primitive that it is shut in."""
    for eqn in jaxpr.eqns:
        name = internals.tag(eqn)
        if name is not None and _is_inexact(eqn):
            yield name, inside
        opened = internals.opened(eqn) is not None
        shut = inside or ("" if opened else eqn.primitive.name)
        for body in internals.bodies(eqn):
            yield from _found(body.jaxpr, shut)


def _places(jaxpr) -> dict[str, set]:
    """What each name is shut in, in the order in which names are first met."""
    places: dict[str, set] = {}
    for name, inside in _found(jaxpr):
        places.setdefault(name, set()).add(inside)
    return places


def _open(places) -> tuple[str, ...]:
    """The names that are shut in nothing, as they are shown."""
    names = [
        name
        for name, inside in places.items()
        if inside == {""} and not (name.startswith(MODULE) and name.endswith(INPUT))
    ]
    return tuple(dict.fromkeys(name.removeprefix(MODULE) for name in names))


def _resolve(caller: str, jaxpr, layer: str) -> str:
    """The name as it stands in the jaxpr."""
    places = _places(jaxpr)
    there = [name for name in (layer, MODULE + layer) if name in places]
    if not there:
        raise ValueError(
            f"{caller}: f must compute a value named {layer!r}; the names there are: "
            f"{list(_open(places))}. Tag it: "
            f"jax.ad_checkpoint.checkpoint_name(value, {layer!r}). "
            "Modules of Flax, Equinox, Keras and Haiku are named by their paths."
        )
    shut = sorted(places[there[0]] - {""})
    if shut:
        raise ValueError(
            f"{caller}: the value named {layer!r} must not stand inside a loop, a branch "
            f"or a function with derivatives of its own, found it inside {shut[0]!r}. "
            "Tag what that returns, or unroll it."
        )
    return there[0]
