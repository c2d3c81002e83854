"""Quadrature rules on [0, 1] as tables: a method is data, and adding one adds a table.

A rule is made on the host in float64 and cast where it is used, so that a float64
model is integrated with float64 weights and a bfloat16 model loses nothing to the
table. Besides its weights each rule carries *error weights*: rows that turn the same
gradients into an estimate of the error per feature, at no extra evaluation.

How the error weights are made. Row 0 is twice the weights that reproduce the rule's
own error on the polynomials just above its degree (as far as its nodes can see them):
on smooth integrands this is the leading term of the error. The other rows, at most
four, are null rules: they vanish on polynomials, so that what they return is roughness.
Where the nodes are equally spaced they are sums of local differences with
Walsh signs, so that no place on the path is unseen; elsewhere they are the highest
orthogonal polynomials of the nodes, so that they vanish as fast as a smooth integrand's
coefficients do. They are scaled on step functions, the integrands of ReLU networks:
`SAFETY` times the rule's root mean square error over all places of the step. The
estimate is the root of the sum of squares of all rows.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpy.polynomial import legendre

from igjax import _gauss

__all__ = [
    "Adaptive",
    "Rule",
    "adaptive",
    "clenshaw_curtis",
    "composite",
    "gauss_kronrod",
    "gauss_legendre",
    "left",
    "midpoint",
    "on_panels",
    "right",
    "simpson",
    "split",
    "trapezoid",
]

SAFETY = 4.0  # covers 95% of the features of random step functions from n = 5 on
NULL_RULES = 4
BUDGET = 3000  # gradients of an example, by the adaptive rule


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["nodes", "weights", "error_weights"],
    meta_fields=["axis_name"],
)
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Rule:
    r"""A quadrature rule: $\int_0^1 g(t)\,dt \approx \sum_k w_k g(t_k)$.

    Use a maker such as `gauss_legendre(32)`, or give nodes and weights of your own;
    `Rule.of` adds the error weights. A rule is a pytree and hashable, so it may be an
    argument of a jitted function; traced arrays, padded with weight 0, are welcome.

    Attributes:
        nodes: shape (n,), in [0, 1], ascending. float64 on the host.
        weights: shape (n,), sum 1.
        error_weights: shape (m, n). The error estimate of a feature with integrand g is
            the root of the sum of squares of `error_weights @ g(nodes)`. With no rows
            there is no estimate: it is reported as infinite.
        axis_name: the mesh axis that the nodes are split over, or None; see `split`.
        name: how it was made, such as "midpoint(4)", for people to read: two rules with
            the same tables are equal, and inside of `jit` it is None.

    Example:
        >>> import igjax
        >>> rule = igjax.rules.midpoint(4)
        >>> rule, rule.nodes
        (midpoint(4), array([0.125, 0.375, 0.625, 0.875]))
    """

    nodes: np.ndarray | jax.Array
    weights: np.ndarray | jax.Array
    error_weights: np.ndarray | jax.Array
    axis_name: str | None = None
    name: str | None = dataclasses.field(default=None, init=False)

    @classmethod
    def of(cls, nodes, weights, degree: int) -> "Rule":
        """Makes a rule of nodes and weights, with error weights for its degree.

        Args:
            nodes: shape (n,), strictly ascending in [0, 1].
            weights: shape (n,), positive, with sum 1.
            degree: the highest degree of polynomials that the rule integrates exactly.

        Returns:
            The `Rule`.

        Raises:
            ValueError: if the nodes are not ascending in [0, 1], if a weight is not
                positive, or if the weights do not add up to 1.

        Example:
            >>> import igjax
            >>> igjax.rules.Rule.of([0.25, 0.75], [0.5, 0.5], degree=1)
            Rule(2 nodes)
        """
        t, w = np.array(nodes, np.float64), np.array(weights, np.float64)
        _check_table(t, w)
        return _frozen(t, w, _error_weights(t, w, degree))

    @property
    def _key(self):
        return self.axis_name, *(np.asarray(a).tobytes() for a in _arrays(self))

    def __hash__(self):
        return hash(self._key)

    def __eq__(self, other):
        return isinstance(other, Rule) and self._key == other._key

    def __repr__(self):
        over = f", split over {self.axis_name!r}" if self.axis_name else ""
        return self.name or f"Rule({np.shape(self.nodes)[-1]} nodes{over})"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class Adaptive:
    """The adaptive rule: nodes are chosen while integrating. Made by `adaptive`.

    Attributes:
        tolerance: relative to the sum of absolute values; an operand.
        absolute_tolerance: in units of the score, or None; an operand.
        max_evaluations: gradients that one example may take; static.

    Example:
        >>> import igjax
        >>> igjax.rules.adaptive(1e-3)
        adaptive(tolerance=0.001)
    """

    tolerance: float | jax.Array
    absolute_tolerance: float | jax.Array | None
    max_evaluations: int = dataclasses.field(metadata={"static": True})

    def __repr__(self):
        told = f"tolerance={self.tolerance}"
        if self.absolute_tolerance is not None:
            told += f", absolute_tolerance={self.absolute_tolerance}"
        if self.max_evaluations != BUDGET:
            told += f", max_evaluations={self.max_evaluations}"
        return f"adaptive({told})"


def adaptive(
    tolerance=1e-2, absolute_tolerance=None, max_evaluations: int = BUDGET
) -> Adaptive:
    r"""The adaptive rule: ask for a tolerance, never for a number of steps.

    Where `converged` is true, $\sum_i |\mathrm{values}_i - \mathrm{exact}_i|$ is at
    most max(tolerance $\sum_i |\mathrm{exact}_i|$, absolute tolerance), as far as
    samples can see: a structure narrower than the gaps between them that leaves no net
    change of f is invisible. Use it by default; a fixed rule where you need gradients
    through the attribution, or a fixed cost.

    Args:
        tolerance: relative tolerance, positive. Traced: a sweep does not recompile.
        absolute_tolerance: absolute tolerance, in units of the score; None is the level
            of rounding, below which refinement stops in any case.
        max_evaluations: gradients that one example may take at the most, at least 15.
            3000 is some sixty times what a Gauss-Legendre rule of 50 nodes takes, for
            the worst example of a batch; the others do not wait for it. Memory for the
            queue grows with it, by about 10 bytes a gradient and example (20 in float64).

    Returns:
        The rule.

    Raises:
        TypeError: if a tolerance is not one number.
        ValueError: if a tolerance is not positive and finite, or max_evaluations is no
            integer of at least 15.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> f = lambda x: jax.nn.sigmoid(300.0 * (x.sum() - 1.0))
        >>> attribute = igjax.integrated_gradients(f, rule=igjax.rules.adaptive(1e-3))
        >>> result = attribute(jnp.array([1.0, 3.0]), 0.0)
        >>> bool(result.converged), result.values.round(2).tolist()
        (True, [0.25, 0.75])
    """
    _check_tolerance("tolerance", tolerance)
    if absolute_tolerance is not None:
        _check_tolerance("absolute_tolerance", absolute_tolerance)
    if not isinstance(max_evaluations, int | np.integer) or max_evaluations < 15:
        raise ValueError(
            "rules.adaptive: max_evaluations must be an integer of at least 15, one "
            f"panel, got {max_evaluations!r}."
        )
    return Adaptive(tolerance, absolute_tolerance, max_evaluations)


def _check_tolerance(name: str, value) -> None:
    """Traced tolerances are scalars; concrete ones are positive and finite, too."""
    number = isinstance(value, int | float | np.generic | np.ndarray | jax.Array)
    if not number or np.ndim(value):
        raise TypeError(
            f"rules.adaptive: {name} must be one number, got {value!r}. For one tolerance "
            "an example, map over it with jax.vmap."
        )
    if not isinstance(value, Tracer) and not 0 < float(value) < np.inf:
        raise ValueError(f"rules.adaptive: the {name} must be positive, got {value!r}.")


def _named(rule: Rule, name: str) -> Rule:
    """The rule, which is new and has no name yet, with one."""
    object.__setattr__(rule, "name", name)
    return rule


def _maker(make: Callable[[int], Rule]) -> Callable[..., Rule]:
    """Names what a maker makes after it, and keeps it: large tables cost a second."""

    @functools.cache
    @functools.wraps(make)
    def named(n: int) -> Rule:
        return _named(make(n), f"{make.__name__}({n})")

    return named


@_maker
def left(n: int) -> Rule:
    r"""The left sum, $\frac1n \sum_{k=0}^{n-1} g(k/n)$: degree 0, error O(1/n).

    Use it to reproduce published numbers; `midpoint` is better at the same cost.

    Args:
        n: number of nodes, at least 1.

    Returns:
        The `Rule`.

    Raises:
        ValueError: if n is less than 1.

    Example:
        >>> import igjax
        >>> igjax.rules.left(4).nodes
        array([0.  , 0.25, 0.5 , 0.75])
    """
    _check_count("left", n, 1)
    return Rule.of(np.arange(n) / n, np.full(n, 1 / n), 0)


@_maker
def right(n: int) -> Rule:
    r"""The right sum, $\frac1n \sum_{k=1}^{n} g(k/n)$: degree 0, error O(1/n).

    The rule of the paper that introduced Integrated Gradients; use it to reproduce
    published numbers. `midpoint` is better at the same cost.

    Args:
        n: number of nodes, at least 1.

    Returns:
        The `Rule`.

    Raises:
        ValueError: if n is less than 1.

    Example:
        >>> import igjax
        >>> igjax.rules.right(4).nodes
        array([0.25, 0.5 , 0.75, 1.  ])

    References:
        Sundararajan, Taly, Yan, "Axiomatic Attribution for Deep Networks", ICML 2017.
    """
    _check_count("right", n, 1)
    return Rule.of(np.arange(1, n + 1) / n, np.full(n, 1 / n), 0)


@_maker
def midpoint(n: int) -> Rule:
    r"""The midpoint rule, $\frac1n \sum_k g((k + 1/2)/n)$: degree 1, error O(1/n^2).

    The best fixed rule for ReLU networks, where g jumps and high orders gain nothing.

    Args:
        n: number of nodes, at least 1.

    Returns:
        The `Rule`.

    Raises:
        ValueError: if n is less than 1.

    Example:
        >>> import igjax
        >>> igjax.rules.midpoint(2).nodes
        array([0.25, 0.75])
    """
    _check_count("midpoint", n, 1)
    return Rule.of((np.arange(n) + 0.5) / n, np.full(n, 1 / n), 1)


@_maker
def trapezoid(n: int) -> Rule:
    r"""The trapezoid rule on n equally spaced nodes, both ends among them: degree 1.

    Its weights are 1/(n-1), halved at the ends, and add up to 1.

    Args:
        n: number of nodes, at least 2.

    Returns:
        The `Rule`.

    Raises:
        ValueError: if n is less than 2.

    Example:
        >>> import igjax
        >>> igjax.rules.trapezoid(3).weights
        array([0.25, 0.5 , 0.25])
    """
    _check_count("trapezoid", n, 2)
    w = np.full(n, 1 / (n - 1))
    w[[0, -1]] /= 2
    return Rule.of(np.linspace(0, 1, n), w, 1)


@_maker
def simpson(n: int) -> Rule:
    """Simpson's rule on n equally spaced nodes, both ends among them: degree 3.

    Args:
        n: number of nodes, odd, at least 3.

    Returns:
        The `Rule`.

    Raises:
        ValueError: if n is less than 3 or even; the message names the nearest count.

    Example:
        >>> import igjax
        >>> (6 * igjax.rules.simpson(3).weights).round(12)
        array([1., 4., 1.])
    """
    _check_count("simpson", n, 3, odd=True)
    w = np.full(n, 2.0)
    w[1::2] = 4
    w[[0, -1]] = 1
    return Rule.of(np.linspace(0, 1, n), w / w.sum(), 3)


@_maker
def gauss_legendre(n: int) -> Rule:
    """The Gauss-Legendre rule: degree 2n - 1, the best for smooth integrands.

    With GELU, tanh or softmax networks the error falls geometrically: 9 nodes are
    good to five digits, 17 to all those of float32. On ReLU networks it is O(1/n), like
    every fixed rule.

    Args:
        n: number of nodes, at least 1.

    Returns:
        The `Rule`.

    Raises:
        ValueError: if n is less than 1.

    Example:
        >>> import igjax
        >>> rule = igjax.rules.gauss_legendre(3)
        >>> float((rule.weights * rule.nodes**5).sum().round(15))  # 1/6, exactly
        0.166666666666667
    """
    _check_count("gauss_legendre", n, 1)
    return Rule.of(*_gauss.nodes_and_weights(n), 2 * n - 1)


@_maker
def gauss_kronrod(n: int) -> Rule:
    """The Gauss-Kronrod rule: (n-1)/2 Gauss nodes and (n+1)/2 more between them.

    Degree (3n + 1)/2 at the least. A row of its error weights is the classical estimate
    of quadrature software, the difference to the Gauss rule inside it.

    Args:
        n: number of nodes, odd, at least 3. 15 and 21 are the usual ones.

    Returns:
        The `Rule`.

    Raises:
        ValueError: if n is less than 3 or even; the message names the nearest count.

    Example:
        >>> import igjax
        >>> igjax.rules.gauss_kronrod(15).nodes[7].round(12)
        np.float64(0.5)

    References:
        Laurie, "Calculation of Gauss-Kronrod quadrature rules", Math. Comp. 66, 1997.
    """
    _check_count("gauss_kronrod", n, 3, odd=True)
    t, w = _kronrod(n // 2)
    rule = Rule.of(t, w, _kronrod_degree(n // 2))
    embedded = np.zeros(n)
    embedded[1::2] = gauss_legendre(n // 2).weights
    error_weights = np.vstack([w - embedded, rule.error_weights[1:]])
    return _frozen(t, w, error_weights)


@_maker
def clenshaw_curtis(n: int) -> Rule:
    """The Clenshaw-Curtis rule on Chebyshev's points, both ends among them.

    Degree n - 1 (n for odd n). Its nodes are nested: those of 9 are among those of 17.
    Nearly as good as Gauss-Legendre in practice.

    Args:
        n: number of nodes, at least 2.

    Returns:
        The `Rule`.

    Raises:
        ValueError: if n is less than 2.

    Example:
        >>> import igjax
        >>> igjax.rules.clenshaw_curtis(3).weights.round(12)
        array([0.16666667, 0.66666667, 0.16666667])

    References:
        Trefethen, "Is Gauss quadrature better than Clenshaw-Curtis?", SIAM Review 50, 2008.
    """
    _check_count("clenshaw_curtis", n, 2)
    t = (1 - np.cos(np.pi * np.arange(n) / (n - 1))) / 2
    chebyshev = np.cos(np.outer(np.arange(n), np.arccos(np.clip(2 * t - 1, -1, 1))))
    moments = np.zeros(n)
    even = np.arange(0, n, 2)
    moments[even] = 1 / (1 - even**2.0)
    w = np.linalg.solve(chebyshev, moments)
    return Rule.of(t, w / w.sum(), n - 1 + n % 2)


def composite(rule: Rule, panels: int) -> Rule:
    """A rule repeated on equal panels of [0, 1]: panels times as many nodes.

    Use it where the integrand has known corners at multiples of 1/panels, such as a
    `paths.polyline` with as many legs: no panel then straddles a corner. Take a rule
    without nodes at its ends there, as Gauss: in float32 those of two panels that meet
    are one point, which is on one side of the corner.

    Args:
        rule: the rule to repeat.
        panels: number of panels, at least 1.

    Returns:
        The `Rule`.

    Raises:
        ValueError: if panels is less than 1.

    Example:
        >>> import igjax
        >>> igjax.rules.composite(igjax.rules.midpoint(1), 4).nodes
        array([0.125, 0.375, 0.625, 0.875])
    """
    _check_count("composite", panels, 1, what="panels")
    corners = np.arange(panels + 1) / panels
    t = corners[:-1, None] + np.asarray(rule.nodes) / panels
    # A node at the end of a panel is a few floats before the corner: it sees its own side
    # of a jump there, and the one that begins the next panel sees the other.
    before = corners[1:-1, None] * (1 - 4 * np.finfo(float).eps)
    t[:-1] = np.minimum(t[:-1], before)
    w = np.tile(np.asarray(rule.weights) / panels, panels)
    m, n = np.shape(rule.error_weights)
    rows = np.zeros((m, panels, n))
    signs = _walsh(m, panels)
    rows[:] = np.asarray(rule.error_weights)[:, None] / panels * signs[:, :, None]
    made = _frozen(t.ravel(), w, rows.reshape(m, panels * n))
    return _named(made, f"composite({rule!r}, {panels})")


def on_panels(edges, panels) -> Rule:
    """The Gauss-Kronrod rule of 15 nodes on each of the panels that edges delimit.

    Args:
        edges: shape (capacity, 2), traced or not, the panels in any order.
        panels: how many of them count; the others get weight 0.

    Returns:
        A `Rule` of arrays, with signed sums of the panels' estimates as its error rows.

    Example:
        >>> import igjax, numpy as np
        >>> edges = np.array([[0.0, 0.1], [0.1, 1.0]])
        >>> igjax.rules.on_panels(edges, 2)
        Rule(30 nodes)
    """
    return _on_panels(jnp.asarray(edges), jnp.asarray(panels, jnp.int32))


@jax.jit
def _on_panels(edges, panels) -> Rule:
    kronrod = gauss_kronrod(15)
    count = edges.shape[0]
    used = jnp.arange(count, dtype=jnp.int32) < panels
    # An unused panel repeats the first one, whose nodes are evaluated anyway.
    edges = jnp.where(used[:, None], edges, edges[:1])
    width = (edges[:, 1] - edges[:, 0])[:, None]
    cast = lambda a: jnp.asarray(a, edges.dtype)
    weights = jnp.where(used[:, None], width * cast(kronrod.weights)[None], 0)
    difference = jnp.where(used[:, None], width * cast(kronrod.error_weights[0])[None], 0)
    signs = cast(_walsh(NULL_RULES, count))[:, :, None]
    return Rule(
        (edges[:, :1] + width * cast(kronrod.nodes)[None]).ravel(),
        weights.ravel(),
        (signs * difference[None]).reshape(NULL_RULES, -1),
    )


def split(rule: Rule, axis_name: str) -> Rule:
    """The same rule with its nodes split over an axis of a device mesh.

    Use it for one example that is large or hard enough to keep several devices busy: each
    evaluates its share of the nodes, and the sums are added up, once, before the error
    is estimated. Batches are spread by `igjax.sharded` alone; both may be combined, over
    two axes of a mesh.

    Args:
        rule: a fixed rule.
        axis_name: the axis, bound by `igjax.sharded(attribute, mesh, None)`, or by
            `jax.shard_map(..., check_vma=False)` where all devices get the same example.

    Returns:
        The rule. Its results are those of the given one to rounding, on every device.

    Raises:
        TypeError: if the rule is adaptive, its nodes not known beforehand, or the name
            is no string.
        ValueError: where it is used, if the axis is not bound.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> mesh = jax.make_mesh((jax.device_count(),), ("nodes",))
        >>> rule = igjax.rules.split(igjax.rules.gauss_legendre(1000), "nodes")
        >>> attribute = igjax.integrated_gradients(jnp.prod, rule=rule)
        >>> igjax.sharded(attribute, mesh, None)(jnp.ones(2), 0.0).values.round(4)
        Array([0.5, 0.5], dtype=float32)
    """
    if not isinstance(rule, Rule):
        raise TypeError(
            f"rules.split: rule must be a fixed rule, a rules.Rule, got {rule!r}. An "
            "adaptive rule is spread over devices with the batch: igjax.sharded."
        )
    if not isinstance(axis_name, str):
        raise TypeError(
            f"rules.split: axis_name must be the name of a mesh axis, got {axis_name!r}."
        )
    made = dataclasses.replace(rule, axis_name=axis_name)
    return _named(made, f"split({rule!r}, {axis_name!r})")


def _frozen(nodes, weights, error_weights) -> Rule:
    for a in (nodes, weights, error_weights):
        a.setflags(write=False)
    return Rule(nodes, weights, error_weights)


def _arrays(rule: Rule):
    return rule.nodes, rule.weights, rule.error_weights


def _check_count(maker: str, n, least: int, *, odd: bool = False, what: str = "nodes"):
    if not isinstance(n, (int, np.integer)) or isinstance(n, bool):
        raise TypeError(
            f"rules.{maker}: the number of {what} must be an integer, got {n!r}."
        )
    if n < least:
        raise ValueError(
            f"rules.{maker}: needs at least {least} {what}, got {n}. Pass {least} or more."
        )
    if odd and n % 2 == 0:
        raise ValueError(
            f"rules.{maker}: the number of {what} must be odd, got {n}. "
            f"Pass {n - 1} or {n + 1}."
        )


def _check_table(t, w):
    if t.ndim != 1 or t.shape != w.shape or not t.size:
        raise ValueError(
            "Rule.of: nodes and weights must have one shape (n,), got "
            f"{t.shape} and {w.shape}."
        )
    if not (t[0] >= 0 and t[-1] <= 1 and (np.diff(t) > 0).all()):  # NaN fails too
        raise ValueError(f"Rule.of: nodes must ascend within [0, 1], got {t}. Sort them.")
    if not ((w > 0).all() and abs(w.sum() - 1) <= 1e-12):
        raise ValueError(
            f"Rule.of: weights must be positive with sum 1, got sum {w.sum()}. "
            "Divide them by their sum."
        )


def _error_weights(t, w, degree: int) -> np.ndarray:
    n = len(t)
    if n == 1:
        return np.zeros((0, 1))
    equal = n > 2 and np.ptp(np.diff(t)) < 1e-9
    nulls = _local_nulls(t, w, degree) if equal else _spectral_nulls(t, w)
    nulls = nulls * (SAFETY * _step_error(t, w) / _step_response(t, nulls))
    return np.vstack([2 * _visible_error(t, w, degree), nulls])


def _visible_error(t, w, degree: int) -> np.ndarray:
    """The rule's error on polynomials above its degree, as weights of least norm."""
    n = len(t)
    if degree + 1 >= n:  # the nodes cannot see what the rule gets wrong
        return np.zeros(n)
    top = min(n - 1, max(degree + 2, int(2 * n**0.5)))
    basis = _orthonormal_legendre(t, top)
    defect = basis @ w
    defect[: degree + 1] = 0
    return np.linalg.lstsq(basis, defect, rcond=1e-10)[0]


