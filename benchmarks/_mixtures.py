r"""Random sums of ridges of every kind, whose attributions have a closed form.

$f(x) = \sum_k a_k\,h_k(w_k \cdot x)$ with $w_k \cdot x = t$ along the path from zero to
ones: feature i gets $\sum_k a_k w_{ki} (h_k(1) - h_k(0))$. One program serves all suites,
since what differs between them is data: which h, where, how narrow, how far the features
of a ridge cancel (its sizes add up to `R`). A `factor` other than 1 makes derivatives that
contradict the scores; then nothing may converge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

FEATURES, RIDGES = 8, 24
LINEAR, STEP, KINK, BUMP, LORENTZ, POWER, JUMP, CHIRP = range(8)


class Mixture(NamedTuple):
    """Parameters of one example, or of many: leading axes."""

    kind: np.ndarray  # (ridges,)
    height: np.ndarray
    place: np.ndarray
    width: np.ndarray
    weights: np.ndarray  # (ridges, features): sum 1
    factor: np.ndarray  # (): of the derivatives


def profiles(kind, u, width):
    """The profile of each ridge, at u = (t - place) / width."""
    positive = jnp.where(u > 0, u, 1.0)
    lines = [
        u * width,
        jnp.tanh(u),
        jnp.maximum(u * width, 0),
        jnp.exp(-jnp.minimum(u**2, 80.0)),
        1 / (1 + u**2),
        jnp.where(u > 0, positive**width, 0.0),  # its width is the exponent
        jnp.where(u > 0, 1.0, 0.0),
        jnp.sin(u * jnp.abs(u)),
    ]
    return jnp.select([kind == i for i in range(8)], [a.astype(u.dtype) for a in lines])


def score(x, m: Mixture):
    """The score of one example."""
    z = m.weights @ x
    z = m.factor * z + jax.lax.stop_gradient(z - m.factor * z)
    width = jnp.where(m.kind == POWER, 1, m.width)
    return m.height @ profiles(m.kind, (z - m.place) / width, m.width)


def exact(m: Mixture) -> np.ndarray:
    """The attributions (examples, features) of a batch, in float64."""
    with jax.enable_x64(True):
        m = Mixture(*map(jnp.asarray, m))
        width = jnp.where(m.kind == POWER, 1, m.width)
        at = lambda t: profiles(m.kind, (t - m.place) / width, m.width)
        change = np.asarray(m.height * (at(1.0) - at(0.0)))
    return (change[..., None] * np.asarray(m.weights)).sum(1)


def _directions(g, count, cancel):
    """Weights (count, RIDGES, FEATURES) of sum 1, their sizes adding up to `cancel`."""
    w = g.normal(size=(count, RIDGES, FEATURES)) * (g.uniform(size=FEATURES) < 0.7)
    w[..., 0], w[..., 1] = np.abs(w[..., 0]) + 0.1, -np.abs(w[..., 1]) - 0.1
    size = np.abs(w)
    w = w / size.sum(-1, keepdims=True)
    # w + shift * |w| has the sum 1 and the size R for one shift.
    signed = w.sum(-1, keepdims=True)
    cancel = np.broadcast_to(np.asarray(cancel, float), (count, RIDGES))[..., None]
    positive, negative = (1 + signed) / 2, (1 - signed) / 2
    plus, minus = (cancel + 1) / 2, (cancel - 1) / 2
    up = plus / np.maximum(positive, 1e-3)
    down = minus / np.maximum(negative, 1e-3)
    w = np.where(w > 0, w * up, w * down)
    # Multiples of 2^-16 whose sum is 1 in float32, too: a cliff stays where it is.
    w = np.round(w / w.sum(-1, keepdims=True) * 2**16) / 2**16
    w[..., 0] += 1 - w.sum(-1)
    return w


def _mixture(g, count, kinds, used, *, width, place=None, height=None, cancel=1.0):
    """`used` ridges of random kinds, the others of height zero."""
    shape = (count, RIDGES)
    kind = g.choice(kinds, shape)
    used = np.arange(RIDGES) < np.broadcast_to(used, count)[:, None]
    height = g.normal(size=shape) if height is None else np.broadcast_to(height, shape)
    place = g.uniform(0.03, 0.97, shape) if place is None else place
    return Mixture(
        kind,
        np.where(used, height, 0.0),
        np.broadcast_to(place, shape).copy(),
        np.broadcast_to(width, shape).copy(),
        _directions(g, count, cancel),
        np.ones(count),
    )


def _some(g, count):
    return g.integers(1, RIDGES, count)


def _log(g, shape, low, high):
    return 10 ** g.uniform(low, high, shape)


def steps(g, n):
    """Steps of any width, with features that cancel up to 30 times."""
    cancel = _log(g, (n, 1), 0, 1.5)
    return _mixture(
        g, n, [STEP], _some(g, n), width=_log(g, (n, RIDGES), -6, 0), cancel=cancel
    )


def kinks(g, n):
    """Ridges of ReLUs, of many directions."""
    return _mixture(g, n, [KINK], RIDGES, width=1.0, cancel=_log(g, (n, 1), 0, 1))


def few_kinks(g, n):
    """One to five of them, in directions of their own."""
    cancel = _log(g, (n, 1), 0, 1)
    return _mixture(g, n, [KINK], g.integers(1, 6, n), width=1.0, cancel=cancel)


def jumps_hidden(g, n):
    """One to three hard jumps beside a steep linear background that cancels."""
    cancel = np.ones((n, RIDGES))
    cancel[:, 0] = 10 ** g.uniform(0, 2.5, n)
    m = _mixture(g, n, [JUMP], g.integers(2, 5, n), width=1.0, cancel=cancel)
    m.kind[:, 0] = LINEAR
    m.height[:, 0] = _log(g, n, -1, 1.5)
    return m


def powers(g, n):
    """Powers at the baseline, from 0.1, beside smooth ridges."""
    m = _mixture(g, n, [STEP], g.integers(1, 6, n), width=_log(g, (n, RIDGES), -0.5, 0.5))
    some = g.uniform(size=m.kind.shape) < 0.6
    some[:, 0] = True
    m.kind[some] = POWER
    m.place[some] = 0
    m.width[some] = g.uniform(0.1, 0.9, some.sum())
    return m


def bumps(g, n):
    """Bumps, which leave nothing at the end, beside a few smooth ridges."""
    m = _mixture(g, n, [BUMP], g.integers(2, 10, n), width=_log(g, (n, RIDGES), -3, -0.5))
    m.kind[:, 0] = LINEAR
    return m


def lorentz(g, n):
    """The same of Lorentz curves."""
    return bumps(g, n)._replace(
        kind=np.where(np.arange(RIDGES)[None] == 0, LINEAR, LORENTZ).repeat(n, 0)
    )


def chirps(g, n):
    """Oscillations that become quicker."""
    m = _mixture(g, n, [CHIRP], g.integers(1, 4, n), width=_log(g, (n, RIDGES), -1.7, 0))
    return m


def cliffs(g, n):
    """All features saturate at one end of the path, in widths of 1e-7 to 0.1."""
    width = _log(g, (n, RIDGES), -7, -1)
    off = np.abs(g.normal(size=width.shape)) * width * g.choice([0, 1, 3], (n, 1))
    place = np.where(g.uniform(size=(n, 1)) < 0.5, off, 1 - off)
    return _mixture(g, n, [STEP], g.integers(1, 6, n), width=width, place=place)


def poles(g, n):
    """A narrow peak, thousands of times as high as what it leaves."""
    m = _mixture(g, n, [LORENTZ], 2, width=_log(g, (n, RIDGES), -6, -2))
    m.kind[:, 1] = LINEAR
    m.height[:, 0] = _log(g, n, 0, 5)
    return m


def contradicting(g, n):
    """Derivatives that are wrong by a factor."""
    m = _mixture(g, n, [STEP, KINK], _some(g, n), width=_log(g, (n, RIDGES), -1, 0))
    return m._replace(factor=g.choice([0.0, 0.5, 0.77, 1.3, 2.0], n))


def mixed(g, n):
    """A bit of everything, and few or many features that cancel."""
    kinds = [STEP, KINK, BUMP, LORENTZ, JUMP, LINEAR]
    cancel = _log(g, (n, 1), 0, 1.5)
    width = _log(g, (n, RIDGES), -4, 0)
    return _mixture(g, n, kinds, _some(g, n), width=width, cancel=cancel)


def smooth(g, n):
    """Wide steps only: what most networks are."""
    return _mixture(g, n, [STEP], _some(g, n), width=_log(g, (n, RIDGES), -0.5, 1))


SUITES: dict[str, Callable[..., Mixture]] = {
    make.__name__: make
    for make in (
        *(
            smooth,
            steps,
            kinks,
            few_kinks,
            jumps_hidden,
            powers,
            bumps,
            lorentz,
            chirps,
            cliffs,
        ),
        *(poles, contradicting, mixed),
    )
}
