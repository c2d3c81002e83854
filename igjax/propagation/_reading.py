"""A program read as a network: its steps gathered into units, each with its rule.

Four things make a list of equations readable as layers and activations.

* What depends on x, exactly. Constants have no share; and what only tells (comparisons,
  what `stop_gradient` holds) depends on x, but no relevance goes through it: it is *still*.
* An element-wise function of one value is one unit, however many equations it takes: the
  nearest value of which all operands are functions is its root. So GELU, SiLU, ELU, mish,
  `where(x > 0, ...)` are activations, those of `jax.nn` and those written by hand.
* A dense layer or convolution, with the constants that are added and multiplied after it
  and the views of its result, is one layer, as long as nothing else sees what is between.
* Softmax and normalizations are compositions, known by their quotients.
"""

from collections.abc import Callable
from typing import cast

import jax.numpy as jnp

from igjax._program import jax_internals as internals
from igjax.propagation import _primitives as primitives, _softmax
from igjax.propagation._curves import SHIFTS, Curves, is_of_numbers
from igjax.propagation._program import Program, Step
from igjax.propagation._units import CONSTANT, LIVE, STILL, Reading, Unit

_AFTER = primitives.VIEWS | set(SHIFTS)  # what may stand in a layer, after its product

# What keeps numbers from being negative, if all that it is made of are not.
_POSITIVE_KEPT = primitives.VIEWS | {
    *("add", "concatenate", "reduce_sum", "reduce_max", "reduce_window_max", "slice")
}


def read(program: Program, levels, choose: Callable, paired: bool) -> Reading:
    """Reads a program.

    Args:
        program: what to read.
        levels: what each input is: CONSTANT, STILL or LIVE.
        choose: `choose(unit) -> rule`, None for the derivative.
        paired: whether it is also evaluated at a baseline, where still values differ.

    Returns:
        The `Reading`, of the units that the outputs need.
    """
    reader = _Reader(program, levels, choose, paired)
    reader.input_views = {i for i in program.inputs if reader.level[i] == LIVE}
    return reader.reading()


