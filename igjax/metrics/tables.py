r"""A table: methods against metrics over a data set, as a job that goes on after a kill.

Every method is measured on the same examples by the same keys, so that rows can be compared
by paired differences; and the last row is the first method's values in random places, which
no metric should like.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from igjax import _checks
from igjax._tree import flattener, parameter_dtype
from igjax.attribution import Attribution
from igjax.metrics.comparing import Paired, number, paired
from igjax.running.jobs import attribute_batches

__all__ = ["Table", "table"]

SHUFFLED = "shuffled"


class Table(NamedTuple):
    """Numbers of methods by metrics.

    Attributes:
        scores: for each metric the numbers of each method, {metric: {method: (examples,)}};
            the last method is "shuffled".
        comparisons: for each metric a `Paired`: means, intervals and those of differences.

    Example:
        >>> import igjax, numpy as np
        >>> numbers = {"one": np.array([1.0, 1.2]), "shuffled": np.array([0.0, 0.1])}
        >>> rows = igjax.metrics.paired(numbers)
        >>> print(igjax.metrics.Table({"m": numbers}, {"m": rows}).markdown())
        | method | m |
        |---|---|
        | one | 1.1 ± 1.13 * |
        | shuffled | 0.05 ± 0.565 |
    """

    scores: dict[str, dict[str, np.ndarray]]
    comparisons: dict[str, Paired]

    def markdown(self) -> str:
        """The table as text: means over examples, with half-widths of 95% intervals.

        A star stands where the paired difference to the shuffled values is larger than its
        own half-width, in either direction.
        """
        found = self.comparisons
        names = next(iter(found.values())).names
        line = lambda cells: f"| {' | '.join(cells)} |"
        rows = [line(["method", *found]), "|---" * (1 + len(found)) + "|"]
        for i, name in enumerate(names):
            rows.append(line([name, *(_cell(one, i) for one in found.values())]))
        return "\n".join(rows)


def _cell(one: Paired, i: int) -> str:
    apart = abs(one.differences[i, -1]) > one.difference_errors[i, -1]
    return f"{one.means[i]:.4g} ± {one.errors[i]:.4g}{' *' if apart else ''}"


def table(
    key,
    methods: Mapping[str, Any],
    metrics: Mapping[str, Any],
    batches: Sequence[tuple],
    directory,
    *,
    in_axes: int | Sequence[Any] | None = 0,
    progress: bool = True,
) -> Table:
    """Measures methods by metrics over a data set, in a job that resumes.

    Each batch of each method becomes a file, as in `igjax.attribute_batches`; called again
    with the same arguments it computes what is missing, and a method that is added costs
    its own row alone. `table.md` in the directory is the table with intervals. No row wins
    by a mean: look at the differences, and at the row of shuffled values. With many
    cells some stars are there by chance, one in twenty.

    Args:
        key: a random key; each example has its own, the same one for all methods.
        methods: names and `attribute(x, baseline, *args) -> Attribution`, of values like
            x. The key of a random one is bound by `functools.partial`.
        metrics: names and `measure(key, values, x, baseline, *args) -> result`, of this
            module; its number is `result.share` of an infidelity, else `result.value`,
            else the result itself.
        batches: tuples (x, baseline, *args), the same ones at every start.
        directory: where the files go, a path; a folder for each method in it, the first
            of which has the shuffled row as well.
        in_axes: over which axes of a batch examples run, as in `jax.vmap`.
        progress: as in `igjax.attribute_batches`.

    Returns:
        A `Table`; its last row is "shuffled".

    Raises:
        TypeError: if the key is none, or a method or metric not callable.
        ValueError: if there is no method or metric, a name is taken, there are fewer than
            two examples, or as `igjax.attribute_batches`.

    Example:
        >>> import igjax, jax, jax.numpy as jnp, tempfile
        >>> f, key = lambda x: jnp.tanh(x @ jnp.arange(8.0) / 8), jax.random.key(0)
        >>> methods = {"gradient x input": igjax.input_x_gradient(f)}
        >>> metrics = {"sensitivity-3": igjax.metrics.sensitivity_n(f, 3, subsets=32)}
        >>> batches = [(jax.random.normal(key, (4, 8)), 0.0)]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     given = key, methods, metrics, batches, folder
        ...     found = igjax.metrics.table(*given, in_axes=(0, None), progress=False)
        >>> found.comparisons["sensitivity-3"].names
        ('gradient x input', 'shuffled')
    """
    _check(key, methods, metrics)
    keyed = [(_keys(key, i, batch, in_axes), *batch) for i, batch in enumerate(batches)]
    measured: dict[str, list] = {}
    for i, (name, attribute) in enumerate(methods.items()):
        names = (name, SHUFFLED) if i == 0 else (name,)
        run = _measured(attribute, metrics, in_axes, names)
        folder = Path(directory) / _file_name(name)
        for result in attribute_batches(run, keyed, folder, progress=progress):
            for row, numbers in result.values.items():
                measured.setdefault(row, []).append(numbers)
    rows = [*methods, SHUFFLED]
    scores = {
        metric: {
            row: np.concatenate([part[metric] for part in measured[row]]) for row in rows
        }
        for metric in metrics
    }
    made = Table(scores, {metric: paired(found) for metric, found in scores.items()})
    (Path(directory) / "table.md").write_text(made.markdown() + "\n", "utf8")
    return made


def _check(key, methods, metrics) -> None:
    _checks.key("table", key)
    for what, named in (("methods", methods), ("metrics", metrics)):
        if not named:
            raise ValueError(f"table: {what} must be names and functions, got none.")
        for name, function in named.items():
            _checks.function("table", f"{what}[{name!r}]", function)
    files = [_file_name(name) for name in (*methods, SHUFFLED)]
    if twice := sorted({name for name in files if files.count(name) > 1}):
        raise ValueError(
            f"table: methods must have names that differ as folders, got {twice} twice; "
            f"{SHUFFLED!r} is that of the last row."
        )


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)


def _keys(key, i: int, batch, in_axes):
    """A key for each example of a batch."""
    axes = in_axes if isinstance(in_axes, tuple | list) else [in_axes] * len(batch)
    sizes = {
        np.shape(leaf)[axis]
        for part, axis in zip(batch, axes, strict=True)
        if isinstance(axis, int)
        for leaf in jax.tree.leaves(part)
    }
    if len(sizes) != 1:
        raise ValueError(
            f"table: all parts of a batch must have as many examples, got {sorted(sizes)} "
            f"in batch {i} by in_axes={in_axes!r}."
        )
    return jax.random.split(jax.random.fold_in(key, i), sizes.pop())


def _measured(attribute, metrics, in_axes, names):
    """A batch's numbers, in the place of values; the rest is that of the attribution.

    Two names are rows of one attribution: its values, and the same in random places.
    """

    def one(key, x, baseline, *args) -> Attribution:
        result = attribute(x, baseline, *args)
        place, key = jax.random.split(key)

        def numbers(values):
            keys = [jax.random.fold_in(key, i) for i in range(len(metrics))]
            found = (
                number(measure(own, values, x, baseline, *args))
                for own, measure in zip(keys, metrics.values(), strict=True)
            )
            return dict(zip(metrics, map(jnp.asarray, found), strict=True))

        rows = [result.values, _in_random_places(place, result.values)]
        found = dict(zip(names, map(numbers, rows[: len(names)]), strict=True))
        nothing = jax.tree.map(jnp.zeros_like, found)
        return dataclasses.replace(result, values=found, error=nothing, sampling=None)

    axes = in_axes if isinstance(in_axes, tuple | list) else None
    return jax.jit(jax.vmap(one, in_axes=0 if axes is None else (0, *axes)))


def _in_random_places(key, values):
    ravel, unravel = flattener(values, parameter_dtype(values))
    return unravel(jax.random.permutation(key, ravel(values)))