def _spectral_nulls(t, w) -> np.ndarray:
    """The last few orthogonal polynomials of the nodes, times the weights.

    The divided difference of all nodes vanishes below degree n - 1; times polynomials it
    spans all null rules, the highest first.
    """
    root = np.sqrt(w)[:, None]
    powers = _orthonormal_legendre(t, min(NULL_RULES, len(t) - 1) - 1).T
    q, _ = np.linalg.qr(_divided_difference(t)[:, None] * powers / root)
    return (q * root).T[::-1]


def _divided_difference(t) -> np.ndarray:
    """1 / prod_j (t_k - t_j) for each node, the largest made 1: its logarithms may be."""
    gaps = t[:, None] - t + np.eye(len(t))
    logs = -np.log(np.abs(gaps)).sum(1)
    return np.exp(logs - logs.max()) * (-1.0) ** np.arange(len(t))


def _local_nulls(t, w, degree: int) -> np.ndarray:
    """Differences of order degree + 1 all along the path, with Walsh signs."""
    n = len(t)
    order = min(degree + 1, n - 1)
    if n - order <= 2 * NULL_RULES:  # too few for signs to tell them apart
        return _spectral_nulls(t, w)
    signs = np.pad(_walsh(NULL_RULES, n - order), ((0, 0), (order, order)))
    return np.diff(signs, order) * (-1.0) ** order


