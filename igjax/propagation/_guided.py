"""Guided backpropagation and deconvolution: gradients with other derivatives of ReLUs."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp

from igjax import _checks
from igjax._tree import total, widen
from igjax.attribution import Attribution
from igjax.methods.gradients import of_one_gradient
from igjax.methods.layers import grad_cam
from igjax.propagation import composites
from igjax.propagation._multipliers import multipliers
from igjax.propagation._relevance import at_x
from igjax.propagation.unit_rules import deconvolved, gradient, guided

_ELSEWHERE = tuple((kind, gradient()) for kind in gradient().serves)


def guided_gradient(f):
    r"""Guided backpropagation: the gradient, of which ReLUs pass on what is positive.

    $$\frac{\partial}{\partial z} \mathrm{relu}(z) := [z > 0]\,\max(0, \cdot)$$

    It draws sharp pictures of what excites the network, and they change little when the
    layers above are randomized: they show edges of x more than reasons of the score. Use
    it to compare with, not to explain by.

    Args:
        f: `f(x, *args) -> scalar`, as in `igjax.integrated_gradients`, of real leaves x.
            A ReLU is `max(z, 0)`, `where(z > 0, z, 0)` or `z * (z > 0)`.

    Returns:
        `attribute(x, baseline=None, *args) -> Attribution`, as `igjax.gradient` does:
        `delta` is infinite, since slopes add up to nothing.

    Raises:
        TypeError: as `igjax.gradient`.
        ValueError: as `igjax.gradient`, and if f has no ReLU: it would be the gradient.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> w = jnp.array([[1.0, 2.0], [3.0, 1.0]])
        >>> f = lambda x: jax.nn.relu(w @ x) @ jnp.array([1.0, -1.0])
        >>> attribute = igjax.propagation.guided_gradient(f)
        >>> attribute(jnp.array([2.0, 1.0])).values  # the gradient is (-2, 1)
        Array([1., 2.], dtype=float32)

    References:
        Springenberg et al., "Striving for Simplicity: The All Convolutional Net", 2015.
        Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018.
    """
    return at_x("guided_gradient", _guided, f)


def deconvnet_gradient(f):
    r"""The deconvolutional network: the gradient, as if ReLUs stood in its own way.

    $$\frac{\partial}{\partial z} \mathrm{relu}(z) := \max(0, \cdot)$$

    Whether a unit was on does not matter, only whether it speaks for the score. Use it to
    compare with; what is said of `guided_gradient` holds here too.

    Args:
        f: as in `guided_gradient`.

    Returns:
        As `guided_gradient`.

    Raises:
        TypeError: as `igjax.gradient`.
        ValueError: as `guided_gradient`.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> f = lambda x: jax.nn.relu(x).sum()
        >>> attribute = igjax.propagation.deconvnet_gradient(f)
        >>> attribute(jnp.array([2.0, -1.0])).values
        Array([1., 1.], dtype=float32)

    References:
        Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014.
    """
    return at_x("deconvnet_gradient", _deconvolved, f)


def guided_grad_cam(f, layer: str, resize=None):
    r"""Guided Grad-CAM: guided gradients where Grad-CAM says that the score comes from.

    $$a = \text{stretched}\Bigl(\max\bigl(0, \sum_c \bar g_c\, y_c\bigr)\Bigr)
      \cdot \text{guided gradient}$$

    Use it for a picture that is sharp and, unlike guided gradients, of one class. It is
    as little complete as its factors.

    Args:
        f: as in `guided_gradient`, of one array x of shape (..., channels): an image.
        layer: the name of a layer of shape (..., channels), as in `igjax.grad_cam`.
        resize: `resize(map, shape)` stretches a map over the places of x; None is
            `jax.image.resize` with the nearest place.

    Returns:
        `attribute(x, baseline=None, *args) -> Attribution`, of values like x; `delta` is
        infinite.

    Raises:
        TypeError: as `guided_gradient` and `igjax.grad_cam`.
        ValueError: as `guided_gradient` and `igjax.grad_cam`.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> from jax.ad_checkpoint import checkpoint_name
        >>> f = lambda x: jax.nn.relu(checkpoint_name(x, "y"))[..., 0].sum()
        >>> attribute = igjax.propagation.guided_grad_cam(f, "y")
        >>> attribute(jnp.array([[[2.0], [-1.0]]])).values[..., 0]
        Array([[1., 0.]], dtype=float32)

    References:
        Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via
        Gradient-Based Localization", ICCV 2017.
    """
    look, slopes = grad_cam(f, layer), guided_gradient(f)
    stretch = _nearest if resize is None else resize

    def attribute(x, baseline=None, /, *args) -> Attribution:
        result = slopes(x, baseline, *args)
        places = look(x, *args)
        shape = jnp.shape(x)[:-1]
        values = _at_places(result.values, stretch(places, shape))
        return dataclasses.replace(result, values=values)

    return attribute


@partial(jax.jit, static_argnums=1)
def _nearest(places, shape):
    return jax.image.resize(places, shape, "nearest")


@jax.jit
def _at_places(values, places):
    return values * places[..., None].astype(values.dtype)


def _guided(f, path, operands, rule, chunk_size) -> Attribution:
    del path, rule, chunk_size
    return _changed("guided_gradient", guided(), f, operands)


def _deconvolved(f, path, operands, rule, chunk_size) -> Attribution:
    del path, rule, chunk_size
    return _changed("deconvnet_gradient", deconvolved(), f, operands)


def _changed(caller: str, rule, f, operands) -> Attribution:
    _checks.real(caller, operands.x)
    f = partial(f, operands)
    composite = ((relu, rule), *_ELSEWHERE)
    found = multipliers(caller, f, operands.x, None, composite)
    unknown = jnp.full_like(found.score, jnp.inf)
    slopes = widen(found.slopes)
    finite = jnp.isfinite(total(slopes, 0)) & jnp.isfinite(found.score)
    start = f(operands.baseline)
    return of_one_gradient(slopes, unknown, found.score, start, finite)


def relu(unit: composites.Unit) -> bool:
    """Selects ReLUs; a function, so that there must be one."""
    return unit.kind == "relu"
