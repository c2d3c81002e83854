r"""Layers and neurons: attributions inside a model, without hooks.

A layer y is a named value of f (see `cut`): `f(x) = head(trunk(x))`, where the trunk ends
at y. Two questions are asked of it, and they have two answers. What does y matter for the
head? `layer_integrated_gradients`: a straight line in the space of y. Through which units
does the change from the baseline to x flow? `layer_conductance`: the image of the line in
the space of x. Both add up to f(x) - f(baseline) when everything that f takes from x goes
through the layer; what goes around it is missing, and `delta` says how much that is.

`layer` is a name or a pytree of names; the results come in the same structure. A value
that is tagged more than once (a module called twice, a tagged pytree) is a tuple of
arrays in the order of their making. They are one layer: where the first flows into the
second, that is counted with the second, and nothing is counted twice.

The two answers agree where the trunk is affine: the image of a straight line is straight.
Elsewhere they differ. Here y = (x, x**2), f = 6 y1 y2, and x goes from 0 to 1. The line in
the space of y treats both units alike, through points (t, t) that no x has. The layer
itself goes through (t, t**2): the second unit comes late, when the first is there already,
and it gets the integral of 6 t d(t**2), the first one that of 6 t**2 dt.

    >>> import igjax, jax.numpy as jnp
    >>> from jax.ad_checkpoint import checkpoint_name
    >>> f = lambda x: 6 * checkpoint_name(jnp.stack([x, x**2]), "y").prod()
    >>> rule = igjax.rules.gauss_legendre(8)
    >>> igjax.layer_integrated_gradients(f, "y", rule=rule)(1.0, 0.0).values.round()
    Array([3., 3.], dtype=float32)
    >>> igjax.layer_conductance(f, "y", rule=rule)(1.0, 0.0).values.round()
    Array([2., 4.], dtype=float32)
"""

import dataclasses
import functools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import stop_gradient

from igjax import _checks, paths, rules
from igjax._program import compiled, tagged
from igjax._program.compiled import Operands
from igjax._program.jax_internals import varying
from igjax._program.watched import tagging, watched
from igjax._tree import cast_like, gap, strong, widen
from igjax.attribution import Attribution
from igjax.integration.recipes import fixed, integrate, integrate_straight
from igjax.methods._units import marked, units

__all__ = [
    "Cut",
    "cut",
    "grad_cam",
    "internal_influence",
    "layer_activation",
    "layer_conductance",
    "layer_gradient_x_activation",
    "layer_integrated_gradients",
    "layer_names",
    "neuron_conductance",
]


GAUSS = rules.gauss_legendre(32)


class Cut(NamedTuple):
    """A function cut at a named value: f(x, *args) = head(trunk(x, *args), x, *args).

    Attributes:
        trunk: `trunk(x, *args) -> y`, the named value.
        head: `head(y, x, *args) -> output`, f with its named value replaced by y. What
            goes around the layer is computed from x. A y that is not like the layer is a
            ValueError.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> from jax.ad_checkpoint import checkpoint_name
        >>> trunk, head = igjax.cut(lambda x: checkpoint_name(2 * x, "y").sum(), "y")
        >>> head(10.0 * trunk(jnp.ones(2)), jnp.ones(2))
        Array(40., dtype=float32)
    """

    trunk: Callable
    head: Callable


def cut(f, layer: str) -> Cut:
    """Cuts a function at a named value, for whatever is to be done with its parts.

    A value has a name if it is tagged, `jax.ad_checkpoint.checkpoint_name(value, "name")`,
    or if it is the output of a module of Flax linen or NNX, Equinox, Keras or Haiku: the
    name is then the path of the module, "encoder/blocks/0/attention". What the module is
    called with is "encoder/blocks/0/attention:input". The attributions of a neuron are
    those of `lambda x: trunk(x)[i]`.

    Args:
        f: `f(x, *args) -> output`, traceable by JAX.
        layer: the name.

    Returns:
        `Cut(trunk, head)`.

    Raises:
        TypeError: if f is no function, or layer no string.
        ValueError: while tracing, if f has no value of that name outside branches, loops of
            unknown length and custom derivatives; the message lists the names there are.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> from jax.ad_checkpoint import checkpoint_name
        >>> f = lambda x: checkpoint_name(x[0] * x, "y").sum()
        >>> trunk, _ = igjax.cut(f, "y")
        >>> rule = igjax.rules.gauss_legendre(4)
        >>> unit = igjax.integrated_gradients(lambda x: trunk(x)[1], rule=rule)
        >>> unit(jnp.array([2.0, 3.0]), 0.0).values.round(4)
        Array([3., 3.], dtype=float32)
    """
    _checks.function("cut", "f", f)
    _checks.layer("cut", layer)

    def trunk(x, *args):
        return tagged.values("cut", *_named("cut", f, x, args), [layer])[0]

    def head(y, x, *args):
        at, point = _named("cut", f, x, args)
        look = lambda point: tagged.values("cut", at, point, [layer])[0]
        _check_like(jax.eval_shape(look, point), y)
        return tagged.changed("cut", at, point, [layer], _replace, [strong(y)])

    return Cut(trunk, head)


