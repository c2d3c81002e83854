"""From the model that a user has to the `f(x, *args) -> scalar` that igjax explains.

Each bridge is a function from function to function, so that they compose:
`select(single(model.apply_fn))` explains one class of a batch-first model.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from igjax import _checks, _labels
from igjax._program.jax_internals import in_x64
from igjax._program.watched import allowing

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
    r"""Makes a function with many outputs one of a single output, chosen by label.

    $$f(x, \mathrm{label}) = g(x)_{\mathrm{label}}$$

    The label is an argument, so one compilation serves all classes. Take the label fixed
    at x, a predicted class too: a maximum taken along the path is another function. The
    log-probability of a class is `select(lambda x, *args: log_softmax(g(x, *args)))` with
    `jax.nn.log_softmax`; the loss is minus that.

    Args:
        g: `g(x, *args) -> outputs`, for one example: an array of any shape, or dicts and
            tuples of them.

    Returns:
        `f(x, label, *args) -> scalar`, the output of that label: an integer for outputs
        of shape (classes,), and else a tuple, or an array, with an integer for each axis:
        (position, class) of a language model, (row, column, class) of a segmentation.
        What is in a dict or a tuple comes after its key or place, ("logits", 3). Negative
        integers count from the end. A label out of range is never clamped: its score is
        NaN, and the result says so; one that is known is an error.

    Raises:
        ValueError: if the label does not fit the outputs, or is known to be out of range.
        TypeError: if the label is no integer, nor made of them.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> f = igjax.select(lambda x: 2.0 * x)
        >>> attribute = igjax.integrated_gradients(f)
        >>> attribute(jnp.array([1.0, 3.0]), 0.0, 1).values.round(5)
        Array([0., 6.], dtype=float32)

        A position and a class, in one of two outputs:

        >>> g = lambda x: {"logits": jnp.outer(x, jnp.array([1.0, 10.0])), "state": x}
        >>> igjax.select(g)(jnp.array([1.0, 3.0]), ("logits", 1, -1))
        Array(30., dtype=float32)
    """
    _checks.function("select", "g", g)

    def f(x, label, *args):
        (output,) = _labels.chosen("select", f, g(x, *args), (label,), (x, args))
        return output

    # igjax calls it with the arguments of an attribution, which are known.
    f.validate = lambda x, label, *args: _labels.check("select", f, (label,), (x, args))  # pyright: ignore[reportFunctionMemberAccess]
    return named_after(f, g)


def contrast(g) -> Callable:
    """Makes a function with many outputs the difference of two, chosen by labels.

    Use it to ask why this class rather than that one: of logits, the difference is that
    of log-probabilities, and what raises both classes alike cancels.

    Args:
        g: `g(x, *args) -> outputs`, as in `select`.

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

    def f(x, label, other, *args):
        labels = label, other
        one, another = _labels.chosen("contrast", f, g(x, *args), labels, (x, args))
        return one - another

    def validate(x, label, other, *args):
        _labels.check("contrast", f, (label, other), (x, args))

    f.validate = validate  # pyright: ignore[reportFunctionMemberAccess]
    return named_after(f, g)


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
