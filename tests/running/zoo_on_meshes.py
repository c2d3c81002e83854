"""The networks of every framework, a batch of theirs spread over devices.

Run by `test_meshes` in a process that has four devices. Expected values are those of one
device and of plain JAX.
"""

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec as P

import igjax
from tests.frameworks import zoo

RULE = igjax.rules.gauss_legendre(12)
BATCH = np.linspace(-1, 1, 8, dtype="float32")[:, None] * zoo.INPUTS["table"]


@pytest.fixture(autouse=True)
def _as_users_have_it():
    with zoo.as_users_have_it():
        yield


def explained(framework, spread):
    """Values of the batch, and how many devices hold them."""
    if framework == "keras" and not zoo.HAS_KERAS:
        pytest.skip("Keras is not installed")
    model = zoo.model(framework, "table")
    f = lambda x, *args: model.f(x, *args)[0]
    attribute = igjax.integrated_gradients(f, rule=RULE)
    axes = (0, None, *(None for _ in model.args))
    values = spread(attribute, axes)(BATCH, 0.0, *model.args).values
    return np.asarray(values), len(values.sharding.device_set)


def on_one(attribute, axes):
    return jax.jit(jax.vmap(attribute, axes))


def four_devices():
    return jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))


def by_sharded(attribute, axes):
    return igjax.sharded(attribute, four_devices(), axes)


def by_jax(attribute, axes):
    put = lambda xs: jax.device_put(xs, NamedSharding(four_devices(), P("data")))
    mapped = on_one(attribute, axes)
    return lambda xs, *args: mapped(put(xs), *args)


@pytest.mark.parametrize("spread", [by_sharded, by_jax])
@pytest.mark.parametrize("framework", zoo.FRAMEWORKS)
def test_a_batch_over_devices_is_that_of_one(framework, spread):
    want, _ = explained("jax", on_one)
    got, devices = explained(framework, spread)
    assert devices == 4
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * np.abs(want).max())
