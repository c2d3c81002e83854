"""What half and twice of each constant of the adaptive rule do.

On the functions of `bench_hostile.py`, all suites together: false promises (it says
`converged`, and the true error exceeds the tolerance), the worst error of those that
converged, in units of the tolerance, the share refused, mean gradients, and how often
`error` covers the true one. First the constants as they are; then one of them at a time.
"""

from __future__ import annotations

import argparse
import functools

import _mixtures
import jax
import numpy as np
from _constants import changed, known
from bench_hostile import judged, problem, program

import igjax
from igjax.integration import adaptive, jumps, panels, queue

ROOMS = (panels, jumps, queue, adaptive)
COUNTS = ("NODES", "PROBES")  # sizes of arrays, which tables are made of
SUITES = [name for name in _mixtures.SUITES if name not in ("smooth", "mixed")]


def line(dtype: str, count: int, tolerances) -> str:
    """One line: all suites and tolerances together."""
    jax.clear_caches()
    explain, wide = program(dtype)
    found = []
    for name in SUITES:
        m, truth = problem(name, count, wide)
        for tolerance in tolerances:
            result: igjax.Attribution = explain(tolerance, m)
            spent = np.asarray(result.evaluations)
            found.append((*judged(result, truth, tolerance), spent))
    converged, share, covered, spent = map(np.concatenate, zip(*found, strict=True))
    return (
        f"{(converged & (share > 1)).sum():>6}{share[converged].max(initial=0):>9.2g}"
        f"{100 * np.mean(~converged):>8.1f}%{np.mean(spent):>8.0f}"
        f"{100 * np.mean(covered):>8.1f}%"
    )


def main():
    """Prints a line for each constant, dtype and factor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--constants", nargs="+", default=list(known(ROOMS, COUNTS)))
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
        measured = functools.partial(line, dtype, options.inputs, options.tolerances)
        print(f"{'as they are':<24}{dtype:>10}{measured()}", flush=True)
        for name, value in changed(ROOMS, options.constants):
            print(f"{name:<16}{value:>8g}{dtype:>10}{measured()}", flush=True)


if __name__ == "__main__":
    main()
