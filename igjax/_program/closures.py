"""What a function depends on besides its arguments, observed afresh at every call.

A compiled attribution is valid as long as `f` would be traced to the same program. That
depends on closure cells, globals, defaults, `self`, partial arguments and static ones, any
of which may be rebound or changed in place between two calls. `observe` walks them and
returns a list of tokens: equal lists mean that nothing changed. JAX arrays count by
identity (they are immutable), NumPy arrays by content, numbers and strings by value,
containers by what they hold, other objects by identity and by what they hold.

Two rules keep the walk short. Functions of libraries are taken as constant, but not what
they close over. Attributes of a user's objects, classes and modules count only if some
code that was reached names them, or looks names up dynamically.

Weighed against tracing f at each call and looking programs up by what was traced, which
would need nothing of this file: a trace takes two to forty times as long as the call
itself (benchmarks/bench_calls.py), and people who explore do not write `jax.jit`.

When in doubt, nothing is cached: an object that cannot be looked into, or a walk that
fails, makes the observation `unknown`, and the attribution is traced anew. Not seen are
environment variables, files, thread-local and context variables. The observation keeps
nothing alive but arrays, code and small values.
"""

import collections
import decimal
import dis
import enum
import fractions
import functools
import operator
import re
import sys
import types
import weakref
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.core import Tracer

from igjax.frameworks import nnx

