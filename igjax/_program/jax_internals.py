"""What JAX may change, in one room: jaxprs, parameters of primitives, axes in scope.

Every `jax.extend`, every name of a parameter and every accessor that is not public stands
here, a function for each question, with its answer in all versions that are supported. What
types and shapes tell is not asked by name. An equation that does not answer raises
`NotUnderstood`: who needs its meaning lets that pass, and who only makes things faster
does without, through `if_understood`.
"""

import contextlib
import importlib
import math
from typing import Any, NamedTuple

import jax
import jax.core
from jax.custom_batching import custom_vmap
from jax.extend import core, source_info_util

_JITTED = ("jit", "pjit")
_REMATERIALIZED = ("remat2", "checkpoint", "remat")
_CALLS = ("closed_call", "core_call", "call")
_DERIVED = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")
# Their jaxprs say how two numbers are combined; they are not run as they stand.
_COMBINING = ("scatter", "reduce", "select_and")


class NotUnderstood(ValueError):
    """An equation is not as a version of JAX that igjax knows would write it."""


def if_understood(read, *args, otherwise=None):
    """Returns `read(*args)`, or `otherwise` where that meets what it does not know.

    For what makes things faster, and for that alone. Whatever is raised counts: what a
    new version of JAX does to the code that reads its jaxprs cannot be listed here.
    """
    try:
        return read(*args)
    except Exception:
        return otherwise


def _parameter(eqn, name: str) -> Any:
    if name not in eqn.params:
        raise NotUnderstood(
            f"JAX {jax.__version__} writes the primitive {eqn.primitive.name!r} in a way "
            f"that igjax does not know: without {name!r}, with {sorted(eqn.params)}. "
            "Install a version of JAX that igjax's README names, or a newer igjax."
        )
    return eqn.params[name]


# Jaxprs.


def is_literal(atom) -> bool:
    """True for a number that stands in an equation itself."""
    return isinstance(atom, core.Literal)


def as_function(jaxpr, constants):
    """A jaxpr and its constants as a function of flat inputs; returns a list."""
    return core.jaxpr_as_fun(core.ClosedJaxpr(jaxpr, constants))


def communicates(closed) -> bool:
    """Whether devices or lanes talk to each other in a closed jaxpr."""
    return any("NamedAxis" in type(effect).__name__ for effect in closed.effects)


