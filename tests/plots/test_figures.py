"""Figures of images, tables, signals, layers, interactions, paths and rules.

What a figure says is tested on its artists: places, colors, texts. That it looks as it did
is tested against pictures.npz, coarse and without text, so that fonts do not matter;
`python -m tests.plots.test_figures` draws these pictures anew.
"""

import dataclasses
import functools
import io
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

import igjax
from igjax import plots
from igjax.diagnostics import Convergence, PathProfile
from igjax.plots import _scale

# Tests look into artists, of which the types of matplotlib tell little.
diagnostics: Any = plots.diagnostics
features: Any = plots.features
images: Any = plots.images
interactions: Any = plots.interactions
layers: Any = plots.layers
signals: Any = plots.signals

PICTURES = pathlib.Path(__file__).with_name("pictures.npz")
ROWS, COLUMNS = 24, 32
BLUE, ORANGE = (np.array(c) / 255 for c in (_scale.POSITIVE, _scale.NEGATIVE))


def result(
    values, error: Any = 0.0, status=igjax.Status.TOLERANCE_MET, start=0.0, delta=0.0
):
    """A result with those values."""
    values = jnp.asarray(values, jnp.float32)
    scalar = lambda a, dtype=jnp.float32: jnp.asarray(a, dtype)
    return igjax.Attribution(
        values=values,
        error=jnp.broadcast_to(scalar(error), values.shape),
        delta=scalar(delta),
        score=values.sum() + start - delta,
        baseline_score=scalar(start),
        evaluations=scalar(15, jnp.int32),
        forwards=scalar(0, jnp.int32),
        jumps=scalar(0, jnp.int32),
        status=scalar(status, jnp.int32),
    )


def batch(values, error: Any = 0.0, status=igjax.Status.TOLERANCE_MET):
    """The results of the rows of a matrix."""
    rows = [result(row, error, status) for row in np.asarray(values)]
    return jax.tree.map(lambda *parts: jnp.stack(parts), *rows)


