"""What a caller may pass, checked while tracing: the one home of error texts.

Every message names the function, the leaf, what must hold, what was got, what to do.
"""

import inspect
import json

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def inputs(caller: str, x, baseline) -> None:
    """Checks that x holds floating arrays and that the baseline fits it.

    Raises:
        TypeError: if a leaf of x is no floating or complex array.
        ValueError: if the baseline does not have the structure and shapes of x, or a
            size of x is symbolic.
    """
    leaves, structure = arrays(caller, "x", x)
    baselines, found = jax.tree.flatten(baseline)
    if found != structure:
        raise ValueError(
            f"{caller}: baseline must have the structure of x, {structure}, got {found}. "
            "Build it with igjax.baselines.zeros(x), or jax.tree.map over x; if x is a "
            "list of numbers, make it one array with jax.numpy.asarray."
        )
    for (path, leaf), b in zip(leaves, baselines, strict=True):
        _fit(caller, jax.tree_util.keystr(path), leaf, b)


def arrays(caller: str, name: str, x):
    """Checks that x holds floating arrays; returns its leaves with paths, and structure.

    Raises:
        TypeError: if a leaf is no floating or complex array.
        ValueError: if there is none, or a size is symbolic.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(x, is_leaf=_is_sparse)
    if not leaves:
        raise ValueError(f"{caller}: {name} must hold at least one array, got {x!r}.")
    for path, leaf in leaves:
        place = name + jax.tree_util.keystr(path)
        _floating(caller, place, leaf)
        _sized(caller, place, np.shape(leaf))
    return leaves, structure


def _floating(caller: str, name: str, leaf) -> None:
    if hasattr(leaf, "to_numpy") and hasattr(leaf, "columns"):
        raise TypeError(
            f"{caller}: {name} must be an array, got a {type(leaf).__name__}. "
            "Pass frame.to_numpy(dtype='float32'), and keep frame.columns for the names."
        )
    if _is_sparse(leaf):
        dense = "x.toarray()[0]" if hasattr(leaf, "toarray") else "x.todense()"
        raise TypeError(
            f"{caller}: {name} must be a dense array, got a {type(leaf).__name__}. Pass "
            f"{dense}: what is 0 in x counts as well, where the baseline is not."
        )
    if not is_array(leaf):
        raise TypeError(
            f"{caller}: {name} must be a floating or complex array, got "
            f"{type(leaf).__name__}. Convert it with jax.numpy.asarray."
        )
    dtype = _dtype(leaf)
    if not jnp.issubdtype(dtype, jnp.inexact):
        raise TypeError(
            f"{caller}: {name} must be floating or complex, got {dtype}"
            f"{list(np.shape(leaf))}. Cast pixels and counts with .astype('float32'); "
            "labels and token ids go in *args; to attribute to token ids, embed them: "
            "igjax.from_embedding."
        )


def _is_sparse(leaf) -> bool:
    return hasattr(leaf, "todense") and not is_array(leaf)


def _sized(caller: str, name: str, shape) -> None:
    if any(jax.export.is_symbolic_dim(size) for size in shape):
        raise ValueError(
            f"{caller}: the sizes of {name} must be known, got shape {shape}: the program "
            "is chosen by them. Export one function for each size, or pad the examples; "
            "the batch axis, outside of jax.vmap, may be symbolic."
        )


def _fit(caller: str, key: str, leaf, baseline) -> None:
    if not is_array(baseline):
        raise TypeError(
            f"{caller}: baseline{key} must be an array or a number, got "
            f"{type(baseline).__name__}. Pass 0.0, igjax.baselines.zeros(x) or an array."
        )
    if np.shape(baseline) not in ((), np.shape(leaf)):
        rows = np.ndim(baseline) and np.shape(baseline)[1:] == np.shape(leaf)
        mean = " Rows of baselines go to igjax.expected(attribute)." if rows else ""
        raise ValueError(
            f"{caller}: baseline{key} must be a scalar or have the shape of x{key}, "
            f"{np.shape(leaf)}, got {np.shape(baseline)}. Both are one example's; batches "
            f"go through jax.vmap(attribute, in_axes=(0, None, ...)).{mean}"
        )
    complexes = [jnp.issubdtype(_dtype(a), jnp.complexfloating) for a in (leaf, baseline)]
    if complexes == [False, True]:
        raise TypeError(
            f"{caller}: baseline{key} must be real like x{key}, got {_dtype(baseline)}. "
            "Take its real part, or make x complex."
        )


def is_array(leaf) -> bool:
    """True for what JAX can trace as an array: arrays and numbers, but no booleans."""
    if isinstance(leaf, jax.Array):
        return True
    if isinstance(leaf, np.ndarray | np.generic):
        return leaf.dtype.kind not in "OSUMm"
    return isinstance(leaf, int | float | complex) and not isinstance(leaf, bool)


def any_traced(tree) -> bool:
    """True if a leaf is known only while a program is traced."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))


def kind(given) -> np.dtype:
    """The dtype of an array, traced or not, of a number or a list."""
    return getattr(given, "dtype", None) or np.asarray(given).dtype


