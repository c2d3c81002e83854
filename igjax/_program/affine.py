r"""A function split at its maximal affine prefix: `f(x) = suffix(prefix(x))`.

Along a straight line an affine function of x moves in a straight line too. What a model
does to its input before the first non-linearity (a dense layer, a convolution, patches,
standardization) is such a function, so along a straight path it is needed at the two
ends only, and gradients with respect to its results, the *frontier*, are pulled back
to x once, after they are summed. The values are the same to rounding.

What is affine is read off the jaxpr, equation by equation, by a table: whatever is not
in it ends the prefix (non-linear and unknown primitives, `stop_gradient`, custom
derivatives, loops, branches). So do narrowing casts and complex numbers: a sum over
nodes is kept in the dtype of the frontier, which must not have fewer digits than x.

Where to cut, and whether at all, is a minimum cut of the graph of affine equations. An
equation left in the suffix costs its flops, forward and backward, at every node; a value
of the frontier costs the bytes of its point, its gradient and its running sums. So a
broadcast does not widen the frontier, and a mere scaling, which compilers fuse into what
comes after it, is no reason for one.
"""

import collections
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from igjax._program import jax_internals as internals
from igjax._program.tracing import flops

# Bytes that memory moves while the device does so many flops: what a byte counts.
FLOPS_PER_BYTE = {"cpu": 4.0}
FLOPS_PER_BYTE_ELSEWHERE = 20.0
GAIN = 0.15  # the least share of the work that must be saved: less is lost in the estimate
WORTH = 2e3  # the least flops saved at each node: less is not worth a longer program

_ALL = "all"  # affine in all inputs together
_FIRST = "first"  # in the first one, the others being constants
_ONE = "one"  # in any one, the others being constants
_CASES = "cases"  # in all but the first
_UPDATE = "update"  # in an operand and what is written into it, not in where

AFFINE = {
    **dict.fromkeys(("add", "add_any", "sub", "neg", "concatenate", "stack", "pad"), _ALL),
    **dict.fromkeys(("reshape", "transpose", "broadcast_in_dim", "squeeze"), _ALL),
    **dict.fromkeys(("expand_dims", "rev", "slice", "split", "tile"), _ALL),
    **dict.fromkeys(("reduce_sum", "cumsum", "reduce_window_sum"), _ALL),
    **dict.fromkeys(("copy", "copy_p", "convert_element_type", "name"), _ALL),
    **dict.fromkeys(("div", "gather", "dynamic_slice"), _FIRST),
    **dict.fromkeys(("mul", "dot_general", "conv_general_dilated"), _ONE),
    "select_n": _CASES,
    "dynamic_update_slice": _UPDATE,
    "scatter-add": _UPDATE,
}
_UPDATED = {"dynamic_update_slice": (0, 1), "scatter-add": (0, 2)}


class Split(NamedTuple):
    """A function as `suffix(prefix(x))`, where `prefix` is affine.

    It holds the constants of the function: it is meant for the trace it was made in.
    """

    prefix: Callable  # x -> frontier, a tuple of arrays
    suffix: Callable  # frontier -> what the function returns
    frontier: tuple[jax.ShapeDtypeStruct, ...]


class Sweep(NamedTuple):
    """What is done with the function: the plan whose cost is weighed."""

    evaluations: int  # gradients along the line
    rows: int  # weighted sums of gradients that are kept
    pulled: int  # how many gradients, or sums of them, are pulled back
    block: int = 1  # gradients taken side by side, after which the sums are touched
    outputs: int = 1  # gradients at each point


def affine_split(f, x, sweep: Sweep, *, gain=GAIN, worth=WORTH) -> Split | None:
    """Splits a function at its maximal affine prefix.

    Args:
        f: any function of one pytree of arrays; tracers that it closes over are fine.
        x: arrays or shapes to trace it with.
        sweep: how often it is to be evaluated: what is saved depends on it.
        gain: the least share of the flops and bytes that must be saved.
        worth: the least number of flops that must be saved at each evaluation.

    Returns:
        The `Split`, or None where it does not pay, and for an x that is not made of
        real numbers of float32 or wider.
    """
    leaves = jax.tree.leaves(x)
    if not leaves or not all(_is_wide_real(a.dtype) for a in leaves):
        return None
    closed, shapes = jax.make_jaxpr(f, return_shape=True)(x)
    flat = _Flat(closed)
    costs = _Costs(flat, sweep)
    above, frontier = _minimum_cut(flat, costs)
    moving = [s for s in map(flat.steps.__getitem__, flat.alive) if flat.is_moving(s)]
    before = sum(map(costs.frontier, flat.inputs))
    whole = before + sum(map(costs.step, moving))
    hoisted = [flat.steps[i] for i in above]
    saved = before - sum(map(costs.frontier, frontier))
    saved += sum(costs.step(s) - costs.once(s) for s in hoisted)
    if not hoisted or saved < max(gain * whole, worth):
        return None

    def prefix(x):
        known = dict(zip(flat.inputs, jax.tree.leaves(x), strict=True))
        return tuple(flat.run(known, frontier, effects=False))

    def suffix(values):
        known = dict(zip(frontier, values, strict=True))
        outputs = flat.run(known, flat.outputs, effects=True)
        return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

    kinds = (flat.kinds[v] for v in frontier)
    return Split(
        prefix, suffix, tuple(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in kinds)
    )


