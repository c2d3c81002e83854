"""Functions on which `converged` was once wrong, or an answer was refused without need.

Each stands for a kind; exact values are closed forms. `benchmarks/bench_hostile.py` does
the same for thousands of random siblings.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax
from igjax import Status
from igjax.rules import adaptive
from tests.registry import QUICKLY


def explained(f, *args, tolerance=1e-2):
    attribute = igjax.integrated_gradients(f, rule=adaptive(tolerance))
    return jax.jit(attribute, compiler_options=QUICKLY)(*args)


def is_honest(result, exact, tolerance=1e-2):
    """It keeps the promise or makes none; and the error covers the true one."""
    exact = np.asarray(exact)
    error = np.abs(np.asarray(result.values, np.float64) - exact).sum()
    kept = error <= tolerance * np.abs(exact).sum()
    return (kept or not result.converged) and error <= np.sum(result.error)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("background", "tolerance"), [((105, -95), 1e-2), ((1000, -990), 1e-2), ((15, -5), 0.1)]
)
def test_a_hard_jump_beside_a_steep_background_is_not_given_to_it(background, tolerance):
    w = np.array([*background, 0.0])
    f = lambda x: w @ x + jnp.where(x[2] > 0.51, 1.0, 0.0)
    result = explained(f, np.ones(3), np.zeros(3), tolerance=tolerance)
    assert is_honest(result, [*background, 1.0], tolerance)
    assert not result.converged
    assert result.status == Status.RESOLUTION


K = np.array([20, 60, 600, 200, 60, 600.0])
C = np.array([0.696, 0.782, 0.211, 0.663, 0.757, 0.885])
A = np.array([-1.69, -0.728, 1.232, 0.298, -0.01, 0.441])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_steps_whose_score_is_rounded_to_half_precision(dtype):
    f = lambda x: (A * jax.nn.sigmoid(K * (x - C))).sum().astype(dtype)
    result = explained(f, np.ones(6, "float32"), np.zeros(6, "float32"))
    exact = A / (1 + np.exp(-K * (1 - C))) - A / (1 + np.exp(K * C))
    assert is_honest(result, exact)


@pytest.mark.slow
def test_half_precision_inputs_of_a_ramp_and_a_kink():
    f = lambda x: (
        jnp.tanh((x[0].astype("f4") - 0.5) / 0.3) + jax.nn.relu(x[1].astype("f4") - 0.3)
    )
    result = explained(f, jnp.ones(2, jnp.bfloat16), jnp.zeros(2, jnp.bfloat16))
    assert is_honest(result, [np.tanh(0.5 / 0.3) + np.tanh(0.5 / 0.3), 0.7])


@pytest.mark.parametrize("scale", [5e37, 1e38])
def test_errors_of_the_largest_scores_are_those_of_others(scale):
    x = jnp.array([0.5, 0.2, 0.3], jnp.float32)
    f = lambda x, scale: jnp.tanh(3 * x.sum() - 1) * scale
    attribute = igjax.integrated_gradients(f)
    small, large = (attribute(x, 0.0, jnp.float32(s)) for s in (1.0, scale))
    assert large.converged
    np.testing.assert_allclose(np.asarray(large.values) / scale, small.values, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(large.error) / scale, small.error, rtol=0.1)


@pytest.mark.slow
def test_a_bump_that_the_probes_do_not_see_overflows_nothing():
    f = lambda x: jnp.exp(-(((x[0] - 0.4996) / 0.0012) ** 2)) + x[1]
    result = explained(f, np.ones(2, "float32"), np.zeros(2, "float32"))
    assert result.status != Status.NON_FINITE
    assert np.isfinite(result.error).all()
    assert is_honest(result, [0.0, 1.0])


@pytest.mark.slow
@pytest.mark.parametrize("tolerance", [0.5, 1e-2])
def test_bumps_are_found_at_loose_tolerances_too(tolerance):
    place, width = np.array([0.21, 0.48, 0.83]), np.array([0.01, 0.03, 0.05])
    bump = lambda x: jnp.exp(-(((x - place) / width) ** 2)).sum()
    result = explained(
        lambda x: bump(x[1:]) + x[0], np.ones(4), np.zeros(4), tolerance=tolerance
    )
    assert result.converged
    assert is_honest(result, [1.0, 0.0, 0.0, 0.0], tolerance)


@pytest.mark.slow
def test_a_pole_on_the_path_is_never_certified():
    f = lambda x: 1 / (x[0] - 0.512345) ** 2
    result = explained(f, np.ones(1, "float32"), np.zeros(1, "float32"))
    assert not result.converged


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_powers_at_the_baseline(dtype):
    powers = np.linspace(0.1, 0.9, 5).astype(dtype)
    f = lambda x: (x**powers).sum()
    for tolerance in (0.1, 1e-2):
        args = np.ones(5, dtype), np.zeros(5, dtype)
        result = explained(f, *args, tolerance=tolerance)
        size = np.abs(np.asarray(result.values) - 1).sum()
        assert not result.converged or size <= tolerance * 5


@pytest.mark.slow
@pytest.mark.parametrize(
    "f",
    [
        lambda x: jnp.tanh(x).sum() * jax.lax.stop_gradient(jnp.abs(x).sum()),
        lambda x: ((x + jax.lax.stop_gradient(jnp.round(4 * x) / 4 - x)) ** 2).sum(),
        lambda x: 1.3 * jnp.tanh(x).sum() - 0.3 * jax.lax.stop_gradient(jnp.tanh(x).sum()),
    ],
    ids=["stop_gradient", "straight-through", "factor"],
)
def test_gradients_that_contradict_the_score_are_found_out_soon(f):
    result = explained(f, np.array([0.7, 1.3, -2.1]), np.zeros(3))
    assert result.status == Status.NOT_VERIFIED
    assert result.evaluations <= 600


def test_tolerances_below_rounding_are_not_met_but_told():
    f = lambda x: jnp.tanh(3 * x).sum()
    result = explained(f, np.ones(3, "float32"), np.zeros(3, "float32"), tolerance=1e-7)
    assert result.status == Status.ROUNDING
    assert is_honest(result, np.full(3, np.tanh(3.0)), 1e-7)


RULES = [
    pytest.param(adaptive(), marks=pytest.mark.slow, id="adaptive"),
    pytest.param(igjax.rules.midpoint(8), id="fixed"),
]


@pytest.mark.parametrize("rule", RULES)
def test_a_feature_that_does_not_move_gets_zero_though_its_derivative_is_nan(rule):
    norms = lambda x: jnp.linalg.norm(x, axis=1).sum()
    x = np.array([[3.0, 4.0], [0.0, 0.0]])
    result = igjax.integrated_gradients(norms, rule=rule)(x, np.zeros((2, 2)))
    np.testing.assert_allclose(result.values, [[1.8, 3.2], [0, 0]], rtol=1e-12)
    assert result.status in (Status.TOLERANCE_MET, Status.NO_TOLERANCE)


def test_a_derivative_at_a_baseline_that_does_not_move_is_kept():
    # d/dx of the values at x = baseline is the gradient there.
    attribute = igjax.integrated_gradients(
        lambda x: jnp.sin(x).sum(), rule=igjax.rules.midpoint(4)
    )
    values = lambda x: attribute(x, np.zeros(2)).values.sum()
    np.testing.assert_allclose(jax.grad(values)(np.zeros(2)), np.ones(2))


@pytest.mark.slow
def test_float64_is_one_line_away():
    with jax.enable_x64(False):
        f = lambda x: jax.nn.sigmoid(1e9 * (x.sum() - 1.0))
        x = jnp.array([1.0, 3.0])
        narrow = igjax.integrated_gradients(f)
        assert narrow(x, 0.0 * x).status == Status.RESOLUTION
        result = igjax.in_float64(narrow)(x, 0.0 * x)
        assert result.converged
        assert result.values.dtype == np.float64
        batch = jax.vmap(igjax.in_float64(narrow))(x[None], 0.0 * x[None])
    np.testing.assert_allclose(result.values, [0.25, 0.75], rtol=1e-2)
    np.testing.assert_allclose(batch.values[0], result.values)


@pytest.mark.slow
def test_derivatives_that_are_off_by_a_factor_are_seen_beside_kinks():
    g, (examples, ridges, features) = np.random.default_rng(95), (300, 12, 8)
    place = g.uniform(0.03, 0.97, (examples, ridges))
    width = 10 ** g.uniform(-1, 0, (examples, ridges))
    heights = g.normal(size=(2, examples, ridges))
    directions = np.abs(g.normal(size=(examples, ridges, features)))
    directions /= directions.sum(-1, keepdims=True)

    def f(x, place, width, smooth, rough, directions):
        z = directions @ x
        z = 1.3 * z - jax.lax.stop_gradient(0.3 * z)
        steps = smooth @ jnp.tanh((z - place) / width)
        return steps + rough @ jax.nn.relu(z - place)

    attribute = igjax.integrated_gradients(f, rule=adaptive(0.1))
    explain = jax.vmap(lambda *args: attribute(jnp.ones(features), 0.0, *args))
    explain = jax.jit(explain, compiler_options=QUICKLY)
    result = explain(place, width, *heights, directions)
    assert not result.converged.any()
    assert np.mean(result.status == Status.NOT_VERIFIED) > 0.9


def test_roots_at_the_end_of_the_path_are_not_taken_for_blur():
    heights, powers = np.array([0.38472623, 0.5245616]), np.array([0.23207034, 0.11272853])
    directions = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], "float32")

    def f(x):
        z = jnp.asarray(directions) @ x
        root = jnp.where(z > 0, jnp.where(z > 0, z, 1.0) ** powers.astype("float32"), 0.0)
        return (heights.astype("float32") * root).sum()

    result = explained(f, np.ones(3, "float32"), np.zeros(3, "float32"))
    assert is_honest(result, heights @ directions)


def test_a_staircase_is_steps_and_not_rounding():
    result = explained(lambda x: jnp.floor(5 * x).sum(), np.ones(2, "float32"), 0.0)
    assert result.status == Status.RESOLUTION
    assert result.error.sum() >= 10
