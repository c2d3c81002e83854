"""Compiled by itself, never stale, never leaking: how a method calls the user's `f`.

`f` is traced once per shape, through a fresh wrapper (JAX caches traces by function, and
would not see a rebound global), to a jaxpr and its constants. The constants, the weights
that a closure holds, are operands of the compiled program: nothing is baked in, and all
that follows (batching, export) sees only the jaxpr. The program lives in a cache that
is weak on `f`; it is used while `closures.observe` sees what it saw when `f` was traced.

Tried and dropped: `jax.jit` with `f` static goes stale when a global or `self.w` is
rebound and keeps every closure alive; `jax.closure_convert` hoists no concrete array.
"""

import contextlib
import dataclasses
import functools
import inspect
import types
import weakref
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from igjax import _checks
from igjax._program import telling
from igjax._program.closures import Observation, observe
from igjax._program.jax_internals import (
    are_mapped,
    are_spread,
    in_mesh_of,
    is_explicit,
    is_manual,
    mapped,
    on_mesh,
    shapes,
    sharing,
    spread_like,
    under_named_axes,
    varying,
)
from igjax._program.rewrites import for_device
from igjax._program.tracing import trace
from igjax._program.untraceable import argument_names, explained, paths_of
from igjax._program.watched import watched
from igjax._tree import cast_like, parameter_dtype, spread, strong, widen

PROGRAMS_PER_FUNCTION = 64  # shapes, rules and paths; the oldest is dropped

_SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_numpy_dtype_promotion",
)
_PLACES = ("jax_enable_x64", "jax_default_device")
_CACHE: dict[int, tuple[weakref.ref, dict]] = {}


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Lanes:
    """Over how many examples a program is mapped, as far as its caller could see."""

    count: int = 1


class Operands(NamedTuple):
    """Everything that an attribution is computed from: all of it arrays, but for lanes."""

    x: Any
    baseline: Any
    given: Any  # the array leaves of *args, and of what f is bound to
    f_constants: Any
    path_constants: Any
    asked: Any = ()  # what a method asks about besides: units of a layer
    lanes: Lanes = Lanes()


class _Program(NamedTuple):
    observed: Observation
    constants: list
    run: Any  # jitted: (constants, operands, lanes) -> result


def attribution(
    caller: str,
    recipe,
    f,
    path,
    rule,
    chunk_size,
    *,
    scalar: bool,
    first=None,
    asked: Any = (),
):
    """Makes `attribute(x, baseline, *args)` of a recipe, a function of pure operands.

    `recipe(f, path, operands, rule, chunk_size)` gets `f(operands, point)` and
    `path(operands, t)`, both made of jaxprs; nothing is closed over, so that a recipe
    may hand the operands to transformations of its own. `first` is None, or a recipe and
    a judge of what that returns, `judge(found) -> (result, settled)`: outside of
    transformations the recipe proper is not even compiled while that settles it.
    """
    _checks.chunk_size(caller, chunk_size)
    _checks.rule(caller, rule)
    for name, function in {"f": f, "path": path}.items():
        if not callable(function):
            got = type(function).__name__
            raise TypeError(f"{caller}: {name} must be callable, got a {got}.")

    placed = on_device(rule)

    def attribute(x, baseline, /, *args):
        _checks.inputs(caller, x, baseline)
        call, bound = _unbind(f)
        given, static = split(caller, args, bound)
        statics = [leaf[0] for leaf in static[1] if leaf]
        look = lambda: observe((call, path), statics, (bound, args))
        observed = look()
        untraced = functools.partial(_untraced, caller, call, bound, args, x)
        owner = _owner(call)
        key = (recipe, id(path), chunk_size, _hint(call), *map(label, static[1]))

        def attributed(operands):
            def build():
                telling.tell("tracing")
                made = caller, recipe, call, path, static, chunk_size, operands, scalar
                return _build(*made, first)

            lanes = Lanes(mapped(operands))
            if owner is None or observed.unknown or under_named_axes():
                _checks.closure(caller, is_manual() and on_mesh(observed.kept))
                constants, run = build()
                return run(constants, operands, lanes)
            at = (*key, hash(static[0]), _signature(operands), telling.listener())
            program = _kept(_programs(owner), at, observed, look, build)
            # A bridge may know what values its arguments can take.
            getattr(f, "validate", _accept)(x, *args)
            telling.tell("compiling, or computing")
            return program.run(program.constants, operands, lanes)

        arrays = x, baseline, given, observed.kept
        operands = (x, baseline, given, placed(), asked)
        with in_mesh_of(arrays), _explained(caller, untraced), _told(operands):
            if _is_shared(operands, observed.kept, fixed=hasattr(rule, "weights")):
                return sharing(attributed)(operands)
            return attributed(operands)

    return _signed(caller, attribute, attribute)


