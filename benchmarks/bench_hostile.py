"""Is the tolerance kept on thousands of functions that were made to break it?

Random mixtures of ridges (`_mixtures.py`), in float64, float32 and with scores in half
precision. For each suite and tolerance: false promises (it says `converged`, and the true
error exceeds the tolerance), the worst error of those that converged, in units of the
tolerance, the share that did not converge and why, gradients spent, and how often `error`
covers the true one.
"""

from __future__ import annotations

import argparse
import time
import zlib

import _mixtures
import jax
import jax.numpy as jnp
import numpy as np

import igjax

TOLERANCES = (0.5, 0.1, 1e-2, 1e-3, 1e-6)
DTYPES = ("float64", "float32", "bfloat16", "float16")


def program(dtype: str):
    """Attributions of a batch at any tolerance; half precision is that of the score."""
    wide = "float64" if dtype == "float64" else "float32"

    def f(x, m):
        return _mixtures.score(x, m).astype(dtype)

    def explain(tolerance, m):
        rule = igjax.rules.adaptive(tolerance)
        attribute = igjax.integrated_gradients(f, rule=rule)
        x = jnp.ones(_mixtures.FEATURES, wide)
        return jax.vmap(lambda m: attribute(x, 0.0, m))(m)

    return jax.jit(explain), wide


def problem(name: str, count: int, wide: str, seed: int = 0):
    """So many mixtures of a suite, and their exact values."""
    g = np.random.default_rng([seed, zlib.crc32(name.encode())])
    cast = lambda a, kind: a.astype(kind if a.dtype.kind == "f" else "int32")
    m = jax.tree.map(lambda a: cast(a, wide), _mixtures.SUITES[name](g, count))
    return m, _mixtures.exact(jax.tree.map(lambda a: cast(a, "float64"), m))


def judged(result, exact, tolerance):
    """Of each function: did it converge, its error in tolerances, is it covered."""
    size = np.abs(exact).sum(1)
    error = np.abs(np.asarray(result.values, np.float64) - exact).sum(1)
    estimated = np.asarray(result.error, np.float64).sum(1)
    share = error / np.maximum(tolerance * size, 1e-300)
    return np.asarray(result.converged), share, error <= estimated


def row(result, exact, tolerance) -> str:
    """One line of the table."""
    converged, share, covered = judged(result, exact, tolerance)
    false, ratio = converged & (share > 1), share[converged]
    status = np.asarray(result.status)
    why = [
        f"{name[:4].lower()} {100 * np.mean(status == number):.0f}%"
        for number, name in enumerate(igjax.Status.__members__)
        if number and (status == number).any()
    ]
    worst = ratio.max() if len(ratio) else 0
    return (
        f"{false.sum():>6}{worst:>9.2g}{100 * np.mean(~converged):>8.0f}%"
        f"{np.mean(result.evaluations):>8.0f}{np.median(result.evaluations):>7.0f}"
        f"{100 * np.mean(covered):>8.0f}%  {', '.join(why)}"
    )


def main():
    """Prints a line for each suite, dtype and tolerance."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--suites", nargs="+", default=list(_mixtures.SUITES))
    parser.add_argument("--dtypes", nargs="+", default=["float64", "float32"])
    parser.add_argument("--tolerances", nargs="+", type=float, default=TOLERANCES)
    parser.add_argument("--inputs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    print(
        f"{'suite':<15}{'dtype':<10}{'tol':>7}{'false':>6}{'worst':>9}{'refused':>9}"
        f"{'mean':>8}{'median':>7}{'covers':>9}  why not"
    )
    for dtype in options.dtypes:
        explain, wide = program(dtype)
        for name in options.suites:
            m, truth = problem(name, options.inputs, wide, options.seed)
            for tolerance in options.tolerances:
                start = time.perf_counter()
                result = jax.block_until_ready(explain(tolerance, m))
                spent = time.perf_counter() - start
                line = row(result, truth, tolerance)
                print(
                    f"{name:<15}{dtype:<10}{tolerance:>7g}{line} ({spent:.1f}s)", flush=True
                )


if __name__ == "__main__":
    main()
