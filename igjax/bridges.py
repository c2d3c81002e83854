"""From the model that a user has to the `f(x, *args) -> scalar` that igjax explains.

Each bridge is a function from function to function, so that they compose:
`select(single(model.apply_fn))` explains one class of a batch-first model.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from igjax import _checks, _labels
from igjax._program.jax_internals import in_x64

__all__ = ["Embedded", "contrast", "from_embedding", "in_float64", "select", "single"]


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

    return _named(f, g)


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

    return _named(wide, attribute)


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
    return _named(f, g)


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
    return _named(f, g)


class Embedded(NamedTuple):
    """A model of token ids, cut at its embedding.

    Attributes:
        embed: `embed(tokens, *args) -> x`, floating, of shape tokens.shape + (features,).
        f: `f(x, tokens, *args) -> output`, the model with its embedding replaced by x.

    Example:
        >>> import flax.linen as nn, igjax, jax, jax.numpy as jnp
        >>> model = nn.Embed(9, 4)
        >>> params = model.init(jax.random.key(0), jnp.array([1]))
        >>> cut = igjax.from_embedding(lambda tokens, p: model.apply(p, tokens).sum())
        >>> cut.embed(jnp.array([1, 5, 2]), params).shape
        (3, 4)
    """

    embed: Callable
    f: Callable


def from_embedding(g, name: str | None = None) -> Embedded:
    """Cuts an unmodified Flax model of token ids at its `nn.Embed`.

    Token ids have no gradient; their embeddings have. `embed` computes them, and `f`
    runs the model with the output of its Embed replaced. Sum the values over the last
    axis for a score per token: the sum stays complete.

    Args:
        g: `g(tokens, *args) -> output`, which calls a Flax linen model, for one example.
        name: the name of the Embed module, if the model has several (words, positions).

    Returns:
        `Embedded(embed, f)`.

    Raises:
        ImportError: if Flax is not installed.
        ValueError: while tracing, if the model has no Embed of that name, or several and
            no name was given; the message lists the names there are.

    Example:
        >>> import flax.linen as nn, igjax, jax, jax.numpy as jnp
        >>> model = nn.Sequential([nn.Embed(9, 4), nn.tanh, nn.Dense(1)])
        >>> tokens = jnp.array([1, 5, 2])
        >>> params = model.init(jax.random.key(0), tokens)
        >>> embed, f = igjax.from_embedding(lambda tokens, p: model.apply(p, tokens).sum())
        >>> x = embed(tokens, params)
        >>> attribute = igjax.integrated_gradients(f)
        >>> attribute(x, jnp.zeros_like(x), tokens, params).values.sum(-1).shape
        (3,)
    """
    _checks.function("from_embedding", "g", g)

    def embed(tokens, *args):
        def found(call, shape):
            raise _Found(call().reshape(*np.shape(tokens), shape[-1]))

        # Traced once as a whole: a second Embed may come after the first one.
        through = lambda call, shape: call()
        jax.eval_shape(lambda: _intercepted(g, name, through, tokens, args))
        try:
            _intercepted(g, name, found, tokens, args)
        except _Found as result:
            return result.embedding
        raise AssertionError("unreachable: an Embed was found")

    def f(x, tokens, *args):
        replace = lambda call, shape: x.reshape(shape)
        return _intercepted(g, name, replace, tokens, args)

    return Embedded(_named(embed, g), _named(f, g))


def _intercepted(g, name: str | None, replace, tokens, args):
    """Runs g with the output of its Embed replaced by `replace(call, shape)`."""
    try:
        import flax.linen as nn  # an extra: only who calls this needs it
    except ImportError as error:
        raise ImportError(
            'from_embedding needs Flax. Install it: pip install "igjax[models]"'
        ) from error
    found = {}

    def interceptor(call, inputs, keywords, context):
        module = context.module
        if not isinstance(module, nn.Embed) or context.method_name != "__call__":
            return call(*inputs, **keywords)
        path = "/".join(module.path)
        if name not in (None, path, module.name):
            found.setdefault(path, False)
            return call(*inputs, **keywords)
        if found.get(path):
            raise ValueError(
                f"from_embedding: g must call the Embed {path!r} once, it calls it again. "
                "Attribute to each use by itself: pass the model after its embeddings as f."
            )
        found[path] = True
        _check_names(found)
        shape = (*inputs[0].shape, module.features)
        return replace(lambda: call(*inputs, **keywords), shape)

    with nn.intercept_methods(interceptor):
        output = g(jnp.asarray(tokens), *args)
    if not any(found.values()):
        wanted = "" if name is None else f" named {name!r}"
        raise ValueError(
            f"from_embedding: g must call a flax.linen.Embed{wanted}, found "
            f"{sorted(found)}. Of another framework, pass the part of the model after its "
            "embedding as f."
        )
    return output


class _Found(BaseException):  # no model may catch it by chance
    def __init__(self, embedding):
        self.embedding = embedding


def _check_names(found: dict) -> None:
    cut = [path for path, chosen in found.items() if chosen]
    if len(cut) > 1:
        raise ValueError(
            f"from_embedding: the model has several Embed modules, {cut}. "
            f"Choose one: from_embedding(g, name={cut[0]!r})."
        )


def _named(f, g):
    """Names f after g for tracebacks; unlike functools.wraps, keeps its own signature."""
    inner = getattr(g, "__qualname__", type(g).__qualname__)
    f.__qualname__ = f"{f.__qualname__.partition('.')[0]}({inner})"
    return f
