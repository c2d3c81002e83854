r"""Nodes and weights of Gauss and Legendre to the last digit, in time O(n^2).

The zeros of the Legendre polynomial P_n(cos a) lie nearly evenly in the angle a, and
Newton's method in it, from Tricomi's estimate, converges in a few steps. P_n comes from its
recurrence in the form of differences, with 1 - cos a = 2 sin(a/2)^2 in the place of cos a:
nothing cancels at the ends, where the nodes crowd. In this variable the weights are
2 / (dP_n/da)^2, which an error of a node hardly moves. Eigenvalues of a matrix, the other
way, cost O(n^3), and digits of the outermost weights.
"""

import numpy as np

STEPS = 4  # the first estimate has three digits or more, each step doubles them


def nodes_and_weights(n: int) -> tuple[np.ndarray, np.ndarray]:
    """The nodes and weights of n nodes on [0, 1], float64, symmetric to the last bit."""
    angle = _estimate(n)
    for _ in range(STEPS):
        value, slope = _legendre(n, angle)
        angle = angle - value / slope
    lower = np.sin(angle / 2) ** 2  # (1 - cos a) / 2
    weights = 1 / _legendre(n, angle)[1] ** 2
    odd = n % 2
    if odd:
        lower[-1] = 0.5
    t = np.concatenate([lower, 1 - lower[::-1][odd:]])
    w = np.concatenate([weights, weights[::-1][odd:]])
    return t, w / w.sum()


def _estimate(n: int) -> np.ndarray:
    """The angles of the lower half of the nodes, the middle one among them."""
    even = (4 * np.arange(1, (n + 1) // 2 + 1) - 1) * np.pi / (4 * n + 2)
    return even + (n - 1) / (8 * n**3) / np.tan(even)


def _legendre(n: int, angle) -> tuple[np.ndarray, np.ndarray]:
    """P_n(cos a), and its derivative with respect to a."""
    low = 2 * np.sin(angle / 2) ** 2  # 1 - cos a
    value, difference = 1 - low, -low
    for k in range(1, n):
        difference = (k * difference - (2 * k + 1) * low * value) / (k + 1)
        value = value + difference
    return value, n * (difference - low * value) / np.sin(angle)
