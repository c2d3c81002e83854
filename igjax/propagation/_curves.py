"""Element-wise functions of one value: where they begin, and which of them are ReLUs.

The nearest value of which all operands of a step are element-wise functions is its root,
and all that lies between is one unit. So it does not matter how a curve of one number is
written.
"""

from igjax.propagation import _primitives as primitives
from igjax.propagation._program import Program, Step, is_real
from igjax.propagation._units import CONSTANT, LIVE, STILL, Unit

_ROOTS = ("sqrt", "rsqrt")
SHIFTS = ("add", "sub", "mul", "div", "neg", "add_any")


class Curves:
    """What is known of element-wise functions while a program is gone through.

    Attributes:
        parent: of what value another is an element-wise function.
        origin: the step that made a value.
        units: the unit that it would be the output of.
        stopped: values behind a `stop_gradient`.
    """

    def __init__(self, program: Program, level: dict[int, int], paired: bool):
        self.program, self.level, self.paired = program, level, paired
        self.parent: dict[int, int] = {}
        self.origin: dict[int, Step] = {}
        self.units: dict[int, Unit] = {}
        self.stopped: set[int] = set()

    def root(self, step: Step) -> int | None:
        """The nearest value of which all operands are element-wise functions."""
        if step.name not in primitives.ELEMENTWISE:
            return None
        shapes, out = self.program.shapes, step.outputs[0]
        moving = [i for i in dict.fromkeys(step.inputs) if self.level[i] != CONSTANT]
        if any(shapes[i].shape != shapes[out].shape for i in moving):
            return None
        first, *lines = map(self._line, moving)
        common = [a for a in first if all(a in line for line in lines)]
        if all(self.level[i] == STILL for i in moving) and is_of_numbers(
            self.program, step
        ):
            # A step function has a change but no slope: only two passes see it.
            seen = self.paired and not all(i in self.stopped for i in moving)
            common = [a for a in common if self.level[a] == LIVE and seen] or common
        return next(iter(common), None)

    def _line(self, number: int) -> list[int]:
        line = [number]
        while line[-1] in self.parent:
            line.append(self.parent[line[-1]])
        return line

    def is_linear(self, step: Step, root: int) -> bool:
        """Whether the derivative is the multiplier: constants, or sums with the root."""
        moving = [i for i in step.inputs if self.level[i] != CONSTANT]
        if len(moving) == 1 and self.level[moving[0]] == LIVE:
            if step.name in ("mul", *primitives.LINEAR):
                return True
            return step.name in primitives.QUOTIENTS and step.inputs[0] == moving[0]
        live = all(self.level[i] == LIVE for i in moving)
        return step.name in ("add", "add_any", "sub") and root in moving and live

    def before_shifts(self, root: int) -> int:
        """Numbers that are added before a curve belong to it; arrays belong to layers."""
        while True:
            step, unit = self.origin.get(root), self.units.get(root)
            if step is None or unit is None or unit.kind != "linear":
                return root
            numbers = [i for i in step.inputs if self.level[i] == CONSTANT]
            written = all(i in self.program.literals for i in numbers)
            if step.name not in SHIFTS or len(step.inputs) != 1 + len(numbers):
                return root
            if not written or root not in self.parent:
                return root
            root = self.parent[root]

    def between(self, root: int, out: int, last: Step) -> tuple[Step, ...]:
        """The steps from a root to an element-wise function of it, in order."""
        found: dict[int, Step] = {}

        def visit(number):
            if number == root or self.level.get(number) == CONSTANT or number in found:
                return
            step = last if number == out else self.origin[number]
            for operand in step.inputs:
                visit(operand)
            found[number] = step

        visit(out)
        return tuple(found.values())

    def is_relu(self, step: Step, root: int) -> bool:
        """max(x, 0), where(x > 0, x, 0) or x * (x > 0)."""
        zero = lambda i: self.program.literals.get(i) == 0
        name, inputs = step.name, step.inputs
        if name == "max":
            clipped = root in inputs and any(map(zero, inputs))
            return clipped and not self._is_under_a_root(step.outputs[0])
        if name == "select_n" and len(inputs) == 3:
            return (
                zero(inputs[1]) and inputs[2] == root and self._is_positive(inputs[0], root)
            )
        others = [i for i in inputs if i != root]
        return name == "mul" and len(others) == 1 and self._is_positive(others[0], root)

    def _is_under_a_root(self, number: int) -> bool:
        """Whether a value is clipped only for a root to be taken, as variances are."""
        readers = self.program.readers.get(number, [])
        under = lambda step: (
            step.name in _ROOTS
            or (
                step.name in primitives.VIEWS | {"add"}
                and self._is_under_a_root(step.outputs[0])
            )
        )
        return bool(readers) and all(map(under, readers))

    def _is_positive(self, number: int, root: int) -> bool:
        step = self.origin.get(number)
        while step is not None and step.name == "convert_element_type":
            step = self.origin.get(step.inputs[0])
        if step is None or step.name not in ("gt", "ge"):
            return False
        return step.inputs[0] == root and self.program.literals.get(step.inputs[1]) == 0


def is_of_numbers(program: Program, step: Step) -> bool:
    """Whether a step makes values that can carry relevance."""
    return any(is_real(program.shapes[o]) for o in step.outputs)
