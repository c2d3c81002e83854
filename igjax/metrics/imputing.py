r"""ROAD: pixels leave in the order of their values, and are imputed from their neighbours.

A pixel that is put to a baseline shows where the mask was, and a model may react to that.
Here what is taken away is put back by a linear interpolation, with noise, so that the mask
itself can hardly be seen. What a smooth image loses so is little: an attribution that
points at edges wins by it.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.sparse.linalg import cg

from igjax import _checks
from igjax._program import compiled
from igjax._tree import strong, widen
from igjax.metrics._features import fitted, mapped, score
from igjax.metrics.curves import compared, ranks

__all__ = ["imputed", "road"]

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
_NEAR, _DIAGONAL = 1 / 6, 1 / 12  # weights of the eight neighbours, as in the paper
_STEPS = [
    (i, j, _NEAR if i == 0 or j == 0 else _DIAGONAL)
    for i in (-1, 0, 1)
    for j in (-1, 0, 1)
    if (i, j) != (0, 0)
]


def imputed(key, x, missing, *, noise: float = 0.01, tolerance: float = 1e-5):
    r"""An image whose missing pixels are noisy means of their eight neighbours.

    $$u_p = \frac{\sum_q w_{pq} u_q}{\sum_q w_{pq}} + \text{noise}$$

    for each missing p. Where the neighbours are missing themselves, all of these equations
    hold together; they
    are solved by conjugate gradients.

    Args:
        key: a random key.
        x: an image, (height, width, channels).
        missing: booleans, (height, width). Where all of a channel is missing it is 0.
        noise: deviation of what is added to each missing pixel, in units of x.
        tolerance: relative, of the solution.

    Returns:
        An image like x.

    Raises:
        TypeError: if the key is none.
        ValueError: if the shapes do not fit.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> ramp = jnp.arange(5.0)[:, None, None] * jnp.ones((1, 5, 1))
        >>> hole = jnp.zeros((5, 5), bool).at[1:4, 2].set(True)
        >>> filled = igjax.metrics.imputed(jax.random.key(0), ramp, hole, noise=0.0)
        >>> bool(jnp.abs(filled - ramp).max() < 1e-3)  # a linear image is not changed
        True

    References:
        Rong, Leemann, Borisov, Kasneci, Kasneci, "A Consistent and Efficient Evaluation
        Strategy for Attribution Methods", ICML 2022.
    """
    _checks.key("imputed", key)
    if np.ndim(x) != 3 or np.shape(missing) != np.shape(x)[:2]:
        raise ValueError(
            "imputed: x must be (height, width, channels) and missing (height, width), got "
            f"{np.shape(x)} and {np.shape(missing)}."
        )
    return _imputed(key, x, jnp.asarray(missing), noise, tolerance)


@partial(jax.jit, static_argnums=(3, 4))
def _imputed(key, x, missing, noise, tolerance):
    image, hole = widen(strong(x)), missing[..., None]
    there = _around(jnp.ones_like(image))
    known = jnp.where(hole, 0, image)
    # Symmetric, and zero outside of the hole: what cg can solve.
    apart = lambda u: jnp.where(hole, there * u - _around(jnp.where(hole, u, 0)), u)
    given = jnp.where(hole, _around(known), 0)
    count = (~missing).astype(image.dtype).sum()
    mean = known.sum((0, 1)) / jnp.maximum(1, count)
    start = jnp.where(hole, mean, 0)
    filled, _ = cg(apart, given, start, tol=tolerance, maxiter=sum(image.shape[:2]) * 4)
    noisy = filled + noise * jax.random.normal(key, image.shape, image.dtype)
    return jnp.where(hole, noisy, image).astype(x.dtype)


def _around(u):
    """The weighed sum of the eight neighbours of each pixel, as far as there are any."""
    wide, (height, width, _) = jnp.pad(u, ((1, 1), (1, 1), (0, 0))), u.shape
    at = lambda i, j: wide[1 + i : 1 + i + height, 1 + j : 1 + j + width]
    return sum((w * at(i, j) for i, j, w in _STEPS), jnp.zeros_like(u))


def road(
    f,
    *,
    shares=SHARES,
    noise: float = 0.01,
    ties: int = 4,
    orders: int = 16,
    chunk_size=None,
):
    r"""ROAD: the mean score while the most important pixels are imputed, most first.

    $$\frac{1}{|Q|} \sum_{q \in Q}
      f\bigl(x \text{ with the share } q \text{ of largest values imputed}\bigr)$$

    Low is good; of `-values` it is the order of least first, where high is good. No
    baseline has to be chosen, and orders by different masks agree better than by a
    constant baseline. But interpolation leaves the data as well, and takes little from
    what is smooth: a map of edges does well by it without knowing the model.

    Args:
        f: `f(x, *args) -> scalar`, of one image x, (height, width, channels).
        shares: of the pixels, rounded up to whole ones, below 1.
        noise: as in `imputed`.
        ties: how many times equal values are ordered at random, at least 2.
        orders: how many random orders are beside it, at least 4.
        chunk_size: how many scores are computed side by side; None chooses.

    Returns:
        `measure(key, values, x, *args) -> Curve`; values are like x, and added up over
        channels.

    Raises:
        TypeError: if f is not callable, the key none, or x no floating array.
        ValueError: if the values are not like x, x no image, or a number makes no sense.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> weights = jnp.zeros((6, 6, 1)).at[2, 3].set(1.0)
        >>> x = jax.random.uniform(jax.random.key(1), (6, 6, 1)).at[2, 3].set(9.0)
        >>> measure = igjax.metrics.road(lambda x: (weights * x).sum(), shares=(0.1, 0.5))
        >>> curve = measure(jax.random.key(0), weights * x, x)
        >>> bool(curve.value < 1 < curve.random)
        True

    References:
        Rong, Leemann, Borisov, Kasneci, Kasneci, "A Consistent and Efficient Evaluation
        Strategy for Attribution Methods", ICML 2022.
    """
    caller = "road"
    _checks.function(caller, "f", f)
    _checks.count(caller, "ties", ties, 2)
    _checks.count(caller, "orders", orders, 4)
    _checks.chunk_size(caller, chunk_size)
    if not len(shares) or not all(0 < share < 1 for share in shares):
        raise ValueError(f"{caller}: shares must be in (0, 1), got {shares}.")

    def measure(key, values, x, /, *args):
        _checks.key(caller, key)
        pixels, x = _pixels(caller, values, x), strong(x)
        cuts = np.ceil(np.asarray(shares) * len(pixels)).astype(int)
        of_order, of_noise = jax.random.split(key)
        orders_of = ranks(of_order, pixels, ties, orders)
        steps = jnp.asarray(cuts, jnp.int32)

        def one(k):
            gone = orders_of[k // len(cuts)] < steps[k % len(cuts)]
            noise_of = jax.random.fold_in(of_noise, k)
            point = _imputed(noise_of, x, gone.reshape(x.shape[:2]), noise, 1e-5)
            return score(f, point, args)

        scores = mapped(one, len(orders_of) * len(cuts), chunk_size)
        scores = scores.reshape(len(orders_of), len(cuts))
        return compared(scores.mean(1), scores, ties, cuts / len(pixels))

    return compiled.function(caller, measure)


def _pixels(caller: str, values, x):
    """The values of an image, added up over its channels, as a vector."""
    flat: Any = fitted(caller, values, x)
    if np.ndim(x) != 3:
        raise ValueError(
            f"{caller}: x must be (height, width, channels), got {np.shape(x)}."
        )
    return flat.reshape(np.shape(x)).sum(-1).ravel()
