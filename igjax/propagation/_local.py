"""A unit as a function of its operands, and the arithmetic of layers on it.

Rules for layers need two functions more: `interval`, the bounds of the linear part of a
layer over a box of inputs, and `weighted`, the layer with other weights. Each step of a
layer has its twin in them, so that a batch normalization or a view after a dense layer is
part of it, and no model has to be rewritten before it is explained.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from igjax._program.jax_internals import bind, varying
from igjax.propagation._primitives import LAYERS, PRODUCTS
from igjax.propagation._units import Unit


class Local(NamedTuple):
    """A unit at hand: a function of its operands, its other values being given."""

    unit: Unit
    held: tuple[Any, ...]

    def __call__(self, *values) -> Any:
        """The output, or a tuple of several."""
        known = dict(zip(self.unit.held, self.held, strict=True))
        known.update(zip(self.unit.operands, values, strict=True))
        for step in self.unit.steps:
            known.update(zip(step.outputs, step.run(known), strict=True))
        outputs = tuple(known[o] for o in self.unit.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def pull(self, values, ct) -> tuple:
        """The derivative: ct pulled back to the operands."""
        return jax.vjp(self, *values)[1](ct)

    @property
    def is_bilinear(self) -> bool:
        """Whether it is one product."""
        return self.unit.steps[-1].name in PRODUCTS

    def arguments(self, values) -> list:
        """What the last step takes, operands and constants, in its order."""
        known = dict(zip(self.unit.held, self.held, strict=True))
        known.update(zip(self.unit.operands, values, strict=True))
        return [known[i] for i in self.unit.steps[-1].inputs]

    def of_operands(self, parts) -> tuple:
        """Cotangents of what the last step takes as cotangents of the operands."""
        step, sums = self.unit.steps[-1], dict.fromkeys(self.unit.operands, 0)
        for number, variable, part in zip(step.inputs, step.eqn.invars, parts, strict=True):
            if number in sums:
                sums[number] = sums[number] + narrowed(part, variable.aval.shape)
        return tuple(sums.values())


def narrowed(ct, shape):
    """Sums a cotangent over the axes along which a value of that shape was broadcast."""
    ct = ct.sum(axis=tuple(range(ct.ndim - len(shape))))
    axes = [i for i, size in enumerate(shape) if size == 1 != ct.shape[i]]
    return ct.sum(axis=tuple(axes), keepdims=True) if axes else ct


# -- layers: functions of one value, affine in it


def interval(layer: Local, high, low) -> tuple[Any, Any]:
    """The bounds of the linear part of a layer over the box low <= x <= high.

    Args:
        layer: a `Local` of a layer.
        high: the upper bound of its input.
        low: the lower bound; None for 0, where x is known not to be negative.

    Returns:
        The upper and the lower bound of its output, without its bias.
    """
    known = dict(zip(layer.unit.held, layer.held, strict=True))
    (moving,) = layer.unit.operands
    for step in layer.unit.steps:
        high, low = bounds(step, moving, known, high, low)
        (moving,) = step.outputs
    return high, low


def bounds(step, moving: int, known, high, low) -> tuple[Any, Any]:
    """The bounds after one step; where they meet factors below zero they change places."""
    name = step.name
    other: Any = next((known[i] for i in step.inputs if i != moving), None)

    def on(value, weight=other):
        given = [value if i == moving else weight for i in step.inputs]
        return bind(step.eqn, given)[0]

    if name in LAYERS:
        up, down = jnp.maximum(other, 0), jnp.minimum(other, 0)
        if low is None:
            return on(high, up), on(high, down)
        return on(high, up) + on(low, down), on(high, down) + on(low, up)
    if name in ("mul", "div"):
        kept = other > 0
        return on(jnp.where(kept, high, low)), on(jnp.where(kept, low, high))
    if name == "neg" or (name == "sub" and step.inputs[0] != moving):
        return -low, -high
    if name in ("add", "sub", "add_any"):
        return high, low
    return on(high), on(low)


def signed(layer: Local, x):
    """The positive and the negative contributions to a layer, its bias among them."""
    low: Any = None if layer.unit.positive else jnp.minimum(x, 0)
    up, down = interval(layer, jnp.maximum(x, 0), low)
    bias = bias_of(layer, x)
    return up + jnp.maximum(bias, 0), down + jnp.minimum(bias, 0)


def sizes(layer: Local, x):
    """The sum of the sizes of the contributions to a layer, its bias among them.

    With the layer's output z it gives both signs by one product, not two each: (z + sizes)
    / 2 is what is positive. That is as precise as z where it is asked for the sign of z,
    and only there.
    """
    return weighted(layer, jnp.abs(x), jnp.abs) + jnp.abs(bias_of(layer, x))


def bias_of(layer: Local, x):
    """What a layer makes of zeros; its product is not computed for it."""
    known = dict(zip(layer.unit.held, layer.held, strict=True))
    product, *steps = layer.unit.steps
    shape = product.eqn.outvars[0].aval
    zeros = varying(jnp.zeros(shape.shape, shape.dtype), (x, layer.held))
    known.update(zip(product.outputs, [zeros], strict=True))
    for step in steps:
        known.update(zip(step.outputs, step.run(known), strict=True))
    return known[layer.unit.outputs[0]]


def weighted(layer: Local, x, change):
    """The layer with its weights changed to what is not negative, and no bias."""
    known = dict(zip(layer.unit.held, layer.held, strict=True))
    (moving,) = layer.unit.operands
    value = x
    for step in layer.unit.steps:
        if step.name not in ("add", "sub", "add_any", "neg"):
            scales = step.name in (*PRODUCTS, "div")
            other = lambda i, on=scales: change(known[i]) if on else known[i]
            given = [value if i == moving else other(i) for i in step.inputs]
            value = bind(step.eqn, given)[0]
        (moving,) = step.outputs
    return value
