"""Records hold what the result holds, feature by feature, in numbers of Python.

They are compared with the arrays that they come from, and read by pandas and csv as users
read them.
"""

import csv
import io
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import igjax

RULE = igjax.rules.gauss_legendre(4)
ROWS = np.random.default_rng(0).normal(size=(3, 2)).astype("float32")


def score(x):
    return x[0] * x[1] + x[0] ** 2


def single():
    return igjax.integrated_gradients(score, rule=RULE)(ROWS[0], 0.0)


def batch():
    attribute = igjax.integrated_gradients(score, rule=RULE)
    return jax.vmap(attribute, (0, None))(ROWS, 0.0)


def tree():
    x = {"age": jnp.float32(2), "color": jnp.eye(2, dtype="float32")}
    f = lambda x: x["age"] * x["color"].sum()
    zeros = jax.tree.map(jnp.zeros_like, x)
    return x, igjax.integrated_gradients(f, rule=RULE)(x, zeros)


def column(records, name):
    return [record[name] for record in records]


def test_one_example_has_a_record_for_each_feature():
    result = single()
    records = igjax.to_records(result, ["age", "income"], x=ROWS[0], baseline=0.0)
    assert records[1] == {
        "example": 0,
        "feature": "income",
        "value": float(result.values[1]),
        "error": float(result.error[1]),
        "x": float(ROWS[0, 1]),
        "baseline": 0.0,
        "score": float(result.score),
        "baseline_score": 0.0,
        "delta": float(result.delta),
        "status": "NO_TOLERANCE",
        "converged": False,
    }
    assert column(records, "feature") == ["age", "income"]
    assert column(igjax.to_records(result), "feature") == ["0", "1"]


def test_a_batch_has_its_examples_one_after_the_other():
    result = batch()
    records = igjax.to_records(result, x=ROWS, baseline=np.zeros(2))
    assert column(records, "example") == [0, 0, 1, 1, 2, 2]
    for name, array in {"value": result.values, "error": result.error, "x": ROWS}.items():
        assert column(records, name) == np.asarray(array, np.float64).ravel().tolist()
    assert column(records, "score") == np.repeat(result.score, 2).tolist()
    alone = igjax.to_records(result.example(1), x=ROWS[1], baseline=0.0)
    assert alone == [record | {"example": 0} for record in records[2:4]]


def test_a_jacobian_has_its_outputs_each_with_what_is_known_of_it():
    outputs = lambda x: jnp.stack([score(x), x.sum(), jnp.log(x[0] - 9)])
    attribute = igjax.integrated_jacobian(outputs, rule=RULE)
    one = attribute(ROWS[0], 0.0)
    records = igjax.to_records(one, x=ROWS[0])
    assert column(records, "output") == [0, 0, 1, 1, 2, 2]
    assert column(records, "value")[:4] == one.values[:2].ravel().tolist()
    assert column(records, "x") == ROWS[0].tolist() * 3
    assert column(records, "status")[2:5] == ["NO_TOLERANCE"] * 2 + ["NON_FINITE"]
    many = jax.vmap(attribute, (0, None))(ROWS, 0.0)
    records = igjax.to_records(many, x=ROWS)
    assert [(r["example"], r["output"]) for r in records[6:12:2]] == [
        (1, 0),
        (1, 1),
        (1, 2),
    ]
    assert column(records, "x")[6:12] == ROWS[1].tolist() * 3


def test_several_axes_of_examples_and_outputs_are_texts():
    attribute = igjax.integrated_jacobian(lambda x: jnp.outer(x, x), rule=RULE)
    twice = jax.vmap(jax.vmap(attribute, (0, None)), (0, None))
    records = igjax.to_records(twice(ROWS[None], 0.0))
    assert records[-1]["example"] == "(0, 2)"
    assert records[-1]["output"] == "(1, 1)"


