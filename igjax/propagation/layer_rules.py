"""Rules for layers, dense and convolutional, with their biases, scales and views."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from igjax.propagation import _local
from igjax.propagation._rule import Rule

__all__ = ["alpha_beta", "box", "epsilon", "flat", "gamma", "wsquare", "zplus"]


def epsilon(eps: float = 1e-6) -> Rule:
    r"""LRP-epsilon: relevance in proportion to contributions.

    $$R_i = \sum_j \frac{w_{ij} x_i}{z_j + \epsilon\,\mathrm{sign}(z_j)} R_j, \qquad
      z_j = \sum_i w_{ij} x_i + b_j$$

    The bias keeps its share, and epsilon absorbs relevance where z is small: a large one
    makes explanations sparse. With 0 it is the input times the gradient of the layer.

    Args:
        eps: not negative, in units of the outputs of the layer.

    Returns:
        A `Rule` for layers.

    Raises:
        ValueError: if eps is negative.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> f = lambda x: jnp.array([2.0, -1.0]) @ x + 1
        >>> rules = (("layer", igjax.propagation.epsilon(0.5)),)
        >>> attribute = igjax.propagation.relevance(f, rules)
        >>> attribute(jnp.array([3.0, 1.0])).values.round(4)
        Array([ 5.5385, -0.9231], dtype=float32)

    References:
        Bach et al., "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by
        Layer-Wise Relevance Propagation", PLOS ONE 2015.
    """
    return Rule("epsilon", ("layer",), _epsilon, (_positive("epsilon", "eps", eps),))


def _epsilon(unit, values, references, ct, eps):
    del references
    y, pull = jax.vjp(unit, *values)
    return pull(_over(ct * y, y, eps))


def alpha_beta(alpha: float = 2.0, beta: float = 1.0, eps: float = 1e-6) -> Rule:
    r"""LRP-alpha-beta: positive and negative contributions are weighed apart.

    $$R_i = \sum_j \Bigl(\alpha \frac{(w_{ij} x_i)^+}{z_j^+}
      - \beta \frac{(w_{ij} x_i)^-}{z_j^-}\Bigr) R_j$$

    where the bias is counted with the contributions of its sign. It conserves relevance
    for alpha - beta = 1.

    Args:
        alpha: weight of the positive contributions.
        beta: weight of the negative ones.
        eps: not negative: keeps sums of contributions from zero.

    Returns:
        A `Rule` for layers.

    Raises:
        ValueError: if eps is negative.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> f = lambda x: jnp.array([2.0, -1.0]) @ x + 1
        >>> rules = (("layer", igjax.propagation.alpha_beta(2.0, 1.0)),)
        >>> igjax.propagation.relevance(f, rules)(jnp.array([3.0, 1.0])).values.round(1)
        Array([10.3, -6. ], dtype=float32)

    References:
        Bach et al., PLOS ONE 2015, eq. 60.
    """
    parameters = (alpha, beta, _positive("alpha_beta", "eps", eps))
    return Rule("alpha_beta", ("layer",), _alpha_beta, parameters)


def _alpha_beta(unit, values, references, ct, alpha, beta, eps):
    del references
    y = ct * unit(*values)
    (p, n), pull = jax.vjp(lambda x: _local.signed(unit, x), *values)
    return pull((alpha * _over(y, p, eps), -beta * _over(y, n, eps)))


def zplus(eps: float = 1e-6) -> Rule:
    """The z+ rule: positive contributions alone, `alpha_beta(1, 0)`.

    Use it for convolutions: it is never negative, and robust against noisy gradients.

    Args:
        eps: as in `alpha_beta`.

    Returns:
        A `Rule` for layers.

    Raises:
        ValueError: if eps is negative.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> f = lambda x: jnp.array([2.0, -1.0]) @ x + 1
        >>> rules = (("layer", igjax.propagation.zplus()),)
        >>> igjax.propagation.relevance(f, rules)(jnp.array([3.0, 1.0])).values.round(3)
        Array([5.143, 0.   ], dtype=float32)

    References:
        Montavon et al., "Explaining Nonlinear Classification Decisions with Deep Taylor
        Decomposition", Pattern Recognition 2017.
    """
    return Rule("zplus", ("layer",), _zplus, (_positive("zplus", "eps", eps),))


def _zplus(unit, values, references, ct, eps):
    del references
    p, pull = jax.vjp(lambda x: _local.signed(unit, x)[0], *values)
    return pull(_over(ct * unit(*values), p, eps))


def gamma(g: float = 0.25, eps: float = 1e-6) -> Rule:
    r"""LRP-gamma, generalized: contributions of the sign of the output count more.

    $$R_i = \sum_j \frac{w_{ij} x_i + \gamma\,(w_{ij} x_i)^{\pm}}
      {z_j + \gamma z_j^{\pm}} R_j, \qquad \pm = \mathrm{sign}(z_j)$$

    Between `epsilon` (0) and `zplus` (infinity); for inputs that are not negative, and
    outputs of relevance that are positive, it is the rule of the original paper.

    Args:
        g: not negative.
        eps: not negative: keeps the denominator from zero.

    Returns:
        A `Rule` for layers.

    Raises:
        ValueError: if g or eps is negative.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> f = lambda x: jnp.array([2.0, -1.0]) @ x + 1
        >>> rules = (("layer", igjax.propagation.gamma(0.25)),)
        >>> igjax.propagation.relevance(f, rules)(jnp.array([3.0, 1.0])).values.round(2)
        Array([ 5.81, -0.77], dtype=float32)

    References:
        Montavon et al., "Layer-Wise Relevance Propagation: An Overview", 2019.
        Andéol et al., "Learning Domain Invariant Representations by Joint Wasserstein
        Distance Minimization", 2023 (generalized).
    """
    parameters = _positive("gamma", "g", g), _positive("gamma", "eps", eps)
    return Rule("gamma", ("layer",), _gamma, parameters)


def _gamma(unit, values, references, ct, g, eps):
    del references
    (z, sizes), pull = jax.vjp(lambda x: (unit(x), _local.sizes(unit, x)), *values)
    sign = jnp.sign(z)
    share = _over(ct * z, z + g * (z + sign * sizes) / 2, eps)
    return pull((share * (1 + g / 2), share * sign * (g / 2)))


def wsquare(eps: float = 1e-6) -> Rule:
    r"""The w-squared rule: relevance in proportion to squared weights, for a first layer.

    $$R_i = \sum_j \frac{w_{ij}^2}{\sum_k w_{kj}^2} R_j$$

    It does not look at x; biases have no share.

    Args:
        eps: not negative: keeps sums of squares from zero.

    Returns:
        A `Rule` for layers that see x itself.

    Raises:
        ValueError: if eps is negative.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> f = lambda x: jnp.array([2.0, -1.0]) @ x + 1
        >>> rules = ((igjax.propagation.first, igjax.propagation.wsquare()),)
        >>> igjax.propagation.relevance(f, rules)(jnp.array([3.0, 1.0])).values.round(3)
        Array([4.8, 1.2], dtype=float32)

    References:
        Montavon et al., Pattern Recognition 2017.
    """
    parameters = (2, _positive("wsquare", "eps", eps))
    return Rule("wsquare", ("layer",), _weighted, parameters, absolute=True)


def flat(eps: float = 1e-6) -> Rule:
    """The flat rule: relevance is spread evenly, for a first layer.

    Use it where single pixels are not to be told apart, only what the first layer sees.

    Args:
        eps: not negative: keeps counts from zero.

    Returns:
        A `Rule` for layers that see x itself.

    Raises:
        ValueError: if eps is negative.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> f = lambda x: jnp.array([2.0, -1.0]) @ x + 1
        >>> rules = ((igjax.propagation.first, igjax.propagation.flat()),)
        >>> igjax.propagation.relevance(f, rules)(jnp.array([3.0, 1.0])).values.round(2)
        Array([3., 3.], dtype=float32)

    References:
        Lapuschkin et al., "Unmasking Clever Hans Predictors and Assessing What Machines
        Really Learn", Nature Communications 2019.
    """
    parameters = (0, _positive("flat", "eps", eps))
    return Rule("flat", ("layer",), _weighted, parameters, absolute=True)


def _weighted(unit, values, references, ct, power, eps):
    del references
    (x,) = values
    same = lambda x: _local.weighted(unit, x, lambda weight: weight**power)
    sums, pull = jax.vjp(same, jnp.ones_like(x))
    return pull(_over(ct * unit(x), sums, eps))


def box(low, high, eps: float = 1e-6) -> Rule:
    r"""The z^B rule, for a first layer whose inputs lie in a box: pixels.

    $$R_i = \sum_j \frac{w_{ij} x_i - w_{ij}^+ l_i - w_{ij}^- h_i}
      {\sum_k (w_{kj} x_k - w_{kj}^+ l_k - w_{kj}^- h_k)} R_j$$

    Args:
        low: the least value of an input: a number, or numbers along its last axes.
        high: the largest.
        eps: not negative: keeps the denominator from zero.

    Returns:
        A `Rule` for layers that see x itself.

    Raises:
        ValueError: if eps is negative.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> f = lambda x: jnp.array([2.0, -1.0]) @ x + 1
        >>> rules = ((igjax.propagation.first, igjax.propagation.box(0.0, 4.0)),)
        >>> igjax.propagation.relevance(f, rules)(jnp.array([3.0, 1.0])).values.round(3)
        Array([4., 2.], dtype=float32)

    References:
        Montavon et al., Pattern Recognition 2017.
    """
    parameters = (_nested(low), _nested(high), _positive("box", "eps", eps))
    return Rule("box", ("layer",), _box, parameters, absolute=True)


def _nested(bound):
    """Numbers as tuples: a rule is a key."""
    as_tuple = lambda a: tuple(map(as_tuple, a)) if isinstance(a, list) else a
    return as_tuple(np.asarray(bound).tolist())


def _box(unit, values, references, ct, low, high, eps):
    del references
    (x,) = values
    bounds = [jnp.broadcast_to(jnp.asarray(b, x.dtype), x.shape) for b in (high, low)]
    bias = _local.bias_of(unit, x)

    def above(x, high, low):
        return unit(x) - bias - _local.interval(unit, high, low)[1]

    z, pull = jax.vjp(above, x, *bounds)
    parts = pull(_over(ct * unit(x), z, eps))
    return (sum(v * c for v, c in zip((x, *bounds), parts, strict=True)),)


# -- arithmetic


def _over(a, b, eps):
    """A / b with b kept away from zero; 0 where b is."""
    b = b + jnp.where(b >= 0, eps, -eps).astype(b.dtype)
    return jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))


def _positive(caller: str, name: str, number):
    if not isinstance(number, Tracer) and not number >= 0:
        raise ValueError(f"{caller}: {name} must not be negative, got {number!r}.")
    return number
