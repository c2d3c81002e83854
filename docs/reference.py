"""The pages of the reference, written from what the package exports.

A name that is exported is documented: no list is kept here. Those of the top level stand in
the order of `igjax/__init__.py`, a page for each module they come from; then the toolboxes,
the wings, the plots and the models.
"""

import ast
import enum
import importlib
import inspect
import pkgutil
import sys
from pathlib import Path

import igjax
import igjax.models
import igjax.plots

WINGS = ("igjax.propagation", "igjax.perturbation", "igjax.metrics")


def groups() -> dict[str, tuple[str, list[str]]]:
    """By title of the page, the module that introduces it and the names it documents."""
    tree = ast.parse(inspect.getsource(igjax))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    found, toolboxes = {}, []
    for node in imports:
        exported = [alias.name for alias in node.names if alias.name == alias.asname]
        if node.module == "igjax":
            toolboxes = [f"igjax.{name}" for name in exported]
        elif exported and node.module:
            title = node.module.rpartition(".")[2].capitalize()
            found[title] = node.module, [f"igjax.{name}" for name in exported]
    for module in toolboxes:
        found[module] = module, _exported(module)
    for package in (*WINGS, "igjax.plots", "igjax.models"):
        found[package] = package, _exported(package)
        for info in pkgutil.iter_modules(importlib.import_module(package).__path__):
            module = f"{package}.{info.name}"
            names = [] if info.name.startswith("_") else _exported(module)
            shown = _first_homes(found)
            found[module] = module, [n for n in names if id(_thing(n)) not in shown]
    return {title: group for title, group in found.items() if group[1]}


def names() -> list[str]:
    """All public names, qualified as users write them."""
    return [name for _, group in groups().values() for name in group]


def _exported(module: str) -> list[str]:
    """What a module exports, but for its submodules."""
    found = importlib.import_module(module)
    public = getattr(found, "__all__", ())
    return [f"{module}.{n}" for n in public if not inspect.ismodule(getattr(found, n))]


def _first_homes(found) -> set[int]:
    """The functions and classes that have a page: a package shows what its modules hold."""
    things = [_thing(name) for _, group in found.values() for name in group]
    return {id(thing) for thing in things if callable(thing)}


def _thing(name: str):
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


def page(title: str, module: str, names: list[str]) -> str:
    """One page: what the module says of itself, and its names."""
    parts = [f"# {title}", _directive("automodule", module, ["no-index"])]
    for name in names:
        thing = _thing(name)
        kind = "autofunction" if inspect.isroutine(thing) else "autodata"
        options = []
        if inspect.isclass(thing):
            kind, options = "autoclass", ["members"]
            options += ["undoc-members"] if issubclass(thing, enum.Enum) else []
        parts.append(_directive(kind, name, options))
    return "\n\n".join(parts) + "\n"


def _directive(kind: str, name: str, options: list[str]) -> str:
    lines = [f".. {kind}:: {name}", *(f"   :{option}:" for option in options)]
    return "\n".join(["```{eval-rst}", *lines, "```"])


def pages() -> dict[str, str]:
    """The text of each page by its file name, `index.md` among them."""
    files, contents = {}, []
    for title, (module, names) in groups().items():
        name = title.lower().removeprefix("igjax.").replace(".", "_")
        files[f"{name}.md"] = page(title, module, names)
        contents.append(name)
    head = "# Reference\n\nEvery public name. Those of the first pages are imported as"
    toctree = ["```{toctree}", ":maxdepth: 2", "", *contents, "```"]
    files["index.md"] = f"{head} `igjax.NAME`.\n\n" + "\n".join(toctree) + "\n"
    return files


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, "utf8")