def test_a_tree_has_names_of_its_places_or_its_own():
    x, result = tree()
    records = igjax.to_records(result, x=x, baseline={"age": 0.0, "color": 0.0})
    places = ["age", "color[0, 0]", "color[0, 1]", "color[1, 0]", "color[1, 1]"]
    assert column(records, "feature") == places
    assert column(records, "x") == [2.0, 1.0, 0.0, 0.0, 1.0]
    np.testing.assert_allclose(column(records, "value"), [2, 1, 0, 0, 1], rtol=1e-6)
    own = {"age": "years", "color": None}
    assert igjax.to_records(result, own)[0]["feature"] == "years"
    own = {"age": None, "color": np.array([["a", "b"], ["c", "d"]])}
    assert column(igjax.to_records(result, own), "feature") == ["age", *"abcd"]
    image = igjax.input_x_gradient(jnp.sum)(jnp.ones((2, 2)), 0.0)
    assert igjax.to_records(image)[1]["feature"] == "(0, 1)"
    number = igjax.input_x_gradient(lambda x: x**2)(jnp.float32(3), 0.0)
    assert igjax.to_records(number)[0]["feature"] == "x"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_all_is_pythons_own(dtype):
    x = jnp.asarray(ROWS[0], dtype)
    result = igjax.integrated_gradients(score, rule=RULE)(x, 0.0)
    for record in igjax.to_records(result, x=x, baseline=np.array(["low", "high"])):
        assert {type(cell) for cell in record.values()} == {int, float, str, bool}
        assert json.loads(json.dumps(record)) == record


def test_pandas_and_csv_read_them_and_pandas_gives_them():
    frame = pd.DataFrame(ROWS, columns=["age", "income"])
    records = igjax.to_records(batch(), frame.columns, x=frame)
    table = pd.DataFrame(records).pivot(index="example", columns="feature", values="x")
    np.testing.assert_array_equal(table.to_numpy("float32"), ROWS)
    file = io.StringIO()
    writer = csv.DictWriter(file, records[0])
    writer.writeheader()
    writer.writerows(records)
    rows = list(csv.DictReader(io.StringIO(file.getvalue())))
    assert [float(row["value"]) for row in rows] == column(records, "value")
    assert rows[0]["status"] == "NO_TOLERANCE"


def test_pandas_is_not_imported():
    code = (
        "import sys, igjax, jax.numpy as jnp;"
        "igjax.to_records(igjax.input_x_gradient(jnp.sum)(jnp.ones(2), 0.0));"
        "assert 'pandas' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_saved_and_empty_results_have_records(tmp_path):
    igjax.save(tmp_path / "result.npz", batch())
    again = igjax.load(tmp_path / "result.npz").result
    assert igjax.to_records(again) == igjax.to_records(batch())
    none = jax.tree.map(lambda a: a[:0], batch())
    assert igjax.to_records(none, x=ROWS[:0]) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ["a"]}, r"a name for each of the 2 features, of shape \(2,\), got 1"),
        ({"x": ROWS[:2]}, r"x must have the shape of the values, \(3, 2\), or \(2,\)"),
        ({"x": {"a": ROWS}}, "x must have the structure of the values"),
        ({"baseline": np.zeros(3)}, r"baseline must have the shape .* got \(3,\)"),
    ],
    ids=lambda a: "" if isinstance(a, dict) else a[:20],
)
def test_what_does_not_fit_is_named(options, message):
    with pytest.raises(ValueError, match=f"^to_records: .*{message}"):
        igjax.to_records(batch(), **options)


def test_names_of_a_tree_are_named_leaf_by_leaf():
    _, result = tree()
    with pytest.raises(ValueError, match="names must have the structure of the values"):
        igjax.to_records(result, ["a", "b"])
    with pytest.raises(
        ValueError, match=r"names\['color'\] must be a name for each of the 4"
    ):
        igjax.to_records(result, {"age": "a", "color": ["b"]})


def test_only_concrete_results_have_records():
    with pytest.raises(TypeError, match=r"must be an igjax\.Attribution, got dict"):
        igjax.to_records({"layer": single()})  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="must be concrete, got a traced one"):
        jax.jit(lambda result: igjax.to_records(result))(single())
