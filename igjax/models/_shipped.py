"""Weights that ship with the package, and files like them: npz, whole or not at all."""

import importlib.resources
import io
import os
from pathlib import Path
from typing import Any

import numpy as np


def read(name: str, path: str | os.PathLike[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of a file, or of the one of that name that ships."""
    shipped = importlib.resources.files("igjax.models") / "weights" / name
    raw = shipped.read_bytes() if path is None else Path(path).read_bytes()
    with np.load(io.BytesIO(raw), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def write(path: str | os.PathLike[str], arrays: dict[str, Any]) -> None:
    """Write beside the target and rename, so that no reader sees half a file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    target = Path(path)
    # Not tempfile, whose files nobody else may read.
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        part.write_bytes(buffer.getvalue())
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