def layer_names(f, *args) -> Callable:
    """The names of the values at which a function can be cut.

    Args:
        f: `f(x, *args) -> output`, traceable by JAX.
        *args: none; what f is called with goes to the function that is returned.

    Returns:
        `look(x, *args) -> tuple of names`, in the order in which they are computed.
        Names inside loops of unknown length, branches and custom derivatives are left
        out, and so are the inputs of modules, "name:input".

    Raises:
        TypeError: if f is no function, or more is given.

    Example:
        >>> import flax.linen as nn, igjax, jax, jax.numpy as jnp
        >>> model = nn.Sequential([nn.Dense(3), nn.tanh, nn.Dense(1)])
        >>> params = model.init(jax.random.key(0), jnp.ones(2))
        >>> f = lambda x, params: model.apply(params, x)[0]
        >>> igjax.layer_names(f)(jnp.ones(2), params)
        ('layers_0', 'layers_2')
    """
    _checks.function("layer_names", "f", f)
    if args:
        raise TypeError(
            f"layer_names: it takes f alone, got {len(args)} arguments more. It returns a "
            "function of them: igjax.layer_names(f)(x, *args)."
        )

    def look(x, *args):
        return tagged.names(*_named("layer_names", f, x, args))

    return look


def _named(caller: str, f, x, args):
    """A function of all arrays, watched, whose modules have names; and the arrays."""
    given, static = compiled.split(caller, args)

    def at(point):
        x, given = point
        return f(x, *compiled.join(given, static))

    watching = watched(caller, at)

    def named(point):
        with tagging():
            return watching(point)

    return named, (strong(x), given)


def layer_integrated_gradients(f, layer, *, rule=None, chunk_size=None) -> Callable:
    r"""Integrated Gradients of a layer, along the straight line in its own space.

    $$A_j = (y_j - y'_j) \int_0^1
      \frac{\partial f}{\partial y_j}\bigl(y' + t (y - y')\bigr)\,dt$$

    where y and y' are the layer's values at x and at the baseline. Use it where the input
    is too fine or has no gradient of its own: embeddings, patches, feature maps. The
    points between are no images of inputs; `layer_conductance` asks about those.
    What goes around the layer (a skip connection) is held at x, so that the values add
    up to `score - baseline_score`, where `baseline_score` is that of the layer at y'.

    Args:
        f: `f(x, *args) -> scalar`, as in `integrated_gradients`.
        layer: a name (see `cut`), or a pytree of names.
        rule: as in `integrated_gradients`.
        chunk_size: as in `integrated_gradients`.

    Returns:
        `attribute(x, baseline, *args) -> Attribution`, whose values have the structure of
        the layer; for a pytree of names, a pytree of results.

    Raises:
        TypeError: as `integrated_gradients`, and if a name is no string.
        ValueError: as `integrated_gradients`, and if f has no value of that name, or has
            it inside a loop; the message lists the names there are.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> from jax.ad_checkpoint import checkpoint_name
        >>> f = lambda x: (checkpoint_name(3 * x, "y") ** 2).sum()
        >>> rule = igjax.rules.gauss_legendre(8)
        >>> attribute = igjax.layer_integrated_gradients(f, "y", rule=rule)
        >>> attribute(jnp.array([1.0, 2.0]), 0.0).values.round(3)
        Array([ 9., 36.], dtype=float32)
    """
    return _method("layer_integrated_gradients", _straight, f, layer, rule, chunk_size)


