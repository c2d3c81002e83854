"""Every primitive stands in one table or is refused; every rule accounts for the change."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import igjax
from igjax.propagation import (
    EPSILON,
    Rule,
    _primitives as tables,
    alpha_beta,
    deeplift,
    epsilon,
    flat,
    gamma,
    gradient,
    guided_gradient,
    integrated,
    relevance,
    rescale,
    stop,
    units,
    zplus,
)

TABLES = (
    frozenset(tables.LINEAR),
    tables.PRODUCTS,
    tables.QUOTIENTS,
    tables.MAXIMA,
    tables.POOLS,
    tables.CURVES,
    tables.STILL,
    tables.LOOPS,
    tables.BRANCHES,
)


def test_each_primitive_stands_in_one_table():
    for one, other in itertools.combinations(TABLES, 2):
        assert not one & other


def test_what_is_derived_of_tables_is_in_them():
    known = frozenset().union(*TABLES)
    for derived in (tables.VIEWS, tables.LAYERS, tables.STEPS, tables.ELEMENTWISE):
        assert derived <= known


# Functions of one number, all in one program; none is linear.
CURVES = [
    *(lax.abs, lax.asinh, lax.atan, lax.cbrt, lax.ceil, lax.cos, lax.cosh, lax.erf),
    *(lax.erfc, lax.exp, lax.exp2, lax.expm1, lax.floor, lax.logistic),
    *(lax.round, lax.sign, lax.sin, lax.sinh, lax.tanh, lax.square, lax.tan),
    *(lax.bessel_i0e, lax.bessel_i1e, lambda x: lax.integer_pow(x, 3)),
    *(lambda x: lax.clamp(0.0, x, 1.0), lambda x: jnp.maximum(x, 0.2)),
    *(lambda x: jnp.minimum(0.5, x), lambda x: 2.0**x, lambda x: 1 / (x + 3)),
    *(lambda x: lax.sqrt(x + 3), lambda x: lax.rsqrt(x + 3), lambda x: lax.log(x + 3)),
    *(lambda x: lax.lgamma(x + 3), lambda x: lax.digamma(x + 3), lambda x: (x + 3) ** 1.5),
    *(lambda x: lax.atan2(x, 2.0), lambda x: lax.rem(x, 0.7), lambda x: lax.erf_inv(x / 4)),
    *(lambda x: lax.asin(x / 4), lambda x: lax.acos(x / 4), lambda x: lax.atanh(x / 4)),
    *(
        lambda x: lax.log1p(x + 2),
        lambda x: lax.acosh(x + 4),
        lambda x: jnp.where(x > 0, 1.0, 0.0),
    ),
    *(lambda x: x.astype(int).astype(float), lambda x: x * (x > 0)),
]
TWO = [
    *(jnp.add, jnp.subtract, jnp.multiply, jnp.maximum, jnp.minimum, jnp.logaddexp),
    lambda a, b: a / (b + 3),
    lambda a, b: jnp.dot(jnp.stack([a, b]), jnp.stack([b, a])),
]


@pytest.mark.slow
def test_a_multiplier_times_the_change_is_the_change_of_the_output():
    def f(x):
        curves = jnp.stack([g(x[i]) for i, g in enumerate(CURVES)])
        pairs = x[len(CURVES) :].reshape(-1, 2)
        return jnp.concatenate(
            [curves, jnp.stack([g(*p) for g, p in zip(TWO, pairs, strict=True)])]
        )

    count = len(CURVES) + 2 * len(TWO)
    generator = np.random.default_rng(0)
    x, baseline = generator.uniform(-1.9, 1.9, (2, count))
    one = lambda i: deeplift(lambda x: f(x)[i])(x, baseline)
    results = jax.jit(jax.vmap(one))(jnp.arange(len(CURVES) + len(TWO)))
    scale = np.abs(np.asarray(results.values)).sum(1) + np.abs(results.score) + 1
    assert (np.abs(results.delta) < 1e-14 * scale).all()
    assert (results.status == igjax.Status.NO_TOLERANCE).all()
    np.testing.assert_allclose(np.asarray(results.score), f(x))


def test_differences_that_rounding_hides_take_the_slope():
    # Beside the kink of a ReLU a secant is taken, however small the difference.
    f = lambda x: jnp.exp(x[0]) + jax.nn.relu(x[1] - 1)
    x = jnp.array([0.3 + 1e-15, 1 + 1e-9])
    slopes = deeplift(f)(x, jnp.array([0.3, 1 - 1e-9])).values / jnp.array(
        [x[0] - 0.3, 2e-9]
    )
    np.testing.assert_allclose(slopes, [np.exp(0.3), 0.5], rtol=1e-6)


# What is refused, what the message says, and a rule that helps.
REFUSED = {
    "sort": (lambda x: jnp.sort(x)[0], "'sort' has no rule"),
    "top_k": (lambda x: lax.top_k(x, 1)[0][0], "'top_k' has no rule"),
    "cumprod": (lambda x: jnp.cumprod(x)[2], "'cumprod' has no rule"),
    "select_n": (lambda x: jnp.where(x[0] > 0, x[1], x[2]), "'select_n' picks by a"),
    "cond": (
        lambda x: lax.cond(x[0] > 0, jnp.sum, lambda x: 2 * x[1], x),
        "'cond' picks by a",
    ),
    "dynamic_slice": (lambda x: x[jnp.argmax(x)], "'dynamic_slice' picks by a"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_rule_is_an_error_that_names_line_and_remedy(name):
    f, message = REFUSED[name]
    x = jnp.array([0.5, 2.0, -1.0])
    with pytest.raises(ValueError, match=message) as caught:
        deeplift(f)(x, 0.0)
    assert "test_primitives.py" in str(caught.value)
    assert f"rules=(('{name}', igjax.propagation.integrated()),)" in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_the_remedies_of_the_message_work(name):
    f, _ = REFUSED[name]
    x = jnp.array([0.5, 2.0, -1.0])
    many = integrated(igjax.rules.midpoint(32))
    assert jnp.isfinite(deeplift(f, ((name, many),))(x, 0.0).delta)
    by_slope = deeplift(f, ((name, gradient()),))(x, 0.0).values
    assert jnp.isfinite(by_slope).all()


def test_the_general_fallback_is_complete():
    f = lambda x: jnp.sort(x)[0] + jnp.cumprod(x)[2]
    rule = integrated()
    result = deeplift(f, (("sort", rule), ("cumprod", rule)))(jnp.array([0.5, 2, 1]), 0.0)
    assert abs(result.delta) < 1e-12


def test_loops_of_unknown_length_are_refused():
    f = lambda x: lax.while_loop(lambda c: c < 9, lambda c: c * c + 1, x.sum())
    with pytest.raises(ValueError, match=r"must have a known length, got a while .*py:"):
        deeplift(f)(jnp.ones(2), 0.0)
    counted = lambda x: x.sum() * lax.while_loop(lambda c: c < 9, lambda c: 2 * c, 1)
    assert abs(deeplift(counted)(jnp.ones(2), 0.0).delta) < 1e-12


def test_complex_numbers_are_refused():
    f = lambda x: jnp.abs(jnp.fft.rfft(x)).sum()
    for method in (deeplift(f), relevance(f)):
        with pytest.raises(ValueError, match="'fft' has no rule"):
            method(jnp.ones(4), 0.0)
    with pytest.raises(TypeError, match="deeplift: x must be real"):
        deeplift(lambda x: jnp.abs(x).sum())(jnp.ones(2, complex), 0.0)


def test_what_no_relevance_meets_may_be_anything():
    f = lambda x: (x / lax.stop_gradient(jnp.sort(x)[-1])).sum()
    assert [e.kind for e in units(f)(jnp.ones(2))] == []
    np.testing.assert_allclose(relevance(f)(jnp.array([1.0, 2.0])).values, [0.5, 1])


def test_a_stopped_part_is_seen_in_the_status():
    f = lambda x: x.sum() + jnp.tanh(lax.stop_gradient(x)).sum()
    result = deeplift(f)(jnp.ones(2), 0.0)
    np.testing.assert_allclose(result.delta, -2 * np.tanh(1))
    assert result.status == igjax.Status.NOT_VERIFIED
    stopped = deeplift(lambda x: jnp.tanh(x).sum(), (("activation", stop()),))(
        jnp.ones(2), 0.0
    )
    assert stopped.status == igjax.Status.NOT_VERIFIED


def test_nothing_converges_that_promises_nothing():
    f = lambda x: jax.nn.relu(x).sum()
    for method in (deeplift(f), relevance(f), guided_gradient(f)):
        assert not method(jnp.ones(2), jnp.zeros(2)).converged
    bad = deeplift(lambda x: jnp.log(x).sum())(jnp.ones(2), 0.0)
    assert bad.status == igjax.Status.NON_FINITE


def test_guided_gradients_want_a_relu():
    with pytest.raises(ValueError, match="guided_gradient: the selector 'relu' must match"):
        guided_gradient(lambda x: jnp.tanh(x).sum())(jnp.ones(2))


def test_composites_are_checked():
    f = lambda x: x.sum()
    with pytest.raises(TypeError, match=r"deeplift: rules must be a tuple of \(selector"):
        deeplift(f, [("layer", epsilon())])  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="relevance: rules must be a tuple"):
        relevance(f, (epsilon(),))  # pyright: ignore[reportArgumentType]
    with pytest.raises(
        ValueError, match="relevance: the rule 'rescale' looks at a baseline"
    ):
        relevance(f, (("activation", rescale()),))
    with pytest.raises(ValueError, match="deeplift: the rule 'flat' is no multiplier"):
        deeplift(f, (("layer", flat()),))
    with pytest.raises(ValueError, match="epsilon: eps must not be negative"):
        epsilon(-1.0)
    with pytest.raises(TypeError, match="integrated: rule must be a fixed one"):
        integrated(igjax.rules.adaptive())  # pyright: ignore[reportArgumentType]


def test_a_rule_of_ones_own():
    def halved(unit, values, references, ct):
        return tuple(c / 2 for c in unit.pull(values, ct))

    rules = (("activation", Rule("halved", ("activation",), halved)), *EPSILON)
    f = lambda x: jnp.tanh(x).sum()
    x = jnp.array([0.5, -1.0])
    np.testing.assert_allclose(
        relevance(f, rules)(x).values, x * (1 - jnp.tanh(x) ** 2) / 2
    )


def test_what_is_known_to_be_positive_changes_no_value():
    # After a ReLU half of the bounds of a layer are not computed; of -relu they are.
    rng = np.random.default_rng(0)
    kernel, weights = jnp.asarray(rng.normal(size=(3, 2, 3))), rng.normal(size=(12,))
    taps = ("NWC", "WIO", "NWC")
    conv = lambda x: lax.conv_general_dilated(
        x[None], kernel, (1,), "SAME", None, None, taps
    )
    relu = jax.nn.relu
    above = lambda y: (relu(conv(y))[0, :8:2] + 3).reshape(-1) @ jnp.asarray(weights)
    known, unknown = lambda x: above(relu(x)), lambda x: above(-jnp.minimum(-x, 0) + 0)
    x = jnp.asarray(rng.normal(size=(8, 2)))
    for rule in (zplus(), alpha_beta(), gamma()):
        rules = (("layer", rule), ("maximum", gradient()), ("activation", gradient()))
        one, other = (relevance(f, rules)(x).values for f in (known, unknown))
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
        assert np.abs(one).max() > 1e-3
