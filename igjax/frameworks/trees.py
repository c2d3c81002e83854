"""Paths of modules that do not know their own: where they are held, found by identity.

Modules of NNX, Equinox and Keras are objects held by others. When one is called that was
not met before, the code that calls it holds the model: the variables of the functions
that are running, from the function that is traced downward. The tree that holds it names
it, and all of its other modules with it. A module that nobody holds (a model merged and
called in one line) is a root itself. One that is made inside another's call, by a
transformation that takes modules apart, is the part of that one with its class, if there
is one; else it is named by the class.
"""

import functools
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from igjax.frameworks.calls import THREAD

_LIBRARIES = ("jax", "flax", "equinox", "keras", "haiku", "igjax")


class Names:
    """The paths of the modules of one framework that were met in one trace."""

    def __init__(self, walk: Callable, is_module: Callable):
        self.walk, self.is_module = walk, is_module
        self.paths: dict[int, str] = {}
        self.kept: list = []  # no id may be reused

    def path(self, module) -> str:
        """The path of a module, which is empty for a root."""
        if id(module) not in self.paths:
            if THREAD.stack:
                self.add(module, self.part(THREAD.stack[-1], type(module)))
            else:
                self.search()
                self.add(module, "")
        return self.paths[id(module)]

    def part(self, call, kind) -> str:
        """The path of a module that is made anew inside a call."""
        parts = [m for path, m in self.walk(call.module) if path and type(m) is kind]
        if len(parts) == 1 and id(parts[0]) in self.paths:
            return self.paths[id(parts[0])]
        return "/".join(filter(None, (call.path, kind.__name__)))

    def add(self, root, prefix: str):
        """Names a tree, where it was not named before."""
        self.kept.append(root)
        for path, module in self.walk(root):
            whole = "/".join(filter(None, (prefix, *map(str, path))))
            self.paths.setdefault(id(module), whole)
            self.kept.append(module)
        if self.is_module(root):
            self.paths.setdefault(id(root), prefix)

    def search(self):
        """Names what the running functions hold, beginning with the first of them."""
        frames = _frames()
        while frames:  # none is kept: a frame that knows itself is freed late
            self.look(self.held(frames.pop()))

    def look(self, held: dict):
        """Names the trees that the variables of a function hold."""
        found = {name: list(self.walk(value)) for name, value in held.items()}
        # A part may stand beside what it is a part of.
        order = sorted(found, key=lambda name: -len(found[name]))
        roots: list[str] = []
        inside: set[int] = set()
        for name in order:
            if not {id(m) for _, m in found[name]} <= inside:
                roots.append(name)
            inside.update(id(m) for _, m in found[name])
        for name in roots:
            self.add(held[name], name if len(roots) > 1 else "")

    def held(self, frame) -> dict:
        """The modules, and containers of them, among the variables of a function."""
        code = frame.f_code
        variables = dict(frame.f_locals)
        if _is_library(code.co_filename):
            variables = {k: v for k, v in variables.items() if k == "self"}
        else:
            globals_ = frame.f_globals
            named = {k: globals_[k] for k in code.co_names if k in globals_}
            variables = {**named, **variables}
        return {k: v for k, v in variables.items() if self.holds(v)}

    def holds(self, value) -> bool:
        """Whether a value is a module that was not met, or a container of such."""
        if self.is_module(value):
            return id(value) not in self.paths
        if isinstance(value, dict):
            value = list(value.values())
        return isinstance(value, list | tuple) and any(map(self.is_module, value))


def path_of(framework: str, module, walk: Callable, is_module: Callable) -> str:
    """The path of a module that is called in the trace of now."""
    if framework not in THREAD.names:
        THREAD.names[framework] = Names(walk, is_module)
    return THREAD.names[framework].path(module)


def walker(is_module: Callable, children: Callable) -> Callable:
    """Makes `walk(root)`, which yields the modules of a tree with their paths.

    `children(module)` are its attributes by name, or those of them that hold modules.
    """

    def walk(root, path=()):
        if is_module(root):
            yield path, root
            inside = children(root)
        elif isinstance(root, dict):
            inside = root
        elif isinstance(root, list | tuple):
            inside = dict(enumerate(root))
        else:
            return
        for name, child in inside.items():
            yield from walk(child, (*path, name))

    return walk


def _frames() -> list:
    """The frames from who called a module to the function that is traced."""
    frames, frame = [], sys._getframe(2)
    while frame is not None and frame.f_code.co_name != "igjax_watched":
        frames.append(frame)
        frame = frame.f_back
    return frames


@functools.lru_cache(maxsize=4096)
def _is_library(filename: str) -> bool:
    files = (getattr(sys.modules.get(name), "__file__", None) for name in _LIBRARIES)
    return any(filename.startswith(str(Path(file).parent)) for file in files if file)


class Patches:
    """Classes whose calls are dispatched, for as long as any thread traces."""

    def __init__(self, classes: Callable, make: Callable):
        self.classes, self.make = classes, make
        self.lock = threading.Lock()
        self.users = 0
        self.originals: list = []

    def __enter__(self):
        with self.lock:
            self.users += 1
            known = {cls for cls, _ in self.originals}
            for cls in self.classes():
                if cls not in known and "__call__" in vars(cls):
                    original = vars(cls)["__call__"]
                    self.originals.append((cls, original))
                    type.__setattr__(cls, "__call__", self.make(original))

    def __exit__(self, *error):
        with self.lock:
            self.users -= 1
            if not self.users:
                for cls, original in self.originals:
                    type.__setattr__(cls, "__call__", original)
                self.originals = []


def subclasses(cls) -> list:
    """A class and all that are derived from it."""
    found = {cls: None}
    for sub in cls.__subclasses__():
        found.update(dict.fromkeys(subclasses(sub)))
    return list(found)


def wrapper(describe: Callable, dispatch: Callable) -> Callable:
    """Makes the wrapper of a class's `__call__`.

    `describe(module, inputs, keywords)` returns the `Call`, None for what is no module. A
    class that calls its base is one call. What other threads do is left alone.
    """

    def make(original):
        @functools.wraps(original)
        def call(self, *inputs, **keywords):
            bound = original.__get__(self, type(self))
            stack = THREAD.stack
            again = stack and stack[-1].module is self
            if not THREAD.handlers or again:
                return bound(*inputs, **keywords)
            made = describe(self, inputs, keywords)
            if made is None:
                return bound(*inputs, **keywords)
            run = lambda inputs, keywords: bound(*inputs, **keywords)
            return dispatch(made, run, inputs, keywords)

        return call

    return make
