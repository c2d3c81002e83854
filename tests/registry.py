"""What the cross-cutting tests run over: the methods, fixed rules, and a zoo of models.

A compilation costs more than all the arithmetic here. So the rules are padded to one
shape and `over_rules` maps over them (rules are operands), and all inputs of a model go
through in one batch: one compilation for each method and model.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import igjax
from igjax.models import CNN, MLP, SequenceLSTM, SequenceTransformer
from igjax.rules import Rule


@contextlib.contextmanager
def x64(enabled: bool):
    """Switches float64 on or off; `jax.enable_x64` is not there before JAX 0.8."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", enabled)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


@dataclasses.dataclass(frozen=True, eq=False)
class Method:
    """A public method: `transform(f, rule=rule)` explains a scalar f."""

    name: str
    transform: Callable[..., Callable]


METHODS = [
    Method("integrated_gradients", igjax.integrated_gradients),
    Method("integrated_jacobian", igjax.integrated_jacobian),
]

# Rules by name, with the degree of polynomials that each integrates exactly.
RULES: dict[str, tuple[Rule, int]] = {
    "left": (igjax.rules.left(32), 0),
    "right": (igjax.rules.right(32), 0),
    "midpoint": (igjax.rules.midpoint(32), 1),
    "one midpoint": (igjax.rules.midpoint(1), 1),
    "trapezoid": (igjax.rules.trapezoid(33), 1),
    "simpson": (igjax.rules.simpson(33), 3),
    "gauss_legendre": (igjax.rules.gauss_legendre(32), 63),
    "gauss_legendre 3": (igjax.rules.gauss_legendre(3), 5),
    "gauss_legendre 16": (igjax.rules.gauss_legendre(16), 31),
    "gauss_kronrod": (igjax.rules.gauss_kronrod(31), 47),
    "clenshaw_curtis": (igjax.rules.clenshaw_curtis(33), 33),
    "composite": (igjax.rules.composite(igjax.rules.gauss_legendre(16), 2), 31),
}


# Compiling costs more than running what runs once.
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def together(*thunks):
    """Calls all in one program, and returns their results."""
    return jax.jit(lambda: [thunk() for thunk in thunks], compiler_options=QUICKLY)()


def padded(rules, n: int) -> Rule:
    """Rules of up to n nodes as one `Rule` with a leading axis: weight 0 where padded."""

    def grow(rule):
        nodes, weights, errors = rule.nodes, rule.weights, rule.error_weights
        fill = n - len(nodes)
        rows = 5 - len(errors)
        return (
            np.pad(nodes, (0, fill), mode="edge"),
            np.pad(weights, (0, fill)),
            np.pad(errors, ((0, rows), (0, fill))),
        )

    nodes, weights, errors = map(np.stack, zip(*map(grow, rules), strict=True))
    return Rule(nodes, weights, errors)


def over_rules(transform, f, rules) -> Callable:
    """An attribute function for all rules at once: results lead with an axis of rules."""
    stack = padded(rules, max(len(rule.nodes) for rule in rules))

    def attribute(x, baseline, *args):
        one = lambda rule: transform(f, rule=rule)(x, baseline, *args)
        return jax.vmap(one)(stack)

    return attribute


def discrepancy(rule: Rule) -> float:
    """The largest |weights up to s - s|: the D of Koksma's inequality.

    The error of a rule on an integrand of total variation V is at most D * V, whatever
    the integrand: kinked, narrow, anything. Used with a safety of rounding alone.
    """
    below = np.concatenate([[0.0], np.cumsum(rule.weights)])
    edges = np.concatenate([[0.0], rule.nodes, [1.0]])
    return max(np.abs(below - edges[:-1]).max(), np.abs(below - edges[1:]).max())


def slope_variation(scores):
    """The total variation of the derivative of sampled scores, one row for each path."""
    return np.abs(np.diff(scores, 2, axis=-1)).sum(axis=-1) * (scores.shape[-1] - 1)