def evaluate(closed, args, rule, until=None):
    """Evaluates a closed jaxpr, with a rule in the place of `bind` for each equation.

    Args:
        closed: the jaxpr with its constants.
        args: its inputs, flat.
        rule: `rule(eqn, inputs) -> outputs`, both lists.
        until: the number of equations after which nothing is wanted, not even outputs.

    Returns:
        The list of outputs; an empty one if it stopped before.
    """
    values = dict(zip(closed.jaxpr.invars, args, strict=True))
    values.update(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    read = lambda atom: atom.val if is_literal(atom) else values[atom]
    for eqn in closed.jaxpr.eqns[:until]:
        outputs = rule(eqn, list(map(read, eqn.invars)))
        values.update(zip(eqn.outvars, outputs, strict=True))
    return [] if until is not None else list(map(read, closed.jaxpr.outvars))


def bind(eqn, inputs, **changes):
    """Applies the primitive of an equation to inputs, with some parameters changed."""
    params = eqn.primitive.get_bind_params({**eqn.params, **changes})
    # Before JAX 0.10 functions that are called stood apart from the parameters.
    called, params = params if isinstance(params, tuple) else ((), params)
    outputs = eqn.primitive.bind(*called, *inputs, **params)
    return outputs if eqn.primitive.multiple_results else [outputs]


# Equations that hold jaxprs.


def bodies(eqn) -> list:
    """The jaxprs that an equation runs, closed."""
    if eqn.primitive.name.startswith(_COMBINING):
        return []
    return [body for value in eqn.params.values() for body in _jaxprs(value)]


def _jaxprs(value):
    for item in value if isinstance(value, tuple | list) else (value,):
        if isinstance(item, core.ClosedJaxpr):
            yield item
        elif isinstance(item, core.Jaxpr):
            yield core.ClosedJaxpr(item, ())


def anywhere(jaxpr, holds) -> bool:
    """Whether something holds of an equation of a jaxpr, or of one inside of it."""
    inside = lambda eqn: (body.jaxpr for body in bodies(eqn))
    return any(
        holds(eqn) or any(anywhere(body, holds) for body in inside(eqn))
        for eqn in jaxpr.eqns
    )


def with_bodies(eqn, inputs, change):
    """Applies an equation to inputs with the closed jaxprs it runs changed, one by one."""

    def one(item):
        if isinstance(item, core.ClosedJaxpr):
            return change(item)
        return _opened(change(core.ClosedJaxpr(item, ())))

    def changed(value):
        return (
            type(value)(map(one, value)) if isinstance(value, tuple | list) else one(value)
        )

    held = {k: v for k, v in eqn.params.items() if list(_jaxprs(v))}
    return bind(eqn, inputs, **{k: changed(v) for k, v in held.items()})


def _opened(closed):
    if closed.consts:
        raise NotUnderstood("A jaxpr that is not closed may not hold constants.")
    return closed.jaxpr


def opened(eqn):
    """The body of a call that may be evaluated in its place; None for all else."""
    if eqn.primitive.name not in (*_JITTED, *_REMATERIALIZED):
        return None
    found = bodies(eqn)
    return found[0] if len(found) == 1 else None


def called(eqn):
    """The body of any call, whatever is said of its derivative; None for all else."""
    if eqn.primitive.name not in (*_JITTED, *_REMATERIALIZED, *_CALLS, *_DERIVED):
        return None
    (body,) = bodies(eqn)
    return body


def is_jitted(eqn) -> bool:
    """True for a call of a jitted function."""
    return eqn.primitive.name in _JITTED


def inlined(eqn):
    """The body of a jitted call without shardings of its own; None for all else."""
    if not is_jitted(eqn):
        return None
    shardings = *_parameter(eqn, "in_shardings"), *_parameter(eqn, "out_shardings")
    plain = all(type(s).__name__ == "UnspecifiedValue" for s in shardings)
    return opened(eqn) if plain else None


def jitted_name(eqn) -> str:
    """The name of the function that a jitted call runs; empty for all else."""
    return str(_parameter(eqn, "name")) if is_jitted(eqn) else ""


def tag(eqn):
    """The name that `checkpoint_name` gave to a value; None for all other equations."""
    return _parameter(eqn, "name") if eqn.primitive.name == "name" else None


class Scan(NamedTuple):
    """A loop of known length; its inputs: constants, carries, what is stepped through."""

    body: Any
    constants: int
    carries: int
    length: int


def scan(eqn) -> Scan | None:
    """The loop that an equation is; None for all else."""
    if eqn.primitive.name != "scan":
        return None
    (body,) = bodies(eqn)
    inner = body.jaxpr
    # What is stepped through, or stacked up, has one axis more outside than inside.
    pairs = lambda outer, inner: zip(outer, inner, strict=True)
    stepped = [v for v, w in pairs(eqn.invars, inner.invars) if _ndim(v) > _ndim(w)]
    stacked = [v for v, w in pairs(eqn.outvars, inner.outvars) if _ndim(v) > _ndim(w)]
    carries = len(eqn.outvars) - len(stacked)
    through = [*stepped, *stacked]
    length = through[0].aval.shape[0] if through else _parameter(eqn, "length")
    return Scan(body, len(eqn.invars) - carries - len(stepped), carries, length)


def is_reversed(eqn) -> bool:
    """Whether a loop of known length begins at the end."""
    return bool(_parameter(eqn, "reverse"))


def _ndim(atom) -> int:
    return len(atom.aval.shape)


def transparent(eqn) -> list:
    """The bodies of jitted calls, scans and branches, which `rebuilt` can take apart."""
    return bodies(eqn) if eqn.primitive.name in (*_JITTED, "scan", "cond") else []


def loop_body(eqn):
    """The body of a loop of unknown length; None for all else."""
    return _parameter(eqn, "body_jaxpr") if eqn.primitive.name == "while" else None


def rebuilt(eqn, inputs, run):
    """An equation made anew, each of its `transparent` bodies run by `run(body, inputs)`.

    What `run` closes over is hoisted, as out of any function that JAX traces.
    """
    found = transparent(eqn)
    if is_jitted(eqn):
        return run(*found, inputs)
    if scan(eqn) is None:
        index, *given = inputs
        branches = [lambda *given, body=body: run(body, given) for body in found]
        return jax.lax.switch(index, branches, *given)
    return stepped(eqn, inputs, lambda body, given, _: (run(body, given), ()), ())[0]


def stepped(eqn, inputs, run, given):
    """A loop of known length made anew, which takes and returns more at each step.

    Args:
        eqn: a loop that is a `scan`.
        inputs: its inputs.
        run: `run(body, inputs, given) -> outputs, more`, for one step.
        given: pytree of arrays with an axis of steps in front.

    Returns:
        The outputs, and what was returned more, stacked by steps.
    """
    loop: Any = scan(eqn)
    constants, first = inputs[: loop.constants], loop.constants + loop.carries

    def step(carry, x):
        x, given = x
        made, more = run(loop.body, [*constants, *carry, *x], given)
        return made[: loop.carries], (made[loop.carries :], more)

    reverse, unroll = _parameter(eqn, "reverse"), _parameter(eqn, "unroll")
    carry, steps = inputs[loop.constants : first], (inputs[first:], given)
    found = jax.lax.scan(step, carry, steps, loop.length, reverse, unroll)
    carry, (stacked, more) = found
    return [*carry, *stacked], more


class Turns(NamedTuple):
    """A loop, of known length or not, and which inputs are the constants of its body."""

    body: Any
    first: int
    constants: int
    length: int  # 0 where nobody knows


def turns(eqn) -> Turns | None:
    """The loop that an equation is; None for all else."""
    if (loop := scan(eqn)) is not None:
        return Turns(loop.body, 0, loop.constants, loop.length)
    if (body := loop_body(eqn)) is not None:
        of_condition = _parameter(eqn, "cond_nconsts")
        return Turns(body, of_condition, _parameter(eqn, "body_nconsts"), 0)
    return None


def turned(eqn, inputs, turn):
    """A loop made anew, each of its turns by `turn(inputs)`, the constants in front."""
    if scan(eqn) is not None:
        return stepped(eqn, inputs, lambda _, given, __: (turn(given), ()), ())[0]
    loop: Any = turns(eqn)
    condition = _parameter(eqn, "cond_jaxpr")
    asked, start = inputs[: loop.first], loop.first + loop.constants
    goes_on = as_function(condition.jaxpr, condition.consts)
    return jax.lax.while_loop(
        lambda carry: goes_on(*asked, *carry)[0],
        lambda carry: turn([*inputs[loop.first : start], *carry]),
        inputs[start:],
    )


# Where equations come from, and when two are the same.


def line(eqn) -> str:
    """The user's line that an equation comes from, empty where it is not known."""
    found = source_info_util.summarize(eqn.source_info)
    return "" if found == "<unknown>" else found


def is_of_jax(closed) -> bool:
    """Whether JAX wrote what a call runs: its lines are of whoever called it first."""
    source = getattr(closed.jaxpr.debug_info, "func_src_info", None)
    return any(str(root) in str(source) for root in jax.__path__)


def scopes(eqn) -> str:
    """The named scopes around an equation: the path of a Flax linen module."""
    return str(eqn.source_info.name_stack)


def fingerprint(eqn):
    """What an equation does to its inputs, as a key; None where that cannot be told."""
    if eqn.effects:
        return None
    key = (eqn.primitive, *sorted(eqn.params.items(), key=lambda item: item[0]))
    try:
        hash(key)
    except TypeError:
        return None
    return key


# Products.


class Window(NamedTuple):
    """What slides over an operand, axis by axis; padding is a pair for each."""

    size: tuple
    strides: tuple
    padding: tuple
    base_dilation: tuple
    dilation: tuple


class Convolution(NamedTuple):
    """What a convolution does; its window is that of (batch, space, features)."""

    numbers: Any  # where the axes are
    window: Window
    groups: int
    batch_groups: int


def slides(eqn) -> bool:
    """Whether an equation, or its gradient, slides a window over an operand."""
    pools = "reduce_window_sum", "reduce_window_max", "select_and_scatter_add"
    return eqn.primitive.name in ("conv_general_dilated", *pools)


def convolution(eqn) -> Convolution | None:
    """What a convolution does; None for all else."""
    if eqn.primitive.name != "conv_general_dilated":
        return None
    numbers = _parameter(eqn, "dimension_numbers")
    kernel = eqn.invars[1].aval.shape
    over = lambda name, still: (still, *_parameter(eqn, name), still)
    window = Window(
        (1, *(kernel[i] for i in numbers.rhs_spec[2:]), 1),
        over("window_strides", 1),
        over("padding", (0, 0)),
        over("lhs_dilation", 1),
        over("rhs_dilation", 1),
    )
    groups, batch_groups = (
        _parameter(eqn, f"{of}_group_count") for of in ("feature", "batch")
    )
    return Convolution(numbers, window, groups, batch_groups)


def convolved(eqn, inputs, numbers, **changes):
    """A convolution of inputs in another layout."""
    return bind(eqn, inputs, dimension_numbers=numbers, **changes)[0]


def multiplied(eqn, operand, matrix):
    """A product in the place of a convolution, over the last axis of its operand."""
    return jax.lax.dot_general(
        operand,
        matrix,
        (((operand.ndim - 1,), (0,)), ((), ())),
        precision=_parameter(eqn, "precision"),
        preferred_element_type=_parameter(eqn, "preferred_element_type"),
    )


def is_product(eqn) -> bool:
    """Whether an equation multiplies with a kernel."""
    return eqn.primitive.name in ("dot_general", "conv_general_dilated")


def rows(eqn) -> int | None:
    """How many rows a kernel is multiplied with whose summed axes are not in front.

    None for all but products without batches of such a kernel, the second factor.
    """
    if eqn.primitive.name != "dot_general":
        return None
    (left, right), batches = _parameter(eqn, "dimension_numbers")
    if any(batches) or tuple(right) == tuple(range(len(right))):
        return None
    shape = eqn.invars[0].aval.shape
    return math.prod(n for i, n in enumerate(shape) if i not in left)


def turned_round(eqn, kernel):
    """The second factor of a product, its summed axes in front."""
    (_, axes), _ = _parameter(eqn, "dimension_numbers")
    others = (i for i in range(kernel.ndim) if i not in axes)
    return kernel.transpose(*axes, *others)


def multiplied_turned(eqn, inputs):
    """A product whose second factor was turned round."""
    (axes, _), batches = _parameter(eqn, "dimension_numbers")
    return bind(eqn, inputs, dimension_numbers=((axes, tuple(range(len(axes)))), batches))


def size(variable) -> int:
    """The bytes of a value."""
    return variable.aval.size * variable.aval.dtype.itemsize


def summed_window(eqn) -> Window | None:
    """The window over which an equation sums; None for all else."""
    if eqn.primitive.name != "reduce_window_sum":
        return None
    around = _parameter(eqn, "base_dilation"), _parameter(eqn, "window_dilation")
    return Window._make((*_sliding(eqn), *around))


def routed_window(eqn) -> Window | None:
    """The window over which numbers are put where a maximum was; None for all else."""
    if eqn.primitive.name != "select_and_scatter_add":
        return None
    if str(_parameter(eqn, "select_prim")) != "ge":
        return None
    still = (1,) * _ndim(eqn.outvars[0])
    return Window._make((*_sliding(eqn), still, still))


def _sliding(eqn) -> tuple:
    names = "window_dimensions", "window_strides", "padding"
    return tuple(_parameter(eqn, name) for name in names)


def summed_axes(eqn) -> tuple | None:
    """The axes over which an equation sums; None for all else."""
    return tuple(_parameter(eqn, "axes")) if eqn.primitive.name == "reduce_sum" else None


def terms(eqn) -> int:
    """The flops for each number of a sum of products, or over a window; else 0."""
    if eqn.primitive.name == "dot_general":
        (contracted, _), _ = _parameter(eqn, "dimension_numbers")
        shape = eqn.invars[0].aval.shape
        return 2 * math.prod(shape[i] for i in contracted)
    if (found := convolution(eqn)) is not None:
        kernel = eqn.invars[1].aval.shape
        return 2 * math.prod(kernel) // max(kernel[found.numbers.rhs_spec[0]], 1)
    if (window := summed_window(eqn)) is not None:
        return math.prod(window.size)
    return 0


# What JAX keeps.


# One for the process: JAX wants them to be made when modules are imported.
_APART = jax.make_user_context() if hasattr(jax, "make_user_context") else None


def traced_apart(key: str):
    """A context in which jitted functions are traced anew, once for each key."""
    if _APART is not None:
        return _APART(key)
    # JAX 0.7 has no context of users; metadata, which nothing reads, part traces as well.
    from jax.experimental.xla_metadata import set_xla_metadata

    return set_xla_metadata(igjax=key)


# Where the elements of a result come from.


def looked_up(eqn):
    """The axes of a gather's result that its indices run over; None for all else."""
    if eqn.primitive.name != "gather":
        return None
    numbers = _parameter(eqn, "dimension_numbers")
    return [i for i in range(_ndim(eqn.outvars[0])) if i not in numbers.offset_dims]


def contracted(eqn):
    """The axes of the first factor that a product sums over; None where it has batches."""
    if eqn.primitive.name != "dot_general":
        return None
    (axes, _), batches = _parameter(eqn, "dimension_numbers")
    return None if any(batches) else tuple(axes)


# Settings, and axes in scope.


_HURRY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
_HURRIES = ({**_HURRY, "xla_cpu_use_fusion_emitters": False}, _HURRY)  # old and new JAX


def in_a_hurry(function):
    """Compiles a function of small arrays without optimizing it, where XLA knows how."""
    ways = [jax.jit(function, compiler_options=options) for options in _HURRIES]
    plain = jax.jit(function)

    def run(*args):
        while ways and jax.default_backend() == "cpu":
            try:
                return ways[0](*args)
            except jax.errors.JaxRuntimeError:  # options that this XLA does not have
                del ways[0]
        return plain(*args)

    return run


def in_x64():
    """A context in which JAX computes in float64, whatever its setting outside."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    experimental = importlib.import_module("jax.experimental")  # its home before JAX 0.8
    return experimental.enable_x64()


def under_named_axes() -> bool:
    """True under a named axis, whose size a trace may contain; or where nobody can tell."""
    for room in (core, jax.core):  # it has moved
        if names := getattr(room, "unsafe_get_axis_names_DO_NOT_USE", None):
            return bool(names())
    return True


def varying(tree, like):
    """Marks every leaf as varying over the manual mesh axes that `like` varies over.

    Inside `shard_map` types say over which axes a value differs between devices; what a
    loop carries must have the type that its body returns. Elsewhere this does nothing.
    """
    axes = frozenset().union(*map(_manual_axes, jax.tree.leaves(like)))

    def leaf(a):
        missing = tuple(sorted(axes - _manual_axes(a)))
        return _as_varying(a, missing) if missing else a

    return jax.tree.map(leaf, tree) if axes else tree


def _as_varying(a, axes: tuple):
    if hasattr(jax.lax, "pcast"):
        return jax.lax.pcast(a, axes, to="varying")
    pvary = vars(jax.lax)["pvary"]  # its name in JAX 0.7
    return pvary(a, axes)


def _manual_axes(a) -> frozenset:
    return _axes_of(a if isinstance(a, jax.ShapeDtypeStruct) else jax.typeof(a))


def _axes_of(kind) -> frozenset:
    if (manual := getattr(kind, "manual_axis_type", None)) is not None:
        return manual.varying
    return getattr(kind, "vma", None) or frozenset()  # its name before JAX 0.10


def shape_of(aval) -> jax.ShapeDtypeStruct:
    """The shape, dtype, mesh and manual axes of an abstract value, to trace with."""
    where = {}
    if _axes_of(aval):
        name = "manual_axis_type" if hasattr(aval, "manual_axis_type") else "vma"
        where = {"sharding": aval.sharding, name: getattr(aval, name)}
    elif _explicit_mesh(aval) is not None:
        where = {"sharding": aval.sharding}
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, **where)


def shapes(function, *args):
    """What `jax.eval_shape` returns, with all that types say: meshes, and axes of them."""
    closed, output = jax.make_jaxpr(function, return_shape=True)(*args)
    avals = map(shape_of, closed.out_avals)
    return jax.tree.unflatten(jax.tree.structure(output), avals)


# Meshes whose axes are part of types.


def in_mesh_of(tree):
    """A context in which the explicit mesh is in use that arrays are spread over.

    JAX knows it from their types alone, but for what is made on the way: it batches loops
    and calls only where their mesh is in use.
    """
    if not jax.sharding.get_abstract_mesh().empty:
        return contextlib.nullcontext()
    kinds = (jax.typeof(a) for a in jax.tree.leaves(tree) if isinstance(a, jax.Array))
    mesh = next((m for m in map(_explicit_mesh, kinds) if m is not None), None)
    return contextlib.nullcontext() if mesh is None else _use(mesh)


def spread_like(a, like, lead: int):
    """Spreads an array over an explicit mesh as `like`, whose axes follow `lead` more."""
    kind = like if isinstance(like, jax.ShapeDtypeStruct) else jax.typeof(like)
    if _explicit_mesh(kind) is None or not any(kind.sharding.spec):
        return a
    return _reshard(a, *[None] * lead, *kind.sharding.spec)


def sharing(function):
    """The same function of a tree, whose batches are shared between devices.

    Where `jax.vmap` maps it over a batch that is spread over axes of an explicit mesh,
    each device applies it to its own examples. So it must be for a loop, whose trips
    depend on all examples: split by types, each trip would wait for all devices.
    """

    def apply(tree):
        leaves, structure = jax.tree.flatten(tree)
        flat = lambda *leaves: function(structure.unflatten(leaves))
        return _shared(flat)(*leaves)

    return apply


def _shared(function):
    @custom_vmap
    def run(*leaves):
        return function(*leaves)

    @run.def_vmap
    def _(axis_size, in_batched, *leaves):
        del axis_size  # inside, it is that of a share
        mapped = _shared(jax.vmap(function, [0 if b else None for b in in_batched]))
        out = _shares(mapped, in_batched, leaves)
        return out, jax.tree.map(lambda _: True, out)

    return run


def _shares(function, batched, arrays):
    """Applies a function to the shares of a batch, if a mesh in its type has some."""
    of_batch = [jax.typeof(a) for a, b in zip(arrays, batched, strict=True) if b]
    names = [k.sharding.spec[0] for k in of_batch if _explicit_mesh(k) is not None]
    names = next(filter(None, names), None)
    if names is None:
        return function(*arrays)
    shared, whole = jax.sharding.PartitionSpec(names), jax.sharding.PartitionSpec()
    placed = [
        _reshard(a, names, *jax.typeof(a).sharding.spec[1:]) if b else a
        for a, b in zip(arrays, batched, strict=True)
    ]
    return jax.shard_map(
        function,
        mesh=next(filter(None, map(_explicit_mesh, of_batch))),
        in_specs=tuple(shared if b else whole for b in batched),
        out_specs=shared,
        axis_names=set(names if isinstance(names, tuple) else (names,)),
        check_vma=False,
    )(*placed)


def whole(tree):
    """Arrays on all devices of an explicit mesh, wherever they were spread."""
    spread = lambda a: _explicit_mesh(jax.typeof(a)) and any(jax.typeof(a).sharding.spec)
    return jax.tree.map(lambda a: _reshard(a) if spread(a) else a, tree)


def _reshard(a, *names):
    reshard = getattr(jax, "reshard", None) or vars(jax.sharding)["reshard"]
    return reshard(a, jax.sharding.PartitionSpec(*names))


def are_spread(arrays) -> bool:
    """Whether any array is spread over an explicit mesh, but for a batch in front."""
    kinds = [jax.typeof(a) for a in arrays if isinstance(a, jax.Array)]
    return any(_explicit_mesh(k) is not None and any(k.sharding.spec) for k in kinds)


def are_mapped(traced) -> bool:
    """Whether `jax.vmap` is what is done with values first, of all transformations."""
    kinds = {type(a).__name__ for a in traced}
    known = {"BatchTracer", "DynamicJaxprTracer", "JitTracer"}
    return "BatchTracer" in kinds and kinds <= known


def mapped(tree) -> int:
    """Over how many examples `jax.vmap` maps what is traced here, as far as that is seen.

    A `jit` inside of the `vmap` hides it: that is traced once, for all that is around it.
    """
    return if_understood(_mapped, tree, otherwise=1)


def _mapped(tree) -> int:
    sizes = {}
    for value in jax.tree.leaves(tree):
        while isinstance(value, jax.core.Tracer):
            around: Any = value
            if type(value).__name__ == "BatchTracer":
                sizes[id(around._trace)] = around.val.shape[around.batch_dim]
                value = around.val
            else:
                value = getattr(around, "primal", None)
    return max(1, math.prod(sizes.values()))  # an empty batch is as good as one


def on_mesh(tree) -> bool:
    """Whether the type of an array speaks of an explicit mesh."""
    arrays = (a for a in jax.tree.leaves(tree) if isinstance(a, jax.Array))
    return any(_explicit_mesh(jax.typeof(a)) is not None for a in arrays)


def is_explicit(tree) -> bool:
    """Whether an explicit mesh is in use, or in the type of an array."""
    return jax.sharding.AxisType.Explicit in _axis_types() or on_mesh(tree)


def is_manual() -> bool:
    """Whether this is of one device, inside `jax.shard_map`."""
    return jax.sharding.AxisType.Manual in _axis_types()


def _axis_types() -> tuple:
    return jax.sharding.get_abstract_mesh().axis_types or ()


def _use(mesh):
    if hasattr(jax.sharding, "use_abstract_mesh"):
        return jax.sharding.use_abstract_mesh(mesh)
    return importlib.import_module("jax._src.mesh").use_abstract_mesh(mesh)  # JAX 0.7


def _explicit_mesh(aval):
    """The mesh in the type of an array, if it has axes that types speak of."""
    mesh = getattr(getattr(aval, "sharding", None), "mesh", None)
    types = getattr(mesh, "axis_types", None) or ()
    return mesh if jax.sharding.AxisType.Explicit in types else None
