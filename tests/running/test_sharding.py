"""Many devices: misuse here, and the results in processes that have many devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax
from tests.running.processes import agree, passes_on

ATTRIBUTE = igjax.integrated_gradients(jnp.sum, rule=igjax.rules.midpoint(1))


@pytest.mark.slow
def test_on_eight_devices():
    passes_on(8, "on_eight_devices")


PROCESS = """
import sys
import jax, jax.numpy as jnp, numpy as np, igjax

jax.config.update("jax_enable_x64", True)
address, process = sys.argv[1], int(sys.argv[2])
jax.distributed.initialize(address, num_processes=2, process_id=process)
assert jax.device_count() == 4 and jax.local_device_count() == 2

f = lambda x, w: jax.nn.sigmoid(w @ x) + jnp.sum(jnp.sin(x))
xs, w = np.linspace(-2, 3, 24).reshape(8, 3), np.array([1.0, -2.0, 9.0])

def own(array):  # the parts of a global array that lie here, by their rows
    return [(shard.index, np.asarray(shard.data)) for shard in array.addressable_shards]

def check(global_result, local_result):
    for got, want in zip(*map(jax.tree.leaves, (global_result, local_result))):
        for index, part in own(got):
            np.testing.assert_allclose(part, np.asarray(want)[index], 1e-12, 1e-13)

mesh = jax.make_mesh((4,), ("devices",))
for rule in (igjax.rules.gauss_legendre(10), igjax.rules.adaptive()):
    attribute = igjax.integrated_gradients(f, rule=rule)
    want = jax.vmap(attribute, (0, None, None))(xs, 0.0, w)
    explain = igjax.sharded(attribute, mesh, (0, None, None))
    check(explain(xs, 0.0, w), want)  # the whole batch, known to both processes
    # Each process brings its own half.
    spread = jax.NamedSharding(mesh, jax.P("devices"))
    half = xs[4 * process : 4 * process + 4]
    joined = jax.make_array_from_process_local_data(spread, half)
    result = explain(joined, 0.0, w)
    check(result, want)
    assert sum(len(part) for _, part in own(result.values)) == 4

rule = igjax.rules.gauss_legendre(10)
want = igjax.integrated_gradients(f, rule=rule)(xs[0], 0.0, w)
split = igjax.integrated_gradients(f, rule=igjax.rules.split(rule, "devices"))
check(igjax.sharded(split, mesh, None)(xs[0], 0.0, w), want)
print("agreed")
"""


@pytest.mark.slow
def test_two_processes_agree_with_one():
    agree(PROCESS)


def one_device():
    return jax.make_mesh((1,), ("batch",))


def test_one_device_is_a_mesh_too():
    got = igjax.sharded(ATTRIBUTE, one_device(), (0, None))(np.ones((3, 2)), 0.0)
    np.testing.assert_allclose(got.values, np.ones((3, 2)), rtol=1e-12)


def test_batches_of_different_sizes_are_refused():
    explain = igjax.sharded(ATTRIBUTE, one_device(), 0)
    with pytest.raises(ValueError, match=r"batches of one size.*\[2, 3\]"):
        explain(np.ones((3, 2)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="None there"):
        explain(np.ones((3, 2)), 0.0)
    with pytest.raises(ValueError, match="at least 1"):
        explain(np.ones((0, 2)), np.ones((0, 2)))


def test_axes_that_do_not_fit_are_refused():
    explain = igjax.sharded(ATTRIBUTE, one_device(), (0, None, None))
    with pytest.raises(ValueError, match="in_axes must fit the 2 arguments"):
        explain(np.ones((3, 2)), 0.0)
    with pytest.raises(ValueError, match="in_axes must name an axis"):
        igjax.sharded(ATTRIBUTE, one_device(), (2, None))(np.ones((3, 2)), 0.0)


def test_a_mesh_must_be_one_and_have_the_axis():
    with pytest.raises(TypeError, match=r"mesh must be a jax\.sharding\.Mesh"):
        igjax.sharded(ATTRIBUTE, jax.devices())
    with pytest.raises(ValueError, match=r"must be of the mesh, .*'batch'"):
        igjax.sharded(ATTRIBUTE, one_device(), axis_name="nodes")
    with pytest.raises(TypeError, match="attribute must be callable"):
        igjax.sharded(3, one_device())


def test_a_split_rule_asks_for_its_axis():
    rule = igjax.rules.split(igjax.rules.midpoint(4), "nodes")
    attribute = igjax.integrated_gradients(jnp.sum, rule=rule)
    with pytest.raises(ValueError, match=r"'nodes' must be bound.*igjax\.sharded"):
        attribute(np.ones(2), 0.0)
    with pytest.raises(ValueError, match="'nodes' must be bound"):
        igjax.sharded(attribute, one_device(), (0, None))(np.ones((3, 2)), 0.0)


def test_only_fixed_rules_are_split():
    with pytest.raises(TypeError, match="must be a fixed rule"):
        igjax.rules.split(igjax.rules.adaptive(), "nodes")  # pyright: ignore[reportArgumentType]


def test_a_split_rule_is_another_rule():
    rule = igjax.rules.midpoint(4)
    split = igjax.rules.split(rule, "nodes")
    assert split != rule
    assert split == igjax.rules.split(igjax.rules.midpoint(4), "nodes")
    assert hash(split) != hash(rule)
    assert repr(split) == "split(midpoint(4), 'nodes')"
    assert repr(jax.tree.map(lambda a: a, split)) == "Rule(4 nodes, split over 'nodes')"
