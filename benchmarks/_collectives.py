"""What devices tell each other in a compiled program: how often, and how many bytes.

Read from the text that XLA prints of it. A loop of known length counts as often as it
turns; one of unknown length once, as in `igjax.cost`.
"""

from __future__ import annotations

import math
import re
from collections import Counter

_KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\(.*\) -> .*)?\{$")
_TOLD = re.compile(rf"= (.*?) ({_KINDS})(?:-start)?\(")
_CALLED = re.compile(r"(?:body|calls|to_apply|(?:true|false)_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TURNS = re.compile(r'known_trip_count"?:\{"?n"?:"?(\d+)')
_SHAPE = re.compile(r"(\w+)\[([\d,]*)\]")
_BITS = re.compile(r"[a-z]+(\d+)")


def collectives(text: str) -> dict[str, tuple[int, int]]:
    """How often a device takes part in each kind of exchange, and bytes of the results."""
    computations, entry = _computations(text)
    often, size = Counter(), Counter()

    def walk(name: str, times: int) -> None:
        for line in computations.get(name, ()):
            if told := _TOLD.search(line):
                often[told[2]] += times
                size[told[2]] += times * _bytes(told[1])
                continue
            turns = _TURNS.search(line) if " while(" in line else None
            for inner in _inner(line):
                walk(inner, times * (int(turns[1]) if turns else 1))

    walk(entry, 1)
    return {kind: (often[kind], size[kind]) for kind in sorted(often)}


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """The lines of each computation, by names, and the name of the whole program's."""
    found, entry, lines = {}, "", []
    for line in text.splitlines():
        if head := _HEAD.match(line):
            lines = found[head[2]] = []
            entry = head[2] if head[1] else entry
        lines.append(line)
    return found, entry


def _inner(line: str) -> list[str]:
    """The computations that an instruction runs."""
    branches = _BRANCHES.search(line)
    listed = re.findall(r"[\w.\-]+", branches[1]) if branches else []
    return [*_CALLED.findall(line), *listed]


def _bytes(shapes: str) -> int:
    """Bytes of all arrays of a type as XLA prints it: `(f32[2,3]{1,0}, bf16[])`."""
    total = 0
    for kind, sizes in _SHAPE.findall(shapes):
        bits = _BITS.fullmatch(kind)
        width = max(1, int(bits[1]) // 8) if bits else 1
        total += width * math.prod(int(n) for n in sizes.split(",") if n)
    return total
