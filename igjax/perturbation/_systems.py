"""Systems of equations with all their right sides in one call.

On CPUs jaxlib (0.10.2) waits forever where one program solves two batches of triangular
systems at once: each call waits for the threads that the other holds. Under `jax.vmap`
every system is a batch; so whoever has several right sides brings them here together.
"""

import jax
import jax.numpy as jnp
import numpy as np


def triangular(lower, *right) -> list:
    """The solutions of a lower triangular system for vectors and matrices."""
    return _in_one(lambda b: jax.scipy.linalg.solve_triangular(lower, b, lower=True), right)


def positive(matrix, *right) -> list:
    """The solutions of a positive definite system for vectors and matrices."""
    factor = jax.scipy.linalg.cho_factor(matrix)
    return _in_one(lambda b: jax.scipy.linalg.cho_solve(factor, b), right)


def _in_one(solve, right) -> list:
    widths = [np.prod(b.shape[1:], dtype=int) for b in right]
    solved = jnp.split(solve(jnp.column_stack(right)), np.cumsum(widths)[:-1], 1)
    return [a.reshape(b.shape) for a, b in zip(solved, right, strict=True)]