def _is_wide_real(dtype) -> bool:
    return jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits >= 32


class _Step(NamedTuple):
    """An equation whose values have numbers instead of variables."""

    eqn: Any
    inputs: list[int]
    outputs: list[int]


class _Flat:
    """A jaxpr as a list of steps, with the jitted calls that x goes through inlined."""

    def __init__(self, closed):
        self.steps: list[_Step] = []
        self.kinds: list[Any] = []  # of each value, its abstract value
        self.constants: dict[int, Any] = {}
        self.inputs = [self._new(v.aval) for v in closed.jaxpr.invars]
        self.moving = set(self.inputs)  # values that depend on x
        self.affine = set(self.inputs)
        self.maker: dict[int, int] = {}  # of each value, its step
        self.outputs = self._add(closed, self.inputs)
        self._drop_dead()

    def _new(self, aval, value=None) -> int:
        self.kinds.append(aval)
        number = len(self.kinds) - 1
        if value is not None:
            self.constants[number] = value
        return number

    def _add(self, closed, inputs) -> list[int]:
        names = dict(zip(closed.jaxpr.invars, inputs, strict=True))
        for var, value in zip(closed.jaxpr.constvars, closed.consts, strict=True):
            names[var] = self._new(var.aval, value)

        def read(atom) -> int:
            if internals.is_literal(atom):
                return self._new(atom.aval, atom.val)
            return names[atom]

        for eqn in closed.jaxpr.eqns:
            given = list(map(read, eqn.invars))
            moves = [v in self.moving for v in given]
            body = internals.inlined(eqn) if any(moves) else None
            if body is not None:
                made = self._add(body, given)
            else:
                made = [self._new(v.aval) for v in eqn.outvars]
                self._append(_Step(eqn, given, made), moves)
            names.update(zip(eqn.outvars, made, strict=True))
        return list(map(read, closed.jaxpr.outvars))

    def _append(self, step, moves):
        self.maker.update(dict.fromkeys(step.outputs, len(self.steps)))
        self.steps.append(step)
        if any(moves):
            self.moving.update(step.outputs)
            known = [
                not m or v in self.affine for v, m in zip(step.inputs, moves, strict=True)
            ]
            if all(known) and _is_affine(step.eqn, moves):
                self.affine.update(step.outputs)

    def _drop_dead(self):
        """Forgets the steps that neither an output nor an effect needs."""
        alive, kept = set(self.outputs), set()
        for index in reversed(range(len(self.steps))):
            step = self.steps[index]
            if step.eqn.effects or not alive.isdisjoint(step.outputs):
                alive.update(step.inputs)
                kept.add(index)
        self.alive = kept

    def is_moving(self, step: _Step) -> bool:
        """Whether a step depends on x."""
        return not self.moving.isdisjoint(step.inputs)

    def uses(self):
        """Yields who uses the affine values: steps by number, None for the output."""
        for index in self.alive:
            yield from ((index, v) for v in self.steps[index].inputs if v in self.affine)
        yield from ((None, v) for v in self.outputs if v in self.affine)

    def run(self, known, wanted, *, effects: bool) -> list:
        """Evaluates wanted values from known ones, by number, and effects if asked."""
        needed, order = set(wanted) - set(known), []
        for index in sorted(self.alive, reverse=True):
            step = self.steps[index]
            if (effects and step.eqn.effects) or not needed.isdisjoint(step.outputs):
                needed.update(set(step.inputs) - set(known))
                order.append(step)
        values = {**self.constants, **known}
        for step in reversed(order):
            made = internals.bind(step.eqn, [values[v] for v in step.inputs])
            values.update(zip(step.outputs, made, strict=True))
        return [values[v] for v in wanted]


