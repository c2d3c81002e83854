"""Many devices: a batch of examples spread over a mesh, each device with its own loop.

XLA cannot split the loop of the adaptive rule by itself: under an automatically sharded
`jit` each device would do all the work. So the batch is split by `jax.shard_map`, where
the adaptive rule of each device runs its own queue and ends when its own examples do. A
batch on explicit axes of a mesh needs none of this: there types tell `jax.vmap` as much.

The types that say which values differ between devices are not checked: they would refuse
every model that starts a loop at zeros, and what is returned has no need of them.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from igjax._program.closures import Observation, observe
from igjax._program.compiled import join, label, split

__all__ = ["sharded"]


def sharded(attribute, mesh, in_axes: Any = 0, *, axis_name=None):
    """A batch of examples, attributed by all devices of a mesh: `vmap`, spread out.

    Use it where `jax.vmap(attribute, in_axes)` is too slow on one device, or does not fit
    there: for a batch that lies anywhere, or does not divide. One that is spread over
    explicit axes of a mesh already stays so under `jax.vmap`, by either rule. Each device
    gets an equal share of the batch and runs by itself: nothing is communicated. The
    results are those of `vmap` to rounding. One huge example is split by the nodes of its
    rule instead, with `rules.split`.

    Args:
        attribute: a function of one example, as every method and combinator returns.
        mesh: a `jax.sharding.Mesh`, such as `jax.make_mesh((8,), ("batch",))`. With
            several processes, the mesh of all their devices.
        in_axes: as in `jax.vmap`: the batch axis of each argument, None where all
            examples share it. None alone is no batch: all devices get one example, whose
            rule must be split.
        axis_name: the axis of the mesh, or a tuple of them, to spread the batch over.
            None is all of them.

    Returns:
        `explain(*args)`, which returns what `attribute` returns with a leading batch
        axis, sharded over the mesh. A batch that does not divide is filled up with
        copies of its last example, whose results are cut off; what is left is on all
        devices. It compiles itself, and may be called inside `jax.jit`.

    Raises:
        TypeError: if attribute is no function or mesh no `jax.sharding.Mesh`.
        ValueError: if the mesh has no such axis, or batches differ in size.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> mesh = jax.make_mesh((jax.device_count(),), ("batch",))
        >>> attribute = igjax.integrated_gradients(lambda x, w: jnp.tanh(x @ w))
        >>> explain = igjax.sharded(attribute, mesh, in_axes=(0, None, None))
        >>> explain(jnp.ones((3, 2)), 0.0, jnp.ones(2)).values.shape
        (3, 2)
    """
    _check(attribute, mesh, axis_name)
    names = mesh.axis_names if axis_name is None else axis_name
    spread = PartitionSpec(names)
    parts = math.prod(mesh.shape[name] for name in _tuple(names))
    programs: dict[object, tuple[Observation, Callable]] = {}

    def explain(*args):
        given, static = split("sharded", args)
        axes = _batch_axes(in_axes, args, static)
        size = _batch_size(given, axes)
        fill = -size % parts
        specs = [PartitionSpec() if k is None else spread for k in axes]
        here = _typed(mesh)
        placed = [
            jax.device_put(_filled(a, k, fill), NamedSharding(here, spec))
            for a, k, spec in zip(given, axes, specs, strict=True)
        ]
        statics = [leaf[0] for leaf in static[1] if leaf]
        look = lambda: observe((attribute,), statics, args)
        observed, key = look(), (here, static[0], *specs, *map(label, static[1]))
        found = programs.get(key)
        if found is not None and found[0].matches(observed):
            result = found[1](placed)
        else:
            run = _program(attribute, here, specs, static)
            result = run(placed)
            if not observed.unknown:
                # Observed again: tracing may have moved a counter that is named.
                programs[key] = look(), run
        if not fill:
            return result
        gathered = jax.device_put(result, NamedSharding(here, PartitionSpec()))
        return jax.tree.map(lambda a: a[:size], gathered)

    return explain


def _typed(mesh):
    """The mesh itself where it is in use; else with axes that ask nothing of indexing."""
    in_use = jax.sharding.get_abstract_mesh() == mesh.abstract_mesh
    return mesh if in_use else Mesh(mesh.devices, mesh.axis_names)


def _program(attribute, mesh, specs, static):
    """The jitted function of flat arrays, placed on the mesh as the specs say."""
    axes = [None if spec == PartitionSpec() else 0 for spec in specs]
    one = lambda given: attribute(*join(given, static))
    batched = any(axis == 0 for axis in axes)
    local = jax.vmap(one, in_axes=(axes,)) if batched else one
    out = next((spec for spec in specs if spec != PartitionSpec()), PartitionSpec())
    return jax.jit(
        jax.shard_map(local, mesh=mesh, in_specs=(specs,), out_specs=out, check_vma=False)
    )


def _batch_axes(in_axes, args, static) -> list[int | None]:
    """The batch axis of each array among the arguments, None where there is none."""
    shared = "shared"  # a None among the arguments is no leaf, one among the axes is
    marked = jax.tree.map(
        lambda k: shared if k is None else k, in_axes, is_leaf=lambda k: k is None
    )
    marked = tuple(marked) if isinstance(marked, list) else marked
    try:
        axes = jax.tree.leaves(jax.tree.broadcast(marked, args))
    except ValueError as error:
        raise ValueError(
            f"sharded: in_axes must fit the {len(args)} arguments, as in jax.vmap, got "
            f"{in_axes!r}: {error}"
        ) from None
    arrays = [k for k, rest in zip(axes, static[1], strict=True) if rest is None]
    return [None if k == shared else k for k in arrays]


def _batch_size(given, axes) -> int:
    for a, k in zip(given, axes, strict=True):
        if k is not None and np.ndim(a) and not -np.ndim(a) <= k < np.ndim(a):
            raise ValueError(
                f"sharded: in_axes must name an axis of each batch, got {k} for an "
                f"argument of shape {np.shape(a)}."
            )
    sizes = {
        np.shape(a)[k] if np.ndim(a) else 0
        for a, k in zip(given, axes, strict=True)
        if k is not None
    }
    if len(sizes) > 1 or 0 in sizes:
        raise ValueError(
            "sharded: all arguments that in_axes gives an axis must be batches of one "
            f"size, at least 1, got sizes {sorted(sizes)}. Arguments that all "
            "examples share have None there, as in in_axes=(0, None, 0)."
        )
    return max(sizes, default=0)


def _filled(a, axis: int | None, fill: int):
    """An array with its batch in front, filled up with copies of its last example."""
    if axis is None:
        return a
    a = a if axis == 0 else jnp.moveaxis(a, axis, 0)
    if not fill:
        return a
    order = np.minimum(np.arange(len(a) + fill), len(a) - 1)
    return a[order] if isinstance(a, np.ndarray) else jnp.take(a, order, axis=0)


def _tuple(names) -> tuple:
    return names if isinstance(names, tuple) else (names,)


def _check(attribute, mesh, axis_name) -> None:
    if not callable(attribute):
        got = type(attribute).__name__
        raise TypeError(f"sharded: attribute must be callable, got a {got}.")
    if not isinstance(mesh, Mesh):
        raise TypeError(
            f"sharded: mesh must be a jax.sharding.Mesh, got {mesh!r}. Make one of all "
            'devices: jax.make_mesh((jax.device_count(),), ("batch",)).'
        )
    names = mesh.axis_names if axis_name is None else _tuple(axis_name)
    if not set(names) <= set(mesh.axis_names):
        raise ValueError(
            f"sharded: axis_name must be of the mesh, which has {mesh.axis_names}, got "
            f"{axis_name!r}."
        )