def _told(operands):
    """Where nobody is told of what is part of another's program."""
    others = telling.listener() is not None and _checks.any_traced(operands)
    return telling.to(None) if others else contextlib.nullcontext()


def _is_shared(operands, closed_over, *, fixed: bool) -> bool:
    """Whether devices may have a program each where a batch is mapped over them.

    They must where a loop's trips depend on the examples. Elsewhere it is only better,
    as JAX maps no loop over an explicit mesh that starts at numbers; but reverse mode does
    not go through, nor do arrays that f closes over.
    """
    if not is_explicit(operands):
        return False
    leaves = jax.tree.leaves(operands)
    traced = [a for a in leaves if isinstance(a, Tracer)]
    if not fixed:
        return bool(traced)
    return are_mapped(traced) and not are_spread(leaves) and not on_mesh(closed_over)


@contextlib.contextmanager
def _explained(caller: str, look):
    """Says which argument f cannot be traced with, and where, if that is the trouble.

    `look()` returns the function that was to be traced, its leaves and what these are
    called, and how many of them, in front, are no arguments that may be bound.
    """
    try:
        yield
    except Exception as error:
        found = explained(caller, error, *look())
        if found is error:
            raise
        raise found from error


def _untraced(caller: str, call, bound, args, x):
    """What an attribution was to trace, as `_explained` asks for it."""
    given, static = split(caller, args, bound)
    names = _of_arrays(argument_names(call, bound, args), static)
    xs, structure = jax.tree.flatten(x)

    def model(*leaves):
        x = structure.unflatten(leaves[: len(xs)])
        (first, keywords), rest = join(leaves[len(xs) :], static)
        # Some fail where they are differentiated: loops of unknown length.
        score, pull = jax.vjp(lambda x: call(*first, x, *rest, **keywords), x)
        return pull(jax.tree.map(jnp.ones_like, score))

    return model, [*xs, *given], [*(f"x{path}" for path in paths_of(x)), *names], len(xs)


def function(caller: str, call):
    """Makes a function that compiles `call(*args)` by itself, as an attribution does.

    For what is built around attributions: `call` is igjax's own and closes over the
    user's functions. The programs live as long as the function returned.
    """
    plain, call = call, watched(caller, call)

    def run(*args):
        given, static = split(caller, args)
        statics = [leaf[0] for leaf in static[1] if leaf]
        look = lambda: observe((plain,), statics, (args,))
        observed = look()
        joined = lambda given: call(*join(given, static))

        def untraced():
            names = _of_arrays(argument_names(plain, ((), {}), args), static)
            return lambda *given: joined(given), given, names, 0

        def build(given):
            traced = trace(joined, given)
            run = for_device(traced.run) if traced.rewritable else traced.run
            return traced.constants, jax.jit(run)

        def called(given):
            if observed.unknown or under_named_axes():
                return joined(given)
            key = (hash(static[0]), *map(label, static[1]), _signature(given))
            made = functools.partial(build, given)
            program = _kept(_programs(run), key, observed, look, made)
            return program.run(program.constants, given)

        with in_mesh_of((given, observed.kept)), _explained(caller, untraced):
            shared = _is_shared(given, observed.kept, fixed=True)
            return sharing(called)(given) if shared else called(given)

    return _signed(caller, run, plain)


def _signed(caller: str, made, like):
    """What a method made, called after the method, with the arguments that it takes."""
    made.__name__ = made.__qualname__ = caller
    made.__signature__ = inspect.signature(like)
    return made


def maker(function) -> str | None:
    """The method that made a function, bare, jitted or bound to arguments; or None."""
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    made_here = getattr(function, "__module__", None) == __name__
    return function.__name__ if made_here else None


