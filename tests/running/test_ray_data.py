"""The recipe for Ray Data, whose script checks itself; Ray is no dependency of igjax."""

import os
import subprocess
import sys

import pytest

from tests.running.processes import ROOT


@pytest.mark.slow
def test_a_data_set_on_ray_whose_worker_is_killed():
    pytest.importorskip("ray")
    done = subprocess.run(
        [sys.executable, "benchmarks/ray_data.py"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "400 rows, each once" in done.stdout