def _dtype(leaf) -> np.dtype:
    return leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)


def score(caller: str, output, *, scalar: bool) -> None:
    """Checks what f returned, given as a pytree of shapes and dtypes.

    Raises:
        TypeError: if it is not one real floating array.
        ValueError: if it must be a scalar and is none.
    """
    if not isinstance(output, jax.ShapeDtypeStruct):
        raise TypeError(
            f"{caller}: f must return one array, got {type(output).__name__} of "
            f"{jax.tree.structure(output).num_leaves}. Pick the output, as in "
            "lambda x, *args: f(x, *args)[0], or ['logits']."
        )
    got = f"{output.dtype}{list(output.shape)}"
    if jnp.issubdtype(output.dtype, jnp.complexfloating):
        raise TypeError(
            f"{caller}: f must return a real number, got {got}. Attribute its real part, "
            "imaginary part or modulus: jnp.real(f(x)), say."
        )
    if not jnp.issubdtype(output.dtype, jnp.floating):
        raise TypeError(
            f"{caller}: f must return a floating number, got {got}. A predicted class has "
            "no gradient: attribute its logit."
        )
    if output.size == 0:
        raise ValueError(
            f"{caller}: f must return at least one number, got shape {output.shape}."
        )
    if scalar and output.shape != ():
        raise ValueError(
            f"{caller}: f must return a scalar, shape (), got {got}. Choose one output "
            "with igjax.select(f), take a batch axis off with igjax.single(f), or explain "
            "all outputs with igjax.integrated_jacobian(f)."
        )


def point(caller: str, got, start) -> None:
    """Checks that what a path returned is a point of one shape along the path.

    Raises:
        ValueError: if the point has no floating leaves or not the structure of x.
    """
    shapes = [jax.tree.map(lambda a: tuple(a.shape), tree) for tree in (start, got)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{caller}: path(x, baseline, t) must return a point like x, {shapes[0]}, got "
            f"{shapes[1]}. t is a scalar; one call returns one point."
        )


def is_whole(number) -> bool:
    """True for an integer that is no bool."""
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def count(caller: str, name: str, number, least: int = 1, advice: str = "") -> None:
    """Checks a number of things.

    Raises:
        ValueError: if it is no integer, or too small.
    """
    if not (is_whole(number) and number >= least):
        raise ValueError(
            f"{caller}: {name} must be an integer of at least {least}, got {number!r}."
            f"{advice}"
        )


def real(caller: str, x, name: str = "x") -> None:
    """Checks that x has no complex leaf.

    Raises:
        TypeError: if it has.
    """
    leaves = jax.tree.leaves(x)
    if any(jnp.issubdtype(a.dtype, jnp.complexfloating) for a in leaves):
        raise TypeError(
            f"{caller}: {name} must be real, got {[str(a.dtype) for a in leaves]}. "
            "Pass its real and imaginary parts."
        )


def chunk_size(caller: str, size) -> None:
    """Checks the number of nodes that are evaluated side by side.

    Raises:
        ValueError: if it is neither None nor a positive integer.
    """
    if size is not None and not (is_whole(size) and size >= 1):
        raise ValueError(
            f"{caller}: chunk_size must be None or an integer of at least 1, got {size!r}."
        )


def tolerance(caller: str, given) -> None:
    """Checks a tolerance that decides while tracing, and so is one known number.

    Raises:
        TypeError: if it is traced, or no number.
        ValueError: if it is not positive and finite.
    """
    if isinstance(given, Tracer):
        raise TypeError(
            f"{caller}: tolerance must be a number that is known while tracing, got a "
            "traced value. Make it a static argument, jax.jit(..., static_argnames="
            "'tolerance'), and loop over several in Python."
        )
    if not isinstance(given, int | float | np.generic | np.ndarray | jax.Array):
        raise TypeError(f"{caller}: tolerance must be one number, got {given!r}.")
    if np.ndim(given) or not 0 < float(given) < np.inf:
        raise ValueError(f"{caller}: tolerance must be one positive number, got {given!r}.")


def static(caller: str, leaf) -> None:
    """Checks that an argument that is no array, in a tuple, may be part of a key.

    Raises:
        TypeError: if it is not hashable.
    """
    try:
        hash(leaf)
    except TypeError:
        raise TypeError(
            f"{caller}: arguments that are no arrays must be hashable, got {leaf[0]!r}. "
            "Pass a tuple or a frozen dataclass, or close over it."
        ) from None


def rule(caller: str, given) -> None:
    """Checks that a rule is one, and not the number of its nodes.

    Raises:
        TypeError: if it has neither nodes nor a tolerance.
    """
    if not (hasattr(given, "nodes") or hasattr(given, "tolerance")):
        raise TypeError(
            f"{caller}: rule must be a rule, got {given!r}. Pass "
            "igjax.rules.gauss_legendre(n) or igjax.rules.adaptive(tolerance)."
        )


def collectives(caller: str, rule, found: bool) -> None:
    """Checks that an f with collectives is not integrated adaptively.

    Raises:
        ValueError: if it is: devices would call them unequally often, and wait for ever.
    """
    if found and not hasattr(rule, "nodes"):
        raise ValueError(
            f"{caller}: f must not use collectives (psum and the like over a named axis) "
            "with the adaptive rule, whose panels differ between devices. Use a fixed "
            "rule, rules.gauss_legendre(n), or move the collective out of f."
        )


