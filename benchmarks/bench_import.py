"""What does `import igjax` add to `import jax`?

Times both in fresh processes, interleaved, and prints the medians and their
difference (bar: 0.2 s); and which heavy packages igjax loaded (none).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

BAR_SECONDS = 0.2
HEAVY = ("flax", "matplotlib", "optax", "torch", "scipy", "tqdm")
STATEMENTS = {"jax": "import jax", "jax + igjax": "import jax; import igjax"}


def seconds(statement: str) -> float:
    """Wall-clock seconds of a fresh interpreter that runs `statement`."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start


def newly_loaded() -> list[str]:
    """Return the names in `HEAVY` that `import igjax` loads and `import jax` not."""
    code = (
        "import sys, jax; before = set(sys.modules); import igjax; "
        f"print(*[m for m in {HEAVY!r} if m in set(sys.modules) - before])"
    )
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, check=True, capture_output=True, text=True
    ).stdout.split()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    times: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for statement in STATEMENTS.values():
        seconds(statement)  # writes the bytecode and warms the disk cache
    for _ in range(repeats):
        for name, statement in STATEMENTS.items():
            times[name].append(seconds(statement))
    medians = {name: statistics.median(t) for name, t in times.items()}
    for name, median in medians.items():
        print(f"{name:12s} median {median:.3f} s, fastest {min(times[name]):.3f} s")
    pairs = zip(times["jax + igjax"], times["jax"], strict=True)
    extra = statistics.median(with_ - without for with_, without in pairs)
    verdict = "pass" if extra < BAR_SECONDS else "MISS"
    print(f"igjax adds   {extra:.3f} s (median of pairs; bar {BAR_SECONDS} s): {verdict}")
    loaded = newly_loaded()
    print(f"igjax loads  {', '.join(loaded) if loaded else 'none'} of {', '.join(HEAVY)}")


if __name__ == "__main__":
    main()