def some(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def png(figure):
    figure.savefig(io.BytesIO(), format="png")


def shown(axes):
    """All texts of a figure."""
    png(axes.figure)
    return [t.get_text() for t in axes.figure.findobj(Text) if t.get_text()]


def has_hatches(axes):
    return any(any(c.hatches or ()) for c in axes.collections if hasattr(c, "hatches"))


# What every figure keeps.

PROFILE = PathProfile(
    t=np.linspace(0, 1, 3001),
    score=np.tanh(20 * (np.linspace(0, 1, 3001) - 0.3)) + (np.linspace(0, 1, 3001) > 0.7),
    slope=20 / np.cosh(20 * (np.linspace(0, 1, 3001) - 0.3)) ** 2,
    edges=np.array([[0.0, 0.25], [0.25, 0.5], [0.5, 1.0], [1.0, 1.0]]),
    panels=np.int32(3),
)
FOUND = Convergence(
    evaluations=np.array([8, 16, 15]),
    error=np.array([1e-1, 2e-2, 0.0]),
    estimate=np.array([3e-1, np.inf, 1e-3]),
    gap=np.zeros(3),
    converged=np.array([False, False, True]),
    reference_status=np.array(0),
    reference_error=np.array(1e-5),
)
NAMES = ["a", "$b_1", "c\\d", "e^", "f"]
MANY = batch(some(60, 5, seed=1) * [1, 2, 0.5, 3, 0.1] + [0, 1, 0, 0, 0.2], 0.01)
SQUARE = some(5, 5) + some(5, 5).T
ONE = {
    "original": lambda ax: images.original(some(8, 8), ax),
    "heat_map": lambda ax: images.heat_map(result(some(8, 8, 3), 0.5), ax),
    "positive": lambda ax: images.positive(result(some(8, 8)), ax, limit=0.9),
    "overlay": lambda ax: images.overlay(result(some(8, 8)), some(8, 8, seed=1), ax),
    "blended": lambda ax: images.blended(result(some(4, 4)), some(32, 32, 3), ax),
    "bars": lambda ax: features.bars(result(some(5), 0.2), NAMES, ax),
    "waterfall": lambda ax: features.waterfall(result(some(40), 0.1, start=2), None, ax),
    "summary": lambda ax: features.summary(MANY, NAMES, ax),
    "beeswarm": lambda ax: features.beeswarm(MANY, some(60, 5, seed=1), NAMES, ax),
    "compare": lambda ax: features.compare(
        {"$one": result(some(5), 0.3), "two_": result(some(5, seed=1))}, NAMES, ax
    ),
    "series": lambda ax: signals.series(result(some(50), 0.3), some(50, seed=1), None, ax),
    "audio": lambda ax: signals.audio(
        result(some(2000) * np.linspace(-1, 1, 2000)),
        np.sin(np.arange(2000) ** 2 / 4000),
        8000,
        ax,
    ),
    "stacked": lambda ax: layers.stacked(
        {"$x": result(some(60), 0.05), "y_": result(some(3, 3))}, ax
    ),
    "matrix": lambda ax: interactions.matrix(result(SQUARE, 0.9), NAMES, ax),
    "network": lambda ax: interactions.network(result(SQUARE, 0.1), NAMES, ax, most=6),
    "path_profile": lambda ax: diagnostics.path_profile(PROFILE, ax),
    "convergence": lambda ax: diagnostics.convergence(FOUND, ["m$", "m$", "a"], ax),
    "landscape": lambda ax: diagnostics.landscape(
        lambda x: jnp.sin(2 * x[0]) * x[1],
        jnp.array([1.0, 2.0]),
        jnp.zeros(2),
        {"s": igjax.paths.straight, "p_$": igjax.paths.polyline(jnp.array([1.0, 0.0]))},
        ax,
    ),
}
SEVERAL = {
    "four_panels": lambda axes: images.four_panels(
        result(some(8, 8), 0.4), some(8, 8, seed=1), axes, limit=0.95
    ),
    "side_by_side": lambda axes: images.side_by_side(
        {"$one": result(some(8, 8)), "two_": result(3 * some(8, 8), 1.0)}, axes
    ),
}


def new(name):
    """The axes, or the first of them, of a new figure."""
    return ONE[name](None) if name in ONE else SEVERAL[name](None)[0]


@functools.cache
def drawn(name):
    """As `new`, drawn, for tests that only look."""
    axes = new(name)
    png(axes.figure)
    return axes


@pytest.mark.parametrize("name", ONE)
def test_a_figure_takes_axes_or_makes_them_and_returns_them(name):
    figure = Figure(figsize=(5, 4), layout="constrained")
    given, other = figure.subplots(1, 2)
    before = other.get_position().bounds
    assert ONE[name](given) is given
    png(figure)
    assert other.get_position().height > 0.5 * before[3]
    assert not other.has_data()
    assert drawn(name).figure is not figure


@pytest.mark.parametrize("name", SEVERAL)
def test_panels_take_axes_or_make_them_and_share_one_scale(name):
    made = SEVERAL[name](None)
    figure = Figure(layout="constrained")
    given = figure.subplots(1, len(made))
    assert SEVERAL[name](given) == list(given)
    png(figure)
    png(made[0].figure)
    heats = [a.images[-1] for a in made if a.images[-1].get_cmap().name == "igjax"]
    assert len(heats) >= 2
    assert len({image.get_clim() for image in heats}) == 1
    bars = [a for a in made[0].figure.axes if a not in made]
    assert len(bars) == 1
    with pytest.raises(ValueError, match="axes, got 1"):
        SEVERAL[name](given[:1])


@pytest.mark.parametrize("name", [*ONE, *SEVERAL])
def test_a_figure_of_its_own_cuts_no_text(name):
    made = drawn(name)
    figure = made.figure
    width, height = figure.canvas.get_width_height()
    legible = [t for t in figure.findobj(Text) if t.get_text() and t.get_visible()]
    ticks = set()
    for axes in [*figure.axes, *made.child_axes]:  # those outside the limits are not drawn
        for axis in (axes.xaxis, axes.yaxis):
            both = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            ticks |= {label for tick in both for label in (tick.label1, tick.label2)}
    for text in set(legible) - ticks:
        box = text.get_window_extent()
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y1 <= height + 1, text


@pytest.mark.parametrize("name", ONE)
def test_names_are_drawn_as_they_are(name):
    given = [*NAMES, "$one", "two_", "$x", "y_", "m$", "p_$"]
    texts = [t for t in drawn(name).figure.findobj(Text) if t.get_text() in given]
    assert not any(t.get_parse_math() for t in texts)


# Stability of the looks.


def coarse(figure):
    """A figure without its text, as means over ROWS x COLUMNS blocks."""
    figure.set_size_inches(6.4, 4.8)
    figure.set_dpi(50)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for text in figure.findobj(Text):
        text.set_visible(False)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].astype(float)
    return pixels.reshape(ROWS, 240 // ROWS, COLUMNS, 320 // COLUMNS, 3).mean((1, 3))


def picture(name):
    return coarse(new(name).figure)


def differ(one, other):
    """Whether two coarse pictures look different: in 2% of the blocks, or on average."""
    change = np.abs(one - other).max(axis=-1)
    return (change > 30).mean() > 0.02 or change.mean() > 3


@functools.cache
def stored():
    with np.load(PICTURES) as file:
        return {name: file[name].astype(float) for name in file.files}


@pytest.mark.parametrize("name", [*ONE, *SEVERAL])
def test_a_figure_looks_as_it_did(name):
    assert not differ(picture(name), stored()[name])


def test_the_comparison_sees_changes():
    pictures = list(stored().values())
    for number, one in enumerate(pictures):
        assert not any(not differ(one, other) for other in pictures[number + 1 :])
    flipped = images.heat_map(result(-some(8, 8, 3), 0.5))
    assert differ(coarse(flipped.figure), stored()["heat_map"])


@pytest.mark.slow
@pytest.mark.parametrize("error", [0.1, np.inf, np.nan])
@pytest.mark.parametrize("worst", [[np.nan, np.inf, -np.inf], [0.0, 0.0, 0.0]])
def test_strange_values_are_drawn(worst, error):
    known = worst[0] == 0.0
    status = igjax.Status.NO_TOLERANCE if known else igjax.Status.NON_FINITE
    row = result([*worst, 0.0 if known else 1.0], error, status)
    square = result(np.diag([*worst, 0.0]), error, status)
    long = result(np.resize(worst, 300), error, status)
    for axes in (
        images.four_panels(square, np.zeros((4, 4)))[0],
        features.bars(row),
        features.waterfall(row, x=["a", "b", "c", "d"]),
        features.summary(batch([[*worst, 1.0]] * 3, error, status)),
        features.beeswarm(
            batch([[*worst, 1.0], [1.0, 1.0, 1.0, 1.0]], error, status),
            np.array([[*worst, 1.0]] * 2),
        ),
        features.compare({"a": row}),
        signals.audio(long, np.zeros(300), 8000),
        layers.stacked({"a": row}),
        interactions.matrix(square),
        interactions.network(square),
    ):
        png(axes.figure)  # warnings are errors


# Refusals.


@pytest.mark.parametrize(
    "draw",
    [
        images.heat_map,
        images.positive,
        lambda r: images.overlay(r, np.ones((2, 2))),
        lambda r: images.blended(r, np.ones((2, 2))),
        lambda r: images.four_panels(r, np.ones((2, 2))),
        lambda r: images.side_by_side({"a": r}),
        features.waterfall,
        lambda r: features.compare({"a": r}),
        lambda r: signals.series(r, np.ones(2)),
        lambda r: signals.audio(r, np.ones(2), 8000),
        lambda r: layers.stacked({"a": r}),
        interactions.matrix,
        interactions.network,
    ],
)
def test_a_batch_is_refused_with_the_remedy(draw):
    batch = jax.tree.map(lambda a: jnp.stack([a, a]), result(np.ones((2, 2))))
    with pytest.raises(ValueError, match=r"[Uu]se result\.example\(i\)"):
        draw(batch)


@pytest.mark.parametrize(
    ("draw", "told"),
    [
        (lambda: images.heat_map(result(np.ones(3))), r"shape \(H, W\).*got \(3,\)"),
        (lambda: images.original(np.ones((2, 2, 2))), r"got \(2, 2, 2\)"),
        (lambda: images.overlay(result(np.ones((2, 2))), np.ones((4, 4))), "height"),
        (lambda: images.heat_map(result(np.ones((2, 2))), limit=99), "quantile"),
        (lambda: images.side_by_side({}), "at least one result"),
        (lambda: features.waterfall(result(np.ones((2, 2)))), r"got \(2, 2\)"),
        (lambda: features.bars(result(np.ones(2)), ["a"]), "1 names"),
        (lambda: features.waterfall(result(np.ones(2)), x=[1.0]), "each of the 2"),
        (lambda: features.summary(result(np.ones(2))), "those of a batch"),
        (lambda: features.summary(batch(np.ones((1, 2)))), "two rows, got \\(1, 2\\)"),
        (lambda: features.summary(batch(np.ones((3, 2, 2)))), "got \\(3, 2, 2\\)"),
        (lambda: features.summary(MANY, ["a"]), "1 names"),
        (lambda: features.beeswarm(MANY, np.ones(5)), r"\(60, 5\), got float64\[5\]"),
        (lambda: features.beeswarm(MANY, np.full((60, 5), "a")), "must hold numbers"),
        (
            lambda: features.compare({"a": result([1.0]), "b": result([1.0, 2.0])}),
            "same features",
        ),
        (lambda: features.compare({str(i): result([1.0]) for i in range(9)}), "at most 8"),
        (lambda: signals.series(result(np.ones(3)), np.ones(4)), r"\(3,\) and \(4,\)"),
        (lambda: signals.series(result(np.ones(2)), np.ones(2), [1, 0]), "ascending"),
        (lambda: signals.audio(result(np.ones(9)), np.ones(9), 8000), "25 ms"),
        (lambda: interactions.matrix(result(np.ones((2, 3)))), "square matrix"),
        (lambda: diagnostics.convergence(FOUND, ["a"]), "1 names"),
        (lambda: diagnostics.landscape(jnp.sum, np.ones(3), np.ones(3)), r"shape \(2,\)"),
        (
            lambda: diagnostics.path_profile(jax.tree.map(lambda a: a[None], PROFILE)),
            "one example",
        ),
    ],
)
def test_misfits_are_refused(draw, told):
    with pytest.raises(ValueError, match=told):
        draw()


@pytest.mark.parametrize("draw", [images.side_by_side, features.compare, layers.stacked])
def test_several_results_must_have_names(draw):
    with pytest.raises(TypeError, match="must map names to results"):
        draw([result(np.ones((2, 2)))])


# Images.


def test_a_heat_map_adds_up_channels_and_changes_no_value():
    weights = np.array([[-3.0, 1.0], [0.0, 2.0]])
    axes = images.heat_map(result(np.repeat(weights[..., None], 3, axis=-1)))
    (heat,) = axes.images
    assert heat.get_clim() == (-9.0, 9.0)
    np.testing.assert_array_equal(np.asarray(heat.get_array()), 3 * weights)


def test_a_limit_is_a_quantile_and_stands_at_the_color_bar():
    values = np.arange(-50.0, 51.0).reshape(1, 101)
    axes = images.heat_map(result(values), limit=0.5)
    assert axes.images[0].get_clim() == (-25.0, 25.0)
    assert "attribution\nfull color: 25,\n50% quantile of sizes" in shown(axes)
    assert "attribution" in shown(images.heat_map(result(values)))
    np.testing.assert_array_equal(np.asarray(axes.images[0].get_array()), values)


def test_a_limit_of_which_all_is_zero_falls_back_to_the_largest():
    values = np.zeros((4, 4))
    values[0, 0] = 2.0
    assert images.heat_map(result(values), limit=0.5).images[0].get_clim() == (-2.0, 2.0)


def test_the_positive_part_keeps_the_scale_of_all():
    axes = images.positive(result([[1.0, -4.0]]))
    (heat,) = axes.images
    assert heat.get_clim() == (-4.0, 4.0)
    assert np.asarray(heat.get_array()).tolist() == [[1.0, 0.0]]


def test_an_overlay_is_clear_where_the_values_are_zero():
    axes = images.overlay(result([[-3.0, 1.5], [0.0, 3.0]]), np.ones((2, 2, 3), np.uint8))
    below, heat = axes.images
    assert below.get_cmap().name == "gray"
    assert np.asarray(heat.get_alpha()).tolist() == [[1.0, 0.5], [0.0, 1.0]]


def test_coarse_values_are_stretched_over_the_picture():
    picture, heat = images.blended(result(some(4, 4)), np.ones((32, 24, 3))).images
    assert heat.get_extent() == picture.get_extent()
    assert tuple(heat.get_extent()) == (-0.5, 23.5, 31.5, -0.5)


@pytest.mark.parametrize(
    ("values", "errors", "hatched"),
    [
        ([[1.0, -1.0]], 0.5, False),
        ([[1.0, 0.2]], [[0.0, 0.3]], True),  # the sign is not known
        ([[1.0, 0.01]], [[0.0, 0.05]], False),  # nobody could see it
        ([[1.0, np.nan]], 0.0, True),
        ([[1.0, 0.5]], np.inf, False),  # unknown everywhere: the note says it
        ([[0.0, 0.0]], 0.0, False),
    ],
)
def test_pixels_that_are_not_to_be_trusted_are_hatched(values, errors, hatched):
    axes = images.heat_map(result(values, errors))
    png(axes.figure)
    assert has_hatches(axes) == hatched


def test_negative_pixels_wear_a_dash_while_they_are_large():
    values = np.array([[1.0, -1.0], [-0.01, 0.0]])
    dashes = lambda axes: [s for c in axes.collections for s in c.get_segments()]
    (dash,) = dashes(images.heat_map(result(values)))
    assert dash.mean(axis=0).tolist() == [1.0, 0.0]
    assert not dashes(images.positive(result(values)))
    assert not dashes(images.heat_map(result(-np.ones((33, 33)))))


def test_many_pixels_are_hatched_in_blocks_by_their_means():
    values, errors = np.ones((70, 100)), np.zeros((70, 100))
    errors[0, 0] = 10.0  # one of a block of 16
    assert not has_hatches(images.heat_map(result(values, errors)))
    errors[:4, :4] = 2.0
    assert has_hatches(images.heat_map(result(values, errors)))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"status": igjax.Status.BUDGET_SPENT}, "budget spent"),
        ({"status": igjax.Status.NON_FINITE}, "not finite"),
        ({"status": igjax.Status.NO_TOLERANCE, "error": 0.2}, "estimated error 20%"),
        ({"status": igjax.Status.NO_TOLERANCE, "error": np.inf}, "errors unknown"),
        ({"status": igjax.Status.NO_TOLERANCE, "error": 0.01}, None),
        ({}, None),
    ],
)
def test_doubts_stand_below_the_axes(changes, told):
    doubtful = result(np.ones((2, 2)), **changes)
    row = result(np.ones(4), **changes)
    figures = [images.heat_map(doubtful), features.waterfall(row), features.bars(row)]
    figures.append(signals.series(row, np.ones(4)).child_axes[-1])
    figures.append(layers.stacked({"one": doubtful, "two": result([1.0])}))
    lines = []
    for axes, usual in zip(figures, [0, 1, 1, 1, 1], strict=True):
        lines = axes.get_xlabel().splitlines()
        assert len(lines) == usual + (told is not None)
        assert told is None or told in lines[-1]
    assert told is None or "one: " in lines[-1]


