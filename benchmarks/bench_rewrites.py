"""Which rewrites pay, and by how much: JAX's own primitives against what replaces them.

In the body of a loop, as the integral is one; milliseconds of a call, medians. `--limits`
shows what half and twice of the two limits do: of taps that a window unrolls to, of groups.
`--tried` measures what was not taken: im2col, batch normalization folded into a kernel.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from bench_fixed_rules import device, timed
from jax import lax

from igjax._program import convolutions, windows
from igjax._program.rewrites import for_device

STEPS = 4
LAYOUT = ("NHWC", "HWIO", "NHWC")
DEPTHWISE = (
    *((112, 96, 3, 2), (56, 144, 3, 1), (28, 240, 5, 1)),
    *((14, 672, 5, 1), (16, 96, 7, 1)),
)
GROUPED = ((56, 128, 32), (28, 64, 2), (14, 512, 64))
SINGLE = ((48, 96, 16, 1), (48, 16, 96, 1), (12, 192, 32, 1), (28, 128, 256, 2))
DENSE = ((16, 64, 128, 3, 1), (16, 64, 128, 3, 2), (64, 3, 64, 7, 2), (2, 512, 512, 3, 1))
TRIED = (
    *((16, 64, 128), (32, 64, 64), (16, 128, 128)),
    *((8, 256, 256), (4, 512, 512), (96, 3, 32)),
)
POOLS = ((56, 64, 2, 2, "VALID"), (112, 64, 3, 2, "SAME"), (28, 64, 3, 1, "SAME"))


def looped(function) -> Callable:
    """The function in a loop, compiled: at several points on the way to x."""
    return jax.jit(
        lambda x: lax.map(lambda t: function(t * x), jnp.linspace(0.2, 1, STEPS))
    )


def milliseconds(function, x, repeats: int) -> float:
    """The median time of a call, without compiling."""
    compiled = looped(function)
    run = lambda: jax.block_until_ready(compiled(x))
    run()
    return 1e3 * statistics.median(timed(run) for _ in range(repeats)) / STEPS


def normal(*shape):
    """Numbers to compute with."""
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def convolution(kernel, stride: int, groups: int) -> Callable:
    """A convolution of images with padding on all sides."""
    edge = (kernel.shape[0] // 2,) * 2
    return lambda x: lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        (edge, edge),
        feature_group_count=groups,
        dimension_numbers=LAYOUT,
    )


def pool(kind, size: int, stride: int, padding: str) -> Callable:
    """The sum or maximum over windows."""
    start, combine = {"sum": (0.0, lax.add), "maximum": (-jnp.inf, lax.max)}[kind]
    shapes = (1, size, size, 1), (1, stride, stride, 1)
    return lambda x: lax.reduce_window(x, start, combine, *shapes, padding)


def softmax(x):
    """Probabilities, as attention has them."""
    return jax.nn.softmax(x)


def cell(x):
    """The states of a recurrent cell."""
    kernel = normal(128, 128) / 12

    def step(state, row):
        state = jnp.tanh(row + state @ kernel)
        return state, state

    return lax.scan(step, jnp.zeros(128), x)[1]


def gradient(function) -> Callable:
    """The function's own gradient of the sum of its squares."""
    return jax.grad(lambda x: (function(x) ** 2).sum())


