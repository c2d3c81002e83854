"""A rule: what is done instead of taking the derivative, at units of the kinds it serves.

A rule is a value: a function, what it serves, and its parameters. The function gets the
unit at hand, what flowed into it, what flowed into it at the baseline (None without one),
and the multiplier of its output; it returns one multiplier for each operand. Relevance is x
times its multiplier, or (x - baseline) times it. What is linear needs no rule: its
derivative is its multiplier, and biases absorb their share by themselves.
"""

from collections.abc import Callable
from typing import NamedTuple

from igjax.propagation._local import Local


class Rule(NamedTuple):
    """What is done at units of some kinds; `units` shows which it met.

    Attributes:
        name: what it is called in tables.
        serves: the kinds of units that it can be applied to; it is passed over at others.
        backward: `backward(unit, values, references, ct, *parameters)`, which returns one
            cotangent for each value; None takes the derivative.
        parameters: numbers, part of the rule's identity.
        stops: no relevance goes through: the output counts as a constant.
        absolute: what it returns is relevance itself, not a multiplier: for first layers.
        paired: it looks at a baseline, as DeepLIFT does.
        sees_sums: an activation comes with the linear steps before it, see `reveal_cancel`.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> def half(unit, values, references, ct):
        ...     return tuple(c / 2 for c in unit.pull(values, ct))
        >>> rule = igjax.propagation.Rule("half", ("activation",), half)
        >>> f = lambda x: jnp.tanh(x).sum()
        >>> attribute = igjax.propagation.relevance(f, (("activation", rule),))
        >>> attribute(jnp.zeros(1) + 1e-3).values.round(6)
        Array([0.0005], dtype=float32)
    """

    name: str
    serves: tuple[str, ...]
    backward: Callable | None
    parameters: tuple = ()
    stops: bool = False
    absolute: bool = False
    paired: bool = False
    sees_sums: bool = False

    def __call__(self, unit: Local, values, references, ct):
        """The multipliers of the operands."""
        if self.backward is None:
            return unit.pull(values, ct)
        return self.backward(unit, values, references, ct, *self.parameters)
