"""Paths beyond the straight line: blur, images of paths, staircases, guided walks.

Closed forms: a cosine decays by itself under diffusion, a product along a geometric path
divides by logarithms, a staircase is a list of differences. The guided walk is compared
with the published values and with a plain loop over features.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax
from igjax import paths
from tests.registry import together

close = functools.partial(np.testing.assert_allclose, rtol=1e-11, atol=1e-13)
GAUSS = igjax.rules.gauss_legendre(32)
DRAW = np.random.default_rng(11)


# Blur.

IMAGE = DRAW.normal(size=(6, 9, 2))


def test_a_cosine_decays_at_its_own_rate():
    n, k, sigma = 9, 2, 3.0
    wave = np.cos(np.pi * k * (np.arange(n) + 0.5) / n)
    path = paths.blur(sigma, axes=(0,))
    close(path(wave, 0.0, 0.0), np.exp(sigma**2 * (np.cos(np.pi * k / n) - 1)) * wave)


def test_a_blurred_image_ends_as_itself_exactly():
    path = paths.blur(20.0)
    np.testing.assert_array_equal(path(IMAGE, 0.0, 1.0), IMAGE)
    close(path(IMAGE, 0.0, 0.3).sum((0, 1)), IMAGE.sum((0, 1)))
    # Far blurred, only the mean is left.
    mean = np.broadcast_to(IMAGE.mean((0, 1)), IMAGE.shape)
    close(path(IMAGE, 0.0, 0.0), mean, atol=1e-5)


def test_a_blur_leaves_no_rings():
    spot = np.zeros((15, 15))
    spot[7, 7] = 1.0
    for t in np.linspace(0, 1, 21):
        assert (paths.blur(6.0)(spot, 0.0, t) >= -1e-15).all()


@pytest.mark.slow
def test_a_blur_is_gaussian():
    spot = np.zeros((61, 61))
    spot[30, 30] = 1.0
    gauss = igjax.baselines.blurred(spot, 5.0)
    # On the grid, the peak of diffusion is higher by the share 1 / (4 sigma^2).
    close(paths.blur(5.0)(spot, 0.0, 0.0), gauss, atol=1.1 / 100 * gauss.max())


def test_the_velocity_of_a_blur_is_exact_down_to_no_blur():
    path = functools.partial(paths.blur(10.0), IMAGE, 0.0)
    for t in (0.2, 0.9, 1.0 - 1e-4):
        _, velocity = jax.jvp(path, (t,), (1.0,))
        difference = (path(t + 1e-5) - path(t - 1e-5)) / 2e-5
        close(velocity, difference, rtol=1e-5, atol=1e-7)


def test_blurred_attributions_of_a_linear_function_are_what_the_blur_takes_away():
    w = DRAW.normal(size=IMAGE.shape)
    blurred = paths.blur(4.0)(IMAGE, 0.0, 0.0)
    explain = lambda f: igjax.integrated_gradients(f, rule=GAUSS, path=paths.blur(4.0))
    linear, curved = together(
        lambda: explain(lambda x: (w * x).sum())(IMAGE, 0.0),
        lambda: explain(lambda x: jnp.sin(w * x).sum())(IMAGE, 0.0),
    )
    close(linear.values, w * (IMAGE - blurred), rtol=1e-9, atol=1e-9)
    close(curved.delta, 0, atol=1e-8)
    close(curved.baseline_score, np.sin(w * blurred).sum())


@pytest.mark.parametrize("sigma", [0.0, -1.0, np.nan])
def test_a_blur_needs_a_width(sigma):
    with pytest.raises(ValueError, match="max_sigma must be positive"):
        paths.blur(sigma)


# Images of paths.


def test_an_image_of_a_path_stays_where_it_is_put():
    sphere = paths.pushforward(lambda x: x / jnp.linalg.norm(x))
    x, b = np.array([0.6, 0.8]), np.array([1.0, 0.0])
    for t in (0.1, 0.5, 0.9):
        close(jnp.linalg.norm(sphere(x, b, t)), 1.0)
    f = lambda x: x[0] ** 2 * x[1]
    result = igjax.integrated_gradients(f, rule=GAUSS, path=sphere)(x, b)
    # Along a circle of angle a: f = cos(a)^2 sin(a), whose first part is
    # -2 cos(a) sin(a)^2, the derivative of -2/3 sin(a)^3.
    first = -2 / 3 * 0.8**3
    close(result.values, [first, 0.6**2 * 0.8 - first], rtol=1e-9)
    close(result.delta, 0, atol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 0.7], ids=["exact decoder", "poor decoder"])
def test_a_latent_path_starts_and_ends_where_it_should(scale):
    path = paths.latent(jnp.log, lambda z: scale * jnp.exp(z))
    x, b = np.array([4.0, 3.0]), np.array([1.0, 0.5])
    close(path(x, b, 0.0), b)
    close(path(x, b, 1.0), x)
    result = igjax.integrated_gradients(jnp.prod, rule=GAUSS, path=path)(x, b)
    close(result.delta, 0, atol=1e-10)
    if scale == 1.0:  # the product is exp(z0 + z1), a ridge in the latent space
        way = np.log(x) - np.log(b)
        close(result.values, way / way.sum() * (12.0 - 0.5))


# Staircases and the mean over orders.


def cubic(x):
    return x[0] ** 2 * x[1] + 3 * x[2] * x[0] - x[1]


U, V = np.array([1.0, 2.0, -0.7]), np.array([-0.5, 0.25, 0.4])
FEW = igjax.rules.gauss_legendre(4)


def test_each_step_of_a_staircase_gets_what_f_gains_in_it():
    order = [2, 0, 1]
    turns = np.argsort(order)
    rule = igjax.rules.composite(FEW, 3)
    path = paths.staircase(turns, 3)
    result = igjax.integrated_gradients(cubic, rule=rule, path=path)(U, V)
    for k, feature in enumerate(order):
        before, after = (np.where(turns < j, U, V) for j in (k, k + 1))
        close(result.values[feature], cubic(after) - cubic(before))
        close(path(U, V, (k + 1) / 3), after, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [3, 10])
def test_nodes_at_corners_see_their_own_side(steps):
    turns = np.array([0, steps - 1, steps // 2], np.uint8)
    some = [np.where(turns < k, U, V) for k in range(1, steps)]
    weights = np.arange(1.0, 4.0)
    ours = [getattr(igjax.rules, name)(3) for name in ("trapezoid", "right", "left")]
    explain = lambda path, rule: igjax.integrated_gradients(
        lambda x: weights @ x, path=path, rule=igjax.rules.composite(rule, steps)
    )(U, V)
    runs = [
        functools.partial(explain, path, rule)
        for path in (paths.staircase(turns, steps), paths.polyline(*some))
        for rule in ours
    ]
    for result in together(*runs):
        np.testing.assert_allclose(result.values, weights * (U - V), rtol=1e-12)


def test_features_with_the_same_turn_move_together():
    rule = igjax.rules.composite(FEW, 2)
    path = paths.staircase({"a": np.array([0, 0]), "b": np.array(1)}, 2)
    x, b = {"a": U[:2], "b": U[2]}, {"a": V[:2], "b": V[2]}
    f = lambda x: cubic(jnp.append(x["a"], x["b"]))
    result = igjax.integrated_gradients(f, rule=rule, path=path)(x, b)
    first = lambda a: cubic(jnp.append(a, V[2]))
    expected = igjax.integrated_gradients(first, rule=FEW)(U[:2], V[:2])
    close(result.values["a"], expected.values)
    close(result.delta, 0, atol=1e-12)


@pytest.mark.parametrize("turns", [np.zeros(2, int), [0, 1, 2]], ids=["shape", "tree"])
def test_turns_that_are_not_like_x_are_refused(turns):
    with pytest.raises(ValueError, match=r"staircase: turns must be like x"):
        paths.staircase(turns, 3)(U, V, 0.5)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        paths.staircase(turns, 0)


def test_the_mean_over_all_staircases_is_the_shapley_value():
    rule = igjax.rules.composite(FEW, 3)

    def along(turns):
        path = paths.staircase(turns, 3)
        return igjax.integrated_gradients(cubic, rule=rule, path=path)(U, V).values

    every = np.array(list(itertools.permutations(range(3))))
    mean = jax.jit(jax.vmap(along))(every).mean(0)
    result = igjax.perturbation.shapley_values(cubic)(jax.random.key(0), U, V)
    close(result.values, mean)
    close(result.error, 0)
    close(result.delta, 0, atol=1e-12)
    assert result.forwards == 2**3


def test_shapley_values_of_polynomials():
    key, zero = jax.random.key(1), np.zeros(2)
    least, monomial, product = together(
        lambda: igjax.perturbation.shapley_values(jnp.min)(key, np.array([1.0, 3.0]), zero),
        lambda: igjax.perturbation.shapley_values(lambda x: x[0] ** 2 * x[1])(
            key, U[:2], zero
        ),
        lambda: igjax.perturbation.shapley_values(jnp.prod)(key, U, np.zeros(3)),
    )
    close(least.values, [0.5, 0.5])
    # Of a monomial each variable gets the same, whatever its power.
    close(monomial.values, U[0] ** 2 * U[1] / 2)
    close(product.values, np.prod(U) / 3)


def test_shapley_values_are_batched_and_need_no_gradient():
    steps = lambda x: jnp.floor(x).sum() + x[0] * 0
    attribute = jax.vmap(igjax.perturbation.shapley_values(steps), (0, 0, None))
    keys, xs = jax.random.split(jax.random.key(0), 2), np.array([[1.5, 2.5], [3.2, -1.0]])
    close(attribute(keys, xs, np.zeros(2)).values, np.floor(xs))


# The guided walk.


def test_published_values_of_guided_gradients():
    explain = igjax.guided_integrated_gradients
    ridge = lambda x: (2 * x[0] + x[1]) ** 2
    squares = lambda x: 2 * x[0] ** 2 + x[1] ** 2
    x, zero = np.array([3.0, 3.0]), np.zeros(2)
    linear, separable, free, held = together(
        lambda: explain(lambda x: 2 * x[0] + x[1])(
            np.array([10.0, 5.0]), np.array([-1.0, -3.0])
        ),
        lambda: explain(squares)(x, zero),
        lambda: explain(ridge, fraction=0.1, max_distance=1.0)(x, zero),
        lambda: explain(ridge, fraction=0.1, max_distance=0.2)(x, zero),
    )
    close(linear.values, [22, 8])
    close(separable.values, [18, 9])
    # The first step, where both gradients vanish, is taken straight: by 3 / 200 each.
    close(free.values, [72, 9], atol=0.2)
    for result in (linear, separable, free, held):
        close(result.delta, 0, atol=1e-10)
    assert 54 < held.values[0] < 72  # between the straight line and no limit


V1, V2 = DRAW.normal(size=(8, 7)), DRAW.normal(size=8)


def relu(x):
    return V2 @ jax.nn.relu(V1 @ x + 0.1)


def walked(f, x, b, steps, fraction, distance):
    """The walk as a plain loop over features and groups."""
    slope = jax.jit(jax.grad(f))
    n, lengths = len(x), np.abs(x - b)
    place, values = np.zeros(n), np.zeros(n)
    gradient, score = np.asarray(slope(b)), f(b)
    for k in range(1, steps + 1):
        t = k / steps
        point = b + place * (x - b)
        low, high = max(t - distance, 0.0), min(t + distance, 1.0)
        place = np.maximum(place, low)
        waiting = sorted(
            (i for i in range(n) if place[i] < high and lengths[i] > 0),
            key=lambda i: abs(gradient[i]),
        )
        while (needed := (lengths * (1 - place)).sum() - lengths.sum() * (1 - t)) > 1e-13:
            size = int(np.floor(fraction * (n - 1))) + 1
            group, waiting = waiting[:size], waiting[size:]
            room = (lengths[group] * (high - place[group])).sum()
            place[group] += min(needed / room, 1.0) * (high - place[group])
        there = b + place * (x - b)
        new = np.asarray(slope(there))
        first, last = (there - point) * gradient, (there - point) * new
        late = np.clip((f(there) - score - first.sum()) / (last - first).sum(), 0, 1)
        values += (1 - late) * first + late * last
        gradient, score = new, f(there)
    return values


@pytest.mark.parametrize("options", [(40, 0.25, 0.1), (25, 0.5, 1.0)], ids=str)
def test_the_guided_walk_is_that_of_a_plain_loop(options):
    steps, fraction, distance = options
    x, b = DRAW.normal(size=7), np.zeros(7)
    x[3] = b[3]  # a feature that has nowhere to go
    f = lambda x: jnp.tanh(V1 @ x + 0.1) @ V2
    attribute = igjax.guided_integrated_gradients(
        f, steps=steps, fraction=fraction, max_distance=distance
    )
    result = attribute(x, b)
    close(result.values, walked(f, x, b, *options), rtol=1e-8, atol=1e-10)
    assert result.values[3] == 0
    assert result.evaluations == steps + 1


def test_without_freedom_the_guided_walk_is_the_straight_line():
    xs, b = DRAW.normal(size=(20, 7)), np.zeros(7)
    f = lambda x: jnp.tanh(V1 @ x + 0.1) @ V2
    walk = lambda n: igjax.guided_integrated_gradients(f, steps=n, max_distance=0.0)
    line = igjax.integrated_gradients(f, rule=igjax.rules.gauss_legendre(64))
    batched = lambda attribute: jax.vmap(attribute, (0, None))(xs, b).values
    coarse, fine, straight = together(
        *(lambda a=a: batched(a) for a in (walk(50), walk(200), line))
    )
    errors = [np.abs(values - straight).sum(1).mean() for values in (coarse, fine)]
    assert errors[1] < 1e-4
    assert errors[1] < errors[0] / 10  # second order, but for a logarithm


@pytest.mark.slow
def test_the_gap_of_a_guided_walk_closes_with_its_steps():
    xs, zero = DRAW.normal(size=(20, 7)), np.zeros(7)
    smooth = lambda x: jnp.tanh(V1 @ x + 0.1) @ V2

    def gaps(f, steps):
        explain = igjax.guided_integrated_gradients(f, steps=steps, max_distance=1.0)
        result = jax.jit(jax.vmap(explain, (0, None)))(xs, zero)
        assert (np.abs(result.delta) <= result.error.sum(1)).all()
        return np.abs(result.delta).mean()

    # Second order at the least where f is smooth; with kinks the walk may slide along one.
    assert gaps(smooth, 200) < gaps(smooth, 50) / 16
    assert gaps(relu, 200) < 0.01


def test_a_step_across_one_kink_is_exact():
    w = np.array([1.0, -0.4, 2.0])
    f = lambda x: jax.nn.relu(w @ x - 0.3)
    x = np.ones(3)
    attribute = igjax.guided_integrated_gradients(f, steps=1)  # one step: a straight line
    close(attribute(x, np.zeros(3)).values, w / w.sum() * f(x))


@pytest.mark.slow
def test_a_guided_walk_is_differentiable_where_its_choices_do_not_change():
    x = DRAW.normal(size=7)
    attribute = igjax.guided_integrated_gradients(
        lambda x, s: jnp.tanh(s * (V1 @ x)) @ V2, steps=10, max_distance=0.2
    )
    loss = jax.jit(lambda s: (attribute(x, np.zeros(7), s).values ** 2).sum())
    difference = (loss(0.5 + 1e-6) - loss(0.5 - 1e-6)) / 2e-6
    close(jax.grad(loss)(0.5), difference, rtol=1e-5)


@pytest.mark.parametrize("steps", [0, 1.5, True], ids=repr)
def test_steps_that_count_nothing_are_refused(steps):
    with pytest.raises(ValueError, match="steps must be an integer of at least 1"):
        igjax.guided_integrated_gradients(relu, steps=steps)


def test_a_guided_walk_through_complex_numbers_is_refused():
    with pytest.raises(TypeError, match="x must be real"):
        igjax.guided_integrated_gradients(lambda z: jnp.abs(z).sum())(
            np.ones(2) * 1j, np.zeros(2)
        )


# Dtypes, and options that are out of range.


def test_scores_may_be_wider_than_features():
    weights, key = jnp.arange(1.0, 6.0), jax.random.key(0)
    f = lambda x: jnp.tanh((x * weights).sum())
    x = jnp.full(5, 0.1, "float32")
    results = [
        igjax.guided_integrated_gradients(f, steps=20)(x, 0.0),
        igjax.perturbation.shapley_values(f)(key, x, 0.0),
        igjax.perturbation.shapley_values(f, budget=20)(key, x, 0.0),
    ]
    for result in results:
        assert result.values.dtype == result.error.dtype == "float64"
        assert abs(result.delta) < 1e-6
        np.testing.assert_allclose(result.score, np.tanh(1.5), rtol=1e-6)


@pytest.mark.parametrize(
    "options", [{"fraction": -1.0}, {"fraction": 1.5}, {"max_distance": -0.1}]
)
def test_a_guided_walk_needs_options_in_range(options):
    ((name, value),) = options.items()
    f, x = lambda x: (x**2).sum(), jnp.array([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=f"{name} must be in"):
        igjax.guided_integrated_gradients(f, **options)

    def traced(value):
        return igjax.guided_integrated_gradients(f, steps=4, **{name: value})(x, 0.0)

    result = jax.jit(traced)(value)
    assert result.status == igjax.Status.NON_FINITE
    assert jnp.isnan(result.values).all()
