"""A function met at its named values: tags of `checkpoint_name`, read off its jaxpr.

`jax.ad_checkpoint.checkpoint_name(value, "name")` does nothing but leave its name in the
jaxpr, which is where a model can be cut without hooks and without touching it. Modules
of Flax, Equinox, Keras and Haiku need no tag: while f is traced, what each gets and
returns is tagged with its path. Jitted and rematerialized calls on the way to a tag are
opened; the values in a loop of known length are stacked by steps. Inside other loops,
branches and custom derivatives a value is not one value, or not the derivative's, and
asking for it is an error.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from igjax._program import jax_internals as internals, origins
from igjax.frameworks.calls import INPUT, MODULE, TABLE


def names(f, x) -> tuple[str, ...]:
    """The names of the values at which f can be cut, in the order of their making."""
    return _open(_places(jax.make_jaxpr(lambda x: f(x))(x).jaxpr))


def values(caller: str, f, x, layers) -> list:
    """The named values of f at x: for each layer its array, or a tuple of several."""
    closed, _, layers = _resolved(caller, f, x, layers)
    taken = _evaluate(closed, jax.tree.leaves(x), layers, None, {}, _last(closed, layers))[
        1
    ]
    kept = [taken[layer] for layer in layers]
    return [arrays[0] if len(arrays) == 1 else tuple(arrays) for arrays in kept]


def tables(f, x) -> list[str]:
    """The names of the modules of f that look up tokens, as they stand in tags."""
    places = _places(jax.make_jaxpr(lambda x: f(x))(x).jaxpr)
    return [name for name in places if name.startswith(TABLE)]


def sources(caller: str, f, x, layers, tokens) -> list[list]:
    """For each array of each layer the tokens that it was made from, as numbers.

    `tokens` says of each leaf of x whether it holds tokens.
    """
    closed, _, layers = _resolved(caller, f, x, layers)
    until = _last(closed, layers)
    return list(origins.of_values(closed, tokens, layers, until).values())


def chained(caller: str, f, x, layers) -> bool:
    """Whether one array of a layer may go into another: there are several, or steps."""
    closed, _, layers = _resolved(caller, f, x, layers)
    found = [(name, steps) for name, _, steps in _found(closed.jaxpr) if name in layers]
    return len(found) > len(layers) or any(steps for _, steps in found)


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
    closed, shapes, layers = _resolved(caller, f, x, layers)
    queues = {
        name: list(g) if isinstance(g, tuple) else [g]
        for name, g in zip(layers, given, strict=True)
    }
    outputs = _evaluate(closed, jax.tree.leaves(x), layers, change, queues)[0]
    return jax.tree.unflatten(jax.tree.structure(shapes), outputs)


def _resolved(caller, f, x, layers):
    """The program of f, the shapes it returns, and the layers as they are named there."""
    closed, shapes = jax.make_jaxpr(lambda x: f(x), return_shape=True)(x)
    return closed, shapes, [_resolve(caller, closed.jaxpr, layer) for layer in layers]


def _last(closed, layers) -> int:
    """The number of equations after which no named value is computed."""
    is_named = lambda eqn: internals.tag(eqn) in layers or _inside(eqn, layers)
    return 1 + max(i for i, eqn in enumerate(closed.jaxpr.eqns) if is_named(eqn))


def _inside(eqn, layers) -> list[str]:
    """The named values in the bodies of an equation."""
    found = [_found(body.jaxpr) for body in internals.bodies(eqn)]
    return [name for names in found for name, _, _ in names if name in layers]


def _evaluate(closed, inputs, layers, change, queues, until=None):
    """Evaluates a program, and changes its named values or takes them.

    `queues` holds what is given for the values, in their order. A loop of known length
    takes and gives the values of its steps as a stack.
    """
    taken: dict[str, list] = {layer: [] for layer in layers}

    def rule(eqn, inputs):
        name = internals.tag(eqn) or ""
        if name in layers and _is_inexact(eqn):
            if change is not None:
                return [change(inputs[0], queues[name].pop(0))]
            taken[name].append(inputs[0])
            return inputs
        inside = _inside(eqn, layers)
        if not inside:
            return internals.bind(eqn, inputs)
        body = internals.opened(eqn)
        if body is not None:
            outputs, more = _evaluate(body, inputs, layers, change, queues)
        else:
            outputs, more = _stepped(eqn, inputs, inside)
        for layer, arrays in more.items():
            taken[layer] += arrays
        return outputs

    def _stepped(eqn, inputs, inside):
        given: dict[str, list] = {layer: [] for layer in layers}
        for name in inside if change is not None else ():
            given[name].append(queues[name].pop(0))
        run = lambda body, inputs, given: _evaluate(
            body, inputs, layers, change, {k: list(v) for k, v in given.items()}
        )
        return internals.stepped(eqn, inputs, run, given)

    return internals.evaluate(closed, inputs, rule, until), taken


def _is_inexact(eqn) -> bool:
    return jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.inexact)


def _found(jaxpr, inside: str = "", steps: bool = False):
    """Yields the name of each floating tag, what it is shut in, and if it is in a loop."""
    for eqn in jaxpr.eqns:
        name = internals.tag(eqn)
        if name is not None and _is_inexact(eqn):
            yield name, inside, steps
        loop = internals.scan(eqn) is not None
        shut = inside
        if not inside and not loop and internals.opened(eqn) is None:
            shut = eqn.primitive.name
        for body in internals.bodies(eqn):
            yield from _found(body.jaxpr, shut, steps or loop)


def _places(jaxpr) -> dict[str, set]:
    """What each name is shut in, in the order in which names are first met."""
    places: dict[str, set] = {}
    for name, inside, _ in _found(jaxpr):
        places.setdefault(name, set()).add(inside)
    return places


def _open(places) -> tuple[str, ...]:
    """The names that are shut in nothing, as they are shown."""
    names = [
        name for name, inside in places.items() if inside == {""} and not _is_aside(name)
    ]
    return tuple(dict.fromkeys(name.removeprefix(MODULE) for name in names))


def _is_aside(name: str) -> bool:
    """Whether a name is that of an input of a module, or a second one of a table."""
    return name.startswith(TABLE) or (name.startswith(MODULE) and name.endswith(INPUT))


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
            f"{caller}: the value named {layer!r} must not stand inside a loop of unknown "
            f"length, a branch or a function with derivatives of its own, found it inside "
            f"{shut[0]!r}. Tag what that returns, or make it a jax.lax.scan, of whose "
            "steps the values are stacked."
        )
    return there[0]
