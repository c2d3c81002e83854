"""What does a gradient of the path cost on networks as people write them?

Per gradient: bare JAX (jit of vmap of grad, the best block of nodes), igjax with a fixed
rule and with the default, Captum at its best setting, torch's bare gradient; and what the
first call costs more than the next ones. Same weights, same input, one process, medians.
`--cores 1` counts the CPU time of one core; `--memory` by how much a call raises the
resident memory, in a process for each.
"""

from __future__ import annotations

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import torch
from _zoo import LABEL, networks
from _zoo_torch import DEVICE
from bench_fixed_rules import device, in_a_process, pin, raised, timed
from captum.attr import IntegratedGradients

import igjax

NODES = 16
BLOCKS = (1, 4, 16)
MORE_BLOCKS = (1, 2, 4, 8, 16)
TOLERANCE = 0.05


def bare(network, block: int):
    """The fixed rule by hand: no scores, no error, no checks."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    tables = ((nodes + 1) / 2, weights / 2)
    tables = [a.astype(np.float32).reshape(-1, block) for a in tables]

    @jax.jit
    def integrated(x, state):
        def add(total, table):
            t, w = table
            slopes = jax.vmap(lambda t: jax.grad(network.f)(t * x, state))(t)
            return total + jnp.tensordot(w, slopes, 1), None

        return x * jax.lax.scan(add, jnp.zeros_like(x), tuple(tables))[0]

    x = jnp.asarray(network.x)
    return lambda: np.asarray(integrated(x, network.state)), lambda: NODES


def ours(network, rule, block: int | None = None):
    """An igjax attribution of one example, jitted as people do."""
    attribute = igjax.integrated_gradients(network.f, rule=rule, chunk_size=block)
    attribute = jax.jit(attribute)
    x, zero = jnp.asarray(network.x), jnp.zeros(network.x.shape)
    found = lambda: attribute(x, zero, network.state)
    return lambda: np.asarray(found().values), lambda: int(found().evaluations)


def theirs(network, block: int | None):
    """Captum with the same nodes."""
    twin, x = network.make_twin(), batch(network)
    method = IntegratedGradients(lambda x: scores(twin, x))
    options = {"n_steps": NODES, "method": "gausslegendre", "internal_batch_size": block}
    return (
        lambda: method.attribute(x, torch.zeros_like(x), **options).cpu().numpy(),
        lambda: NODES,
    )


def scores(twin, x):
    """The label's logits of a batch, averaged where an example has many."""
    logits = twin(x)[..., LABEL]
    return logits.flatten(1).mean(1) if logits.ndim > 1 else logits


def batch(network):
    """The example as a batch of torch."""
    x = network.x[None]
    x = np.moveaxis(x, -1, 1) if network.features_first else x
    return torch.tensor(np.ascontiguousarray(x), device=DEVICE)


def plain_torch(network):
    """Torch's gradient of a batch of all nodes."""
    twin, x = network.make_twin(), batch(network)
    steps = torch.linspace(0.05, 1, NODES, device=DEVICE)
    steps = steps.reshape(-1, *[1] * (x.ndim - 1))

    def run():
        points = (steps * x).requires_grad_()
        return torch.autograd.grad(scores(twin, points).sum(), points)[0].cpu().numpy()

    return run, lambda: NODES


def best(makers, repeats: int):
    """The fastest of several ways: milliseconds per gradient, seconds of the first call."""
    found = []
    for make in makers:
        start = time.perf_counter()
        run, gradients = make()
        run()
        first = time.perf_counter() - start
        seconds = statistics.median(timed(run) for _ in range(repeats))
        found.append((1e3 * seconds / gradients(), max(first - seconds, 0.0), run))
    return min(found, key=lambda row: row[0])


def measure(network, repeats: int) -> list:
    """A row of the table."""
    gauss = igjax.rules.gauss_legendre(NODES)
    adaptive = igjax.rules.adaptive(TOLERANCE)
    by_hand = best([lambda b=b: bare(network, b) for b in BLOCKS], repeats)
    fixed = best([lambda: ours(network, gauss)], repeats)
    default = best([lambda: ours(network, adaptive)], repeats)
    captum = best([lambda b=b: theirs(network, b) for b in (1, 4, None)], repeats)
    torch_ = best([lambda: plain_torch(network)], repeats)
    a, b = by_hand[2](), captum[2]()[0]
    b = np.moveaxis(b, 0, -1) if network.features_first else b
    gap = np.abs(a - b).sum() / np.abs(a).sum()
    own = np.abs(a - fixed[2]()).sum() / np.abs(a).sum()
    rows = by_hand, fixed, default, captum, torch_
    return [*(row[0] for row in rows), by_hand[1], fixed[1], default[1], own, gap]


def by_blocks(network, repeats: int) -> list[float]:
    """Milliseconds per gradient of igjax's fixed rule: its own block, then each other."""
    gauss = igjax.rules.gauss_legendre(NODES)
    ways = [lambda b=b: ours(network, gauss, b) for b in (None, *MORE_BLOCKS)]
    return [best([way], repeats)[0] for way in ways]


WAYS = {
    "bare JAX": lambda network: bare(network, 4),
    "igjax fixed": lambda network: ours(network, igjax.rules.gauss_legendre(NODES)),
    "igjax default": lambda network: ours(network, igjax.rules.adaptive(TOLERANCE)),
    "Captum": lambda network: theirs(network, 4),
}


def print_peak(name: str, way: str) -> None:
    """Prints by how many MiB one call raises the resident memory of this process."""
    run, _ = WAYS[way](networks()[name]())
    run()
    print(raised(run))


HEAD = (
    *("network", "bare JAX", "igjax fixed", "igjax default", "Captum", "torch"),
    *("fixed / bare", "fixed / Captum", "first call: bare", "fixed", "default"),
    *("off bare", "Captum off bare"),
)


def main() -> None:
    """Prints the table, milliseconds per gradient and seconds of first calls."""
    known = networks()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="*", default=list(known), choices=list(known))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--blocks", action="store_true", help="igjax by blocks, and stop")
    parser.add_argument("--cores", type=int, default=0, help="pin to so many")
    parser.add_argument("--memory", action="store_true", help="MiB of a call, and stop")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return print_peak(*options.one)
    pin(options.cores)
    print(f"{device()}, JAX {jax.__version__}, {jax.devices()[0].device_kind}\n")
    if options.memory:
        show(("network", *WAYS))
        for name in options.networks:
            peaks = (in_a_process([__file__, "--one", name, way]) for way in WAYS)
            show((name, *(f"{peak:.0f}" for peak in peaks)))
        return
    if options.blocks:
        show(("network", "default", *map(str, MORE_BLOCKS)))
        for name in options.networks:
            times = by_blocks(known[name](), options.repeats)
            show((name, *(f"{a:.2f}" for a in times)))
        return
    show(HEAD)
    for name in options.networks:
        times = measure(known[name](), options.repeats)
        speed, rest = times[:5], times[5:]
        ratios = speed[1] / speed[0], speed[1] / speed[3]
        cells = [*(f"{a:.2f}" for a in (*speed, *ratios)), *(f"{a:.1f}" for a in rest[:3])]
        show((name, *cells, *(f"{a:.0e}" for a in rest[3:])))


def show(cells) -> None:
    """Prints a row of a table; one of names is its head."""
    print("| " + " | ".join(cells) + " |", flush=True)
    if cells[0] == "network":
        print("|" + " --- |" * len(cells))


if __name__ == "__main__":
    main()
