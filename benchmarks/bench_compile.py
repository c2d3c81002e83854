"""What compiling costs: the adaptive rule and a fixed one against the bare gradient.

The bar for the adaptive rule is 1.5 s + 3.5 times `jit(vmap(value_and_grad(f)))`. Each
program is traced, lowered and compiled anew; medians of interleaved repetitions.
"""

import argparse
import statistics
import time

import _models
import jax
import numpy as np
from bench_fixed_rules import device

import igjax

RULES = {"adaptive": igjax.rules.adaptive(), "fixed": igjax.rules.gauss_legendre(50)}


def programs(case: _models.Case):
    """Functions of (x, label, params) to compile, by name; new ones each time."""
    f = lambda x, label, params: case.f(x, label, params)
    yield "bare", jax.vmap(jax.value_and_grad(f), (0, 0, None))
    for name, rule in RULES.items():
        attribute = igjax.integrated_gradients(lambda *args: case.f(*args), rule=rule)
        start = np.zeros_like(case.inputs[0])
        yield (
            name,
            jax.vmap(lambda x, y, p, a=attribute, b=start: a(x, b, y, p), (0, 0, None)),
        )


def main():
    """Prints one line for each model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(f"{device()}: seconds to trace, lower and compile\n")
    print(f"{'model':<13}{'bare':>7}{'fixed':>8}{'adaptive':>10}{'bar':>7}")
    for name in _models.NAMES:
        case = _models.make(name)
        seconds = {"bare": [], "fixed": [], "adaptive": []}
        for _ in range(options.repeats + 1):
            for label, program in programs(case):
                start = time.perf_counter()
                jax.jit(program).lower(case.inputs, case.labels, case.params).compile()
                seconds[label].append(time.perf_counter() - start)
        # The first round also pays for what JAX does once in a process.
        typical = {k: statistics.median(v[1:]) for k, v in seconds.items()}
        bar = 1.5 + 3.5 * typical["bare"]
        verdict = "pass" if typical["adaptive"] <= bar else "MISS"
        print(
            f"{name:<13}{typical['bare']:>7.2f}{typical['fixed']:>8.2f}"
            f"{typical['adaptive']:>10.2f}{bar:>7.2f}  {verdict}",
            flush=True,
        )


if __name__ == "__main__":
    main()
