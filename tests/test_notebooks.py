"""Every notebook runs from top to bottom, and its own assertions hold."""

import json
from pathlib import Path

import jax
import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


def read(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path):
    namespace: dict = {"__name__": "__main__"}
    with jax.enable_x64(False):  # what a reader of the notebook has
        for cell in read(path)["cells"]:
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), namespace)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs_and_asserts_its_claim(path):
    code = [cell for cell in read(path)["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] for cell in code)
    assert any("assert" in line for line in code[-1]["source"])
