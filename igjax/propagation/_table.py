"""What was taken for what: the units of a function, and the rule that each of them gets."""

from typing import NamedTuple

from igjax import _checks
from igjax._tree import strong
from igjax.propagation import composites
from igjax.propagation._multipliers import reading_of
from igjax.propagation._units import Reading


class Entry(NamedTuple):
    """A unit, as `units` lists it.

    Attributes:
        kind: what it was taken for, see `composites`.
        primitives: the equations that it is made of.
        path: the scopes around it.
        line: the user's line that it comes from.
        inputs: shapes of what relevance flows to.
        output: shape of what it makes.
        rule: the name of the rule; "gradient" where the derivative is taken, and "none"
            where one is needed and missing.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> look = igjax.propagation.units(lambda x: jnp.tanh(x).sum())
        >>> print(*look(jnp.ones(3)))
        activation  tanh  (3,) -> (3,)  identity
    """

    kind: str
    primitives: tuple[str, ...]
    path: str
    line: str
    inputs: tuple[tuple[int, ...], ...]
    output: tuple[int, ...]
    rule: str

    def __str__(self):
        shapes = f"{', '.join(map(str, self.inputs))} -> {self.output}"
        parts = (self.kind, "+".join(self.primitives), shapes, self.rule, self.path)
        return "  ".join(filter(None, parts))


def units(f, rules: composites.Composite = composites.EPSILON):
    r"""Lists what a function is read as: its units, in order, and their rules.

    LRP depends on how a function is cut into units, and a rule does nothing where its
    selector does not match: look here first. What is linear and in no layer is not
    listed, because it needs no rule.

    Args:
        f: `f(x, *args) -> scalar`, as in `relevance`.
        rules: a composite, which goes before `EPSILON`; or one with rules that look at a
            baseline, `RESCALE`, to see what `deeplift` does.

    Returns:
        `look(x, *args) -> tuple of Entry`. Units in loops and branches are listed once.

    Raises:
        TypeError: if rules is no composite.
        ValueError: if a selector matches nothing.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> w = jnp.ones((2, 3))
        >>> f = lambda x: jnp.tanh(jax.nn.silu(w @ x + 1)).sum()
        >>> print(*igjax.propagation.units(f)(jnp.ones(3)), sep="\n")
        layer  dot_general+add  (3,) -> (2,)  epsilon
        activation  logistic+mul  (2,) -> (2,)  identity
        activation  tanh  (2,) -> (2,)  identity
    """
    _checks.function("units", "f", f)
    paired = isinstance(rules, tuple) and any(r.paired for _, r in rules)
    composites.check("units", rules, paired=paired)
    composite = (*rules, *(composites.RESCALE if paired else composites.EPSILON))

    def look(x, /, *args) -> tuple[Entry, ...]:
        x = strong(x)
        reading = reading_of("units", lambda x: f(x, *args), x, composite, paired)
        return tuple(_entries(reading))

    return look


def _entries(reading: Reading):
    shapes = reading.program.shapes
    for unit in reading.units:
        if unit.kind in composites.KINDS:
            rule = unit.rule
            missing = "none" if unit.kind in ("unknown", "choice") else "gradient"
            yield Entry(
                unit.kind,
                unit.primitives,
                unit.place.path,
                unit.place.line,
                tuple(tuple(shapes[i].shape) for i in unit.operands),
                tuple(shapes[unit.outputs[0]].shape),
                missing if rule is None else rule.name,
            )
        for body in unit.bodies[-1:] if unit.kind == "loop" else unit.bodies:
            yield from _entries(body)
