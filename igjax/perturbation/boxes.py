"""The door for functions that JAX cannot trace: scikit-learn, a remote model, any Python.

Such a function becomes one that JAX can call, though not differentiate, and all of this
wing takes it: the masks are JAX's, the scores are whatever comes back.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from igjax import _checks
from igjax._tree import wide

__all__ = ["black_box"]


def black_box(g: Any):
    r"""A function of one example, from any Python function of rows of examples.

    $$f(x) = g([x])_0$$

    Under `jax.vmap`, which is how this wing asks for scores, g is called once for a whole
    block of rows; so give a large `chunk_size` where a call is expensive. What it returns
    has no derivative: methods that take gradients raise. The function is called from
    inside of compiled programs (`jax.pure_callback`): it must be pure, and it must not
    call JAX.

    Args:
        g: `g(rows, *args) -> scores`, a function of NumPy arrays: a pytree like x, each
            leaf with an axis of rows in front, the same for args; it returns one number
            a row, of shape (rows,).

    Returns:
        `f(x, *args) -> scalar`, of the widest dtype of x, float32 at the least. Scores of
        another shape are an error when f is run.

    Raises:
        TypeError: if g is not callable.

    Example:
        >>> import igjax, jax, numpy as np
        >>> def forest(rows):  # as model.predict_proba(rows)[:, 1]
        ...     return np.where(rows[:, 0] > 0.5, rows[:, 1], 0.0)
        >>> f = igjax.perturbation.black_box(forest)
        >>> attribute = igjax.perturbation.shapley_values(f)
        >>> attribute(jax.random.key(0), np.array([1.0, 2.0], "float32"), 0.0).values
        Array([1., 1.], dtype=float32)
    """
    _checks.function("black_box", "g", g)

    def f(x, /, *args):
        leaves, structure = jax.tree.flatten((x, args))
        axes = [jnp.ndim(a) for a in leaves]
        dtype = np.result_type(*(wide(a.dtype) for a in jax.tree.leaves(x)))

        def call(*leaves):
            lead = np.shape(leaves[0])[: np.ndim(leaves[0]) - axes[0]]
            count = int(np.prod(lead))
            pairs = zip(leaves, axes, strict=True)
            rows = [
                np.asarray(a).reshape(count, *np.shape(a)[np.ndim(a) - n :])
                for a, n in pairs
            ]
            given, others = structure.unflatten(rows)
            scores = np.asarray(g(given, *others), dtype)
            if scores.shape != (count,):
                raise ValueError(
                    f"black_box: g must return one number a row, shape ({count},), got "
                    f"{scores.shape}. Take one column of probabilities."
                )
            return scores.reshape(lead)

        like = jax.ShapeDtypeStruct((), dtype)
        return jax.pure_callback(call, like, *leaves, vmap_method="broadcast_all")

    return f
