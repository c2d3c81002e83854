"""Does the tolerance hold? Everybody against the exact values, on every suite.

One row for each suite and integrator: what it costs (gradients + forwards / 3 + padded
lanes, per example), the wall time of the batch, the true error over the features
relative to the sum of their exact sizes, the completeness gap likewise, the share of
inputs within the tolerance, false promises (it claims the tolerance, and is wrong) and
refusals (it claims nothing). The suites are in `_suites.py`, `_adversarial.py` and
`_pretrained/`, the integrators in `_integrators.py`, the exact values in
`_references.py`. What no sampling sees is apart: `bench_blind_spot.py`. Rows are kept in
the cache, so that the table may be made in parts; `--bars` prints what all of them say.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import _adversarial
import _integrators
import _references
import _suites
import jax
import numpy as np
from bench_fixed_rules import device

LENGTHS = (10, 20, 50, 100, 200)
WORDS = (50, 150, 500)


def own(count: int) -> dict[str, _suites.Suite]:
    """The suites that need nothing but igjax and scikit-learn."""
    listed = [_suites.sum_lstm(tokens, count) for tokens in LENGTHS]
    listed += [_suites.reviews_lstm(words, count) for words in WORDS]
    listed += _suites.zoo(count) + _adversarial.suites(count)
    return {suite.name: suite for suite in listed}


def pretrained(count: int) -> dict[str, Callable[[], _suites.Suite]]:
    """The suites of real pretrained models, built when asked for."""
    from _pretrained import efficientnet, magika, silero, smollm2

    def suite(problem, kind, fine):
        cast = lambda a: np.asarray(a, np.float64 if a.dtype.kind == "f" else a.dtype)
        arrays = (problem.x, problem.baseline, problem.args, (problem.params,))
        x, baseline, each, shared = jax.tree.map(cast, arrays)
        return _suites.Suite(
            *(problem.name, problem.f, x, baseline, each, shared, problem.torch_scores()),
            kind=kind,
            fine=fine,
        )

    return {
        "silero": lambda: suite(silero.problem(count=count), "recurrent", 4000),
        "magika": lambda: suite(magika.problem(count=count), "smooth", 4000),
        "efficientnet": lambda: suite(
            efficientnet.problem(count=min(count, 16)), "kinked", 8000
        ),
        "smollm2": lambda: suite(smollm2.problem(count=min(count, 12)), "smooth", 800),
    }


def judge(outcome, exact, believed, dtype, scores) -> dict[str, float]:
    """The columns of one row."""
    believed = believed & (np.arange(len(exact)) < len(outcome.claims))
    exact, scores, believed = exact[believed], scores[believed], np.flatnonzero(believed)
    values, claims = outcome.values[believed], outcome.claims[believed]
    gap = outcome.gap[believed]
    axes = tuple(range(1, exact.ndim))
    size = np.abs(exact).sum(axes)
    # Rounding of the scores themselves: no method can do better.
    floor = 64 * np.finfo(dtype).eps * (scores + size)
    error = np.abs(np.asarray(values, np.float64) - exact).sum(axes)
    error = np.where(np.isfinite(error), error, np.inf)
    allowed = np.maximum(outcome.tolerance * size, floor)
    good = (error <= allowed) & (gap <= allowed)
    unit = np.maximum(size, floor / outcome.tolerance)
    relative = error / np.where(unit == 0, 1, unit)
    return {
        "n": len(size),
        "mean": float(outcome.cost.mean()),
        "most": float(outcome.cost.max()),
        "seconds": outcome.seconds,
        "median": float(np.median(relative)),
        "p90": float(np.quantile(relative, 0.9)),
        "worst": float(relative.max()),
        "gap": float(np.median(gap / np.where(unit == 0, 1, unit))),
        "within": float(good.mean()),
        "false": int((claims & ~good).sum()),
        "refused": int((~claims).sum()),
    }


KEPT = _suites.CACHE / "promise"
RUN = time.time()  # times of one run only are compared


def keep(suite, dtype, rows) -> None:
    """Adds rows to those that are kept of a suite."""
    KEPT.mkdir(parents=True, exist_ok=True)
    path = KEPT / f"{suite.name}-{dtype}.json"
    kept = json.loads(path.read_text())["rows"] if path.exists() else {}
    rows = {label: {**row, "run": RUN} for label, row in rows.items()}
    path.write_text(json.dumps({"kind": suite.kind, "rows": {**kept, **rows}}, indent=1))


def bars() -> None:
    """What the kept rows say of igjax, one line for each suite and tolerance."""
    tables = {path.stem: json.loads(path.read_text()) for path in sorted(KEPT.glob("*"))}
    print("cost: per example at tolerance 0.01. False promises and the share converged:")
    print(
        "at tolerances 0.05, 0.01, 0.001. Other promises that were false: of all rows that"
    )
    print("are not igjax's. Time: of Captum's fastest setting that gets 99% of the inputs")
    print("within 0.01, in units of igjax's at tolerance 0.01, if both ran in one run.\n")
    print(
        f"{'suite':<25}{'n':>4}{'cost':>6}  {'false':<9}{'converged':<17}"
        f"{'others false':>13}  time"
    )
    for name, table in tables.items():
        rows, count = table["rows"], table["rows"]["igjax 0.01"]["n"]
        ours = [rows[f"igjax {t:g}"] for t in _integrators.TOLERANCES]
        false = ", ".join(str(row["false"]) for row in ours)
        share = ", ".join(f"{100 * (1 - row['refused'] / count):.0f}%" for row in ours)
        others = sum(r["false"] for label, r in rows.items() if "igjax" not in label)
        print(
            f"{name:<25}{count:>4}{ours[1]['mean']:>6.0f}  {false:<9}{share:<17}"
            f"{others:>13}  {_faster(rows)}"
        )


def _faster(rows) -> str:
    """Captum's cheapest setting of 99% within 1%, in units of igjax's time."""
    captum = [(row["seconds"], name) for name, row in rows.items() if "Captum" in name]
    good = [pair for pair in captum if rows[pair[1]]["within"] >= 0.99]
    if not captum or rows["igjax 0.01"]["within"] < 0.99:
        return "-"
    if not good:
        most = max(int(name.split()[1]) for _, name in captum)
        return f"never within {most} steps"
    seconds, name = min(good)
    if rows[name].get("run", 0) != rows["igjax 0.01"].get("run"):
        return f"({name})"
    return f"{seconds / rows['igjax 0.01']['seconds']:.1f} ({name})"


HEAD = (
    f"{'suite':<17}{'dtype':<9}{'integrator':<20}{'n':>4}{'cost':>7}{'most':>7}"
    f"{'seconds':>9}{'median':>9}{'90%':>9}{'worst':>9}{'gap':>9}{'within':>8}"
    f"{'false':>7}{'refused':>9}"
)


def line(suite, dtype, name, row) -> str:
    """One row as text."""
    return (
        f"{suite:<17}{dtype:<9}{name:<20}{row['n']:>4}{row['mean']:>7.0f}"
        f"{row['most']:>7.0f}{row['seconds']:>9.3f}{row['median']:>9.1e}"
        f"{row['p90']:>9.1e}{row['worst']:>9.1e}{row['gap']:>9.1e}"
        f"{100 * row['within']:>7.0f}%{row['false']:>7}{row['refused']:>9}"
    )


def main():
    """Prints the table, a suite at a time."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--suites", nargs="+", metavar="NAME", help="default: all")
    parser.add_argument("--rows", nargs="+", choices=_integrators.ROWS)
    parser.add_argument("--inputs", type=int, default=64, help="inputs a suite")
    parser.add_argument("--bars", action="store_true", help="print what is kept, and stop")
    options = parser.parse_args()
    if options.bars:
        return bars()
    jax.config.update("jax_enable_x64", True)
    suites = {**own(options.inputs), **pretrained(options.inputs)}
    unknown = set(options.suites or ()) - set(suites)
    if unknown:
        parser.error(f"unknown suites {sorted(unknown)}; there are {', '.join(suites)}")
    print(f"{device()}, jax {jax.__version__} on {jax.default_backend()}\n")
    print(HEAD)
    for name in options.suites or suites:
        suite = suites[name]() if callable(suites[name]) else suites[name]
        exact, believed = _references.reference(suite)
        if not believed.all():
            print(f"{name}: {(~believed).sum()} left out, the references differ")
        if not believed.any():
            continue
        for dtype in suite.dtypes:
            scores = np.abs(_suites.ends(suite, dtype)).max(0)
            for row in options.rows or _integrators.ROWS:
                outcomes = _integrators.ROWS[row](suite, dtype)
                judged = {
                    label: judge(outcome, exact, believed, dtype, scores)
                    for label, outcome in outcomes.items()
                }
                keep(suite, dtype, judged)
                for label, columns in judged.items():
                    print(line(name, dtype, label, columns), flush=True)


if __name__ == "__main__":
    main()