def _kept(programs: dict, key, observed: Observation, look, build) -> _Program:
    """The program of a key, built anew where what it was built from has changed."""
    program = programs.get(key)
    if program is None or not program.observed.matches(observed):
        built = build()
        # Observed again: tracing may have moved a counter that f names.
        program = programs[key] = _Program(look(), *built)
        if len(programs) > PROGRAMS_PER_FUNCTION:
            del programs[next(iter(programs))]
    return program


def _build(caller, recipe, call, path, static, chunk_size, operands, scalar, first):
    """Traces f and the path; returns their constants and the jitted program."""
    x, baseline, given, rule, _ = operands

    def model(x, given):
        (first, keywords), args = join(given, static)
        return call(*first, x, *args, **keywords)

    x, baseline, given = varying((x, baseline, given), operands)
    x, baseline = shapes(_fit, x, baseline)
    traced = trace(watched(caller, model), x, given)
    _checks.score(caller, traced.shapes, scalar=scalar)
    _checks.collectives(caller, rule, traced.collective)
    wide = shapes(widen, (x, baseline))
    t = shapes(lambda x: varying(jnp.zeros((), parameter_dtype(x)), x), x)
    route = trace(path, *wide, t)
    _checks.point(caller, route.shapes, x)

    def f(operands, point):
        point = cast_like(point, operands.x)
        return traced.run(operands.f_constants, point, operands.given)

    def along(operands, t):
        ends = widen((operands.x, operands.baseline))
        t = t.astype(parameter_dtype(operands.x))  # a layer may be wider than x
        return route.run(operands.path_constants, *ends, varying(t, ends))

    def compiled(recipe, kind: str, count):
        def run(lanes, constants, operands):
            operands = varying(operands, (constants, operands))
            x, baseline, given, rule, asked = operands
            more: Any = {"asked": asked, "lanes": lanes}
            bound = Operands(*_fit(x, baseline), given, *constants, **more)
            return recipe(f, along, bound, rule, chunk_size)

        def fast(constants, operands, lanes):
            plain = functools.partial(run, lanes)
            rewritable = traced.rewritable or route.rewritable
            return (for_device(plain) if rewritable else plain)(constants, operands)

        fast.__name__ = program_name(caller, kind, count)
        return jax.jit(fast, static_argnums=2)

    fixed = hasattr(rule, "nodes")
    count = np.shape(rule.nodes)[-1] if fixed else rule.max_evaluations
    whole = compiled(recipe, "fixed" if fixed else "adaptive", count)
    if first is not None:
        look, judge = first
        whole = _settled_first(compiled(look, "first", "look"), judge, whole)
    return [traced.constants, route.constants], whole


def _settled_first(look, judge, whole):
    """Runs `whole`, which is slow to compile, only from when a look is not enough."""
    enough = True

    def run(*given):
        nonlocal enough
        if not enough or _checks.any_traced(given):
            return whole(*given)
        found = look(*given)
        if _checks.any_traced(found):  # inside of another trace, of constants only
            return whole(*given)
        result, settled = judge(found)
        enough = bool(jax.device_get(settled))
        return result if enough else whole(*given)

    return run


def program_name(caller: str, kind: str, count) -> str:
    """What a program is called in jaxprs and profiles: the method and its budget."""
    return f"igjax_{caller}_{kind}_{count}"


def _fit(x, baseline):
    """Makes x and baseline arrays of the same shapes and dtypes, spread alike."""
    x = strong(x)
    over = lambda b, a: spread_like(b, a, 0)
    return x, jax.tree.map(over, spread(baseline, x), x)


def _unbind(f):
    """Takes arguments out of partials and weights out of pytree callables."""
    if isinstance(f, functools.partial):
        return f.func, (f.args, f.keywords)
    if not isinstance(f, types.FunctionType) and not jax.tree_util.all_leaves([f]):
        return type(f).__call__, ((f,), {})
    return f, ((), {})


