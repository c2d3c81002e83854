"""The adaptive rule keeps its promise: where `converged` is true, the answer is right.

The promise is one number: the sum of the absolute errors is at most the tolerance times
the sum of the absolute exact values, whatever the rounding of the dtype. So it
is checked against closed forms that are hard to integrate, never against itself. The
other half is honesty: whatever cannot be answered must say so. Toys, and one compilation
for a whole batch of cases, since compiling costs more than all the gradients here.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

import igjax
from igjax import Status
from igjax.models import SequenceLSTM
from igjax.rules import adaptive
from tests._program.test_compilation import Traces, compilations
from tests.problems import hidden_layer_values
from tests.registry import QUICKLY

# On the line from 0 to X the ridge W @ x is the time t itself.
W = np.array([2.0, -1.5, 0.25])
X = np.array([0.8, 0.5, 0.6])
assert abs(W @ X - 1) < 1e-15

STATUS = igjax.Status
ROUNDING = 1e-12  # of float64, with a safety for sums over some hundreds of nodes


def step(x, place, width):
    """A switch at t = place; its values are the change of the score times W * x."""
    return jax.nn.sigmoid((W.astype(x.dtype) @ x - place) / width)


def step_values(place, width):
    place, width = np.asarray(place, float), np.asarray(width, float)
    change = expit((1 - place) / width) - expit(-place / width)
    return change[..., None] * (W * X)


def floor(dtype, scores, exact):
    """What rounding may cost: 64 units of the largest score and of the exact values."""
    eps = float(jnp.finfo(dtype).eps)
    return 64 * eps * (np.abs(scores) + np.abs(exact).sum(-1))


def keeps_promise(result, exact, tolerance):
    """For each example, whether its error is what `converged` promises."""
    error = np.abs(np.asarray(result.values) - exact).sum(-1)
    return error <= tolerance * np.abs(exact).sum(-1)


def explain(f, tolerance=1e-2, **options):
    return igjax.integrated_gradients(f, rule=adaptive(tolerance, **options))


def quickly(attribute):
    """Compiled with little optimization, for what runs once."""
    return jax.jit(attribute, compiler_options=QUICKLY)


# The promise.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "finest", "most"), [("float64", -6, 0.95), ("float32", -4, 0.95)]
)
def test_converged_steps_are_right_wherever_they_are_and_however_narrow(
    dtype, finest, most
):
    generator = np.random.default_rng(3)
    width = 10.0 ** generator.uniform(finest, -2, 64)
    place = generator.uniform(0.02, 0.98, 64)
    width, place = width.astype(dtype), place.astype(dtype)
    attribute = jax.vmap(explain(step), in_axes=(None, None, 0, 0))
    result = attribute(X.astype(dtype), 0.0, place, width)
    exact = step_values(place, width)
    kept = keeps_promise(result, exact, 1e-2)
    assert kept[result.converged].all()
    assert np.mean(result.converged) >= most


@pytest.mark.slow
def test_one_converged_example_pays_for_what_it_is_not_for_its_batch():
    widths = np.array([3.0, 1e-2, 1e-5, 3.0, 3.0, 3.0])
    result = EACH(X, 0.0, np.full(6, 0.37), widths)
    evaluations = np.asarray(result.evaluations)
    assert result.converged.all()
    assert (evaluations % 15 == 0).all()
    assert (evaluations[[0, 3, 4, 5]] == 15).all()
    assert 15 < evaluations[1] < evaluations[2]


@pytest.mark.slow
def test_jumps_of_two_features_within_the_resolution_of_the_dtype_are_refused():
    # Both happen between neighboring floats: the tails show the wider one alone.
    def f(x, place, apart):
        jump = lambda x, place, width: jax.nn.sigmoid((x - place) / width)
        return jump(x[0], place, 1e-7) + jump(x[1], place + apart, 3e-8) / 2

    places = np.linspace(0.05, 0.95, 40).astype("float32")
    explained = quickly(jax.vmap(explain(f), in_axes=(None, None, 0, None)))
    exact = np.tile([1.0, 0.5], (40, 1))
    for apart in (0.0, 5e-7):
        result = explained(np.ones(2, "float32"), 0.0, places, np.float32(apart))
        kept = keeps_promise(result, exact, 1e-2)
        assert kept[np.asarray(result.converged)].all()
        refused = np.asarray(result.status)[~kept]
        assert (refused == Status.RESOLUTION).all()


@pytest.mark.slow
def test_two_jumps_that_cancel_in_the_score_are_both_found():
    # Up through feature 0 at t = .3, down through feature 1 at .34: values 1 and -1.
    def f(x, width):
        up = jax.nn.sigmoid((x[0] - 0.3) / width)
        return up - jax.nn.sigmoid((x[1] - 0.34) / width)

    widths = np.array([3e-3, 1e-3, 1e-4])
    result = quickly(jax.vmap(explain(f), in_axes=(None, None, 0)))(np.ones(2), 0.0, widths)
    assert result.converged.all()
    # The sigmoids are 0 and 1 at the ends to within exp(-0.3 / 3e-3).
    exact = np.tile([1.0, -1.0], (3, 1))
    assert keeps_promise(result, exact, 1e-2).all()


def canceling(u, x, times):
    """Rows like u whose products with those of x add up to 1, their sizes to more."""
    size, rest = np.abs(u * x)[:, :-1].sum(1), (u * x)[:, :-1].sum(1)
    last = ((size + np.abs(rest)) / times - rest) / x[:, -1]
    u = np.concatenate([u[:, :-1], last[:, None]], 1)
    return u / (u * x).sum(1, keepdims=True)


@pytest.mark.slow
@pytest.mark.parametrize("cancel", [30, 1000])
def test_steps_whose_features_cancel_are_never_promised_wrongly(cancel):
    # Eight steps of any width in one direction u, in which features cancel so many times.
    generator = np.random.default_rng(cancel)
    x, u = generator.normal(size=(2, 500, 6))
    u = canceling(u, x, cancel)
    place, height = generator.uniform(size=(500, 8)), generator.normal(size=(500, 8))
    width = 10 ** generator.uniform(-6, 0, (500, 8))

    def f(x, u, place, width, height):
        return height @ jax.nn.sigmoid((x @ u - place) / width)

    attribute = quickly(jax.vmap(explain(f), in_axes=(0, None, 0, 0, 0, 0)))
    result = attribute(x, 0.0, u, place, width, height)
    change = expit((1 - place) / width) - expit(-place / width)
    exact = (height * change).sum(1, keepdims=True) * u * x
    assert keeps_promise(result, exact, 1e-2)[result.converged].all()
    assert np.mean(result.converged) >= 0.9


@pytest.mark.slow
def test_steps_among_kinks_are_never_promised_wrongly():
    # Four steps of any width, a tenth of the attribution of a network of thirty ReLUs.
    generator = np.random.default_rng(3)
    count, features, hidden = 1000, 12, 30
    x, u = generator.normal(size=(2, count, features))
    u = canceling(u, x, 3)
    kernel = generator.normal(size=(count, hidden, features))
    bias, out = generator.normal(size=(2, count, hidden))
    layers = zip(kernel, bias, out, x, strict=True)
    relu = lambda z: np.maximum(z, 0)
    kinks = np.array([hidden_layer_values(relu, *layer, 0 * x[0]) for layer in layers])
    place, height = generator.uniform(size=(count, 4)), generator.normal(size=(count, 4))
    width = 10 ** generator.uniform(-6, 0, (count, 4))
    mass = np.abs(kinks).sum(1) / np.abs(u * x).sum(1)
    height *= 0.1 * mass[:, None]

    def f(x, u, place, width, height, kernel, bias, out):
        steps = height @ jax.nn.sigmoid((x @ u - place) / width)
        return steps + out @ jax.nn.relu(kernel @ x + bias)

    attribute = jax.vmap(explain(f, 5e-2), in_axes=(0, None, *[0] * 7))
    result = quickly(attribute)(x, 0.0, u, place, width, height, kernel, bias, out)
    change = expit((1 - place) / width) - expit(-place / width)
    exact = (height * change).sum(1, keepdims=True) * u * x + kinks
    assert keeps_promise(result, exact, 5e-2)[result.converged].all()
    assert np.mean(result.converged) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize(("count", "budget"), [(1, 3000), (12, 3000), (30, 4500)])
def test_steps_beside_a_smooth_score_are_never_promised_wrongly(count, budget):
    # Each in a feature of its own, or, if it is one, in two that cancel ten times. No two
    # of them are so near to each other that they may cancel between two samples.
    generator = np.random.default_rng(count)
    place = (np.arange(count) + generator.uniform(0.2, 0.8, size=(300, count))) / count
    height = generator.normal(size=(300, count)) * 0.05 / count
    width = 10 ** generator.uniform(-6, -3, size=(300, count))
    cancel = np.array([5.5, -4.5]) if count == 1 else np.ones(1)

    def f(x, place, height, width):
        along = jnp.tensordot(cancel, x[1:].reshape(-1, count), 1)
        switches = height * jax.nn.sigmoid((along - place) / width)
        return jnp.tanh(2 * x[0]) + x[0] ** 2 + switches.sum()

    x, expected = np.ones(1 + count * len(cancel)), np.tanh(2) + 1
    change = height * (expit((1 - place) / width) - expit(-place / width))
    steps = (cancel[:, None] * change[:, None]).reshape(300, -1)
    exact = np.concatenate([np.full((300, 1), expected), steps], 1)
    for tolerance in (5e-2, 1e-2):
        # Thirty are found one by one, and cost a little more than the default budget.
        attribute = explain(f, tolerance, max_evaluations=budget)
        attribute = quickly(jax.vmap(attribute, (None, None, 0, 0, 0)))
        result = attribute(x, 0.0, place, height, width)
        assert keeps_promise(result, exact, tolerance)[result.converged].all()
        assert np.mean(result.converged) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 8])
def test_jumps_that_no_sample_falls_into_are_in_doubt_twice(count):
    # They are missing in their features, and too much in that whose slope is seen.
    height = 0.8e-2 / np.sqrt(count)
    place = (np.arange(count) + 0.6) / (count + 1)
    f = lambda x: x[0] + height * (x[1:] > place).sum()
    result = explain(f)(np.ones(count + 1), 0.0)
    exact = np.array([1.0, *[height] * count])
    assert np.abs(result.values - exact).sum() <= result.error.sum()
    assert not result.converged


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20])
def test_the_scale_of_a_score_changes_nothing(scale):
    ridges = lambda x: jax.nn.relu(x[0] - 0.37) - jax.nn.relu(x[1] - 0.372) + x[2] / 5
    x = np.ones(3, "float32")
    want = explain(ridges)(x, 0.0)
    got = explain(lambda x: jnp.float32(scale) * ridges(x))(x, 0.0)
    assert got.converged
    assert got.evaluations == want.evaluations
    np.testing.assert_allclose(got.values / np.float32(scale), want.values, rtol=1e-4)
    np.testing.assert_allclose(got.error / np.float32(scale), want.error, rtol=1e-2)


@pytest.mark.slow
def test_kinks_of_a_hidden_layer_of_relus_are_resolved():
    generator = np.random.default_rng(8)
    w, c = generator.normal(size=(12, 5)), generator.normal(size=12)
    v = generator.normal(size=12)
    x, b = generator.normal(size=(2, 16, 5))
    f = lambda x, w: v @ jax.nn.relu(w @ x + c)
    relu = lambda z: np.maximum(z, 0)
    exact = [hidden_layer_values(relu, w, c, v, *ends) for ends in zip(x, b, strict=True)]
    result = quickly(jax.vmap(explain(f, 1e-3), in_axes=(0, 0, None)))(x, b, w)
    assert result.converged.all()
    assert keeps_promise(result, np.array(exact), 1e-3).all()


@pytest.mark.slow
def test_many_kinks_are_not_taken_for_a_smooth_panel():
    # With 150 kinks on the path each panel has several, and nested rules may agree.
    generator = np.random.default_rng(5)
    w, c = generator.normal(size=(150, 6)), generator.normal(size=150)
    v = generator.normal(size=150)
    x, b = generator.normal(size=(2, 48, 6))
    relu = lambda z: np.maximum(z, 0)
    f = lambda x, w: v @ jax.nn.relu(w @ x + c)
    exact = [hidden_layer_values(relu, w, c, v, *ends) for ends in zip(x, b, strict=True)]
    exact = np.array(exact)
    result = quickly(jax.vmap(explain(f, 1e-2), in_axes=(0, 0, None)))(x, b, w)
    assert result.converged.all()
    assert keeps_promise(result, exact, 1e-2).all()
    assert (np.abs(result.values - exact) <= result.error).mean() > 0.95


@pytest.mark.slow
def test_a_recurrent_network_agrees_with_a_very_fine_fixed_rule():
    generator = np.random.default_rng(11)
    model = SequenceLSTM(8)
    start = jax.ShapeDtypeStruct((30, 2), "float32")
    shapes = jax.eval_shape(model.init, jax.random.key(0), start)
    # Recurrent weights far above 1 / sqrt(8): the state switches along the path.
    params = jax.tree.map(lambda a: 1.2 * generator.normal(size=a.shape), shapes)
    xs = generator.normal(size=(3, 30, 2))
    f = lambda x, params: model.apply(params, x)[0]

    result = quickly(jax.vmap(explain(f), in_axes=(0, None, None)))(xs, 0.0, params)

    @jax.jit
    def reference(x):
        """The midpoint rule in each of 2^14 cells, and the score's change."""
        slope = lambda t: x * jax.grad(f)(t * x, params)
        nodes = (jnp.arange(1 << 14) + 0.5) / (1 << 14)
        values = jax.lax.map(slope, nodes, batch_size=1024).mean(0)
        return values, f(x, params) - f(0 * x, params)

    exact, change = zip(*map(reference, xs), strict=True)
    flat = lambda a: np.asarray(a).reshape(3, -1)
    size = np.abs(flat(exact)).sum(1)
    # The reference must itself be ten times as good as what it judges.
    assert (np.abs(flat(exact).sum(1) - change) < 1e-3 * size).all()
    error = np.abs(flat(result.values) - flat(exact)).sum(1)
    assert result.converged.all()
    assert (error <= (1e-2 + 1e-3) * size).all()


