"""DeepLIFT: the change of every unit, in proportion to the changes that cause it."""

import functools
from functools import partial

import jax
import jax.numpy as jnp

from igjax import _checks, paths, rules as quadrature
from igjax._program import compiled
from igjax._tree import gap, total, widen
from igjax.attribution import Attribution, Status
from igjax.integration.recipes import certified
from igjax.propagation import composites
from igjax.propagation._multipliers import multipliers, products

ROUNDING = 64  # units of rounding of scores and values that a sum may be off


def deeplift(f, rules: composites.Composite = ()):
    r"""DeepLIFT with the Rescale rule: differences from a reference, carried backwards.

    $$a_i = (x_i - x'_i)\, m_i, \qquad
      m_i = \prod_{\text{units}} \frac{\Delta \text{output}}{\Delta \text{input}}$$

    Each unit of f passes on its whole change between the baseline and x, so that the
    values add up to f(x) - f(baseline): one evaluation at either end and one backward
    pass, where Integrated Gradients takes many. Use it where that is too slow, or where
    gradients vanish or f has steps. What it gives up: the values depend on how f is cut
    into units (for functions of one number they do not), and it attributes along no
    path. It is the local Integrated Gradients of each unit, put together by the chain
    rule.

    Any function of JAX's primitives is read, loops, branches and attention too: see
    `units`. DeepSHAP is `igjax.expected(deeplift(f))`.

    Args:
        f: `f(x, *args) -> scalar`, as in `igjax.integrated_gradients`, of real leaves x.
        rules: a composite that goes before `RESCALE`, for units that need another rule.

    Returns:
        `attribute(x, baseline, *args) -> Attribution`. `delta` is rounding, by theorem;
        where it is not, because something was stopped or a rule is not complete, `status`
        is NOT_VERIFIED. Else it is NO_TOLERANCE, or NON_FINITE: nothing is promised about
        how near the values are to those of another method. `error` is 0.

    Raises:
        TypeError: as `igjax.integrated_gradients`, if x is complex, and if rules is no
            composite.
        ValueError: as `igjax.integrated_gradients`; if a step that x goes through has no
            rule (sort, loops of unknown length, a choice by a condition on x): the message
            names primitive, line and remedy; if a selector matches nothing.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> f = lambda x: jax.nn.relu(x[0] + x[1] - 2)
        >>> result = igjax.propagation.deeplift(f)(jnp.array([2.0, 1.0]), 0.0)
        >>> result.values.round(4), bool(abs(result.delta) < 1e-6)
        (Array([0.6667, 0.3333], dtype=float32), True)

    References:
        Shrikumar, Greenside, Kundaje, "Learning Important Features Through Propagating
        Activation Differences", ICML 2017.
        Ancona, Ceolini, Öztireli, Gross, "Towards Better Understanding of Gradient-Based
        Attribution Methods for Deep Neural Networks", ICLR 2018.
    """
    composites.check("deeplift", rules, paired=True)
    recipe = _recipe((*rules, *composites.RESCALE))
    one = quadrature.right(1)  # no path is walked, but every attribution has a rule
    return compiled.attribution(
        "deeplift", recipe, f, paths.straight, one, None, scalar=True
    )


@functools.lru_cache  # programs are kept by recipe: an equal one must be the same one
def _recipe(composite):
    def recipe(f, path, operands, rule, chunk_size) -> Attribution:
        del path, rule, chunk_size
        x, baseline = operands.x, operands.baseline
        _checks.real("deeplift", x)
        found = multipliers("deeplift", partial(f, operands), x, baseline, composite)
        values = products(found.slopes, x, baseline)
        return certified_change(values, found)

    return recipe


def certified_change(values, found, *, complete=True) -> Attribution:
    """The result, NOT_VERIFIED where what must be complete misses the change."""
    score, start = found.score, found.baseline_score
    delta = gap(values, start, score)
    ends = widen(abs(score) + abs(start)).astype(delta.dtype)
    size = total(jax.tree.map(jnp.abs, values), 0).astype(delta.dtype) + ends
    rounding = abs(delta) <= ROUNDING * found.unit * size
    status = jnp.where(rounding | (not complete), Status.NO_TOLERANCE, Status.NOT_VERIFIED)
    status = jnp.where(jnp.isfinite(delta), status, Status.NON_FINITE)
    error = jax.tree.map(jnp.zeros_like, values)
    return certified(values, error, widen(delta), start, score, status, 1, 1, 0)
