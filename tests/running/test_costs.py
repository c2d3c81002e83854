"""Costs told beforehand are those of closed forms, of XLA, and of what then runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax
from igjax._program import blocks
from igjax.integration import path_integral
from tests.registry import QUICKLY

WIDTH = 256


def mlp(x, params):
    """Two square layers behind a tanh, so that no affine prefix can be evaluated once."""
    first, second, last = params
    return jnp.tanh(jnp.tanh(jnp.tanh(x) @ first) @ second) @ last


PRODUCTS = 2 * WIDTH * WIDTH * 2 + 2 * WIDTH  # flops of the products of one forward pass
POINT = jax.ShapeDtypeStruct((WIDTH,), "float32")
PARAMS = (
    jax.ShapeDtypeStruct((WIDTH, WIDTH), "float32"),
    jax.ShapeDtypeStruct((WIDTH, WIDTH), "float32"),
    POINT,
)
# How many flops are counted needs no optimized program.
quick = lambda function: jax.jit(function, compiler_options=QUICKLY)


def cost_of(rule, function=lambda attribute: attribute, x=POINT):
    attribute = igjax.integrated_gradients(mlp, rule=rule)
    return igjax.cost(quick(function(attribute)), x, 0.0, PARAMS)


def flops(cost) -> tuple[float, float]:
    assert cost.flops is not None
    return cost.flops


def close(got, want, rtol):
    np.testing.assert_allclose(got, want, rtol=rtol)


@pytest.mark.parametrize("n", [20, 64])
def test_flops_of_a_fixed_rule_are_those_of_its_gradients(n):
    known = cost_of(igjax.rules.gauss_legendre(n))
    assert known.evaluations == (n, n)
    assert known.forwards == 2
    # Each gradient is a forward and a backward pass; the product with `last` needs no
    # forward pass. Tanh and the like are 3% of a network of this width.
    count = -(-n // blocks.CHUNK["cpu"][1])
    padded = count * -(-n // count)
    close(flops(known), 2 * [(2 * padded + 2) * PRODUCTS], rtol=0.03)


def test_a_batch_costs_its_examples():
    rule = igjax.rules.gauss_legendre(10)
    batch = jax.ShapeDtypeStruct((12, WIDTH), "float32")
    vmapped = lambda attribute: jax.vmap(attribute, (0, None, None))
    known = cost_of(rule, vmapped, batch)
    one = cost_of(rule)
    assert known.evaluations == (10, 10)  # of each example
    close(flops(known), np.multiply(12, flops(one)), rtol=1e-3)


def test_a_program_without_loops_is_what_xla_counts():
    attribute = igjax.integrated_gradients(mlp, rule=igjax.rules.gauss_legendre(8))
    run = jax.jit(attribute)
    counted = run.lower(POINT, 0.0, PARAMS).compile().cost_analysis()
    assert counted is not None
    close(flops(igjax.cost(run, POINT, 0.0, PARAMS))[0], counted["flops"], rtol=0.03)


def test_an_affine_prefix_is_counted_once():
    f = lambda x, w: jnp.sum(jnp.tanh(x @ w))
    args = jax.ShapeDtypeStruct((2000,), "float32"), 0.0
    weights = jax.ShapeDtypeStruct((2000, 20), "float32")
    attribute = igjax.integrated_gradients(f, rule=igjax.rules.gauss_legendre(100))
    known = igjax.cost(attribute, *args, weights)
    product = 2 * 2000 * 20
    # Forward at both ends, twice, and six sums of gradients pulled back; no 200 products.
    assert 8 * product < flops(known)[0] < 14 * product


@pytest.mark.slow
def test_flops_of_the_adaptive_rule_go_from_one_panel_to_the_budget():
    budget = 150
    known = cost_of(igjax.rules.adaptive(max_evaluations=budget))
    assert known.evaluations == (15, budget)
    assert known.forwards == 58
    # The rule itself costs something: about a hundredth of these gradients for each.
    least, most = ((2 * n + 58) * PRODUCTS for n in (15, budget))
    assert least < flops(known)[0] < 1.2 * least
    assert most < flops(known)[1] < 1.2 * most


@pytest.mark.slow
def test_the_adaptive_rule_in_a_batch_lies_between_all_easy_and_all_hard():
    budget, examples = 150, 6
    batch = jax.ShapeDtypeStruct((examples, WIDTH), "float32")
    vmapped = lambda attribute: jax.vmap(attribute, (0, None, None))
    known = cost_of(igjax.rules.adaptive(max_evaluations=budget), vmapped, batch)
    forward = examples * 58 * PRODUCTS
    # Four panels lie side by side on a CPU: six examples fill two chunks, one of them
    # half, and in each generation of the worst case three lanes may be idle.
    least = forward + 2 * 4 * 15 * 2 * PRODUCTS
    most = forward + (examples * budget + 10 * 3 * 15) * 2 * PRODUCTS
    assert least < flops(known)[0] < 1.2 * least
    assert most < flops(known)[1] < 1.2 * most


@pytest.mark.slow
def test_evaluations_told_are_those_of_the_result():
    f = lambda x: jnp.sum(jnp.sin(3 * x) ** 2)
    x = np.linspace(-2, 2, 5)
    for rule in (igjax.rules.midpoint(7), igjax.rules.adaptive(1e-3)):
        attribute = igjax.integrated_gradients(f, rule=rule)
        known, result = igjax.cost(attribute, x, 0.0), attribute(x, 0.0)
        assert known.evaluations is not None
        least, most = known.evaluations
        assert least <= result.evaluations <= most
        assert known.forwards == result.forwards


def test_attributions_in_loops_and_side_by_side_add_up():
    first = igjax.integrated_gradients(mlp, rule=igjax.rules.midpoint(5))
    second = igjax.integrated_jacobian(lambda x: jnp.sin(x), rule=igjax.rules.midpoint(3))

    def run(xs, params):
        rows = jax.lax.map(lambda x: first(x, 0.0, params).values, xs)
        return rows, second(xs[0], 0.0).values

    known = igjax.cost(run, jax.ShapeDtypeStruct((4, WIDTH), "float32"), PARAMS)
    assert known.evaluations == (4 * 5 + 3,) * 2
    assert known.forwards == 4 * 2 + 2


def test_a_derivative_goes_through_the_nodes_twice():
    rule = igjax.rules.midpoint(20)
    attribute = igjax.integrated_gradients(mlp, rule=rule)
    loss = lambda params, x: jnp.sum(attribute(x, 0.0, params).values ** 2)
    one, both = (igjax.cost(quick(g), PARAMS, POINT) for g in (loss, jax.grad(loss)))
    assert both.evaluations == (40, 40)
    # The way back is at least as long as the way there, and not three times as long.
    assert 2 * flops(one)[0] < flops(both)[0] < 4 * flops(one)[0]


def test_branches_cost_the_dearest_and_loops_all_turns():
    w = np.ones((WIDTH, WIDTH), np.float32)

    def run(x):
        x = jax.lax.cond(x[0] > 0, lambda x: x @ w @ w, lambda x: x @ w, x)
        return jax.lax.fori_loop(0, 7, lambda i, x: x @ w, x)

    close(flops(igjax.cost(run, POINT)), 2 * [9 * 2 * WIDTH * WIDTH], rtol=0.01)


def test_static_arguments_pass_through():
    f = lambda x, mode: jnp.sum(x) if mode == "sum" else jnp.nan
    attribute = igjax.integrated_gradients(f, rule=igjax.rules.midpoint(3))
    assert igjax.cost(attribute, np.ones(3), 0.0, "sum").evaluations == (3, 3)


def test_a_sharded_function_is_counted_for_each_device():
    rule = igjax.rules.gauss_legendre(4)
    mesh = jax.make_mesh((1,), ("batch",))
    shard = lambda attribute: igjax.sharded(attribute, mesh, (0, None, None))
    batch = jax.ShapeDtypeStruct((3, WIDTH), "float32")
    known = cost_of(rule, shard, batch)
    assert known.evaluations == (4, 4)
    close(flops(known), np.multiply(3, flops(cost_of(rule))), rtol=1e-3)


# Bytes.


def peak(n: int, batch: int = 1, chunk_size=10) -> int:
    attribute = igjax.integrated_gradients(
        mlp, rule=igjax.rules.midpoint(n), chunk_size=chunk_size
    )
    explain = jax.vmap(attribute, (0, None, None))
    xs = jax.ShapeDtypeStruct((batch, WIDTH), "float32")
    found = igjax.cost(explain, xs, 0.0, PARAMS).peak_bytes
    assert found is not None
    return found


def test_memory_does_not_grow_with_the_rule():
    few = peak(50)
    assert peak(1000) < 1.1 * few
    weights = 4 * (2 * WIDTH * WIDTH + WIDTH)
    assert weights < few < 1.5 * weights


def test_memory_grows_with_the_block():
    # A point of 256 examples keeps at least three layers of 256 numbers for the way back.
    layers = 256 * 3 * WIDTH * 4
    assert peak(20, 256, 20) - peak(20, 256, 1) > 0.9 * 19 * layers


# Blocks that fit.


def block(monkeypatch, megabytes: float, width: int, nodes=50, outputs=1, lanes=1) -> int:
    monkeypatch.setattr(blocks, "memory", lambda: int(megabytes * 2**20))
    f = lambda x: jnp.sum(jnp.tanh(x))
    path = lambda t: t * jnp.ones(width, "float32")
    return blocks.chunk(f, path, jnp.float32, nodes, outputs, lanes)


def test_a_block_takes_a_small_share_of_the_memory(monkeypatch):
    width = 1 << 16  # two or three values of a quarter of a MiB
    most = block(monkeypatch, 1e6, width)
    sizes = [block(monkeypatch, m, width) for m in (64, 256, 512, 1e5)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 1  # below what a CPU is fastest with, where more would not fit
    assert sizes[-1] == most
    for megabytes, size in zip((256, 512), sizes[1:3], strict=True):
        assert size == 1 or size * 2 * width * 4 <= megabytes * 2**20 * blocks.SHARE


def test_a_small_function_is_evaluated_in_equal_blocks(monkeypatch):
    assert block(monkeypatch, 1e4, 8, nodes=50) == 25
    assert block(monkeypatch, 1e4, 8, nodes=26) == 13
    assert block(monkeypatch, 1e4, 8, nodes=3) == 3


def test_gradients_of_many_outputs_at_a_node_count_for_many_nodes(monkeypatch):
    width = 1 << 16
    assert block(monkeypatch, 1e5, width, nodes=64) == 8
    assert block(monkeypatch, 1e5, width, nodes=64, outputs=4) == 2
    assert block(monkeypatch, 1e5, width, nodes=64, outputs=1000) == 1
    assert block(monkeypatch, 1e5, width, outputs=0) == 25


def test_the_examples_of_a_batch_share_a_block(monkeypatch):
    width = 1 << 14
    sizes = [block(monkeypatch, 1e5, width, 64, lanes=n) for n in (1, 2, 8, 64, 1000)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 16
    assert sizes[2] <= 5
    assert sizes[-1] == 1
    # Weights are read for all examples at once: a block need not have many nodes.
    wide = 1 << 20
    assert [block(monkeypatch, 1e5, wide, 64, lanes=n) for n in (1, 2, 4)] == [4, 2, 1]


def test_small_blocks_are_weighed_several_at_a_time():
    turns = [path_integral._turns(*sizes) for sizes in ((6, 50), (6, 32), (0, 3), (6, 1))]
    assert turns == [5, 4, 1, 1]


def peaks(around, batches, nodes=50) -> list:
    """Peak bytes of a batch of a model whose values at a node are 1.5 MiB."""
    f = lambda x, w: jnp.sum(jnp.sin(jnp.sin(jnp.tanh(x[:, None] * w[None]))))
    attribute = igjax.integrated_gradients(f, rule=igjax.rules.midpoint(nodes))
    w = jax.ShapeDtypeStruct((1024,), "float32")
    rows = [jax.ShapeDtypeStruct((n, 128), "float32") for n in batches]
    explain = around(attribute)
    return [igjax.cost(explain, x, 0.0, w).peak_bytes for x in rows]


def test_memory_under_vmap_is_that_of_one_block():
    seen = lambda attribute: jax.vmap(attribute, (0, None, None))
    one, four, sixteen = peaks(seen, (1, 4, 16))
    node = 128 * 1024 * 3 * 4  # three arrays of float32, if nothing is fused
    assert four < 1.5 * max(one, 4 * node)
    assert sixteen < 5 * four  # one node of each example: no block is smaller
    assert peaks(seen, (16,), 1000)[0] < 1.1 * sixteen
    if one > node:  # JAX 0.12 fuses all of it, and keeps no values at all
        hidden = lambda attribute: seen(jax.jit(attribute))
        assert peaks(hidden, (16,))[0] > 1.2 * sixteen


BATCHES = {
    "jit": ((6, 4), lambda explain: jax.jit(explain)),
    "twice": ((2, 3, 4), lambda explain: jax.vmap(explain, (0, None, None))),
    "gradient": (
        (6, 4),
        lambda explain: jax.grad(lambda x, *rest: explain(x, *rest).values.sum()),
    ),
}


@pytest.mark.parametrize("name", BATCHES)
def test_blocks_of_a_batch_change_no_values(name):
    shape, around = BATCHES[name]
    x, w = np.random.default_rng(0).normal(size=shape), np.arange(1.0, 5.0)
    f = lambda x, w: jnp.sum(jnp.tanh(x * w) ** 2)

    def values(chunk_size):
        rule = igjax.rules.gauss_legendre(16)
        attribute = igjax.integrated_gradients(f, rule=rule, chunk_size=chunk_size)
        found = around(jax.vmap(attribute, (0, None, None)))(x, 0.0, w)
        return jax.tree.leaves(found)

    for got, want in zip(values(None), values(5), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-9)


def test_a_huge_function_is_evaluated_point_by_point(monkeypatch):
    assert block(monkeypatch, 100, 1 << 26) == 1


def test_the_memory_of_this_machine_is_known():
    assert blocks.memory() > 2**28


@pytest.mark.parametrize("method", ["interactions", "smooth", "expected"])
def test_methods_that_go_by_no_rule_tell_no_evaluations(method):
    attribute = igjax.integrated_gradients(jnp.prod, rule=igjax.rules.midpoint(4))
    key, x = jax.random.key(0), jnp.ones(3)
    function, args = {
        "interactions": (igjax.integrated_hessians(jnp.prod), (x, 0.0)),
        "smooth": (igjax.smooth(attribute, draws=8), (key, x, 0.0)),
        "expected": (igjax.expected(attribute), (key, x, jnp.zeros((5, 3)))),
    }[method]
    told = igjax.cost(function, *args)
    assert told.evaluations is told.forwards is None
    assert flops(told)[0] > 0