def _is_affine(eqn, moves) -> bool:
    """Whether an equation is affine in its inputs that move."""
    rule = AFFINE.get(eqn.primitive.name)
    if rule is None or eqn.effects:
        return False
    moving = [i for i, moved in enumerate(moves) if moved]
    allowed = {
        _ALL: True,
        _FIRST: moving == [0],
        _ONE: len(moving) == 1,
        _CASES: 0 not in moving,
        _UPDATE: set(moving) <= set(_UPDATED.get(eqn.primitive.name, ())),
    }[rule]
    digits = max(eqn.invars[i].aval.dtype.itemsize for i in moving)
    return allowed and all(
        _is_wide_real(v.aval.dtype) and v.aval.dtype.itemsize >= digits for v in eqn.outvars
    )


class _Costs:
    """What steps and frontiers cost at each node of the sweep, in flops."""

    def __init__(self, flat: _Flat, sweep: Sweep):
        self.flat, self.sweep = flat, sweep
        self.per_byte = FLOPS_PER_BYTE.get(jax.default_backend(), FLOPS_PER_BYTE_ELSEWHERE)
        self.sums = sweep.rows * sweep.outputs
        self.passes = 1 + sweep.outputs  # forward, and one backward for each output

    def _moved(self, value: int) -> float:
        """The cost of one pass of a value through memory."""
        kind = self.flat.kinds[value]
        return self.per_byte * math.prod(kind.shape) * kind.dtype.itemsize

    def step(self, step: _Step) -> float:
        """A step that is taken at each node; the results of products are not fused."""
        product = step.eqn.primitive.name in ("dot_general", "conv_general_dilated")
        written = sum(map(self._moved, step.outputs)) if product else 0
        return self.passes * (flops(step.eqn) + written)

    def frontier(self, value: int) -> float:
        """A value that is interpolated, and whose gradients are weighted and summed."""
        # Once a block both ends are read, and all sums read and written.
        touched = (2 * self.sums + 2) / max(self.sweep.block, 1)
        size = math.prod(self.flat.kinds[value].shape)
        return (2 * self.sums + 3) * size + (touched + self.passes) * self._moved(value)

    def once(self, step: _Step) -> float:
        """A step of the prefix: forward at both ends, and backward for what is pulled."""
        pulled = self.sweep.pulled * self.sweep.outputs
        return flops(step.eqn) * (2 + pulled) / self.sweep.evaluations


def _minimum_cut(flat: _Flat, costs: _Costs):
    """The steps above the cheapest cut, and the frontier.

    Nodes of the graph are the source (above the cut), the sink (below it), values, by
    number, and affine steps. A step below pays its cost; a value that is made above and
    used below pays that of the frontier; no step above may use a value from below.
    """
    graph, source, sink = _Graph(), "source", "sink"
    node = lambda index: ("step", index)
    affine = {i for i in flat.alive if flat.affine & set(flat.steps[i].outputs)}
    for value in flat.inputs:
        graph.join(source, value, costs.frontier(value))
    for index in affine:
        graph.join(source, node(index), costs.step(flat.steps[index]))
        for value in flat.steps[index].outputs:
            graph.join(node(index), value, costs.frontier(value))
    for index, value in flat.uses():
        graph.join(value, node(index) if index in affine else sink, math.inf)
        if index in affine and value in flat.maker:
            graph.join(node(index), node(flat.maker[value]), math.inf)
    kept = graph.source_side(source, sink)
    above = {i for i in affine if node(i) in kept}
    made = {*flat.inputs, *(v for i in above for v in flat.steps[i].outputs)}
    return above, sorted({v for i, v in flat.uses() if i not in above and v in made})


class _Graph:
    """Capacities of a directed graph, and its minimum cut by augmenting paths."""

    def __init__(self):
        self.left = collections.defaultdict(dict)

    def join(self, a, b, capacity):
        self.left[a][b] = self.left[a].get(b, 0) + capacity
        self.left[b].setdefault(a, 0)

    def source_side(self, source, sink) -> set:
        """The nodes above a minimum cut: as few as possible."""
        while True:
            before = self._reach(source)
            if sink not in before:
                return set(before)
            path, node = [], sink
            while node != source:
                path.append((before[node], node))
                node = before[node]
            flow = min(self.left[a][b] for a, b in path)
            for a, b in path:
                self.left[a][b] -= flow
                self.left[b][a] += flow

    def _reach(self, source) -> dict:
        before, queue = {source: source}, collections.deque([source])
        while queue:
            node = queue.popleft()
            for other, capacity in self.left[node].items():
                if capacity > 0 and other not in before:
                    before[other] = node
                    queue.append(other)
        return before
