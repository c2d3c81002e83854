"""The methods: integrated gradients and Jacobians, short recipes over the path integral."""

import jax
from jax.core import Tracer

from igjax import paths, rules
from igjax._program import compiled
from igjax.integration import recipes

__all__ = ["adaptive_rule", "integrated_gradients", "integrated_jacobian"]


def integrated_gradients(f, *, rule=None, path=paths.straight, chunk_size=None):
    r"""Integrated Gradients as a function transformation, with its own error estimate.

    $$\mathrm{IG}_i = (x_i - x'_i) \int_0^1
      \frac{\partial f}{\partial x_i}\bigl(x' + t (x - x')\bigr)\,dt$$

    along the straight path, and $\int \partial_i f(\gamma)\,\dot\gamma_i\,dt$ along any
    other. The values add up to f(x) - f(baseline), up to the error of the rule. Use it
    to say which features of x made f differ from its score at the baseline.

    The attribution compiles itself once per shape and function; build it once, put what
    varies (parameters, labels) in `*args`. It is written for one example: a batch is
    `jax.vmap(attribute, in_axes=(0, None, ...))`, best inside `jax.jit`.

    Args:
        f: `f(x, *args) -> scalar`, traceable by JAX, for one example: x is a pytree of
            floating or complex arrays, the result has shape () and is real.
        rule: None is `rules.adaptive()`, which meets a relative tolerance of 1e-2;
            `rules.adaptive(tolerance)` another; or a fixed one, a `rules.Rule`.
        path: `path(x, baseline, t) -> point`, differentiable in the scalar t.
        chunk_size: how many nodes are evaluated side by side; it bounds the memory,
            which does not depend on the number of nodes. None chooses it by the
            size of the intermediate values of f, the memory of the device and the batch
            of a `vmap`, but for one around a `jit`, which hides it. One node of all
            examples is the least: ask `igjax.cost` whether a large batch fits.

    Returns:
        `attribute(x, baseline, *args) -> Attribution`. The baseline has the structure of
        x; a scalar stands for a whole leaf. Array leaves and numbers in args are traced,
        all others are static and must be hashable. Numbers that f is bound to, by
        `functools.partial` or as fields of a module, are static, as in a closure: those
        that shape the program (sizes, counts, branches) belong there.

    Raises:
        TypeError: if f, the path or a leaf of x or of the baseline has the wrong type, or
            f needs the value of what is traced; the message says of what, and where.
        ValueError: if a structure or shape does not fit, or f returns no scalar.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> f = lambda x, w: jnp.tanh(x @ w)
        >>> attribute = igjax.integrated_gradients(f)
        >>> result = attribute(jnp.array([1.0, 2.0]), 0.0 * jnp.ones(2), jnp.ones(2))
        >>> result.values.round(4)  # tanh(3) in proportion to x * w
        Array([0.3317, 0.6634], dtype=float32)
        >>> bool(abs(result.delta) < 1e-6)
        True

    References:
        Sundararajan, Taly, Yan, "Axiomatic Attribution for Deep Networks", ICML 2017.
    """
    rule = rules.adaptive() if rule is None else rule
    first, options = recipes.first_look(path, rule), (f, path, rule, chunk_size)
    return compiled.attribution(
        "integrated_gradients", recipes.along(path), *options, scalar=True, first=first
    )


def integrated_jacobian(f, *, rule=None, path=paths.straight, chunk_size=None):
    r"""Integrated gradients of all outputs of a function, from one sweep of the path.

    $$J_{ki} = (x_i - x'_i) \int_0^1
      \frac{\partial f_k}{\partial x_i}\bigl(x' + t (x - x')\bigr)\,dt$$

    Use it to explain all classes or time steps at once: at each node one forward pass
    serves all outputs. A contrast of two outputs is the difference of their values.

    Args:
        f: `f(x, *args) -> array`, traceable by JAX, for one example.
        rule: as in `integrated_gradients`.
        path: as in `integrated_gradients`.
        chunk_size: as in `integrated_gradients`.

    Returns:
        `attribute(x, baseline, *args) -> Attribution`, whose values and errors have the
        axes of the output in front, as those of `jax.jacrev`; so have `score`,
        `baseline_score`, `delta` and `status`.

    Raises:
        TypeError: if f, the path or a leaf of x or of the baseline has the wrong type.
        ValueError: if a structure or shape does not fit.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> w = jnp.array([[1.0, 0.0], [2.0, 3.0]])
        >>> attribute = igjax.integrated_jacobian(lambda x: w @ x)
        >>> attribute(jnp.ones(2), jnp.zeros(2)).values.round(4)
        Array([[1., 0.],
               [2., 3.]], dtype=float32)

    References:
        Sundararajan, Taly, Yan, "Axiomatic Attribution for Deep Networks", ICML 2017.
    """
    rule = rules.adaptive() if rule is None else rule
    first, options = recipes.first_look(path, rule), (f, path, rule, chunk_size)
    return compiled.attribution(
        "integrated_jacobian", recipes.along(path), *options, scalar=False, first=first
    )


def adaptive_rule(f, *, rule=None, path=paths.straight):
    """The mesh that the adaptive rule finds for an example, as a fixed rule.

    Use it to differentiate: reverse mode cannot go through the adaptive rule, whose mesh
    depends on the input, but it can through the mesh found for that input.

    Args:
        f: as in `integrated_gradients`.
        rule: a `rules.Adaptive`; None is `rules.adaptive()`.
        path: as in `integrated_gradients`.

    Returns:
        `make(x, baseline, *args) -> rules.Rule`, 15 Gauss-Kronrod nodes for each panel.
        Called under `jit` the rule is padded, by nodes of weight 0, to the budget. Jumps
        narrower than the dtype resolves are beyond any fixed rule.

    Raises:
        TypeError: if the rule is a fixed one, and as `integrated_gradients`.
        ValueError: as `integrated_gradients`.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> f = lambda x: jax.nn.sigmoid(300.0 * (x.sum() - 1.0))
        >>> x, baseline = jnp.array([1.0, 3.0]), jnp.zeros(2)
        >>> rule = igjax.adaptive_rule(f)(x, baseline)
        >>> attribute = igjax.integrated_gradients(f, rule=rule)
        >>> jax.grad(lambda x: attribute(x, baseline).values[0])(x).shape
        (2,)
    """
    rule = rules.adaptive() if rule is None else rule
    if not isinstance(rule, rules.Adaptive):
        raise TypeError(f"adaptive_rule: rule must be rules.adaptive(...), got {rule!r}.")
    make = compiled.attribution(
        "adaptive_rule", recipes.mesh, f, path, rule, None, scalar=True
    )

    def fixed(x, baseline, /, *args):
        edges, panels = make(x, baseline, *args)
        if not isinstance(panels, Tracer):
            edges = jax.lax.slice_in_dim(edges, 0, int(panels))
        return rules.on_panels(edges, panels)

    return fixed
