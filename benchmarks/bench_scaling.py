"""How does the time grow with batch, nodes, features, tokens, devices and outputs?

One quantity is doubled at a time. Reported are medians of interleaved repetitions, times
over that of the first, and the exponent of the last doubling: 1 is proportional. The bars
are those of the Jacobian: ten outputs take at most 6 times as long as one, and at most
0.75 times as long as ten separate calls.

Devices are as many as there are; on a CPU virtual ones share its cores (`--devices`, each
count in a process of its own), so that only the price of splitting shows there. So beside
the time stands what it is made of: the flops of each device, of which those of one device
over those of all are the efficiency on paper, and what devices tell each other in the
compiled program. Two processes of one device each are the last row.

On paper (`--only paper`): what a decoder of seven billion parameters needs, its weights on
eight devices, which fits no machine here; compiled for virtual ones, at toy size beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import warnings

import _tensor_parallel as decoder
import jax
import jax.numpy as jnp
import numpy as np
from _collectives import collectives
from _models import NAMES, make
from bench_fixed_rules import device, pin, timed

import igjax

NODES, SHARED = 50, 2000
SECTIONS = ("sweeps", "devices", "paper", "outputs")
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


def sweeps(options) -> None:
    """Print a line for each quantity."""
    for name, (make_run, sizes) in SWEEPS.items():
        show(name, sizes, medians([make_run(size) for size in sizes], options.repeats))


def all_outputs(options) -> None:
    """Print a line for each model."""
    for name in options.models:
        outputs(name, options.repeats)


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


def figures(mesh, repeats: int) -> list[dict]:
    """A batch, and one example's nodes, spread over a mesh: seconds, flops, exchanges."""
    case = make("mlp")
    f = lambda x: case.f(x, case.labels[0], case.params)
    zero, axis = np.zeros_like(case.inputs[0]), mesh.axis_names[0]
    whole, shared = igjax.rules.gauss_legendre(NODES), igjax.rules.midpoint(SHARED)
    split = igjax.rules.split(shared, axis)
    batch = igjax.sharded(igjax.integrated_gradients(f, rule=whole), mesh, (0, None))
    nodes = igjax.sharded(igjax.integrated_gradients(f, rule=split), mesh, None)
    calls = ((batch, (case.inputs, zero)), (nodes, (case.inputs[0], zero)))
    runs = [lambda c=c, a=a: jax.block_until_ready(c(*a)) for c, a in calls]
    for run in runs:
        run()
    return [
        {
            "seconds": seconds,
            "flops": igjax.cost(call, *args).flops[0],
            "told": collectives(jax.jit(call).lower(*args).compile().as_text()),
        }
        for seconds, (call, args) in zip(medians(runs, repeats), calls, strict=True)
    ]


def print_devices(count: int, repeats: int) -> None:
    """Print the figures of so many devices of this process."""
    mesh = jax.make_mesh((count,), ("all",), devices=jax.devices()[:count])
    print(json.dumps(figures(mesh, repeats)))


def print_process(address: str, index: int, repeats: int) -> None:
    """Print the figures of two processes of one device each, as this one sees them."""
    jax.distributed.initialize(address, num_processes=2, process_id=index)
    print(json.dumps(figures(jax.make_mesh((2,), ("all",)), repeats)))


def child(options, count: int, *more: str):
    """This script in another process, with so many virtual devices on a CPU."""
    flags = f"--xla_force_host_platform_device_count={count}"
    return subprocess.Popen(
        [sys.executable, __file__, "--repeats", str(options.repeats), *more],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "XLA_FLAGS": flags},
    )


def answer(process):
    """What a child has printed last, as JSON."""
    output, _ = process.communicate()
    if process.returncode:
        sys.exit(f"bench_scaling: {process.args} failed.")
    return json.loads(output.splitlines()[-1])  # the library of exchanges talks as well


