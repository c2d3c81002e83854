"""An attribution leaves its process: exported, read without the model's code, the same.

The readers are fresh processes that see one file and the inputs, nothing of this test.
"""

import functools
import json
import os
import pathlib
import subprocess
import sys
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import igjax
from igjax import attribution

HIDDEN = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
TOP = np.random.default_rng(1).normal(size=6).astype("float32")
ROWS = np.random.default_rng(2).normal(size=(5, 4)).astype("float32")
BASELINE = np.zeros(4, "float32")
RULES = {"fixed": igjax.rules.gauss_legendre(5), "adaptive": igjax.rules.adaptive(1e-3)}
CALLS = {"vmap": lambda f, rows: jax.vmap(f)(rows), "map": jax.lax.map}

# What a server does. It knows neither the model nor, if told so, igjax.
READER = """
import json, sys
import numpy as np
from jax import export
if sys.argv[1] == "igjax":
    import igjax
folder, sizes = sys.argv[2], json.loads(sys.argv[3])
rows, baseline = np.load(folder + "/rows.npy"), np.load(folder + "/baseline.npy")
served = export.deserialize(open(folder + "/served", "rb").read())
for n in sizes:
    result = served.call(rows[:n], baseline)
    fields = result if isinstance(result, dict) else vars(result)
    told = {name: field for name, field in fields.items() if field is not None}
    np.savez(f"{folder}/{n}.npz", **told)
print(json.dumps([type(result).__name__, "igjax" in sys.modules]))
"""


def model(x):
    return jnp.tanh(jax.nn.relu(x @ HIDDEN) @ TOP)


def batched(rule, call="vmap", pack=lambda result: result):
    attribute = igjax.integrated_gradients(model, rule=rule)
    one = lambda baseline: lambda x: pack(attribute(x, baseline))
    return jax.jit(lambda rows, baseline: CALLS[call](one(baseline), rows))


def shapes(batch, features: int | str = 4):
    dims = export.symbolic_shape(f"{batch}, {features}")
    f32 = lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32)
    return f32(dims), f32(dims[1:])


def read(folder, content, sizes, libraries):
    """What a fresh process makes of an exported function, for batches of these sizes."""
    (folder / "served").write_bytes(content)
    np.save(folder / "rows.npy", ROWS)
    np.save(folder / "baseline.npy", BASELINE)
    root = pathlib.Path(igjax.__file__).parents[1]
    run = subprocess.run(
        [sys.executable, "-c", READER, libraries, str(folder), json.dumps(sizes)],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(root)} if libraries == "igjax" else None,
    )
    kind, imported = json.loads(run.stdout)
    assert imported == (libraries == "igjax")
    return kind, [dict(np.load(folder / f"{n}.npz")) for n in sizes]


def assert_same(fields, want):
    told = {name: field for name, field in vars(want).items() if field is not None}
    assert fields.keys() == told.keys()
    for name, value in told.items():
        assert fields[name].dtype == value.dtype, name
        np.testing.assert_array_equal(fields[name], value, err_msg=name)


@functools.cache
def expected(name, call, n):
    return batched(RULES[name], call)(ROWS[:n], BASELINE)


@pytest.mark.slow
def test_a_fresh_process_that_knows_igjax_gets_the_same_attribution(tmp_path):
    served = export.export(batched(RULES["fixed"]))(ROWS, BASELINE).serialize()
    kind, (fields,) = read(tmp_path, served, [5], "igjax")
    assert kind == "Attribution"
    assert_same(fields, expected("fixed", "vmap", 5))


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_a_dict_of_the_fields_needs_no_igjax(name, tmp_path):
    exported = export.export(batched(RULES[name], pack=vars))(ROWS, BASELINE)
    kind, (fields,) = read(tmp_path, exported.serialize(), [5], "jax")
    assert kind == "dict"
    assert_same(fields, expected(name, "vmap", 5))


SYMBOLIC = [("fixed", "vmap"), ("adaptive", "map")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "call"), SYMBOLIC)
def test_the_size_of_the_batch_may_be_symbolic(name, call, tmp_path):
    exported = export.export(batched(RULES[name], call, vars))(*shapes("batch"))
    _, results = read(tmp_path, exported.serialize(), [2, 5], "jax")
    for n, fields in zip([2, 5], results, strict=True):
        assert_same(fields, expected(name, call, n))