# Tables.


def test_a_waterfall_goes_from_score_to_score():
    axes = features.waterfall(
        result([1.0, -3.0, 0.5], start=2.0, delta=0.25), ["a", "b", "c"]
    )
    labels = [t.get_text() for t in axes.get_yticklabels()]
    assert labels == ["baseline", "b", "a", "c", "gap", "score"]
    bars = axes.patches
    starts, widths = ([getattr(p, f"get_{n}")() for p in bars] for n in ("x", "width"))
    np.testing.assert_allclose(starts, [2.0, -1.0, 0.0, 0.5], atol=1e-6)
    np.testing.assert_allclose(widths, [-3.0, 1.0, 0.5, -0.25], atol=1e-6)
    assert starts[-1] + widths[-1] == pytest.approx(0.25)  # the score
    assert [tuple(p.get_facecolor()[:3]) for p in bars[:2]] == [tuple(ORANGE), tuple(BLUE)]
    minus = "\N{MINUS SIGN}"
    numbers = [t.get_text() for t in axes.texts]
    assert numbers == ["+2.00", f"{minus}3.00", "+1.00", "+0.50", f"{minus}0.25", "+0.25"]


def test_a_waterfall_adds_up_what_it_leaves_out():
    axes = features.waterfall(result(np.arange(1.0, 41.0), 0.1))
    assert "10 smaller ones" in [t.get_text() for t in axes.get_yticklabels()]
    assert axes.patches[30].get_width() == pytest.approx(55.0)