def closure(caller: str, elsewhere: bool) -> None:
    """Checks that f closes over no arrays that are spread over a mesh, within a device.

    Raises:
        ValueError: if it does: there they are of all devices.
    """
    if elsewhere:
        raise ValueError(
            f"{caller}: f must not close over arrays on an explicit mesh where each device "
            "has examples of its own: with the adaptive rule, mapped over a batch that is "
            "spread over the mesh, or inside jax.shard_map. Pass them in *args."
        )


def axis_size(name: str) -> int:
    """The number of devices along the axis that the nodes of a rule are split over.

    Raises:
        ValueError: if no mesh axis of that name is bound.
    """
    try:
        return jax.lax.axis_size(name)
    except NameError:
        raise ValueError(
            f"rules.split: the mesh axis {name!r} must be bound where the rule is used. "
            "Call igjax.sharded(attribute, mesh, None), or in_axes and axis_name for a "
            "batch over another axis, with a mesh that has this one."
        ) from None


def function(caller: str, name: str, given) -> None:
    """Checks that an argument is a function.

    Raises:
        TypeError: if it is none.
    """
    if not callable(given):
        raise TypeError(f"{caller}: {name} must be callable, got {given!r}.")


def unkeyed(caller: str, attribute) -> None:
    """Checks that an attribution to be averaged has its key, if it draws at random.

    Raises:
        TypeError: if its first argument is called key.
    """
    try:
        names = list(inspect.signature(attribute).parameters)
    except (TypeError, ValueError):  # some callables have none
        return
    if names[:1] == ["key"]:
        raise TypeError(
            f"{caller}: attribute must be called as (x, baseline, *args), got one that "
            "takes a key first. Bind its key: "
            f"igjax.{caller}(functools.partial(attribute, key))."
        )


def layer(caller: str, given) -> None:
    """Checks that a layer is named.

    Raises:
        TypeError: if it is no string.
    """
    if not isinstance(given, str):
        raise TypeError(
            f"{caller}: layer must be a name, got {given!r}. "
            "igjax.layer_names(f)(x, *args) lists those there are."
        )


def notes(caller: str, given: dict) -> None:
    """Checks that notes can be written into a file.

    Raises:
        TypeError: if JSON cannot hold them.
    """
    try:
        json.dumps(given)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{caller}: notes must be what JSON can hold, got {given!r}: {error}. "
            "Pass Python's numbers, strings and lists."
        ) from None


def draws(caller: str, draws, least: int, group: int) -> None:
    """Checks a number of random draws that come in groups.

    Raises:
        ValueError: if it is too small, or no multiple of the size of a group.
    """
    if not is_whole(draws) or draws % group or draws < least:
        what = "an integer" if group == 1 else f"a multiple of {group}"
        raise ValueError(
            f"{caller}: draws must be {what}, at least {least}, got {draws!r}."
        )


def is_key(leaf) -> bool:
    """True for typed random keys."""
    kind = getattr(leaf, "dtype", None)
    return kind is not None and jnp.issubdtype(kind, jax.dtypes.prng_key)


def is_one_key(leaf) -> bool:
    """True for one random key, typed or raw."""
    raw = getattr(leaf, "dtype", None) == np.uint32 and np.shape(leaf) == (2,)
    return raw or (is_key(leaf) and leaf.ndim == 0)


def key(caller: str, key) -> None:
    """Checks that the first argument is one random key, typed or raw.

    Raises:
        TypeError: if it is none.
    """
    if not is_one_key(key):
        kind = getattr(key, "dtype", None)
        got = f"{kind}{list(np.shape(key))}" if kind is not None else type(key).__name__
        raise TypeError(
            f"{caller}: the first argument must be a random key, jax.random.key(seed), got "
            f"{got}. It is called as (key, x, baseline, *args)."
        )


def rows(caller: str, x, baselines) -> int:
    """Checks that baselines are rows like x, and returns how many.

    Raises:
        ValueError: if structures or shapes do not fit, or there is no row.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(x)
    found_rows, found = jax.tree.flatten(baselines)
    if found != structure:
        raise ValueError(
            f"{caller}: baselines must have the structure of x, {structure}, got {found}."
        )
    counts = {np.shape(a)[0] if np.ndim(a) else 0 for a in found_rows}
    for (path, leaf), row in zip(leaves, found_rows, strict=True):
        if np.shape(row)[1:] != leaf.shape or not np.ndim(row) or len(counts) > 1:
            raise ValueError(
                f"{caller}: baselines{jax.tree_util.keystr(path)} must be rows like x, of "
                f"shape (rows, *{leaf.shape}) with as many rows in each leaf, got "
                f"{np.shape(row)}. One baseline b is the rows b[None]; to draw baselines "
                "from a sampler, pass sample=..."
            )
    if counts == {0}:
        raise ValueError(f"{caller}: baselines must have at least one row, got none.")
    return counts.pop()