def cases(batch: int) -> Iterator[tuple[str, Callable, jax.Array]]:
    """What ordinary networks are made of."""
    for side, features, size, stride in DEPTHWISE:
        kernel = normal(size, size, 1, features)
        name = f"depthwise {size}x{size}, stride {stride}, {side}x{side}x{features}"
        x = normal(batch, side, side, features)
        yield name, convolution(kernel, stride, features), x
    for side, features, groups in GROUPED:
        kernel = normal(3, 3, features // groups, features)
        name = f"{groups} groups, 3x3, {side}x{side}x{features}"
        x = normal(batch, side, side, features)
        yield name, convolution(kernel, 1, groups), x
    for side, inputs, outputs, size, stride in DENSE:
        kernel = normal(size, size, inputs, outputs)
        name = f"dense {size}x{size}, stride {stride}, {side}x{side}x{inputs} to {outputs}"
        yield name, convolution(kernel, stride, 1), normal(batch, side, side, inputs)
    for side, inputs, outputs, stride in SINGLE:
        name = f"dense 1x1, stride {stride}, {side}x{side}x{inputs} to {outputs}"
        kernel = normal(1, 1, inputs, outputs)
        yield name, convolution(kernel, stride, 1), normal(batch, side, side, inputs)
    yield (
        "softmax of 4x128x128, a batch of one in it",
        softmax,
        normal(batch, 1, 4, 128, 128),
    )
    yield "100 steps of a cell of 128 units", jax.vmap(cell), normal(batch, 100, 128)
    for side, features, size, stride, padding in POOLS:
        for kind in ("sum", "maximum"):
            window = f"{size}x{size}, stride {stride}, {padding}"
            name = f"{kind} {window}, {side}x{side}x{features}"
            x = normal(batch, side, side, features)
            yield name, pool(kind, size, stride, padding), x


def at_limits(batch: int) -> Iterator[tuple[str, Callable, jax.Array]]:
    """Cases at half of each limit, at the limit and at twice of it."""
    for size in (5, 7, 10):
        name = f"depthwise of {size**2} taps"
        yield name, convolution(normal(size, size, 1, 96), 1, 96), normal(batch, 28, 28, 96)
    for groups in (32, 64, 128):
        kernel, x = normal(3, 3, 4, 4 * groups), normal(batch, 14, 14, 4 * groups)
        yield f"{groups} groups of 4 features", convolution(kernel, 1, groups), x


def columns(kernel) -> Callable:
    """A convolution as one product of the neighbourhoods of all places."""
    size, side = kernel.shape[0], kernel.shape[0] // 2
    table = kernel.reshape(-1, kernel.shape[-1])

    def run(x):
        rows, high, wide, _ = x.shape
        x = jnp.pad(x, ((0, 0), (side, side), (side, side), (0, 0)))
        taps = [x[:, i : i + high, j : j + wide] for i in range(size) for j in range(size)]
        found = jnp.concatenate(taps, -1).reshape(rows * high * wide, -1) @ table
        return found.reshape(rows, high, wide, -1)

    return run


def tried(batch: int) -> Iterator[tuple[str, Callable, Callable, jax.Array]]:
    """What was measured and not taken: as it is, as it could be."""
    for side, inputs, outputs in TRIED:
        kernel = normal(3, 3, inputs, outputs)
        name = f"im2col, 3x3, {side}x{side}x{inputs} to {outputs}"
        x = normal(batch, side, side, inputs)
        yield name, convolution(kernel, 1, 1), columns(kernel), x
    for side, inputs, outputs in TRIED[:2]:
        kernel, shift = normal(3, 3, inputs, outputs), normal(outputs)
        scale = 1 + normal(outputs) ** 2
        apart, folded = convolution(kernel, 1, 1), convolution(kernel * scale, 1, 1)
        yield (
            f"normalization folded, 3x3, {side}x{side}x{inputs} to {outputs}",
            lambda x, f=apart, a=scale, b=shift: jax.nn.relu(a * f(x) + b),
            lambda x, f=folded, b=shift: jax.nn.relu(f(x) + b),
            normal(batch, side, side, inputs),
        )


def exchanged(kinds: Iterator[tuple[str, Callable, jax.Array]]) -> Iterator[tuple]:
    """JAX's own primitives, what replaces them, and the gradients of both."""
    for name, f, x in kinds:
        slope = gradient(f)
        yield name, x, (f, for_device(f), slope, for_device(slope))


def compared(kinds: Iterator[tuple[str, Callable, Callable, jax.Array]]) -> Iterator[tuple]:
    """Two ways to compute the same, both rewritten as igjax does, and their gradients."""
    for name, before, after, x in kinds:
        ways = before, after, gradient(before), gradient(after)
        yield name, x, tuple(map(for_device, ways))


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--limits", action="store_true")
    parser.add_argument("--tried", action="store_true")
    options = parser.parse_args()
    if options.limits:  # as if there were none
        windows.MOST_TAPS = convolutions.MOST_GROUPS = 1 << 20
    print(f"{device()}, JAX {jax.__version__}, batch {options.batch}\n")
    if options.tried:
        before, after, rows = "as it is", "tried", compared(tried(options.batch))
    else:
        kinds = at_limits if options.limits else cases
        before, after, rows = "JAX", "rewritten", exchanged(kinds(options.batch))
    heads = f"forward: {before}", after, f"gradient: {before}", after
    print(f"| case | {' | '.join(heads)} | gain |")
    print("|" + " --- |" * 6)
    for name, x, ways in rows:
        times = [milliseconds(f, x, options.repeats) for f in ways]
        cells = " | ".join(f"{t:.1f}" for t in times)
        print(f"| {name} | {cells} | {times[2] / times[3]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