class _Reader:
    """Goes through the steps once; each value gets the unit that would make it."""

    def __init__(self, program, levels, choose, paired):
        self.program, self.choose, self.paired = program, choose, paired
        self.level = dict(zip(program.inputs, levels, strict=True))
        self.level.update(dict.fromkeys(program.constants, CONSTANT))
        self.curves = Curves(program, self.level, paired)
        self.origin, self.units = self.curves.origin, self.curves.units
        self.input_views: set[int] = set()  # x itself, reshaped
        self.positive: set[int] = set()  # not negative, whatever x is
        self.made_of: dict[int, str] = {}  # the curve whose scaled result a value is
        self.softmax = _softmax.find(program, self._dependent())

    def reading(self) -> Reading:
        for step in self.program.steps:
            unit = self._unit(step)
            for number in step.outputs:
                self.origin[number], self.units[number] = step, unit
            if self._is_positive(step, unit):
                self.positive.update(step.outputs)
        return Reading(self.program, self._needed(), dict(self.level), self.softmax.shifts)

    def _dependent(self) -> set[int]:
        found = {i for i in self.program.inputs if self.level[i]}
        for step in self.program.steps:
            if not found.isdisjoint(step.inputs):
                found.update(step.outputs)
        return found

    def _is_positive(self, step: Step, unit: Unit) -> bool:
        kept = step.name in _POSITIVE_KEPT and self.positive.issuperset(step.inputs)
        return unit.kind == "relu" or kept

    # -- what a step is

    def _unit(self, step: Step) -> Unit:
        levels = [self.level[i] for i in step.inputs]
        if max(levels, default=CONSTANT) == CONSTANT:
            return self._plain("constant", step, CONSTANT)
        if step.name in primitives.LOOPS:
            return self._loop(step, levels)
        if step.name in primitives.BRANCHES:
            return self._branch(step, levels)
        if self._is_complex(step):
            live = [i for i in step.inputs if self.level[i] == LIVE]
            return self._made("unknown", step, live)
        root = self.curves.root(step)
        if root is not None:
            self.curves.parent[step.outputs[0]] = root
        if step.name in primitives.STILL or not is_of_numbers(self.program, step):
            self._note_stopped(step)
            return self._plain("still", step, STILL)
        if (
            root is not None
            and self.level[root] == LIVE
            and not self.curves.is_linear(step, root)
        ):
            return self._activation(step, root)
        if max(levels) == STILL:
            self._note_stopped(step)
            return self._plain("still", step, STILL)
        return self._moving(step)

    def _is_complex(self, step: Step) -> bool:
        shapes = (self.program.shapes[i] for i in (*step.inputs, *step.outputs))
        return any(jnp.issubdtype(shape.dtype, jnp.complexfloating) for shape in shapes)

    def _note_stopped(self, step: Step) -> None:
        moving = [i for i in step.inputs if self.level[i] != CONSTANT]
        if step.name == "stop_gradient" or all(i in self.curves.stopped for i in moving):
            self.curves.stopped.update(step.outputs)

    def _moving(self, step: Step) -> Unit:
        """What is no function of one number."""
        live = [i for i in step.inputs if self.level[i] == LIVE]
        dependent = [i for i in step.inputs if self.level[i] != CONSTANT]
        several = dependent if self.paired else live
        name = step.name
        if name in primitives.PRODUCTS and len(several) == 1:
            return self._affine(step, live[0])
        if name in primitives.QUOTIENTS and several == [step.inputs[0]]:
            return self._affine(step, live[0])
        if name in primitives.LINEAR:
            return self._linear(step, live)
        if name in primitives.PRODUCTS | primitives.QUOTIENTS:
            return self._product(step, several)
        if name in primitives.MAXIMA:
            return self._made("maximum", step, several)
        if name in primitives.POOLS:
            return self._made("pool", step, several)
        return self._made("unknown", step, live)

    def _linear(self, step: Step, live) -> Unit:
        places = primitives.LINEAR[step.name]
        told = set(step.inputs) - set(step.inputs[places])
        if any(self.level[i] == LIVE for i in told):
            return self._made("unknown", step, live)
        if self.paired and any(self.level[i] and not self._is_guard(i) for i in told):
            return self._made("choice", step, live)
        if len(live) == 1:
            return self._affine(step, live[0])
        return self._plain("linear", step, LIVE)

    def _is_guard(self, number: int) -> bool:
        """Whether a condition is x != x, which only NaN fulfils."""
        step = self.origin.get(number)
        return step is not None and step.name == "ne" and len(set(step.inputs)) == 1

    def _affine(self, step: Step, operand: int) -> Unit:
        """A scale, a shift or a view of one value; part of a layer, after one."""
        out, before = step.outputs[0], self.units.get(operand)
        if step.name in primitives.VIEWS and operand in self.input_views:
            self.input_views.add(out)
        if operand in self.made_of:
            self.made_of[out] = self.made_of[operand]
        if step.name in primitives.LAYERS:
            return self._made("layer", step, [operand])
        alone = self.program.is_read_once(operand)
        if before is None or before.kind != "layer" or not alone or step.name not in _AFTER:
            return self._plain("linear", step, LIVE)
        held = (*before.held, *(i for i in step.inputs if i != operand))
        return self._ruled(
            before._replace(
                steps=(*before.steps, step),
                held=tuple(dict.fromkeys(held)),
                outputs=step.outputs,
            )
        )

    def _product(self, step: Step, several) -> Unit:
        out = step.outputs[0]
        if out in self.softmax.parts:
            return self._made("softmax", step, several)
        if step.name in primitives.QUOTIENTS:
            signal = 0 if step.inputs[0] in several else None
            kind = "normalization" if signal == 0 and len(set(several)) == 2 else "quotient"
            root = self.made_of.get(step.inputs[1]) == "sqrt"
            by_root = kind == "normalization" and root
            return self._made(kind, step, several, signal, by_root)
        curves = [self.made_of.get(i) for i in several]
        for curve, kind in (("rsqrt", "normalization"), ("logistic", "gate")):
            if len(curves) == 2 and curves.count(curve) == 1:
                by_root = kind == "normalization"
                return self._made(kind, step, several, 1 - curves.index(curve), by_root)
        return self._made("product", step, several)

    def _curve(self, step: Step) -> str:
        """What a curve ends in; a root that is clipped, or one over it, is a root."""
        moving = [i for i in step.inputs if self.level[i] != CONSTANT]
        before = self.made_of.get(moving[0]) if len(moving) == 1 else None
        if before is not None and step.name in ("max", "clamp"):
            return before
        if step.name == "pow":
            power = self.program.literals.get(step.inputs[1], 0.0)
            return {0.5: "sqrt", -0.5: "rsqrt"}.get(power, "pow")
        divides = step.name in primitives.QUOTIENTS and moving[0] != step.inputs[0]
        return "rsqrt" if before == "sqrt" and divides else step.name

    def _activation(self, step: Step, root: int) -> Unit:
        out = step.outputs[0]
        if step.name in primitives.STEPS and not self.paired:
            return self._plain("still", step, STILL)
        relu = self.curves.is_relu(step, root)
        if not relu:
            root = self.curves.before_shifts(root)
            self.curves.parent[out] = root
        steps = self.curves.between(root, out, step)
        inside = {o for s in steps for o in s.outputs}
        held = [i for s in steps for i in s.inputs if i not in inside and i != root]
        kind = "softmax" if out in self.softmax.parts else "relu" if relu else "activation"
        self.made_of[out] = self._curve(step)
        unit = Unit(kind, steps, (root,), tuple(dict.fromkeys(held)), step.outputs)
        unit = self._ruled(unit)
        return self._with_sums(unit) if unit.rule and unit.rule.sees_sums else unit

    def _with_sums(self, unit: Unit) -> Unit:
        """A curve and the linear steps before it, back to what is not linear or is x."""
        (root,), held = unit.operands, dict.fromkeys(unit.held)
        found: dict[Step, None] = {}
        sources: dict[int, None] = {}

        def visit(number):
            step = self.origin.get(number)
            if step is None or not self._is_sum(step):
                sources[number] = None
            elif step not in found:
                live = [i for i in step.inputs if self.level[i] == LIVE]
                for operand in dict.fromkeys(live):
                    visit(operand)
                held.update(dict.fromkeys(i for i in step.inputs if i not in live))
                found[step] = None

        visit(root)
        if not found:
            return unit
        steps = (*found, *unit.steps)
        return unit._replace(
            steps=steps, operands=tuple(sources), held=tuple(held), root=root
        )

    def _is_sum(self, step: Step) -> bool:
        """Whether what a step makes is a sum of what moves, with constant weights."""
        fixed = all(self.level[i] != STILL for i in step.inputs)
        kind = self.units[step.outputs[0]].kind
        return kind in ("linear", "layer") and fixed and step.name != "scatter-sub"

    # -- control flow

    def _loop(self, step: Step, levels) -> Unit:
        loop = cast(internals.Scan, internals.scan(step.eqn))
        body = Program(loop.body, step.place)
        first, last = loop.constants, loop.constants + loop.carries
        rounds = []  # the first ones, before carries that start as constants depend on x
        while True:
            reading = _Reader(body, levels, self.choose, self.paired).reading()
            made = [reading.levels[o] for o in body.outputs]
            carried = [max(a, b) for a, b in zip(levels[first:last], made, strict=False)]
            grown = [*levels[:first], *carried, *levels[last:]]
            is_last = not self.paired and len(rounds) == loop.length - 1
            if grown == levels or is_last:
                break
            levels = grown
            rounds.append(reading)
        results = [*carried, *made[loop.carries :]]
        # A change of nothing has no share in DeepLIFT: there all rounds are read as one.
        own = () if self.paired else rounds[: loop.length]
        return self._opened("loop", step, results, (*own, reading))

    def _branch(self, step: Step, levels) -> Unit:
        bodies = [Program(b, step.place) for b in internals.bodies(step.eqn)]
        given = (levels[1:], self.choose, self.paired)
        readings = tuple(_Reader(body, *given).reading() for body in bodies)
        results = [
            max(r.levels[r.program.outputs[k]] for r in readings)
            for k in range(len(step.outputs))
        ]
        if levels[0] != CONSTANT:
            if self.paired:
                return self._made("choice", step, list(step.inputs[1:]))
            results = [max(level, STILL) for level in results]
        return self._opened("branch", step, results, readings)

    def _opened(self, kind, step, results, readings) -> Unit:
        self.level.update(zip(step.outputs, results, strict=True))
        operands = tuple(i for i in step.inputs if self.level[i] == LIVE)
        return Unit(kind, (step,), operands, (), step.outputs, bodies=readings)

    # -- how units are made

    def _plain(self, kind: str, step: Step, level: int) -> Unit:
        self.level.update(dict.fromkeys(step.outputs, level))
        operands = tuple(i for i in step.inputs if self.level[i] == LIVE)
        held = tuple(i for i in step.inputs if self.level[i] != LIVE)
        return Unit(kind, (step,), operands, held, step.outputs)

    def _made(self, kind: str, step: Step, operands, signal=None, by_root=False) -> Unit:
        operands = tuple(dict.fromkeys(operands))
        held = tuple(i for i in dict.fromkeys(step.inputs) if i not in operands)
        first = kind == "layer" and operands[0] in self.input_views
        positive = kind == "layer" and operands[0] in self.positive
        unit = Unit(kind, (step,), operands, held, step.outputs, None, signal, first)
        return self._ruled(unit._replace(positive=positive, by_root=by_root))

    def _ruled(self, unit: Unit) -> Unit:
        """The unit with its rule; what is stopped is still."""
        rule = self.choose(unit)
        stopped = rule is not None and rule.stops
        for number in unit.outputs:
            told = stopped or not jnp.issubdtype(
                self.program.shapes[number].dtype, jnp.inexact
            )
            self.level[number] = STILL if told else LIVE
        if stopped:  # no unit may look into what is stopped
            self.curves.stopped.update(unit.outputs)
            for number in unit.outputs:
                self.curves.parent.pop(number, None)
        return unit._replace(rule=rule)

    def _needed(self) -> tuple[Unit, ...]:
        """The units that outputs and effects need, in order.

        Those that no relevance meets, a maximum behind a `stop_gradient` say, are still.
        """
        needed, met, kept = set(self.program.outputs), set(self.program.outputs), []
        for step in reversed(self.program.steps):
            if needed.isdisjoint(step.outputs) and not step.eqn.effects:
                continue
            unit = self.units[step.outputs[0]] if step.outputs else self._unit(step)
            needed.update((*unit.operands, *unit.held))
            if unit.bodies:
                needed.update(step.inputs)
            if met.isdisjoint(o for o in unit.outputs if self.level[o] == LIVE):
                unit = unit if unit.bodies else unit._replace(kind="still", rule=None)
            else:
                met.update(unit.operands)
            kept.append(unit)
        return tuple(kept[::-1])
