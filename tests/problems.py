"""Functions whose path integrals have closed forms: the answers to compare with.

Every `exact` is written down, not computed by quadrature; its derivation is the comment
above it. In the comments b is the baseline, d = x - b, dF = f(x) - f(b), and g(t) is a
feature's integrand. The most useful one: for a ridge f = h(w.x + c) the integrand is
w_i d_i h'(s + t w.d), so the values are dF in proportion to w_i d_i.

Tags. How hard the integrand is, exactly one of: `degree k` (a polynomial in t), `smooth`
(analytic), `kinked` (jumps), `spike` (analytic, but narrow). Besides: `open` (the gradient
at the baseline is undefined or another one, so that a rule must not use it), `pytree`,
`complex`, `captum` (a published value of Captum's tests or tutorials is wrong or loose).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit

HARDNESS = {"degree 0", "degree 1", "degree 2", "degree 5", "smooth", "kinked", "spike"}
TAGS = HARDNESS | {"open", "pytree", "complex", "captum"}


@dataclasses.dataclass(frozen=True, eq=False)  # by identity: arrays do not hash
class Problem:
    """`f`, the ends of the path, and the values along the straight line."""

    name: str
    f: Callable
    x: Any
    baseline: Any
    exact: Any
    tags: frozenset[str]

    @property
    def degree(self) -> int | None:
        """The degree of the integrand, if it is a polynomial."""
        degrees = [int(tag[7:]) for tag in self.tags if tag.startswith("degree")]
        return degrees[0] if degrees else None


PROBLEMS: list[Problem] = []


def _add(name, f, x, baseline, exact, *tags):
    array = lambda tree: jax.tree.map(lambda a: np.asarray(a) * 1.0, tree, is_leaf=_is_list)
    ends = array(x), array(baseline)
    PROBLEMS.append(Problem(name, f, *ends, array(exact), frozenset(tags)))


def _is_list(tree):
    return isinstance(tree, list)


def tagged(*tags: str) -> list[Problem]:
    """The problems that have all of the tags."""
    return [p for p in PROBLEMS if p.tags.issuperset(tags)]


def named(name: str) -> Problem:
    """The problem of that name."""
    (problem,) = [p for p in PROBLEMS if p.name == name]
    return problem


# Polynomials.

W = np.array([1.5, -2.0, 0.5, 3.0])
X = np.array([0.8, -1.1, 2.0, 0.3])
B = np.array([-0.4, 0.7, 0.25, 0.1])
D = X - B

# g = w_i d_i, the same at every t.
_add("linear", lambda x: W @ x + 7.0, X, B, W * D, "degree 0")

# The published Guided IG test: gradient (2, 1).
_add("linear pair", lambda x: 2 * x[0] + x[1], [10, 5], [-1, -3], [22, 8], "degree 0")

# A line of slope w_1 in a region where the smaller one stays the smaller: min(x1, x2).
_add("min inside", lambda x: jnp.min(x), [1, 3], [0, 0], [1, 0], "degree 0", "open")

# g_1 = d_1 (b_2 + t d_2): d_1 times the mean of b_2 and x_2.
_add(
    "bilinear",
    lambda x: x[0] * x[1],
    [3.0, 2.0],
    [-1.0, 0.5],
    [4.0 * 1.25, 1.5 * 1.0],
    "degree 1",
)

# The gradient (Q + Q')x is affine in t: its mean is its value at the middle.
Q = np.array([[1.0, 2.0, 0.0], [-1.0, 0.5, 3.0], [0.25, 0.0, -2.0]])
_add(
    "quadratic form",
    lambda x: x @ Q @ x,
    X[:3],
    B[:3],
    D[:3] * ((Q + Q.T) @ (X[:3] + B[:3]) / 2),
    "degree 1",
)

# Published Guided IG tests, as straight lines. Separable: x_i's own terms.
_add("squares", lambda x: 2 * x[0] ** 2 + x[1] ** 2, [3, 3], [0, 0], [18, 9], "degree 1")
# A ridge: dF = 81 in proportion 2 : 1.
_add("ridge square", lambda x: (2 * x[0] + x[1]) ** 2, [3, 3], [0, 0], [54, 27], "degree 1")

# One feature: dF, here 2^3.
_add("cube", lambda x: x**3, 2.0, 0.0, 8.0, "degree 2")

# From 0 each factor is t x_i, so g_i = m_i F t^(|m|-1): m_i / |m| of F. Multilinear, as
# here, the split is equal and is the Shapley value.
_add("product", jnp.prod, X[:3], 0 * X[:3], np.full(3, np.prod(X[:3]) / 3), "degree 2")
_add(
    "monomial",
    lambda x: x[0] ** 2 * x[1] * x[2] ** 3,
    X[:3],
    0 * X[:3],
    np.array([2, 1, 3]) / 6 * (X[0] ** 2 * X[1] * X[2] ** 3),
    "degree 5",
)

# A bilinear function of two leaves: half of the product's growth each, as above.
_add(
    "table times number",
    lambda x: x["table"].sum() * x["number"],
    {"table": np.array([[1.0, 2.0], [3.0, -1.0]]), "number": 4.0},
    {"table": np.zeros((2, 2)), "number": 2.0},
    {"table": 3.0 * np.array([[1.0, 2.0], [3.0, -1.0]]), "number": 2.0 * 2.5},
    "degree 1",
    "pytree",
)

# |z|^2 is separable over the entries: its own growth each.
Z, ZB = np.array([1 + 2j, -0.5j]), np.array([0.5j, 1 - 1j])
_add(
    "modulus",
    lambda z: (z.real**2 + z.imag**2).sum(),
    Z,
    ZB,
    abs(Z) ** 2 - abs(ZB) ** 2,
    "degree 1",
    "complex",
)

# Smooth functions.


def _ridge(growth):
    """The growth of a ridge in W.x, in proportion to w_i d_i."""
    return W * D / (W @ D) * growth


SX, SB = W @ X, W @ B
_add(
    "ridge sigmoid",
    lambda x: jax.nn.sigmoid(W @ x),
    X,
    B,
    _ridge(expit(SX) - expit(SB)),
    "smooth",
)
_add(
    "ridge exp",
    lambda x: jnp.exp(W @ x),
    X,
    B,
    _ridge(np.exp(SX) - np.exp(SB)),
    "smooth",
)
# A softmax over logits that are multiples of one number is a function of that number.
U = np.array([0.25, -0.5, 0.75])
_add(
    "ridge softmax",
    lambda x: jax.nn.softmax(U * (W @ x))[2],
    X,
    B,
    _ridge(1 / np.exp(SX * (U - 0.75)).sum() - 1 / np.exp(SB * (U - 0.75)).sum()),
    "smooth",
)

# A sum over features of functions of one feature: the growth of each term.
_add(
    "separable",
    lambda x: jnp.sin(x[0]) + jnp.exp(x[1]) + jnp.arctan(x[2]) + 1 / (2 + x[3]),
    X,
    B,
    [
        np.sin(X[0]) - np.sin(B[0]),
        np.exp(X[1]) - np.exp(B[1]),
        np.arctan(X[2]) - np.arctan(B[2]),
        1 / (2 + X[3]) - 1 / (2 + B[3]),
    ],
    "smooth",
)

# y = -1/4 + 3t/4: the first is the integral of exp(y); the sum of both is dF.
E1 = (np.exp(0.5) - np.exp(-0.25)) / 0.75
_add(
    "x exp(y)",
    lambda x: x[0] * jnp.exp(x[1]),
    [0.5, 0.5],
    [-0.5, -0.25],
    [E1, 0.5 * np.exp(0.5) + 0.5 * np.exp(-0.25) - E1],
    "smooth",
)

# x2 is never read; x3 does not move: zero both. x1 gets all of dF.
_add(
    "unread and unmoved",
    lambda x: jnp.tanh(x[0] + x[2]),
    [1.0, 5.0, 0.5],
    [0.0, 2.0, 0.5],
    [np.tanh(1.5) - np.tanh(0.5), 0.0, 0.0],
    "smooth",
)


# One hidden layer: every unit is a ridge, and the values of a sum are the sums.
V1 = np.array([[0.6, -1.1, 0.3, 0.9], [-0.7, 0.2, 1.3, -0.4], [1.0, 1.0, -0.6, 0.1]])
C1 = np.array([0.2, -0.5, 0.1])
V2 = np.array([1.0, -2.0, 0.7])


def hidden_layer_values(sigma, w, c, v, x, b):
    """Exact values of v.sigma(w x + c): sums of ridges, for w.d of any size but 0."""
    end, start = w @ x + c, w @ b + c
    return (v * (sigma(end) - sigma(start)) / (end - start)) @ w * (x - b)


_add(
    "hidden tanh",
    lambda x: V2 @ jnp.tanh(V1 @ x + C1),
    X,
    B,
    hidden_layer_values(np.tanh, V1, C1, V2, X, B),
    "smooth",
)

# Functions with kinks on the path.

_add(
    "hidden relu",
    lambda x: V2 @ jax.nn.relu(V1 @ x + C1),
    X,
    B,
    hidden_layer_values(lambda z: np.maximum(z, 0), V1, C1, V2, X, B),
    "kinked",
)
# A ridge whose kink is off the path is linear: w_i d_i times the slope.
_add(
    "ridge relu off the kink",
    lambda x: jax.nn.relu(W @ x + 20.0),
    X,
    B,
    W * D,
    "degree 0",
)
# Without biases, from 0, a ReLU network is linear along the path: x times its gradient.
_POSITIVE = (V1 @ X > 0) * 1.0
_add(
    "relu without biases",
    lambda x: V2 @ jax.nn.relu(V1 @ x),
    X,
    0 * X,
    X * ((V2 * _POSITIVE) @ V1),
    "degree 0",
    "open",
)
# Homogeneous of degree k, from 0: the gradient scales as t^(k-1), so x times it over k.
_add("norm", jnp.linalg.norm, X, 0 * X, X**2 / np.linalg.norm(X), "degree 0", "open")
_add(
    "homogeneous square",
    lambda x: x[0] * jnp.linalg.norm(x),
    [3, 4],
    [0, 0],
    [3 * (5 + 9 / 5) / 2, 4 * (12 / 5) / 2],
    "degree 1",
    "open",
)

# At (3t, t) it is relu(2t - 1), open over half of the path: there the slopes are 3 and -1.
_add(
    "relu of relus",
    lambda x: jax.nn.relu(jax.nn.relu(x[0]) - 1 - jax.nn.relu(x[1])),
    [3, 1],
    [0, 0],
    [1.5, -0.5],
    "kinked",
)
# The same function of nonnegative numbers, built otherwise.
_add(
    "relu of relus again",
    lambda x: jax.nn.relu(jax.nn.relu(x[0] - 1) - jax.nn.relu(x[1])),
    [3, 1],
    [0, 0],
    [1.5, -0.5],
    "kinked",
)
# One feature: dF. The gradient at x is 0.
_add("saturated", lambda x: 1 - jax.nn.relu(1 - x), 2.0, 0.0, 1.0, "kinked")

# relu(sum(x) - 10) from 0: open for t > 10 / sum(x), each x_i with slope 1.
for row in ([3.0, 4.0, 5.0], [6.0, 7.0, 8.0], [9.0, 10.0, 11.0]):
    _add(
        f"captum tutorial {row[0]:.0f}",
        lambda x: jax.nn.relu(x.sum() - 10.0),
        row,
        [0, 0, 0],
        np.array(row) * (1 - 10 / sum(row)),
        "kinked",
        "captum",
    )

# Captum's BasicModel_MultiLayer, target 0: four relus of x1 + x2 + x3 plus (-10, 1, 1, 1).
# Only x2 moves, so it gets dF = 392 - 2.
OFFSETS = np.array([-10.0, 1.0, 1.0, 1.0])
_add(
    "captum multilayer",
    lambda x: jax.nn.relu(x.sum() + OFFSETS).sum() - 1.0,
    [0, 100, 0],
    [0, 0, 0],
    [0, 390, 0],
    "kinked",
    "captum",
)
# Its second half, from one hidden layer to the other: separable.
_add(
    "captum multilayer head",
    lambda z: jax.nn.relu(z).sum() - 1.0,
    100 + OFFSETS,
    OFFSETS,
    [90, 100, 100, 100],
    "kinked",
    "captum",
)

# Published SyReNN tests: a relu that closes halfway, and one that never does.
_add("syrenn closing", lambda x: jax.nn.relu(x)[1], [0, -1], [0, 1], [0, -1], "kinked")
_add("syrenn open", lambda x: jax.nn.relu(x)[0], [4, 3], [2, 3], [2, 0], "degree 0")

# x1 is the smaller until t = 1/2, then x2 is; each counts on its own half.
_add("min crossing", jnp.min, [1, 0], [0, 1], [0.5, -0.5], "kinked")

# Narrow features that cancel in the sum: separable, +1 and -1 up to e^-250.
STEEP = 500.0
_add(
    "cancelling steps",
    lambda x: jax.nn.sigmoid(STEEP * (x[0] - 0.5)) - jax.nn.sigmoid(STEEP * (x[1] - 0.5)),
    [1, 1],
    [0, 0],
    [1, -1],
    "spike",
)
# The same with tanh and off the middle of the path.
_TANH = np.tanh(60 * 0.387) + np.tanh(60 * 0.613)
_add(
    "cancelling tanhs",
    lambda x: jnp.tanh(60 * (x[0] - 0.613)) - jnp.tanh(60 * (x[1] - 0.613)),
    [1, 1],
    [0, 0],
    [_TANH, -_TANH],
    "spike",
)