_LIBRARIES = frozenset(
    {"jax", "jaxlib", "numpy", "flax", "optax", "equinox", "keras", "haiku", "igjax"}
) | frozenset(sys.stdlib_module_names - {"__main__"})
_VALUES = frozenset(
    {str, bytes, int, bool, complex, type(None), type(Ellipsis), type(NotImplemented)}
)
# Immutable, and told apart by what they print.
_PRINTED = (
    range,
    slice,
    bytearray,
    int,
    float,
    str,
    bytes,
    complex,
    decimal.Decimal,
    fractions.Fraction,
    re.Pattern,
    operator.itemgetter,
    operator.attrgetter,
    operator.methodcaller,
    np.dtype,
)
_SEQUENCES = (list, tuple, set, frozenset, collections.deque)
_MAPPINGS = (dict, types.MappingProxyType)
_DYNAMIC = frozenset(
    {"getattr", "vars", "eval", "exec", "__dict__", "attrgetter", "globals"}
)
_LOOKUPS = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
_ATTRIBUTES = frozenset({"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "IMPORT_FROM"})
_BUILTINS = (
    types.BuiltinFunctionType,
    types.MethodWrapperType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)


class Observation(NamedTuple):
    """What a function was seen to depend on."""

    tokens: list
    kept: list  # arrays and code, whose ids are among the tokens
    refs: list  # weak references to the other objects whose ids are among the tokens
    unknown: bool  # True if a tracer, or something that cannot be watched, was found

    def matches(self, other: "Observation") -> bool:
        """True if nothing has changed, and no id can have been given to a new object."""
        return self.tokens == other.tokens and all(r() is not None for r in self.refs)


def observe(functions, statics, trees) -> Observation:
    """Walks all that a trace of functions depends on besides arrays given to them.

    Args:
        functions: the functions themselves.
        statics: arguments that are no arrays.
        trees: pytrees of arguments, of which only the classes of the nodes count here.

    Returns:
        The `Observation`.
    """
    walk = _Walk()
    try:
        walk.run([*functions, *statics, *_classes(trees)])
    except Exception:  # whatever a user's object may do when it is looked at
        walk.unknown = True
    return Observation(walk.tokens, walk.kept, walk.refs, walk.unknown)


def _classes(trees) -> list:
    """The users' classes among the nodes of pytrees, and the settings of their objects."""
    found: dict[Any, None] = {}
    settings = []

    def visit(node) -> bool:
        kind = type(node)
        user = not _library(kind.__module__)
        if user:
            found[kind] = None
        if user or nnx.is_module(node):
            settings.extend(
                value
                for value in _instance_dict(node).values()
                if type(value) in _VALUES or type(value) in (float, types.FunctionType)
            )
        return False

    jax.tree.leaves(trees, is_leaf=visit)
    return [*found, *settings]


class _Code(NamedTuple):
    globals: tuple[str, ...]
    names: frozenset[str]
    imports: tuple[str, ...]


class _Walk:
    """A depth-first walk with a stack of its own: user data may be deep, or cyclic."""

    def __init__(self):
        self.tokens, self.kept, self.refs = [], [], []
        self.unknown = False
        self.seen: dict[int, int] = {}
        self.alive: list[Any] = []  # no id may be reused during the walk
        self.stack: list[Any] = []
        self.names: set[str] = set()  # attributes that code was seen to name
        self.waiting: dict[str, list[Any]] = {}  # attributes that none has named yet

    def run(self, values):
        self.stack.extend(reversed(values))
        while self.stack:
            self.see(self.stack.pop())

    def push(self, values):
        self.stack.extend(values)

    def see(self, value):
        kind = type(value)
        if kind in _VALUES:
            self.tokens.append((kind, value))
        elif kind is float:
            self.tokens.append(value.hex())  # tells -0.0 from 0.0
        elif issubclass(kind, Tracer):
            self.unknown = True
        elif issubclass(kind, jax.Array):
            self.keep(value)
        elif issubclass(kind, np.ndarray | np.generic) and value.dtype.kind != "O":
            self.tokens.append((value.dtype.str, value.shape, hash(value.tobytes())))
        elif id(value) in self.seen:
            self.tokens.append(self.seen[id(value)])
        else:
            self.seen[id(value)] = len(self.seen)
            self.alive.append(value)
            self.look_inside(value, kind)

    def look_inside(self, value, kind):
        for kinds, look in _LOOKS:
            if issubclass(kind, kinds):
                look(self, value, kind)
                return
        self.instance(value, kind)

    def sequence(self, value, kind):
        self.tokens.append((kind.__name__, len(value)))
        self.push(value)
        self.attributes(value, kind)

    def mapping(self, value, kind):
        self.tokens.append((kind.__name__, len(value)))
        for key, item in value.items():
            self.push((item, key))
        self.attributes(value, kind)

    def objects(self, value, kind):
        del kind
        self.push(value.ravel().tolist())

    def method(self, value, kind):
        del kind
        self.push((value.__self__, value.__func__))

    def partial(self, value, kind):
        del kind
        self.push((value.keywords, value.args, value.func))

    def property(self, value, kind):
        del kind
        self.push((value.fget, value.fset, value.fdel))

    def wrapped(self, value, kind):
        del kind
        self.push((value.__func__,))

    def member(self, value, kind):
        self.tokens.append((kind.__qualname__, value.name))

    def printed(self, value, kind):
        self.tokens.append((kind.__qualname__, repr(value)))

    def keep(self, value):
        self.tokens.append(id(value))
        self.kept.append(value)

    def identity(self, value, kind) -> bool:
        try:
            self.refs.append(weakref.ref(value))
        except TypeError:
            self.tokens.append(kind.__qualname__)
            return False
        self.tokens.append(id(value))
        return True

    def name(self, names):
        """Attributes that some code names count from now on."""
        dynamic = not self.names.isdisjoint(_DYNAMIC)
        self.names.update(names)
        if not dynamic and not self.names.isdisjoint(_DYNAMIC):
            names = list(self.waiting)
        for name in names:
            for value in self.waiting.pop(name, ()):
                self.tokens.append(name)
                self.push((value,))

    def attribute(self, name: str, value):
        if name in self.names or not self.names.isdisjoint(_DYNAMIC):
            self.tokens.append(name)
            self.push((value,))
        else:
            self.waiting.setdefault(name, []).append(value)

    def function(self, f, kind):
        del kind
        self.keep(f.__code__)
        self.push((f.__defaults__, f.__kwdefaults__))
        for cell in f.__closure__ or ():
            try:
                self.push((cell.cell_contents,))
            except ValueError:
                self.tokens.append("empty cell")
        for name, value in f.__dict__.items():
            if name == "__wrapped__":
                self.push((value,))
            else:
                self.attribute(name, value)
        if _library(f.__module__) or "site-packages" in f.__code__.co_filename:
            return
        code = _code(f.__code__)
        for name in code.globals:
            if name in f.__globals__:
                self.tokens.append(name)
                self.push((f.__globals__[name],))
        self.push([sys.modules[name] for name in code.imports if name in sys.modules])
        self.name(code.names)

    def module(self, module, kind):
        self.identity(module, kind)
        origin = getattr(module, "__file__", None) or ""
        if not _library(module.__name__) and "site-packages" not in origin:
            for name, value in list(vars(module).items()):
                self.attribute(name, value)

    def cls(self, cls, kind):
        self.identity(cls, kind)
        for base in cls.__mro__:
            if base is object or _library(base.__module__):
                continue
            for name, value in list(vars(base).items()):
                if not name.startswith("__"):
                    self.attribute(name, value)
                elif type(value) is types.FunctionType:  # operators are not named
                    self.push((value,))

    def instance(self, value, kind):
        watched = self.identity(value, kind)
        held = self.attributes(value, kind)
        wrapped = _static(value, "__wrapped__")
        if wrapped is not None:
            self.push((wrapped,))
        if not watched and not held and not kind.__flags__ & _HEAP:
            self.unknown = True  # of a compiled type: there is no way to look inside

    def attributes(self, value, kind) -> bool:
        """Sees the attributes of an instance; all of them if a library reads them."""
        whole = _library(kind.__module__) or any(
            (_library(base.__module__) and base.__module__ != "builtins")
            or "__get__" in vars(base)  # looking an attribute up reads a descriptor
            for base in kind.__mro__
        )
        held = _instance_dict(value)
        for name, item in list(held.items()):
            if whole:
                self.tokens.append(name)
                self.push((item,))
            else:
                self.attribute(name, item)
        slots = [
            member
            for base in kind.__mro__
            for member in vars(base).values()
            if type(member) is types.MemberDescriptorType
        ]
        for member in slots:
            try:
                self.push((member.__get__(value),))
            except AttributeError:
                self.tokens.append("empty slot")
        if not _library(kind.__module__):
            self.push((kind,))
        return bool(held or slots)


_LOOKS = (
    (_SEQUENCES, _Walk.sequence),
    (_MAPPINGS, _Walk.mapping),
    (np.ndarray, _Walk.objects),
    (types.FunctionType, _Walk.function),
    (types.MethodType, _Walk.method),
    (functools.partial, _Walk.partial),
    (property, _Walk.property),
    ((staticmethod, classmethod), _Walk.wrapped),
    (types.ModuleType, _Walk.module),
    (_BUILTINS, _Walk.identity),
    (type, _Walk.cls),
    (enum.Enum, _Walk.member),
    (_PRINTED, _Walk.printed),
)
_HEAP = 1 << 9  # CPython's flag of types that Python code defines


def _instance_dict(value) -> dict:
    try:
        held = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return held if type(held) is dict else {}


def _static(value, name: str):
    """An attribute, if the type is a library's: a user's may run any code."""
    if not _library(type(value).__module__):
        return _instance_dict(value).get(name)
    return getattr(value, name, None)


def _library(module) -> bool:
    return isinstance(module, str) and module.partition(".")[0] in _LIBRARIES


@functools.lru_cache(maxsize=4096)
def _code(code) -> _Code:
    """Globals, attribute names and imports of code and of the functions inside it."""
    globals_, imports = {}, {}
    names = set()
    for instruction in dis.get_instructions(code):
        if instruction.opname in _LOOKUPS:
            globals_[instruction.argval] = None
            names.add(instruction.argval)
        elif instruction.opname in _ATTRIBUTES:
            names.add(instruction.argval)
        elif instruction.opname == "IMPORT_NAME":
            imports[instruction.argval] = None
    names |= {c for c in code.co_consts if type(c) is str and c.isidentifier()}
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            more = _code(inner)
            globals_.update(dict.fromkeys(more.globals))
            imports.update(dict.fromkeys(more.imports))
            names |= more.names
    return _Code(tuple(globals_), frozenset(names), tuple(imports))
