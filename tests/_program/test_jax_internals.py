"""JAX's inside has one room, and what it does not understand there breaks no answer."""

import ast
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.extend import core
from jax.interpreters import ad, batching, mlir

import igjax
from igjax._program import jax_internals
from igjax._program.blocks import chunk
from igjax._program.tracing import footprint, trace

ROOT = pathlib.Path(igjax.__file__).parent
ROOM = ROOT / "_program" / "jax_internals.py"
FILES = [
    path
    for path in sorted(ROOT.rglob("*.py"))
    if path != ROOM and path.relative_to(ROOT).parts[0] not in ("models", "plots")
]
INSIDE = ("jax.extend", "jax._src", "jax.interpreters", "jax.lib")
PRIVATE = ("params", "vma", "manual_axis_type", "pcast", "pvary", "get_bind_params")


def strangers(text: str) -> set[str]:
    """The names in a source that only the one room may know."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute):
            found |= {node.attr, ast.unparse(node)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {node.value} & set(PRIVATE)
    private = {name for name in found if name in PRIVATE or "DO_NOT_USE" in name}
    return private | {name for name in found if name.startswith(INSIDE)}


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_other_file_knows_the_inside_of_jax(file):
    assert not strangers(file.read_text("utf8"))


def test_the_walk_finds_what_it_looks_for():
    assert strangers("from jax.extend import core\neqn.params['jaxpr']") == {
        "jax.extend.core",
        "params",
    }
    assert "jax._src.core" in strangers("import jax\njax._src.core.x")
    assert "manual_axis_type" in strangers("getattr(x, 'manual_axis_type')")
    assert strangers(ROOM.read_text("utf8"))


# Functions of three numbers whose weights are many enough for an affine prefix to pay.
WEIGHTS = np.random.default_rng(0).normal(size=(3, 50))
HEAD = np.random.default_rng(1).normal(size=50)
X = jnp.array([0.3, -0.7, 1.1])


def body(z):
    return jnp.tanh(z) @ jnp.asarray(HEAD)


@jax.custom_jvp
def by_jvp(z):
    return body(z)


by_jvp.defjvp(lambda z, dz: jax.jvp(body, z, dz))


@jax.custom_vjp
def by_vjp(z):
    return body(z)


by_vjp.defvjp(lambda z: (body(z), z), lambda z, g: jax.vjp(body, z)[1](g))


def by_scan(z):
    add = lambda c, row: (c + jnp.tanh(row[0]) * row[1], None)
    return lax.scan(add, 0.0 * z[0], (z, jnp.asarray(HEAD)))[0]


def by_while(z):
    run = lambda c: (c[0] + 1, jnp.tanh(c[1]))
    # Reverse mode goes around a while loop whose carry does not depend on x.
    turns, _ = lax.while_loop(lambda c: c[0] < 3, run, (0, jnp.asarray(HEAD)))
    return body(z) * (turns / 3)


WAYS = {
    "scan": by_scan,
    "while": by_while,
    "cond": lambda z: lax.cond(z[0] > 1e3, lambda z: z[0], body, z),
    "jit": jax.jit(body),
    "custom_jvp_call": by_jvp,
    "custom_vjp_call": by_vjp,
    "remat2": jax.checkpoint(body),
    "dot_general": body,
}
FIXED, ADAPTIVE = igjax.rules.gauss_legendre(24), igjax.rules.adaptive(1e-6)
RULES = [
    pytest.param(FIXED, id="fixed"),
    pytest.param(ADAPTIVE, id="adaptive", marks=pytest.mark.slow),
]


def attributed(way, rule):
    f = lambda x: way(x @ jnp.asarray(WEIGHTS))
    return igjax.integrated_gradients(f, rule=rule)(X, 0.0)


@functools.cache
def expected() -> np.ndarray:
    """The integral in plain NumPy, by a rule of another kind."""
    t = (np.arange(4000) + 0.5) / 4000
    slopes = (1 - np.tanh(np.outer(t, np.asarray(X) @ WEIGHTS)) ** 2).mean(0)
    return np.asarray(X) * (WEIGHTS @ (HEAD * slopes))


def rename(monkeypatch, name: str, accessors=("_parameter", "bodies")):
    """Makes equations of one primitive answer no question that is asked by these."""

    def unless(accessor):
        read = getattr(jax_internals, accessor)

        def asked(eqn, *parameter):
            if eqn.primitive.name == name:
                raise jax_internals.NotUnderstood(name)
            return read(eqn, *parameter)

        return asked

    for accessor in accessors:
        monkeypatch.setattr(jax_internals, accessor, unless(accessor))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("name", "way"), WAYS.items(), ids=WAYS)
def test_a_parameter_that_was_renamed_breaks_no_answer(monkeypatch, name, way, rule):
    rename(monkeypatch, name, ["_parameter"])
    np.testing.assert_allclose(attributed(way, rule).values, expected(), rtol=1e-6)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("name", "way"), WAYS.items(), ids=WAYS)
def test_a_body_that_is_not_found_breaks_no_answer(monkeypatch, name, way, rule):
    rename(monkeypatch, name)
    np.testing.assert_allclose(attributed(way, rule).values, expected(), rtol=1e-6)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_equations_that_cannot_be_bound_again_break_no_answer(monkeypatch, way, rule):
    def refuse(eqn, inputs, **changes):
        raise NotImplementedError(eqn, inputs, changes)

    monkeypatch.setattr(jax_internals, "bind", refuse)
    np.testing.assert_allclose(attributed(way, rule).values, expected(), rtol=1e-6)


def test_a_block_has_values_for_the_weights_it_reads():
    point = jnp.ones((1 << 9, 1 << 9), "float32")  # of 1 MiB, as are tanh and the product
    small, large = (jnp.ones((1 << 9, 1 << n), "float32") for n in (9, 14))
    score = lambda w: lambda x: (jnp.tanh(x) @ w[:, : 1 << 9]).sum()
    count = lambda w: chunk(score(w), lambda t: t.astype("float32") * point, float, 24)
    assert count(small) == 4
    assert 8 <= count(large) <= 12


def test_what_is_not_understood_has_a_default_block_and_no_cost(monkeypatch):
    f = lambda z: lax.scan(lambda c, row: (c + row, c), z[0], z)[0].sum()
    known = footprint(f, jnp.ones((5, 3)))
    attribute = igjax.integrated_gradients(f, rule=FIXED)
    told = igjax.cost(attribute, jnp.ones((5, 3)), 0.0)
    assert known is not None
    assert known.values >= 5 * 3
    assert told.flops
    assert told.evaluations == (24, 24)

    rename(monkeypatch, "scan")
    assert footprint(f, jnp.ones((5, 3))) is None
    assert chunk(f, lambda t: t * jnp.ones((5, 3)), float, 100) == 4
    told = igjax.cost(attribute, jnp.ones((5, 3)), 0.0)
    assert told.flops is None
    assert told.evaluations == (24, 24)  # the name of the program says so
    assert told.peak_bytes


def test_a_cut_that_is_not_understood_says_what_and_where(monkeypatch):
    f = lambda x: checkpoint_name(2 * x, "y").sum()
    plain = jax_internals._parameter
    asked = lambda eqn, name: plain(eqn, f"renamed {name}")
    monkeypatch.setattr(jax_internals, "_parameter", asked)
    said = rf"JAX {jax.__version__} writes the primitive 'name'.*\['name'\].*Install"
    with pytest.raises(jax_internals.NotUnderstood, match=said):
        igjax.layer_integrated_gradients(f, "y")(jnp.ones(2), 0.0)
    assert issubclass(jax_internals.NotUnderstood, ValueError)


def primitive(name: str, implementation):
    """A primitive that igjax has never heard of, with all the rules that JAX asks for."""
    stranger = core.Primitive(name)
    stranger.def_impl(implementation)

    def shape(*avals, **keywords):
        like = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals]
        out = jax.eval_shape(lambda *a: implementation(*a, **keywords), *like)
        return avals[0].update(shape=out.shape, dtype=out.dtype)

    stranger.def_abstract_eval(shape)
    mlir.register_lowering(stranger, mlir.lower_fun(implementation, multiple_results=False))

    def tangent(primals, tangents, **keywords):
        filled = tuple(ad.instantiate_zeros(t) for t in tangents)
        return jax.jvp(lambda *a: implementation(*a, **keywords), primals, filled)

    ad.primitive_jvps[stranger] = tangent

    def batch(args, axes, **keywords):
        run = lambda *a: implementation(*a, **keywords)
        return jax.vmap(run, axes)(*args), 0

    batching.primitive_batchers[stranger] = batch
    return stranger


PLAIN = primitive("stranger", lambda z: body(z))
HOLDING = primitive(
    "strange_call", lambda z, *, code: core.jaxpr_as_fun(code)(z)[0] if code else z
)


@pytest.mark.parametrize("rule", RULES)
def test_an_unknown_primitive_is_evaluated_as_jax_evaluates_it(rule):
    got = attributed(lambda z: PLAIN.bind(z), rule)
    np.testing.assert_allclose(got.values, expected(), rtol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_an_unknown_primitive_with_a_body_is_evaluated_as_jax_evaluates_it(rule):
    code = jax.make_jaxpr(body)(jnp.zeros(50))
    got = attributed(lambda z: HOLDING.bind(z, code=code), rule)
    np.testing.assert_allclose(got.values, expected(), rtol=1e-6)


def test_constants_inside_loops_branches_and_calls_become_operands():
    w = jnp.asarray(HEAD)
    times = jax.jit(lambda z: z * w)
    turn = lambda x: lambda c, _: (lax.cond(x > 0, times, jnp.sin, c), None)
    f = lambda x: lax.scan(turn(x), w * x, None, 3)[0]
    traced = trace(f, 0.5)
    assert traced.constants
    np.testing.assert_allclose(traced.run(traced.constants, 0.5), 0.5 * HEAD**4, rtol=1e-12)
    doubled = traced.run([2 * c for c in traced.constants], 0.5)
    np.testing.assert_allclose(doubled, 0.5 * (2 * HEAD) ** 4, rtol=1e-12)


# How many examples are mapped over.

SEEN = {
    "nothing": (1, lambda see: see),
    "a batch": (3, jax.vmap),
    "an empty one": (1, lambda see: lambda x: jax.vmap(see)(x[:0])),
    "under jit": (3, lambda see: jax.jit(jax.vmap(see))),
    "two axes": (12, lambda see: jax.vmap(jax.vmap(see))),
    "a gradient of it": (3, lambda see: jax.grad(lambda x: jax.vmap(see)(x).sum())),
    "of a gradient": (3, lambda see: jax.vmap(jax.grad(lambda x: see(x).sum()))),
    "in a loop": (4, lambda see: lambda x: jax.lax.map(jax.vmap(see), x)),
    "around a jit": (1, lambda see: jax.vmap(jax.jit(see))),
    "what is mapped is not used": (1, lambda see: jax.vmap(lambda x: see(jnp.ones(2)))),
}


@pytest.mark.parametrize("name", SEEN)
def test_the_examples_that_a_function_is_mapped_over_are_counted(name):
    count, around = SEEN[name]
    seen = []

    def see(x):
        seen.append(jax_internals.mapped((x, 0.0)))
        return x

    around(see)(jnp.ones((3, 4, 2)))
    assert set(seen) == {count}


def test_examples_and_labels_that_are_mapped_apart_are_pairs():
    seen = []
    see = lambda x, label: seen.append(jax_internals.mapped((x, label)))
    jax.vmap(jax.vmap(see, (None, 0)), (0, None))(jnp.ones((3, 2)), jnp.arange(5))
    assert seen == [15]


def test_a_tracer_that_nobody_knows_is_no_batch(monkeypatch):
    monkeypatch.setattr(jax_internals.math, "prod", lambda sizes: 1 // 0)
    assert jax_internals.mapped(jnp.ones(2)) == 1
