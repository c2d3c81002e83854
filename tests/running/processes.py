"""Devices for tests that want more: a process that has several, or two processes."""

import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def environment(devices: int = 1) -> dict:
    """Of a process of so many devices, that compiles in haste."""
    quickly = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    flags = f"--xla_force_host_platform_device_count={devices} {quickly}"
    return {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


def passes_on(devices: int, cases: str):
    """Runs the tests of a file of this folder where there are so many devices.

    They take minutes, and are the last to end: two processes share them.
    """
    shared = "-n", "2", "-p", "no:cacheprovider"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *shared, f"tests/running/{cases}.py"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(devices),
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "passed" in done.stdout


def started(script: str, count: int, devices: int, *args) -> list:
    """A script in so many processes, which get an address, their number, and the rest."""
    address = f"localhost:{_free_port()}"
    return [
        subprocess.Popen(
            [sys.executable, "-c", script, address, str(i), *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment(devices),
        )
        for i in range(count)
    ]


def agree(script: str):
    """Runs a script in two processes of two devices; both must say that they agreed."""
    processes = started(script, 2, 2)
    try:
        for process in processes:
            output, error = process.communicate(timeout=300)
            assert process.returncode == 0, error[-3000:]
            assert "agreed" in output
    finally:
        for process in processes:
            process.kill()


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]
