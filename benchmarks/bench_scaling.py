"""How does the time grow with batch, nodes, features, tokens, devices and outputs?

One quantity is doubled at a time. Reported are medians of interleaved repetitions, times
over that of the first, and the exponent of the last doubling: 1 is proportional. The bars
are those of the Jacobian: ten outputs take at most 6 times as long as one, and at most
0.75 times as long as ten separate calls.

Devices are as many as there are; on a CPU virtual ones share its cores (`--devices`, each
count in a process of its own), so that only the price of splitting shows there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from _models import NAMES, make
from bench_fixed_rules import device, pin, timed

import igjax

NODES = 50
ONE_BAR, SEPARATE_BAR = 6.0, 0.75


def compiled(function, *args):
    """A function of nothing that runs a compiled one, caches warm."""
    args = jax.device_put(args)
    program = jax.jit(function).lower(*args).compile()
    run = lambda: jax.block_until_ready(program(*args))
    run()
    return run


def explainer(f, rule=None):
    """The attribution of a batch of inputs, by 50 nodes unless the rule is given."""
    rule = igjax.rules.gauss_legendre(NODES) if rule is None else rule
    attribute = igjax.integrated_gradients(f, rule=rule)
    return jax.vmap(
        lambda x, *args: attribute(x, jax.tree.map(jnp.zeros_like, x), *args), 0
    )


def of_model(name: str, count: int, rule=None, shape=None):
    """A run of a model of the benchmarks on so many inputs, of another shape perhaps."""
    case = make(name)
    inputs = np.resize(case.inputs, (count, *(shape or case.inputs.shape[1:])))
    explain = explainer(lambda x: case.f(x, case.labels[0], case.params), rule)
    return compiled(explain, inputs)


def batch(size: int):
    """The MLP on so many inputs."""
    return of_model("mlp", size)


def nodes(count: int):
    """The LSTM on four inputs, by so many nodes."""
    return of_model("lstm", 4, igjax.rules.midpoint(count))


def features(count: int):
    """A network of 256 units, not affine in so many features, of 16 inputs."""
    rng = np.random.default_rng(0)
    first = rng.normal(size=(count, 256)).astype(np.float32) / np.sqrt(count)
    last = rng.normal(size=256).astype(np.float32)
    f = lambda x: jnp.tanh(jnp.sin(x) @ first) @ last
    return compiled(explainer(f), rng.normal(size=(16, count)).astype(np.float32))


def tokens(count: int):
    """The LSTM on sequences of so many steps."""
    return of_model("lstm", 4, shape=(count, 32))


def attended(count: int):
    """The transformer on sequences of so many tokens."""
    return of_model("transformer", 2, shape=(count, 64))


SWEEPS = {
    "batch (mlp)": (batch, (4, 8, 16, 32, 64)),
    "nodes (lstm)": (nodes, (25, 50, 100, 200, 400)),
    "features": (features, (256, 512, 1024, 2048, 4096)),
    "tokens (lstm)": (tokens, (50, 100, 200, 400)),
    "tokens (transformer)": (attended, (32, 64, 128, 256)),
}


def medians(runs, repeats: int) -> list[float]:
    """Median seconds of each run, repetitions interleaved."""
    times = [[timed(run) for run in runs] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def show(name: str, sizes, seconds) -> None:
    """Print one line of a sweep."""
    cells = (
        f"{size:>6d}: {1e3 * s:7.1f} ms x{s / seconds[0]:5.2f}"
        for size, s in zip(sizes, seconds, strict=True)
    )
    growth = np.diff(np.log2(seconds[-2:])) / np.diff(np.log2(sizes[-2:]))
    print(f"  {name:22s}", *cells, f"  exponent {growth[0]:.2f}", flush=True)


def outputs(name: str, repeats: int) -> None:
    """Print what ten outputs of one sweep cost, and the bars."""
    case = make(name)
    count = 2 if name == "cnn_max" else 4
    inputs, rule = case.inputs[:count], igjax.rules.gauss_legendre(NODES)

    def some(labels):
        f = lambda x: case.f(x, labels, case.params)
        attribute = igjax.integrated_jacobian(f, rule=rule)
        return compiled(jax.vmap(lambda x: attribute(x, jnp.zeros_like(x))), inputs)

    ten, one = some(jnp.arange(10)), some(3)
    many, single, separate = medians(
        [ten, one, lambda: [one() for _ in range(10)]], repeats
    )
    ratios = many / single, many / separate
    verdict = "pass" if ratios[0] <= ONE_BAR and ratios[1] <= SEPARATE_BAR else "MISS"
    print(
        f"  {name:14s} one {1e3 * single:8.1f} ms   ten {1e3 * many:8.1f} ms = "
        f"{ratios[0]:.2f} x one (bar {ONE_BAR}), {ratios[1]:.2f} x ten calls "
        f"(bar {SEPARATE_BAR}): {verdict}",
        flush=True,
    )


def print_devices(count: int, repeats: int) -> None:
    """Print the seconds of a batch, and of one example's nodes, spread over devices."""
    case = make("mlp")
    f = lambda x: case.f(x, case.labels[0], case.params)
    zero = np.zeros_like(case.inputs[0])
    mesh = jax.make_mesh((count,), ("all",), devices=jax.devices()[:count])
    rule = igjax.rules.gauss_legendre(NODES)
    attribute = igjax.integrated_gradients(f, rule=rule)
    batched = igjax.sharded(attribute, mesh, (0, None))
    rule = igjax.rules.split(igjax.rules.midpoint(2000), "all")
    attribute = igjax.integrated_gradients(f, rule=rule)
    split = igjax.sharded(attribute, mesh, None)
    runs = [
        lambda: jax.block_until_ready(batched(case.inputs, zero)),
        lambda: jax.block_until_ready(split(case.inputs[0], zero)),
    ]
    for run in runs:
        run()
    print(json.dumps(medians(runs, repeats)))


def devices(options) -> None:
    """Print both lines of the devices."""
    command = [sys.executable, __file__, "--repeats", str(options.repeats), "--devices-of"]
    figures = []
    for count in options.devices:
        flags = f"--xla_force_host_platform_device_count={count}"
        done = subprocess.run(
            [*command, str(count)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env={**os.environ, "XLA_FLAGS": flags},
        )
        figures.append(json.loads(done.stdout))
    for name, seconds in zip(
        ("64 inputs (mlp)", "2000 nodes (mlp)"), zip(*figures, strict=True), strict=True
    ):
        show(name, options.devices, seconds)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--devices", nargs="*", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--cores", type=int, default=0, help="pin to so many cores")
    parser.add_argument("--devices-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    pin(options.cores)
    warnings.simplefilter("ignore")
    if options.devices_of:
        print_devices(options.devices_of, options.repeats)
        return
    print(f"{device()}, jax {jax.__version__} on {jax.default_backend()}\n")
    for name, (make_run, sizes) in SWEEPS.items():
        show(name, sizes, medians([make_run(size) for size in sizes], options.repeats))
    print("\ndevices")
    devices(options)
    print("\noutputs")
    for name in options.models:
        outputs(name, options.repeats)


if __name__ == "__main__":
    main()