@pytest.mark.slow
def test_the_map_of_the_adaptive_rule_agrees_with_its_vmap():
    mapped, want = (expected("adaptive", call, 5) for call in CALLS)
    assert mapped.converged.all()
    np.testing.assert_array_equal(mapped.evaluations, want.evaluations)
    np.testing.assert_allclose(mapped.values, want.values, rtol=1e-5, atol=1e-7)


def test_the_queue_of_the_adaptive_rule_needs_the_size_of_the_batch():
    with pytest.raises(Exception, match="Symbolic dimension comparison 'batch'"):
        export.export(batched(RULES["adaptive"]))(*shapes("batch"))


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_symbolic_sizes_of_an_example_are_refused_by_name(rule):
    attribute = jax.vmap(igjax.integrated_gradients(jnp.sum, rule=rule), (0, None))
    with pytest.raises(ValueError, match=r"sizes of x must be known, got shape \(n,\)"):
        export.export(jax.jit(attribute))(*shapes("batch", "n"))


@pytest.mark.slow
def test_the_tolerance_may_be_chosen_by_the_server():
    def attribute(x, baseline, tolerance):
        rule = igjax.rules.adaptive(tolerance)
        steep = lambda x: jnp.tanh(40 * (model(x) - 0.3 * model(ROWS[0])))
        return igjax.integrated_gradients(steep, rule=rule)(x, baseline)

    exported = export.export(jax.jit(attribute))(ROWS[0], BASELINE, jnp.float32(1e-1))
    served = jax.jit(export.deserialize(exported.serialize()).call)
    rough, fine = (served(ROWS[0], BASELINE, jnp.float32(t)) for t in (0.1, 1e-4))
    assert fine.evaluations > rough.evaluations
    assert fine.converged


def test_values_of_any_structure_are_served():
    f = lambda x: jnp.tanh(x["a"]).sum() * x["b"][0]
    x = {"a": jnp.ones(2), "b": (jnp.float32(2),)}
    attribute = jax.jit(igjax.integrated_gradients(f, rule=RULES["fixed"]))
    inputs = x, igjax.baselines.zeros(x)
    result = export.deserialize(export.export(attribute)(*inputs).serialize()).call(*inputs)
    assert jax.tree.structure(result) == jax.tree.structure(attribute(*inputs))


def test_a_file_of_an_igjax_with_other_fields_is_refused(monkeypatch):
    exported = export.export(batched(RULES["fixed"]))(ROWS, BASELINE)
    other = lambda aux=(): b'["values", "certainty"]'
    content = exported.serialize()
    monkeypatch.setattr(attribution, "_fields", other)
    with pytest.raises(ValueError, match=r"Attribution: .*certainty.*export it anew"):
        export.deserialize(content)


def test_a_file_of_an_igjax_that_knew_no_sampling_is_read():
    older = json.dumps(json.loads(attribution._fields())[:-1]).encode()
    assert attribution._as_exported(older) == attribution._as_exported(
        attribution._fields()
    )


def test_a_mean_over_draws_is_served_with_its_sampling():
    attribute = jax.jit(igjax.expected(igjax.input_x_gradient(model), draws=4))
    inputs = jax.random.key(0), ROWS[0], ROWS
    raw = jax.random.key_data(inputs[0])
    run = jax.jit(lambda data, *rest: attribute(jax.random.wrap_key_data(data), *rest))
    served = export.deserialize(export.export(run)(raw, *inputs[1:]).serialize())
    got: Any = served.call(raw, *inputs[1:])
    want: Any = attribute(*inputs)
    assert (want.sampling > 0).any()
    np.testing.assert_allclose(got.sampling, want.sampling, rtol=1e-5)


def test_a_second_import_of_the_module_does_no_harm():
    source = pathlib.Path(attribution.__file__).read_text("utf8")
    again = types.ModuleType("igjax_again")
    sys.modules[again.__name__] = again  # dataclasses look their module up
    try:
        exec(source, vars(again))
    finally:
        del sys.modules[again.__name__]
    content = export.export(batched(RULES["fixed"]))(ROWS, BASELINE).serialize()
    result = export.deserialize(content).call(ROWS, BASELINE)
    assert type(result) is igjax.Attribution
