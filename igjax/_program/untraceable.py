"""What to say where JAX cannot trace a function: which argument, where, what to do.

Arguments are traced, so that one program serves all their values; a number that shapes
the program (a size, a count, the side of a branch) cannot be. JAX says so in the words of
whatever met it. Here f is traced again with numbers known, which tells whose value it
needed: only after it has failed, and whatever the error was.
"""

import inspect
import linecache
import pathlib
import re
import sysconfig
import traceback

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

_ROOTS = tuple(
    str(path)
    for path in (
        pathlib.Path(__file__).parents[1],
        *map(pathlib.Path, jax.__path__),
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("purelib"),
    )
)
_OF_TRACING = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)


def explained(
    caller: str, error: Exception, function, leaves, names, inputs: int
) -> Exception:
    """The error to raise in the place of one that tracing has met.

    Args:
        caller: the public function.
        error: what was raised.
        function: what could not be traced, a function of the leaves.
        leaves: arrays and numbers, flat.
        names: what each of them is called.
        inputs: how many leaves, in front, are those of x.

    Returns:
        A TypeError that names the arguments whose values are needed; else the error
        itself, which says where it was met if it is one of tracing.
    """
    needed, where = _needed(function, leaves, inputs), _place(error)
    if needed:
        which = " and ".join(names[k] for k in needed)
        return TypeError(
            f"{caller}: f must not need the value of what is traced, but it needs that of "
            f"{which}{where}. Numbers in *args are traced, so that one program serves all "
            "their values. Bind those that shape the program (sizes, counts, branches): "
            f"{_bound([names[k] for k in needed], [leaves[k] for k in needed])}."
        )
    if isinstance(error, _OF_TRACING) and not str(error).startswith(caller):
        told = re.sub(r"the function fresh at \S+ for \w+", "f", str(error))
        told = re.sub(r"leaves\[(\d+)\]", lambda k: _name(names, int(k[1])), told)
        error.args = (
            f"{caller}: f must be a function that JAX can trace, but it needs a value "
            f"that is not known yet{where}. Use jax.numpy there, jnp.where or jax.lax.cond "
            "in the place of if; what JAX cannot trace at all is explained without "
            f"gradients, by igjax.perturbation.\n\n{told}",
        )
    return error


def _bound(names: list[str], values) -> str:
    shown = lambda a: "..." if isinstance(a, Tracer) else repr(np.asarray(a).item())
    known = ", ".join(f"{n}={shown(a)}" for n, a in zip(names, values, strict=True))
    if all(map(str.isidentifier, names)):
        return f"functools.partial(f, {known})"
    return f"let f close over them, {known}"


def _name(names: list[str], k: int) -> str:
    return names[k] if k < len(names) else f"leaves[{k}]"


def argument_names(function, bound, args) -> list[str]:
    """What the leaves of bound and other arguments are called, x between them."""
    positional, keywords = bound
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    plain = [
        p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]

    def of(position: int, tree):
        known = position < len(plain)
        name = plain[position] if known else f"args[{position - len(positional) - 1}]"
        return [name + path for path in paths_of(tree)]

    first = [name for i, tree in enumerate(positional) for name in of(i, tree)]
    named = [
        key + path for key, tree in sorted(keywords.items()) for path in paths_of(tree)
    ]
    shift = len(positional) + 1
    return [
        *first,
        *named,
        *(n for i, tree in enumerate(args) for n in of(i + shift, tree)),
    ]


def paths_of(tree) -> list[str]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [jax.tree_util.keystr(path) for path, _ in leaves]


def _needed(function, leaves, inputs: int) -> list[int]:
    """The numbers without whose values the function cannot be traced.

    Of those that are traced themselves (under `jit` or `vmap`) 1 is tried.
    """
    numbers = [k for k, a in enumerate(leaves) if k >= inputs and _is_number(a)]

    def fails(known) -> bool:
        rest = [a for k, a in enumerate(leaves) if k not in known]

        def partly(*rest):
            given, some = iter(rest), lambda a: 1 if isinstance(a, Tracer) else a
            known_or_given = (
                some(a) if k in known else next(given) for k, a in enumerate(leaves)
            )
            return function(*known_or_given)

        try:
            jax.eval_shape(partly, *rest)
        except Exception:  # whatever f raises
            return True
        return False

    if not numbers or not fails(()) or fails(numbers):
        return []
    alone = [k for k in numbers if fails([i for i in numbers if i != k])]
    return alone or numbers


def _is_number(a) -> bool:
    return not np.ndim(a) and jnp.issubdtype(jnp.result_type(a), np.number)


def _place(error: Exception) -> str:
    """The user's line that an error comes from, empty where there is none."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(_ROOTS):
            line = (
                frame.line or linecache.getline(frame.filename, frame.lineno or 0)
            ).strip()
            shown = f", `{line}`" if line else ""
            return f", at {frame.filename}:{frame.lineno}{shown}"
    return ""