def devices(options) -> None:
    """Print both tables of the devices."""
    rows = {
        str(n): answer(child(options, n, "--devices-of", str(n))) for n in options.devices
    }
    with socket.socket() as s:
        s.bind(("localhost", 0))
        address = f"localhost:{s.getsockname()[1]}"
    both = [child(options, 1, "--process-of", address, str(i)) for i in range(2)]
    rows["2 processes"], _ = map(answer, both)
    for k, name in enumerate(("64 inputs (mlp)", f"{SHARED} nodes of one input (mlp)")):
        print(f"\n| {name}, devices | ms | flops of a device | efficiency | exchanges |")
        print("|---|---|---|---|---|")
        for count, found in rows.items():
            row, used = found[k], int(count.split()[0])
            efficiency = rows[str(options.devices[0])][k]["flops"] / (used * row["flops"])
            cells = f"{1e3 * row['seconds']:.1f} | {row['flops']:.3g} | {efficiency:.3f}"
            print(f"| {count} | {cells} | {exchanges(row['told'])} |")


def exchanges(told) -> str:
    """The collectives of one program, in words."""
    return ", ".join(f"{n} {k}, {b:,} bytes" for k, (n, b) in told.items()) or "none"


def print_paper(nodes: int) -> None:
    """Print what a decoder needs whose weights lie on eight devices, toy and full size."""
    kind = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((8,), ("model",), axis_types=kind)
    explain, columns = decoder.attribute(nodes), {}
    for name, size in {"toy": decoder.TOY, "full": decoder.FULL}.items():
        args = decoder.operands(size, mesh)
        known = igjax.cost(explain, *args)
        text = jax.jit(explain).lower(*args).compile().as_text()
        laws = decoder.flops(size, nodes), decoder.summed(size, nodes)
        columns[name] = (size, known, collectives(text), *laws)
    print("| | " + " | ".join(columns) + " | full / toy |\n|---|---|---|---|")
    for field in decoder.Size._fields:
        toy, full = (getattr(column[0], field) for column in columns.values())
        print(f"| {field} | {toy} | {full} | {full / toy:.0f} |")
    told = lambda c, k: sum(pair[k] for pair in c[2].values())
    lines = {
        "flops, counted on the jaxpr": lambda c: c[1].flops[0],
        "flops, by the law": lambda c: c[3],
        "flops of each device": lambda c: c[1].flops[0] / 8,
        "bytes of weights on each device": lambda c: held(c[0], mesh),
        "peak bytes of each device": lambda c: c[1].peak_bytes,
        "collectives": lambda c: told(c, 0),
        "their bytes": lambda c: told(c, 1),
        "bytes, by the law, bfloat16": lambda c: c[4],
    }
    for name, line in lines.items():
        toy, full = map(line, columns.values())
        print(f"| {name} | {toy:.4g} | {full:.4g} | {full / toy:.4g} |")
    for name, column in columns.items():
        print(f"\n{name}: {exchanges(column[2])}")


def held(size, mesh) -> int:
    """Bytes of weights on one device."""
    kept = lambda a: math.prod(a.sharding.shard_shape(a.shape)) * a.dtype.itemsize
    return sum(map(kept, jax.tree.leaves(decoder.weights(size, mesh))))


def paper(options) -> None:
    """Print the table of what no machine here could run."""
    print(f"\non paper: {options.paper} nodes, 8 devices; compiled, nothing allocated\n")
    process = child(options, 8, "--paper-of", str(options.paper))
    print(process.communicate()[0])


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--devices", nargs="*", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--cores", type=int, default=0, help="pin to so many cores")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--paper", type=int, default=32, help="nodes on paper")
    parser.add_argument("--devices-of", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--process-of", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--paper-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    pin(options.cores)
    warnings.simplefilter("ignore")
    if options.devices_of:
        return print_devices(options.devices_of, options.repeats)
    if options.process_of:
        address, index = options.process_of
        return print_process(address, int(index), options.repeats)
    if options.paper_of:
        return print_paper(options.paper_of)
    print(f"{device()}, jax {jax.__version__} on {jax.default_backend()}")
    for section in options.only:
        print(f"\n{section}")
        {"sweeps": sweeps, "devices": devices, "paper": paper, "outputs": all_outputs}[
            section
        ](options)


if __name__ == "__main__":
    main()