def layer_conductance(
    f, layer, *, rule=None, path=paths.straight, chunk_size=None
) -> Callable:
    r"""Conductance: how much of the change of f flows through each unit of a layer.

    $$C_j = \int_0^1 \frac{\partial f}{\partial y_j}\bigl(\gamma(t)\bigr)\,
      \frac{d y_j(\gamma(t))}{dt}\,dt$$

    with both derivatives exact (a jvp of the trunk, a vjp of the head), at the nodes of
    the rule. Use it to find the units that do the work. Every layer that all of f goes
    through has the same sum, f(x) - f(baseline); `delta` is minus what goes around it.
    Several layers share one sweep of a fixed rule: a gradient at each node serves all.
    The adaptive rule finds a mesh for each of them, and its tolerance is that of the layer:
    where far more goes around it than through it, that takes more gradients.

    Args:
        f: `f(x, *args) -> scalar`, as in `integrated_gradients`.
        layer: a name (see `cut`), or a pytree of names.
        rule: as in `integrated_gradients`.
        path: as in `integrated_gradients`; the layer moves along its image.
        chunk_size: as in `integrated_gradients`.

    Returns:
        `attribute(x, baseline, *args) -> Attribution`, whose values have the structure of
        the layer; for a pytree of names, a pytree of results.

    Raises:
        TypeError: as `layer_integrated_gradients`.
        ValueError: as `layer_integrated_gradients`.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> from jax.ad_checkpoint import checkpoint_name
        >>> w = jnp.array([[1.0, 2.0], [-1.0, 1.0]])
        >>> f = lambda x: checkpoint_name(jax.nn.sigmoid(w @ x), "hidden").sum()
        >>> attribute = igjax.layer_conductance(f, "hidden")
        >>> result = attribute(jnp.array([1.0, 3.0]), jnp.zeros(2))
        >>> result.values.round(3)  # sigmoid(7) - 1/2 and sigmoid(2) - 1/2
        Array([0.499, 0.381], dtype=float32)

    References:
        Dhamdhere, Sundararajan, Yan, "How Important is a Neuron?", ICLR 2019.
    """
    return _method("layer_conductance", _conductance, f, layer, rule, chunk_size, path)


def neuron_conductance(
    f, layer: str, neuron, *, rule=None, path=paths.straight, chunk_size=None
) -> Callable:
    r"""Conductance of the inputs through one unit: which features f uses it for.

    $$C_{ij} = \int_0^1 \frac{\partial f}{\partial y_j}\bigl(\gamma(t)\bigr)\,
      \frac{\partial y_j}{\partial x_i}\bigl(\gamma(t)\bigr)\,\dot\gamma_i(t)\,dt$$

    Use it after `layer_conductance` has found the unit. The values add up over the
    features to the unit's conductance, and over the units to Integrated Gradients;
    `delta`, taken against f(x) - f(baseline), is minus what the other units carry.

    Args:
        f: `f(x, *args) -> scalar`, as in `integrated_gradients`.
        layer: a name (see `cut`) of a layer of one array.
        neuron: the index of a unit of the layer, or of a group that is taken together,
            as in NumPy: an integer, a slice, a tuple of them, a mask of booleans. Arrays
            may be traced, and one program serves all that are given as arrays:
            `jax.vmap(lambda j: neuron_conductance(f, "h", j)(x, baseline))(jnp.arange(9))`.
        rule: as in `integrated_gradients`.
        path: as in `integrated_gradients`.
        chunk_size: as in `integrated_gradients`.

    Returns:
        `attribute(x, baseline, *args) -> Attribution`, whose values are like x.

    Raises:
        TypeError: as `integrated_gradients`, if layer is no string, and if the neuron is
            no index.
        ValueError: as `layer_integrated_gradients`, and if the layer is more than one
            array.
        IndexError: while tracing, if the layer has no such unit; where the index is an
            array, the result is NaN, and says so.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> from jax.ad_checkpoint import checkpoint_name
        >>> w = jnp.array([[1.0, 2.0], [-1.0, 1.0]])
        >>> f = lambda x: (checkpoint_name(w @ x, "hidden") ** 2).sum()
        >>> rule = igjax.rules.gauss_legendre(8)
        >>> attribute = igjax.neuron_conductance(f, "hidden", 0, rule=rule)
        >>> attribute(jnp.array([1.0, 3.0]), jnp.zeros(2)).values.round(2)
        Array([ 7., 42.], dtype=float32)

    References:
        Dhamdhere, Sundararajan, Yan, "How Important is a Neuron?", ICLR 2019.
    """
    _checks.layer("neuron_conductance", layer)
    form, arrays = units("neuron_conductance", neuron)
    body = _through(form)
    options = (body, f, layer, rule, chunk_size, path)
    return _method("neuron_conductance", *options, asked=arrays)


