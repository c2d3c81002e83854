"""From the README to a certified attribution of one's own model, by its words alone.

And on to a report for a colleague. The commands are those of the README, unchanged, in an
environment that has nothing; the first lines are its first lines. What a newcomer would
stumble over fails here.
"""

import doctest
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import igjax.__main__ as cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf8")
PAGES = sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))
GUIDES = ("README.md", "CHANGELOG.md", "benchmarks/README.md", *PAGES)
TOOLS = ("make", "pip", "python", "python3.11")


# What the guides name is there.


def commands(text: str) -> list[list[str]]:
    """The words of all commands: indented lines, and code in sentences."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    blocks = re.findall(r"^ {4}(\S.*)$", prose, flags=re.MULTILINE)
    spans = re.findall(r"(?<!`)`([^`]+)`", re.sub(r"^ {4}.*$", "", prose, flags=re.M))
    starts = tuple(f"{tool} " for tool in TOOLS)
    told = blocks + [" ".join(span.split()) for span in spans]
    parts = [p.strip() for line in told for p in re.split(r"&&|(?<!\|)\|(?!\|)", line)]
    return [shlex.split(part, comments=True) for part in parts if part.startswith(starts)]


COMMANDS = [
    (guide, command)
    for guide in GUIDES
    for command in commands((ROOT / guide).read_text("utf8"))
]


def test_commands_are_found():
    for command in (
        ["pip", "install", "igjax[models,plots]"],
        ["make", "demo"],
        ["python", "-m", "igjax", "A wonderful film, though far too long."],
        ["python", "benchmarks/bench_hostile.py"],
    ):
        assert ("README.md", command) in COMMANDS
    measured = ["python", "benchmarks/bench_error_estimates.py"]
    assert ("docs/promise.md", measured) in COMMANDS


@pytest.mark.parametrize("command", [c for _, c in COMMANDS], ids=" ".join)
def test_what_a_command_names_is_there(command):
    tool, *arguments = command
    if tool == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.M)
        assert set(arguments) <= set(targets)
    elif tool == "pip":
        check_pip(arguments)
    elif arguments[0] == "-m":
        check_module(*arguments[1:])
    else:
        check_script(*arguments)


@pytest.mark.parametrize(
    "command",
    [
        "make nothing",
        "pip install igjax[nothing]",
        "pip install -r benchmarks/nothing.txt",
        "python -m igjax.nothing",
        "python -m igjax --nothing TEXT",
        "python benchmarks/nothing.py",
        "python benchmarks/bench_parity.py --nothing",
    ],
)
def test_what_is_not_there_is_found_out(command):
    with pytest.raises((AssertionError, FileNotFoundError, SystemExit)):
        test_what_a_command_names_is_there(shlex.split(command))


def check_pip(arguments):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]
    for name, extras in re.findall(r"([\w-]+)\[([\w,]+)\]", " ".join(arguments)):
        assert name == "igjax"
        assert set(extras.split(",")) <= set(project["optional-dependencies"])
    for file in re.findall(r"[\w/-]+\.txt", " ".join(arguments)):
        assert (ROOT / file).is_file()


def check_module(module, *arguments):
    assert importlib.util.find_spec(module)
    if module == "igjax" and arguments and arguments != ("--help",):
        cli._options(arguments)  # which exits where an option is wrong


def check_script(script, *arguments):
    source = (ROOT / script).read_text("utf8")
    for option in (word for word in arguments if word.startswith("--")):
        assert f'"{option}"' in source


# What the guides say can be done.


def section(title: str) -> str:
    """A section of the README, without its title."""
    return README.split(f"## {title}\n")[1].split("\n## ")[0]


OWN = """
import igjax, jax, jax.numpy as jnp, numpy as np

rows = np.random.default_rng(0).normal(size=(200, 4)).astype("float32")
labels = (rows[:, 0] * rows[:, 1] > 0).astype("float32")

def model(row, params):
    hidden = jnp.tanh(params["w"] @ row + params["b"])
    return params["v"] @ hidden

def loss(params):
    logits = jax.vmap(model, (0, None))(rows, params)
    return jnp.mean(jnp.logaddexp(0.0, logits) - labels * logits)

