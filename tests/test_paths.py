"""Paths start at the baseline and end at x, exactly; their speed does not matter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax
from igjax import paths
from tests.registry import together

X = {"a": np.array([1.5, -2.0]), "b": np.array(0.3)}
B = {"a": np.array([0.1, 0.7]), "b": np.array(-1.0)}
CORNER = {"a": np.array([1.0, 1.0]), "b": np.array(0.0)}
PATHS = [
    paths.straight,
    paths.polyline(),
    paths.polyline(CORNER),
    paths.polyline(CORNER, B, CORNER),
]
each_path = pytest.mark.parametrize("path", PATHS, ids=["straight", "0", "1", "3"])


def assert_same(got, expected, **tolerance):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


@each_path
def test_paths_start_at_the_baseline_and_end_at_x_exactly(path):
    assert_same(path(X, B, 0.0), B, rtol=0)
    assert_same(path(X, B, 1.0), X, rtol=0)


def test_the_ends_of_the_straight_line_are_exact_where_the_difference_is_rounded():
    x, b = np.float32(0.1), np.float32(1e8)  # x - b is -1e8: b + (x - b) would be 0
    assert paths.straight(x, b, np.float32(1)) == x
    assert paths.straight(x, b, np.float32(0)) == b


def test_the_straight_line_is_affine():
    blend = lambda t: jax.tree.map(lambda x, b: (1 - t) * b + t * x, X, B)
    for t in (0.25, 0.5, 0.8):
        assert_same(paths.straight(X, B, t), blend(t), rtol=1e-14)


def test_velocities_come_by_jvp():
    velocity = lambda path, t: jax.jvp(lambda t: path(X, B, t), (t,), (1.0,))[1]
    dx = jax.tree.map(lambda x, b: x - b, X, B)
    for t in (0.0, 0.3, 0.5, 1.0):
        assert_same(velocity(paths.straight, t), dx, rtol=1e-14)
    legs = paths.polyline(CORNER)
    first = jax.tree.map(lambda c, b: 2 * (c - b), CORNER, B)
    second = jax.tree.map(lambda x, c: 2 * (x - c), X, CORNER)
    for t, expected in ((0.0, first), (0.4, first), (0.6, second), (1.0, second)):
        assert_same(velocity(legs, t), expected, rtol=1e-14)


def test_a_polyline_passes_its_waypoints_at_equal_times():
    legs = paths.polyline(CORNER, B)
    assert_same(legs(X, B, 1 / 3), CORNER, atol=1e-15)
    assert_same(legs(X, B, 2 / 3), B, atol=1e-15)
    halfway = jax.tree.map(lambda b, c: (b + c) / 2, B, CORNER)
    assert_same(legs(X, B, 1 / 6), halfway, atol=1e-15)


def test_a_polyline_without_waypoints_is_the_straight_line():
    for t in (0.1, 0.5, 0.9):
        assert_same(paths.polyline()(X, B, t), paths.straight(X, B, t), rtol=1e-15)


@pytest.mark.parametrize("b", [np.float16(0), 0.0, 0], ids=["narrow", "float", "int"])
def test_waypoints_may_be_narrower_or_plain_numbers(b):
    legs = paths.polyline({"a": np.array([1.0, 1.0], "float16"), "b": b})
    assert_same(legs(X, B, 0.5), CORNER, rtol=0)


@pytest.mark.parametrize(
    "waypoint",
    [{"a": np.zeros(3), "b": np.array(0.0)}, {"a": np.zeros((1, 2)), "b": np.array(0.0)}],
    ids=["size", "rank"],
)
def test_waypoints_of_another_shape_are_refused(waypoint):
    with pytest.raises(ValueError, match="a waypoint must be like x"):
        paths.polyline(waypoint)(X, B, 0.5)


def test_waypoints_of_another_structure_are_refused():
    attribute = igjax.integrated_gradients(
        lambda x: x["b"], rule=igjax.rules.midpoint(2), path=paths.polyline({"a": X["a"]})
    )
    with pytest.raises(ValueError, match="a waypoint must be like x"):
        attribute(X, B)


# Integrals along paths.


def cubic(x):
    return x[0] * x[1] ** 2 + 3 * x[0]


U, V = np.array([1.0, 2.0]), np.array([-0.5, 0.25])
GAUSS = igjax.rules.gauss_legendre(12)


def explain(path, f=cubic, rule=GAUSS):
    return igjax.integrated_gradients(f, rule=rule, path=path)(U, V)


def at_speed(clock):
    """The straight line by another clock."""
    return lambda x, baseline, t: paths.straight(x, baseline, clock(t))


def test_the_speed_along_a_path_changes_nothing():
    smoothstep = lambda t: t * t * (3 - 2 * t)
    # Polynomials of degree at most 3 * 3 - 1 + 2 in t: exact with 12 Gauss nodes.
    straight, *others = together(
        lambda: explain(paths.straight),
        lambda: explain(at_speed(lambda t: t**2)),
        lambda: explain(at_speed(smoothstep)),
    )
    for other in others:
        np.testing.assert_allclose(other.values, straight.values, rtol=1e-13)
        np.testing.assert_allclose(other.delta, 0, atol=1e-13)


def test_the_values_along_every_path_add_up():
    bow = np.array([0.7, -1.1])
    curved = [
        lambda x, b, t: paths.straight(x, b, t) + jnp.sin(jnp.pi * t) * bow,
        lambda x, b, t: b + (x - b) * jnp.stack([t, t**3]),
        lambda x, b, t: jnp.stack([jnp.cos(t * jnp.pi / 2), jnp.sin(t * jnp.pi / 2)]),
    ]
    results = together(
        *(lambda p=p: explain(p, rule=igjax.rules.gauss_legendre(24)) for p in curved)
    )
    for result in results:
        np.testing.assert_allclose(result.delta, 0, atol=1e-11)
    # The circle goes from (1, 0) to (0, 1), whatever x and the baseline: its own ends.
    np.testing.assert_allclose(results[2].score, 0, atol=1e-14)
    np.testing.assert_allclose(results[2].baseline_score, 3, atol=1e-14)
    # Other paths, other values: only the sum is the same.
    assert np.abs(results[0].values - results[1].values).max() > 0.1


def test_a_detour_through_the_middle_is_no_detour():
    middle = (U + V) / 2
    straight, legs, first, second = together(
        lambda: explain(paths.straight),
        lambda: explain(paths.polyline(middle), rule=igjax.rules.composite(GAUSS, 2)),
        lambda: igjax.integrated_gradients(cubic, rule=GAUSS)(middle, V),
        lambda: igjax.integrated_gradients(cubic, rule=GAUSS)(U, middle),
    )
    np.testing.assert_allclose(legs.values, straight.values, rtol=1e-13)
    np.testing.assert_allclose(first.values + second.values, straight.values, rtol=1e-13)


def test_a_staircase_gives_each_feature_its_own_step():
    # First x0 moves, then x1: each gets what f gains in its turn.
    turn = np.array([U[0], V[1]])
    result = explain(paths.polyline(turn), rule=igjax.rules.composite(GAUSS, 2))
    steps = [cubic(turn) - cubic(V), cubic(U) - cubic(turn)]
    np.testing.assert_allclose(result.values, steps, rtol=1e-13)


def test_a_rule_whose_panels_straddle_a_corner_is_only_close():
    turn = np.array([U[0], V[1]])
    rule = igjax.rules.gauss_legendre(13)  # its middle node lies on the corner
    result = explain(paths.polyline(turn), rule=rule)
    steps = np.array([cubic(turn) - cubic(V), cubic(U) - cubic(turn)])
    assert np.abs(result.values - steps).max() > 1e-3
    assert (np.abs(result.values - steps) <= result.error).all()


def test_a_path_may_close_over_parameters_and_be_differentiated():
    def along(strength):
        path = lambda x, b, t: paths.straight(x, b, t) + strength * t * (1 - t) * V
        return explain(path).values

    slope = jax.jacfwd(along)(0.5)
    difference = (along(0.5 + 1e-5) - along(0.5 - 1e-5)) / 2e-5
    np.testing.assert_allclose(slope, difference, rtol=1e-7)


@pytest.mark.parametrize(
    "path",
    [lambda x, b, t: x[:1], lambda x, b, t: (x,), lambda x, b, t: x * t[None, None]],
    ids=["shape", "structure", "rank"],
)
def test_paths_that_leave_the_space_of_x_are_refused(path):
    with jax.numpy_rank_promotion("allow"), pytest.raises(ValueError, match="like x"):
        explain(path)
