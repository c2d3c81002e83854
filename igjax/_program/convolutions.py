"""Convolutions in the one layout that XLA's CPU compiler is fast with inside a loop.

The gradient of a convolution is a convolution with its kernel transposed. XLA for CPU
turns such layouts into the one it has a fast kernel for only in the entry computation of
a program, not in the body of a loop, where it falls back to a scalar loop, several times
slower. The integral is a loop; so its convolutions are rewritten here, after
differentiation, with explicit transposes around them. Elsewhere than on CPUs the
compiler chooses layouts by itself, and nothing is done.
"""

import jax
from jax import lax

from igjax._program import jax_internals as internals


def in_loop_layout(function):
    """Returns the same function with its convolutions in the canonical layout."""
    if jax.default_backend() != "cpu":
        return function

    def rewritten(*args):
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        leaves = jax.tree.leaves(args)
        plain = internals.as_function(closed.jaxpr, closed.consts)
        run = lambda: internals.evaluate(closed, leaves, _canonical)
        outputs = internals.if_understood(run) or plain(*leaves)
        return jax.tree.unflatten(jax.tree.structure(shape), outputs)

    return rewritten


def _canonical(eqn, inputs):
    numbers = internals.convolution(eqn)
    if numbers is None:
        return internals.with_bodies(eqn, inputs, _rewritten)
    return [_convolution(eqn, numbers, *inputs)]


def _rewritten(closed):
    """A closed jaxpr of the same inputs, with its convolutions rewritten."""
    shapes = [internals.shape_of(v.aval) for v in closed.jaxpr.invars]
    run = lambda *args: internals.evaluate(closed, args, _canonical)
    return jax.make_jaxpr(run)(*shapes)


def _convolution(eqn, numbers, inputs, kernel):
    """The same convolution on (batch, space, features) and (space, in, out)."""
    space = range(1, inputs.ndim - 1)
    last = lambda spec: (spec[0], *spec[2:], spec[1])
    canonical = lax.ConvDimensionNumbers(
        lhs_spec=(0, inputs.ndim - 1, *space),
        rhs_spec=(inputs.ndim - 1, inputs.ndim - 2, *(k - 1 for k in space)),
        out_spec=(0, inputs.ndim - 1, *space),
    )
    batch_first = inputs.transpose(last(numbers.lhs_spec))
    out_feature, in_feature, *kernel_space = numbers.rhs_spec
    kernel = kernel.transpose(*kernel_space, in_feature, out_feature)
    output = internals.convolved(eqn, [batch_first, kernel], canonical)
    order = last(numbers.out_spec)
    return output.transpose(sorted(range(len(order)), key=order.__getitem__))