def test_a_waterfall_tells_what_the_features_are():
    values, x = [3.0, -2.0, 1.0], [0.5, "blue", -123456.0]
    labels = features.waterfall(result(values), x=np.array(x, object)).get_yticklabels()
    minus = "\N{MINUS SIGN}"
    told = ["0 = 0.5", "1 = blue", f"2 = {minus}1.235e+05"]
    assert [t.get_text() for t in labels][1:-2] == told


def test_a_summary_has_the_means_of_sizes_with_intervals_of_student():
    values = some(12, 3) * [1.0, -4.0, 2.0]
    axes = features.summary(batch(values), ["a", "b", "c"])
    sizes = np.abs(values)
    order = np.argsort(-sizes.mean(0))
    labels = [t.get_text() for t in axes.get_yticklabels()]
    assert labels == np.array(["a", "b", "c"])[order].tolist()
    sizes = sizes[:, order]
    widths = [p.get_width() for p in axes.patches]
    np.testing.assert_allclose(widths, sizes.mean(0), rtol=1e-6)
    lines = [line.get_segments() for line in axes.collections]
    spread = [np.ptp(segment[:, 0]) for segment in lines[0]]
    exact = 2 * scipy.stats.t.ppf(0.975, 11) * sizes.std(0, ddof=1) / 12**0.5
    np.testing.assert_allclose(spread, exact, rtol=1e-3)
    assert axes.get_xlabel().startswith("mean of |attribution| over 12 rows")