def _walsh(rows: int, columns: int) -> np.ndarray:
    """Rows of signs +-1, mutually orthogonal over every four columns."""
    i, j = np.arange(rows)[:, None] % 4, np.arange(columns) % 4
    common = i & j
    return 1.0 - 2.0 * ((common & 1) ^ (common >> 1))


def _step_error(t, w) -> float:
    """Root mean square over s of the rule's error on the step function [t > s]."""
    edges = np.concatenate([[0.0], t, [1.0]])
    above = np.append(1.0, 1.0 - np.cumsum(w))  # the rule's value for s in each gap
    a, b = above - (1 - edges[:-1]), above - (1 - edges[1:])
    return float(np.sqrt((np.diff(edges) * (a * a + a * b + b * b) / 3).sum()))


def _step_response(t, rows) -> float:
    """Root mean square over s of the rows' joint response to the step [t > s]."""
    edges = np.concatenate([[0.0], t, [1.0]])
    tails = np.cumsum(rows[:, ::-1], axis=1)[:, ::-1]
    response = np.append((tails**2).sum(0), 0.0)
    return float(np.sqrt((np.diff(edges) * response).sum()))


def _orthonormal_legendre(t, degree: int) -> np.ndarray:
    scale = np.sqrt(2 * np.arange(degree + 1) + 1)
    return legendre.legvander(2 * np.asarray(t) - 1, degree).T * scale[:, None]


