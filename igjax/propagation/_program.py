"""A jaxpr as a list of steps over numbered values, calls opened, each step once.

A function that is written twice is the same unit: equal equations of equal inputs get one
number, or `(x @ w) * ((x @ w) > 0)` would be a product of two things instead of a ReLU.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from igjax._program import jax_internals as internals
from igjax._program.jax_internals import bind


class Place(NamedTuple):
    """Where an equation was written: the user's line, and the scopes around it."""

    line: str = ""
    path: str = ""


NOWHERE = Place()


class Step(NamedTuple):
    """An equation whose values have numbers instead of variables."""

    eqn: Any
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    place: Place

    @property
    def name(self) -> str:
        """The name of the primitive."""
        return self.eqn.primitive.name

    def run(self, values) -> list:
        """The outputs, of a mapping from numbers to arrays."""
        return bind(self.eqn, [values[i] for i in self.inputs])


class Program:
    """The steps that the outputs need, in order."""

    def __init__(self, closed, place=NOWHERE):
        self.shapes: list = []  # the abstract value of each number
        self.constants: dict[int, Any] = {}
        self.literals: dict[int, float] = {}  # numbers written in the program
        self._place, self._known = place, {}
        steps: list[Step] = []
        self.inputs = tuple(self._new(v.aval) for v in closed.jaxpr.invars)
        self.outputs = tuple(self._open(closed, self.inputs, place, steps))
        self.steps = _needed(steps, self.outputs)
        self.readers: dict[int, list[Step]] = {}  # the steps that read each number
        for step in self.steps:
            for number in dict.fromkeys(step.inputs):
                self.readers.setdefault(number, []).append(step)

    def is_read_once(self, number: int) -> bool:
        """Whether nothing but one step sees a value."""
        return len(self.readers.get(number, ())) == 1 and number not in self.outputs

    def _new(self, aval) -> int:
        self.shapes.append(aval)
        return len(self.shapes) - 1

    def _open(self, closed, inputs, place, steps) -> list[int]:
        numbers = dict(zip(closed.jaxpr.invars, inputs, strict=True))
        for variable, constant in zip(closed.jaxpr.constvars, closed.consts, strict=True):
            numbers[variable] = self._constant(variable.aval, constant, id(constant))
        read = lambda v: self._literal(v) if internals.is_literal(v) else numbers[v]
        for eqn in closed.jaxpr.eqns:
            given = tuple(map(read, eqn.invars))
            here = _within(place, eqn, internals.is_of_jax(closed))
            body = internals.called(eqn)
            if body is None:
                outputs = self._step(eqn, given, here, steps)
            else:
                outputs = self._open(body, given, here, steps)
            numbers.update(zip(eqn.outvars, outputs, strict=True))
        return list(map(read, closed.jaxpr.outvars))

    def _step(self, eqn, inputs, place, steps) -> tuple[int, ...]:
        key = internals.fingerprint(eqn)
        key = None if key is None else (key, inputs)
        if key is None or key not in self._known:
            outputs = tuple(self._new(v.aval) for v in eqn.outvars)
            steps.append(Step(eqn, inputs, outputs, place))
            if _keeps_numbers(eqn) and inputs[0] in self.literals:
                self.literals[outputs[0]] = self.literals[inputs[0]]
            if key is None:
                return outputs
            self._known[key] = outputs
        return self._known[key]

    def _constant(self, aval, value, key) -> int:
        if key not in self._known:
            self._known[key] = self._new(aval)
            self.constants[self._known[key]] = value
        return self._known[key]

    def _literal(self, literal) -> int:
        value, kind = np.asarray(literal.val), literal.aval
        number = self._constant(kind, literal.val, (value.tobytes(), str(kind)))
        if value.ndim == 0 and jnp.issubdtype(value.dtype, np.number):
            self.literals[number] = float(value)
        return number


def _keeps_numbers(eqn) -> bool:
    return eqn.primitive.name in ("broadcast_in_dim", "convert_element_type")


def _within(place: Place, eqn, of_jax: bool) -> Place:
    """The place of an equation inside a call: the call's line where JAX wrote the body."""
    inside = "/".join(filter(None, (place.path, internals.scopes(eqn))))
    line = internals.line(eqn)
    return Place(place.line if of_jax or not line else line, inside)


def _needed(steps: list[Step], outputs) -> list[Step]:
    """The steps that outputs depend on, and those with effects."""
    needed, kept = set(outputs), []
    for step in reversed(steps):
        if step.eqn.effects or not needed.isdisjoint(step.outputs):
            needed.update(step.inputs)
            kept.append(step)
    return kept[::-1]


def is_real(aval) -> bool:
    """Whether a value can carry relevance."""
    return jnp.issubdtype(aval.dtype, jnp.floating)