def test_rows_in_trouble_are_left_out_and_counted():
    values = some(4, 2)
    values[1, 0] = np.nan
    rows = batch(values)
    status = jnp.array([0, 4, 2, 2], jnp.int32)
    error = jnp.asarray([[0.0, 0.0]] * 3 + [[9.0, 0.0]])
    axes = features.summary(dataclasses.replace(rows, status=status, error=error))
    widths = sorted(p.get_width() for p in axes.patches)
    np.testing.assert_allclose(widths, sorted(np.abs(values[[0, 2, 3]]).mean(0)), rtol=1e-6)
    told = axes.get_xlabel()
    assert "over 3 rows" in told
    assert f"2 of 4 rows: {igjax.Status.BUDGET_SPENT.meaning}" in told
    assert f"1 of 4 rows: {igjax.Status.NON_FINITE.meaning}" in told
    assert "1 of 4 rows: estimated error over 5%" in told


def points(axes):
    return [c for c in axes.collections if len(c.get_offsets()) > 1]


def test_points_of_a_swarm_are_the_values_and_do_not_lie_on_each_other():
    values = np.repeat([[1.0, -3.0], [1.0, 2.0], [-0.5, 2.0]], 5, axis=0)
    x = np.arange(30.0).reshape(15, 2)
    swarms = points(features.beeswarm(batch(values), x, ["a", "b"]))
    for swarm, column, place in zip(swarms, (1, 0), (0, 1), strict=True):
        at = np.asarray(swarm.get_offsets())
        np.testing.assert_allclose(at[:, 0], values[:, column])
        assert len(np.unique(at, axis=0)) == 15
        assert np.abs(at[:, 1] - place).max() < 0.45
        shades = swarm.get_facecolor()[:, :3].sum(1)
        assert (np.diff(shades) >= 0).all()  # the larger the feature, the brighter
    again = points(features.beeswarm(batch(values), x, ["a", "b"]))
    for one, other in zip(swarms, again, strict=True):
        np.testing.assert_array_equal(one.get_offsets(), other.get_offsets())


