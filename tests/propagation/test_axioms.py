"""Which axioms DeepLIFT, LRP and guided gradients keep: a table, each cell of it tested.

A method that lacks an axiom is shown to lack it. The table of the documentation is compared
with this one.
"""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax
from igjax.propagation import deeplift, epsilon, guided_gradient, relevance

AXIOMS = (
    "complete",
    "sensitive",
    "dummy",
    "invariant",
    "linear",
    "symmetric",
    "proportional",
)
YES, NO = "yes", "no"
TABLE = {
    "`deeplift`": (YES, YES, YES, NO, YES, NO, YES),
    "`expected(deeplift)`": (YES, YES, YES, NO, YES, NO, NO),
    "`relevance`": (NO, NO, YES, NO, YES, NO, YES),
    "`guided_gradient`": (NO, NO, YES, NO, NO, YES, NO),
}


def rows(x):
    """Baselines of an expectation: 0, and another that treats all features alike."""
    return jnp.stack([jnp.zeros_like(x), jnp.full_like(x, 0.5)])


def deepshap(f):
    explain = igjax.expected(deeplift(f))
    return lambda x, baseline: explain(jax.random.key(0), x, rows(x))


METHODS = {
    "`deeplift`": deeplift,
    "`expected(deeplift)`": deepshap,
    "`relevance`": lambda f: relevance(f, (("layer", epsilon(0.0)),)),
    "`guided_gradient`": guided_gradient,
}
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "propagation.md"

relu = jax.nn.relu
W = jnp.array([[1.0, -2.0, 0.5, 0.0], [0.3, 1.0, 2.0, 0.0]], jnp.float32)
V = jnp.array([1.0, -1.0], jnp.float32)
# From the baseline 0, where every method begins, to x.
X = jnp.array([1.0, 2.0, 0.7, 0.4], jnp.float32)


def net(x):
    """Two layers with biases; the last feature is not read."""
    return V @ relu(W.astype(x.dtype) @ x + 0.5) + jnp.tanh((W.astype(x.dtype) @ x).sum())


def two_layers(x):
    """The same whether it is one layer or two: V (W x), or (V W) x."""
    return V.astype(x.dtype) @ (jnp.abs(W.astype(x.dtype)) @ x) + 0 * relu(x[0])


def one_layer(x):
    return (V.astype(x.dtype) @ jnp.abs(W.astype(x.dtype))) @ x + 0 * relu(x[0])


def product(x):
    return x[0] * (x[1] * x[2]) + 0 * relu(x[0])


def of_the_sum(x):
    """A function of the sum of the first two features, which a layer takes."""
    return relu(jnp.array([[1.0, 1, 0, 0]]).astype(x.dtype) @ x).sum() ** 2


def values(method, f, x):
    x = jnp.asarray(x, float)
    return np.asarray(METHODS[method](f)(x, jnp.zeros_like(x)).values)


def differ(a, b) -> float:
    return float(np.abs(np.asarray(a) - np.asarray(b)).max())


def complete(method):
    f = net
    x = jnp.asarray(X, float)
    start = jax.vmap(f)(rows(x)).mean() if "expected" in method else f(jnp.zeros(4))
    return differ(values(method, f, X).sum(), f(x) - start)


def sensitive(method):
    """The only feature that f reads, by a ReLU that is off at x and on at 0."""
    f = lambda x: 1 - relu(jnp.array([1.0, 0]) @ (1 - x)[:2])
    return float(abs(values(method, f, [2.0, 0.0])[0]) < 1e-9)


def dummy(method):
    return float(abs(values(method, net, X)[3]))


def invariant(method):
    w, v = W.astype(float), V.astype(float)
    pairs = (
        (two_layers, one_layer),
        (product, lambda x: (x[0] * x[1]) * x[2] + 0 * relu(x[0])),
        (
            lambda x: v @ (w @ x) + 0 * relu(x[0]),
            lambda x: v @ (relu(w @ x) - relu(-w @ x)),
        ),
    )
    return max(differ(*(values(method, f, X) for f in pair)) for pair in pairs)


def linear(method):
    g = lambda x: relu(W.astype(x.dtype)[::-1] @ x).sum() ** 2
    both = values(method, lambda x: net(x) - 3 * g(x), X)
    return differ(both, values(method, net, X) - 3 * values(method, g, X))


def symmetric(method):
    """Three factors that are alike get the same, or not."""
    result = values(method, product, [2.0, 2.0, 2.0])
    return differ(result, result[0])


def proportional(method):
    result = values(method, of_the_sum, [1.0, 3.0, 0.0, 0.0])
    return abs(3 * result[0] - result[1])


@pytest.mark.slow
@pytest.mark.parametrize("axiom", AXIOMS)
@pytest.mark.parametrize("method", TABLE)
def test_an_axiom_is_kept_or_shown_to_be_lacking(method, axiom):
    violation = globals()[axiom](method)
    if TABLE[method][AXIOMS.index(axiom)] == YES:
        assert violation < 1e-6
    else:
        assert violation > 1e-2


def test_the_table_of_the_documentation_is_this_one():
    text = PAGE.read_text("utf8")
    rows = re.findall(r"^\| (`[\w()]+`) \| ((?:(?:yes|no) \|? ?){7})", text, re.MULTILINE)
    assert {name: tuple(re.findall("yes|no", cells)) for name, cells in rows} == TABLE
    assert f"| method | {' | '.join(AXIOMS)} |" in text
