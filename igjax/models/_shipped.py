"""Weights that ship with the package, and files like them: npz, whole or not at all.

A file holds float16 weights and the words of a vocabulary; who trains a model rounds it to
what will be read again, and says where to write it.
"""

import argparse
import importlib.resources
import io
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

WORDS = "vocabulary"


def vocabulary(texts: Iterable[Sequence[str]], size: int) -> tuple[str, ...]:
    """The marks of padding and of what is unknown, and the most frequent words of texts."""
    counts = Counter(word for words in texts for word in words)
    # By count, then alphabetically: ties must not depend on the order of the texts.
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return ("<pad>", "<unk>", *ranked[: size - 2])


def packed(words: tuple[str, ...]) -> np.ndarray:
    """Words as an array of bytes."""
    return np.frombuffer("\n".join(words).encode(), np.uint8)


def unpacked(words: np.ndarray) -> tuple[str, ...]:
    """The words that were packed."""
    return tuple(words.tobytes().decode().split("\n"))


def rounded(params: Any) -> Any:
    """Weights as they will be read again."""
    return jax.tree.map(lambda a: a.astype(jnp.float16).astype(jnp.float32), params)


def output(program: str, name: str, arguments: Sequence[str] | None) -> Path:
    """Where a program that trains a model is asked to write it: where it ships from."""
    shipped = Path(__file__).parent / "weights" / name
    parser = argparse.ArgumentParser(prog=f"python -m igjax.models.{program}")
    parser.add_argument("--output", type=Path, default=shipped, help="the file to write")
    path = parser.parse_args(arguments).output
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


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
