"""How much memory does an attribution need at 50, 500 and 5000 nodes?

Twice, where it can be had: what the compiler reserves (arguments, results and temporary
values, by `igjax.cost` and `memory_analysis`), and by how much one run raises the resident
memory of a fresh process that has prepared everything (`--limit` GiB at the most: who
needs more has failed). The midpoint rule for all; for the adaptive rule, the number is
the budget of gradients. The bar: igjax needs at 5000 nodes at most 1.1 times what it
needs at 50; of resident memory, 4 MiB more are within what pages and allocators vary.

And of batches: MiB reserved for 1, 16 and 256 examples, by `igjax.cost`, nothing run. The
block of nodes is chosen for the batch of a `vmap`, as it is seen; beside it stand the same
where a `jit` inside of the `vmap` hides the batch, and one node at a time, the least. The
bar: 1.1 times the least, or 5 MiB more, or the block of one example, whichever is most.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import resource
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from _competitors import COMPETITORS
from _models import LABEL, NAMES, Case, make
from bench_fixed_rules import device, raised

import igjax
from igjax._program.blocks import CHUNK

NODES = (50, 500, 5000)
BATCHES = (1, 16, 256)
BUDGET = CHUNK["cpu"][2] / 2**20
LONG = {"transformer": (512, 64), "lstm": (1000, 32)}  # contexts longer than the models'
BAR, SLACK = 1.1, 4.0
MIB = 2**20


def _jax(explain, case: Case):
    """A function to measure, and the MiB that the compiler reserves for it."""
    args = jax.device_put(
        (case.inputs, np.zeros_like(case.inputs[0]), case.labels, case.params)
    )
    compiled = jax.jit(explain).lower(*args).compile()
    memory = compiled.memory_analysis()
    reserved = memory.temp_size_in_bytes + memory.output_size_in_bytes
    reserved += memory.argument_size_in_bytes
    return lambda: jax.block_until_ready(compiled(*args)), reserved / MIB


def _igjax(case: Case, rule):
    attribute = igjax.integrated_gradients(case.f, rule=rule)
    return _jax(jax.vmap(attribute, in_axes=(0, None, 0, None)), case)


def fixed(case: Case, nodes: int):
    """A fixed rule with the default block."""
    return _igjax(case, igjax.rules.midpoint(nodes))


def adaptive(case: Case, nodes: int):
    """The adaptive rule with a budget."""
    return _igjax(case, igjax.rules.adaptive(max_evaluations=nodes))


def bare(case: Case, nodes: int):
    """`vmap(grad)` over all nodes, as one writes it first."""
    t = (jnp.arange(nodes) + 0.5) / nodes

    def one(x, baseline, label, params):
        gradient = jax.vmap(lambda t: jax.grad(case.f)(t * x, label, params))
        return (x - baseline) * gradient(t).mean(0)

    return _jax(jax.vmap(one, in_axes=(0, None, 0, None)), case)


def captum(case: Case, nodes: int, internal_batch_size: int | None = None):
    """Captum, which takes all nodes at once, or so many points."""
    import torch
    from captum.attr import IntegratedGradients

    method = IntegratedGradients(case.make_torch())
    inputs = torch.tensor(case.to_torch(case.inputs))
    run = lambda: method.attribute(
        *(inputs, torch.zeros_like(inputs)),
        target=LABEL,
        n_steps=nodes,
        method="riemann_middle",
        internal_batch_size=internal_batch_size,
    )
    return run, float("nan")


def captum_in_batches(case: Case, nodes: int):
    """Captum with ten points of each input at a time."""
    return captum(case, nodes, 10 * len(case.inputs))


WHO = {
    "igjax, fixed": fixed,
    "igjax, adaptive": adaptive,
    "bare vmap(grad)": bare,
    "Captum": captum,
    "Captum, internal batches": captum_in_batches,
}


def few(model: str, inputs: int) -> Case:
    """The case with its first inputs only."""
    case = make(model)
    return dataclasses.replace(
        case, inputs=case.inputs[:inputs], labels=case.labels[:inputs]
    )


def print_one(model: str, who: str, nodes: int, inputs: int) -> None:
    """Print both figures of one run, in MiB."""
    run, reserved = WHO[who](few(model, inputs), nodes)
    print(json.dumps([reserved, raised(run)]))


def measure(model: str, who: str, nodes: int, options) -> list[float]:
    """The figures from a process of its own; infinite if memory was not enough."""
    command = [sys.executable, __file__, "--inputs", str(options.inputs)]
    limit = int(options.limit * 2**30)
    done = subprocess.run(
        [*command, "--one", model, who, str(nodes)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    )
    return json.loads(done.stdout) if done.returncode == 0 else [float("inf")] * 2


def _mib(figure: float) -> str:
    return (
        "-" if math.isnan(figure) else "failed" if math.isinf(figure) else f"{figure:.0f}"
    )


def bench(model: str, options) -> None:
    """Print the table of one model, and the bars."""
    print(f"\n{model}, {options.inputs} inputs; MiB reserved / MiB resident")
    print(f"  {'':26s}" + "".join(f"{f'{n} nodes':>19s}" for n in options.nodes))
    for who in WHO:
        if who.startswith("Captum") and not COMPETITORS["Captum"].installed:
            print(f"  {who}: not installed ({COMPETITORS['Captum'].install})")
            continue
        figures = [measure(model, who, n, options) for n in options.nodes]
        cells = (f"{' / '.join(map(_mib, pair)):>19s}" for pair in figures)
        print(f"  {who:26s}" + "".join(cells), end="")
        if who.startswith("igjax"):
            (least, before), (most, after) = figures[0], figures[-1]
            kept = most <= BAR * least and after <= max(BAR * before, before + SLACK)
            print(f"   x {most / least:.2f}: {'pass' if kept else 'MISS'}", end="")
        print(flush=True)


def reserved_by(case: Case, inputs, chunk_size, around) -> float:
    """MiB that the compiler reserves for a batch, of shapes alone."""
    rule = igjax.rules.midpoint(NODES[0])
    attribute = igjax.integrated_gradients(case.f, rule=rule, chunk_size=chunk_size)
    explain = jax.vmap(around(attribute), (0, None, None, None))
    args = jax.ShapeDtypeStruct(inputs, np.float32), 0.0, case.labels[0], case.params
    return igjax.cost(explain, *args).peak_bytes / MIB


def batches(model: str) -> None:
    """Print the rows of one model, and of longer inputs of it."""
    case = make(model)
    for shape in [case.inputs.shape[1:], *([LONG[model]] if model in LONG else [])]:
        first, plain = None, lambda attribute: attribute
        for count in BATCHES:
            ways = (None, jax.jit), (None, plain), (1, plain)
            hidden, seen, least = (reserved_by(case, (count, *shape), *w) for w in ways)
            first = first or seen
            allowed = max(BAR * least, least + BUDGET, first)
            verdict = "pass" if seen <= allowed else "MISS"
            sizes = " | ".join(map(_mib, (hidden, seen, least)))
            print(f"| {model} {shape} | {count} | {sizes} | {verdict} |", flush=True)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=NAMES, default=["mlp", "lstm"])
    parser.add_argument("--nodes", nargs="+", type=int, default=list(NODES))
    parser.add_argument("--inputs", type=int, default=4)
    parser.add_argument("--limit", type=float, default=6.0, help="GiB for one process")
    parser.add_argument("--batches", action="store_true", help="the table of batches")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.one:
        model, who, nodes = options.one
        print_one(model, who, int(nodes), options.inputs)
        return
    print(f"{device()}, jax {jax.__version__} on {jax.default_backend()}")
    if options.batches:
        print("\n| model, input | examples | batch hidden | seen | one node | |")
        print("|---|---|---|---|---|---|")
        for model in options.models:
            batches(model)
        return
    for model in options.models:
        bench(model, options)


if __name__ == "__main__":
    main()
