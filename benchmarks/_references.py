"""The exact values that everybody is judged by, from code that igjax does not share.

Panels of the path are integrated by five Gauss nodes, once whole and once in halves,
and halved until both agree, feature by feature, and explain the change of the score, to
a thousandth of the tolerance. It starts from `START` panels and looks for nothing else:
slow, and simple enough to believe. igjax at a tight tolerance must agree; where the two
differ, neither is believed, and the input is left out and counted.

Networks with thousands of kinks along the path are beyond this. They are integrated by
`suite.fine` nodes, denser towards the baseline, and by half as many; where these differ
by more than a thousandth, the input is left out.
"""

from __future__ import annotations

import _suites
import jax
import jax.numpy as jnp
import numpy as np

import igjax

TOLERANCE = 1e-6
START = 32
NARROWEST = 1e-13
AGREE = {False: 1e-4, True: 1e-3}  # of a bisection, of a fine rule


def reference(suite: _suites.Suite, lanes: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Exact values (n, ...) in float64, and which of the n rows can be believed."""

    def make():
        if suite.fine:
            return _fine(suite, suite.fine), _fine(suite, suite.fine // 2)
        with jax.enable_x64(True):
            return _bisect(suite, lanes), _igjax(suite)

    values, other = _suites.remembered(_suites.fingerprint(suite), make)
    axes = tuple(range(1, values.ndim))
    size = np.abs(values).sum(axes)
    floor = np.finfo(np.float64).eps ** 0.5 * 1e-3
    believed = np.abs(values - other).sum(axes) <= AGREE[bool(suite.fine)] * size + floor
    return values, believed


def _igjax(suite):
    rule = igjax.rules.adaptive(TOLERANCE, max_evaluations=30_000)
    explain = jax.jit(_suites.explain(suite, rule))
    return np.asarray(explain(*_suites.arrays(suite, "float64")).values)


def _fine(suite, nodes):
    """Composite Gauss in u, with t = u^2, which resolves a steep start; float32."""
    t5, w5 = np.polynomial.legendre.leggauss(5)
    panels = nodes // 5
    u = ((np.arange(panels)[:, None] + (t5 + 1) / 2) / panels).ravel()
    weights = np.tile(w5 / 2 / panels, panels) * 2 * u
    x, baseline, each, shared = _suites.arrays(suite, "float32")

    @jax.jit
    def block(x, each, t, w):
        gradient = lambda t: jax.grad(suite.f)(
            baseline + t * (x - baseline), *each, *shared
        )
        return jnp.tensordot(w, jax.vmap(gradient)(t), 1)

    # A loop on the host: XLA's CPU backend runs convolutions in a scan many times slower.
    blocks = list(_blocks(np.float32(u**2), np.float32(weights)))

    def integrate(x, each):
        total = sum(np.asarray(block(x, each, *tw), np.float64) for tw in blocks)
        return np.asarray(x - baseline, np.float64) * total

    return np.stack([integrate(x[i], tuple(a[i] for a in each)) for i in range(len(x))])


def _blocks(nodes, weights, size=20):
    return zip(nodes.reshape(-1, size), weights.reshape(-1, size), strict=True)


def _bisect(suite, lanes):
    t5, w5 = np.polynomial.legendre.leggauss(5)
    t5, w5 = (t5 + 1) / 2, w5 / 2
    nodes = np.concatenate([t5, t5 / 2, 0.5 + t5 / 2])

    def panel(x, lo, width, each, shared):
        dx = x - suite.baseline
        at = lambda t: suite.baseline + t * dx
        score = lambda t: suite.f(at(t), *each, *shared)
        slope = lambda t: dx * jax.grad(suite.f)(at(t), *each, *shared)
        g = jax.vmap(slope)(lo + width * nodes)
        coarse = width * jnp.tensordot(w5, g[:5], 1)
        halves = width / 2 * (jnp.tensordot(w5, g[5:10], 1) + jnp.tensordot(w5, g[10:], 1))
        start, end = score(lo), score(lo + width)
        noise = 16 * jnp.finfo(start.dtype).eps * jnp.abs(start)
        gap = jnp.abs(halves.sum() - (end - start)) - noise
        return halves, jnp.maximum(jnp.abs(halves - coarse).sum(), gap)

    each_axes = (0,) * len(suite.each)
    panels = jax.jit(jax.vmap(panel, (0, 0, 0, each_axes, None)))
    count = len(suite.x)
    total, size = np.zeros_like(suite.x), None
    example = np.repeat(np.arange(count), START)
    lo = np.tile(np.arange(START) / START, count)
    width = np.full(len(lo), 1 / START)
    while len(lo):
        again, rough = [], total.copy()
        for part in np.array_split(np.arange(len(lo)), -(-len(lo) // lanes)):
            rows = np.resize(part, lanes)
            i = example[rows]
            value, error = map(
                np.asarray,
                panels(
                    *(suite.x[i], lo[rows], width[rows]),
                    *(tuple(a[i] for a in suite.each), suite.shared),
                ),
            )
            for row, v, e in zip(part, value, error, strict=False):
                rough[example[row]] += v
                share = 0 if size is None else TOLERANCE * 1e-3 * size[example[row]]
                if e <= share + 1e-15 or width[row] < NARROWEST:
                    total[example[row]] += v
                else:
                    again.append(row)
        again = np.array(again, int)
        size = np.abs(rough).reshape(count, -1).sum(1)
        half = width[again] / 2
        example = np.repeat(example[again], 2)
        lo = np.stack([lo[again], lo[again] + half], 1).ravel()
        width = np.repeat(half, 2)
    return total
