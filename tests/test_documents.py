"""What the README and docs/ say and no doctest shows: a table, names, commands.

Each cell of the table of Integrated Gradients against Shapley values is computed here, and
the page must hold the table as it is written here.
"""

import importlib
import re
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax
from tests.registry import together
from tests.test_public_api import PUBLIC

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
README = ROOT / "README.md"


class Row(NamedTuple):
    """A function, where it is explained from the baseline 0, and both answers."""

    text: str
    f: Any
    x: tuple[float, ...]
    integrated: tuple[float, ...]
    shapley: tuple[float, ...]
    gap: float = 0.0  # of completeness, for Integrated Gradients


ROWS = [
    Row("2 x₁ - 3 x₂", lambda x: 2 * x[0] - 3 * x[1], (1, 2), (2, -6), (2, -6)),
    Row("x₁ x₂ x₃", jnp.prod, (1, 2, 3), (2, 2, 2), (2, 2, 2)),
    Row("x₁ x₂", jnp.prod, (1, 3), (1.5, 1.5), (1.5, 1.5)),
    Row("x₁² x₂", lambda x: x[0] ** 2 * x[1], (1, 3), (2, 1), (1.5, 1.5)),
    Row("min(x₁, x₂)", jnp.min, (1, 3), (1, 0), (0.5, 0.5)),
    Row("(x₁ + x₂)³", lambda x: x.sum() ** 3, (1, 2), (9, 18), (10, 17)),
    Row(
        "x₁ + x₂ + 9 (x₁ - x₂)² x₁",
        lambda x: x.sum() + 9 * (x[0] - x[1]) ** 2 * x[0],
        (1, 1),
        (1, 1),
        (5.5, -3.5),
    ),
    Row(
        "1 if x₁ + x₂ > 1 else 0",
        lambda x: jnp.where(x.sum() > 1, 1.0, 0.0),
        (1, 1),
        (0, 0),
        (0.5, 0.5),
        gap=-1,
    ),
]
RULE = igjax.rules.gauss_legendre(16)
COSTS = {8: (16, 2, 0, 256), 64: (16, 2, 0, 512)}  # gradients and scores, of each


def numbers(values) -> str:
    return f"({', '.join(f'{value:g}' for value in values)})"


def comparison() -> str:
    """The table of values as it stands on the page."""
    lines = ["| function, at x | Integrated Gradients | Shapley-Shubik |"]
    lines += ["| --- | --- | --- |"]
    for row in ROWS:
        gap = f", gap {row.gap:g}" if row.gap else ""
        cells = f"{numbers(row.integrated)}{gap} | {numbers(row.shapley)}"
        lines.append(f"| {row.text}, at {numbers(row.x)} | {cells} |")
    return "\n".join(lines)


def prices() -> str:
    """The table of costs as it stands on the page."""
    lines = ["| | Integrated Gradients, 16 nodes | Shapley-Shubik, budget 512 |"]
    lines += ["| --- | --- | --- |"]
    for n, cost in COSTS.items():
        lines.append(f"| gradients, {n} features | {cost[0]} | {cost[2]} |")
        lines.append(f"| scores, {n} features | {cost[1]} | {cost[3]} |")
    return "\n".join(lines)


@pytest.mark.slow
def test_the_table_of_values_is_what_both_methods_give():
    key = jax.random.key(0)

    def integrated(row):
        return igjax.integrated_gradients(row.f, rule=RULE)(np.array(row.x, float), 0.0)

    def shapley(row):
        attribute = igjax.perturbation.shapley_values(row.f)
        return attribute(key, np.array(row.x, float), 0.0)

    calls = [lambda row=row: (integrated(row), shapley(row)) for row in ROWS]
    for row, (smooth, orders) in zip(ROWS, together(*calls), strict=True):
        np.testing.assert_allclose(smooth.values, row.integrated, atol=1e-12)
        np.testing.assert_allclose(smooth.delta, row.gap, atol=1e-12)
        np.testing.assert_allclose(orders.values, row.shapley, atol=1e-12)
        np.testing.assert_allclose(orders.delta, 0, atol=1e-12)


