"""Runs notebooks and writes copies with their outputs: `make notebooks`.

Each runs in its own folder, in a kernel of its own. A warning in one is a failure: what
goes to the standard error stream would stand in the copy.
"""

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def execute(path: Path, folder: Path) -> None:
    """Runs one notebook and writes it, with its outputs, into that folder.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell fails.
        RuntimeError: if one warns.
    """
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, resources=resources, record_timing=False).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.get("name") == "stderr":
                raise RuntimeError(f"{path}: a cell warns:\n{output.text}")
    nbformat.write(notebook, folder / path.name)


def main(folder, *names):
    """Runs the notebooks of those names."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = Path(__file__).parent / f"{name}.ipynb"
        start = time.perf_counter()
        execute(path, folder)
        print(f"{folder / path.name}  {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
