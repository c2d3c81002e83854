"""Units: steps of a program that are taken together, and a program as a list of them."""

from typing import Any, NamedTuple

from igjax.propagation._program import Place, Program, Step

# What a value is to relevance: it does not depend on x; it does, and only tells; it moves.
CONSTANT, STILL, LIVE = range(3)


class Unit(NamedTuple):
    """Steps that are taken together, and what is done where relevance meets them.

    Attributes:
        kind: "linear", "layer", "activation", "relu", "product", "gate", "quotient",
            "normalization", "softmax", "maximum", "pool", "choice", "loop", "branch",
            "unknown", or "still" and "constant", which no relevance meets.
        steps: in order; the last one makes the outputs.
        operands: numbers of the values that relevance flows to.
        held: numbers of the other values that the steps take from outside.
        outputs: numbers of the values made.
        rule: a `Rule`, or None for the derivative as it is.
        signal: which factor carries the signal, of a gate or a normalization.
        first: whether a layer sees x itself, through views alone.
        bodies: the readings of a loop's body, of first rounds before that of all others,
            or the readings of branches.
        positive: whether what a layer sees is known not to be negative, as after a ReLU.
        root: the value that a curve is a function of, where the sums before it belong to
            the unit; None where that is its operand.
        by_root: whether a normalization divides by a root, or is times one over it.
    """

    kind: str
    steps: tuple[Step, ...]
    operands: tuple[int, ...]
    held: tuple[int, ...]
    outputs: tuple[int, ...]
    rule: Any = None
    signal: int | None = None
    first: bool = False
    bodies: tuple["Reading", ...] = ()
    positive: bool = False
    root: int | None = None
    by_root: bool = False

    @property
    def place(self) -> Place:
        """Where it was written: a layer where it begins, others where they end."""
        return self.steps[0 if self.kind == "layer" else -1].place

    @property
    def primitives(self) -> tuple[str, ...]:
        """The names of the primitives of the steps."""
        return tuple(step.name for step in self.steps)


class Reading(NamedTuple):
    """A program as units, in order, and what of it depends on x."""

    program: Program
    units: tuple[Unit, ...]
    levels: dict[int, int]  # CONSTANT, STILL or LIVE
    shifts: frozenset[int]
