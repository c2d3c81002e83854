"""What half and twice of each constant of the adaptive rule do.

On the functions of `bench_hostile.py`, all suites together: false promises (it says
`converged`, and the true error exceeds the tolerance), the worst error of those that
converged, in units of the tolerance, the share refused, mean gradients, and how often
`error` covers the true one. First the constants as they are; then one of them at a time.
A constant that neither half nor twice of shows is no debt, but asks whether it is needed.
"""

from __future__ import annotations

import argparse
import zlib

import _mixtures
import bench_hostile
import jax
import numpy as np

import igjax
from igjax.integration import adaptive, jumps, panels, queue

ROOMS = (panels, jumps, queue, adaptive)
COUNTS = ("NODES", "PROBES")  # sizes of arrays, which tables are made of
SUITES = [name for name in _mixtures.SUITES if name not in ("smooth", "mixed")]


def constants() -> dict[str, float]:
    """The named constants of the integrator and what they are."""
    found = {}
    for room in ROOMS:
        for name, value in vars(room).items():
            if name.isupper() and isinstance(value, (int, float)) and name not in COUNTS:
                found[name] = value
    return found


def put(name: str, value: float) -> None:
    """Sets a constant in all modules that use it."""
    for room in ROOMS:
        if hasattr(room, name):
            setattr(room, name, value)


def problems(count: int, wide: str):
    """Mixtures of each suite and their exact values."""
    for name in SUITES:
        g = np.random.default_rng([0, zlib.crc32(name.encode())])
        m = _mixtures.SUITES[name](g, count)
        truth = _mixtures.exact(
            m._replace(**{k: np.float64(v) for k, v in m._asdict().items() if k != "kind"})
        )
        cast = lambda a: a.astype(wide if a.dtype.kind == "f" else "int32")
        yield _mixtures.Mixture(*map(cast, m)), truth


def judged(dtype: str, count: int, tolerances) -> str:
    """One line: all suites and tolerances together."""
    jax.clear_caches()
    explain, wide = bench_hostile.program(dtype)
    false, worst, refused, spent, covered = 0, 0.0, [], [], []
    for m, truth in problems(count, wide):
        for tolerance in tolerances:
            result: igjax.Attribution = explain(tolerance, m)
            size = np.abs(truth).sum(1)
            error = np.abs(np.asarray(result.values, np.float64) - truth).sum(1)
            converged = np.asarray(result.converged)
            share = error / np.maximum(tolerance * size, 1e-300)
            false += int((converged & (share > 1)).sum())
            worst = max(worst, float(share[converged].max(initial=0)))
            refused.append(~converged)
            spent.append(np.asarray(result.evaluations))
            estimated = np.asarray(result.error, np.float64).sum(1)
            covered.append(error <= estimated)
    return (
        f"{false:>6}{worst:>9.2g}{100 * np.mean(refused):>8.1f}%"
        f"{np.mean(spent):>8.0f}{100 * np.mean(covered):>8.1f}%"
    )


def main():
    """Prints a line for each constant, dtype and factor."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--constants", nargs="+", default=list(constants()))
    parser.add_argument("--dtypes", nargs="+", default=["float64"])
    parser.add_argument("--tolerances", nargs="+", type=float, default=(0.1, 0.01))
    parser.add_argument("--inputs", type=int, default=60)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    print(
        f"{'constant':<16}{'is':>8}{'dtype':>10}{'false':>6}{'worst':>9}{'refused':>9}"
        f"{'mean':>8}{'covers':>9}"
    )
    for dtype in options.dtypes:
        line = judged(dtype, options.inputs, options.tolerances)
        print(f"{'as they are':<24}{dtype:>10}{line}", flush=True)
        for name in options.constants:
            now = constants()[name]
            for factor in (0.5, 2):
                put(name, type(now)(factor * now))
                line = judged(dtype, options.inputs, options.tolerances)
                print(f"{name:<16}{factor * now:>8g}{dtype:>10}{line}", flush=True)
            put(name, now)


if __name__ == "__main__":
    main()