def _kronrod_degree(gauss: int) -> int:
    return 5 if gauss == 1 else 3 * gauss + 1 + gauss % 2


def _kronrod(gauss: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [0, 1]: the Gauss nodes, and the zeros of Stieltjes' polynomial.

    Stieltjes' polynomial E, of degree g + 1, is orthogonal under the weight P_g to all
    polynomials of lower degree. Its Legendre coefficients solve a small linear system,
    whose entries (integrals of three Legendre polynomials) a Gauss rule gives exactly.
    """
    g = gauss
    x, w = _gauss.nodes_and_weights(2 * g + 2)
    x = 2 * x - 1
    p = legendre.legvander(x, g + 1)
    triple = (p[:, : g + 1] * (w * p[:, g])[:, None]).T @ p
    lower = np.linalg.lstsq(triple[:, : g + 1], -triple[:, g + 1], rcond=None)[0]
    coefficients = np.append(lower, 1.0)
    added = _polish(coefficients, legendre.legroots(coefficients).real)
    t = np.sort(np.concatenate([2 * _gauss.nodes_and_weights(g)[0] - 1, added]))
    t = (t - t[::-1]) / 2  # symmetric to the last bit
    basis = legendre.legvander(t, 2 * g).T
    moments = np.zeros(2 * g + 1)
    moments[0] = 1
    weights = np.linalg.solve(basis, moments)
    return (t + 1) / 2, (weights + weights[::-1]) / 2


def _polish(coefficients, roots):
    """Two Newton steps: eigenvalues of the companion matrix lose some digits."""
    slope = legendre.legder(coefficients)
    for _ in range(2):
        step = legendre.legval(roots, coefficients) / legendre.legval(roots, slope)
        roots = roots - step
    return roots
