"""Layers: what flows through the units of a layer, by DeepLIFT or LRP.

Zeros are added to the named value: their multiplier is that of the layer, and it sees all
of f, skip connections too. A neuron needs no method of its own: it is another function of
x, `lambda x: igjax.cut(f, layer).trunk(x)[i]`.
"""

import functools
from functools import partial

import jax
import jax.numpy as jnp

from igjax import _checks, paths, rules as quadrature
from igjax._program import compiled, tagged
from igjax._program.watched import tagging
from igjax._tree import gap, strong
from igjax.propagation import composites
from igjax.propagation._deeplift import certified_change
from igjax.propagation._multipliers import multipliers, of_no_tolerance, products
from igjax.propagation._relevance import at_x


def layer_deeplift(f, layer: str, rules: composites.Composite = ()):
    r"""DeepLIFT of a layer: which of its units pass on the change of the score.

    $$a_j = (y_j - y'_j)\, m_j$$

    where y and y' are the layer's values at x and at the baseline, and m is what reaches
    them. If all of f goes through the layer the values add up to f(x) - f(baseline);
    `delta` is minus what goes around it.

    Args:
        f: as in `deeplift`.
        layer: a name, as in `igjax.cut`.
        rules: as in `deeplift`.

    Returns:
        `attribute(x, baseline, *args) -> Attribution`, of values like the layer: an array,
        or a tuple if the name stands more than once. `status` is NO_TOLERANCE, or
        NON_FINITE.

    Raises:
        TypeError: as `deeplift`, and if layer is no string.
        ValueError: as `deeplift` and `igjax.cut`.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> from jax.ad_checkpoint import checkpoint_name
        >>> w = jnp.array([[1.0, 2.0], [-1.0, 1.0]])
        >>> f = lambda x: jax.nn.relu(checkpoint_name(w @ x, "hidden")).sum()
        >>> attribute = igjax.propagation.layer_deeplift(f, "hidden")
        >>> attribute(jnp.array([1.0, 3.0]), 0.0).values
        Array([7., 2.], dtype=float32)

    References:
        Shrikumar, Greenside, Kundaje, "Learning Important Features Through Propagating
        Activation Differences", ICML 2017.
    """
    composites.check("layer_deeplift", rules, paired=True)
    _checks.layer("layer_deeplift", layer)
    recipe = _changes(layer, (*rules, *composites.RESCALE))
    one = quadrature.right(1)
    inner = compiled.attribution(
        "layer_deeplift", recipe, f, paths.straight, one, None, scalar=True
    )

    def attribute(x, baseline, /, *args):
        with tagging():
            return inner(x, baseline, *args)

    return attribute


def layer_relevance(f, layer: str, rules: composites.Composite = composites.EPSILON):
    r"""LRP of a layer: the relevance that arrives at its units.

    $$R_j = y_j\, m_j$$

    Use it to find the units that speak for the score, and to see at which layer relevance
    is lost or turns to noise.

    Args:
        f: as in `relevance`.
        layer: a name, as in `igjax.cut`.
        rules: as in `relevance`.

    Returns:
        `attribute(x, baseline=None, *args) -> Attribution`, of values like the layer: an
        array, or a tuple if the name stands more than once.

    Raises:
        TypeError: as `relevance`, and if layer is no string.
        ValueError: as `relevance` and `igjax.cut`.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> from jax.ad_checkpoint import checkpoint_name
        >>> w = jnp.array([[1.0, 2.0], [-1.0, 1.0]])
        >>> f = lambda x: jax.nn.relu(checkpoint_name(w @ x, "hidden")).sum()
        >>> attribute = igjax.propagation.layer_relevance(f, "hidden")
        >>> attribute(jnp.array([1.0, 3.0])).values
        Array([7., 2.], dtype=float32)

    References:
        Bach et al., "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by
        Layer-Wise Relevance Propagation", PLOS ONE 2015.
    """
    composites.check("layer_relevance", rules, paired=False)
    _checks.layer("layer_relevance", layer)
    recipe = _arriving(layer, (*rules, *composites.EPSILON))
    inner = at_x("layer_relevance", recipe, f)

    def attribute(x, baseline=None, /, *args):
        with tagging():
            return inner(x, baseline, *args)

    return attribute


@functools.lru_cache
def _changes(layer: str, composite):
    def recipe(f, path, operands, rule, chunk_size):
        del path, rule, chunk_size
        caller, f = "layer_deeplift", partial(f, operands)
        _checks.real(caller, operands.x)
        ends = _value(caller, f, operands.x, layer)
        starts = _value(caller, f, operands.baseline, layer)
        found = _at_layer(caller, f, operands.x, operands.baseline, layer, ends, composite)
        values = products(found.slopes[1], ends, starts)
        return certified_change(values, found, complete=False)

    return recipe


@functools.lru_cache
def _arriving(layer: str, composite):
    def recipe(f, path, operands, rule, chunk_size):
        del path, rule, chunk_size
        caller, f = "layer_relevance", partial(f, operands)
        _checks.real(caller, operands.x)
        ends = _value(caller, f, operands.x, layer)
        found = _at_layer(caller, f, operands.x, None, layer, ends, composite)
        values = products(found.slopes[1], ends)
        delta = gap(values, jnp.zeros_like(found.score), found.score)
        return of_no_tolerance(values, delta, found.score)

    return recipe


def _value(caller: str, f, x, layer: str):
    (value,) = tagged.values(caller, f, strong(x), [layer])
    _checks.real(caller, value, "the layer")
    return value


def _at_layer(caller, f, x, baseline, layer, like, composite):
    """The multipliers of x and of zeros that are added to the layer."""
    zeros = jax.tree.map(jnp.zeros_like, like)

    def nudged(point):
        x, zeros = point
        add = lambda value, zero: value + zero
        return tagged.changed(caller, f, x, [layer], add, [zeros])

    ends = None if baseline is None else (baseline, zeros)
    return multipliers(caller, nudged, (x, zeros), ends, composite)
