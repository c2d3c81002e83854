r"""How much do values move if x moves a little? Lower bounds, and so they are called.

The largest of some draws is no maximum: both numbers grow with the draws, and what a method
does between them is not known. Nor is less better: an explanation that never changes has 0.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from igjax import _checks
from igjax._program import compiled
from igjax._tree import flattener, parameter_dtype, strong
from igjax.methods._draws import of_one
from igjax.metrics._features import alike, half_width, mapped, vector

__all__ = ["LowerBound", "local_lipschitz", "max_sensitivity"]


class LowerBound(NamedTuple):
    """The largest of some draws, and their mean.

    Attributes:
        value: a lower bound of the maximum.
        mean: of the draws, which does not depend on their number.
        error: half-width of a 95% interval of the mean.

    Example:
        >>> import igjax
        >>> igjax.metrics.LowerBound(0.5, 0.2, 0.05).value
        0.5
    """

    value: Any
    mean: Any
    error: Any


def max_sensitivity(attribute, radius: float, *, draws: int = 32, chunk_size=None):
    r"""Max-sensitivity: how far values move, in proportion, for x moved by at most radius.

    $$\max_{\lVert \delta \rVert_\infty \le r}
      \frac{\lVert A(x + \delta) - A(x) \rVert_2}{\lVert A(x) \rVert_2}$$

    over draws of delta, evenly from the cube: a lower bound. A method that ignores f is the
    most robust one of all. Of an adaptive or random attribution it contains its error; the
    key is the same for all draws if it is bound.

    Args:
        attribute: `attribute(x, baseline, *args) -> Attribution`, of any method.
        radius: in the units of x.
        draws: how many, at least 2.
        chunk_size: how many attributions are computed side by side; None chooses.

    Returns:
        `measure(key, x, baseline, *args) -> LowerBound`.

    Raises:
        TypeError: if attribute is not callable or gives no `Attribution`, the key is none,
            or x no floating array.
        ValueError: if radius or draws make no sense.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> attribute = igjax.gradient(lambda x: (x**2).sum())
        >>> measure = igjax.metrics.max_sensitivity(attribute, 0.1)
        >>> bool(measure(jax.random.key(0), jnp.ones(3), None).value <= 0.1)
        True

    References:
        Yeh, Hsieh, Suggala, Inouye, Ravikumar, "On the (In)fidelity and Sensitivity of
        Explanations", NeurIPS 2019.
    """
    relative = lambda moved, change, here: _ratio(moved, here)
    return _largest("max_sensitivity", attribute, radius, draws, chunk_size, relative)


def local_lipschitz(attribute, radius: float, *, draws: int = 32, chunk_size=None):
    r"""The local Lipschitz constant of an attribution: the steepest change of its values.

    $$\max_{\lVert \delta \rVert_\infty \le r}
      \frac{\lVert A(x + \delta) - A(x) \rVert_2}{\lVert \delta \rVert_2}$$

    over draws of delta: a lower bound, in units of values for a unit of x, so that it
    compares methods on one model only. See `max_sensitivity`.

    Args:
        attribute: as in `max_sensitivity`.
        radius: as in `max_sensitivity`.
        draws: as in `max_sensitivity`.
        chunk_size: as in `max_sensitivity`.

    Returns:
        `measure(key, x, baseline, *args) -> LowerBound`.

    Raises:
        TypeError: as `max_sensitivity`.
        ValueError: as `max_sensitivity`.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> attribute = igjax.gradient(lambda x: (x**2).sum())
        >>> measure = igjax.metrics.local_lipschitz(attribute, 0.1)
        >>> round(float(measure(jax.random.key(0), jnp.ones(3), None).value), 3)
        2.0

    References:
        Alvarez-Melis, Jaakkola, "Towards Robust Interpretability with Self-Explaining
        Neural Networks", NeurIPS 2018.
    """
    steepness = lambda moved, change, here: _ratio(moved, change)
    return _largest("local_lipschitz", attribute, radius, draws, chunk_size, steepness)


def _ratio(moved, vector):
    moved, size = alike(moved, jnp.linalg.norm(vector))
    return moved / size


def _largest(caller, attribute, radius, draws, chunk_size, ratio):
    _checks.function(caller, "attribute", attribute)
    _checks.count(caller, "draws", draws, 2)
    _checks.chunk_size(caller, chunk_size)
    if not radius > 0:
        raise ValueError(f"{caller}: radius must be positive, got {radius}.")

    def measure(key, x, baseline, /, *args):
        _checks.key(caller, key)
        _checks.inputs(caller, x, x)
        x = strong(x)
        dtype = parameter_dtype(x)
        ravel, unravel = flattener(x, dtype)
        values_at = lambda x: vector(of_one(caller, attribute(x, baseline, *args)).values)
        here, start = values_at(x), ravel(x)

        def one(k):
            key_of_draw = jax.random.fold_in(key, k)
            change = jax.random.uniform(
                key_of_draw, start.shape, dtype, minval=-radius, maxval=radius
            )
            there = jax.tree.map(lambda a, b: a.astype(b.dtype), unravel(start + change), x)
            # As far as it was in fact, after rounding.
            moved = jnp.linalg.norm(values_at(there) - here)
            return ratio(moved, ravel(there) - start, here)

        found = mapped(one, draws, chunk_size)
        error = half_width(found.std(ddof=1), draws)
        return LowerBound(found.max(), found.mean(), error)

    return compiled.function(caller, measure)
