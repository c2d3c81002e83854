"""Every public function works under the settings that people debug and serve with.

Strict dtypes and ranks, a search for NaN or leaks, no transfers to the device but those of
the caller, Python's `-O` and `-W error`; and a batch may be empty.
"""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax
from tests.running.processes import environment
from tests.settings import (
    ADAPTIVE,
    CASES,
    GAUSS,
    SETTINGS,
    arguments,
    score,
    together,
    troubles,
)

# One call of each family; the others are slow tests.
QUICK = {
    *("integrated_gradients, fixed", "integrated_gradients, adaptive", "gradient"),
    *("guided", "hessian_product", "deeplift", "shapley_values", "grouped, fixed"),
    "aggregate",
    *("layer_conductance, fixed", "smooth with a key", "expected of some rows", "within"),
    *("path staircase", "baselines.compare", "converged", "example", "select"),
    *("ablation", "deletion", "spearman"),
    *("mixed: integrated_gradients", "wide: expected_gradients", "report of a batch"),
}
# They take numbers of the caller to the device, or files, meshes and callbacks; all of
# it is said to JAX.
EXPLICIT = {
    *("within", "example", "convergence", "sharded", "attribute_batches"),
    *("baselines.zeros", "baselines.constant", "baselines.repeated"),
    *("path polyline", "path staircase", "paired", "black_box"),
}


@pytest.fixture(scope="module", autouse=True)
def _compiled_quickly():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def given():
    return arguments()


def quickly(names, quick):
    """The names as parameters, slow tests but for the quick ones."""
    slow = pytest.mark.slow
    return [pytest.param(n, marks=() if n in quick else slow) for n in names]


@pytest.mark.parametrize("name", quickly(CASES, QUICK))
def test_settings_change_nothing_and_nothing_is_moved_unasked(name, given):
    explicit = name in EXPLICIT
    with jax.transfer_guard("allow" if explicit else "disallow"):
        want = jax.block_until_ready(CASES[name]()(given))
    run = CASES[name]()
    with together(SETTINGS):
        got = run(given)
        with jax.transfer_guard("disallow" if explicit else "disallow_explicit"):
            again = jax.block_until_ready(run(given))  # tables were moved once
    assert troubles(got, name) == troubles(again, name) == []
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        if hasattr(a, "dtype"):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def run_python(*options_and_names):
    flags = [a for a in options_and_names if a.startswith("-")]
    names = [a for a in options_and_names if not a.startswith("-")]
    return subprocess.run(
        [sys.executable, *flags, "-m", "tests.settings", *names],
        capture_output=True,
        text=True,
        env=environment(),
    )


def test_python_without_assertions_and_with_warnings_as_errors():
    done = run_python("-O", "-Werror", "layer_conductance, fixed", "cost")
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_all_of_python_without_assertions_and_with_warnings_as_errors():
    done = run_python("-O", "-Werror")
    assert done.returncode == 0, done.stderr[-2000:]


METHODS = {
    "fixed": lambda: igjax.integrated_gradients(score, rule=GAUSS),
    "adaptive": lambda: igjax.integrated_gradients(score, rule=ADAPTIVE),
    "jacobian": lambda: igjax.integrated_jacobian(score, rule=ADAPTIVE),
    "gradient": lambda: igjax.gradient(score),
    "guided": lambda: igjax.guided_integrated_gradients(score, steps=3),
    "hessians": lambda: igjax.integrated_hessians(score, nodes=3),
    "layers": lambda: igjax.layer_conductance(score, ["y", "z"], rule=GAUSS),
    "layer, adaptive": lambda: igjax.layer_conductance(score, "y", rule=ADAPTIVE),
    "shapley": lambda: lambda *ends: shapley(KEY(), *ends),
    "smooth": lambda: lambda *ends: igjax.smooth(igjax.gradient(score))(KEY(), *ends),
    "profile": lambda: igjax.diagnostics.path_profile(score, rule=ADAPTIVE, points=3),
}
KEY = lambda: jax.random.key(0)
shapley = igjax.perturbation.shapley_values(score)


@pytest.mark.parametrize("jitted", quickly([True, False], [True]), ids=["jit", "vmap"])
@pytest.mark.parametrize("name", quickly(METHODS, ["fixed", "adaptive"]))
def test_an_empty_batch_has_empty_results(name, jitted):
    explain = jax.vmap(METHODS[name](), (0, None))
    explain = jax.jit(explain) if jitted else explain
    got = explain(jnp.zeros((0, 3)), jnp.zeros(3))
    want = jax.eval_shape(explain, jnp.zeros((2, 3)), jnp.zeros(3))
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert (a.shape, a.dtype) == ((0, *b.shape[1:]), b.dtype)