# What is easy is cheap.


def net(x):
    return jnp.tanh(W.astype(x.dtype) @ x) + jnp.sum(x**2)


def easy(x, which):
    """Smooth, linear, constant, flat up to rounding, and small on a large offset."""
    w = W.astype(x.dtype)
    flat = jax.nn.softmax(50 * x).sum()
    cases = [net(x), w @ x, jnp.full((), 7.0, x.dtype), flat, 1000 + 1e-4 * net(x)]
    return jnp.stack(cases)[which]


@pytest.mark.parametrize(
    "dtype", [pytest.param("float64", marks=pytest.mark.slow), "float32"]
)
def test_easy_functions_cost_one_panel_and_converge(dtype):
    attribute = quickly(jax.vmap(explain(easy), in_axes=(None, None, 0)))
    result = attribute(X.astype(dtype), 0.0, np.arange(5))
    np.testing.assert_array_equal(result.evaluations, np.full(5, 15))
    # Of a sum of terms that cancels nothing is left but rounding, and of a small change
    # of a large score in float32: neither is known to the tolerance.
    hidden = [False, False, False, True, dtype == "float32"]
    status = np.where(hidden, Status.ROUNDING, Status.TOLERANCE_MET)
    np.testing.assert_array_equal(result.status, status)
    rounding = ROUNDING if dtype == "float64" else 1e-5
    np.testing.assert_allclose(result.values[1], W * X, rtol=rounding)
    # A constant has no values and no change, not even by rounding.
    np.testing.assert_array_equal(result.values[2], np.zeros(3))
    assert result.delta[2] == 0


