"""What a function depends on besides its arguments, observed afresh at every call.

A compiled attribution is valid as long as `f` would be traced to the same program. That
depends on closure cells, globals, defaults, `self` and partial arguments, any of which
may be rebound between two calls. `observe` walks them and returns a list of tokens: two
equal lists mean that nothing was rebound. Arrays count by identity (JAX arrays are
immutable; writable NumPy arrays count by content), numbers and strings by value, other
objects by identity and by what they hold. Functions of libraries are taken as constant,
but not what they close over. The walk keeps nothing alive but arrays and code.
"""

import functools
import sys
import types
import weakref
from typing import NamedTuple

import jax
import numpy as np
from jax.core import Tracer

_LIBRARIES = frozenset(
    {"jax", "jaxlib", "numpy", "flax", "optax", "equinox", "haiku", "igjax"}
) | frozenset(sys.stdlib_module_names - {"__main__"})
_VALUES = (str, bytes, int, bool, complex, type(None), type(Ellipsis))
_MISSING = object()


class Observation(NamedTuple):
    """What a function was seen to depend on."""

    tokens: list
    kept: list  # arrays and code objects, whose ids are among the tokens
    refs: list  # weak references to the other objects whose ids are among the tokens
    tracers: bool  # True if a value of an outer transformation is closed over
    models: list  # the Flax NNX modules among what was seen

    def matches(self, other: "Observation") -> bool:
        """True if nothing has changed, and no id can have been given to a new object."""
        return self.tokens == other.tokens and all(r() is not None for r in self.refs)


def observe(*functions) -> Observation:
    """Walks everything that the functions depend on, and returns what was seen."""
    walk = _Walk()
    for f in functions:
        walk.see(f)
    return Observation(walk.tokens, walk.kept, walk.refs, walk.tracers, walk.models)


class _Walk:
    def __init__(self):
        self.tokens, self.kept, self.refs, self.models = [], [], [], []
        self.tracers = False
        self.seen = {}

    def see(self, value):
        kind = type(value)
        if kind in _VALUES:
            self.tokens.append((kind, value))
        elif kind is float:
            self.tokens.append(value.hex())  # tells -0.0 from 0.0
        elif isinstance(value, Tracer):
            self.tracers = True
        elif isinstance(value, jax.Array):
            self.keep(value)
        elif isinstance(value, np.ndarray | np.generic):
            self.tokens.append((value.dtype.str, value.shape, _content(value)))
        elif id(value) in self.seen:
            self.tokens.append(self.seen[id(value)])
        else:
            self.seen[id(value)] = len(self.seen)
            self.see_inside(value)

    def see_inside(self, value):
        if is_nnx(value):
            self.models.append(value)
        if isinstance(value, types.FunctionType):
            self.function(value)
        elif isinstance(value, types.MethodType):
            self.see(value.__func__)
            self.see(value.__self__)
        elif isinstance(value, functools.partial):
            self.all(value.func, value.args, value.keywords)
        elif isinstance(value, types.ModuleType | types.BuiltinFunctionType):
            self.identity(value)
        elif isinstance(value, type):
            self.identity(value)
            self.methods(value)
        elif not self.container(value):
            self.instance(value)

    def all(self, *values):
        for value in values:
            self.see(value)

    def keep(self, value):
        self.tokens.append(id(value))
        self.kept.append(value)

    def identity(self, value):
        try:
            self.refs.append(weakref.ref(value))
        except TypeError:
            self.tokens.append(type(value))  # what it holds is seen all the same
        else:
            self.tokens.append(id(value))

    def function(self, f):
        self.keep(f.__code__)
        self.all(f.__defaults__, f.__kwdefaults__)
        for cell in f.__closure__ or ():
            try:
                self.see(cell.cell_contents)
            except ValueError:
                self.tokens.append("empty cell")
        self.see(getattr(f, "__wrapped__", None))
        if not _library(f):
            self.globals(f.__globals__, _names(f.__code__))

    def globals(self, namespace, names):
        for name in names:
            value = namespace.get(name, _MISSING)
            if value is _MISSING:
                continue
            self.tokens.append(name)
            self.see(value)
            is_module = isinstance(value, types.ModuleType) and not _library(value)
            if is_module and (id(value), names) not in self.seen:
                self.seen[id(value), names] = len(self.seen)
                self.globals(vars(value), names)

    def methods(self, cls):
        for base in cls.__mro__:
            if base is object or _library(base):
                continue
            for name, value in list(vars(base).items()):
                if not name.startswith("__") or name == "__call__":
                    self.see(value)

    def container(self, value) -> bool:
        try:
            leaves, structure = jax.tree.flatten(value, is_leaf=lambda v: v is not value)
        except (TypeError, ValueError):  # keys that do not sort
            self.all(*value.items())
            return True
        if jax.tree_util.treedef_is_leaf(structure):
            return False
        self.tokens.append(structure)
        self.all(*leaves)
        return True

    def instance(self, value):
        self.identity(value)
        self.see(getattr(value, "__wrapped__", None))
        if isinstance(value, set | frozenset):
            self.all(*sorted(value, key=repr))
        held = getattr(value, "__dict__", {})
        slots = [s for c in type(value).__mro__ for s in getattr(c, "__slots__", ())]
        for name in [*held, *slots]:
            self.tokens.append(name)
            self.see(held.get(name, getattr(value, name, None)))
        if not _library(type(value)):
            self.see(type(value))


def is_nnx(value) -> bool:
    """True for a Flax NNX module; Flax is not imported to find out."""
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(value, nnx.Module)


def _content(array) -> int:
    return hash(array.tobytes())


@functools.lru_cache(maxsize=4096)
def _names(code) -> tuple[str, ...]:
    """All names that the code and the functions inside it look up."""
    inner = [n for c in code.co_consts if isinstance(c, types.CodeType) for n in _names(c)]
    return tuple(dict.fromkeys([*code.co_names, *inner]))


def _library(value) -> bool:
    module = getattr(value, "__module__", None) or getattr(value, "__name__", "")
    if isinstance(value, types.ModuleType):
        module = value.__name__
    if str(module).partition(".")[0] in _LIBRARIES:
        return True
    code = getattr(value, "__code__", None)
    origin = code.co_filename if code else getattr(value, "__file__", None)
    return "site-packages" in (origin or "")