def internal_influence(
    f, layer, *, rule: rules.Rule = GAUSS, path=paths.straight, chunk_size=None
) -> Callable:
    r"""Internal influence: the mean gradient of f with respect to a layer, along a path.

    $$I_j = \int_0^1 \frac{\partial f}{\partial y_j}\bigl(\gamma(t)\bigr)\,dt$$

    Use it to ask how strongly f reacts to a unit, whether or not the unit itself changes.
    It is no division of the score: the values add up to nothing in particular, and so
    `delta` is not small.

    Args:
        f: `f(x, *args) -> scalar`, as in `integrated_gradients`.
        layer: a name (see `cut`), or a pytree of names.
        rule: a fixed rule: what is integrated here is not the slope of a score, by which
            the adaptive rule verifies itself. `adaptive_rule(f)(x, baseline)` is the fixed
            rule with the nodes that it finds for f.
        path: as in `integrated_gradients`.
        chunk_size: as in `integrated_gradients`.

    Returns:
        `attribute(x, baseline, *args) -> Attribution`, whose values have the structure of
        the layer; for a pytree of names, a pytree of results.

    Raises:
        TypeError: as `layer_integrated_gradients`, if the rule is no fixed one, and if
            the layer is complex.
        ValueError: as `layer_integrated_gradients`.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> from jax.ad_checkpoint import checkpoint_name
        >>> f = lambda x: (checkpoint_name(3 * x, "y") ** 2).sum()
        >>> attribute = igjax.internal_influence(f, "y")
        >>> attribute(jnp.array([1.0, 2.0]), 0.0).values.round()
        Array([3., 6.], dtype=float32)

    References:
        Leino, Sen, Datta, Fredrikson, Li, "Influence-Directed Explanations for Deep
        Convolutional Networks", ITC 2018.
    """
    if isinstance(rule, rules.Adaptive) or rule is None:
        raise TypeError(
            f"internal_influence: rule must be a fixed one, got {rule!r}: what is "
            "integrated is no slope of a score, by which the adaptive rule verifies "
            "itself. Take igjax.rules.gauss_legendre(n), or the nodes that it finds for f, "
            "rule=igjax.adaptive_rule(f)(x, baseline, *args)."
        )
    return _method("internal_influence", _influence, f, layer, rule, chunk_size, path)


def layer_gradient_x_activation(f, layer) -> Callable:
    r"""Gradient times activation, $y_j\, \partial f / \partial y_j$ at x.

    One step of `layer_integrated_gradients` from a layer of zeros, and as good as that:
    exact where the head is linear; `delta` says how far it is from complete, and there is
    no estimate of the error. Use it for a first look, at the price of one gradient.

    Args:
        f: `f(x, *args) -> scalar`, as in `integrated_gradients`.
        layer: a name (see `cut`), or a pytree of names.

    Returns:
        `attribute(x, *args) -> Attribution`, whose values have the structure of the
        layer; for a pytree of names, a pytree of results.

    Raises:
        TypeError: as `layer_integrated_gradients`.
        ValueError: as `layer_integrated_gradients`.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> from jax.ad_checkpoint import checkpoint_name
        >>> f = lambda x: (checkpoint_name(3 * x, "y") ** 2).sum()
        >>> igjax.layer_gradient_x_activation(f, "y")(jnp.array([1.0, 2.0])).values
        Array([18., 72.], dtype=float32)
    """
    return _at_x("layer_gradient_x_activation", _times_activation, f, layer)


def layer_activation(f, layer) -> Callable:
    """The values of a layer, to be looked at beside its attributions.

    Args:
        f: `f(x, *args) -> array`, traceable by JAX.
        layer: a name (see `cut`), or a pytree of names.

    Returns:
        `look(x, *args) -> values` with the structure of the layer; for a pytree of names,
        a pytree of them.

    Raises:
        TypeError: as `layer_integrated_gradients`.
        ValueError: as `layer_integrated_gradients`.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> from jax.ad_checkpoint import checkpoint_name
        >>> f = lambda x: (checkpoint_name(3 * x, "y") ** 2).sum()
        >>> igjax.layer_activation(f, "y")(jnp.array([1.0, 2.0]))
        Array([3., 6.], dtype=float32)
    """
    return _at_x("layer_activation", _activation, f, layer, scalar=False)