key = jax.random.key(0)
w = jax.random.normal(key, (16, 4))
params = {"w": w, "b": 0.1 * w[:, 0], "v": 0.1 * w[:, 1]}
step = jax.jit(lambda p: jax.tree.map(lambda a, g: a - g, p, jax.grad(loss)(p)))
for _ in range(500):
    params = step(params)

result = igjax.integrated_gradients(model)(rows[0], igjax.baselines.mean(rows), params)
print(igjax.diagnostics.report(result))
assert result.converged
assert abs(result.values[2:]).sum() < abs(result.values[:2]).sum()
gap = result.values.sum() - (model(rows[0], params) - model(rows.mean(0), params))
assert abs(gap) < 0.01 * abs(result.values).sum()
"""


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory):
    """Runs a command as someone who has a Python, an empty folder and the README.

    The wheel of this working tree is there: pip takes it where igjax is asked for, and
    gets all that it needs.
    """
    folder, venv = tmp_path_factory.mktemp("new"), tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL"))}
    environment = kept | {"PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}"}

    def run(*command):
        done = subprocess.run(
            list(map(str, command)),
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    run("pip", "install", "--quiet", "--no-deps", ROOT)
    return run


@pytest.mark.slow
def test_from_the_readme_to_a_certified_attribution_of_an_own_model(newcomer, tmp_path):
    steps = re.findall(r"^ {4}(\S.*)$", section("Install and run"), flags=re.MULTILINE)
    assert len(steps) >= 2
    said = [newcomer("bash", "-ec", step) for step in steps]
    assert str(ROOT) not in newcomer("python", "-c", "import igjax; print(igjax.__file__)")
    assert "tolerance met and verified" in said[-1]
    first = section("The first six lines")
    assert first.count(">>>") >= 5
    (tmp_path / "first.txt").write_text(first, "utf8")
    flags = ["-o", "ELLIPSIS", "-o", "NORMALIZE_WHITESPACE"]
    newcomer("python", "-m", "doctest", *flags, tmp_path / "first.txt")
    assert "tolerance met and verified" in newcomer("python", "-W", "error", "-c", OWN)
    newcomer("pip", "check")


def report() -> str:
    """The lines of the README that write a page for a colleague, without its prompts."""
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    (block,) = (block for block in blocks if "report.html" in block)
    return "".join(e.source for e in doctest.DocTestParser().get_examples(block))


@pytest.mark.slow
def test_and_on_to_a_report_for_a_colleague(newcomer, tmp_path, monkeypatch):
    newcomer("pip", "install", "--quiet", "igjax[models,plots]")
    newcomer("python", "-W", "error", "-c", OWN + report())
    page = tmp_path / "report.html"
    page.write_text(newcomer("cat", "report.html"), "utf8")
    monkeypatch.syspath_prepend(ROOT / "docs")
    check = importlib.import_module("check")
    read = check.Page(page)
    assert [a for a in read.loaded + read.links if not a.startswith(("data:", "#"))] == []
    assert list(check.loads(read)) == []
    assert "tolerance met and verified" in page.read_text("utf8")
    assert "income" in page.read_text("utf8")
    assert "the mean of the data" in page.read_text("utf8")


PAGE = (ROOT / "docs" / "your_framework.md").read_text("utf8")
INTRODUCTION, *SECTIONS = PAGE.split("\n## ")


@pytest.fixture(scope="module")
def with_frameworks(newcomer):
    packages = ["igjax[models]", "equinox", "keras", "dm-haiku"]
    newcomer("pip", "install", "--quiet", *packages)
    return newcomer


@pytest.mark.slow
@pytest.mark.parametrize("section", SECTIONS, ids=lambda text: text.partition("\n")[0])
def test_a_section_of_the_page_of_frameworks_stands_for_itself(
    section, with_frameworks, tmp_path
):
    (tmp_path / "page.txt").write_text(f"{INTRODUCTION}\n## {section}", "utf8")
    flags = ["-o", "ELLIPSIS", "-o", "NORMALIZE_WHITESPACE"]
    command = ["python", "-W", "error", "-m", "doctest", *flags, tmp_path / "page.txt"]
    with_frameworks(*command)
