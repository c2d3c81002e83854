"""From the model that a user has to the `f(x, *args) -> scalar` that igjax explains.

Each bridge is a function from function to function, so that they compose:
`select(single(model.apply_fn))` explains one class of a batch-first model.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from igjax import _checks
from igjax._program.jax_internals import in_x64
from igjax._program.watched import allowing
from igjax._tree import wide_labels

__all__ = ["contrast", "in_float64", "in_training_mode", "select", "single"]


def single(g) -> Callable:
    """Makes a batch-first function one of a single example.

    Use it for models that insist on a batch axis: x gets one of size 1, every array of
    the output loses it again. Other arguments pass through untouched.

    Args:
        g: `g(batch, *args) -> output`, with the batch on the first axis of each leaf of
            both.

    Returns:
        `f(x, *args) -> output` for one example.

    Raises:
        ValueError: while tracing, if the output has no batch axis of size 1.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> igjax.single(lambda batch: batch.sum(axis=1))(jnp.ones(3))
        Array(3., dtype=float32)
    """
    _checks.function("single", "g", g)

    def f(x, *args):
        output = g(jax.tree.map(lambda a: jnp.asarray(a)[None], x), *args)
        return jax.tree.map(_first, output)

    return named_after(f, g)


def in_float64(attribute) -> Callable:
    """Makes an attribution compute in float64, whatever JAX's global setting.

    The way out of RESOLUTION and ROUNDING: what is floating among the arguments, arrays of
    x, baseline and parameters, is cast to float64, and so is what f makes of them unless
    it casts by itself. Arrays that f closes over are promoted where they meet the others.

    Args:
        attribute: an attribution `(x, baseline, *args) -> Attribution` of any method, or
            its `jax.vmap`.

    Returns:
        A function of the same arguments. Its results are float64, also outside. Where
        JAX's setting is float32, `jit` goes inside: `in_float64(jax.jit(attribute))`.

    Raises:
        TypeError: if attribute is not callable.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> f = lambda x: jax.nn.sigmoid(1e9 * (x.sum() - 1.0))
        >>> attribute = igjax.in_float64(igjax.integrated_gradients(f))
        >>> result = attribute(jnp.array([1.0, 3.0]), jnp.zeros(2))
        >>> result.values.dtype.name, bool(result.converged)
        ('float64', True)
    """
    _checks.function("in_float64", "attribute", attribute)

    def wide(*args):
        with in_x64():
            return attribute(*jax.tree.map(_doubled, args))

    return named_after(wide, attribute)


def _doubled(a):
    """A floating or complex array in double precision; anything else as it is."""
    dtype = getattr(a, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
        return a
    complex_ = jnp.issubdtype(dtype, jnp.complexfloating)
    return jnp.asarray(a).astype(jnp.complex128 if complex_ else jnp.float64)


def _first(a):
    if np.ndim(a) == 0 or a.shape[0] != 1:
        raise ValueError(
            "single: the output must keep the batch axis of size 1 in front, got shape "
            f"{np.shape(a)}. If g takes one example already, use it as it is."
        )
    return a[0]


def select(g) -> Callable:
    """Makes a function with a vector of outputs one of a single output, chosen by label.

    The label is an argument, so one compilation serves all classes. Take the label fixed
    at x, a predicted class too: a maximum taken along the path is another function. The
    log-probability of a class is `select(lambda x, *args: log_softmax(g(x, *args)))` with
    `jax.nn.log_softmax`; the loss is minus that.

    Args:
        g: `g(x, *args) -> outputs` of shape (classes,), for one example.

    Returns:
        `f(x, label, *args) -> scalar`, the output of that label: an integer scalar in
        [0, classes). A label out of range is never clamped: its score is NaN, and the
        result says so; a concrete one is an error.

    Raises:
        ValueError: if the outputs are no vector, or a concrete label is out of range.
        TypeError: if the label is no integer.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> f = igjax.select(lambda x: 2.0 * x)
        >>> attribute = igjax.integrated_gradients(f)
        >>> attribute(jnp.array([1.0, 3.0]), 0.0, 1).values.round(5)
        Array([0., 6.], dtype=float32)
    """
    _checks.function("select", "g", g)
    choose, check = _chosen("select", g)

    def f(x, label, *args):
        (output,) = choose(x, (label,), args)
        return output

    def validate(x, label, *args):
        del x, args  # the arguments of f; only the label may be out of range
        check(label)

    # igjax calls it with the concrete arguments of an attribution.
    f.validate = validate  # pyright: ignore[reportFunctionMemberAccess]
    return named_after(f, g)


def contrast(g) -> Callable:
    """Makes a function with a vector of outputs the difference of two, chosen by labels.

    Use it to ask why this class rather than that one: of logits, the difference is that
    of log-probabilities, and what raises both classes alike cancels.

    Args:
        g: `g(x, *args) -> outputs` of shape (classes,), for one example.

    Returns:
        `f(x, label, other, *args) -> scalar`, the output of the label minus that of the
        other; labels are as in `select`.

    Raises:
        ValueError: as `select`.
        TypeError: as `select`.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> f = igjax.contrast(lambda x: 2.0 * x)
        >>> attribute = igjax.integrated_gradients(f)
        >>> attribute(jnp.array([1.0, 3.0]), 0.0, 1, 0).values.round(5)
        Array([-2.,  6.], dtype=float32)
    """
    _checks.function("contrast", "g", g)
    choose, check = _chosen("contrast", g)

    def f(x, label, other, *args):
        one, another = choose(x, (label, other), args)
        return one - another

    def validate(x, label, other, *args):
        del x, args
        check(label, other)

    f.validate = validate  # pyright: ignore[reportFunctionMemberAccess]
    return named_after(f, g)


def _chosen(caller: str, g):
    """How outputs of g are chosen by labels, and how concrete labels are checked."""
    classes = []

    def choose(x, labels, args):
        for label in labels:
            _check_label_type(caller, label)
        outputs = jnp.asarray(g(x, *args))
        if np.ndim(outputs) != 1:
            raise ValueError(
                f"{caller}: g must return a vector of outputs, got {np.shape(outputs)}. "
                f"For a batch-first model use igjax.{caller}(igjax.single(g))."
            )
        classes[:] = outputs.shape
        check(*labels)
        labels = [wide_labels(label) for label in labels]
        inside = [(label >= 0) & (label < len(outputs)) for label in labels]
        at = [jnp.where(i, label, 0) for i, label in zip(inside, labels, strict=True)]
        return [jnp.where(i, outputs[k], jnp.nan) for i, k in zip(inside, at, strict=True)]

    def check(*labels):
        for label in labels if classes else ():
            _check_label(caller, label, classes[0])

    return choose, check


def _check_label_type(caller: str, label) -> None:
    kind = getattr(label, "dtype", None) or np.asarray(label).dtype
    if not jnp.issubdtype(kind, jnp.integer) or np.ndim(label):
        got = f"{kind}{list(label.shape)}" if hasattr(label, "shape") else repr(label)
        raise TypeError(
            f"{caller}: the label must be an integer scalar, got {got}. One example has "
            "one label, f(x, label, *args); a batch of labels goes through "
            "jax.vmap(attribute)."
        )


def _check_label(caller: str, label, classes: int) -> None:
    if not isinstance(label, Tracer) and not 0 <= int(label) < classes:
        raise ValueError(
            f"{caller}: the label must be in [0, {classes}), got {label}. g returns "
            f"{classes} outputs."
        )


def in_training_mode(g) -> Callable:
    """Says that a function is meant to be explained in training mode.

    A model whose dropout is on, or that normalizes by the statistics of a batch of one, is
    an error, since it is hardly ever what was meant. Where it is, as in Monte Carlo
    dropout, pass the random key in the arguments, and one mask holds for the whole path;
    `jax.vmap` over keys shows what depends on the mask.

    Args:
        g: `g(x, *args) -> output`, which calls a model in training mode.

    Returns:
        `f(x, *args) -> output`, the same function.

    Raises:
        TypeError: if g is no function.

    Example:
        >>> import flax.linen as nn, igjax, jax, jax.numpy as jnp
        >>> drop = nn.Dropout(0.5, deterministic=False)
        >>> f = lambda x, key: drop.apply({}, x, rngs={"dropout": key}).sum()
        >>> attribute = igjax.integrated_gradients(igjax.in_training_mode(f))
        >>> keys = jax.random.split(jax.random.key(0), 3)
        >>> jax.vmap(attribute, (None, None, 0))(jnp.ones(4), 0.0, keys).values.shape
        (3, 4)
    """
    _checks.function("in_training_mode", "g", g)

    def f(x, *args):
        with allowing():
            return g(x, *args)

    return named_after(f, g)


def named_after(f, g):
    """Names f after g for tracebacks; unlike functools.wraps, keeps its own signature."""
    inner = getattr(g, "__qualname__", type(g).__qualname__)
    f.__qualname__ = f"{f.__qualname__.partition('.')[0]}({inner})"
    return f
