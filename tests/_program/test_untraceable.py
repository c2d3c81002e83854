"""Numbers that shape a program: static where f is bound to them, named where they are not.

Right values are those of `jax.grad`, by the same rule written out: what `jax.grad` takes,
igjax takes.
"""

import functools
import pathlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from jax.experimental import sparse

import igjax

RULE = igjax.rules.gauss_legendre(6)
X = np.array([0.5, -1.0, 2.0, 0.3, 1.0, -0.2])
HERE = pathlib.Path(__file__).name


def explain(f, *args):
    return igjax.integrated_gradients(f, rule=RULE)(X, 0.0, *args)


def by_hand(f):
    slopes = [w * jax.grad(f)(t * X) for t, w in zip(RULE.nodes, RULE.weights, strict=True)]
    return X * np.sum(slopes, 0)


# Each needs the value of n, and takes 3.
SHAPED = {
    "reshape": lambda x, n: jnp.tanh(x.reshape(n, -1)).prod(0).sum(),
    "linspace": lambda x, n: jnp.tanh(jnp.linspace(0, 1, n) * x[:3]).sum(),
    "range": lambda x, n: sum(jnp.sin(x[i]) for i in range(n)),
    "if": lambda x, n: jnp.sin(x).sum() if n > 0 else jnp.cos(x).sum(),
    "slice": lambda x, n: jnp.exp(x[:n]).sum(),
    "zeros": lambda x, n: jnp.sin(jnp.zeros(n) + x[0] * x[1]).sum(),
    "top_k": lambda x, n: (jax.lax.top_k(x, n)[0] ** 2).sum(),
    "split": lambda x, n: jnp.prod(jnp.split(x, n)[1]),
    "tile": lambda x, n: (jnp.tile(x, n) ** 3).sum(),
    "one_hot": lambda x, n: jnp.sin(jax.nn.one_hot(1, n) * x[1]).sum(),
    "float": lambda x, n: jnp.sin(float(n) * x).sum(),
    "NumPy": lambda x, n: jnp.sin(np.zeros(n) + x[0]).sum(),
    "in": lambda x, n: jnp.sin(x).sum() if n in (3, 4) else x.sum(),
    "loop": lambda x, n: jax.lax.fori_loop(0, n, lambda i, a: a + jnp.sin(x[i]), 0.0),
}
each_shaped = pytest.mark.parametrize("name", SHAPED)


@each_shaped
def test_numbers_bound_in_a_partial_are_static(name):
    f = functools.partial(SHAPED[name], n=3)
    np.testing.assert_allclose(explain(f).values, by_hand(f), rtol=1e-12)


@pytest.mark.parametrize("number", [3, np.int64(3), np.int8(3)], ids=repr)
def test_numbers_of_all_kinds_are_bound_in_all_forms(number):
    f = lambda n, x, w: w * (x.reshape(n, -1) ** 2).sum(0).prod()
    want = 2.0 * by_hand(lambda x: f(3, x, 1.0))
    bound = functools.partial(f, number)
    np.testing.assert_allclose(explain(bound, 2.0).values, want, rtol=1e-12)
    keyword = functools.partial(lambda x, w, n: f(n, x, w), n=number)
    np.testing.assert_allclose(explain(keyword, 2.0).values, want, rtol=1e-12)
    run = jax.jit(lambda x: igjax.integrated_gradients(bound, rule=RULE)(x, 0.0, 2.0))
    np.testing.assert_allclose(run(X).values, want, rtol=1e-12)


def test_numbers_bound_are_told_apart_and_arrays_stay_traced():
    traced = []
    note = traced.append  # what a list holds would count as a change of f

    def f(n, w, x):
        note(n)
        return w * (x.reshape(n, -1) ** 2).sum(0).prod()

    for n in (2, 3, 2, 3, 2.0, True):
        if n in (2, 3) and type(n) is int:
            got = explain(functools.partial(f, n, jnp.float64(2.0))).values
            np.testing.assert_allclose(got, by_hand(functools.partial(f, n, 2.0)))
    before = len(traced)
    for w in (1.0, 5.0):  # arrays, so that weights may change
        got = explain(functools.partial(f, 2, jnp.float64(w))).values
    assert len(traced) == before
    np.testing.assert_allclose(got, by_hand(functools.partial(f, 2, 5.0)))
    one, other = (explain(functools.partial(lambda a, x: a * x.sum(), a)) for a in (1, 1.5))
    np.testing.assert_allclose(1.5 * one.values, other.values, rtol=1e-12)


class Heads(eqx.Module):
    """A module with a number that is no static field, as Equinox users write them."""

    weight: jax.Array
    heads: int
    scale: float

    def __call__(self, x, sign=1.0):
        y = (self.weight * x).reshape(self.heads, -1)
        if self.scale > 1:
            y = y * self.scale
        return sign * jnp.tanh(y).prod(0).sum()


