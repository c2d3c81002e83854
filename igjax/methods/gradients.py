"""Plain gradients in the form of attributions: what path methods are compared with.

Both have the signature and the result of a path method, so that whatever takes an
attribution (combinators, `baselines.compare`, a user's loop over methods) takes them. They
look at f at x alone. So they need no rule, and their error is 0: a gradient is what it is.
What they lack is completeness, and the result says so: `input_x_gradient` by its gap, which
is the remainder of a first-order expansion, and `gradient` by an infinite one, because its
values are slopes, in other units than the score, and their sum means nothing.
"""

from functools import partial

import jax
import jax.numpy as jnp

from igjax import paths, rules
from igjax._program import compiled
from igjax._tree import gap, total, widen
from igjax.attribution import Attribution, Status
from igjax.integration.path_integral import along, gradients
from igjax.integration.recipes import certified

__all__ = ["gradient", "input_x_gradient"]


def gradient(f):
    r"""The gradient of a function at x, as an attribution: saliency, with its sign.

    $$a_i = \frac{\partial f}{\partial x_i}(x)$$

    It says what a small change of each feature would do, not what the feature
    contributes: where f saturates it vanishes, however much the feature matters. Use it
    to compare with, and under `smooth` for SmoothGrad. The literature's saliency is its
    absolute value.

    Args:
        f: `f(x, *args) -> scalar`, as in `integrated_gradients`, of real leaves x.

    Returns:
        `attribute(x, baseline=None, *args) -> Attribution`. The baseline is there to make
        methods exchangeable; it is scored, and nothing else; None is x itself. `error` is
        0, `delta` is infinite, and `status` is NO_TOLERANCE, or NON_FINITE.

    Raises:
        TypeError: if x has complex leaves, and as `integrated_gradients`.
        ValueError: as `integrated_gradients`.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> attribute = igjax.gradient(lambda x: x[0] ** 2 + 3 * x[1])
        >>> attribute(jnp.array([2.0, 1.0])).values
        Array([4., 3.], dtype=float32)

    References:
        Simonyan, Vedaldi, Zisserman, "Deep Inside Convolutional Networks", ICLR 2014.
    """
    attribute = _attribution("gradient", _slopes, f)

    def slopes(x, baseline=None, /, *args):
        for path, leaf in jax.tree_util.tree_flatten_with_path(x)[0]:
            if jnp.iscomplexobj(leaf):
                raise TypeError(
                    f"gradient: x{jax.tree_util.keystr(path)} must be real, got complex "
                    "numbers, whose gradient is complex. Use igjax.input_x_gradient(f), "
                    "whose values are real."
                )
        return attribute(x, x if baseline is None else baseline, *args)

    return slopes


def input_x_gradient(f):
    r"""Input times gradient: the first-order expansion of a function from x.

    $$a_i = (x_i - x'_i) \, \frac{\partial f}{\partial x_i}(x)$$

    With the baseline 0, as usual, it is the input times the gradient. It equals
    Integrated Gradients where f is linear, or homogeneous of degree 1 (a ReLU network
    without biases) and the baseline is 0: one gradient is enough then, and a `delta` of 0
    is the sign of it. Elsewhere `delta` is what the expansion leaves out.

    Args:
        f: `f(x, *args) -> scalar`, as in `integrated_gradients`.

    Returns:
        `attribute(x, baseline, *args) -> Attribution`, in units of the score. `error` is
        0: it is that of this product, not its distance from another method. `status` is
        NO_TOLERANCE, or NON_FINITE.

    Raises:
        TypeError: as `integrated_gradients`.
        ValueError: as `integrated_gradients`.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> attribute = igjax.input_x_gradient(lambda x: x[0] ** 2 + 3 * x[1])
        >>> result = attribute(jnp.array([2.0, 1.0]), 0.0)
        >>> result.values, float(result.delta)  # a square is of degree 2, not 1
        (Array([8., 3.], dtype=float32), 4.0)

    References:
        Shrikumar, Greenside, Shcherbina, Kundaje, "Not Just a Black Box", 2016.
        Hesse, Schaub-Meyer, Roth, "Fast Axiomatic Attribution for Neural Networks",
        NeurIPS 2021.
    """
    return _attribution("input_x_gradient", _products, f)


def _attribution(caller, recipe, f):
    # No rule is used, but every attribution has one.
    rule = rules.right(1)
    return compiled.attribution(caller, recipe, f, paths.straight, rule, None, scalar=True)


def _slopes(f, path, operands, rule, chunk_size) -> Attribution:
    del path, rule, chunk_size
    f = partial(f, operands)
    score, slopes = gradients(f, operands.x)
    unknown = jnp.full_like(score, jnp.inf)
    finite = jnp.isfinite(total(widen(slopes), 0)) & jnp.isfinite(score)
    return of_one_gradient(widen(slopes), unknown, score, f(operands.baseline), finite)


def _products(f, path, operands, rule, chunk_size) -> Attribution:
    del path, rule, chunk_size
    f = partial(f, operands)
    score, slopes = gradients(f, operands.x)
    start = f(operands.baseline)
    ends = widen(operands.x), widen(operands.baseline)
    values = along(widen(slopes), jax.tree.map(jnp.subtract, *ends))
    missing = gap(values, start, score)
    return of_one_gradient(values, missing, score, start, jnp.isfinite(missing))


def of_one_gradient(values, delta, score, start, finite) -> Attribution:
    """The result of a method that takes one gradient, exactly what its definition says."""
    error = jax.tree.map(jnp.zeros_like, values)
    status = jnp.where(finite, Status.NO_TOLERANCE, Status.NON_FINITE)
    return certified(values, error, widen(delta), start, score, status, 1, 1, 0)