def test_a_swarm_of_many_points_stays_in_its_row_and_outliers_take_no_colors():
    x = np.array([*range(19), 1e9])[:, None]
    (swarm,) = points(features.beeswarm(batch(np.ones((20, 1))), x))
    assert np.abs(np.asarray(swarm.get_offsets())[:, 1]).max() < 0.45
    assert len(np.unique(swarm.get_facecolor(), axis=0)) >= 18


def test_of_a_feature_that_is_no_number_the_points_are_gray():
    x = np.array([[np.nan, 1.0], [0.0, 1.0], [1.0, 1.0]])
    several, one = points(features.beeswarm(batch(np.ones((3, 2))), x))
    first, *others = several.get_facecolor()[:, :3]
    assert np.ptp(first) < 0.01 < min(map(np.ptp, others))
    assert len(np.unique(one.get_facecolor(), axis=0)) == 1


def test_of_many_features_the_largest_are_drawn():
    axes = features.beeswarm(batch(np.ones((2, 40)) * np.arange(40)), np.ones((2, 40)))
    labels = [t.get_text() for t in axes.get_yticklabels()]
    assert labels[0] == "39"
    assert labels[-1] == "25\n(25 smaller ones left out)"


def test_methods_are_compared_on_one_axis():
    axes = features.compare({"a": result([1.0, 3.0], 0.5), "b": result([2.0, -4.0])})
    points = [line for line in axes.lines if line.get_label() in "ab"]
    assert [line.get_xdata().tolist() for line in points] == [[3.0, 1.0], [-4.0, 2.0]]
    assert points[0].get_marker() != points[1].get_marker()


