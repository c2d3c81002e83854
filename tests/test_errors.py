"""Misuse raises while tracing, eagerly and under jit; numerical trouble is data.

Each message names the function, the leaf, what must hold, what was got, what to do.
"""

import inspect
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.errors import TracerArrayConversionError

import igjax

RULE = igjax.rules.gauss_legendre(3)
METHODS = (igjax.integrated_gradients, igjax.integrated_jacobian)


def total(x):
    return sum(a.sum() for a in jax.tree.leaves(x))


def explain(f, x, baseline, *args, **options):
    return igjax.integrated_gradients(f, rule=RULE, **options)(x, baseline, *args)


# What is wrong, the type of the error, and what the message must say.
BAD_INPUTS = {
    "integers": (
        np.arange(3),
        0.0,
        TypeError,
        r"x must be floating or complex, got int64\[3\]\. Cast pixels .*astype",
    ),
    "integers_in_a_leaf": (
        {"ids": np.arange(3), "w": np.ones(2)},
        {"ids": 0.0, "w": 0.0},
        TypeError,
        r"x\['ids'\] must be floating or complex, got int64\[3\].*from_embedding",
    ),
    "booleans": (np.ones(3, bool), 0.0, TypeError, r"x must be floating .* got bool\[3\]"),
    "python_integer": (3, 0.0, TypeError, r"x must be floating or complex, got int"),
    "python_bool": (
        True,
        0.0,
        TypeError,
        r"x must be a floating or complex array, got bool",
    ),
    "list_of_strings": (
        ["a", "b"],
        [0.0, 0.0],
        TypeError,
        r"x\[0\] must be a floating or complex array, got str\. Convert",
    ),
    "array_of_strings": (np.array(["a"]), 0.0, TypeError, r"x must be a floating or comp"),
    "array_of_objects": (
        np.array([1.0, None]),
        0.0,
        TypeError,
        r"x must be a floating or complex array, got ndarray",
    ),
    "dates": (np.array(["2020"], "M8[D]"), 0.0, TypeError, r"x must be a floating or comp"),
    "none": (None, None, ValueError, r"x must hold at least one array, got None"),
    "empty_dictionary": ({}, {}, ValueError, r"x must hold at least one array, got \{\}"),
    "frame": (
        pd.DataFrame({"a": [1.0]}),
        0.0,
        TypeError,
        r"x must be an array, got a DataFrame\. Pass frame\.to_numpy\(dtype='float32'\)",
    ),
    "series": (pd.Series([1.0]), 0.0, TypeError, r"x must be a floating .* got Series"),
    "frame_in_a_leaf": (
        {"table": pd.DataFrame({"a": [1.0]})},
        {"table": 0.0},
        TypeError,
        r"x\['table'\] must be an array, got a DataFrame",
    ),
    "structure": (
        {"a": np.ones(2)},
        [np.ones(2)],
        ValueError,
        r"baseline must have the structure of x, PyTreeDef\(\{'a': \*\}\), got .*zeros",
    ),
    "missing_leaf": (
        {"a": np.ones(2), "b": np.ones(2)},
        {"a": 0.0},
        ValueError,
        r"baseline must have the structure of x",
    ),
    "none_baseline": (np.ones(2), None, ValueError, r"baseline must have the structure of"),
    "scalar_baseline_of_a_tree": (
        {"a": np.ones(2)},
        0.0,
        ValueError,
        r"baseline must have the structure of x",
    ),
    "shape": (
        {"a": np.ones(2)},
        {"a": np.ones(3)},
        ValueError,
        r"baseline\['a'\] must be a scalar or have the shape of x\['a'\], \(2,\), got "
        r"\(3,\)\. .*jax\.vmap",
    ),
    "shape_that_would_broadcast": (
        np.ones((4, 2)),
        np.ones(2),
        ValueError,
        r"baseline must be a scalar or have the shape of x, \(4, 2\), got \(2,\)",
    ),
    "string_baseline": (
        np.ones(2),
        "zero",
        TypeError,
        r"baseline must be an array or a number, got str",
    ),
    "complex_baseline": (
        {"a": np.ones(2)},
        {"a": np.ones(2, complex)},
        TypeError,
        r"baseline\['a'\] must be real like x\['a'\], got complex128\. Take its real part",
    ),
}


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.__name__)
@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_inputs_are_named(name, method):
    x, baseline, error, message = BAD_INPUTS[name]
    attribute = method(total, rule=RULE)
    with pytest.raises(error, match=f"^{method.__name__}: {message}"):
        attribute(x, baseline)


@pytest.mark.parametrize(
    "name",
    [
        "integers",
        "integers_in_a_leaf",
        "booleans",
        "none",
        "structure",
        "missing_leaf",
        "shape",
        "shape_that_would_broadcast",
        "complex_baseline",
        "none_baseline",
    ],
)
def test_bad_inputs_are_named_under_jit(name):
    x, baseline, error, message = BAD_INPUTS[name]
    with pytest.raises(error, match=message):
        jax.jit(igjax.integrated_gradients(total, rule=RULE))(x, baseline)


BAD_SCORES = {
    "vector": (lambda x: x, ValueError, r"f must return a scalar, shape \(\), got float"),
    "one_element": (
        lambda x: x[:1],
        ValueError,
        r"f must return a scalar, shape \(\), got float\d+\[1\]\. .*igjax\.select\(f\), "
        r"take a batch axis off with igjax\.single\(f\).*integrated_jacobian",
    ),
    "tuple": (lambda x: (x[0], x), TypeError, r"f must return one array, got tuple of 2"),
    "tuple_of_one": (
        lambda x: (x[0],),
        TypeError,
        r"f must return one array, got tuple of 1",
    ),
    "dictionary": (
        lambda x: {"logits": x[0]},
        TypeError,
        r"f must return one array, got dict of 1.*Pick the output",
    ),
    "none": (lambda x: None, TypeError, r"f must return one array, got NoneType"),
    "integer": (
        jnp.argmax,
        TypeError,
        r"f must return a floating number, got int\d+\[\]\. A predicted class has no",
    ),
    "python_integer": (lambda x: 3, TypeError, r"f must return a floating number, got int"),
    "boolean": (lambda x: x[0] > 0, TypeError, r"f must return a floating .*got bool\[\]"),
    "complex": (
        lambda x: x[0] * 1j,
        TypeError,
        r"f must return a real number, got complex\d+\[\]\. .*modulus",
    ),
}


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("name", BAD_SCORES)
def test_bad_scores_are_named(name, jit):
    f, error, message = BAD_SCORES[name]
    attribute = igjax.integrated_gradients(f, rule=RULE)
    attribute = jax.jit(attribute) if jit else attribute
    with pytest.raises(error, match=f"^integrated_gradients: {message}"):
        attribute(jnp.ones(2), 0.0)


@pytest.mark.parametrize("name", ["tuple", "dictionary", "none", "integer", "complex"])
def test_bad_scores_are_named_by_the_jacobian(name):
    f, error, message = BAD_SCORES[name]
    with pytest.raises(error, match=f"^integrated_jacobian: {message}"):
        igjax.integrated_jacobian(f, rule=RULE)(jnp.ones(2), 0.0)


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "10", np.float32(2)], ids=repr)
def test_a_bad_chunk_size_is_named_at_once(size):
    message = (
        "integrated_gradients: chunk_size must be None or an integer of at least 1, got "
    )
    with pytest.raises(ValueError, match=re.escape(message + repr(size))):
        igjax.integrated_gradients(total, rule=RULE, chunk_size=size)


def test_a_numpy_integer_is_a_chunk_size():
    result = explain(total, jnp.ones(2), 0.0, chunk_size=np.int64(2))
    np.testing.assert_allclose(result.values, [1, 1], rtol=1e-6)


@pytest.mark.parametrize("f", [None, 3, jnp.ones(2), "f"], ids=repr)
def test_an_f_that_is_no_function_is_named_at_once(f):
    with pytest.raises(TypeError, match=r"^integrated_gradients: f must be callable, got "):
        igjax.integrated_gradients(f)


def test_a_path_that_is_no_function_is_named_at_once():
    with pytest.raises(TypeError, match=r"path must be callable, got a str"):
        igjax.integrated_gradients(total, path="straight")


def test_a_rule_that_is_no_rule_is_named_at_once():
    with pytest.raises(TypeError, match=r"^integrated_gradients: rule must be .* got 32"):
        igjax.integrated_gradients(total, rule=32)


@pytest.mark.parametrize("argument", [{1, 2}, bytearray(b"a"), np.array([None])], ids=repr)
def test_an_unhashable_argument_is_named(argument):
    message = r"integrated_gradients: arguments that are no arrays must be hashable, got "
    with pytest.raises(TypeError, match=message + re.escape(repr(argument))):
        explain(lambda x, a: x.sum(), jnp.ones(2), 0.0, argument)


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize(
    "path",
    [
        lambda x, baseline, t: x[None] * t,
        lambda x, baseline, t: x[:1] * t,
        lambda x, baseline, t: (x * t,),
        lambda x, baseline, t: {"x": x * t},
    ],
    ids=["axis", "slice", "tuple", "dictionary"],
)
def test_a_path_of_another_shape_is_named(path, jit):
    attribute = igjax.integrated_gradients(total, rule=RULE, path=path)
    attribute = jax.jit(attribute) if jit else attribute
    message = (
        r"path\(x, baseline, t\) must return a point like x, \(2,\), got .*t is a scal"
    )
    with pytest.raises(ValueError, match=message):
        attribute(jnp.ones(2), 0.0)


def test_a_missing_argument_is_an_ordinary_error():
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'w'"):
        explain(lambda x, w: w @ x, jnp.ones(2), 0.0)
    with pytest.raises(
        TypeError, match="missing 1 required positional argument: 'baseline'"
    ):
        igjax.integrated_gradients(total)(jnp.ones(2))  # pyright: ignore[reportCallIssue]


def test_an_error_of_f_comes_through_and_leaves_nothing_behind():
    broken = [True]

    def f(x):
        if broken[0]:
            raise KeyError("layer")
        return x.sum()

    for _ in range(2):
        with pytest.raises(KeyError, match="layer"):
            explain(f, jnp.ones(2), 0.0)
    broken[0] = False
    np.testing.assert_allclose(explain(f, jnp.ones(2), 0.0).values, [1, 1], rtol=1e-6)


def test_an_f_that_numpy_computes_raises_the_error_of_jax():
    with pytest.raises(TracerArrayConversionError):
        explain(lambda x: np.sum(np.asarray(x)), jnp.ones(2), 0.0)


# Numerical trouble is data.


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize(
    ("f", "x"),
    [
        (jnp.sum, [1.0, np.nan]),
        (jnp.sum, [1.0, np.inf]),
        (lambda x: jnp.log(x).sum(), [1.0, 2.0]),  # f is -inf at the baseline 0
        (lambda x: jnp.float32(np.nan) * x.sum(), [1.0, 2.0]),
        (lambda x: jnp.where(x > 0.5, jnp.inf, x).sum(), [1.0, 2.0]),
    ],
    ids=["nan_input", "infinite_input", "infinite_baseline_score", "nan", "infinity"],
)
def test_trouble_on_the_path_is_a_status(f, x, jit):
    attribute = igjax.integrated_gradients(f, rule=RULE)
    attribute = jax.jit(attribute) if jit else attribute
    result = attribute(jnp.array(x), 0.0)
    assert result.status == igjax.Status.NON_FINITE
    assert not result.converged


def test_a_nan_gradient_at_the_baseline_is_a_status():
    norm = lambda x: jnp.sqrt(jnp.sum(x**2))  # its gradient at 0 is 0/0
    at_the_baseline = igjax.rules.left(4)
    result = igjax.integrated_gradients(norm, rule=at_the_baseline)(jnp.ones(2), 0.0)
    assert result.status == igjax.Status.NON_FINITE
    inside = explain(norm, jnp.ones(2), 0.0)
    assert inside.status == igjax.Status.NO_TOLERANCE
    np.testing.assert_allclose(inside.values, np.full(2, np.sqrt(0.5)), rtol=1e-6)


def test_infinities_of_both_signs_do_not_hide_each_other():
    f = lambda x: jnp.sum(jnp.array([jnp.inf, -jnp.inf]) * x)
    assert explain(f, jnp.ones(2), 0.0).status == igjax.Status.NON_FINITE


def test_trouble_of_one_example_stays_its_own():
    attribute = igjax.integrated_gradients(jnp.sum, rule=RULE)
    x = jnp.array([[1.0, 2.0], [np.nan, 1.0], [3.0, 4.0]])
    batch = jax.vmap(attribute, (0, None))(x, 0.0)
    assert list(batch.status) == [1, 4, 1]
    np.testing.assert_allclose(batch.values[::2], x[::2], rtol=1e-6)


def test_trouble_of_one_output_stays_its_own():
    f = lambda x: jnp.stack([x[0], jnp.log(x[0] - 5), x[1]])
    result = igjax.integrated_jacobian(f, rule=RULE)(jnp.ones(2), 0.0)
    assert list(result.status) == [1, 4, 1]


# Results say what they are.


def test_example_takes_one_result_out_of_a_batch():
    attribute = igjax.integrated_gradients(total, rule=RULE)
    x = {"a": jnp.arange(6.0).reshape(3, 2), "b": jnp.arange(3.0)}
    batch = jax.vmap(attribute, (0, None))(x, {"a": 0.0, "b": 0.0})
    for i in (0, 2, -1):
        one = batch.example(i)
        np.testing.assert_array_equal(one.values["a"], batch.values["a"][i])
        np.testing.assert_array_equal(one.values["b"], batch.values["b"][i])
        assert one.score == batch.score[i]


def test_example_of_one_example_is_an_error():
    result = explain(total, jnp.ones(2), 0.0)
    with pytest.raises(IndexError, match=r"^Attribution\.example: this is one example"):
        result.example(0)


@pytest.mark.parametrize("i", [3, -4, 100])
def test_example_out_of_range_is_an_error(i):
    attribute = igjax.integrated_gradients(total, rule=RULE)
    batch = jax.vmap(attribute)(jnp.ones((3, 2)), jnp.zeros((3, 2)))
    with pytest.raises(IndexError, match=f"the batch has 3 examples, got {i}"):
        batch.example(i)


def test_repr_of_one_result_is_short():
    text = repr(explain(total, {"image": jnp.ones((28, 28))}, {"image": 0.0}))
    assert re.match(
        r"Attribution\(values=\{image: float\d\d\[28, 28\]\}, score=784, ", text
    )
    assert "evaluations=3, status=1" in text
    assert len(text) < 200


def test_repr_of_a_batch_shows_shapes():
    attribute = igjax.integrated_gradients(total, rule=RULE)
    text = repr(jax.vmap(attribute)(jnp.ones((1000, 2)), jnp.zeros((1000, 2))))
    assert re.search(r"values=float\d\d\[1000, 2\], score=float\d\d\[1000\]", text)
    assert len(text) < 250


def test_repr_of_a_traced_result_shows_shapes():
    seen = []

    def traced(x):
        result = explain(total, x, 0.0)
        seen.append(repr(result))
        return result.values

    jax.jit(traced)(jnp.ones(2))
    assert re.match(r"Attribution\(values=float\d\d\[2\], score=float\d\d\[\]", seen[0])
    assert len(seen[0]) < 250


def test_repr_survives_what_transformations_put_in_the_fields():
    result = explain(total, jnp.ones(2), 0.0)
    host = jax.tree.map(np.asarray, result)
    shapes = jax.eval_shape(lambda: result)
    empty = jax.tree.map(lambda a: None, result)
    axes = jax.tree.map(lambda a: 0, result)
    texts = [repr(r) for r in (host, shapes, empty, axes)]
    assert all(text.startswith("Attribution(values=") for text in texts)


ADAPTIVE: Any = igjax.rules.adaptive  # called with what it must not be called with


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ADAPTIVE("a"), TypeError, "tolerance must be one number"),
        (lambda: ADAPTIVE(np.ones(3)), TypeError, "an example, map over it"),
        (lambda: ADAPTIVE(jnp.array(-1.0)), ValueError, "must be positive"),
        (lambda: ADAPTIVE(np.inf), ValueError, "must be positive"),
        (lambda: ADAPTIVE(1e-2, 0.0), ValueError, "absolute_tolerance"),
        (
            lambda: ADAPTIVE(max_evaluations=np.inf),
            ValueError,
            "an integer of at least 15",
        ),
    ],
)
def test_an_adaptive_rule_that_cannot_be_is_refused_when_it_is_made(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_function_without_outputs_is_refused():
    with pytest.raises(ValueError, match="at least one number"):
        igjax.integrated_jacobian(lambda x: x[:0])(jnp.ones(3), 0.0)


# What is refused at once, before anything is traced.


FUNCTIONS = ("f", "g", "attribute", "loss", "encode")
OTHERS = {"layer": "y", "batches": [], "rules": []}


def first_is_a_function():
    """All public functions whose first argument is one, with the name of the argument."""
    modules = ("baselines", "diagnostics", "paths")
    places = [("", igjax), *((f"{name}.", getattr(igjax, name)) for name in modules)]
    for prefix, module in places:
        for name in module.__all__ if prefix else dir(igjax):
            made = getattr(module, name)
            if inspect.isfunction(made) and not name.startswith("_"):
                parameters = inspect.signature(made).parameters
                if (first := next(iter(parameters))) in FUNCTIONS:
                    yield pytest.param(made, first, id=prefix + name)


@pytest.mark.parametrize(("make", "name"), list(first_is_a_function()))
def test_what_must_be_a_function_is_checked_at_once(make, name, tmp_path):
    rest = [p for p in inspect.signature(make).parameters.values()][1:]
    needed = {p.name for p in rest if p.default is p.empty and p.kind < p.VAR_KEYWORD}
    given = OTHERS | {"directory": tmp_path, "mesh": jax.make_mesh((1,), ("i",))}
    options = {p: given.get(p, 2) for p in needed if p != "args"}
    with pytest.raises(TypeError, match=rf"{make.__name__}: {name} must be callable, got"):
        make(3, **options)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: igjax.grouped(jnp.sum, 2, method="shapley"),  # pyright: ignore
            TypeError,
            "grouped: method must be callable, got 'shapley'",
        ),
        (
            lambda: igjax.rules.split(RULE, 3),  # pyright: ignore
            TypeError,
            "rules.split: axis_name must be the name of a mesh axis, got 3",
        ),
        (
            lambda: igjax.paths.blur(2.0, 0),  # pyright: ignore
            TypeError,
            r"paths.blur: axes must be a tuple of integers, got 0\. One axis is \(0,\)",
        ),
        (
            lambda: igjax.paths.blur(2.0, (0.0, 1.0)),  # pyright: ignore
            TypeError,
            "paths.blur: axes must be a tuple of integers, got",
        ),
        (
            lambda: igjax.baselines.learned(jnp.sum, {"x": np.arange(3)}),
            TypeError,
            r"learned: start\['x'\] must be floating or complex, got int64\[3\]",
        ),
        (
            lambda: igjax.baselines.learned(jnp.sum, np.ones(3, complex)),
            TypeError,
            "learned: start must be real, got",
        ),
        (
            lambda: igjax.baselines.learned(jnp.square, np.ones(3)),
            ValueError,
            r"learned: loss must return a scalar, shape \(\), got float\d+\[3\]\. Take",
        ),
        (
            lambda: igjax.baselines.learned(lambda x: (x.sum(), x), np.ones(3)),
            TypeError,
            "learned: loss must return one real number, got tuple",
        ),
        (
            lambda: igjax.baselines.learned(jnp.argmax, np.ones(3)),
            TypeError,
            r"learned: loss must return one real number, got int\d+",
        ),
        (
            lambda: igjax.baselines.learned(jnp.sum, np.ones(3), steps=2.5),  # pyright: ignore
            ValueError,
            "learned: steps must be an integer of at least 1, got 2.5",
        ),
    ],
)
def test_options_that_cannot_be_are_named_at_once(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_python_float_has_one_group():
    attribute = igjax.grouped(lambda x: x**2, 1, rule=RULE)
    np.testing.assert_allclose(attribute(3.0, 0.0, 0).values, [9.0], rtol=1e-6)


@pytest.mark.parametrize("note", [np.float32(1), {1, 2}, b"bytes"], ids=repr)
def test_notes_that_json_cannot_hold_are_named_and_nothing_is_written(tmp_path, note):
    result = explain(total, jnp.ones(2), 0.0)
    with pytest.raises(TypeError, match=r"^save: notes must be what JSON can hold, got .*"):
        igjax.save(tmp_path / "result.npz", result, note=note)
    assert not list(tmp_path.iterdir())
