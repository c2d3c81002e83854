"""A curve and the sums before it: how much is added there, and how much taken away."""

import jax.numpy as jnp

from igjax._program.jax_internals import bind
from igjax.propagation._local import Local, bounds
from igjax.propagation._primitives import LAYERS, LINEAR


def _parts(unit: Local):
    """The steps that add up to the root, and those of the curve."""
    steps, root = unit.unit.steps, unit.unit.root
    places = [k for k, step in enumerate(steps) if root in step.outputs]
    after = places[0] + 1 if places else 0
    return steps[:after], steps[after:]


def _run(unit: Local, steps, known: dict, number: int):
    known = {**dict(zip(unit.unit.held, unit.held, strict=True)), **known}
    for step in steps:
        known.update(zip(step.outputs, step.run(known), strict=True))
    return known[number]


def _root(unit: Local) -> int:
    return unit.unit.operands[0] if unit.unit.root is None else unit.unit.root


def root(unit: Local, values):
    """What a unit's curve is applied to."""
    known = dict(zip(unit.unit.operands, values, strict=True))
    return _run(unit, _parts(unit)[0], known, _root(unit))


def curve(unit: Local, z):
    """The curve itself."""
    return _run(unit, _parts(unit)[1], {_root(unit): z}, unit.unit.outputs[0])


def signed(unit: Local, changes):
    """The sums of the contributions to the root that are positive, and negative.

    Args:
        unit: a `Local` of a curve with the sums before it.
        changes: of its operands.

    Returns:
        Both sums, like the root. Contributions to a dense layer or convolution are those
        of its inputs' whole changes.
    """
    held = dict(zip(unit.unit.held, unit.held, strict=True))
    high, low = {}, {}
    for number, change in zip(unit.unit.operands, changes, strict=True):
        high[number], low[number] = jnp.maximum(change, 0), jnp.minimum(change, 0)
    for step in _parts(unit)[0]:
        (out,) = step.outputs
        high[out], low[out] = _apart(step, held, high, low)
    return high[_root(unit)], low[_root(unit)]


def _apart(step, held, high, low):
    """What one step makes of both parts of what it adds up."""
    if step.name in ("mul", "div", "neg", *LAYERS):
        return _scaled(step, held, high, low)
    places = range(len(step.inputs))[LINEAR[step.name]]

    def on(*sides):
        """The step with each operand from its side; constants that are added are none."""
        given = []
        for k, number in enumerate(step.inputs):
            side = sides[min(k, len(sides) - 1)]
            constant = held.get(number)
            if number in side:
                given.append(side[number])
            else:
                given.append(jnp.zeros_like(constant) if k in places else constant)
        return bind(step.eqn, given)[0]

    if step.name == "sub":
        return on(high, low), on(low, high)
    return on(high), on(low)


def _scaled(step, held, high, low):
    """Of a layer, both signs by the sum of its contributions and that of their sizes."""
    (moving,) = [i for i in dict.fromkeys(step.inputs) if i in high]
    up, down = high[moving], low[moving]
    if step.name not in LAYERS:
        return bounds(step, moving, held, up, down)
    change = up + down
    size = jnp.abs(change)
    net = bind(step.eqn, [change if i == moving else held[i] for i in step.inputs])[0]
    whole = [size if i == moving else jnp.abs(held[i]) for i in step.inputs]
    sizes = bind(step.eqn, whole)[0]
    return (net + sizes) / 2, (net - sizes) / 2
