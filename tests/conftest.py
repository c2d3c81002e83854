"""Tests run in float64 and broadcast nothing by accident; doctests run as users do."""

import itertools

import hypothesis
import jax
import pytest

# No test asserts how long anything takes.
hypothesis.settings.register_profile("igjax", deadline=None)
hypothesis.settings.load_profile("igjax")


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