@pytest.mark.parametrize("n", [8, pytest.param(64, marks=pytest.mark.slow)])
def test_the_table_of_costs_is_what_igjax_tells(n):
    x = np.ones(n)
    known = igjax.cost(igjax.integrated_gradients(jnp.sum, rule=RULE), x, 0.0)
    orders = igjax.perturbation.shapley_values(jnp.sum)(jax.random.key(0), x, 0.0)
    assert known.evaluations == (COSTS[n][0],) * 2
    assert known.forwards == COSTS[n][1]
    assert (orders.evaluations, orders.forwards) == COSTS[n][2:]


def test_the_page_holds_the_tables():
    page = (ROOT / "docs" / "tables.md").read_text("utf8")
    assert comparison() in page
    assert prices() in page


def script(name, monkeypatch):
    """A module of docs/."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    return importlib.import_module(name)


def test_the_reference_has_every_public_name(monkeypatch):
    reference = script("reference", monkeypatch)
    documented = set(re.findall(r":: (\S+)", "\n".join(reference.pages().values())))
    assert set(PUBLIC) <= documented
    assert sorted(reference.names()) == sorted(set(reference.names()))


BAD = {
    "<script src='https://cdn.example/x.js'></script>": "loads https://cdn.example/x.js",
    "<link rel='stylesheet' href='//fonts.example/f.css'>": "loads //fonts.example/f.css",
    "<style>p { background: url(http://a.example/p.png) }</style>": "from another host",
    "<script>import('https://cdn.example/y.js')</script>": "from another host",
    "<script type='module'>import 'https://cdn.example/z.js'</script>": "another host",
    "<a href='/tmp'>outside</a>": "leads to /tmp",
    "<img src='missing.png'>": "leads to missing.png",
    "<a href='other.html#nowhere'>there</a>": "has no such place",
    "<a href='#here'>here</a>": "has no such place",
}


def test_the_check_of_the_site_finds_what_is_wrong(tmp_path, monkeypatch):
    check = script("check", monkeypatch)
    (tmp_path / "objects.inv").write_bytes(b"#\n#\n#\n#\n" + zlib.compress(b""))
    (tmp_path / "other.html").write_text("<p id='place'><a href='https://a.example'>a</a>")
    lacking = [said for _, said in check.troubles(tmp_path)]
    assert lacking
    assert all(said.startswith("lacks igjax.") for said in lacking)
    good = "<script></script>url(//a) <a href='other.html#place'>there</a>url(//b)"
    for page, trouble in BAD.items():
        (tmp_path / "page.html").write_text(good + page)
        (found,) = {said for _, said in check.troubles(tmp_path)} - set(lacking)
        assert trouble in found


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: page.stem)
def test_a_page_names_scripts_and_modules_that_exist(page):
    text = page.read_text("utf8")
    for path in re.findall(r"\b((?:benchmarks|tests|igjax|docs)/\w+\.\w+)", text):
        assert (ROOT / path).exists(), path


def test_the_readme_is_read_in_three_minutes_and_names_every_page():
    text = README.read_text("utf8")
    assert len(text.splitlines()) <= 150
    named = set(re.findall(r"`docs/(\w+)\.md`", text))
    assert named == {page.stem for page in PAGES} - {"index", "changelog"}


def test_the_page_on_trouble_quotes_messages_and_names_every_status():
    text = (ROOT / "docs" / "trouble.md").read_text("utf8")
    files = (ROOT / "igjax").rglob("*.py")
    # As they are written, over several strings.
    source = re.sub(r'"\s*\n\s*f?"', "", "".join(f.read_text("utf8") for f in files))
    quoted = re.findall(r"^\| `([^`]+)`", text.split("## By message")[1], re.M)
    assert len(quoted) >= 9
    assert [message for message in quoted if message not in source] == []
    named = re.findall(r"^\| `([A-Z_]+)`", text, re.M)
    assert named == [status.name for status in igjax.Status]
