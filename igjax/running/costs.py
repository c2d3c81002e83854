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
from igjax._program.compiled import program_name
from igjax._program.tracing import flops, jaxprs_in
from igjax.integration import adaptive
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
        peak_bytes: memory of the whole call: arguments, results and what lies between,
            on each device. None where the compiler does not tell.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> igjax.cost(igjax.integrated_gradients(jnp.prod), jnp.ones(3), 0.0).forwards
        50
    """

    evaluations: tuple[int, int] | None
    forwards: int | None
    flops: tuple[float, float]
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
    spent = _evaluations(traced.jaxpr.jaxpr)
    known = np.isfinite(spent).all()
    least, most, forwards = map(int, np.where(known, spent, 0))
    flops = _count(traced.jaxpr.jaxpr)
    return Cost(
        evaluations=(least, most) if known else None,
        forwards=forwards if known else None,
        flops=(float(flops[0]), float(flops[1])),
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
        known = _PROGRAM.fullmatch(_name(eqn))
        if known and known[1] not in _BY_RULE:
            spent += np.nan
        elif _name(eqn) == DRAW:
            spent += np.nan  # how many there are is up to the blocks, or to a tolerance
        elif known:
            budget, fixed = int(known[3]), known[2] == "fixed"
            least = budget if fixed else adaptive.NODES
            spent += (least, budget, 2 if fixed else adaptive.PROBES + 2)
        else:
            turns = eqn.params["length"] if eqn.primitive.name == "scan" else 1
            for body in _bodies(eqn):
                spent += turns * _evaluations(body)
    return spent


def _name(eqn) -> str:
    return str(eqn.params.get("name", "")) if eqn.primitive.name == "jit" else ""


def _count(jaxpr):
    """The flops of a jaxpr, an array of the least and the most."""
    return sum(map(_count_equation, jaxpr.eqns), np.zeros(2))


def _count_equation(eqn):
    name, bodies = eqn.primitive.name, _bodies(eqn)
    if name in _MOVES:
        return np.zeros(2)
    if not bodies:
        return np.full(2, float(flops(eqn)))
    if name == "scan":
        return eqn.params["length"] * _count(bodies[0])
    if name == "cond":
        return np.max([_count(body) for body in bodies], axis=0)
    if name == "while" and (loop := _adaptive_loop(eqn)):
        return _count_adaptive(eqn, *loop)
    return sum(map(_count, bodies), np.zeros(2))


def _bodies(eqn) -> list:
    """The jaxprs that an equation runs, not those that say how to combine two numbers."""
    if eqn.primitive.name.startswith(("scatter", "reduce")):
        return []
    return [body for parameter in eqn.params.values() for body in jaxprs_in(parameter)]


def _adaptive_loop(eqn):
    """The body of the adaptive rule's loop over generations, and the loop inside it."""
    body = eqn.params["body_jaxpr"].jaxpr
    inner = [e for e in body.eqns if e.primitive.name == "while"]
    mesh = eqn.outvars[-1].aval.shape  # (examples, panels, 2)
    return (body, inner[0]) if len(inner) == 1 and mesh[2:] == (2,) else None


def _count_adaptive(eqn, body, inner):
    """Generations of chunks of panels: one and as few as can be, or the whole budget."""
    examples, panels, _ = eqn.outvars[-1].aval.shape
    lanes = adaptive.lanes_of(examples)
    chunk = _count(inner.params["body_jaxpr"].jaxpr)
    turn = sum((_count_equation(e) for e in body.eqns if e is not inner), np.zeros(2))
    # The last chunk of each generation may have but one panel.
    most = math.ceil((examples * panels + panels * (lanes - 1)) / lanes)
    return np.array([1, panels]) * turn + np.array([-(-examples // lanes), most]) * chunk
