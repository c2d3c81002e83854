"""Examples worked by hand, and examples of use, each with all of its numbers.

Exact where the panels of a composite rule meet the kinks; else within Koksma's bound,
discrepancy times the variation of the slope along the path.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

import igjax
from igjax import baselines, paths, rules
from tests.registry import QUICKLY, ZOO, discrepancy, slope_variation, together

GAUSS = rules.gauss_legendre(16)


def explain(f, x, baseline, *args, rule=GAUSS, path=paths.straight):
    return igjax.integrated_gradients(f, rule=rule, path=path)(x, baseline, *args)


# relu(relu(x1) - 1 - relu(x2)), the example of the paper that introduced the method. At
# (3t, t) the outer relu opens at t = 1/2; the slopes are then 3 and -1.


@pytest.mark.parametrize("container", [lambda a, b: (a, b), lambda a, b: {"a": a, "b": b}])
def test_two_inputs_may_be_a_tuple_or_a_dict(container):
    relu = jax.nn.relu

    def f(x):
        first, second = jax.tree.leaves(x)
        return relu(relu(first) - 1 - relu(second))

    x, b = container(np.array(3.0), np.array(1.0)), container(0.0, 0.0)
    result = explain(f, x, b, rule=rules.composite(GAUSS, 2))
    assert jax.tree.structure(result.values) == jax.tree.structure(x)
    np.testing.assert_allclose(jax.tree.leaves(result.values), [1.5, -0.5], rtol=1e-13)
    assert result.score == 1
    assert result.baseline_score == 0
    np.testing.assert_allclose(result.delta, 0, atol=1e-13)


# x exp(y) from (-1/2, -1/4) to (1/2, 1/2).


def test_x_exp_y_and_what_an_average_over_both_ends_makes_of_it():
    f = lambda p: p[0] * jnp.exp(p[1])
    x, b = np.array([0.5, 0.5]), np.array([-0.5, -0.25])
    average = rules.Rule.of(np.linspace(0, 1, 1000), np.full(1000, 1e-3), degree=0)
    exact, averaged = together(
        lambda: explain(f, x, b), lambda: explain(f, x, b, rule=average)
    )
    np.testing.assert_allclose(exact.values, [1.159894, 0.053867], atol=5e-7)
    np.testing.assert_allclose(averaged.values, [1.159948, 0.053976], atol=5e-7)
    # The average knows what it lacks, within its safety.
    gap = np.abs(averaged.values - exact.values)
    assert (gap <= averaged.error).all()
    assert (averaged.error <= 20 * gap).all()


# min(x1, x2) from (0, 1) to (1, 0): who gets what depends on the way.

START, END = np.array([0.0, 1.0]), np.array([1.0, 0.0])
QUARTER = lambda t: jnp.pi / 2 * t


def circle(x, baseline, t):
    del x, baseline  # this circle joins two given points
    return jnp.stack([jnp.sin(QUARTER(t)), jnp.cos(QUARTER(t))])


def sine(x, baseline, t):
    up = jnp.stack([jnp.zeros_like(t), 0.3 * jnp.sin(jnp.pi * t)])
    return paths.straight(x, baseline, t) + up


@pytest.mark.parametrize(
    ("path", "exact"),
    [
        # x1 rises to 1 below x2 = 1, then x2 falls to 0 below x1 = 1.
        (paths.polyline(np.array([1.0, 1.0])), (1.0, -1.0)),
        # x2 falls to 0 above x1 = 0, then x1 rises above x2 = 0: the minimum is still.
        (paths.polyline(np.array([0.0, 0.0])), (0.0, 0.0)),
        # x1 is the smaller on the first half, x2 on the second.
        (paths.straight, (0.5, -0.5)),
        # The circle meets the diagonal at its middle, at height sin(pi/4).
        (circle, (np.sqrt(0.5), -np.sqrt(0.5))),
    ],
    ids=["x1 first", "x2 first", "straight", "circle"],
)
def test_the_minimum_is_shared_as_the_path_says(path, exact):
    result = explain(jnp.min, END, START, rule=rules.composite(GAUSS, 2), path=path)
    np.testing.assert_allclose(result.values, exact, rtol=0, atol=1e-13)
    np.testing.assert_allclose(result.delta, 0, atol=1e-13)


def test_a_sine_path_shares_the_minimum_at_its_own_crossing():
    # x1 = t is the smaller until it meets x2, at c; then x2 falls from c to 0.
    c = float(brentq(lambda t: 1 - t + 0.3 * np.sin(np.pi * t) - t, 0, 1))  # type: ignore
    rule = rules.midpoint(2000)
    result = explain(jnp.min, END, START, rule=rule, path=sine)
    # Each integrand is a velocity of at most 1 + 0.3 pi, switched on or off once.
    bound = discrepancy(rule) * 3 * (1 + 0.3 * np.pi)
    np.testing.assert_allclose(result.values, [c, -c], rtol=0, atol=bound)
    np.testing.assert_allclose(result.delta, 0, atol=bound)


def test_the_same_line_at_another_speed_gives_the_same_values():
    at = lambda clock: lambda x, b, t: paths.straight(x, b, clock(t))
    # The kink, at the middle of the line, is reached at t = sqrt(1/2) and at t = 1/2.
    squared = at(lambda t: t**2)
    smoothstep = at(lambda t: t * t * (3 - 2 * t))
    corner = np.sqrt(0.5)
    nodes = np.concatenate([corner * GAUSS.nodes, corner + (1 - corner) * GAUSS.nodes])
    weights = np.concatenate([corner * GAUSS.weights, (1 - corner) * GAUSS.weights])
    cut = rules.Rule.of(nodes, weights, degree=31)
    results = together(
        lambda: explain(jnp.min, END, START, rule=cut, path=squared),
        lambda: explain(
            jnp.min, END, START, rule=rules.composite(GAUSS, 2), path=smoothstep
        ),
    )
    for result in results:
        np.testing.assert_allclose(result.values, [0.5, -0.5], rtol=0, atol=1e-13)


# Networks with random weights.


def network(*widths, seed):
    """Layers of (kernel, bias)."""
    generator = np.random.default_rng(seed)
    return [
        (generator.normal(size=(m, n)) / np.sqrt(m), 0.1 * generator.normal(size=n))
        for m, n in itertools.pairwise(widths)
    ]


def logits(x, layers, activation):
    for kernel, bias in layers[:-1]:
        x = activation(x @ kernel + bias)
    return x @ layers[-1][0] + layers[-1][1]


THREE = network(20, 10, 3, seed=31)
FIFTY = np.random.default_rng(32).normal(size=(50, 20))


def log_probabilities(x):
    return jax.nn.log_softmax(logits(x, THREE, jnp.tanh))


@functools.cache
def log_softmax_results():
    """The 50 inputs with the target fixed at x, and with the maximum along the path."""
    fixed = igjax.integrated_gradients(
        lambda x, label: log_probabilities(x)[label], rule=GAUSS
    )
    moving = igjax.integrated_gradients(
        lambda x: log_probabilities(x).max(), rule=rules.midpoint(300)
    )

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def everything(x):
        scores = jax.vmap(log_probabilities)(x)
        labels = scores.argmax(1)
        grid = np.linspace(0, 1, 513)
        line = lambda x: jax.vmap(lambda t: log_probabilities(t * x).max())(grid)
        over = lambda attribute, *args: jax.vmap(attribute)(x, 0 * x, *args)
        return scores, labels, over(fixed, labels), over(moving), jax.vmap(line)(x)

    return jax.device_get(everything(FIFTY))


@pytest.mark.slow
def test_a_target_fixed_at_x_is_complete_for_its_own_score():
    scores, labels, fixed, _, _ = log_softmax_results()
    chosen = scores[np.arange(50), labels]
    start = np.asarray(log_probabilities(np.zeros(20)))[labels]
    np.testing.assert_allclose(fixed.score, chosen, rtol=1e-13)
    np.testing.assert_allclose(fixed.baseline_score, start, rtol=1e-13)
    np.testing.assert_allclose(fixed.values.sum(1), chosen - start, rtol=0, atol=1e-10)


def test_a_maximum_along_the_path_is_another_function_and_complete_for_that_one():
    _, labels, fixed, moving, lines = log_softmax_results()
    start = np.asarray(log_probabilities(np.zeros(20)))
    np.testing.assert_allclose(moving.baseline_score, start.max(), rtol=1e-13)
    np.testing.assert_allclose(moving.score, fixed.score, rtol=1e-13)
    bound = 1.05 * discrepancy(rules.midpoint(300)) * slope_variation(lines)
    assert (np.abs(moving.delta) <= bound).all()
    # Where x and the baseline are of one class throughout, both agree; elsewhere not.
    elsewhere = labels != start.argmax()
    assert 5 < elsewhere.sum() < 45
    gained = np.abs(moving.values.sum(1) - fixed.values.sum(1))
    assert (gained[elsewhere] > bound[elsewhere]).all()
    assert (gained[~elsewhere] <= bound[~elsewhere] + 1e-10).sum() > 5


SOFTMAX = network(10, 50, 20, 2, seed=33)


def probability(x, layers, label):
    return jax.nn.softmax(logits(x, layers, jax.nn.relu))[label]


@functools.cache
def softmax_results():
    """One row against 50 training rows as baselines."""
    rule = rules.midpoint(200)
    attribute = igjax.integrated_gradients(probability, rule=rule)
    x, *_ = data = np.random.default_rng(34).normal(size=(51, 10))

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def everything(layers):
        grid = np.linspace(0, 1, 1025)

        def line(b, label):
            return jax.vmap(lambda t: probability(b + t * (x - b), layers, label))(grid)

        both = jax.vmap(attribute, in_axes=(None, None, None, 0))
        return (
            jax.vmap(lambda b: both(x, b, layers, np.arange(2)))(data[1:]),
            jax.vmap(lambda b: jnp.stack([line(b, 0), line(b, 1)]))(data[1:]),
        )

    results, lines = jax.device_get(everything(SOFTMAX))
    return results, 1.05 * discrepancy(rule) * slope_variation(lines)


def test_a_deep_softmax_network_adds_up_within_the_bound_of_its_kinks():
    results, bound = softmax_results()
    assert (np.abs(results.delta) <= bound).all()
    assert (np.abs(results.delta) < 0.02).all()


def test_two_probabilities_have_opposite_values():
    results, _ = softmax_results()
    np.testing.assert_allclose(results.values[:, 0], -results.values[:, 1], atol=1e-13)
    np.testing.assert_allclose(results.score.sum(1), 1, rtol=1e-13)


def test_expected_attributions_add_up_to_the_score_less_the_mean_baseline_score():
    results, bound = softmax_results()
    expected = results.values.mean(axis=0)  # over the 50 training rows
    gap = expected.sum(-1) - (results.score[0] - results.baseline_score.mean(axis=0))
    # Gaps average as the values do.
    np.testing.assert_allclose(gap, results.delta.mean(axis=0), atol=1e-13)
    assert (np.abs(gap) <= bound.mean(axis=0)).all()
    # It is another attribution than from the mean row: f of a mean is no mean of f.
    assert np.abs(results.values - expected[None]).max() > 0.01


# Baselines for an image.


@pytest.mark.slow
def test_four_baselines_each_answer_their_own_question(getkey):
    (cnn,) = [s for s in ZOO if s.name == "cnn"]
    generator = np.random.default_rng(35)
    image = generator.uniform(size=cnn.shape)
    image[2, 2], image[3, 3] = 0.0, 1.0  # a black and a white pixel
    starts = {
        "black": baselines.zeros(image),
        "white": baselines.constant(image, 1.0),
        "mean": baselines.mean(generator.uniform(size=(40, *cnn.shape))),
        "random": baselines.uniform(0.0, 1.0)(getkey(), image),
    }
    rule = rules.midpoint(100)
    f = lambda x, params: cnn.score(params, x)
    attribute = igjax.integrated_gradients(f, rule=rule)

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def everything(b, params):
        line = lambda t: f(b + t * (image - b), params)
        return attribute(image, b, params), jax.vmap(line)(np.linspace(0, 1, 1025))

    over = jax.vmap(everything, in_axes=(0, None))
    results, lines = jax.device_get(over(np.stack(list(starts.values())), cnn.params))
    for i, (name, start) in enumerate(starts.items()):
        one = results.example(i)
        score, baseline_score = (cnn.score(cnn.params, a) for a in (image, start))
        np.testing.assert_allclose(one.score, score, rtol=1e-12, err_msg=name)
        np.testing.assert_allclose(one.baseline_score, baseline_score, rtol=1e-12)
        gap = one.values.sum() - (score - baseline_score)
        np.testing.assert_allclose(one.delta, gap, rtol=0, atol=1e-12)
        bound = 1.05 * discrepancy(rule) * slope_variation(lines[i])
        assert abs(gap) <= bound + 1e-12, name
    # What a baseline contains cannot be seen from it.
    black, white = results.values[0], results.values[1]
    assert black[2, 2] == white[3, 3] == 0
    assert np.count_nonzero(black) > np.size(black) / 2
    sums = results.values.sum(axis=(1, 2, 3))
    assert len(np.unique(sums.round(6))) == 4
