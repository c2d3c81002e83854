"""How fast, how accurate and how lean is a 50-node igjax against everybody else?

The same weights, inputs and zero baseline for all, in one process; each competitor in
its best setting, repetitions interleaved, medians reported.  Digits are those in which
the values agree with a float64 integral on the same 50 nodes.  Memory: a fresh process
per competitor prepares everything (imports, weights, compilation), resets the
high-water mark of its resident memory (/proc/self/clear_refs), runs once, and reports
how far the mark rose above what was resident before.

On a shared machine use `--cores 1`: the process is pinned to one core and its own CPU
time is counted, which neighbors hardly change.  With several cores wall-clock time is
counted, and torch's OpenMP barriers lose several times more to busy neighbors than
XLA's thread pool does.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import gc
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

import jax
import numpy as np
from _competitors import COMPETITORS, explained, reference
from _models import NAMES, make

SLOW_SECONDS = 20.0  # a competitor slower than this is run once
CAPTUM_BARS = {"mlp": 6.5, "cnn": 2.2, "lstm": 1.0, "transformer": 1.0}
BARE_BARS = {"mlp": 0.5, "text": 0.6}  # an affine prefix is evaluated once
BARE_BAR = 1.05
OVERHEAD_BAR_SECONDS = 1e-3
DEFAULT_BAR = 1.3


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def timed(run) -> float:
    """Seconds of one call: CPU time on one core, else wall-clock time."""
    clock = time.process_time if cores() == 1 else time.perf_counter
    start = clock()
    run()
    return clock() - start


def pin(count: int) -> None:
    """Restart on `count` cores: thread pools are sized when libraries are loaded."""
    if count and cores() > count:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
        os.execv(sys.executable, [sys.executable, *sys.argv])


def best_setting(case, competitor):
    """Try every setting; return the fastest, its function and its values."""
    best = None
    for setting in competitor.settings(len(case.inputs)):
        run = competitor.make(case, setting)
        values = run()  # the first call pays for caches and thread pools
        limit = best[0] if best else SLOW_SECONDS
        seconds = timed(run)
        if seconds < 1.5 * limit:
            seconds = min(seconds, timed(run))
        if best is None or seconds < best[0]:
            best = (seconds, setting, run, values)
    return best


def digits(values, want) -> float:
    """Decimal digits of agreement, relative to the largest value."""
    error = np.abs(values - want).max() / np.abs(want).max()
    return -np.log10(max(error, 1e-17))


def resident(field: str) -> float:
    """`VmRSS` or `VmHWM` of this process, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise ValueError(f"resident: /proc/self/status has no field {field}")


def raised(run) -> float:
    """By how many MiB one run raises the resident memory of this process."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what earlier runs freed would be taken again unseen
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    run()
    return resident("VmHWM") - before


def in_a_process(command: list[str]) -> float:
    """The figure that a program prints last, or NaN if it fails."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    return float(done.stdout.split()[-1]) if done.returncode == 0 else float("nan")


def print_memory(model: str, name: str, setting: str) -> None:
    """Print the MiB that one run of a competitor needs."""
    case, competitor = make(model), COMPETITORS[name]
    settings = {str(s): s for s in competitor.settings(len(case.inputs))}
    print(raised(competitor.make(case, settings[setting])))


def memory(model: str, name: str, setting) -> float:
    """MiB that one run needs, measured in a process of its own."""
    return in_a_process([__file__, "--memory-of", model, name, str(setting)])


def overhead() -> dict[str, float]:
    """Median seconds of a steady call on a trivial function, by way of calling."""
    import igjax

    x = jax.numpy.ones(3)
    attribute = igjax.integrated_gradients(
        lambda x: x.sum(), rule=igjax.rules.gauss_legendre(2)
    )
    ways = {"attribute": attribute, "jax.jit(attribute)": jax.jit(attribute)}
    medians = {}
    for name, call in ways.items():
        run = functools.partial(lambda call: jax.block_until_ready(call(x, 0.0)), call)
        run()
        medians[name] = statistics.median(timed(run) for _ in range(300))
    return medians


def print_overhead() -> None:
    """Print what a call costs besides f, with pass or MISS."""
    print("\noverhead of one call on a trivial f (bar 1 ms)")
    for name, seconds in overhead().items():
        verdict = "pass" if seconds < OVERHEAD_BAR_SECONDS else "MISS"
        print(f"  {name:20s} {1e6 * seconds:7.0f} microseconds: {verdict}")