# The certificate.


@pytest.mark.slow
def test_estimated_errors_are_within_the_tolerance_and_cover_the_true_ones():
    places = np.linspace(0.05, 0.95, 6)
    widths = np.tile([1e-4, 1e-2, 1.0], 2)
    for tolerance in (1e-2, 1e-5):
        attribute = jax.vmap(explain(step, tolerance), in_axes=(None, None, 0, 0))
        result = attribute(X, 0.0, places, widths)
        assert result.converged.all()
        error = np.asarray(result.error).sum(-1)
        assert (error <= tolerance * np.abs(result.values).sum(-1)).all()
        exact = step_values(places, widths)
        true = np.abs(result.values - exact).sum(-1)
        assert (true <= error + floor("float64", 1.0, exact)).all()


def test_each_output_of_a_jacobian_meets_the_tolerance_by_itself():
    # The second output would be lost in a pool: it is a millionth of the first.
    f = lambda x: jnp.stack([net(x), 1e-6 * step(x, 0.4, 1e-4)])
    result = quickly(igjax.integrated_jacobian(f, rule=adaptive(1e-3)))(X, 0.0)
    assert result.converged.shape == (2,)
    assert result.converged.all()
    # tanh is a ridge; the squares go to their own features.
    exact = np.stack(
        [np.tanh(1.0) * W * X + X**2, 1e-6 * step_values(np.float64(0.4), 1e-4)]
    )
    error = np.abs(result.values - exact).sum(-1)
    assert (error <= 1e-3 * np.abs(exact).sum(-1)).all()


