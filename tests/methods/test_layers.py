"""Attributions of layers and neurons: published values, closed forms, and honest cuts.

The published values are those of a network of four linear and rectified layers. Closed
forms: a hidden layer's unit has the conductance v_j (s(z_j(x)) - s(z_j(b))). And what no
closed form has is compared with the definition, written out with dense Jacobians.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

import igjax
from tests.registry import together

RULE = igjax.rules.gauss_legendre(24)
PANELS = igjax.rules.midpoint(100)  # exact where kinks are hundredths and slopes constant


# Published values.

BIAS = np.array([-10.0, 1.0, 1.0, 1.0])


def published(x):
    x = checkpoint_name(jnp.eye(3) @ x, "lin0")
    x = checkpoint_name(jnp.ones((4, 3)) @ x + BIAS, "lin1")
    x = checkpoint_name(jax.nn.relu(x), "relu")
    return checkpoint_name(jnp.ones((2, 4)) @ x + np.array([-1.0, 1.0]), "lin2")[0]


@pytest.mark.slow
def test_published_values_of_a_network_with_a_kink():
    x, b = np.array([0.0, 100.0, 0.0]), np.zeros(3)
    layers = ["lin0", "lin1", "relu"]
    shifted = np.array([0.0, 80.0, 0.0]), np.array([0.0, -20.0, 0.0])
    relu = igjax.cut(published, "relu").trunk
    line, flow, influence, later, neuron, unit, slope = together(
        lambda: igjax.layer_integrated_gradients(published, "lin0", rule=PANELS)(x, b),
        lambda: igjax.layer_conductance(published, layers, rule=PANELS)(x, b),
        lambda: igjax.internal_influence(published, layers, rule=PANELS)(x, b),
        lambda: igjax.internal_influence(published, "lin1", rule=PANELS)(*shifted),
        lambda: igjax.neuron_conductance(published, "lin1", 0, rule=PANELS)(x, b),
        lambda: igjax.integrated_gradients(lambda x: relu(x)[0], rule=PANELS)(
            np.array([0.0, 6.0, 14.0]), b
        ),
        lambda: igjax.internal_influence(published, "lin0", rule=igjax.rules.midpoint(30))(
            np.full(3, 100.0), b
        ),
    )
    close = functools.partial(np.testing.assert_allclose, rtol=1e-12)
    close(line.values, [0, 390, 0])
    close(flow[0].values, [0, 390, 0])
    close(flow[1].values, [90, 100, 100, 100])
    close(flow[2].values, [90, 100, 100, 100])
    close([part.delta for part in flow], 0, atol=1e-10)
    close(influence[0].values, [3.9, 3.9, 3.9])
    close(influence[1].values, [0.9, 1, 1, 1])
    # Published as 0.8, to a hundredth: -20 + 1 is passed at t = 0.19.
    close(later.values, [0.7, 0.81, 0.81, 0.81])
    close(neuron.values, [0, 90, 0])
    close(unit.values, [0, 3, 7])
    close(slope.values, np.full(3, 4 - 1 / 30))  # published as 3.96


# Closed forms.

KEYS = np.random.default_rng(7)
W1, W2, W3 = KEYS.normal(size=(5, 3)), KEYS.normal(size=(4, 5)), KEYS.normal(size=4)
C1 = KEYS.normal(size=5)
X, B = np.array([0.7, -1.2, 0.4]), np.array([-0.3, 0.1, 0.8])


def hidden(x, scale=1.0):
    return checkpoint_name(jnp.tanh(scale * (W1 @ x + C1)), "hidden").sum()


def deep(x, w=W3):
    x = checkpoint_name(jnp.tanh(W1 @ x + C1), "first")
    x = checkpoint_name(jnp.sin(W2 @ x), "second")
    return w @ x**2


def test_the_conductance_of_a_hidden_layer_is_its_own_growth():
    result = igjax.layer_conductance(hidden, "hidden", rule=RULE)(X, B)
    expected = np.tanh(W1 @ X + C1) - np.tanh(W1 @ B + C1)
    np.testing.assert_allclose(result.values, expected, rtol=1e-10)
    np.testing.assert_allclose(result.delta, 0, atol=1e-10)
    assert result.status == igjax.Status.NO_TOLERANCE


@pytest.mark.slow
def test_the_adaptive_conductance_keeps_its_promise():
    scales = np.array([1.0, 200.0])
    attribute = jax.vmap(igjax.layer_conductance(hidden, "hidden"), (None, None, 0))
    result = attribute(X, B, scales)
    end, start = (np.tanh(scales[:, None] * (W1 @ a + C1)) for a in (X, B))
    assert result.converged.all()
    error = np.abs(result.values - (end - start)).sum(1)
    assert (error <= 0.01 * np.abs(end - start).sum(1)).all()


def by_definition(x, b, n=60):
    """Conductances of `deep` with dense Jacobians, at nodes of another rule."""
    t, weights = np.polynomial.legendre.leggauss(n)
    t, weights = (t + 1) / 2, weights / 2
    trunk = lambda x: jnp.tanh(W1 @ x + C1)
    middle = lambda y: jnp.sin(W2 @ y)
    head = lambda z: W3 @ z**2

    def at(t):
        point = b + t * (x - b)
        first = jax.jacfwd(trunk)(point)
        second = jax.jacfwd(middle)(trunk(point))
        last = jax.grad(head)(middle(trunk(point)))
        dy = first @ (x - b)
        return (last @ second) * dy, last * (second @ dy), last @ second, first

    one, two, slope, inner = jax.vmap(at)(t)
    neuron = (slope[:, 2, None] * inner[:, 2] * (x - b)[None]).T @ weights
    return one.T @ weights, two.T @ weights, neuron


@pytest.mark.slow
def test_several_layers_share_one_sweep_and_each_is_complete():
    first, second, neuron = by_definition(X, B)
    tree = {"a": "first", "b": ("second",)}
    flow, unit, units, whole = together(
        lambda: igjax.layer_conductance(deep, tree, rule=RULE)(X, B),
        lambda: igjax.neuron_conductance(deep, "first", 2, rule=RULE)(X, B),
        lambda: [
            igjax.neuron_conductance(deep, "first", (j,), rule=RULE)(X, B) for j in range(5)
        ],
        lambda: igjax.integrated_gradients(deep, rule=RULE)(X, B),
    )
    np.testing.assert_allclose(flow["a"].values, first, rtol=1e-9)
    np.testing.assert_allclose(flow["b"][0].values, second, rtol=1e-9)
    for part in (flow["a"], flow["b"][0]):
        np.testing.assert_allclose(part.delta, 0, atol=1e-10)
        np.testing.assert_allclose(part.score, deep(X), rtol=1e-12)
    np.testing.assert_allclose(unit.values, neuron, rtol=1e-9)
    # Over units a neuron's values add up to Integrated Gradients, over features to its own.
    np.testing.assert_allclose(sum(u.values for u in units), whole.values, rtol=1e-9)
    np.testing.assert_allclose([u.values.sum() for u in units], first, rtol=1e-9)


@pytest.mark.slow
def test_adaptive_conductances_agree_with_the_definition():
    _, second, neuron = by_definition(X, B)
    rule = igjax.rules.adaptive(1e-6)
    layer, unit = together(
        lambda: igjax.layer_conductance(deep, "second", rule=rule)(X, B),
        lambda: igjax.neuron_conductance(deep, "first", 2, rule=rule)(X, B),
    )
    for result, expected in ((layer, second), (unit, neuron)):
        assert result.converged
        np.testing.assert_allclose(result.values, expected, atol=1e-6)


@pytest.mark.slow
def test_gauss_nodes_make_the_conductance_converge_spectrally():
    exact, _, _ = by_definition(X, B)
    small, large = together(
        *(
            lambda n=n: igjax.layer_conductance(
                deep, "first", rule=igjax.rules.gauss_legendre(n)
            )(X, B)
            for n in (4, 12)
        )
    )
    errors = [np.abs(r.values - exact).max() for r in (small, large)]
    assert errors[1] < 1e-5 * errors[0]


def test_layer_gradients_are_integrated_in_the_space_of_the_layer():
    rule = igjax.rules.gauss_legendre(40)
    result = igjax.layer_integrated_gradients(deep, "first", rule=rule)(X, B)
    y, z = np.tanh(W1 @ X + C1), np.tanh(W1 @ B + C1)
    head = lambda y: W3 @ jnp.sin(W2 @ y) ** 2
    expected = igjax.integrated_gradients(head, rule=rule)(y, z).values
    np.testing.assert_allclose(result.values, expected, rtol=1e-10)
    np.testing.assert_allclose(result.delta, 0, atol=1e-10)
    # Another question than conductance, with another answer.
    assert np.abs(result.values - by_definition(X, B)[0]).max() > 1e-3


@pytest.mark.slow
def test_what_goes_around_a_layer_is_missing_and_reported():
    f = lambda x: (checkpoint_name(x**2, "y") + 3 * x).sum()
    layers = igjax.layer_conductance(f, "y", rule=RULE), igjax.layer_conductance(f, "y")
    line = igjax.layer_integrated_gradients(f, "y", rule=RULE)
    flow, sure, straight = together(*(lambda a=a: a(X, B) for a in (*layers, line)))
    for result in (flow, sure, straight):
        np.testing.assert_allclose(result.values, X**2 - B**2, rtol=1e-10)
    np.testing.assert_allclose(flow.delta, -3 * (X - B).sum(), rtol=1e-10)
    assert sure.converged
    # In the space of the layer the rest is held at x, and the sum is complete.
    np.testing.assert_allclose(straight.delta, 0, atol=1e-12)
    np.testing.assert_allclose(straight.baseline_score, (B**2 + 3 * X).sum(), rtol=1e-12)


def test_gradient_x_activation_is_exact_for_a_linear_head():
    f = lambda x: W2[0] @ checkpoint_name(jnp.tanh(W1 @ x), "y")
    result = igjax.layer_gradient_x_activation(f, "y")(X)
    np.testing.assert_allclose(result.values, W2[0] * np.tanh(W1 @ X), rtol=1e-12)
    np.testing.assert_allclose(result.delta, 0, atol=1e-12)
    assert np.isinf(result.error).all()
    np.testing.assert_allclose(igjax.layer_activation(f, "y")(X), np.tanh(W1 @ X))


def test_grad_cam_weighs_maps_by_their_mean_gradient():
    kernel = KEYS.normal(size=(4, 4, 3))

    def f(x, scale):
        y = checkpoint_name(x[..., None] * np.array([[[1.0, -2.0, 0.5]]]), "maps")
        return scale * (kernel * y).sum()

    x = KEYS.normal(size=(4, 4))
    y = x[..., None] * np.array([[[1.0, -2.0, 0.5]]])
    expected = np.maximum(0, (y * 2 * kernel.mean((0, 1))).sum(-1))
    np.testing.assert_allclose(igjax.grad_cam(f, "maps")(x, 2.0), expected, rtol=1e-12)
    with pytest.raises(ValueError, match="places and channels, got shape"):
        igjax.grad_cam(hidden, "hidden")(X)


def test_grad_cam_keeps_signs_and_takes_channels_on_any_axis():
    kernel, x = KEYS.normal(size=(3, 4, 5)), KEYS.normal(size=(3, 4, 5))
    for axis in (0, 1, 2, -3):
        others = tuple(i for i in range(3) if i != axis % 3)
        f = lambda x: (kernel * checkpoint_name(x, "maps") ** 2).sum()
        weights = (2 * kernel * x).mean(others, keepdims=True)
        want = (weights * x).sum(axis)
        signed = igjax.grad_cam(f, "maps", axis=axis, signed=True)(x)
        np.testing.assert_allclose(signed, want, rtol=1e-12)
        positive = igjax.grad_cam(f, "maps", axis=axis)(x)
        np.testing.assert_allclose(positive, np.maximum(want, 0), rtol=1e-12)
    with pytest.raises(ValueError, match=r"axis must be one of the layer, of shape \(3, 4"):
        igjax.grad_cam(f, "maps", axis=3)(x)
    no_axis: Any = 1.0
    with pytest.raises(TypeError, match="axis must be an integer"):
        igjax.grad_cam(f, "maps", axis=no_axis)


# Groups of units, and those that are traced.


def grid(x):
    return jnp.tanh(jnp.stack([W1 @ x, 2 * W1 @ x, W1 @ x**2]))


def gridded(x):
    return jnp.sum(checkpoint_name(grid(x), "units")) ** 2


@functools.cache
def each_unit():
    """The definition, with dense Jacobians: (3, 5) units, features last."""
    t, weights = np.polynomial.legendre.leggauss(24)
    slope = lambda x: 2 * grid(x).sum() * jax.jacfwd(grid)(x) * (X - B)[None, None]
    slopes = jax.vmap(lambda t: slope(B + t * (X - B)))((t + 1) / 2)
    return np.tensordot(weights / 2, slopes, 1)


def test_units_add_up_to_the_layer():
    layer = igjax.layer_conductance(gridded, "units", rule=RULE)(X, B).values
    np.testing.assert_allclose(each_unit().sum(-1), layer, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "index",
    [
        1,
        (slice(None), 2),
        (slice(0, 2), slice(-1, None, -2)),
        (slice(None), np.int8(-1)),
        (np.arange(15).reshape(3, 5) % 2).astype(bool),
        np.array([True, False, True]),
        np.array([2, -1]),
        (jnp.int32(-1), slice(1, 3)),
    ],
    ids=repr,
)
def test_groups_of_units_are_taken_as_numpy_takes_them(index):
    result = igjax.neuron_conductance(gridded, "units", index, rule=RULE)(X, B)
    whole = isinstance(index, np.ndarray) and index.dtype == int
    want = each_unit()[tuple(index) if whole else index].reshape(-1, len(X)).sum(0)
    np.testing.assert_allclose(result.values, want, rtol=1e-10, atol=1e-12)


def test_one_program_serves_all_units_and_masks():
    count = []
    note = count.append  # what a list holds would count as a change of f

    def f(x):
        note(1)
        return gridded(x)

    conductance = lambda i: igjax.neuron_conductance(f, "units", i, rule=RULE)
    ask = lambda i: conductance(i)(X, B).values
    ask((jnp.int32(0), jnp.int32(1)))
    once = len(count)
    for i, j in ((1, 1), (2, -1)):
        got = ask((jnp.int32(i), jnp.int32(j)))
        np.testing.assert_allclose(got, each_unit()[i, j], rtol=1e-10, atol=1e-12)
    assert len(count) == once
    ask(np.zeros((3, 5), bool))
    once = len(count)
    mask = np.zeros((3, 5), bool)
    mask[0, 2] = mask[2, 0] = True
    want = each_unit()[0, 2] + each_unit()[2, 0]
    np.testing.assert_allclose(ask(mask), want, rtol=1e-10, atol=1e-12)
    assert len(count) == once
    jitted = jax.jit(ask)
    np.testing.assert_allclose(jitted(mask), want, rtol=1e-10, atol=1e-12)


def test_traced_units_that_do_not_exist_are_never_clamped():
    ask = lambda i: igjax.neuron_conductance(gridded, "units", i, rule=RULE)(X, B)
    result = jax.vmap(ask)(jnp.array([[0, 0], [3, 0], [0, -6], [-4, 1], [-3, -5]]))
    outside = np.array([False, True, True, True, False])
    np.testing.assert_array_equal(np.isnan(result.values).all(-1), outside)
    np.testing.assert_array_equal(result.status == igjax.Status.NON_FINITE, outside)
    np.testing.assert_allclose(result.values[4], each_unit()[0, 0], rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_units_are_mapped_with_the_adaptive_rule():
    ask = lambda i: igjax.neuron_conductance(gridded, "units", (i, 2))(X, B)
    result = jax.jit(jax.vmap(ask))(jnp.arange(4))
    assert result.converged[:3].all()
    np.testing.assert_allclose(result.values[:3], each_unit()[:, 2], atol=0.02)
    assert result.status[3] == igjax.Status.NON_FINITE


# Where names are found.


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.tanh(nn.Dense(5, name="inner")(x))


class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        block = Block(name="block")
        x = jnp.concatenate([block(x), block(2 * x)])
        x = checkpoint_name(x, "both")
        return nn.Dense(1, name="head")(x)[0]


def test_flax_modules_are_layers_without_tags():
    model = Network()
    params = model.init(jax.random.key(0), X)
    f = lambda x, params: model.apply(params, x)
    names = igjax.layer_names(f)(X, params)
    assert names == ("block/inner", "block", "both", "head")
    rule = igjax.rules.gauss_legendre(40)
    flow = igjax.layer_conductance(f, ("block", "both"), rule=rule)(X, B, params)
    # Called twice, the module is a layer of two arrays.
    both = np.concatenate(flow[0].values)
    np.testing.assert_allclose(both, flow[1].values, rtol=1e-12)
    inner = params["params"]["block"]["inner"]
    y = lambda x: np.tanh(x @ np.asarray(inner["kernel"]) + np.asarray(inner["bias"]))
    growth = np.concatenate([y(X) - y(B), y(2 * X) - y(2 * B)])
    head = np.asarray(params["params"]["head"]["kernel"])[:, 0]
    np.testing.assert_allclose(flow[1].values, head * growth, rtol=1e-5)


def test_a_tag_comes_before_a_module_of_the_same_name():
    model = nn.Sequential([nn.Dense(2), lambda y: checkpoint_name(y[:1], "layers_0")])
    params = model.init(jax.random.key(0), X)
    f = lambda x: model.apply(params, x)[0]
    assert igjax.layer_activation(f, "layers_0")(X).shape == (1,)


def test_jitted_and_rematerialized_calls_are_opened():
    outer = jax.jit(lambda x: checkpoint_name(x**2, "a") * 2)
    inner = jax.checkpoint(lambda x: jax.jit(lambda x: checkpoint_name(x, "b"))(outer(x)))
    f = lambda x: inner(x).sum()
    assert igjax.layer_names(f)(X) == ("a", "b")
    flow = igjax.layer_conductance(f, ("a", "b"), rule=RULE)(X, B)
    for part in flow:
        np.testing.assert_allclose(part.values, 2 * (X**2 - B**2), rtol=1e-10)


def recurrent(x):
    """A state that is decayed and pushed at each step; what is asked for is all of it."""

    def step(state, push):
        state = checkpoint_name(0.5 * state + push, "state")
        return state, state**2

    state, squares = jax.lax.scan(step, jnp.zeros(()), x)
    return state + squares.sum()


def states(x):
    return np.array([sum(0.5 ** (t - s) * x[s] for s in range(t + 1)) for t in range(3)])


@pytest.mark.slow
def test_the_steps_of_a_loop_are_a_stack():
    assert igjax.layer_names(recurrent)(X) == ("state",)
    np.testing.assert_allclose(igjax.layer_activation(recurrent, "state")(X), states(X))
    # Each state counts for itself: what it hands on is counted with the next.
    straight = igjax.layer_integrated_gradients(recurrent, "state", rule=RULE)(X, B)
    expected = states(X) ** 2 - states(B) ** 2 + [0, 0, states(X)[2] - states(B)[2]]
    np.testing.assert_allclose(straight.values, expected, rtol=1e-12)
    np.testing.assert_allclose(straight.delta, 0, atol=1e-12)
    flow = igjax.layer_conductance(recurrent, ["state", "state"], rule=RULE)(X, B)
    np.testing.assert_allclose(flow[0].values, expected, rtol=1e-12)
    adaptive = igjax.layer_conductance(recurrent, "state")(X, B)
    np.testing.assert_allclose(adaptive.values, expected, rtol=1e-9)


def test_a_function_is_cut_at_the_steps_of_a_loop():
    trunk, head = igjax.cut(recurrent, "state")
    given = jnp.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(head(given, X), 3.0 + 14.0)
    np.testing.assert_allclose(trunk(X), states(X))


def test_loops_in_loops_and_backward_ones_are_stacked_by_position():
    def inner(c, a):
        return c, checkpoint_name(a * c, "cell")

    def outer(c, row):
        return c + 1, jax.lax.scan(inner, c, row)[1]

    def f(x):
        table = jnp.outer(x, x)
        return jax.jit(lambda t: jax.lax.scan(outer, 1.0, t, reverse=True)[1])(table).sum()

    got = igjax.layer_activation(f, "cell")(X)
    np.testing.assert_allclose(got, np.outer(X, X) * np.array([[3.0], [2.0], [1.0]]))
    flow = igjax.layer_conductance(f, "cell", rule=RULE)(X, B)
    np.testing.assert_allclose(flow.delta, 0, atol=1e-12)
    change = np.outer(X, X) - np.outer(B, B)
    np.testing.assert_allclose(flow.values, change * np.array([[3.0], [2.0], [1.0]]))


def test_a_cell_of_a_recurrent_network_is_a_stack():
    model: Any = nn.RNN(nn.SimpleCell(2, name="cell"))
    x = np.stack([X, 2 * X, -X, B]).astype("float32")
    params = model.init(jax.random.key(0), x)
    f = lambda x: model.apply(params, x)[-1, 0]
    names = igjax.layer_names(f)(x)
    assert "cell" in names
    carry, output = igjax.layer_activation(f, "cell")(x)
    np.testing.assert_allclose(output, model.apply(params, x), rtol=1e-6)
    np.testing.assert_allclose(carry, output, rtol=1e-6)


def looping(x):
    more = lambda c: (c[0] < 2, c[1])[0]
    step = lambda c: (c[0] + 1, checkpoint_name(c[1] * x, "step"))
    return checkpoint_name(jax.lax.while_loop(more, step, (0, x))[1], "after").sum()


def branching(x):
    return jax.lax.cond(x[0] > 0, lambda x: checkpoint_name(x, "step"), jnp.sin, x).sum()


@jax.custom_jvp
def _own(x):
    return checkpoint_name(x, "step").sum()


@_own.defjvp
def _own_jvp(primals, tangents):
    return _own(*primals), tangents[0].sum()


@pytest.mark.parametrize(
    ("f", "where"),
    [(looping, "while"), (branching, "cond"), (_own, "custom_jvp_call")],
    ids=["loop", "branch", "derivative"],
)
def test_names_inside_loops_and_their_like_are_refused(f, where):
    attribute = igjax.layer_conductance(f, "step", rule=RULE)
    with pytest.raises(ValueError, match=rf"'step' must not stand inside .*'{where}'"):
        attribute(X, B)
    assert "step" not in igjax.layer_names(f)(X)


def test_names_are_asked_of_a_function_and_then_at_a_point():
    with pytest.raises(TypeError, match=r"takes f alone, .* igjax\.layer_names\(f\)\(x"):
        igjax.layer_names(deep, X)


def test_unknown_names_are_refused_with_a_list_of_the_names_there_are():
    message = r"layer_conductance: .* named 'third'; .* \['first', 'second'\]"
    with pytest.raises(ValueError, match=message):
        igjax.layer_conductance(deep, "third", rule=RULE)(X, B)
    with pytest.raises(ValueError, match="cut: f must compute a value named"):
        igjax.cut(deep, "third").trunk(X)


@pytest.mark.parametrize("layer", [3, (), ["a", 1.0], None], ids=repr)
def test_layers_that_are_no_names_are_refused(layer):
    with pytest.raises(TypeError, match="layer must be a name"):
        igjax.layer_conductance(deep, layer)


@pytest.mark.parametrize(
    "neuron", [1.0, "a", True, (0, None), slice(0.5), (..., ...), np.ones(5)], ids=repr
)
def test_neurons_that_are_no_index_are_refused(neuron):
    with pytest.raises(TypeError, match="neuron must be an index of the layer as in Nu"):
        igjax.neuron_conductance(deep, "first", neuron)


@pytest.mark.parametrize(
    "neuron",
    [5, -6, (0, 0), slice(3, 2), np.ones(4, bool), jnp.ones((5, 2), bool)],
    ids=repr,
)
def test_neurons_that_do_not_exist_are_refused(neuron):
    with pytest.raises(IndexError, match=r"must (be an index of|have the first axes)"):
        igjax.neuron_conductance(deep, "first", neuron, rule=RULE)(X, B)


def test_internal_influence_has_no_adaptive_rule():
    adaptive: Any = igjax.rules.adaptive()
    with pytest.raises(TypeError, match=r"fixed one.*rule=igjax\.adaptive_rule\(f\)\(x"):
        igjax.internal_influence(deep, "first", rule=adaptive)


@pytest.mark.slow
def test_internal_influence_takes_the_nodes_that_the_adaptive_rule_finds():
    found = igjax.adaptive_rule(deep)(X, B)
    got, want = (
        igjax.internal_influence(deep, "first", rule=rule)(X, B).values
        for rule in (found, igjax.rules.gauss_legendre(60))
    )
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_the_parts_of_a_cut_make_the_whole():
    trunk, head = igjax.cut(deep, "second")
    np.testing.assert_allclose(head(trunk(X, W3), X, W3), deep(X), rtol=1e-14)
    np.testing.assert_allclose(head(np.ones(4), X), W3.sum(), rtol=1e-14)
    with pytest.raises(ValueError, match="the layer must have the shape"):
        head(np.ones(3), X)


# Transformations.


@pytest.mark.slow
def test_conductances_are_batched_jitted_and_differentiated():
    attribute = igjax.layer_conductance(deep, "first", rule=RULE)
    xs = np.stack([X, 2 * X, -X])
    got = jax.jit(jax.vmap(attribute, (0, None, None)))(xs, B, W3)
    want = [attribute(x, B, W3).values for x in xs]
    np.testing.assert_allclose(got.values, want, rtol=1e-11)
    # The sum is f(x) - f(b), and so is its slope.
    slope = jax.grad(lambda x: attribute(x, B, W3).values.sum())(X)
    np.testing.assert_allclose(slope, jax.grad(deep)(X), rtol=1e-9)


def test_layers_of_a_narrow_dtype_are_summed_in_a_wider_one():
    f = lambda x: checkpoint_name(x.astype("bfloat16") ** 2, "y").sum().astype("float32")
    result = igjax.layer_conductance(f, "y", rule=igjax.rules.gauss_legendre(4))(
        X.astype("float32"), np.zeros(3, "float32")
    )
    assert result.values.dtype == np.float32
    np.testing.assert_allclose(result.values, X**2, rtol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_layers_know_what_rounding_hides(dtype):
    f = lambda x: (checkpoint_name(x, "y") ** 2).sum()
    x = jnp.array([1.0, 2.0], dtype)
    for attribute in (igjax.layer_conductance(f, "y"), igjax.neuron_conductance(f, "y", 1)):
        result = attribute(x, 0.0)
        assert (
            result.converged
            if dtype == "float16"
            else result.status == igjax.Status.ROUNDING
        )
        assert abs(result.values[1] - 4) <= min(result.error[1], 0.04)


@pytest.mark.slow
@pytest.mark.parametrize("tolerance", [0.1, 1e-3])
def test_the_tolerance_of_a_unit_is_kept_however_little_it_carries(tolerance):
    key = jax.random.key(0)
    w, b, v, xs = (
        jax.random.normal(k, shape)
        for k, shape in zip(
            jax.random.split(key, 4), [(8, 6), (6,), (6,), (60, 8)], strict=True
        )
    )
    f = lambda x: jax.nn.relu(checkpoint_name(x @ w + b, "y")) @ v
    rule = igjax.rules.adaptive(tolerance)
    units = jax.vmap(igjax.neuron_conductance(f, "y", 2, rule=rule), (0, None))
    result = jax.jit(units)(xs, 0.0)
    end = xs @ w[:, 2] + b[2]
    positive = jnp.maximum(end, 0) - jnp.maximum(b[2], 0)
    active = positive / (end - b[2])  # for so much of the path
    exact = active[:, None] * xs * (w[:, 2] * v[2])[None]
    error = jnp.abs(result.values - exact).sum(1)
    assert result.converged.all()
    assert (error <= tolerance * jnp.abs(exact).sum(1) + 1e-12).all()


def test_a_transform_built_anew_uses_the_same_program():
    traced = []

    def f(x):
        traced.append(1)
        return deep(x)

    for _ in range(3):
        igjax.layer_conductance(f, "first", rule=RULE)(X, B)
    assert len(traced) == 1


def test_a_layer_may_be_asked_for_twice():
    f = lambda x: (checkpoint_name(jnp.tanh(x), "y") ** 2).sum()
    x, rule = jnp.array([1.0, 2.0]), igjax.rules.gauss_legendre(8)
    for method in (igjax.layer_conductance, igjax.internal_influence):
        once = method(f, "y", rule=rule)(x, 0.0)
        twice = method(f, {"a": "y", "b": "y"}, rule=rule)(x, 0.0)
        for result in twice.values():
            np.testing.assert_array_equal(result.values, once.values)
            np.testing.assert_array_equal(result.delta, once.delta)


@pytest.mark.slow
@pytest.mark.parametrize("rule", [RULE, None], ids=["fixed", "adaptive"])
def test_what_flows_through_two_arrays_of_one_name_is_counted_once(rule):
    def f(x):
        first = checkpoint_name(2 * x, "y")
        second = checkpoint_name(jnp.tanh(first + 0.3), "y")
        return checkpoint_name(first + second**2, "z").sum()

    flow = igjax.layer_conductance(f, ["y", "z"], rule=rule)(X, np.zeros(3))
    grown = np.tanh(2 * X + 0.3) ** 2 - np.tanh(0.3) ** 2
    for part, expected in zip(flow, ((2 * X, grown), 2 * X + grown), strict=True):
        for array, want in zip(part.values, expected, strict=True):
            np.testing.assert_allclose(array, want, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(part.delta, 0, atol=1e-6)


def test_two_arrays_of_one_name_have_influence_apart():
    def f(x):
        first = checkpoint_name(2 * x, "y")
        return (first + checkpoint_name(jnp.tanh(first), "y") * 3).sum()

    result = igjax.internal_influence(f, "y", rule=RULE)(X, B)
    for array, want in zip(result.values, (1, 3), strict=True):
        np.testing.assert_allclose(array, np.full(3, want), rtol=1e-12)


def test_a_head_is_given_what_the_trunk_gives():
    f = lambda x: sum((checkpoint_name(v, "y") ** 2).sum() for v in (x, 2 * x))
    trunk, head = igjax.cut(f, "y")
    x = jnp.ones(2)
    assert head(trunk(x), x) == f(x)
    for wrong in (x, [x, x], (x,), (x, x, x), (x, jnp.ones(3))):
        with pytest.raises(ValueError, match="cut: the layer must have the shape"):
            head(wrong, x)
    with pytest.raises(ValueError, match="cut: the layer is real"):
        head((x, 1j * x), x)


def test_a_neuron_may_be_a_number_of_numpy():
    f = lambda x: (checkpoint_name(jnp.tanh(x), "y") ** 2).sum()
    rule, x = igjax.rules.gauss_legendre(8), jnp.array([1.0, 2.0])
    values = [
        igjax.neuron_conductance(f, "y", i, rule=rule)(x, 0.0).values
        for i in (1, np.argmax(np.asarray(x)))
    ]
    np.testing.assert_array_equal(*values)


def test_gradients_of_complex_layers_are_refused():
    f = lambda x: (jnp.abs(checkpoint_name(x * (1 + 1j), "y")) ** 2).sum()
    x = jnp.ones((2, 2))
    with pytest.raises(TypeError, match="grad_cam: the layer must be real"):
        igjax.grad_cam(f, "y")(x)
    with pytest.raises(TypeError, match="internal_influence: the layer must be real"):
        igjax.internal_influence(f, "y")(x, 0.0)


@pytest.mark.parametrize("method", ["conductance", "sweep", "neuron", "influence", "cam"])
def test_derivatives_see_what_goes_around_a_layer(method):
    def f(x):
        inner = checkpoint_name(jnp.tanh(x), "y")
        outer = checkpoint_name(inner[0] * inner + inner**2, "z")
        return (outer * jnp.exp(x / 2)).sum() ** 2

    rule = igjax.rules.gauss_legendre(16)
    weights = jnp.array([1.0, -2.0, 3.0])
    if method == "conductance":
        attribute = igjax.layer_conductance(f, "y", rule=rule)
        values = lambda x: attribute(x, 0.0).values @ weights
    elif method == "sweep":
        both = igjax.layer_conductance(f, ["y", "z"], rule=rule)
        values = lambda x: sum(r.values @ weights**k for k, r in enumerate(both(x, 0.0)))
    elif method == "neuron":
        attribute = igjax.neuron_conductance(f, "y", 0, rule=rule)
        values = lambda x: attribute(x, 0.0).values @ weights
    elif method == "influence":
        attribute = igjax.internal_influence(f, "y", rule=rule)
        values = lambda x: attribute(x, 0.0).values @ weights
    else:
        grown = lambda x: (jnp.sin(checkpoint_name(x**2, "y")) * x).sum()
        look = igjax.grad_cam(grown, "y")
        values = lambda x: (look(jnp.stack([x, 2 * x])) * jnp.array([1.0, 3.0])).sum()
    x = jnp.array([0.5, 0.3, 0.2])
    slopes = [(values(x + e) - values(x - e)) / 2e-4 for e in 1e-4 * jnp.eye(3)]
    np.testing.assert_allclose(jax.grad(values)(x), jnp.stack(slopes), rtol=1e-5)


@pytest.mark.slow
def test_a_layer_may_be_wider_than_the_input():
    weights = jnp.arange(1.0, 4.0)
    f = lambda x: jnp.tanh(checkpoint_name(x * weights, "y")).sum()
    x = jnp.full(3, 0.25, "float32")
    for rule in (igjax.rules.gauss_legendre(16), None):
        values = igjax.layer_conductance(f, "y", rule=rule)(x, 0.0).values
        assert values.dtype == "float64"
        np.testing.assert_allclose(values, np.tanh(x * weights), rtol=1e-6)
