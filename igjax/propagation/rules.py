"""Rules: what is done instead of taking the derivative, at units of the kinds they serve.

A rule is a value: a function, what it serves, and its parameters. The function gets the
unit at hand, what flowed into it, what flowed into it at the baseline (None without one),
and the multiplier of its output; it returns one multiplier for each operand. Relevance is x
times its multiplier, or (x - baseline) times it. What is linear needs no rule: its
derivative is its multiplier, and biases absorb their share by themselves.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from igjax import rules as quadrature
from igjax.propagation import _local
from igjax.propagation._local import Local, narrowed
from igjax.propagation._primitives import KINDS, MAXIMA, POOLS, QUOTIENTS

__all__ = [
    "Rule",
    "alpha_beta",
    "box",
    "deconvolved",
    "epsilon",
    "flat",
    "gamma",
    "gradient",
    "guided",
    "identity",
    "integrated",
    "rescale",
    "signal_takes_all",
    "stop",
    "uniform",
    "wsquare",
    "zplus",
]

_PAIRS = ("product", "gate", "normalization")


class Rule(NamedTuple):
    """What is done at units of some kinds; `units` shows which it met.

    Attributes:
        name: what it is called in tables.
        serves: the kinds of units that it can be applied to; it is passed over at others.
        backward: `backward(unit, values, references, ct, *parameters)`, which returns one
            cotangent for each value; None takes the derivative.
        parameters: numbers, part of the rule's identity.
        stops: no relevance goes through: the output counts as a constant.
        absolute: what it returns is relevance itself, not a multiplier: for first layers.
        paired: it looks at a baseline, as DeepLIFT does.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> def half(unit, values, references, ct):
        ...     return tuple(c / 2 for c in unit.pull(values, ct))
        >>> rule = igjax.propagation.Rule("half", ("activation",), half)
        >>> f = lambda x: jnp.tanh(x).sum()
        >>> attribute = igjax.propagation.relevance(f, (("activation", rule),))
        >>> attribute(jnp.zeros(1) + 1e-3).values.round(6)
        Array([0.0005], dtype=float32)
    """

    name: str
    serves: tuple[str, ...]
    backward: Callable | None
    parameters: tuple = ()
    stops: bool = False
    absolute: bool = False
    paired: bool = False

    def __call__(self, unit: Local, values, references, ct):
        """The multipliers of the operands."""
        if self.backward is None:
            return unit.pull(values, ct)
        return self.backward(unit, values, references, ct, *self.parameters)


# -- layers: dense and convolutional, with their biases, scales and views


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
        ValueError: as `alpha_beta`.

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
    return alpha_beta(1.0, 0.0, eps)._replace(name="zplus")


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
    (z, (p, n)), pull = jax.vjp(lambda x: (unit(x), _local.signed(unit, x)), *values)
    share = _over(ct * z, z + g * jnp.where(z > 0, p, n), eps)
    sides = g * jnp.where(z > 0, share, 0), g * jnp.where(z < 0, share, 0)
    return pull((share, sides))


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
    same = lambda x: _local.weighted(unit, x, power)
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
    bias = unit(jnp.zeros_like(x))

    def above(x, high, low):
        return unit(x) - bias - _local.interval(unit, high, low)[1]

    z, pull = jax.vjp(above, x, *bounds)
    parts = pull(_over(ct * unit(x), z, eps))
    return (sum(v * c for v, c in zip((x, *bounds), parts, strict=True)),)


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


def rescale() -> Rule:
    r"""DeepLIFT's Rescale: the change of the output over that of the input.

    $$m = \frac{g(x) - g(r)}{x - r}$$

    and its like where there are two operands: the Jacobian at the midpoint for products,
    which is exact for what is bilinear; a / b as a * (1 / b), and in a softmax as
    exp(log a - log b); max(a, b) as b + relu(a - b); and the rise of a maximum over many
    goes to what is largest at x, the rest of the change to what was largest at the
    baseline. Each accounts for the whole change of its unit, so that the values of
    `deeplift` add up.

    Returns:
        A `Rule` for units with a baseline.

    Example:
        >>> import igjax
        >>> igjax.propagation.rescale().paired
        True

    References:
        Shrikumar, Greenside, Kundaje, "Learning Important Features Through Propagating
        Activation Differences", ICML 2017.
    """
    kinds = tuple(k for k in KINDS if k not in ("layer", "choice", "unknown"))
    return Rule("rescale", kinds, _rescale, paired=True)


def _rescale(unit, values, references, ct):
    name = unit.unit.steps[-1].name
    if name in POOLS:
        return _rises(unit, values, references, ct)
    if unit.unit.kind in ("activation", "relu") or len(unit.unit.steps) > 1:
        return _secant(unit, values, references, ct)
    if name in QUOTIENTS:
        rule = _logarithmic if unit.unit.kind == "softmax" else _reciprocal
        return rule(unit, values, references, ct)
    if name in MAXIMA:
        return _larger(unit, values, references, ct)
    if unit.is_bilinear:
        middle = [(x + r) / 2 for x, r in zip(values, references, strict=True)]
        return unit.pull(middle, ct)
    return _secant(unit, values, references, ct)


def _secant(unit, values, references, ct):
    (x,), (r,) = values, references
    return (ct * _slope_between(unit, x, r),)


def _slope_between(g, x, r):
    """The secant of g; its slope at the midpoint where rounding hides the difference."""
    middle = (x + r) / 2
    y, s = g(x), g(r)
    _, slope = jax.jvp(g, (middle,), (jnp.ones_like(middle),))
    d = x - r
    secant = (y - s) / jnp.where(d == 0, 1, d)
    # What rounding of y, s, x and r does to the secant, times what it is divided by.
    eps = float(jnp.finfo(x.dtype).eps)
    noise = 4 * eps * (jnp.abs(y) + jnp.abs(s) + jnp.abs(slope) * (jnp.abs(x) + jnp.abs(r)))
    hidden = jnp.abs(secant - slope) * jnp.abs(d) <= noise
    return jnp.where((d == 0) | hidden, slope, secant).astype(y.dtype)


def _reciprocal(unit, values, references, ct):
    """A / b as a * (1 / b): the secant of 1 / b is -1 / (b b')."""
    (a, b), (ra, rb) = unit.arguments(values), unit.arguments(references)
    parts = ct * (1 / b + 1 / rb) / 2, -ct * (a + ra) / 2 / (b * rb)
    return unit.of_operands(parts)


def _logarithmic(unit, values, references, ct):
    """Takes a / b, of positive numbers, as exp(log a - log b).

    As a * (1 / b) a softmax would have multipliers as large as the ratio of its sums at the
    two ends, and so values without bound where all logits move alike; so it has none
    beyond those of softmax itself.
    """
    (a, b), (ra, rb) = unit.arguments(values), unit.arguments(references)
    positive = (a > 0) & (ra > 0) & (b > 0) & (rb > 0)
    one = lambda v: jnp.where(positive, v, 1)
    p, q = one(a) / one(b), one(ra) / one(rb)
    mean = ct * _slope_between(jnp.exp, jnp.log(p), jnp.log(q))
    to_a = mean * _slope_between(jnp.log, one(a), one(ra))
    to_b = -mean * _slope_between(jnp.log, one(b), one(rb))
    # A weight that is zero at one end owes its change to itself alone.
    d = jnp.where(a == ra, 1, a - ra)
    alone = jnp.where(a == ra, ct / b, ct * (a / b - ra / rb) / d)
    zero = (a == 0) | (ra == 0)
    others = ct * (1 / b + 1 / rb) / 2, -ct * (a + ra) / 2 / (b * rb)
    to_a = jnp.where(positive, to_a, jnp.where(zero, alone, others[0]))
    to_b = jnp.where(positive, to_b, jnp.where(zero & (a != ra), 0, others[1]))
    return unit.of_operands((to_a, to_b))


def _larger(unit, values, references, ct):
    """max(a, b) as b + relu(a - b), min(a, b) as b - relu(b - a)."""
    (a, b), (ra, rb) = unit.arguments(values), unit.arguments(references)
    sign = 1 if unit.unit.steps[-1].name == "max" else -1
    to_a = ct * _slope_between(jax.nn.relu, sign * (a - b), sign * (ra - rb))
    return unit.of_operands((to_a, ct - to_a))


def _rises(unit, values, references, ct):
    (x,), (r,) = values, references
    (y, up), (s, down) = jax.vjp(unit, x), jax.vjp(unit, r)
    falls = unit.unit.steps[-1].name in ("reduce_min", "reduce_window_min")
    top = jnp.minimum(y, s) if falls else jnp.maximum(y, s)
    given = up(ct * (top - s))[0] + down(ct * (y - top))[0]
    d = x - r
    return (jnp.where(d == 0, 0, given / jnp.where(d == 0, 1, d)),)


def integrated(rule: quadrature.Rule | None = None) -> Rule:
    r"""Integrated Gradients of one unit, from what flows in at the baseline to that at x.

    $$m_i = \int_0^1 \frac{\partial g}{\partial x_i}\bigl(r + t (x - r)\bigr)\,dt$$

    The general fallback of DeepLIFT, for primitives that have no rule of their own: sort,
    cumulative products, what a user knows to be smooth or piecewise linear. Complete up
    to the error of the rule, which `delta` shows.

    Args:
        rule: nodes and weights, `igjax.rules.gauss_legendre(n)`; None takes 8 of these.

    Returns:
        A `Rule` for every kind, with a baseline.

    Raises:
        TypeError: if the rule is no fixed one.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> f = lambda x: jnp.cumprod(x)[1]
        >>> rules = (("cumprod", igjax.propagation.integrated()),)
        >>> attribute = igjax.propagation.deeplift(f, rules)
        >>> attribute(jnp.array([2.0, 3.0]), 0.0).values.round(4)
        Array([3., 3.], dtype=float32)
    """
    rule = quadrature.gauss_legendre(8) if rule is None else rule
    if not isinstance(rule, quadrature.Rule):
        raise TypeError(
            f"integrated: rule must be a fixed one, got {rule!r}. Pass "
            "igjax.rules.gauss_legendre(n)."
        )
    return Rule("integrated", KINDS, _integrated, (rule,), paired=True)


def _integrated(unit, values, references, ct, rule):
    total: Any = [jnp.zeros_like(v) for v in values]
    for t, weight in zip(rule.nodes, rule.weights, strict=True):
        pairs = zip(values, references, strict=True)
        point = [r + float(t) * (x - r) for x, r in pairs]
        total = [
            a + float(weight) * c for a, c in zip(total, unit.pull(point, ct), strict=True)
        ]
    return tuple(total)


# -- arithmetic


def _over(a, b, eps):
    """A / b with b kept away from zero; 0 where b is."""
    b = b + jnp.where(b >= 0, eps, -eps).astype(b.dtype)
    return jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))


def _positive(caller: str, name: str, number):
    if not isinstance(number, Tracer) and not number >= 0:
        raise ValueError(f"{caller}: {name} must not be negative, got {number!r}.")
    return number