def split(caller: str, args, bound=None):
    """Parts arguments into their arrays and the rest, which is hashable.

    What they are joined to is `args`, or `(bound, args)`. Numbers that f is bound to may
    shape the program, as in a closure: they are no arrays.
    """
    leaves, structure = jax.tree.flatten(args)
    traced = list(map(_checks.is_array, leaves))
    if bound is not None:
        first, head = jax.tree.flatten(bound)
        leaves, structure = first + leaves, jax.tree_util.treedef_tuple((head, structure))
        traced = [_checks.is_array(a) and not _is_number(a) for a in first] + traced
    given = [leaf for leaf, array in zip(leaves, traced, strict=True) if array]
    rest = tuple(
        None if array else (leaf,) for leaf, array in zip(leaves, traced, strict=True)
    )
    for leaf in rest:
        _checks.static(caller, leaf)
    return given, (structure, rest)


def label(leaf):
    """A static leaf in a key, which must keep nothing alive: `observe` knows the rest."""
    if leaf is None:
        return leaf
    value = leaf[0]
    known = _is_number(value) or type(value) in (bool, str, bytes)
    return (type(value), value) if known else id(value)


def _is_number(leaf) -> bool:
    """True for a number of Python, or a scalar of NumPy."""
    return isinstance(leaf, int | float | complex | np.generic)


def _of_arrays(names, static) -> list:
    """Those of the names of all leaves that arrays have, as `split` parted them."""
    return [name for name, rest in zip(names, static[1], strict=True) if rest is None]


def join(given, static):
    structure, rest = static
    arrays = iter(given)
    return structure.unflatten([next(arrays) if r is None else r[0] for r in rest])


def _accept(*args) -> None:
    del args


def on_device(rule):
    """Makes a function that returns a rule with its tables and tolerances on the device.

    They are moved there once, and not at each call; once more where x64, the default
    device or the mesh in use was switched.
    """
    kept = {}

    def placed():
        settings = (getattr(jax.config, name) for name in _PLACES)
        key = jax.sharding.get_abstract_mesh(), *settings
        if key in kept:
            return kept[key]
        fresh = _canonical(rule)
        if under_named_axes():  # what is made under them may not outlive them
            return fresh
        put = lambda a: a if isinstance(a, jax.Array) else jax.device_put(a)
        with jax.ensure_compile_time_eval():  # or an outer trace would own them
            kept[key] = jax.tree.map(put, fresh)
        return kept[key]

    return placed


def _canonical(rule):
    """Casts the tables of a rule to what JAX computes with, always into new arrays.

    JAX 0.10.2 keeps the device copy of a NumPy array that was traced as a constant, and
    hands it out in the wrong dtype after x64 is switched on.
    """
    cast = lambda a: a.astype(jax.dtypes.canonicalize_dtype(a.dtype))
    return jax.tree.map(lambda a: cast(a) if isinstance(a, np.ndarray) else a, rule)


def _owner(call):
    """The object whose life the programs share; None if it cannot be watched."""
    owner = getattr(call, "__self__", call) if _is_method(call) else call
    try:
        weakref.ref(owner)
    except TypeError:
        return None
    return owner


def _is_method(call) -> bool:
    return isinstance(call, types.MethodType)


def _hint(call) -> int:
    """Tells methods of one object apart; `observe` has the last word."""
    return id(call.__func__) if _is_method(call) else 0


def _programs(owner) -> dict:
    ref, programs = _CACHE.get(id(owner), (lambda: None, {}))
    if ref() is not owner:
        forget = functools.partial(_forget, id(owner))
        ref, programs = weakref.ref(owner, forget), {}
        _CACHE[id(owner)] = ref, programs
    return programs


def _forget(owner: int, ref, cache=_CACHE) -> None:
    if owner in cache and cache[owner][0] is ref:
        del cache[owner]


def _signature(operands):
    """What one trace is good for: structure, shapes, dtypes and the settings of JAX."""
    leaves, structure = jax.tree.flatten(operands)
    settings = tuple(getattr(jax.config, name) for name in _SETTINGS)
    kinds = tuple(map(_kind, leaves))
    return hash(structure), kinds, settings, jax.sharding.get_abstract_mesh()


def _kind(leaf):
    if isinstance(leaf, jax.Array):
        return jax.typeof(leaf)
    return (leaf.shape, leaf.dtype) if hasattr(leaf, "dtype") else type(leaf)
