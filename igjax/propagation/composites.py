"""Composites: which rule is for which units, as data.

A composite is a tuple of (selector, rule). The first selector that matches a unit which the
rule serves decides. A selector is

* a kind of units, "layer", "activation", "relu", "product", "gate", "normalization",
  "quotient", "softmax", "maximum", "pool", "choice";
* the name of a primitive, "conv_general_dilated";
* a pattern of paths, ``"*/Dense_0"``: the scopes that `jax.named_scope` and Flax linen
  modules leave around their equations;
* a function of a unit, `first` say.

`units` shows what was matched. A pattern, a function or an unknown name that matches
nothing is an error.
"""

import fnmatch
from collections.abc import Callable

from igjax.propagation import _primitives as primitives
from igjax.propagation._rule import Rule
from igjax.propagation._units import Reading, Unit
from igjax.propagation.change_rules import rescale
from igjax.propagation.layer_rules import box as _box, epsilon, flat, gamma, zplus
from igjax.propagation.unit_rules import (
    gradient,
    identity,
    signal_takes_all,
    stop,
    uniform,
)

__all__ = [
    "CP",
    "EPSILON",
    "EPSILON_PLUS",
    "EPSILON_PLUS_FLAT",
    "RESCALE",
    "epsilon_gamma_box",
    "first",
]

Composite = tuple[tuple[str | Callable[[Unit], bool], Rule], ...]

KINDS = frozenset(primitives.KINDS)
_KNOWN = (
    KINDS
    | frozenset(primitives.LINEAR)
    | primitives.PRODUCTS
    | primitives.QUOTIENTS
    | primitives.MAXIMA
    | primitives.POOLS
    | primitives.CURVES
)


def first(unit: Unit) -> bool:
    """Selects layers that see x itself, through views alone.

    Args:
        unit: a unit of a reading.

    Returns:
        Whether it is one.

    Example:
        >>> import igjax
        >>> igjax.propagation.EPSILON_PLUS_FLAT[0][0] is igjax.propagation.first
        True
    """
    return unit.first


# Every unit accounts for its whole change between the baseline and x: DeepLIFT.
RESCALE: Composite = tuple((kind, rescale()) for kind in rescale().serves)

# LRP. Softmax takes its derivative and products of two signals are shared, as in AttnLRP;
# gates leave all to the signal ("LRP-all" of LSTMs), and so do normalizations.
EPSILON: Composite = (
    ("layer", epsilon(1e-6)),
    ("activation", identity()),
    ("quotient", identity()),
    ("product", uniform()),
    ("gate", signal_takes_all()),
    ("normalization", signal_takes_all()),
    ("softmax", gradient()),
    ("maximum", gradient()),
    ("pool", gradient()),
)

# For convolutional networks.
EPSILON_PLUS: Composite = (("conv_general_dilated", zplus()), *EPSILON)
EPSILON_PLUS_FLAT: Composite = ((first, flat()), *EPSILON_PLUS)

# For transformers: the weights of an attention are given; what it attends to gets it all.
CP: Composite = (("softmax", stop()), *EPSILON)


def epsilon_gamma_box(low, high) -> Composite:
    """The composite of images: the box rule first, gamma for convolutions, then epsilon.

    Args:
        low: the least value of an input, as in `box`.
        high: the largest.

    Returns:
        A composite, for `relevance`.

    Example:
        >>> import igjax
        >>> [rule.name for _, rule in igjax.propagation.epsilon_gamma_box(0.0, 1.0)][:3]
        ['box', 'gamma', 'epsilon']

    References:
        Montavon et al., "Layer-Wise Relevance Propagation: An Overview", 2019.
    """
    return (
        (first, _box(low, high)),
        ("conv_general_dilated", gamma(0.25)),
        *EPSILON,
    )


def chooser(composite: Composite) -> Callable[[Unit], Rule | None]:
    """The function that finds the rule of a unit."""

    def choose(unit):
        rules = (rule for s, rule in composite if unit.kind in rule.serves and _is(s, unit))
        return next(rules, None)

    return choose


def check(caller: str, composite: Composite, *, paired: bool) -> None:
    """Checks that a composite is one, of rules that the method can use.

    Raises:
        TypeError: if it is no tuple of (selector, rule).
        ValueError: if a rule needs a baseline that there is not, or cannot have one.
    """
    well_formed = isinstance(composite, tuple) and all(
        isinstance(item, tuple)
        and len(item) == 2
        and (isinstance(item[0], str) or callable(item[0]))
        and isinstance(item[1], Rule)
        for item in composite
    )
    if not well_formed:
        raise TypeError(
            f"{caller}: rules must be a tuple of (selector, rule), got {composite!r}. "
            "Pass rules=(('layer', igjax.propagation.epsilon(0.1)),)."
        )
    for _, rule in composite:
        if rule.paired and not paired:
            raise ValueError(
                f"{caller}: the rule {rule.name!r} looks at a baseline, and there is none. "
                "It is for igjax.propagation.deeplift."
            )
        if rule.absolute and paired:
            raise ValueError(
                f"{caller}: the rule {rule.name!r} is no multiplier of a change. It is for "
                "igjax.propagation.relevance."
            )


def check_matches(caller: str, composite: Composite, reading: Reading) -> None:
    """Checks that selectors that name something of a model matched something.

    Raises:
        ValueError: if one did not; the message lists the paths there are.
    """
    met = list(all_units(reading))
    for selector, rule in composite:
        if isinstance(selector, str) and selector in _KNOWN:
            continue
        if not any(unit.kind in rule.serves and _is(selector, unit) for unit in met):
            paths = sorted({unit.place.path for unit in met} - {""})
            name = getattr(selector, "__name__", selector)
            raise ValueError(
                f"{caller}: the selector {name!r} must match a unit that the rule "
                f"{rule.name!r} serves, got none in f. The paths there are: {paths}; "
                "igjax.propagation.units(f) lists the units."
            )


def all_units(reading: Reading):
    """The units that relevance meets, those in loops and branches too, in order."""
    for unit in reading.units:
        if unit.kind in KINDS:
            yield unit
        for body in unit.bodies:
            yield from all_units(body)


def _is(selector, unit: Unit) -> bool:
    if callable(selector):
        return bool(selector(unit))
    if selector in KINDS:
        return selector == unit.kind or (selector == "activation" and unit.kind == "relu")
    return selector in unit.primitives or fnmatch.fnmatchcase(unit.place.path, selector)