def grad_cam(f, layer, *, axis: int = -1, signed: bool = False) -> Callable:
    r"""Grad-CAM: where a convolutional layer speaks for the score.

    $$\mathrm{map} = \max\Bigl(0, \sum_c \bar g_c\, y_c\Bigr), \qquad
      \bar g_c = \text{mean over places of } \partial f / \partial y_c$$

    Use it for a coarse map of an image from its last convolution; stretch it over the
    image with `jax.image.resize`. It is not complete: the mean gradient is not the
    gradient, and negative evidence is dropped, unless the map is signed.

    Args:
        f: `f(x, *args) -> scalar`, as in `integrated_gradients`.
        layer: a name (see `cut`), or a pytree of names, of layers of places and channels.
        axis: the axis of the channels: the last one, as in Flax, or 0 of one example with
            its channels first.
        signed: whether to keep what speaks against the score, as negative numbers.

    Returns:
        `look(x, *args) -> map`, float32 or wider, of the shape of the layer without the
        axis of its channels; for a pytree of names, a pytree of maps.

    Raises:
        TypeError: as `layer_integrated_gradients`, if the layer is complex, and if the
            axis is no integer.
        ValueError: as `layer_integrated_gradients`, and if a layer is no single array
            with places and channels, or has no such axis.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> from jax.ad_checkpoint import checkpoint_name
        >>> f = lambda x: checkpoint_name(x, "y")[..., 0].sum()
        >>> igjax.grad_cam(f, "y")(jnp.array([[[1.0, 5.0], [-2.0, 5.0]]]))
        Array([[1., 0.]], dtype=float32)

    References:
        Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via
        Gradient-Based Localization", ICCV 2017.
    """
    if not _checks.is_whole(axis):
        raise TypeError(f"grad_cam: axis must be an integer, got {axis!r}.")
    return _at_x("grad_cam", _grad_cam(int(axis), bool(signed)), f, layer)


# How the methods are called: one program for all layers, compiled and kept by f.


def _method(
    caller,
    body,
    f,
    layer,
    rule: Any,
    chunk_size=None,
    path=paths.straight,
    *,
    scalar=True,
    asked=(),
):
    names, structure = _names(caller, layer)
    # Each name once: what is handed to a value has one place in the queue.
    unique = tuple(dict.fromkeys(names))
    recipe = _recipe(caller, body, unique, tuple(map(unique.index, names)), structure)
    rule = rules.adaptive() if rule is None else rule
    options = (rule, chunk_size)
    inner = compiled.attribution(
        caller, recipe, f, path, *options, scalar=scalar, asked=asked
    )

    def attribute(x, baseline, /, *args):
        with tagging():
            return inner(x, baseline, *args)

    return attribute


def _at_x(caller, body, f, layer, *, scalar=True):
    """The same where x is all there is: the rule has one node, there."""
    inner = _method(caller, body, f, layer, rules.right(1), scalar=scalar)

    def attribute(x, /, *args):
        return inner(x, x, *args)

    return attribute


def _names(caller: str, layer):
    names, structure = jax.tree.flatten(layer)
    for name in names or [layer]:
        _checks.layer(caller, name)
    return tuple(names), structure


@functools.lru_cache  # programs are kept by recipe: an equal one must be the same one
def _recipe(caller, body, names, order, structure):
    def recipe(f, path, operands, rule, chunk_size):
        model = _Model(caller, f, names)
        results = body(model, path, operands, rule, chunk_size)
        return structure.unflatten([results[i] for i in order])

    return recipe


class _Model(NamedTuple):
    """A function of operands and a point, and the names of its layers."""

    caller: str
    f: Callable
    layers: tuple[str, ...]

    def apart(self) -> list:
        """The same function, with one of the layers each."""
        return [self._replace(layers=(layer,)) for layer in self.layers]

    def values(self, operands, point) -> list:
        return tagged.values(self.caller, partial(self.f, operands), point, self.layers)

    def changed(self, operands, point, change, given: list):
        f = partial(self.f, operands)
        return tagged.changed(self.caller, f, point, self.layers, change, given)


def _replace(value, given):
    return given.astype(value.dtype)


