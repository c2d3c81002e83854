"""The result of every method: the values, and what is known about their error.

One type whatever the rule, so that code that reads a result never asks how it was made.
Numerical trouble is data in here, never an exception: `status` says what happened.
"""

import contextlib
import dataclasses
import enum
import json
from typing import Any

import jax
import jax.export
import numpy as np
from jax.core import Tracer

__all__ = ["Attribution", "Status"]


class Status(enum.IntEnum):
    """What is known about a result; `Attribution.converged` means TOLERANCE_MET.

    Example:
        >>> import igjax
        >>> igjax.Status(1).name
        'NO_TOLERANCE'
    """

    TOLERANCE_MET = 0  # the tolerance is met, and verified
    NO_TOLERANCE = 1  # none was asked for: fixed rules and means over all draws
    BUDGET_SPENT = 2  # max_evaluations were not enough
    RESOLUTION = 3  # the resolution of the dtype was reached
    NON_FINITE = 4  # a score or gradient on the path is not finite
    NOT_VERIFIED = 5  # the gradients do not explain the scores along the path
    ROUNDING = 6  # the rounding of f itself is coarser than the tolerance

    @property
    def meaning(self) -> str:
        """The status in words."""
        return _MEANINGS[self]


_MEANINGS = {
    Status.TOLERANCE_MET: "tolerance met and verified",
    Status.NO_TOLERANCE: "no tolerance asked",
    Status.BUDGET_SPENT: "budget spent before the tolerance was met",
    Status.RESOLUTION: "resolution of the dtype reached before the tolerance was met",
    Status.NON_FINITE: "a score or gradient on the path is not finite",
    Status.NOT_VERIFIED: "not verified: scores along the path disagree",
    Status.ROUNDING: "the rounding of f is coarser than the tolerance",
}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Attribution:
    r"""Attributions with their certificate.

    All fields are arrays (or pytrees of them), so a result passes through `jit`, `vmap`
    and `shard_map`; a batch of results is one `Attribution` with a leading axis.

    An attribution can be served without the code of its model: `jax.export` makes one
    file of f, its weights and the rule. Reading it takes jax, and igjax for this class;
    return `vars(attribute(...))`, a dict, and jax is enough. The size of a batch may be
    symbolic: with a fixed rule under `vmap`; with the adaptive rule, whose queue of
    panels is as long as the batch, by `jax.lax.map(lambda x: attribute(x, ...), xs)`. The
    sizes of one example must be known.

    Attributes:
        values: pytree like x, real, float32 or wider: the attribution of each feature,
            in units of the score. For a Jacobian the output's axes come first.
        error: pytree like values: the estimated absolute error of each value.
        delta: completeness gap, sum(values) - (score - baseline_score). Small is
            necessary, not sufficient: errors of features cancel in it.
        score: f at the end of the path, x.
        baseline_score: f at the start of the path, the baseline.
        evaluations: int32, gradients spent on this example.
        forwards: int32, scores spent on this example besides the gradients.
        jumps: int32, jumps narrower than the dtype resolves (adaptive rule).
        status: int32, a `Status`.
        sampling: of a mean over random draws, pytree like values: the part of `error` that
            is theirs, a 95% half-width. The rest is the mean error of the draws
            themselves, that of the rule. None where a method takes no such mean.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> igjax.integrated_gradients(jnp.sum)(jnp.ones(2), 0.0)
        Attribution(values=float32[2], score=2, baseline_score=0, delta=...,
            evaluations=15, status=0)

        Served; the process that reads the file needs no code of the model:

        >>> rule = igjax.rules.gauss_legendre(8)
        >>> attribute = igjax.integrated_gradients(jnp.prod, rule=rule)
        >>> x = jnp.array([2.0, 3.0])
        >>> file = jax.export.export(jax.jit(attribute))(x, 0.0).serialize()
        >>> jax.export.deserialize(file).call(x, 0.0).values.round(4)
        Array([3., 3.], dtype=float32)
    """

    values: Any
    error: Any
    delta: jax.Array
    score: jax.Array
    baseline_score: jax.Array
    evaluations: jax.Array
    forwards: jax.Array
    jumps: jax.Array
    status: jax.Array
    sampling: Any = None

    @property
    def converged(self) -> jax.Array:
        """True where a tolerance was asked for, met and verified."""
        # Which is 0; comparing with a number would move that to the device.
        return ~self.status.astype(bool)

    def example(self, i: int) -> "Attribution":
        """Returns the result of example i of a batch.

        Args:
            i: index along the leading axis of every field.

        Returns:
            An `Attribution` without that axis.

        Raises:
            IndexError: if this is no batch, or i is out of range.

        Example:
            >>> import igjax, jax, jax.numpy as jnp
            >>> attribute = igjax.integrated_gradients(jnp.prod)
            >>> batch = jax.vmap(attribute)(jnp.ones((3, 2)), jnp.zeros((3, 2)))
            >>> batch.example(0).values
            Array([0.5, 0.5], dtype=float32)
        """
        axes = np.shape(self.evaluations)
        if not axes:
            raise IndexError("Attribution.example: this is one example, not a batch.")
        if not -axes[0] <= i < axes[0]:
            raise IndexError(
                f"Attribution.example: the batch has {axes[0]} examples, got {i}."
            )
        if isinstance(self.evaluations, np.ndarray):
            return jax.tree.map(lambda a: a[i], self)
        return _taken(self, jax.device_put(np.int32(i)))

    def __repr__(self):
        shapes = jax.tree.map(_kind, self.values)
        text = shapes if isinstance(shapes, str) else str(shapes).replace("'", "")
        rest = ("score", "baseline_score", "delta", "evaluations", "status")
        shown = ", ".join(f"{name}={_short(getattr(self, name))}" for name in rest)
        return f"Attribution(values={text}, {shown})"


@jax.jit
def _taken(results: Attribution, i) -> Attribution:
    return jax.tree.map(lambda a: a[i], results)


def _fields(aux=()) -> bytes:
    """The names of the fields, written with an exported function."""
    del aux
    return json.dumps([field.name for field in dataclasses.fields(Attribution)]).encode()


def _as_exported(fields: bytes):
    own = json.loads(_fields())
    if json.loads(bytes(fields)) not in (own, own[:-1]):  # the last one came later
        raise ValueError(
            f"Attribution: the exported function must return the fields {_fields()!r}, "
            f"got {bytes(fields)!r}. Load it with the igjax that exported it, or export "
            "it anew."
        )
    return ()


# Importing jax has imported jax.export. A reloaded module keeps the first registration.
with contextlib.suppress(ValueError):
    jax.export.register_pytree_node_serialization(
        Attribution,
        serialized_name="igjax.Attribution",
        serialize_auxdata=_fields,
        deserialize_auxdata=_as_exported,
    )


def _short(a) -> str:
    if isinstance(a, jax.Array | np.ndarray) and not isinstance(a, Tracer) and not a.shape:
        return f"{a.item():.6g}"
    return _kind(a)


def _kind(a) -> str:
    return f"{a.dtype}{list(a.shape)}" if hasattr(a, "dtype") else repr(a)
