r"""A number alone says little: beside it that of shuffled values, and of other methods.

Shuffled values have the same sizes and the wrong places; what a metric gives to them is its
zero. Methods are compared by differences on the same examples and draws, whose error is
that of the difference, and often much less than that of either.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from igjax import _checks
from igjax._program import compiled
from igjax._tree import flattener, parameter_dtype, strong
from igjax.metrics._features import half_width

__all__ = ["AgainstShuffles", "Paired", "against_shuffles", "paired"]


class AgainstShuffles(NamedTuple):
    """A measure of values, beside the same of the values in random places.

    Attributes:
        measured: what the measure returned.
        mean: of its number over shuffles.
        spread: the standard deviation over them.
        chance: the share of shuffles that are at least as good, the values themselves
            counted as one: a p-value, never below 1 / (1 + shuffles).

    Example:
        >>> import igjax
        >>> igjax.metrics.AgainstShuffles(0.9, 0.1, 0.2, 0.03).chance
        0.03
    """

    measured: Any
    mean: Any
    spread: Any
    chance: Any


def against_shuffles(measure, *, shuffles: int = 32, low_is_good: bool = False):
    """Any measure of values, beside the same of the values in random places.

    All are measured with the same key: on the same draws.

    Args:
        measure: `measure(key, values, *args) -> result`, of this module; its number is
            `result.share` of an infidelity, else `result.value`, else the result itself.
        shuffles: how many, at least 2.
        low_is_good: True for deletion, sufficiency, infidelity.

    Returns:
        `compare(key, values, *args) -> AgainstShuffles`.

    Raises:
        TypeError: if measure is not callable, or the key none.
        ValueError: if shuffles are too few.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> w = jnp.arange(12.0)
        >>> deletion = igjax.metrics.deletion(lambda x: x @ w, steps=6)
        >>> compare = igjax.metrics.against_shuffles(deletion, low_is_good=True)
        >>> found = compare(jax.random.key(0), w, jnp.ones(12), 0.0)
        >>> round(float(found.chance), 3)  # no shuffle of 32 is as good
        0.03
    """
    caller = "against_shuffles"
    _checks.function(caller, "measure", measure)
    _checks.count(caller, "shuffles", shuffles, 2)

    def compare(key, values, /, *args):
        _checks.key(caller, key)
        values = strong(values)
        ravel, unravel = flattener(values, parameter_dtype(values))
        flat = ravel(values)

        def shuffled(k):
            places = jax.random.permutation(jax.random.fold_in(key, k), flat)
            return number(measure(key, unravel(places), *args))

        measured = measure(key, values, *args)
        found = jax.lax.map(shuffled, jnp.arange(shuffles, dtype=jnp.int32))
        mine = number(measured)
        good = found <= mine if low_is_good else found >= mine
        chance = (1 + good.astype(found.dtype).sum()) / (1 + shuffles)
        return AgainstShuffles(measured, found.mean(), found.std(ddof=1), chance)

    return compiled.function(caller, compare)


def number(measured):
    """The number of a measure: a share where there is one, else a value, or itself."""
    return getattr(measured, "share", getattr(measured, "value", measured))


class Paired(NamedTuple):
    """Methods on the same examples: their means, and those of their differences.

    Attributes:
        names: of the methods, k of them.
        means: (k,).
        errors: (k,), half-widths of 95% intervals, over examples.
        differences: (k, k), the mean of row less column.
        difference_errors: (k, k), half-widths of 95% intervals.

    Example:
        >>> import igjax, numpy as np
        >>> scores = {"one": np.array([1.0, 2.0, 3.0]), "other": np.array([1.5, 2.5, 3.5])}
        >>> print(igjax.metrics.paired(scores).markdown())
        | method | mean | less one | less other |
        |---|---|---|---|
        | one | 2 ± 2.466 |  | -0.5 ± 0 * |
        | other | 2.5 ± 2.466 | 0.5 ± 0 * |  |
    """

    names: tuple[str, ...]
    means: np.ndarray
    errors: np.ndarray
    differences: np.ndarray
    difference_errors: np.ndarray

    def markdown(self) -> str:
        """The table as text; a star where a difference is larger than its error."""
        head = ["method", "mean", *(f"less {name}" for name in self.names)]
        rows = [head, ["---"] * len(head)]
        for i, name in enumerate(self.names):
            cells = [
                ""
                if i == j
                else _cell(self.differences[i, j], self.difference_errors[i, j])
                for j in range(len(self.names))
            ]
            rows.append([name, f"{self.means[i]:.4g} ± {self.errors[i]:.4g}", *cells])
        head, line, *rest = (f"| {' | '.join(row)} |" for row in rows)
        return "\n".join([head, line.replace(" ", ""), *rest])


def paired(scores: Mapping[str, Any]) -> Paired:
    """Compares methods by what a metric gives to each on the same examples.

    Two methods whose intervals overlap may well differ on almost every example, and the
    other way round; so the table has the differences as well. With many methods some
    differences are larger than their errors by chance, one in twenty.

    Args:
        scores: for each method its numbers, (examples,), of the same examples in the same
            order, best by the same keys.

    Returns:
        A `Paired`; its `markdown()` is the table as text.

    Raises:
        ValueError: if there are fewer than two examples, or not as many of each.

    Example:
        >>> import igjax, numpy as np
        >>> scores = {"a": np.array([0.1, 0.5, 0.9]), "b": np.array([0.2, 0.5, 1.1])}
        >>> igjax.metrics.paired(scores).differences[1, 0].round(3)
        np.float64(0.1)
    """
    rows = {name: np.asarray(a, float) for name, a in scores.items()}
    shapes = {a.shape for a in rows.values()}
    if len(shapes) != 1 or len(shape := shapes.pop()) != 1 or shape[0] < 2:
        raise ValueError(
            "paired: scores must be of the same two or more examples for each method, got "
            f"shapes {[a.shape for a in rows.values()]}."
        )
    table = np.stack(list(rows.values()))
    apart = table[:, None] - table[None]
    width = lambda a: np.asarray(_width(jax.device_put(a.std(-1, ddof=1)), len(table[0])))
    return Paired(tuple(rows), table.mean(1), width(table), apart.mean(2), width(apart))


_width = jax.jit(half_width, static_argnums=1)


def _cell(difference, error) -> str:
    star = " *" if abs(difference) > error else ""
    return f"{difference:.4g} ± {error:.4g}{star}"