# Signals.


def steps(axes):
    up, down, *_ = axes.patches
    return up.get_data().values + down.get_data().values


def test_long_signals_are_added_up_and_the_label_says_so():
    values = some(1000)
    below = signals.series(result(values), values).child_axes[-1]
    np.testing.assert_allclose(steps(below)[0], values[:3].sum(), rtol=1e-5)
    np.testing.assert_allclose(steps(below).sum(), values.sum(), rtol=1e-4)
    assert below.get_ylabel() == "attribution\nof 3 samples"


def test_a_spectrogram_shows_the_pitch():
    rate, pitch = 8000, 1000.0
    sound = np.sin(2 * np.pi * pitch * np.arange(4000) / rate)
    axes = signals.audio(result(np.zeros(4000)), sound, rate)
    (image,) = axes.child_axes[0].images
    levels = np.asarray(image.get_array())
    assert tuple(image.get_extent()[2:]) == (0, 4.0)
    loudest = levels.mean(axis=1).argmax() / (len(levels) - 1) * rate / 2
    assert loudest == pytest.approx(pitch, abs=rate / 200)
    assert levels.max() == 0
    png(axes.figure)


def test_silence_is_drawn():
    png(signals.audio(result(np.zeros(400)), np.zeros(400), 8000).figure)


# Layers and interactions.


def test_the_bars_of_a_layer_add_up_to_its_units():
    axes = layers.stacked({"a": result([1.0, -3.0, 2.0]), "b": result(np.ones(100))})
    widths = [(p.get_y() + 0.35, p.get_width()) for p in axes.patches]
    first = [w for y, w in widths if y < 0.5]
    assert [w for w in first if w] == [2.0, 1.0, -3.0]
    assert sum(w for y, w in widths if y > 0.5) == pytest.approx(100)
    assert max(w for y, w in widths if y > 0.5) == 60.0  # the pale rest


def test_a_matrix_has_numbers_while_they_fit():
    assert len(interactions.matrix(result(np.eye(12))).texts) == 144
    assert not interactions.matrix(result(np.eye(13))).texts


def test_lines_of_a_network_have_the_width_of_both_entries():
    values = np.array([[1.0, 2.0, -0.5], [2.0, 0.0, 0.0], [-0.5, 0.0, 3.0]])
    axes = interactions.network(result(values), list("abc"))
    weak, strong = axes.lines  # the strongest is drawn last
    assert strong.get_linewidth() == 4 * weak.get_linewidth()
    np.testing.assert_allclose(strong.get_color(), BLUE)
    np.testing.assert_allclose(weak.get_color(), ORANGE)
    assert weak.is_dashed()
    key = [t.get_text() for t in axes.get_legend().get_texts()]
    assert key == ["+4.00", "\N{MINUS SIGN}4.00", "\N{PLUS-MINUS SIGN}3.00 alone"]
    assert "strongest 1 of 2 interactions" in " ".join(
        shown(interactions.network(result(values), list("abc"), most=1))
    )


