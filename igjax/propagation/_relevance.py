"""Layer-wise relevance propagation: the score handed back, layer by layer."""

import functools
from functools import partial

import jax
import jax.numpy as jnp

from igjax import _checks, paths, rules as quadrature
from igjax._program import compiled
from igjax._tree import gap, widen
from igjax.attribution import Attribution
from igjax.propagation import composites
from igjax.propagation._multipliers import multipliers, of_no_tolerance, products


def relevance(f, rules: composites.Composite = composites.EPSILON):
    r"""Layer-wise relevance propagation (LRP) through any function.

    $$R_i = x_i\, m_i, \qquad m = \text{the derivative of f, with the rules' multipliers}$$

    The score is handed back to the inputs, each layer dividing what it gets among what
    flowed in. Use it for one sharp picture at the cost of a gradient, with rules that are
    made for the kind of network. It has no baseline. It is a heuristic: values depend on
    the rules and on how f is cut into layers, which `units` shows, and they add up to the
    score only as far as biases, epsilon and softmax absorb nothing: `delta` is minus what
    they do.

    Args:
        f: `f(x, *args) -> scalar`, as in `igjax.integrated_gradients`, of real leaves x.
        rules: a composite; what it leaves out is done as in `EPSILON`.

    Returns:
        `attribute(x, baseline=None, *args) -> Attribution`. The baseline is there to make
        methods exchangeable, and not looked at; `baseline_score` is 0. `error` is 0:
        that is what the definition says. `status` is NO_TOLERANCE, or NON_FINITE.

    Raises:
        TypeError: as `igjax.integrated_gradients`, if x is complex, and if rules is no
            composite.
        ValueError: as `igjax.integrated_gradients`; if a step that x goes through has no
            rule: the message names primitive, line and remedy; if a selector matches
            nothing, or a rule for first layers meets another one.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> w = jnp.array([[1.0, 2.0], [3.0, 1.0]])
        >>> f = lambda x: (x + jax.nn.relu(w @ x)) @ jnp.array([2.0, -1.0])
        >>> attribute = igjax.propagation.relevance(f)
        >>> attribute(jnp.array([2.0, 1.0])).values.round(3)
        Array([2., 2.], dtype=float32)

    References:
        Bach et al., "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by
        Layer-Wise Relevance Propagation", PLOS ONE 2015.
        Achtibat et al., "AttnLRP: Attention-Aware Layer-Wise Relevance Propagation for
        Transformers", ICML 2024.
    """
    composites.check("relevance", rules, paired=False)
    return at_x("relevance", _recipe((*rules, *composites.EPSILON)), f)


def at_x(caller: str, recipe, f):
    """An attribution that looks at x alone, with a baseline that may be left out."""
    one = quadrature.right(1)  # no path is walked, but every attribution has a rule
    inner = compiled.attribution(caller, recipe, f, paths.straight, one, None, scalar=True)

    def attribute(x, baseline=None, /, *args) -> Attribution:
        return inner(x, x if baseline is None else baseline, *args)

    return attribute


@functools.lru_cache  # programs are kept by recipe: an equal one must be the same one
def _recipe(composite):
    def recipe(f, path, operands, rule, chunk_size) -> Attribution:
        del path, rule, chunk_size
        x = operands.x
        _checks.real("relevance", x)
        found = multipliers("relevance", partial(f, operands), x, None, composite)
        values = products(found.slopes, x)
        values = jax.tree.map(jnp.add, values, widen(found.relevance))
        delta = gap(values, jnp.zeros_like(found.score), found.score)
        return of_no_tolerance(values, delta, found.score)

    return recipe
