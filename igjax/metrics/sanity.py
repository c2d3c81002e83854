r"""Do the values depend on what the model has learned? Randomization of its parameters.

Parameters are permuted within each array, which keeps their distribution, and attributions
before and after are compared. A method whose values stay as they were does not explain the
model; one whose values change may still be wrong. Layers are given from the output down:
cascading, one after the other and each on top of those before, leaves the lower layers
intact for longest, and with them whatever they do to the input; so the order decides much
of what is seen, and each layer alone (`cascading=False`) is the other half.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from igjax import _checks
from igjax._program import compiled
from igjax.methods._draws import of_one
from igjax.metrics._features import half_width
from igjax.metrics.ranking import spearman

__all__ = ["Randomization", "randomization", "randomized"]


def randomized(key, parameters, part: str = ""):
    """Parameters with the entries of some of their arrays in random order.

    Args:
        key: a random key.
        parameters: a pytree: of Flax, NNX (`nnx.split`), Equinox, or a dict.
        part: arrays are permuted whose path, as `jax.tree_util.keystr` writes it, has this
            in it; "" all.

    Returns:
        A pytree like parameters.

    Raises:
        TypeError: if the key is none.
        ValueError: if no floating array has such a path.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> parameters = {"layer": jnp.arange(6.0).reshape(2, 3), "head": jnp.ones(2)}
        >>> found = igjax.metrics.randomized(jax.random.key(0), parameters, "layer")
        >>> float(found["layer"].sum()), found["layer"].shape
        (15.0, (2, 3))
    """
    _checks.key("randomized", key)
    leaves, structure = jax.tree_util.tree_flatten_with_path(parameters)
    chosen = [part in jax.tree_util.keystr(path) and _floating(a) for path, a in leaves]
    if not any(chosen):
        names = [jax.tree_util.keystr(path) for path, a in leaves if _floating(a)]
        raise ValueError(
            f"randomized: part must be in the path of an array, got {part!r}. There are "
            f"{', '.join(names)}."
        )
    places = tuple(i for i, taken in enumerate(chosen) if taken)
    permuted = iter(_permuted(key, [leaves[i][1] for i in places], places))
    return structure.unflatten(
        [
            next(permuted) if taken else a
            for taken, (_, a) in zip(chosen, leaves, strict=True)
        ]
    )


class Randomization(NamedTuple):
    """How alike attributions are before and after, for each layer.

    Attributes:
        value: (layers,), the mean similarity over draws.
        error: (layers,), half-widths of its 95% intervals.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> igjax.metrics.Randomization(jnp.array([0.9, 0.1]), jnp.zeros(2)).value.shape
        (2,)
    """

    value: Any
    error: Any


def randomization(
    attribute,
    layers: Sequence[str],
    *,
    similarity=spearman,
    cascading: bool = True,
    draws: int = 8,
):
    """The parameter randomization test: how alike values stay as layers are randomized.

    Args:
        attribute: `attribute(x, baseline, parameters, *args) -> Attribution`.
        layers: for `randomized`, parts of paths, from the output down.
        similarity: `similarity(one, other) -> scalar`, of values. With signs: absolute
            values look alike where signs have turned.
        cascading: True randomizes each layer on top of those before it; False each alone.
        draws: how many random orders there are for each layer, at least 2.

    Returns:
        `measure(key, x, baseline, parameters, *args) -> Randomization`.

    Raises:
        TypeError: if attribute or similarity is not callable, or the key is none.
        ValueError: if there is no layer, no array of its name, or draws are too few.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> f = lambda x, p: jnp.tanh(x @ p["in"]) @ p["out"]
        >>> parameters = {"in": jnp.cos(jnp.arange(32.0)).reshape(8, 4), "out": jnp.ones(4)}
        >>> measure = igjax.metrics.randomization(igjax.gradient(f), ["in"])
        >>> found = measure(jax.random.key(0), jnp.ones(8), None, parameters)
        >>> bool(found.value[0] < 0.9)
        True

    References:
        Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim, "Sanity Checks for Saliency Maps",
        NeurIPS 2018.
        Hedstrom et al., "A Fresh Look at Sanity Checks for Saliency Maps", 2024.
    """
    caller = "randomization"
    _checks.function(caller, "attribute", attribute)
    _checks.function(caller, "similarity", similarity)
    _checks.count(caller, "draws", draws, 2)
    if not layers:
        raise ValueError(f"{caller}: layers must be parts of paths, got none.")

    def measure(key, x, baseline, parameters, /, *args):
        _checks.key(caller, key)
        values_of = lambda p: of_one(caller, attribute(x, baseline, p, *args)).values
        before = values_of(parameters)

        def of_draw(k):
            found, changed = [], parameters
            for i, part in enumerate(layers):
                key_of_layer = jax.random.fold_in(jax.random.fold_in(key, k), i)
                start = changed if cascading else parameters
                changed = randomized(key_of_layer, start, part)
                found.append(similarity(before, values_of(changed)))
            return jnp.stack(found)

        found = jax.lax.map(of_draw, jnp.arange(draws, dtype=jnp.int32))
        return Randomization(found.mean(0), half_width(found.std(0, ddof=1), draws))

    return compiled.function(caller, measure)


def _floating(a) -> bool:
    return _checks.is_array(a) and jnp.issubdtype(jnp.result_type(a), jnp.floating)


@functools.partial(jax.jit, static_argnums=2)
def _permuted(key, arrays, places):
    """The entries of each array in random order, by a key for its place."""
    order = lambda a, i: jax.random.permutation(jax.random.fold_in(key, i), a.ravel())
    return [order(a, i).reshape(a.shape) for a, i in zip(arrays, places, strict=True)]
