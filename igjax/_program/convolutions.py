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
from jax.extend import core

from igjax._program.tracing import bind, evaluate, shape_of


def in_loop_layout(function):
    """Returns the same function with its convolutions in the canonical layout."""
    if jax.default_backend() != "cpu":
        return function

    def rewritten(*args):
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        outputs = evaluate(closed, jax.tree.leaves(args), _canonical)
        return jax.tree.unflatten(jax.tree.structure(shape), outputs)

    return rewritten


def _canonical(eqn, inputs):
    if eqn.primitive is core.primitives.conv_general_dilated_p:
        return [_convolution(eqn, *inputs)]
    inner = {k: v for k, v in eqn.params.items() if isinstance(v, core.ClosedJaxpr)}
    return bind(eqn, inputs, **{k: _rewritten(v) for k, v in inner.items()})


def _rewritten(closed):
    """A closed jaxpr of the same inputs, with its convolutions rewritten."""
    shapes = [shape_of(v.aval) for v in closed.jaxpr.invars]
    return jax.make_jaxpr(lambda *args: evaluate(closed, args, _canonical))(*shapes)


def _convolution(eqn, inputs, kernel):
    """The same convolution on (batch, space, features) and (space, in, out)."""
    numbers = eqn.params["dimension_numbers"]
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
    (output,) = bind(eqn, [batch_first, kernel], dimension_numbers=canonical)
    order = last(numbers.out_spec)
    return output.transpose(sorted(range(len(order)), key=order.__getitem__))
