"""Arrays spread over meshes: in a process that has four devices, and in two of them."""

import pytest

from tests.running.processes import agree, passes_on


@pytest.mark.slow
@pytest.mark.parametrize("cases", ["on_meshes", "zoo_on_meshes"])
def test_on_four_devices(cases):
    passes_on(4, cases)


PROCESS = """
import sys
import jax, jax.numpy as jnp, numpy as np, igjax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

jax.config.update("jax_enable_x64", True)
address, process = sys.argv[1], int(sys.argv[2])
jax.distributed.initialize(address, num_processes=2, process_id=process)
assert jax.device_count() == 4 and jax.local_device_count() == 2

f = lambda x, w: jnp.sum(jnp.tanh(x * w) * jnp.sin(w))
xs, w = np.linspace(-2, 3, 24).reshape(8, 3), np.array([1.0, -2.0, 9.0])
rules = igjax.rules.gauss_legendre(6), igjax.rules.adaptive()
wanted = [
    jax.vmap(igjax.integrated_gradients(f, rule=rule), (0, None, None))(xs, 0.0, w)
    for rule in rules
]

def check(got, want):
    for a, b in zip(*map(jax.tree.leaves, (got, want))):
        for shard in a.addressable_shards:
            part = np.asarray(b)[shard.index]
            np.testing.assert_allclose(np.asarray(shard.data), part, 1e-12, 1e-13)

for kind in (AxisType.Explicit, AxisType.Auto):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(kind,))
    half = xs[4 * process : 4 * process + 4]  # each process brings its own
    joined = jax.make_array_from_process_local_data(NamedSharding(mesh, P("data")), half)
    for rule, want in zip(rules, wanted):
        attribute = igjax.integrated_gradients(f, rule=rule)
        result = jax.jit(jax.vmap(attribute, (0, None, None)))(joined, 0.0, w)
        check(result, want)
        if kind is AxisType.Explicit:
            assert sum(len(s.data) for s in result.values.addressable_shards) == 4
print("agreed")
"""


@pytest.mark.slow
def test_two_processes_agree_with_one():
    agree(PROCESS)