@pytest.mark.parametrize("heads", [2, 3])
def test_numbers_in_the_fields_of_modules_are_static(heads):
    model = Heads(jnp.arange(1.0, 7.0), heads, 1.5)
    want = by_hand(model)
    np.testing.assert_allclose(explain(model).values, want, rtol=1e-12)
    np.testing.assert_allclose(explain(model, -1.0).values, -want, rtol=1e-12)
    np.testing.assert_allclose(explain(model.__call__).values, want, rtol=1e-12)
    closed = lambda x: model(x)
    np.testing.assert_allclose(explain(closed).values, want, rtol=1e-12)
    partial = functools.partial(lambda m, x: m(x), model)
    np.testing.assert_allclose(explain(partial).values, want, rtol=1e-12)


def test_weights_of_a_module_may_change_without_a_trace():
    count = []
    note = count.append

    class Noted(Heads):
        def __call__(self, x, sign=1.0):
            note(1)
            return super().__call__(x, sign)

    first = explain(Noted(jnp.ones(6), 2, 0.5)).values
    once = len(count)
    second = explain(Noted(2 * jnp.ones(6), 2, 0.5)).values
    assert len(count) == once
    assert not np.allclose(first, second)
    np.testing.assert_allclose(second, by_hand(Heads(2 * jnp.ones(6), 2, 0.5)), rtol=1e-12)


# Where they are not bound, the error says which, where, and what to do.


@each_shaped
def test_numbers_in_arguments_stay_traced_and_the_error_names_them(name):
    f = SHAPED[name]
    message = r"needs that of n.* Bind those.* functools\.partial\(f, n=3\)"
    with pytest.raises(TypeError, match=message) as caught:
        explain(f, 3)
    if name != "loop":  # that fails where it is differentiated
        line = f.__code__.co_firstlineno
        assert f"{HERE}:{line}, `" in str(caught.value)


def test_labels_and_their_like_stay_traced():
    traced = []
    note = traced.append

    def f(x, label):
        note(1)
        return jnp.sin(x)[label]

    for label in range(3):
        explain(f, label)
    assert len(traced) == 1


def test_only_those_are_named_that_are_needed():
    f = lambda x, a, sizes, b, *more: a * b * x.reshape(sizes["n"], -1).prod(0).sum()
    with pytest.raises(TypeError, match=r"that of sizes\['n'\], .*close over them, sizes"):
        explain(f, 2.0, {"n": 3, "m": 4}, 1.0, 7)
    f = lambda x, *sizes: x.reshape(sizes[1], sizes[2]).prod(0).sum()
    with pytest.raises(TypeError, match=r"that of args\[1\] and args\[2\], at"):
        explain(f, 1.0, 2, 3)
    f = lambda n, x, m: x.reshape(n, m).prod(0).sum()
    with pytest.raises(TypeError, match=r"functools\.partial\(f, m=3\)"):
        explain(functools.partial(f, 2), 3)


@pytest.mark.parametrize("jit", [False, True])
def test_an_f_that_needs_x_is_told_where(jit):
    f = lambda x, w: w * x.sum() if x[0] > 0 else x.prod()
    run = (
        (lambda x: explain(f, 1.0))
        if not jit
        else jax.jit(lambda x: igjax.integrated_gradients(f, rule=RULE)(x, 0.0, 1.0))
    )
    with pytest.raises(jax.errors.TracerBoolConversionError, match="can trace") as caught:
        run(X)
    text = str(caught.value)
    assert f"{HERE}:{f.__code__.co_firstlineno}, `f = lambda" in text
    assert "the argument x" in text
    assert "fresh" not in text
    assert "igjax.perturbation" in text


def test_means_over_baselines_name_them_too():
    f = lambda x, n: x.reshape(n, -1).prod(0).sum()
    explain = igjax.expected_integrated_gradients(f, rule=RULE)
    with pytest.raises(TypeError, match=rf"of n, at .*{HERE}:.*partial\(f, n=\.\.\.\)"):
        explain(jax.random.key(0), X, np.zeros((2, 6)), 3)


def test_numbers_that_are_traced_elsewhere_are_named_too():
    run = jax.jit(lambda n: explain(lambda x, n: x.reshape(n, -1).prod(0).sum(), n))
    with pytest.raises(TypeError, match=rf"of n, at .*{HERE}:.*partial\(f, n=\.\.\.\)"):
        run(3)


def test_other_errors_are_left_as_they_are():
    def f(x, n):
        raise KeyError("layer")

    with pytest.raises(KeyError, match="layer"):
        explain(f, 3)
    with pytest.raises(ValueError, match="must return a scalar"):
        explain(lambda x, n: n * x, 3)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            scipy.sparse.csr_matrix([[0.0, 2.0]]),
            r"x must be a dense array, .*x\.toarray\(\)",
        ),
        (sparse.BCOO.fromdense(jnp.array([0.0, 2.0])), r"got a BCOO\. Pass x\.todense\(\)"),
        ({"a": sparse.BCOO.fromdense(jnp.ones(2))}, r"x\['a'\] must be a dense array"),
    ],
)
def test_sparse_inputs_are_told_how_to_be_dense(x, message):
    with pytest.raises(TypeError, match=message):
        igjax.integrated_gradients(lambda x: x.sum())(x, 0.0)
