"""What compiling costs: the adaptive rule and a fixed one against the bare gradient.

Under `jit`, the bar for the adaptive rule is 1 s + 2 times `jit(vmap(value_and_grad(f)))`:
each program is traced, lowered and compiled anew. Outside of it a first call takes one
panel first, and where that is enough the loop is never compiled; the bar is twice the first
call of a fixed rule. Medians of interleaved repetitions, in seconds of CPU: XLA compiles in
several threads, and machines are shared.
"""

import argparse
import statistics
import time

import _models
import jax
import jax.numpy as jnp
import numpy as np
from bench_fixed_rules import device

import igjax

RULES = {"fixed": igjax.rules.gauss_legendre(32), "adaptive": igjax.rules.adaptive()}


def under_jit(case: _models.Case):
    """Functions of nothing that compile a batch, by name; new programs each time."""
    f = lambda x, label, params: case.f(x, label, params)
    compiled = lambda program: (
        jax.jit(program).lower(case.inputs, case.labels, case.params).compile()
    )
    bare = jax.vmap(jax.value_and_grad(f), (0, 0, None))
    yield "bare", lambda: compiled(bare)
    for name, rule in RULES.items():
        attribute = igjax.integrated_gradients(lambda *args: case.f(*args), rule=rule)
        start = np.zeros_like(case.inputs[0])
        batch = lambda x, y, p, a=attribute, b=start: a(x, b, y, p)
        yield name, lambda b=batch: compiled(jax.vmap(b, (0, 0, None)))


def outside(width: int):
    """The first calls of `tanh(w @ x).sum()`, by name, and one more of equal shapes."""
    x = jnp.ones(width)
    for name in ("fixed", "adaptive", "another"):
        w = jnp.asarray(np.random.default_rng(width).normal(size=(16, width)))
        rule = RULES["fixed" if name == "fixed" else "adaptive"]
        f = lambda x, w=w: jnp.tanh(w @ x).sum()
        attribute = igjax.integrated_gradients(f, rule=rule)
        yield name, lambda a=attribute: jax.block_until_ready(a(x, 0.0))


def medians(makers, repeats: int) -> dict:
    """Seconds of CPU by name; the first of the rounds pays for what is done only once."""
    seconds: dict[str, list[float]] = {}
    for make in makers:
        for name, run in make():
            start = time.process_time()
            run()
            seconds.setdefault(name, []).append(time.process_time() - start)
    return {name: statistics.median(all_[-repeats:]) for name, all_ in seconds.items()}


def main():
    """Prints one line for each model, and one for a function of a line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--models", nargs="+", default=_models.NAMES)
    options = parser.parse_args()
    rounds = options.repeats + 1
    print(f"{device()}: seconds of CPU\n\nunder jit: to trace, lower and compile\n")
    print(f"{'model':<13}{'bare':>7}{'fixed':>8}{'adaptive':>10}{'bar':>7}")
    for name in options.models:
        case = _models.make(name)
        found = medians([lambda c=case: under_jit(c)] * rounds, options.repeats)
        bar = 1.0 + 2 * found["bare"]
        verdict = "pass" if found["adaptive"] <= bar else "MISS"
        print(
            f"{name:<13}{found['bare']:>7.2f}{found['fixed']:>8.2f}"
            f"{found['adaptive']:>10.2f}{bar:>7.2f}  {verdict}",
            flush=True,
        )
    # Of a new width each time: nothing of equal shapes was compiled before.
    makers = [lambda n=n: outside(n) for n in range(8, 8 + rounds)]
    found = medians(makers, options.repeats)
    verdict = "pass" if found["adaptive"] <= 2 * found["fixed"] else "MISS"
    print(
        f"\na first call outside of jit: fixed {found['fixed']:.2f}, default "
        f"{found['adaptive']:.2f}, bar {2 * found['fixed']:.2f}  {verdict}\n"
        f"and of one more function of equal shapes, default: {found['another']:.2f}"
    )


if __name__ == "__main__":
    main()
