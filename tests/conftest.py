"""Tests run in float64 and broadcast nothing by accident; doctests run as users do."""

import itertools
import os

import hypothesis
import jax
import pytest

# No test asserts how long anything takes.
hypothesis.settings.register_profile("igjax", deadline=None)
hypothesis.settings.load_profile("igjax")

# Compiling costs more than running what runs once; examples and notebooks take the programs
# that users get, and so does JAX 0.12, which has no more of the flag that saves most of it.
HASTE = "--xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false"


def pytest_configure():
    if jax.__version_info__ < (0, 12):
        os.environ.setdefault("XLA_FLAGS", HASTE)


@pytest.fixture(scope="package", autouse=True)
def _float64_without_rank_promotion():
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_numpy_rank_promotion", "raise")
    yield
    jax.config.update("jax_enable_x64", False)
    jax.config.update("jax_numpy_rank_promotion", "allow")


@pytest.fixture
def getkey():
    """`getkey()` returns a new key at every call, the same ones in every run."""
    seeds = itertools.count(2026)
    return lambda: jax.random.key(next(seeds))
