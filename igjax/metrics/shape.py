"""What attributions look like: descriptions, not qualities.

Both are of absolute values, as in their definitions. A method may be sparse and wrong.
"""

import jax
import jax.numpy as jnp
import numpy as np

from igjax.metrics._features import vector

__all__ = ["complexity", "sparseness"]


def complexity(values):
    r"""Complexity: the entropy of the shares that features have of the absolute values.

    $$-\sum_i p_i \ln p_i, \qquad p_i = |a_i| \big/ \sum_j |a_j|$$

    From 0, one feature has all, to ln n, all have the same.

    Args:
        values: values of features, a pytree.

    Returns:
        A scalar; NaN where all values are 0.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> round(float(igjax.metrics.complexity(jnp.array([1.0, -1.0, 0.0]))), 4)
        0.6931

    References:
        Bhatt, Weller, Moura, "Evaluating and Aggregating Feature-based Model
        Explanations", IJCAI 2020.
    """
    return _complexity(values)


@jax.jit
def _complexity(values):
    shares = jnp.abs(vector(values))
    shares = shares / shares.sum()
    return -(shares * jnp.log(jnp.where(shares == 0, 1, shares))).sum()


def sparseness(values):
    r"""Sparseness: the Gini index of the absolute values.

    $$\sum_i \frac{2 i - n - 1}{n} \, \frac{|a|_{(i)}}{\sum_j |a_j|}$$

    with values in rising order: 0 where all are the same, 1 - 1/n where one has all.

    Args:
        values: values of features, a pytree.

    Returns:
        A scalar; NaN where all values are 0.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> float(igjax.metrics.sparseness(jnp.array([0.0, -4.0, 0.0, 0.0])))
        0.75

    References:
        Chalasani, Chen, Chowdhury, Jha, Wu, "Concise Explanations of Neural Networks using
        Adversarial Training", ICML 2020.
    """
    return _sparseness(values)


@jax.jit
def _sparseness(values):
    sizes = jnp.sort(jnp.abs(vector(values)))
    n = len(sizes)
    weights = jnp.asarray(2 * np.arange(1, n + 1) - n - 1, sizes.dtype) / n
    return weights @ sizes / sizes.sum()
