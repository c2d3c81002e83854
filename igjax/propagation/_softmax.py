"""Which exponentials are those of a softmax, and which maxima are shifts that cancel.

No primitive is a softmax. It is an exponential, its sum and their quotient, and before them
a maximum is subtracted, behind a `stop_gradient`, that changes nothing: only large numbers
are kept away. A quotient of two things that are both proportional to the same exponentials
shows it, and so does the logarithm of such a thing. A shift cancels if all that was made
with it ends in quotients, or has it added again: then any shift will do, and the passes at
x and at the baseline may share one.
"""

from typing import NamedTuple

from igjax.propagation._primitives import VIEWS


class Softmax(NamedTuple):
    """What was found in a program, by numbers of values."""

    parts: frozenset[int]  # exponentials, quotients and logarithms of a softmax
    shifts: frozenset[int]  # stopped maxima that cancel


class _Tag(NamedTuple):
    """What a value is to its source, a shift s, or an exponential where there is none."""

    kind: str  # "peak": a maximum; "shift": s; "shifted": a - s; "weight": c * exp(a - s)
    source: int


# What a step makes of operands of these kinds: "" is any other value.
_MADE = {
    ("reduce_max", ("",)): "peak",
    ("stop_gradient", ("peak",)): "shift",
    ("sub", ("", "shift")): "shifted",
    ("exp", ("shifted",)): "weight",
    ("exp", ("",)): "weight",
    ("add", ("weight", "weight")): "weight",
    ("log", ("weight",)): "shifted",
    ("div", ("weight", "weight")): "",
    ("sub", ("shifted", "shifted")): "",
    ("add", ("shifted", "shift")): "",
    ("add", ("shift", "shifted")): "",
}
_NEW = ("reduce_max", "stop_gradient", "exp")  # may begin with a source of their own
_KEPT = {
    "peak": VIEWS | {"max", "select_n", "is_finite"},
    "shift": VIEWS,
    "shifted": VIEWS,
    "weight": VIEWS
    | {"reduce_sum", "reduce_window_sum", "cumsum", "abs", "mul", "dot_general", "div"},
}


def find(program, dependent) -> Softmax:
    """Finds the softmaxes in a program of which some values depend on x."""
    tags: dict[int, _Tag] = {}
    seen: set[int] = set()  # sources that something else than a softmax sees
    normalized: set[int] = set()
    parts: list[tuple[int, int]] = []
    for step in program.steps:
        if dependent.isdisjoint(step.inputs):
            continue
        given = [tags.get(i) for i in step.inputs]
        kind = _made(step, given, program)
        sources = {t.source for t in given if t}
        if kind is None:
            seen |= sources
            continue
        out = step.outputs[0]
        begins = step.name in _NEW and "shifted" not in _kinds(given)
        source = out if begins else min(sources, default=out)
        if kind:
            tags[out] = _Tag(kind, source)
        if step.name in ("div", "log") and "weight" in _kinds(given[:1]):
            parts.append((out, source))
            if kind != "weight":
                normalized.add(source)
        elif kind == "weight":
            parts.append((out, source))
    seen.update(tags[i].source for i in program.outputs if i in tags)
    shifts = {t.source for t in tags.values() if t.kind == "shift"} - seen
    return Softmax(frozenset(o for o, s in parts if s in normalized), frozenset(shifts))


def _kinds(given) -> tuple[str, ...]:
    return tuple(t.kind if t else "" for t in given)


def _made(step, given, program):
    """The kind of what a step makes; None where a source is seen otherwise."""
    kinds, name = _kinds(given), step.name
    tagged = {t for t in given if t}
    if (name, kinds) in _MADE:
        return _MADE[name, kinds] if len({t.source for t in tagged}) <= 1 else None
    if not tagged:
        return ""
    (kind, *others) = {t.kind for t in tagged}
    if others or len({t.source for t in tagged}) > 1:
        return None
    if kind == "weight" and name == "select_n" and kinds[0] == "":
        zero = lambda i, kind: kind == "weight" or program.literals.get(i) == 0
        masked = all(map(zero, step.inputs[1:], kinds[1:]))
        return kind if masked else None
    scaled = kind != "weight" or kinds.count(kind) == 1
    return kind if name in _KEPT[kind] and scaled and (name != "div" or kinds[0]) else None
