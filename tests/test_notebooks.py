"""Every notebook runs from top to bottom, and its own assertions hold."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
# In a process of its own: a notebook may set flags of JAX for itself.
RUN = """
import json, sys
cells = json.load(open(sys.argv[1]))["cells"]
exec("\\n\\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code"), {})
"""


def code_cells(path: Path) -> list[dict]:
    cells = json.loads(path.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path):
    command = [sys.executable, "-c", RUN, str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs_and_asserts_its_claim(path):
    code = code_cells(path)
    assert all(not cell["outputs"] for cell in code)
    assert any("assert" in line for line in code[-1]["source"])
