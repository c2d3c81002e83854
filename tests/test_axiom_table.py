"""Which axioms each method keeps: a table, every cell of which is tested.

A method that lacks an axiom is shown to lack it, by a counterexample: a table that only
lists what holds would pass if it listed less. All methods go through the same cases, rows
of operands of one function, so that each is compiled once. The table of docs/tables.md is
compared with this one.
"""

import dataclasses
import functools
import pathlib
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

import igjax
from tests.registry import QUICKLY

AXIOMS = {
    "complete": "the values add up to f(x) - f(baseline)",
    "sensitive": "the only feature that f reads gets something, if f changes",
    "dummy": "a feature that f does not read gets 0",
    "invariant": "how f is written, or cut into layers, does not matter",
    "linear": "the values of a sum of functions are the sums of their values",
    "symmetric": "features that f, x and the baseline treat alike get the same",
    "proportional": "a function of the sum of the features: values in proportion to x",
}
YES, NO = "yes", "no"
MEAN = "mean"  # kept in the mean over the draws: up to `error`, for the scores reported
TABLE = {
    "integrated_gradients": (YES, YES, YES, YES, YES, YES, YES),
    "integrated_gradients on a staircase": (YES, YES, YES, YES, YES, NO, NO),
    "integrated_gradients on a blur": (YES, YES, YES, YES, YES, NO, NO),
    "guided_integrated_gradients": (YES, YES, YES, YES, NO, YES, YES),
    "perturbation.shapley_values": (YES, YES, YES, YES, YES, YES, NO),
    "expected_integrated_gradients": (MEAN, YES, YES, YES, YES, YES, NO),
    "expected_gradients": (MEAN, YES, YES, YES, YES, YES, NO),
    "smooth(integrated_gradients)": (MEAN, YES, YES, YES, YES, MEAN, NO),
    "smooth_variance(gradient)": (NO, NO, YES, YES, NO, MEAN, NO),
    "input_x_gradient": (NO, NO, YES, YES, YES, YES, YES),
    "gradient": (NO, NO, YES, YES, YES, YES, NO),
    "integrated_hessians summed by rows": (YES, YES, YES, YES, YES, YES, YES),
    "layer_integrated_gradients": (YES, YES, YES, NO, YES, YES, YES),
    "layer_conductance": (YES, YES, YES, NO, YES, YES, YES),
    "internal_influence": (NO, YES, YES, NO, YES, YES, NO),
    "layer_gradient_x_activation": (NO, NO, YES, NO, YES, YES, YES),
    "grad_cam": (NO, NO, NO, NO, NO, YES, NO),
}
ROUNDING, COUNTEREXAMPLE = 1e-9, 1e-2