@pytest.mark.slow
def test_an_output_within_the_tolerance_is_not_refused_for_another_that_is_not():
    f = lambda x: jnp.stack([x.sum(), jnp.sin(1e4 * x[0])])
    rule = adaptive(1e-2, max_evaluations=60)
    result = quickly(igjax.integrated_jacobian(f, rule=rule))(X, 0.0)
    assert result.status.tolist() == [Status.TOLERANCE_MET, Status.BUDGET_SPENT]


@pytest.mark.slow
def test_a_small_budget_is_kept_and_reported():
    result = quickly(explain(step, max_evaluations=45))(X, 0.0, 0.37, 1e-5)
    assert result.status == STATUS.BUDGET_SPENT
    assert result.evaluations <= 45
    assert not result.converged


@pytest.mark.slow
def test_a_gradient_that_is_nan_in_mid_path_is_reported():
    # The root of a square has the gradient 0 / 0 where the path crosses 1/2.
    result = explain(lambda x: jnp.sqrt((x.sum() - 0.5) ** 2))(np.array([0.25, 0.75]), 0.0)
    assert result.status == STATUS.NON_FINITE


@pytest.mark.parametrize(
    ("f", "exact"),
    [
        (lambda x: jnp.sqrt(x).sum(), np.sqrt(X)),
        # Homogeneous of degree 1: the gradient is the same all along the path.
        pytest.param(
            *(lambda x: jnp.sqrt(jnp.sum(x**2)), X**2 / np.sqrt(np.sum(X**2))),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["root", "norm"],
)
def test_a_gradient_that_does_not_exist_at_the_baseline_is_never_used(f, exact):
    result = quickly(explain(f))(X, 0.0)
    assert result.converged
    assert keeps_promise(result, exact, 1e-2)


@pytest.mark.slow
def test_a_gradient_that_is_not_the_derivative_never_converges():
    @jax.custom_jvp
    def wrong(z, factor):
        return jnp.tanh(z)

    @wrong.defjvp
    def _(primals, tangents):
        z, factor = primals
        return jnp.tanh(z), factor * (1 - jnp.tanh(z) ** 2) * tangents[0]

    f = lambda x, factor: wrong(2 * W @ x, factor)
    factors = np.array([0.0, 0.5, 0.97, 1.0, 1.03, 2.0, -1.0])
    result = quickly(jax.vmap(explain(f), in_axes=(None, None, 0)))(X, 0.0, factors)
    # Not even by chance: only the true derivative does.
    np.testing.assert_array_equal(result.converged, factors == 1)


# An example's mesh is its own.

PLACES = np.array([0.37, 0.11, 0.8, 0.5, 0.62, 0.25])
WIDTHS = np.array([1e-5, 1.0, 1e-2, 1e-3, 0.1, 1e-4])
STEPS = explain(step)
EACH = jax.vmap(STEPS, in_axes=(None, None, 0, 0))


def same(got, want):
    """The meshes are the same; the values are, up to the order of sums."""
    np.testing.assert_array_equal(got.evaluations, want.evaluations)
    np.testing.assert_array_equal(got.status, want.status)
    np.testing.assert_allclose(got.values, want.values, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.slow
def test_neighbors_do_not_change_a_mesh():
    together = EACH(X, 0.0, PLACES, WIDTHS)
    assert len(set(np.asarray(together.evaluations).tolist())) > 2
    order = np.array([3, 5, 0, 2, 1, 4])
    reordered = EACH(X, 0.0, PLACES[order], WIDTHS[order])
    same(reordered, jax.tree.map(lambda a: a[order], together))
    some = np.array([5, 2, 1, 1, 1, 1])
    others = EACH(X, 0.0, PLACES[some], WIDTHS[some])
    same(others, jax.tree.map(lambda a: a[some], together))
    for i in (0, 3):
        same(STEPS(X, 0.0, PLACES[i], WIDTHS[i]), together.example(i))


@pytest.mark.slow
def test_transformations_of_a_batch_give_the_same_results():
    want = EACH(X, 0.0, PLACES, WIDTHS)
    grid = lambda a: a.reshape(2, 3)
    nested = quickly(jax.vmap(EACH, in_axes=(None, None, 0, 0)))(
        X, 0.0, grid(PLACES), grid(WIDTHS)
    )
    same(jax.tree.map(lambda a: a.reshape(6, *a.shape[2:]), nested), want)
    one_by_one = quickly(lambda *a: jax.lax.map(lambda a: STEPS(X, 0.0, *a), a))
    same(one_by_one(PLACES, WIDTHS), want)
    same(quickly(EACH)(X, 0.0, PLACES, WIDTHS), want)


@pytest.mark.slow
def test_a_closure_over_a_mapped_value_is_mapped():
    def each(place, width):
        return explain(lambda x: step(x, place, width))(X, 0.0)

    same(quickly(jax.vmap(each))(PLACES, WIDTHS), EACH(X, 0.0, PLACES, WIDTHS))


@pytest.mark.slow
def test_any_axis_of_any_argument_may_be_mapped():
    f = lambda x, w: jnp.tanh(w["a"] @ x) * w["b"]
    generator = np.random.default_rng(6)
    x, baseline = generator.normal(size=(3, 4)), generator.normal(size=(4, 3))
    w = {"a": generator.normal(size=3), "b": generator.normal(size=4)}
    axes = (1, 0, {"a": None, "b": 0})
    result = quickly(jax.vmap(explain(f), in_axes=axes))(x, baseline, w)
    d = x.T - baseline
    change = w["b"] * (np.tanh(x.T @ w["a"]) - np.tanh(baseline @ w["a"]))
    exact = (change / (d @ w["a"]))[:, None] * d * w["a"]
    assert result.converged.all()
    assert keeps_promise(result, exact, 1e-2).all()


@pytest.mark.parametrize("rule", [adaptive(), igjax.rules.midpoint(3)], ids=["", "fixed"])
def test_a_batch_of_no_examples_has_no_results(rule):
    attribute = igjax.integrated_gradients(net, rule=rule)
    result = jax.vmap(attribute, (0, None))(np.ones((0, 3)), 0.0)
    assert result.values.shape == (0, 3)
    assert result.status.shape == result.evaluations.shape == result.delta.shape == (0,)
    one = attribute(X, 0.0)
    dtypes = lambda result: [a.dtype for a in jax.tree.leaves(result)]
    assert dtypes(result) == dtypes(one)


def test_strict_promotion_of_dtypes_is_kept():
    with jax.numpy_dtype_promotion("strict"):
        attribute = explain(lambda x: jnp.tanh(x).sum())
        result = attribute(X.astype("float32"), np.zeros(3, "float32"))
    assert result.converged
    np.testing.assert_allclose(result.values, np.tanh(X), rtol=1e-5)


# Tolerances are operands.


def counted():
    traces = Traces()

    def f(x, width):
        traces.add()
        return step(x, 0.37, width)

    return f, traces


@pytest.mark.slow
def test_a_sweep_of_tolerances_neither_traces_nor_compiles():
    f, traces = counted()
    evaluations = [int(explain(f, 1e-1)(X, 0.0, 1e-3).evaluations)]
    with compilations() as compiled:
        for tolerance in (1e-3, 1e-6, 1e-9):
            evaluations.append(int(explain(f, tolerance)(X, 0.0, 1e-3).evaluations))
    assert len(traces) == 1
    assert compiled == []
    assert evaluations == sorted(set(evaluations))


@pytest.mark.slow
def test_tolerances_may_be_traced_and_mapped():
    tolerances = np.array([1e-1, 1e-4, 1e-8])
    attribute = lambda tolerance: explain(step, tolerance)(X, 0.0, 0.37, 1e-3)
    result = quickly(jax.vmap(attribute))(tolerances)
    assert result.converged.all()
    assert (np.diff(result.evaluations) > 0).all()
    exact = step_values(np.full(3, 0.37), 1e-3)
    assert keeps_promise(result, exact, tolerances).all()


@pytest.mark.slow
def test_an_absolute_tolerance_is_enough_where_it_is_the_larger():
    exact = 1e-3 * step_values(0.37, 1e-3)
    f = lambda x: 1e-3 * step(x, 0.37, 1e-3)
    strict = explain(f, 1e-9)(X, 0.0)
    lax = explain(f, 1e-9, absolute_tolerance=1e-4)(X, 0.0)
    assert lax.converged
    assert lax.evaluations < strict.evaluations
    assert np.abs(lax.values - exact).sum() <= 1e-4


# Derivatives.


def test_reverse_mode_names_the_remedy():
    loss = lambda x: STEPS(x, 0.0, 0.37, 1e-2).values[0]
    with pytest.raises(TypeError, match="adaptive_rule"):
        jax.grad(loss)(X)


@pytest.mark.slow
def test_the_gradient_through_the_mesh_agrees_with_finite_differences():
    rule = igjax.adaptive_rule(step, rule=adaptive(1e-6))(X, np.zeros(3), 0.37, 0.05)
    attribute = igjax.integrated_gradients(step, rule=rule)
    loss = jax.jit(lambda x: attribute(x, 0.0, 0.37, 0.05).values[0])
    h = 1e-5  # error of order h^2 over the width^2, and 1e-16 / h
    sides = [(loss(X + h * e) - loss(X - h * e)) / (2 * h) for e in np.eye(3)]
    np.testing.assert_allclose(jax.grad(loss)(X), sides, rtol=1e-5, atol=1e-8)


@pytest.mark.slow
def test_the_mesh_is_a_rule_that_gives_the_same_values():
    make = igjax.adaptive_rule(step)
    found = STEPS(X, 0.0, 0.37, 1e-3)
    for rule in (make(X, 0.0, 0.37, 1e-3), quickly(make)(X, 0.0, 0.37, 1e-3)):
        assert abs(rule.weights.sum() - 1) < ROUNDING
        assert ((rule.nodes > 0) & (rule.nodes < 1)).all()
        fixed = igjax.integrated_gradients(step, rule=rule)(X, 0.0, 0.37, 1e-3)
        np.testing.assert_allclose(fixed.values, found.values, rtol=ROUNDING)


def test_a_mesh_of_a_fixed_rule_is_an_error():
    with pytest.raises(TypeError, match=r"adaptive_rule: rule must be rules\.adaptive"):
        igjax.adaptive_rule(step, rule=igjax.rules.midpoint(3))


def test_collectives_in_f_are_refused():
    f = lambda x: jnp.sum(x * jax.lax.psum(x, "batch"))
    with pytest.raises(
        ValueError, match="integrated_gradients: f must not use collectives"
    ):
        jax.vmap(explain(f), (0, None), axis_name="batch")(np.ones((2, 3)), 0.0)


# Inputs of all kinds.


@pytest.mark.slow
def test_complex_inputs_get_real_values():
    z = np.array([1.0 + 2.0j, -0.5j])
    result = explain(lambda z: jnp.sum(jnp.abs(z) ** 2))(z, 0.0)
    # The real part of g * z is 2 t |z|^2.
    assert result.converged
    assert result.values.dtype == np.float64
    np.testing.assert_allclose(result.values, np.abs(z) ** 2, rtol=ROUNDING)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_inputs_are_good_to_their_rounding(dtype):
    x, w = jnp.asarray(X, dtype), jnp.asarray(W, dtype)
    result = explain(lambda x: jnp.tanh(w @ x))(x, jnp.zeros(3, dtype))
    products = np.float64(w) * np.float64(x)
    exact = np.tanh(products.sum()) * products / products.sum()
    assert result.status in (Status.TOLERANCE_MET, Status.ROUNDING)
    assert result.values.dtype == np.float32
    # Three roundings of the terms of size sum|w x|, forward and backward.
    rounding = 6 * float(jnp.finfo(dtype).eps) * np.abs(products).sum()
    assert np.abs(result.values - exact).sum() <= rounding
    assert np.abs(result.values - exact).sum() <= result.error.sum()
    assert not result.converged or keeps_promise(result, exact, 1e-2)


@pytest.mark.slow
def test_dicts_go_in_and_come_out():
    x = {"a": X, "b": np.array([[0.5], [-1.0]])}
    f = lambda x: step(x["a"], 0.37, 1e-3) + (x["b"] ** 2).sum()
    result = quickly(explain(f))(x, {"a": 0.0, "b": 0.0})
    assert result.converged
    exact = {"a": step_values(0.37, 1e-3), "b": x["b"] ** 2}
    errors = [np.abs(result.values[k] - exact[k]).sum() for k in exact]
    assert sum(errors) <= 1e-2 * sum(np.abs(v).sum() for v in exact.values())


@pytest.mark.slow
def test_jacobians_of_matrices_have_the_axes_of_the_output_in_front():
    f = lambda x: x[0] * jnp.stack([x.sum(), net(x)])[None]
    result = quickly(igjax.integrated_jacobian(f))(X, 0.0)
    assert result.values.shape == (1, 2, 3)
    assert result.status.shape == result.delta.shape == result.score.shape == (1, 2)
    # x0 * (x0 + x1 + x2) is quadratic from 0: half of x times its gradient.
    exact = 0.5 * X * (np.array([X.sum(), 0, 0]) + X[0])
    assert np.abs(result.values[0, 0] - exact).sum() <= 1e-2 * np.abs(exact).sum()


@pytest.mark.slow
def test_paths_of_the_user_are_followed():
    # x0 = t and x1 = t^2: the integrals of x1 dx0 and of x0 dx1 are 1/3 and 2/3.
    path = lambda x, b, t: b + (x - b) * t ** jnp.array([1.0, 2.0])
    result = igjax.integrated_gradients(jnp.prod, rule=adaptive(), path=path)(
        np.ones(2), np.zeros(2)
    )
    assert result.converged
    np.testing.assert_allclose(result.values, [1 / 3, 2 / 3], rtol=ROUNDING)


def test_the_adaptive_rule_is_the_default():
    default = igjax.integrated_gradients(step)(X, 0.0, 0.37, 1e-3)
    same(default, STEPS(X, 0.0, 0.37, 1e-3))