def _check_like(want, y):
    """Checks what a head is given for the layer."""
    shapes = [jax.tree.map(np.shape, tree) for tree in (want, y)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"cut: the layer must have the shape {shapes[0]}, got {shapes[1]}."
        )
    pairs = zip(jax.tree.leaves(want), jax.tree.leaves(y), strict=True)
    if any(jnp.iscomplexobj(got) > jnp.iscomplexobj(like) for like, got in pairs):
        raise ValueError("cut: the layer is real, got complex values for it.")


def _nudge(value, given):
    """The value plus zeros: the derivative of f with respect to them is that to it."""
    return value + given.astype(value.dtype)


def _inside(operands, x, baseline) -> Operands:
    """The operands of an integral in another space."""
    return Operands(x, baseline, operands, (), (), lanes=operands.lanes)


# The methods: each takes all layers and returns their results.


def _straight(model, path, operands, rule, chunk_size):
    ends, starts = (model.values(operands, a) for a in (operands.x, operands.baseline))
    return _lines(model, operands, ends, starts, rule, chunk_size)


def _times_activation(model, path, operands, rule, chunk_size):
    ends = model.values(operands, operands.x)
    zeros = jax.tree.map(jnp.zeros_like, ends)
    return _lines(model, operands, ends, zeros, rule, chunk_size)


def _lines(model, operands, ends, starts, rule, chunk_size):
    return [
        _line(one, operands, end, start, rule, chunk_size)
        for one, end, start in zip(model.apart(), ends, starts, strict=True)
    ]


def _line(model, operands, end, start, rule, chunk_size):
    """Integrated Gradients of the head of one layer, along a straight line."""

    def head(o, y):
        return model.changed(o.given, o.given.x, _replace, [cast_like(y, o.x)])

    def line(o, t):
        end, start = widen((o.x, o.baseline))
        return paths.straight(end, start, varying(t, (end, start)))

    inside = _inside(operands, end, start)
    return integrate_straight(head, line, inside, rule, chunk_size)


def _conductance(model, path, operands, rule, chunk_size):
    if isinstance(rule, rules.Adaptive):
        flows = [_flow(one, path, operands, rule, chunk_size) for one in model.apart()]
        return [part for joint in flows for part in _parts(joint)]
    groups = _groups(model, operands)
    sweeps = [_sweep(group, path, operands, rule, chunk_size) for group in groups]
    return [part for joint in sweeps for part in _parts(joint)]


def _groups(model, operands) -> list:
    """The layers, in groups of which one gradient serves all.

    Layers do not stand in each other's way, but arrays and steps of one name do: what the
    first of them hands to the second is the second's, and so they are looked at by
    themselves.
    """
    if len(model.layers) > 1:
        f = partial(model.f, operands)
        if tagged.chained(model.caller, f, operands.x, model.layers):
            return model.apart()
    return [model]


def _flow(model, path, operands, rule, chunk_size):
    """Integrates f as a function of one layer and of x, along the image of the path.

    The part of x is what goes around the layer: the parts add up to the slope of f, as
    the adaptive rule wants it, and the tolerance is that of the layer's.
    """

    def image(o, t):
        point = path(o.given, t)
        return widen(model.values(o.given, point)), point

    def score(o, point):
        given, x = point
        return model.changed(o.given, x, _replace, given)

    inside = _inside(operands, *_ends(model, operands))
    return integrate(score, image, inside, rule, chunk_size, _first)


def _first(values):
    return values[0]


def _sweep(model, path, operands, rule, chunk_size):
    """Integrates f as a function of its layers alone, along the image of the path.

    Of several layers each adds up by itself: zeros that move as they do are added to them.
    """

    def image(o, t):
        layers = lambda t: widen(model.values(o.given, path(o.given, t)))
        if len(model.layers) == 1:
            return layers(t), t
        at = stop_gradient(t)
        _, velocity = jax.jvp(layers, (at,), (jnp.ones_like(at),))
        return jax.tree.map(lambda v: (t - at).astype(v.dtype) * v, velocity), t

    score = lambda o, point: _at_layers(model, path, o.given, point)
    inside = _inside(operands, *_ends(model, operands))
    return integrate(score, image, inside, rule, chunk_size)


def _at_layers(model, path, operands, point):
    """The score where a layer is given, or something is added to each of several.

    All else stands still. That is said of t alone, so that derivatives of the result with
    respect to x and weights see all there is.
    """
    given, t = point
    change = _replace if len(model.layers) == 1 else _nudge
    return model.changed(operands, path(operands, stop_gradient(t)), change, given)


