"""Rules for what is no layer: activations, products, and units of any kind."""

import jax
import jax.numpy as jnp

from igjax.propagation._local import narrowed
from igjax.propagation._primitives import KINDS
from igjax.propagation._rule import Rule

__all__ = [
    "deconvolved",
    "gradient",
    "guided",
    "identity",
    "signal_takes_all",
    "stop",
    "uniform",
]

_PAIRS = ("product", "gate", "normalization")


# -- activations


def identity() -> Rule:
    r"""The relevance of an activation's output is that of its input: y / x.

    The rule of LRP for activations. For a ReLU it is the derivative. Where y is not 0 at
    0 (a sigmoid) the multiplier grows without bound near 0, though relevance does not.
    It also serves layers that keep the shape: then each output hands its relevance to the
    input in its place.

    Returns:
        A `Rule` for activations and layers.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> rules = (("activation", igjax.propagation.identity()),)
        >>> f = lambda x: jnp.tanh(x).sum()
        >>> igjax.propagation.relevance(f, rules)(jnp.ones(1)).values.round(2)
        Array([0.76], dtype=float32)
    """
    return Rule("identity", ("activation", "relu", "quotient", "layer"), _identity)


def _identity(unit, values, references, ct):
    del references
    (x,) = values
    y = unit(*values)
    if unit.unit.kind == "layer" and y.shape != x.shape:
        raise ValueError(
            f"identity: a layer must keep the shape of its input, got {x.shape} and "
            f"{y.shape}. Give this layer another rule."
        )
    small = jnp.abs(x) < jnp.finfo(x.dtype).tiny
    ratio = narrowed(ct * y, x.shape) / jnp.where(small, 1, x)
    return (jnp.where(small, unit.pull(values, ct)[0], ratio),)


def guided() -> Rule:
    """Guided backpropagation at a ReLU: the derivative of what is positive.

    Returns:
        A `Rule` for ReLUs.

    Example:
        >>> import igjax
        >>> igjax.propagation.guided().serves
        ('relu',)
    """
    return Rule("guided", ("relu",), _guided)


def _guided(unit, values, references, ct):
    del references
    (x,) = values
    return (jnp.where(x > 0, jax.nn.relu(ct), 0),)


def deconvolved() -> Rule:
    """The deconvolutional network at a ReLU: what is positive, whatever x was.

    Returns:
        A `Rule` for ReLUs.

    Example:
        >>> import igjax
        >>> igjax.propagation.deconvolved().name
        'deconvolved'
    """
    return Rule("deconvolved", ("relu",), _deconvolved)


def _deconvolved(unit, values, references, ct):
    del unit, values, references
    return (jax.nn.relu(ct),)


# -- units of two operands


def uniform() -> Rule:
    """Both factors of a product get half of its relevance.

    The rule of AttnLRP for products in attention; it conserves relevance.

    Returns:
        A `Rule` for products.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> rules = (("product", igjax.propagation.uniform()),)
        >>> f = lambda x: x[:2] @ x[2:]
        >>> x = jnp.array([1.0, 2.0, 3.0, 4.0])
        >>> igjax.propagation.relevance(f, rules)(x).values
        Array([1.5, 4. , 1.5, 4. ], dtype=float32)

    References:
        Achtibat et al., "AttnLRP: Attention-Aware Layer-Wise Relevance Propagation for
        Transformers", ICML 2024.
    """
    return Rule("uniform", _PAIRS, _uniform)


def _uniform(unit, values, references, ct):
    del references
    return tuple(c / 2 for c in unit.pull(values, ct))


def signal_takes_all() -> Rule:
    """The signal of a gate gets all of its relevance, the gate none.

    The gate is the factor made by a sigmoid; of a normalization it is what is divided by.

    Returns:
        A `Rule` for gates and normalizations.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> rules = (("gate", igjax.propagation.signal_takes_all()),)
        >>> f = lambda x: x[0] * jax.nn.sigmoid(x[1])
        >>> igjax.propagation.relevance(f, rules)(jnp.array([2.0, 0.0])).values
        Array([1., 0.], dtype=float32)

    References:
        Arras et al., "Explaining and Interpreting LSTMs", 2019.
    """
    return Rule("signal_takes_all", ("gate", "normalization"), _signal)


def _signal(unit, values, references, ct):
    del references
    parts = unit.pull(values, ct)
    signal = unit.unit.signal
    return tuple(c if i == signal else jnp.zeros_like(c) for i, c in enumerate(parts))


# -- units of any kind


def gradient() -> Rule:
    """The derivative as it is, for units of any kind, known or not.

    Returns:
        A `Rule` for every kind.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> rules = (("sort", igjax.propagation.gradient()),)
        >>> f = lambda x: jnp.sort(x)[0]
        >>> igjax.propagation.relevance(f, rules)(jnp.array([2.0, 1.0])).values
        Array([0., 1.], dtype=float32)
    """
    return Rule("gradient", KINDS, None)


def stop() -> Rule:
    """No relevance goes through: what is made counts as a constant.

    With it the weights of an attention are given, as in CP-LRP.

    Returns:
        A `Rule` for every kind.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> rules = (("activation", igjax.propagation.stop()),)
        >>> f = lambda x: (x + jnp.tanh(x)).sum()
        >>> igjax.propagation.relevance(f, rules)(jnp.ones(1)).values
        Array([1.], dtype=float32)

    References:
        Ali et al., "XAI for Transformers: Better Explanations through Conservative
        Propagation", ICML 2022.
    """
    return Rule("stop", KINDS, None, stops=True)
