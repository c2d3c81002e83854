"""Half and twice of each named constant of some modules, one at a time.

A constant that neither half nor twice of shows is no debt, but asks whether it is needed.
"""

from collections.abc import Iterator
from types import ModuleType


def known(rooms: tuple[ModuleType, ...], without: tuple[str, ...] = ()) -> dict[str, float]:
    """The named numbers of the modules, and what they are."""
    return {
        name: value
        for room in rooms
        for name, value in vars(room).items()
        if name.isupper() and isinstance(value, (int, float)) and name not in without
    }


def changed(rooms: tuple[ModuleType, ...], names) -> Iterator[tuple[str, float]]:
    """Each constant at half and at twice of what it is, in all modules that use it."""
    now = known(rooms)
    for name in names:
        for factor in (0.5, 2):
            value = type(now[name])(factor * now[name])
            put(rooms, name, value)
            yield name, value
        put(rooms, name, now[name])


def put(rooms: tuple[ModuleType, ...], name: str, value: float) -> None:
    """Sets a constant in all modules that use it."""
    for room in rooms:
        if hasattr(room, name):
            setattr(room, name, value)