def symmetric(rule: Rule) -> bool:
    """True if the rule is its own mirror image."""
    return np.allclose(rule.nodes, 1 - rule.nodes[::-1], atol=1e-12) and np.allclose(
        rule.weights, rule.weights[::-1], atol=1e-12
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Specimen:
    """A model of the zoo: `score(params, x)` for x of shape (..., *shape)."""

    name: str
    model: nn.Module
    shape: tuple[int, ...]
    smooth: bool  # far from kinks and poles: 32 Gauss nodes reach 1e-9

    @functools.cached_property
    def params(self) -> Any:
        """Random float64 parameters; no initializer has to be compiled."""
        generator = np.random.default_rng(1)  # no dead layer
        shapes = jax.eval_shape(
            self.model.init, jax.random.key(0), jax.ShapeDtypeStruct(self.shape, "float32")
        )
        # Kernels that keep the scale of what passes, and smaller biases.
        scale = lambda shape: 1 / np.sqrt(np.prod(shape[:-1])) if len(shape) > 1 else 0.3
        draw = lambda a: generator.normal(size=a.shape) * scale(a.shape)
        return jax.tree.map(draw, shapes)

    def score(self, params, x):
        """The first output, of shape x.shape[: -len(shape)]."""
        output: Any = self.model.apply(params, x)
        return output[..., 0]


_ACTIVATIONS = {"relu": nn.relu, "tanh": nn.tanh, "gelu": nn.gelu, "softplus": nn.softplus}

ZOO = [
    *(
        Specimen(
            f"mlp {name}{' layernorm' * norm}",
            MLP((9, 7, 1), activation, layer_norm=norm),
            (6,),
            # LayerNorm is analytic, but with poles near the path where it meets it flat.
            smooth=name != "relu" and not norm,
        )
        for name, activation in _ACTIVATIONS.items()
        for norm in (False, True)
    ),
    # The maximum over time is kinked.
    *(
        Specimen(f"lstm {steps}", SequenceLSTM(4), (steps, 2), smooth=False)
        for steps in (5, 20, 50, 200)
    ),
    Specimen("cnn", CNN(1, channels=(3, 4), hidden=12), (6, 6, 1), smooth=False),
    Specimen("transformer", SequenceTransformer(2, 1, 8), (5, 4), smooth=False),
]


# Methods that take no rule, or draw at random. `transform(f, **options)` gives them the
# signature of the others: the key is fixed, and rows are twice the same baseline.

_NOISE = {"scale": 0.1, "relative": False}


def _keyed(combined, rows: bool = False):
    def attribute(x, baseline, *args):
        if rows:
            both = lambda a, b: jnp.broadcast_to(jnp.asarray(b), (2, *jnp.shape(a)))
            baseline = jax.tree.map(both, x, baseline)
        return combined(jax.random.key(7), x, baseline, *args)

    return attribute


PLAIN = [
    Method("gradient", igjax.gradient),
    Method("input_x_gradient", igjax.input_x_gradient),
]
RANDOM = [
    Method(
        "smooth",
        lambda f, **o: _keyed(
            igjax.smooth(igjax.input_x_gradient(f), draws=8, **_NOISE, **o)
        ),
    ),
    Method(
        "smooth_squared",
        lambda f, **o: _keyed(
            igjax.smooth_squared(igjax.input_x_gradient(f), draws=8, **_NOISE, **o)
        ),
    ),
    Method(
        "smooth_variance",
        lambda f, **o: _keyed(
            igjax.smooth_variance(igjax.input_x_gradient(f), draws=16, **_NOISE, **o)
        ),
    ),
    Method(
        "expected",
        lambda f, **o: _keyed(igjax.expected(igjax.input_x_gradient(f), **o), rows=True),
    ),
    Method(
        "expected of a sampler",
        lambda f, **o: _keyed(
            igjax.expected(
                igjax.input_x_gradient(f), igjax.baselines.noise(0.1), draws=4, **o
            )
        ),
    ),
    Method(
        "expected_integrated_gradients",
        lambda f, **o: _keyed(igjax.expected_integrated_gradients(f, **o), rows=True),
    ),
    Method(
        "expected_gradients",
        lambda f, **o: _keyed(igjax.expected_gradients(f, draws=16, **o), rows=True),
    ),
]
