"""The catalogue itself: its closed forms agree with adaptive quadrature of the gradient."""

import jax
import numpy as np
import pytest
from scipy.integrate import quad_vec

from tests.problems import HARDNESS, PROBLEMS, TAGS, named, tagged

each = pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)


@each
def test_exact_values_agree_with_adaptive_quadrature_of_the_gradient(problem):
    x, start = problem.x, problem.baseline
    gradient = jax.jit(jax.grad(problem.f))

    def integrand(t):
        point = jax.tree.map(lambda x, b: b + t * (x - b), x, start)
        slopes = jax.tree.map(lambda g, x, b: (g * (x - b)).real, gradient(point), x, start)
        return np.concatenate([np.ravel(a) for a in jax.tree.leaves(slopes)])

    # From just above 0: where a gradient at the baseline is undefined. Kinks cost the
    # quadrature its order, so that it stops at the tolerance and not at rounding.
    value, error = quad_vec(integrand, 1e-13, 1.0, epsabs=1e-9, epsrel=1e-11)[:2]
    exact = np.concatenate([np.ravel(a) for a in jax.tree.leaves(problem.exact)])
    scale = np.abs(exact).max()
    assert error < 1e-8 * max(scale, 1)
    np.testing.assert_allclose(value, exact, rtol=1e-9, atol=1e-9 * scale)


@each
def test_exact_values_add_up_to_the_score_difference(problem):
    gap = problem.f(problem.x) - problem.f(problem.baseline)
    values = sum(np.sum(a) for a in jax.tree.leaves(problem.exact))
    scale = sum(np.abs(a).sum() for a in jax.tree.leaves(problem.exact))
    np.testing.assert_allclose(values, gap, rtol=0, atol=1e-13 * scale)


def test_names_are_unique():
    names = [p.name for p in PROBLEMS]
    assert len(set(names)) == len(names)


@each
def test_tags_are_known_and_one_says_how_hard_it_is(problem):
    assert problem.tags <= TAGS
    assert len(problem.tags & HARDNESS) == 1


def test_every_tag_is_used_and_finds_its_problems():
    assert set().union(*(p.tags for p in PROBLEMS)) == TAGS
    assert named("modulus") in tagged("complex", "degree 1")


@each
def test_shapes_and_dtypes_fit(problem):
    kinds = {a.dtype.kind for a in jax.tree.leaves(problem.x)}
    assert kinds == ({"c"} if "complex" in problem.tags else {"f"})
    shapes = [
        jax.tree.map(np.shape, tree)
        for tree in (problem.x, problem.baseline, problem.exact)
    ]
    assert shapes[0] == shapes[1] == shapes[2]