def markdown() -> str:
    """The table as it stands on the page."""
    rows = [["method", *AXIOMS], ["---"] * (1 + len(AXIOMS))]
    for name, cells in TABLE.items():
        code, *rest = name.split(" ", 1)
        rows.append([" ".join([f"`{code}`", *rest]), *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


# The function: a layer y = turn @ x, and then any sum of these scores of z = back @ y.


def scores(z):
    u, v, w = z[0], z[1], z[2]
    relu = jax.nn.relu
    return jnp.stack(
        [
            jnp.tanh(u * v) + jnp.sin(w) * u + v**2,  # everything, and nothing special
            jnp.exp(u * w) + w * v**2,
            jnp.tanh(2 * u),  # one feature, and flat where x is
            jnp.tanh(u * w) + w,  # feature 1 is not read
            u * v * jnp.cos(w) + jnp.tanh(u + v),  # 0 and 1 are alike
            (u + v + w) ** 3,
            relu(relu(u) - 1 - relu(v)),  # the same function
            relu(relu(u - 1) - relu(v)),  # written twice
        ]
    )


def f(x, weights, turn, back):
    y = checkpoint_name((turn @ x)[:, None], "y")
    z = back @ y[:, 0]
    # A score without weight must not be infinite, or have an infinite slope: none has.
    return jnp.dot(weights, scores(z))


class Case(NamedTuple):
    """Operands of f."""

    x: Any
    baseline: Any
    weights: Any
    turn: Any = np.eye(3)
    back: Any = np.eye(3)


def pick(**weights):
    """Weights of scores by their number: `pick(s0=1.0)`."""
    return np.array([weights.get(f"s{k}", 0.0) for k in range(8)])


X, B = np.array([0.9, 0.5, 0.7]), np.array([-0.2, -0.4, 0.1])
ZERO = np.zeros(3)
FLAT = np.array([2.5, 0.0, 0.0])
ALIKE = np.array([0.8, 0.8, -1.5]), np.array([-0.1, -0.1, 0.3])
TURN = np.array([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [0.0, 0.5, 2.0]])
CASES = {
    "first": Case(X, B, pick(s0=1.0)),
    "second": Case(X, B, pick(s1=1.0)),
    "both": Case(X, B, pick(s0=1.0, s1=-8.0)),
    "flat": Case(FLAT, ZERO, pick(s2=1.0)),
    "unread": Case(X, B, pick(s3=1.0)),
    "alike": Case(*ALIKE, pick(s4=1.0)),
    "of the sum": Case(np.array([1.0, 2.0, -0.5]), ZERO, pick(s5=1.0)),
    "written": Case(np.array([3.0, 1.0, 0.5]), ZERO, pick(s0=1.0, s6=1.0)),
    "rewritten": Case(
        np.array([3.0, 1.0, 0.5]),
        *(ZERO, pick(s0=1.0, s7=1.0), TURN, np.linalg.inv(TURN)),
    ),
}


# The methods, all with the signature attribute(x, baseline, *args).

RULE = igjax.rules.composite(igjax.rules.gauss_legendre(16), 6)
FEW = igjax.rules.gauss_legendre(16)
KEY = jax.random.key(3)
BLUR = igjax.paths.blur(3.0, axes=(0,))
ROWS = np.array([[0.3, 0.3, 0.2], [-0.3, -0.3, -0.2]])


def keyed(explain):
    return functools.partial(explain, KEY)


def over_rows(explain):
    return lambda x, b, *args: explain(KEY, x, b[None] + ROWS, *args)


def row_sums(explain):
    def attribute(x, b, *args):
        result = explain(x, b, *args)
        return dataclasses.replace(
            result, values=result.values.sum(1), error=result.error.sum(1)
        )

    return attribute


def without_baseline(look):
    return lambda x, b, *args: look(x, *args)


def noisy(combinator, attribute, draws):
    return keyed(combinator(attribute, scale=0.3, relative=False, draws=draws))


def methods():
    straight = igjax.integrated_gradients(f, rule=RULE)
    turns = igjax.paths.staircase(np.array([2, 0, 1]), 3)
    return {
        "integrated_gradients": straight,
        "integrated_gradients on a staircase": igjax.integrated_gradients(
            f, rule=RULE, path=turns
        ),
        "integrated_gradients on a blur": igjax.integrated_gradients(
            f, rule=RULE, path=BLUR
        ),
        "guided_integrated_gradients": igjax.guided_integrated_gradients(f, steps=64),
        "perturbation.shapley_values": keyed(igjax.perturbation.shapley_values(f)),
        "expected_integrated_gradients": over_rows(
            igjax.expected_integrated_gradients(f, rule=RULE)
        ),
        "expected_gradients": over_rows(igjax.expected_gradients(f, draws=32)),
        "smooth(integrated_gradients)": noisy(
            igjax.smooth, igjax.integrated_gradients(f, rule=RULE), 16
        ),
        "smooth_variance(gradient)": noisy(igjax.smooth_variance, igjax.gradient(f), 16),
        "input_x_gradient": igjax.input_x_gradient(f),
        "gradient": igjax.gradient(f),
        "integrated_hessians summed by rows": row_sums(
            igjax.integrated_hessians(f, nodes=24)
        ),
        "layer_integrated_gradients": igjax.layer_integrated_gradients(f, "y", rule=RULE),
        "layer_conductance": igjax.layer_conductance(f, "y", rule=RULE),
        "internal_influence": igjax.internal_influence(f, "y", rule=RULE),
        "layer_gradient_x_activation": without_baseline(
            igjax.layer_gradient_x_activation(f, "y")
        ),
        "grad_cam": without_baseline(igjax.grad_cam(f, "y")),
    }


class Outcome(NamedTuple):
    """Of a case: values, errors (0 if there are none), and gaps of completeness."""

    values: Any
    error: Any
    gap: Any  # against f(x) - f(baseline)
    own_gap: Any  # against the scores in the result


@functools.cache
def outcomes():
    """By method and case; one program."""
    operands = Case(*(np.stack(column) for column in zip(*CASES.values(), strict=True)))

    def one(name, attribute, case):
        result = attribute(*case)
        start = BLUR(case.x, 0.0, 0.0) if "blur" in name else case.baseline
        change = f(case.x, *case[2:]) - f(start, *case[2:])
        if name == "grad_cam":  # a map, and no more
            return Outcome(result, 0 * result, result.sum() - change, jnp.nan * change)
        values, error = result.values.reshape(3), result.error.reshape(3)
        own_change = result.score - result.baseline_score
        return Outcome(values, error, values.sum() - change, values.sum() - own_change)

    def everything(operands):
        return {
            name: jax.vmap(functools.partial(one, name, attribute))(operands)
            for name, attribute in methods().items()
        }

    found = jax.device_get(jax.jit(everything, compiler_options=QUICKLY)(operands))
    of_case = lambda k: lambda a: a[k]
    return {
        name: {case: jax.tree.map(of_case(k), rows) for k, case in enumerate(CASES)}
        for name, rows in found.items()
    }


def deviation(axiom, of):
    """How far the outcomes of a method are from an axiom, and how far they may be."""
    first, error = of["first"], of["first"].error
    if axiom == "complete":
        return first.gap, error.sum()
    if axiom == "sensitive":
        # Kept if the value is not small; so what is small is the share that is missing.
        value = of["flat"].values[0]
        return max(0.0, 2 * COUNTEREXAMPLE - abs(value)), 0.0
    if axiom == "dummy":
        return of["unread"].values[1], 0.0
    if axiom == "invariant":
        return of["written"].values - of["rewritten"].values, 0.0
    if axiom == "linear":
        parts = first.values - 8.0 * of["second"].values
        return of["both"].values - parts, 0.0
    if axiom == "symmetric":
        values, error = of["alike"].values, of["alike"].error
        return values[0] - values[1], error[:2].sum()
    values, x = of["of the sum"].values, CASES["of the sum"].x
    crossed = np.outer(values, x)
    return crossed - crossed.T, 0.0


@pytest.mark.parametrize("axiom", AXIOMS)
@pytest.mark.parametrize("method", TABLE)
def test_a_cell_of_the_table(method, axiom):
    cell = TABLE[method][list(AXIOMS).index(axiom)]
    found, allowed = deviation(axiom, outcomes()[method])
    found = np.abs(found).max()
    if cell == YES:
        assert found <= ROUNDING
    elif cell == NO:
        assert found >= COUNTEREXAMPLE
    elif axiom == "complete":
        assert found > COUNTEREXAMPLE / 10  # else it would be complete
        assert abs(outcomes()[method]["first"].own_gap) <= allowed + ROUNDING
    else:
        assert ROUNDING < found <= allowed


def test_the_table_is_about_every_method():
    words = ("gradient", "conductance", "influence", "shapley", "hessians", "cam")
    makers = {name for name in vars(igjax) if any(word in name for word in words)}
    # A submodule, and a part of what another attributes, by its definition.
    makers -= {"gradients", "neuron_conductance"}
    assert makers <= set(re.findall(r"\w+", " ".join(TABLE)))


def test_the_table_of_the_page_is_this_one():
    page = pathlib.Path(__file__).parents[1] / "docs" / "tables.md"
    assert markdown() in page.read_text("utf8")
