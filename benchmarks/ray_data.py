"""A data set on Ray Data: Integrated Gradients in the workers of an engine that is there.

The recipe of docs/scale.md, run on a local Ray: two workers read Parquet and write Parquet,
one of them is killed in its second batch, and every row must be there once, with the values
that one process computes. `pip install "ray[data]"` first; igjax itself has no use for Ray.

    python benchmarks/ray_data.py
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray

import igjax

NAMES = [f"feature_{i}" for i in range(16)]
ROWS, PARTS, BATCH, WORKERS = 400, 8, 16, 2


def weights():
    """The model's; of a real one they are read from a file that all workers see."""
    first, last = jax.random.split(jax.random.key(0))
    return jax.random.normal(first, (len(NAMES), 64)), jax.random.normal(last, (64,))


def score(x, w):
    """One example in, one score out."""
    return jnp.tanh(jnp.tanh(x @ w[0]) @ w[1])


class Explain:
    """A worker: made once, it compiles once."""

    def __init__(self, killed: Path):
        """Takes the weights; the first worker to find no file `killed` is to die."""
        attribute = igjax.integrated_gradients(score)
        self.explain = jax.jit(jax.vmap(attribute, in_axes=(0, None, None)))
        self.weights, self.killed, self.calls = weights(), killed, 0
        killed.with_name(f"worker_{os.getpid()}").touch()

    def __call__(self, table: pa.Table) -> pa.Table:
        """Explains the rows of a table."""
        self.calls += 1
        if self.calls == 2 and not self.killed.exists():
            self.killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        x = np.stack(table["x"].to_numpy())
        filled = np.resize(x, (BATCH, *x.shape[1:]))  # the last batch: compiled once
        result = jax.device_get(self.explain(filled, 0.0, self.weights))
        rows = len(x)
        return pa.table(
            {
                "id": table["id"],
                "names": [NAMES] * rows,
                "values": list(result.values[:rows]),
                "error": list(result.error[:rows]),
                "delta": result.delta[:rows],
                "score": result.score[:rows],
                "status": result.status[:rows],
            }
        )


def explained(inputs: Path, outputs: Path, killed: Path) -> None:
    """The recipe: a data set of rows in, a data set of attributions out."""
    rows = ray.data.read_parquet(str(inputs), override_num_blocks=PARTS)
    data = rows.map_batches(
        Explain,
        fn_constructor_args=(killed,),
        batch_size=BATCH,
        batch_format="pyarrow",
        concurrency=WORKERS,
    )
    data.write_parquet(str(outputs))


def main() -> None:
    """Runs the recipe, kills a worker on the way, and checks all rows."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    rows = np.random.default_rng(0).normal(size=(ROWS, len(NAMES))).astype(np.float32)
    ray.init(num_cpus=WORKERS + 1, include_dashboard=False, logging_level="error")
    ray.data.DataContext.get_current().enable_progress_bars = False
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder, "inputs"), Path(folder, "outputs")
        inputs.mkdir()
        for i, part in enumerate(np.split(np.arange(ROWS), PARTS)):
            table = pa.table({"id": part, "x": list(rows[part])})
            pq.write_table(table, inputs / f"{i:04d}.parquet")
        killed, start = Path(folder, "killed"), time.perf_counter()
        explained(inputs, outputs, killed)
        seconds = time.perf_counter() - start
        assert killed.exists(), "no worker was killed"
        workers = len(list(Path(folder).glob("worker_*")))
        assert workers > WORKERS, "none came in its place"
        found = pq.read_table(outputs).sort_by("id")
    assert found["id"].to_pylist() == list(range(ROWS)), "rows are lost, or there twice"
    want = jax.vmap(igjax.integrated_gradients(score), (0, None, None))(
        rows, 0.0, weights()
    )
    np.testing.assert_allclose(
        np.stack(found["values"].to_numpy()), want.values, 1e-4, 1e-5
    )
    np.testing.assert_array_equal(found["status"], want.status)
    assert found["names"][0].as_py() == NAMES
    print(f"{ROWS} rows, each once, by {workers} workers, {seconds:.1f} s: ", end="")
    print(*found.column_names)


if __name__ == "__main__":
    main()