def _ends(model, operands):
    return [(model.values(operands, a), a) for a in (operands.x, operands.baseline)]


def _parts(joint: Attribution) -> list[Attribution]:
    """What a result says of each part of the first half of its values."""
    values: Any = joint.values
    errors: Any = joint.error
    ends = joint.baseline_score, joint.score
    return [
        dataclasses.replace(joint, values=v, error=e, delta=gap(v, *ends))
        for v, e in zip(values[0], errors[0], strict=True)
    ]


@functools.lru_cache
def _through(form):
    """The method of some units: f where only these see the point move."""

    def body(model, path, operands, rule, chunk_size):
        def score(o, near, far):
            y, rest = (model.values(o.given, a)[0] for a in (near, far))
            mark, inside = marked(model.caller, y, form, o.given.asked)
            mixed = jnp.where(mark, y, rest)
            moved = model.changed(o.given, far, _replace, [mixed])
            return moved if inside is True else moved * _unknown_unless(inside, moved)

        x, baseline = operands.x, operands.baseline
        if isinstance(rule, rules.Adaptive):
            twice = lambda o, t: ([path(o.given, t)], path(o.given, t))
            both = lambda o, p: score(o, p[0][0], p[1])
            inside = _inside(operands, ([x], x), ([baseline], baseline))
            return _parts(integrate(both, twice, inside, rule, chunk_size, _first))
        # Only the unit sees the point move; t says so, which nobody differentiates.
        once = lambda o, t: ([path(o.given, t)], t)
        alone = lambda o, p: score(o, p[0][0], path(o.given, stop_gradient(p[1])))
        inside = _inside(operands, x, baseline)
        return _parts(integrate(alone, once, inside, rule, chunk_size))

    return body


def _unknown_unless(inside, like):
    return jnp.where(inside, 1, jnp.nan).astype(like.dtype)


def _influence(model, path, operands, rule, chunk_size):
    mean = lambda group: _mean_gradient(group, path, operands, rule, chunk_size)
    return [part for group in _groups(model, operands) for part in mean(group)]


def _mean_gradient(model, path, operands, rule, chunk_size):
    layers = lambda point: widen(model.values(operands, point))
    at_x = layers(operands.x)
    _check_real(model, at_x)
    zeros = jax.tree.map(jnp.zeros_like, at_x)
    alone = len(model.layers) == 1
    image = lambda t: (layers(path(operands, t)) if alone else zeros, t)
    score = partial(_at_layers, model, path, operands)
    joint = fixed(score, image, operands, rule, chunk_size, pull=lambda sums: sums)
    return _parts(joint)


def _activation(model, path, operands, rule, chunk_size):
    del path, rule, chunk_size
    return model.values(operands, operands.x)


def _check_real(model, layers):
    for y in jax.tree.leaves(layers):
        if jnp.iscomplexobj(y):
            raise TypeError(
                f"{model.caller}: the layer must be real, got {y.dtype}, whose gradient is "
                "complex. Tag its real and imaginary parts, or use layer_conductance."
            )


@functools.lru_cache
def _grad_cam(axis: int, signed: bool):
    """The method for channels on an axis."""
    kept = (lambda a: a) if signed else jax.nn.relu

    def body(model, path, operands, rule, chunk_size):
        del path, rule, chunk_size
        layers = widen(model.values(operands, operands.x))
        _check_real(model, layers)
        for y in layers:
            _check_channels(y, axis)
        score = lambda ys: model.changed(operands, operands.x, _nudge, ys)
        gradients = jax.grad(score)(jax.tree.map(jnp.zeros_like, layers))
        return [
            kept((y * _mean_over_places(g, axis)).sum(axis))
            for y, g in zip(layers, gradients, strict=True)
        ]

    return body


def _mean_over_places(g, axis: int):
    return g.mean(tuple(i for i in range(g.ndim) if i != axis % g.ndim), keepdims=True)


def _check_channels(y, axis: int) -> None:
    if isinstance(y, tuple) or y.ndim < 2:
        got = f"a tuple of {len(y)}" if isinstance(y, tuple) else f"shape {y.shape}"
        raise ValueError(
            f"grad_cam: the layer must be one array of places and channels, got {got}."
        )
    if not -y.ndim <= axis < y.ndim:
        raise ValueError(
            f"grad_cam: axis must be one of the layer, of shape {y.shape}, got {axis}."
        )
