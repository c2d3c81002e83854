"""What a loop makes of its constants at each turn, made once before it.

Kernels are what a loop over nodes does not change, nor one over steps. What a product or a
convolution gets of them alone, as transposes for a gradient, is carried in, instead of made
at each turn. And a product of few rows, as a recurrent network has at each step, spends
more on turning a kernel round than on multiplying: it gets one whose rows are summed over,
where the loop is long enough to pay for it.
"""

from typing import Any, NamedTuple

from igjax._program import jax_internals as internals

MOST_ROWS = 32  # of a product whose kernel is turned: of 64 it gains 1.1
LEAST_TURNS = 16  # that a kernel is turned for: one costs as much as ten save
MOST_BYTES = 256 << 20  # that are carried into a loop


class _Kernel(NamedTuple):
    """An input of an equation that is the same at each turn."""

    value: Any  # made before the loop
    turned: bool  # its axes that are summed over are in front


def concerns(eqn) -> bool:
    """Whether an equation is a loop with products in it."""
    found = internals.turns(eqn)
    multiplies = internals.is_product
    return found is not None and internals.anywhere(found.body.jaxpr, multiplies)


def rebuilt(eqn, inputs, rewritten):
    """A loop whose body is rewritten, with what its kernels need made before it."""
    found: Any = internals.turns(eqn)
    body = rewritten(found.body)
    constants = _Constants(body, inputs[found.first :][: found.constants])
    kernels = _kernels(body, constants, is_long=found.length >= LEAST_TURNS)

    def turn(given):
        return internals.evaluate(body, given, rule)

    def rule(eqn, inputs):
        known = [kernels.get((id(eqn), i)) for i in range(len(inputs))]
        inputs = [a if k is None else k.value for a, k in zip(inputs, known, strict=True)]
        if any(k is not None and k.turned for k in known):
            return internals.multiplied_turned(eqn, inputs)
        return internals.bind(eqn, inputs)

    return internals.turned(eqn, inputs, turn)


def _kernels(body, values, *, is_long: bool) -> dict[tuple, _Kernel]:
    """The kernels in a body, by equation and number of the input."""
    found, room = {}, MOST_BYTES
    for eqn in body.jaxpr.eqns:
        if not internals.is_product(eqn) and internals.turns(eqn) is None:
            continue
        for i, variable in enumerate(eqn.invars):
            turned = is_long and i == 1 and _is_to_turn(eqn)
            if not values.holds(variable) or not (turned or values.is_made(variable)):
                continue
            room -= internals.size(variable)
            if room < 0:
                return found
            value = values[variable]
            value = internals.turned_round(eqn, value) if turned else value
            found[id(eqn), i] = _Kernel(value, turned)
    return found


def _is_to_turn(eqn) -> bool:
    rows = internals.rows(eqn)
    return rows is not None and 1 < rows <= MOST_ROWS


class _Constants:
    """The values in a body that depend on its constants alone, computed when asked for."""

    def __init__(self, body, constants):
        self.values = dict(zip(body.jaxpr.invars, constants, strict=False))
        self.values.update(zip(body.jaxpr.constvars, body.consts, strict=True))
        self.bytes = {v: internals.size(v) for v in self.values}
        self.made = {}  # by what, where it is no larger than what it is made of
        for eqn in body.jaxpr.eqns:
            self._add(eqn)

    def _add(self, eqn):
        given = [v for v in eqn.invars if not internals.is_literal(v)]
        if eqn.effects or not given or not all(v in self.bytes for v in given):
            return
        of = sum(self.bytes[v] for v in set(given))
        if sum(map(internals.size, eqn.outvars)) <= of:
            self.bytes.update({v: internals.size(v) for v in eqn.outvars})
            self.made.update(dict.fromkeys(eqn.outvars, eqn))

    def holds(self, variable) -> bool:
        return not internals.is_literal(variable) and variable in self.bytes

    def is_made(self, variable) -> bool:
        return variable in self.made

    def __getitem__(self, variable):
        if internals.is_literal(variable):
            return variable.val
        if variable not in self.values:
            eqn = self.made[variable]
            outputs = internals.bind(eqn, [self[v] for v in eqn.invars])
            self.values.update(zip(eqn.outvars, outputs, strict=True))
        return self.values[variable]
