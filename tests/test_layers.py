"""Imports inside igjax go one way: a file imports only what stands before it here."""

import ast
import pathlib

import pytest

import igjax

# The package itself, `__init__`, stands where its names are complete: what comes after
# it may use the public API, and `import igjax` must not reach it.
ORDER = [
    "_tree",
    "_checks",
    "_closures",
    "_tracing",
    "_convolutions",
    "_affine",
    "_cut",
    "attribution",
    "rules",
    "paths",
    "baselines",
    "path_integral",
    "_hoisting",
    "_compiled",
    "sharding",
    "adaptive",
    "_blocks",
    "integrated",
    "groups",
    "layers",
    "interactions",
    "guided",
    "gradients",
    "_draws",
    "shapley",
    "combinators",
    "expectations",
    "bridges",
    "storage",
    "costs",
    "jobs",
    "diagnostics",
    "__init__",
    "models",
    "plots",
    "_command",
    "__main__",
]
ROOT = pathlib.Path(igjax.__file__).parent
FILES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))


def layer(file: pathlib.PurePath) -> str:
    return file.parts[0].removesuffix(".py")


def imported(file: pathlib.Path) -> set[str]:
    """The layers that a file imports, in functions too."""
    found = []
    for node in ast.walk(ast.parse((ROOT / file).read_text("utf8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: imports are absolute"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    parts = [[*name.split("."), "__init__"] for name in found]
    inside = [part[1] for part in parts if part[0] == "igjax"]
    return {name if name in ORDER else "__init__" for name in inside}


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_go_downward(file):
    place = ORDER.index(layer(file))  # a new file must be given its place
    below = set(ORDER[:place])
    if len(file.parts) > 1:
        below.add(layer(file))  # a package imports from itself
    upward = imported(file) - below
    assert not upward, f"{file} imports {upward}"


def test_models_import_nothing_else_of_igjax():
    for file in FILES:
        if layer(file) == "models":
            assert imported(file) <= {"models"}, file


def test_every_place_in_the_order_is_taken():
    assert {layer(file) for file in FILES} == set(ORDER)


def test_the_walk_sees_imports_of_all_forms(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    code = "import igjax\nfrom igjax import rules as r\ndef f():\n import igjax.plots.text"
    (tmp_path / "file.py").write_text(code)
    assert imported(pathlib.Path("file.py")) == {"__init__", "rules", "plots"}
