"""A job in several processes of `jax.distributed`: killed, and resumed by more of them.

What each process begins is written down before it is computed, so that nothing done twice
goes unseen. The first start has a process that stops for good on its third batch, and is
killed there; the other one takes that batch over, and is killed on the way as well.
"""

import signal
import time

import numpy as np
import pytest

from tests.running.processes import started

BATCHES = 20
PROCESS = """
import sys, time
import jax, jax.numpy as jnp, numpy as np, igjax
from igjax.running.jobs import _program

address, process, count, folder, length, stop = sys.argv[1:]
process, length = int(process), int(length)
jax.distributed.initialize(address, num_processes=int(count), process_id=process)
attribute = igjax.integrated_gradients(jnp.prod, rule=igjax.rules.gauss_legendre(4))
own = jax.make_mesh((2,), ("batch",), devices=jax.local_devices())
explain = jax.jit(igjax.sharded(attribute, own, (0, None)))
begun = []

def noted(x, baseline):
    begun.append(int(x[0, 0]))
    with open(f"{folder}/begun", "a") as log:
        log.write(f"{process} {begun[-1]}\\n")
    time.sleep(0.1)
    if stop == "1" and process == 1 and len(begun) == 3:
        time.sleep(600)
    return explain(x, baseline)

batches = [(np.full((2, 3), float(i), "float32"), 0.0) for i in range(length)]
options = {"progress": False, "traced": _program(explain, batches[0])}  # all must agree
results = igjax.attribute_batches(noted, batches, f"{folder}/job", **options)
print(sum(float(result.values.sum()) for result in results))
"""


def begun(folder) -> list[list[int]]:
    log = folder / "begun"
    return [list(map(int, line.split())) for line in log.read_text().splitlines()]


def waited(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def ended(process) -> float:
    output, error = process.communicate(timeout=120)
    assert process.returncode == 0, error[-3000:]
    return float(output)


@pytest.mark.slow
def test_a_distributed_job_is_killed_and_resumed_by_more_processes(tmp_path):
    (tmp_path / "begun").touch()
    of = lambda process: [i for p, i in begun(tmp_path) if p == process]
    first, second = started(PROCESS, 2, 2, 2, tmp_path, BATCHES, 1)
    try:
        waited(lambda: len(of(1)) == 3)
        in_hand = of(1)[-1]
        second.kill()
        waited(lambda: in_hand in of(0)[:-1])
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()
    assert first.returncode == second.returncode == -signal.SIGKILL
    before = begun(tmp_path)
    there = {int(file.stem[6:]) for file in (tmp_path / "job").glob("batch_*.npz")}
    assert {*of(0)[:-1], *of(1)} <= there  # all but what was in hand last

    processes = started(PROCESS, 3, 2, 3, tmp_path, BATCHES, 0)
    try:
        sums = [ended(process) for process in processes]
    finally:
        for process in processes:
            process.kill()
    again = [i for _, i in begun(tmp_path)[len(before) :]]
    assert sorted(again) == sorted(set(range(BATCHES)) - there)  # each once, none left out
    want = 2 * (np.arange(float(BATCHES)) ** 3).sum()
    np.testing.assert_allclose(sums, want, rtol=1e-5)
