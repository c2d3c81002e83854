"""Every public name is documented with an example, has one home, and costs no import."""

import ast
import importlib
import importlib.metadata
import inspect
import pathlib
import pkgutil
import re
import subprocess
import sys

import pytest

import igjax

# Submodules of a package are its modules; those that begin with _ are private.
MODULES = [
    info.name
    for info in pkgutil.walk_packages(igjax.__path__, "igjax.")
    if not any(part.startswith("_") for part in info.name.split(".")[1:])
]


def exported(module) -> list[str]:
    """Public names of a module: its `__all__`, or what it imports `as` the same name."""
    if hasattr(module, "__all__"):
        return list(vars(module)["__all__"])
    nodes = ast.walk(ast.parse(inspect.getsource(module)))
    imports = [alias for n in nodes if isinstance(n, ast.ImportFrom) for alias in n.names]
    return [alias.name for alias in imports if alias.name == alias.asname]


def collect():
    """All public functions and classes: qualified name and object, once each."""
    found = {}
    for name in ["igjax", *MODULES]:
        module = importlib.import_module(name)
        for public in exported(module):
            thing = getattr(module, public)
            if not inspect.ismodule(thing):
                found.setdefault(id(thing), (f"{name}.{public}", thing))
    return dict(sorted(found.values(), key=lambda pair: pair[0]))


PUBLIC = collect()
FUNCTIONS = {n: f for n, f in PUBLIC.items() if inspect.isfunction(inspect.unwrap(f))}
DOCUMENTED = {n: f for n, f in PUBLIC.items() if callable(f)}


def section(thing, title):
    """The text under a Google-style heading of a docstring."""
    doc = inspect.getdoc(thing) or ""
    match = re.search(rf"^{title}:\n(.*?)(?=^\S|\Z)", doc, re.MULTILINE | re.DOTALL)
    return match.group(1) if match else ""


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_docstring_has_a_sentence_and_an_example_that_runs(name):
    # That it does run, the doctests show.
    paragraph = (inspect.getdoc(DOCUMENTED[name]) or "").partition("\n\n")[0]
    assert paragraph.endswith(".")
    assert ">>> " in section(DOCUMENTED[name], "Example")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_documents_its_arguments_and_what_it_returns(name):
    function = FUNCTIONS[name]
    arguments = section(function, "Args")
    for parameter in inspect.signature(function).parameters:
        assert re.search(rf"^\s+\*?\*?{parameter}[:\s]", arguments, re.MULTILINE), parameter
    if inspect.signature(function).return_annotation not in (None, "None"):
        assert section(function, "Returns")


@pytest.mark.parametrize("name", ["igjax", *MODULES])
def test_modules_say_what_they_are_for(name):
    assert importlib.import_module(name).__doc__


@pytest.mark.parametrize("name", ["igjax", *MODULES])
def test_exported_names_exist(name):
    module = importlib.import_module(name)
    assert all(hasattr(module, public) for public in exported(module))
    assert len(set(exported(module))) == len(list(exported(module)))


@pytest.mark.parametrize("name", MODULES)
def test_no_name_has_two_homes(name):
    # A module exports what it defines. A package re-exports from its modules, and a public
    # module from private ones beside it.
    module = importlib.import_module(name)
    for public in exported(module):
        thing = getattr(module, public)
        if inspect.isfunction(thing) or inspect.isclass(thing):
            home, beside = thing.__module__, name.rpartition(".")[0] + "._"
            inside = name + "." if hasattr(module, "__path__") else beside
            assert home == name or home.startswith(inside), public


def test_the_top_level_holds_the_methods_and_nothing_of_the_toolboxes():
    toolboxes = [igjax.rules, igjax.paths, igjax.baselines, igjax.diagnostics]
    names = set(exported(igjax))
    for toolbox in toolboxes:
        assert not names & set(exported(toolbox)), toolbox.__name__


def test_the_version_is_that_of_the_installed_package():
    assert igjax.__version__ == importlib.metadata.version("igjax")


def test_the_package_is_typed():
    assert (pathlib.Path(igjax.__file__).parent / "py.typed").exists()


def test_importing_igjax_imports_no_optional_package():
    optional = {"flax", "matplotlib", "optax", "tqdm"}
    optional |= {"equinox", "haiku", "jinja2", "pandas", "scipy"}
    # scipy comes with jax, so it counts only if jax alone does not import it.
    code = f"""
import sys
import jax, jax.extend, jax.custom_batching
before = set(sys.modules)
import igjax
print(*sorted((set(sys.modules) - before) & {optional!r}))
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == []
