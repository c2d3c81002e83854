"""Labels of outputs: positions and classes, keys, negative ones, arrays of them.

What a label chooses is said by NumPy's indexing of what g returns: values are those of a
linear g, each output of which has weights of its own.
"""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax

RULE = igjax.rules.gauss_legendre(3)
T, C, H = 4, 3, 2
W = np.random.default_rng(0).normal(size=(T, C, 5))
X = np.array([0.8, -1.1, 2.0, 0.3, -0.7])
Heads = collections.namedtuple("Heads", "logits state")


def tokens(x):
    return W @ x


def image(x):
    return jnp.stack([W @ x, 2 * W @ x])  # (H, T, C)


def explain(f, **options):
    return igjax.integrated_gradients(f, rule=RULE, **options)


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-12)


# Positions and classes.


@pytest.mark.parametrize(
    "label",
    [(2, 1), [2, 1], np.array([2, 1]), jnp.array([2, 1]), (np.uint8(2), jnp.int8(1))],
    ids=["tuple", "list", "NumPy", "JAX", "small integers"],
)
def test_a_label_has_an_index_for_each_axis(label):
    f = igjax.select(tokens)
    close(f(X, label), W[2, 1] @ X)
    close(explain(f)(X, 0.0, label).values, W[2, 1] * X)
    close(jax.jit(explain(f))(X, 0.0, label).values, W[2, 1] * X)


@pytest.mark.parametrize("label", [(-1, -3), (-4, 2), (3, -1), (np.int8(-2), 0)], ids=str)
def test_negative_indices_count_from_the_end(label):
    for g, want in ((tokens, W), (lambda x: tokens(x)[1], W[1])):
        at = label if want.ndim == 3 else label[1]
        close(igjax.select(g)(X, at), want[at] @ X)
        close(explain(igjax.select(g))(X, 0.0, at).values, want[at] * X)


def test_labels_of_a_batch_are_mapped_in_any_form():
    attribute = explain(igjax.select(tokens))
    rows, columns = np.array([0, 3, -1, 4, 0]), np.array([1, -2, 0, 0, -4])
    inside = np.array([True, True, True, False, False])
    pairs = np.stack([rows, columns], 1)
    for labels in ((rows, columns), pairs, jnp.asarray(pairs, "int8")):
        result = jax.vmap(attribute, (None, None, 0))(X, 0.0, labels)
        close(result.values[:3], W[rows[:3], columns[:3]] * X)
        np.testing.assert_array_equal(np.isnan(result.score), ~inside)
        bad = result.status == igjax.Status.NON_FINITE
        np.testing.assert_array_equal(bad, ~inside)


@pytest.mark.slow
def test_the_adaptive_rule_says_so_where_a_traced_label_is_out_of_range():
    attribute = jax.jit(jax.vmap(igjax.integrated_gradients(igjax.select(tokens))))
    labels = np.array([[0, 1], [T, 0], [0, -C - 1]])
    result = attribute(np.tile(X, (3, 1)), np.zeros((3, 5)), labels)
    np.testing.assert_array_equal(result.converged, [True, False, False])
    np.testing.assert_array_equal(result.status[1:], igjax.Status.NON_FINITE)


def test_contrasts_and_groups_take_them():
    f = igjax.contrast(tokens)
    want = (W[1, 2] - W[-1, 0]) * X
    close(explain(f)(X, 0.0, (1, 2), (-1, 0)).values, want)
    groups, members = np.array([0, 1, 1, 0, 2]), np.eye(3)[[0, 1, 1, 0, 2]]
    attribute = igjax.grouped(f, 3, rule=RULE)
    close(attribute(X, 0.0, groups, (1, 2), (-1, 0)).values, want @ members)
    labels = np.array([[1, 2], [0, 0]])
    batch = jax.vmap(attribute, (None, None, None, 0, None))(
        X, 0.0, groups, labels, (-1, 0)
    )
    close(batch.values[0], want @ members)
    close(batch.values[1], ((W[0, 0] - W[-1, 0]) * X) @ members)
    with pytest.raises(ValueError, match=r"index 1 of the label must be in \[-3, 3\)"):
        attribute(X, 0.0, groups, (1, 2), (0, 3))


def test_labels_go_through_all_methods():
    f = igjax.select(tokens)
    close(igjax.input_x_gradient(f)(X, 0.0, (2, -1)).values, W[2, -1] * X)
    explain = igjax.expected_integrated_gradients(f, rule=RULE)
    values = explain(jax.random.key(0), X, np.zeros((2, 5)), (2, -1)).values
    close(values, W[2, -1] * X)


# Keys.


@pytest.mark.parametrize(
    ("g", "label"),
    [
        (lambda x: {"logits": tokens(x), "loss": x.sum()}, ("logits", 2, 1)),
        (lambda x: {"heads": ({"a": tokens(x)}, x)}, ("heads", 0, "a", -2, 1)),
        (lambda x: Heads(tokens(x), x), ("logits", 2, 1)),
        (lambda x: Heads(x, tokens(x)), (1, 2, 1)),
        (lambda x: (tokens(x), x.sum(), "mode"), (0, 2, 1)),
        (lambda x: [x, {"a": x}, tokens(x)], (-1, 2, 1)),
        (lambda x: {"score": tokens(x)[2, 1]}, "score"),
        (lambda x: (x.sum(), tokens(x)[2, 1]), 1),
    ],
    ids=["dict", "deep", "field", "place", "other shapes", "last", "scalar", "scalars"],
)
def test_what_is_in_dicts_and_tuples_comes_after_its_key(g, label):
    f = igjax.select(g)
    close(f(X, label), W[2, 1] @ X)
    close(explain(f)(X, 0.0, label).values, W[2, 1] * X)


def test_places_in_tuples_may_be_mapped():
    f = igjax.select(lambda x: (tokens(x)[0], x.sum(), 2 * tokens(x)[1]))
    labels = np.array([[0, 1], [2, -1], [1, 0], [3, 0], [2, 3]])
    result = jax.vmap(explain(f), (None, None, 0))(X, 0.0, labels)
    close(result.values[:2], [W[0, 1] * X, 2 * W[1, -1] * X])
    np.testing.assert_array_equal(np.isnan(result.score), [0, 0, 1, 1, 1])


# Errors.


@pytest.mark.parametrize(
    ("g", "label", "message"),
    [
        (tokens, (4, 0), r"index 0 of the label must be in \[-4, 4\), got 4"),
        (tokens, (0, -4), r"index 1 of the label must be in \[-3, 3\), got -4"),
        (tokens, 2, r"one index for each axis .* \(4, 3\), got 2\. Of outputs by position"),
        (image, 2, r"of shape \(2, 4, 3\), got 2\. .* of images \(row, column, class\)"),
        (image, (1, 2), r"got \(1, 2\)\. .*\(row, column, class\)"),
        (
            lambda x: tokens(x)[0],
            np.array([1, 2]),
            r"got \(1, 2\)\. A batch of labels goes",
        ),
        (lambda x: x.sum(), 0, "g returns a scalar"),
        (lambda x: tokens(x)[0][None], 1, r"igjax\.select\(igjax\.single\(g\)\)"),
        (
            lambda x: {"a": x},
            1,
            r"begin with the key .* got 1; g returns a dict with \['a'",
        ),
        (lambda x: {"a": x}, ("b", 1), r"got \('b', 1\); g returns a dict with \['a'\]"),
        (lambda x: (x, x), ("b", 1), r"g returns a tuple with \[0, 1\]"),
        (lambda x: (x, x), (2, 1), r"got \(2, 1\); g returns a tuple with \[0, 1\]"),
        (lambda x: Heads(x, x), "b", r"with \[0, 1, 'logits', 'state'\]"),
        (tokens, ("a", 1), r"one index for each axis"),
    ],
)
def test_labels_that_do_not_fit_are_errors_that_say_what_does(g, label, message):
    with pytest.raises(ValueError, match=message):
        igjax.select(g)(X, label)
    attribute = explain(igjax.select(g))
    for _ in range(2):
        with pytest.raises(
            ValueError, match=r"select: .*the label must|lead to one number"
        ):
            attribute(X, 0.0, label)


def test_known_labels_are_checked_when_the_program_is_there():
    attribute = explain(igjax.select(lambda x: (tokens(x), x)))
    attribute(X, 0.0, (0, 2, 1))
    for label in ((0, 4, 1), (0, jnp.int32(2), 3), (1, 2, 1), np.array([2, 0, 0])):
        with pytest.raises(ValueError, match="select: "):
            attribute(X, 0.0, label)


def test_outputs_of_several_sizes_are_told_apart_and_compiled_once():
    traced = []
    note = traced.append  # what a list holds would count as a change

    def g(x, scale):
        note(x.shape)
        return scale * jnp.outer(x, jnp.arange(1.0, 3.0))

    attribute = explain(igjax.select(g))
    for _ in range(2):
        for n in (3, 5):
            values = attribute(np.ones(n), 0.0, (n - 1, 1), 2.0).values
            close(values, 4.0 * (np.arange(n) == n - 1))
            with pytest.raises(ValueError, match=rf"in \[-{n}, {n}\), got {n}"):
                attribute(np.ones(n), 0.0, (n, 1), 2.0)
    count = len(traced)
    for n in (3, 5):
        attribute(np.ones(n), 0.0, (0, 0), 2.0)
    assert len(traced) == count