# Paths and rules.


def test_a_profile_marks_panels_and_jumps():
    above, panels, below = diagnostics.path_profile(PROFILE).child_axes
    (ticks,) = panels.collections
    assert [s[0, 0] for s in ticks.get_segments()] == [0.0, 0.25, 0.5, 1.0]
    (jump,) = above.patches
    assert jump.get_x() < 0.7 < jump.get_x() + jump.get_width() < 0.71
    assert below.get_xlabel() == "t, from baseline to x\npanels: 3, jumps: 1"
    assert below.get_yscale() == "linear"
    steep = PROFILE._replace(slope=1000 * PROFILE.slope)
    below = diagnostics.path_profile(steep).child_axes[-1]
    assert (below.get_yscale(), below.get_ylabel()) == ("symlog", "slope (logarithmic)")


def test_a_profile_of_a_fixed_rule_says_that_it_has_no_panels():
    fixed = PROFILE._replace(edges=np.zeros((0, 2)), panels=np.int32(0))
    below = diagnostics.path_profile(fixed).child_axes[-1]
    assert "no panels: fixed rule" in below.get_xlabel()


def test_convergence_draws_what_is_finite_and_rings_what_converged():
    axes = diagnostics.convergence(FOUND, ["m", "m", "a"])
    full = [line for line in axes.lines if line.get_label() in "ma"]
    assert [line.get_xdata().tolist() for line in full] == [[8, 16], [15]]
    assert full[0].get_ydata().tolist() == [1e-1, 2e-2]
    assert 0 < full[1].get_ydata()[0] < 1e-5  # zero, at the bottom of a logarithmic axis
    texts = [t.get_text() for t in axes.get_legend().get_texts()]
    assert texts == ["m", "a", "tolerance met", "reference in doubt"]
    weak = FOUND._replace(reference_status=np.array(igjax.Status.BUDGET_SPENT))
    assert "reference: budget spent" in diagnostics.convergence(weak).get_xlabel()


def test_the_path_lies_on_its_landscape():
    corner = jnp.array([1.0, 0.0])
    ways = {"bent": igjax.paths.polyline(corner)}
    x = jnp.array([1.0, 2.0])
    axes = diagnostics.landscape(jnp.prod, x, jnp.zeros(2), ways)
    line = axes.lines[0].get_xydata()
    np.testing.assert_allclose(line[[0, 200, 400]], [[0, 0], [1, 0], [1, 2]], atol=1e-6)
    (contours,) = [c for c in axes.collections if hasattr(c, "levels")]
    assert 0 < np.ptp(contours.levels) < 10


def save():
    """Draws the pictures of pictures.npz anew."""
    made = {name: picture(name).round().astype(np.uint8) for name in [*ONE, *SEVERAL]}
    np.savez_compressed(PICTURES, **made)


HOSTILE = "debt\u202e\x1b[2J\ud800"
SHOWN = r"debt\u202e\x1b[2J\ud800"


@pytest.mark.parametrize(
    "draw",
    [
        lambda one, several: features.bars(one, [HOSTILE, "b"]),
        lambda one, several: features.waterfall(one, [HOSTILE, "b"], x=[HOSTILE, "c"]),
        lambda one, several: features.compare(several, [HOSTILE, "b"]),
        lambda one, several: features.compare(several),
        lambda one, several: layers.stacked(several),
    ],
)
def test_names_are_shown_and_never_obeyed(draw):
    one = result([1.0, -2.0])
    axes = draw(one, {HOSTILE: one, "other": one})
    axes.figure.draw_without_rendering()
    texts = [text.get_text() for text in axes.figure.findobj(Text)]
    assert any(SHOWN in text for text in texts)
    assert not any("\u202e" in text or "\x1b" in text for text in texts)


if __name__ == "__main__":
    save()
