"""The house: imports go one way, between rooms and inside them; each says what it holds."""

import ast
import graphlib
import pathlib

import pytest

import igjax

# A room imports only what stands before it here. The package itself, `__init__`, stands
# where its names are complete: what comes after it may use the public API, and
# `import igjax` must not reach it.
ORDER = [
    "_tree",
    "_gauss",
    "_checks",
    "frameworks",
    "_program",
    "_labels",
    "attribution",
    "rules",
    "paths",
    "baselines",
    "integration",
    "methods",
    "propagation",
    "perturbation",
    "running",
    "metrics",
    "bridges",
    "embeddings",
    "tokens",
    "language",
    "diagnostics",
    "__init__",
    "models",
    "plots",
    "_command",
    "__main__",
]
ROOT = pathlib.Path(igjax.__file__).parent
FILES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))
ROOMS = sorted({file.parts[0] for file in FILES if len(file.parts) > 1})


def room(file: pathlib.PurePath) -> str:
    return file.parts[0].removesuffix(".py")


def imported(file: pathlib.Path) -> list[str]:
    """What a file imports of igjax, in functions too, without the package's name."""
    found = []
    for node in ast.walk(ast.parse((ROOT / file).read_text("utf8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: imports are absolute"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    parts = [name.partition(".") for name in found]
    return [rest for package, _, rest in parts if package == "igjax"]


def rooms(file: pathlib.Path) -> set[str]:
    """The rooms that a file imports from."""
    first = {name.partition(".")[0] for name in imported(file)}
    return {name if name in ORDER else "__init__" for name in first}


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_go_downward(file):
    place = ORDER.index(room(file))  # a new file must be given its place
    below = set(ORDER[:place])
    if len(file.parts) > 1:
        below.add(room(file))  # a room imports from itself
    upward = rooms(file) - below
    assert not upward, f"{file} imports {upward}"


def test_imports_inside_rooms_make_no_circles():
    modules = {".".join(file.with_suffix("").parts): file for file in FILES}
    graph = {}
    for module, file in modules.items():
        names = imported(file)
        known = {name for name in names if name in modules}
        known |= {name.rpartition(".")[0] for name in names} & set(modules)
        graph[module] = known - {module}
    assert list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_says_what_it_holds(name):
    tree = ast.parse((ROOT / name / "__init__.py").read_text("utf8"))
    assert ast.get_docstring(tree)


def test_models_import_nothing_else_of_igjax():
    for file in FILES:
        if room(file) == "models":
            assert rooms(file) <= {"models"}, file


def test_every_place_in_the_order_is_taken():
    assert {room(file) for file in FILES} == set(ORDER)


def test_the_walk_sees_imports_of_all_forms(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    code = "import igjax\nfrom igjax import rules as r\ndef f():\n import igjax.plots.text"
    (tmp_path / "file.py").write_text(code)
    assert rooms(pathlib.Path("file.py")) == {"__init__", "rules", "plots"}
