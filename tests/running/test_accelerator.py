"""On an accelerator: the values of a CPU, the promise, and nothing that is for CPUs alone.

`pytest -m gpu` runs them where there is one. On a CPU the slow suite runs them against
itself, so that they stay runnable.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

import igjax
from igjax import perturbation, propagation
from igjax._program import blocks
from igjax._program.rewrites import for_device
from tests.registry import x64

pytestmark = [pytest.mark.gpu, pytest.mark.slow]

DRAW = np.random.default_rng(0)
IMAGE = DRAW.uniform(size=(12, 12, 3)).astype("float32")
KERNELS = [
    DRAW.normal(size=shape).astype("float32") / 3
    for shape in ((3, 3, 3, 8), (3, 3, 1, 8), (72, 1))
]
LAYOUT = ("NHWC", "HWIO", "NHWC")
GAUSS = igjax.rules.gauss_legendre(8)


def score(x, kernels):
    """A convolution, a depthwise one, a pool of maxima, and a product."""
    first, depthwise, last = kernels
    x = lax.conv_general_dilated(x[None], first, (1, 1), "SAME", dimension_numbers=LAYOUT)
    x = checkpoint_name(jnp.tanh(x), "first")
    x = lax.conv_general_dilated(
        x, depthwise, (2, 2), "SAME", feature_group_count=8, dimension_numbers=LAYOUT
    )
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return jnp.tanh(x.reshape(1, -1) @ last)[0, 0]


def keyed(method):
    return lambda *args: method(jax.random.key(0), *args)


CASES = {
    "integrated_gradients": lambda: igjax.integrated_gradients(score, rule=GAUSS),
    "input_x_gradient": lambda: igjax.input_x_gradient(score),
    "guided": lambda: igjax.guided_integrated_gradients(score, steps=5),
    "layer_conductance": lambda: igjax.layer_conductance(score, "first", rule=GAUSS),
    "smooth": lambda: keyed(igjax.smooth(igjax.gradient(score))),
    "deeplift": lambda: propagation.deeplift(score),
    "relevance": lambda: propagation.relevance(score),
    "shapley_values": lambda: keyed(perturbation.shapley_values(groups)),
}


def groups(x, kernels):
    """The score of five features, each of which dims a part of the image."""
    dimmed = jnp.asarray(IMAGE).at[:10].multiply(jnp.repeat(x, 2)[:, None, None])
    return score(dimmed, kernels)


@pytest.mark.parametrize("name", CASES)
def test_the_values_are_those_of_a_cpu(name):
    x = np.ones(5, "float32") if name == "shapley_values" else IMAGE
    with x64(False), jax.default_matmul_precision("highest"):
        got = CASES[name]()(x, 0.0, KERNELS)
        with jax.default_device(jax.devices("cpu")[0]):
            want = CASES[name]()(x, 0.0, KERNELS)
    assert got.values.devices() <= set(jax.devices())
    scale = float(np.abs(want.values).max())
    np.testing.assert_allclose(got.values, want.values, atol=1e-4 * scale)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_promise_is_kept(dtype):
    given = [jnp.asarray(DRAW.normal(size=n), dtype) for n in ((32, 20), (20, 64), (64,))]
    f = lambda x, w, v: jax.nn.relu(x @ w) @ v
    explain = jax.jit(jax.vmap(igjax.integrated_gradients(f), (0, None, None, None)))
    with x64(False):
        found = explain(given[0], jnp.zeros(20, dtype), *given[1:])
    xs, w, v = (np.asarray(a, float) for a in given)
    t = (np.arange(4000) + 0.5) / 4000
    active = (t[:, None, None] * (xs @ w)) > 0
    exact = xs * np.einsum("tbh,dh,h->bd", active / 4000, w, v)
    off = np.abs(np.asarray(found.values, float) - exact).sum(1) / np.abs(exact).sum(1)
    assert (off[np.asarray(found.converged)] <= 0.01).all()
    assert found.converged.all() or dtype == "bfloat16"


def test_what_is_for_cpus_is_for_cpus_alone():
    assert (for_device(score) is score) == (jax.default_backend() != "cpu")
    assert blocks.memory() > 1 << 30
