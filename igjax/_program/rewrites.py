"""Programs written anew in what the compiler of the device at hand is fast with.

XLA's CPU compiler has few fast kernels, and people write their models in any primitives.
Those that it is slow with are exchanged for others, of the same values and the same ties.
It is done after differentiation, on what is really run: so derivatives are JAX's own, and
the primitives of a gradient are exchanged as well. Elsewhere than on CPUs nothing is done,
and what is not understood stays as it is.

A rewrite is a function of an equation and its inputs that returns outputs, or None where it
has nothing to say. What each of them gains: `benchmarks/bench_rewrites.py`.
"""

import jax

from igjax._program import convolutions, jax_internals as internals, loops, pools, sums

REWRITES = {"cpu": (convolutions.rewritten, pools.summed, pools.routed, sums.squeezed)}


def for_device(function):
    """Returns the same function in primitives that are fast where it runs."""
    rewrites = REWRITES.get(jax.default_backend())
    if not rewrites:
        return function

    def rewritten(*args):
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        leaves = jax.tree.leaves(args)
        plain = internals.as_function(closed.jaxpr, closed.consts)
        run = lambda *leaves: internals.evaluate(closed, leaves, rule)
        outputs = internals.if_understood(run, *leaves) if concerns(closed) else None
        outputs = plain(*leaves) if outputs is None else outputs
        return jax.tree.unflatten(jax.tree.structure(shape), outputs)

    def rule(eqn, inputs):
        for rewrite in rewrites:
            outputs = internals.if_understood(rewrite, eqn, inputs)
            if outputs is not None:
                return outputs
        if loops.concerns(eqn):
            return loops.rebuilt(eqn, inputs, inside)
        if any(_concerns(body.jaxpr) for body in internals.bodies(eqn)):
            return internals.with_bodies(eqn, inputs, inside)
        return internals.bind(eqn, inputs)

    def inside(closed):
        shapes = [internals.shape_of(v.aval) for v in closed.jaxpr.invars]
        run = lambda *args: internals.evaluate(closed, args, rule)
        return jax.make_jaxpr(run)(*shapes)

    return rewritten


def concerns(closed) -> bool:
    """Whether a closed jaxpr holds anything of which there may be a faster form."""
    return internals.if_understood(_concerns, closed.jaxpr, otherwise=False)


def _concerns(jaxpr) -> bool:
    slow = lambda eqn: internals.slides(eqn) or sums.concerns(eqn) or loops.concerns(eqn)
    return internals.anywhere(jaxpr, slow)