def bench(model: str, repeats: int, with_memory: bool) -> dict[str, float]:
    """Print the table of one model; return the times of each over those of igjax."""
    case = make(model)
    want = reference(case)
    print(f"\n{model}: {len(case.inputs)} inputs of shape {case.inputs.shape[1:]}")
    chosen = {}
    for name, competitor in COMPETITORS.items():
        if not competitor.installed:
            print(f"  {name}: not installed ({competitor.install})")
            continue
        try:
            chosen[name] = best_setting(case, competitor)
        except Exception as error:  # of somebody else's compiler: shown, not hidden
            if name == "igjax":
                raise
            print(f"  {name}: failed, {error!r:.100}")
    times = {name: [] for name in chosen}
    for repeat in range(repeats):
        for name, (seconds, _, run, _) in chosen.items():
            if repeat == 0 or seconds < SLOW_SECONDS / repeats:
                times[name].append(timed(run))
    ratios = {}
    print(f"  {'':26s} {'seconds':>8s} {'/ igjax':>8s} {'digits':>7s} {'MiB':>7s}  setting")
    for name, (_, setting, _, values) in chosen.items():
        # Load from elsewhere hits neighbors alike: compare within a repetition.
        pairs = zip(times[name], times["igjax"], strict=False)
        ratios[name] = statistics.median(a / b for a, b in pairs)
        mib = memory(model, name, setting) if with_memory else float("nan")
        print(
            f"  {name:26s} {statistics.median(times[name]):8.4f} {ratios[name]:8.2f}"
            f" {digits(values, want):7.1f} {mib:7.0f}  {setting}"
            + (f"; {COMPETITORS[name].note}" if COMPETITORS[name].note else "")
        )
    return ratios


def default_rule(model: str, repeats: int) -> None:
    """Print what the default rule takes, over a fixed one of as many gradients."""
    import igjax

    case = make(model)
    for inputs in (1, len(case.inputs)):
        adaptive = explained(case, igjax.rules.adaptive(), inputs=inputs)
        gradients = float(np.mean(adaptive().evaluations))
        rule = igjax.rules.gauss_legendre(round(gradients))
        runs = adaptive, explained(case, rule, inputs=inputs)
        for run in runs:
            run()
        pairs = [[timed(run) for run in runs] for _ in range(repeats)]
        ratio = statistics.median(ours / fixed for ours, fixed in pairs)
        verdict = "pass" if ratio <= DEFAULT_BAR else "MISS"
        print(
            f"  default rule, {model}, {inputs} inputs: {gradients:.0f} gradients,"
            f" {ratio:.2f} x a fixed rule of as many, at most {DEFAULT_BAR}: {verdict}"
        )


def judge(model: str, ratios: dict[str, float]) -> None:
    """Print the bars of one model with pass or MISS."""
    bare = 1 / ratios["bare jit(vmap(grad))"]
    most = BARE_BARS.get(model, BARE_BAR)
    verdict = "pass" if bare <= most else "MISS"
    print(f"  bar: {bare:.2f} x the best bare vmap(grad), at most {most}: {verdict}")
    if model in CAPTUM_BARS and "Captum" in ratios:
        faster, wanted = ratios["Captum"], CAPTUM_BARS[model]
        verdict = "pass" if faster >= wanted else "MISS"
        print(f"  bar: {faster:.2f} x as fast as Captum, at least {wanted}: {verdict}")


def device() -> str:
    """Name the processor and the number of cores."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((x.split(":")[1].strip() for x in lines if "model name" in x), "?")
    clock = "CPU" if cores() == 1 else "wall-clock"
    return f"{cores()} core(s) of {model}, {platform.machine()}, {clock} time"


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="3 repeats, no memory")
    parser.add_argument("--cores", type=int, default=0, help="pin to so many cores")
    parser.add_argument("--default-rule", action="store_true", help="nothing but its rows")
    parser.add_argument("--memory-of", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    pin(args.cores)
    warnings.simplefilter("ignore")
    if args.memory_of:
        print_memory(*args.memory_of)
        return
    if not COMPETITORS["igjax"].installed:
        sys.exit("igjax: not installed (pip install -e .)")
    print(f"{device()}, jax {jax.__version__} on {jax.default_backend()}, 50 nodes")
    for model in args.models:
        repeats = 3 if args.quick else args.repeats
        if not args.default_rule:
            judge(model, bench(model, repeats, with_memory=not args.quick))
        default_rule(model, repeats)
    if not args.default_rule:
        print_overhead()


if __name__ == "__main__":
    main()
