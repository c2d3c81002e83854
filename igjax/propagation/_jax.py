"""What is read of JAX's inside, by name: all that a new version of JAX may change here."""

from typing import Any, NamedTuple

from jax.extend import core, source_info_util

# Calls that are opened, and the parameter that holds what they call. Derivatives of their
# own are not used: relevance goes through what they compute.
_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}
CALLS = frozenset(_CALLS)


class Loop(NamedTuple):
    """A scan: its body takes constants, carries and a row of what it runs over."""

    body: Any
    constants: int
    carries: int
    length: int
    reverse: bool


def called(eqn):
    """What a call calls, a closed jaxpr."""
    return _closed(eqn.params[_CALLS[eqn.primitive.name]])


def loop(eqn) -> Loop:
    """The parts of a scan."""
    params = eqn.params
    if "num_consts" in params:
        counts = params["num_consts"], params["num_carry"]
    else:  # since jax 0.12
        constants, carries, _ = params["ft_in"].unpack()
        counts = len(constants), len(carries)
    return Loop(_closed(params["jaxpr"]), *counts, params["length"], params["reverse"])


def branches(eqn) -> list:
    """The branches of a cond, closed jaxprs."""
    return [_closed(branch) for branch in eqn.params["branches"]]


def line(eqn) -> str:
    """The user's line that an equation comes from, empty where it is not known."""
    found = source_info_util.summarize(eqn.source_info)
    return "" if found == "<unknown>" else found


def path(eqn) -> str:
    """The named scopes around an equation: the path of a Flax linen module."""
    return str(eqn.source_info.name_stack)


def fingerprint(eqn):
    """What tells an equation from others of the same inputs; None where nothing does."""
    if eqn.effects:
        return None
    key = (eqn.primitive, *sorted(eqn.params.items(), key=lambda item: item[0]))
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _closed(jaxpr):
    return jaxpr if hasattr(jaxpr, "consts") else core.ClosedJaxpr(jaxpr, ())
