"""What does an eager call cost, and what would it cost to trace f at each?

Outside of `jit` a method looks at what f depends on (`igjax/_program/closures.py`) and runs
the program it has, if nothing has changed. The simpler way would be to trace f anew at
each call, and to look the program up by what was traced; it is at least as dear as the
trace, `jax.make_jaxpr(f)`. Both are timed in turn, with the call itself under `jax.jit`.
Medians of the process's CPU time, in milliseconds.
"""

from __future__ import annotations

import statistics
import time

import jax
import jax.numpy as jnp

import igjax
from igjax.models import MLP, SequenceLSTM, SequenceTransformer

REPEATS = 30
RULE = igjax.rules.gauss_legendre(2)


def milliseconds(run) -> float:
    """CPU time of one call."""
    start = time.process_time()
    jax.block_until_ready(run())
    return 1e3 * (time.process_time() - start)


def cases():
    """Yields name, f and an input; the parameters are closed over, as people write it."""
    w = jnp.ones(8)
    yield "a line of jnp", lambda x: jnp.tanh(x @ w), jnp.ones(8)
    sequence = jnp.ones((16, 8))
    for name, model, x in (
        ("MLP, linen", MLP((32, 32, 1)), jnp.ones(8)),
        ("LSTM, linen", SequenceLSTM(hidden=16, outputs=1), sequence),
        ("transformer of four blocks", SequenceTransformer(outputs=1, layers=4), sequence),
    ):
        params = model.init(jax.random.key(0), x)
        f = lambda x, model=model, params=params: model.apply(params, x).sum()
        yield name, f, x


def main() -> None:
    """Print the table."""
    print(f"{'':28}{'eager call':>12}{'under jit':>12}{'one trace':>12}")
    for name, f, x in cases():
        attribute = igjax.integrated_gradients(f, rule=RULE)
        jitted = jax.jit(attribute)
        ways = (
            lambda a=attribute, x=x: a(x, 0.0),
            lambda a=jitted, x=x: a(x, 0.0),
            lambda f=f, x=x: [jax.make_jaxpr(lambda x: f(x))(x), None][1],
        )
        times = [[milliseconds(run) for run in ways] for _ in range(REPEATS)]
        medians = [statistics.median(column) for column in zip(*times, strict=True)]
        print(f"{name:28}" + "".join(f"{ms:12.2f}" for ms in medians))


if __name__ == "__main__":
    main()
