"""The table of methods against metrics, a job; and ROAD, which imputes what it removes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax
from igjax import metrics

KEY = jax.random.key(3)
W = np.linspace(-1.0, 2.0, 8)
ROWS = np.random.default_rng(0).normal(size=(6, 8))


def score(x):
    return x @ jnp.asarray(W)


METHODS = {
    "exact": igjax.input_x_gradient(score),
    "turned": lambda x, baseline: negated(igjax.input_x_gradient(score)(x, baseline)),
}
METRICS = {
    "sensitivity-3": metrics.sensitivity_n(score, 3, subsets=32),
    "deletion": metrics.deletion(score, steps=4, ties=2, orders=4),
}
BATCHES = [(ROWS[:3], 0.0), (ROWS[3:5], 0.0), (ROWS[5:], 0.0)]


def negated(result):
    return igjax.Attribution(**vars(result) | {"values": -result.values})


def made(folder, methods=METHODS, batches=BATCHES):
    given = KEY, methods, METRICS, batches, folder
    return metrics.table(*given, in_axes=(0, None), progress=False)


@pytest.mark.slow
def test_a_table_of_a_linear_model(tmp_path):
    found = made(tmp_path)
    numbers = found.scores["sensitivity-3"]
    assert list(numbers) == ["exact", "turned", "shuffled"]
    np.testing.assert_allclose(numbers["exact"], np.ones(6), rtol=1e-6)
    np.testing.assert_allclose(numbers["turned"], -np.ones(6), rtol=1e-6)
    assert np.abs(numbers["shuffled"]).max() < 0.99
    rows = found.comparisons["sensitivity-3"]
    np.testing.assert_allclose(rows.means[:2], [1, -1], rtol=1e-6)
    np.testing.assert_allclose(rows.differences[0, 1], 2, rtol=1e-6)
    text = (tmp_path / "table.md").read_text("utf8")
    assert text == found.markdown() + "\n"
    assert text.splitlines()[2].startswith("| exact | 1 ± ")
    assert " * |" in text.splitlines()[2]
    assert "*" not in text.splitlines()[-1]


@pytest.mark.slow
def test_each_example_has_the_same_draws_for_all_methods(tmp_path):
    found = made(tmp_path, {"exact": METHODS["exact"], "again": METHODS["exact"]})
    for numbers in found.scores.values():
        np.testing.assert_array_equal(numbers["exact"], numbers["again"])
    one = metrics.deletion(score, steps=4, ties=2, orders=4)
    key = jax.random.split(jax.random.fold_in(KEY, 1), 2)[1]
    key = jax.random.fold_in(jax.random.split(key)[1], 1)
    values = jnp.asarray(ROWS[4] * W)
    want = one(key, values, jnp.asarray(ROWS[4]), 0.0).value
    np.testing.assert_allclose(found.scores["deletion"]["exact"][4], want, rtol=1e-6)


@pytest.mark.slow
def test_a_table_goes_on_where_it_was(tmp_path):
    first = made(tmp_path, {"exact": METHODS["exact"]})
    files = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*/*.npz")}
    assert len(files) == 3
    (tmp_path / "exact" / "batch_00000001.npz").unlink()
    more = made(tmp_path, METHODS)
    for name, numbers in first.scores["deletion"].items():
        np.testing.assert_array_equal(more.scores["deletion"][name], numbers)
    after = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*/*.npz")}
    assert len(after) == 6
    assert sum(after[file] == time for file, time in files.items()) == 2
    with pytest.raises(ValueError, match="got other data"):
        made(tmp_path, batches=[(ROWS[:3] + 1, 0.0), *BATCHES[1:]])


@pytest.mark.slow
def test_what_a_table_refuses(tmp_path):
    with pytest.raises(ValueError, match="table: methods must be names and functions"):
        made(tmp_path, {})
    with pytest.raises(ValueError, match=r"got \['shuffled'\] twice"):
        made(tmp_path, {"shuffled": METHODS["exact"]})
    with pytest.raises(TypeError, match=r"table: methods\['none'\] must be callable"):
        made(tmp_path, {"none": None})
    with pytest.raises(ValueError, match="as many examples"):
        metrics.table(KEY, METHODS, METRICS, [(ROWS, ROWS[:2])], tmp_path)
    with pytest.raises(ValueError, match="two or more examples"):
        made(tmp_path, batches=[(ROWS[:1], 0.0)])


# -- ROAD


def by_hand(image, missing):
    """The linear equations of the paper, dense."""
    height, width = missing.shape
    flat = missing.ravel()
    matrix, given = np.eye(flat.size), np.where(flat, 0, image.ravel())
    for p in np.flatnonzero(flat):
        i, j = divmod(p, width)
        for k in range(max(i - 1, 0), min(i + 2, height)):
            for m in range(max(j - 1, 0), min(j + 2, width)):
                if (k, m) != (i, j):
                    weight = 1 / 6 if k == i or m == j else 1 / 12
                    matrix[p, k * width + m] = -weight
        matrix[p, p] = -(matrix[p].sum() - 1)
    return np.linalg.solve(matrix, given).reshape(height, width)


def test_imputation_solves_the_equations_of_the_paper():
    rng = np.random.default_rng(1)
    image, missing = rng.normal(size=(7, 5)), rng.uniform(size=(7, 5)) < 0.6
    filled = metrics.imputed(KEY, image[..., None], missing, noise=0.0, tolerance=1e-12)
    np.testing.assert_allclose(filled[..., 0], by_hand(image, missing), atol=1e-9)
    noisy = metrics.imputed(KEY, image[..., None], missing, noise=0.1)[..., 0]
    np.testing.assert_array_equal(noisy[~missing], image[~missing])
    assert 0.02 < np.abs(noisy - filled[..., 0])[missing].std() < 0.2
    nothing = metrics.imputed(KEY, image[..., None], np.ones((7, 5), bool), noise=0.0)
    np.testing.assert_array_equal(nothing, 0)


def test_road_by_hand():
    rng = np.random.default_rng(2)
    x, weights = rng.normal(size=(4, 4, 1)), jnp.asarray(rng.normal(size=(4, 4, 1)))
    f = lambda x: (x * weights).sum()
    values = jnp.arange(16.0).reshape(4, 4, 1)
    curve = metrics.road(f, shares=(0.25, 0.5), noise=0.0)(KEY, values, jnp.asarray(x))
    want = []
    for count in (4, 8):
        missing = np.asarray(values)[..., 0] >= 16 - count
        want.append((by_hand(x[..., 0], missing) * np.asarray(weights)[..., 0]).sum())
    np.testing.assert_allclose(curve.scores, want, atol=1e-4)
    np.testing.assert_allclose(curve.value, np.mean(want), atol=1e-4)
    np.testing.assert_allclose(curve.fractions, [0.25, 0.5])


def test_road_prefers_what_the_model_reads():
    rng = np.random.default_rng(3)
    x, weights = rng.uniform(1, 2, (8, 8, 2)), np.zeros((8, 8, 2))
    weights[2, 2] = weights[5, 6] = 1
    f = lambda x: (x * weights).sum() ** 2
    measure = metrics.road(f, shares=(0.05, 0.2), orders=8)
    values = jnp.asarray(weights * np.where(x > 1.5, 2, 1))
    good, bad = (measure(KEY, v, jnp.asarray(x)) for v in (values, -values))
    assert good.value + good.error < good.random
    assert good.value < bad.value
    constant = measure(KEY, 0 * values, jnp.asarray(x))
    assert abs(constant.value - constant.random) < 3 * constant.error


def test_what_road_refuses():
    f = lambda x: x.sum()
    with pytest.raises(ValueError, match=r"shares must be in \(0, 1\)"):
        metrics.road(f, shares=(0.5, 1.0))
    with pytest.raises(ValueError, match="x must be"):
        metrics.road(f)(KEY, jnp.ones(4), jnp.ones(4))
    with pytest.raises(ValueError, match="imputed: x must be"):
        metrics.imputed(KEY, jnp.ones((3, 3, 1)), np.ones((2, 3), bool))
