"""Notebooks as they are committed; `make notebooks` runs them, and their assertions."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


def code_cells(path: Path) -> list[dict]:
    cells = json.loads(path.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs_and_asserts_its_claim(path):
    code = code_cells(path)
    assert all(not cell["outputs"] for cell in code)
    assert any("assert" in line for line in code[-1]["source"])
