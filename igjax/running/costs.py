"""What an attribution costs, told before it runs: evaluations, flops, bytes.

Bytes are those of the compiled program. Its flops are not: XLA counts the body of a loop
once, and an integral is a loop. So flops are counted on the jaxpr, where a scan says how
often it turns. The loops of the adaptive rule turn as often as the example demands; there
the least and the most are told.
"""

import math
import re
from typing import NamedTuple

import jax
import numpy as np

from igjax import _checks
from igjax._program import jax_internals as internals
from igjax._program.compiled import program_name
from igjax._program.tracing import flops
from igjax.integration import adaptive
from igjax.integration.panels import probes_at
from igjax.methods._draws import DRAW

__all__ = ["Cost", "cost"]

_MOVES = ("device_put", "sharding_constraint", "reshard")
_PROGRAM = re.compile(program_name(r"(\w+)", "(fixed|adaptive)", r"(\d+)"))
# Methods that spend one gradient for each node of their rule.
_BY_RULE = (
    *("integrated_gradients", "integrated_jacobian", "adaptive_rule"),
    *("layer_integrated_gradients", "layer_conductance", "neuron_conductance"),
    "internal_influence",
)


class Cost(NamedTuple):
    """What one call costs, as `cost` tells it; pairs are the least and the most.

    Attributes:
        evaluations: gradients of f for each example, int. Equal for a fixed rule. None if
            a method is among those called that does not go by the nodes of a rule: guided
            walks, Shapley values, interactions, single gradients; means over draws.
        forwards: scores of f for each example besides; None likewise.
        flops: floating-point operations of the whole call, all examples, on each device.
            None where a version of JAX writes its programs in a way that is not known.
        peak_bytes: memory of the whole call: arguments, results and what lies between,
            on each device. None where the compiler does not tell.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> igjax.cost(igjax.integrated_gradients(jnp.prod), jnp.ones(3), 0.0).forwards
        58
    """

    evaluations: tuple[int, int] | None
    forwards: int | None
    flops: tuple[float, float] | None
    peak_bytes: int | None


def cost(function, *args) -> Cost:
    """What a call of an attribution would cost; it is compiled, and not run.

    Use it before a large job: to choose a `chunk_size`, a batch size or a rule.

    Args:
        function: what a method returns, or any function made of such: vmapped, jitted,
            sharded, differentiated, a loss.
        *args: what it would be called with; `jax.ShapeDtypeStruct`s will do for arrays.

    Returns:
        The `Cost`. Products and sums count as two flops of a multiply-add, other
        operations as one for each number; of branches the dearest counts, of a `while`
        loop in f, whose turns nobody knows, one turn. If the function holds several
        attributions, evaluations and forwards are added up; a derivative goes through
        the nodes once more on its way back, and they count again.

    Raises:
        TypeError: as the function does, for arguments that do not fit.
        ValueError: likewise.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> f = lambda x, w: jnp.tanh(jnp.tanh(x) @ w).sum()
        >>> attribute = igjax.integrated_gradients(f, rule=igjax.rules.gauss_legendre(50))
        >>> explain = jax.vmap(attribute, in_axes=(0, None, None))
        >>> known = igjax.cost(explain, jnp.ones((8, 64)), 0.0, jnp.ones((64, 64)))
        >>> known.evaluations
        (50, 50)
        >>> known.flops[0] > 8 * 50 * 2 * (2 * 64 * 64)  # forward and backward
        True
    """
    traced = _trace(function, args)
    unknown = np.full(3, np.nan)
    spent = internals.if_understood(_evaluations, traced.jaxpr.jaxpr, otherwise=unknown)
    known = np.isfinite(spent).all()
    least, most, forwards = map(int, np.where(known, spent, 0))
    flops = internals.if_understood(_count, traced.jaxpr.jaxpr)
    return Cost(
        evaluations=(least, most) if known else None,
        forwards=forwards if known else None,
        flops=None if flops is None else (float(flops[0]), float(flops[1])),
        peak_bytes=_peak(traced.lower().compile().memory_analysis()),
    )


def _trace(function, args):
    """The function traced at shapes; a jitted one with the options of its own `jit`."""
    if hasattr(function, "trace"):
        return function.trace(*args)
    leaves, structure = jax.tree.flatten(args)
    is_array = lambda a: _checks.is_array(a) or isinstance(a, jax.ShapeDtypeStruct)
    arrays = [leaf for leaf in leaves if is_array(leaf)]

    def run(*arrays):
        given = iter(arrays)
        filled = [next(given) if is_array(leaf) else leaf for leaf in leaves]
        return function(*structure.unflatten(filled))

    return jax.jit(run).trace(*arrays)


def _peak(memory) -> int | None:
    if memory is None:
        return None
    ends = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return ends + memory.temp_size_in_bytes - memory.alias_size_in_bytes


def _evaluations(jaxpr):
    """An array: gradients of one example, least and most, and scores besides; or NaN."""
    spent = np.zeros(3)
    for eqn in jaxpr.eqns:
        name, loop = internals.jitted_name(eqn), internals.scan(eqn)
        known = _PROGRAM.fullmatch(name)
        if known and known[1] not in _BY_RULE:
            spent += np.nan
        elif name == DRAW:
            spent += np.nan  # how many there are is up to the blocks, or to a tolerance
        elif known:
            budget, fixed = int(known[3]), known[2] == "fixed"
            least = budget if fixed else adaptive.NODES
            spent += (least, budget, 2 if fixed else len(probes_at()))
        else:
            turns = 1 if loop is None else loop.length
            for body in internals.bodies(eqn):
                spent += turns * _evaluations(body.jaxpr)
    return spent


def _count(jaxpr):
    """The flops of a jaxpr, an array of the least and the most."""
    return sum(map(_count_equation, jaxpr.eqns), np.zeros(2))


def _count_equation(eqn):
    if eqn.primitive.name in _MOVES:
        return np.zeros(2)
    inside = [_count(body.jaxpr) for body in internals.bodies(eqn)]
    if not inside:
        return np.full(2, float(flops(eqn)))
    if (loop := internals.scan(eqn)) is not None:
        return loop.length * inside[0]
    if eqn.primitive.name == "cond":
        return np.max(inside, axis=0)
    if found := _adaptive_loop(eqn):
        return _count_adaptive(eqn, *found)
    return sum(inside, np.zeros(2))


def _adaptive_loop(eqn):
    """The body of the adaptive rule's loop over generations, and the loop inside it."""
    if (outer := internals.loop_body(eqn)) is None:
        return None
    inner = [e for e in outer.jaxpr.eqns if internals.loop_body(e) is not None]
    mesh = eqn.outvars[-1].aval.shape  # (examples, panels, 2)
    return (outer.jaxpr, inner[0]) if len(inner) == 1 and mesh[2:] == (2,) else None


def _count_adaptive(eqn, body, inner):
    """Generations of chunks of panels: one and as few as can be, or the whole budget."""
    examples, panels, _ = eqn.outvars[-1].aval.shape
    lanes = adaptive.lanes_of(examples)
    chunk = sum(_count(b.jaxpr) for b in internals.bodies(inner))
    turn = sum((_count_equation(e) for e in body.eqns if e is not inner), np.zeros(2))
    # The last chunk of each generation may have but one panel.
    most = math.ceil((examples * panels + panels * (lanes - 1)) / lanes)
    return np.array([1, panels]) * turn + np.array([-(-examples // lanes), most]) * chunk
