"""Compiled by itself: one trace a shape, weights as operands, programs of constant size.

Compilations are counted by the events that JAX records, traces by what f writes to a text
buffer: igjax takes a list or a number that moves for something that f depends on.
"""

import functools
import io
import re
from contextlib import contextmanager

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.extend import core

import igjax

RULE = igjax.rules.gauss_legendre(4)
COMPILED = "/jax/core/compile/backend_compile_duration"


WATCHERS: list[list] = []


def note(event, *_, **__):
    if event == COMPILED:
        for seen in WATCHERS:
            seen.append(event)


jax.monitoring.register_event_duration_secs_listener(note)


@contextmanager
def compilations():
    """Collects one entry for each program that XLA compiles inside the block."""
    WATCHERS.append([])
    try:
        yield WATCHERS[-1]
    finally:
        WATCHERS.pop()


class Traces(io.StringIO):
    def add(self):
        self.write("t")

    def __len__(self):
        return len(self.getvalue())


def counted():
    """Returns a function f(x, *weights) and the record of its traces."""
    traces = Traces()

    def f(x, *weights):
        traces.add()
        return jnp.tanh(sum(w @ x for w in weights) + x.sum())

    return f, traces


def test_a_function_that_counts_its_own_traces_is_traced_once():
    traces = []

    def f(x):
        traces.append(0)
        return x.sum()

    for k in range(4):
        igjax.integrated_gradients(f, rule=RULE)(jnp.full(3, float(k)), 0.0)
    assert len(traces) == 1


def test_a_naive_loop_traces_once_and_compiles_once():
    f, traces = counted()
    inputs = [np.full(3, k, "float32") for k in range(5)]
    with compilations() as compiled:
        for x in inputs:
            igjax.integrated_gradients(f, rule=RULE)(x, 0.0)
    assert len(traces) == 1
    assert len(compiled) == 1


def test_results_of_a_loop_are_those_of_their_own_inputs():
    f, _ = counted()
    for k in range(4):
        x = jnp.full(3, k / 10)
        result = igjax.integrated_gradients(f, rule=RULE)(x, 0.0)
        # tanh(sum(x)) is shared equally by equal features.
        np.testing.assert_allclose(result.score, np.tanh(3 * k / 10), rtol=1e-6)
        np.testing.assert_allclose(result.values, np.full(3, np.tanh(0.3 * k) / 3), 1e-5)


@pytest.mark.parametrize(
    "call",
    [
        lambda f, x: igjax.integrated_gradients(f, rule=RULE)(x, 0.0),
        lambda f, x: igjax.integrated_jacobian(f, rule=RULE)(x, 0.0),
        lambda f, x: jax.vmap(igjax.integrated_gradients(f, rule=RULE))(x[None], x[None]),
        lambda f, x: jax.grad(
            lambda x: igjax.integrated_gradients(f, rule=RULE)(x, 0.0).values[0]
        )(x),
    ],
    ids=["gradients", "jacobian", "vmap", "grad"],
)
def test_a_second_call_neither_traces_nor_compiles(call):
    f, traces = counted()
    first, second = jnp.ones(3), 2 * jnp.ones(3)
    call(f, first)
    call(f, first)
    count = len(traces)
    assert count == 1
    with compilations() as compiled:
        call(f, second)
    assert len(traces) == count
    assert compiled == []


def test_what_varies_in_value_only_compiles_once():
    f, traces = counted()
    attribute = igjax.integrated_gradients(f, rule=RULE)
    arrays = [np.full(3, k, "float32") for k in range(4)]
    attribute(arrays[0], arrays[0], arrays[0])
    with compilations() as compiled:
        for baseline in arrays:
            for w in arrays:
                attribute(arrays[1], baseline, w)
    assert len(traces) == 1
    assert compiled == []


def test_labels_compile_once():
    traces = Traces()
    table = np.arange(12.0).reshape(4, 3)

    def f(x, label):
        traces.add()
        return (table @ x)[label]

    attribute = igjax.integrated_gradients(f, rule=RULE)
    for label in range(4):
        values = attribute(jnp.ones(3), 0.0, label).values
        np.testing.assert_allclose(values, table[label], rtol=1e-6)
    assert len(traces) == 1


def test_tables_of_one_size_share_a_program():
    f, traces = counted()
    tables = [igjax.rules.gauss_legendre(5), igjax.rules.midpoint(5)]
    tables = [t for t in tables if t.error_weights.shape == tables[0].error_weights.shape]
    assert len(tables) == 2
    igjax.integrated_gradients(f, rule=tables[0])(jnp.ones(3), 0.0)
    with compilations() as compiled:
        igjax.integrated_gradients(f, rule=tables[1])(jnp.ones(3), 0.0)
    assert len(traces) == 1
    assert compiled == []


def test_each_shape_and_dtype_is_traced_once():
    f, traces = counted()
    attribute = igjax.integrated_gradients(f, rule=RULE)
    inputs = [np.ones(n, dtype) for n in (2, 3) for dtype in ("float16", "float32")]
    for _ in range(3):
        for x in inputs:
            attribute(x, 0.0)
    assert len(traces) == len(inputs)


def test_static_arguments_are_traced_once_a_value():
    traces = Traces()

    def f(x, mode):
        traces.add()
        return {"double": 2, "triple": 3}[mode] * x.sum()

    attribute = igjax.integrated_gradients(f, rule=RULE)
    for mode, w in [("double", 2), ("triple", 3)] * 3:
        np.testing.assert_allclose(attribute(jnp.ones(2), 0.0, mode).values, [w, w], 1e-6)
    assert len(traces) == 2


def test_new_partials_of_one_function_trace_once():
    f, traces = counted()
    g = lambda w, x: f(x, w)
    for k in range(4):
        w = jnp.full(3, k, "float32")
        bound = functools.partial(g, w)
        igjax.integrated_gradients(bound, rule=RULE)(jnp.ones(3), 0.0)
    assert len(traces) == 1


def test_updated_weights_of_an_equinox_model_do_not_trace_again():
    traces = Traces()

    class Model(eqx.Module):
        w: jax.Array

        def __call__(self, x):
            traces.add()
            return self.w @ x

    model = Model(jnp.ones(3, "float32"))
    for k in range(4):
        model = eqx.tree_at(lambda m: m.w, model, jnp.full(3, k, "float32"))
        values = igjax.integrated_gradients(model, rule=RULE)(np.ones(3, "float32"), 0.0)
        np.testing.assert_allclose(values.values, [k, k, k], rtol=1e-6)
    assert len(traces) == 1


def test_updated_weights_of_an_nnx_model_do_not_trace_again():
    traces = Traces()

    class Model(nnx.Module):
        def __init__(self):
            self.w = nnx.Param(jnp.ones(3))

        def __call__(self, x):
            traces.add()
            return self.w[...] @ x

    model = Model()
    for k in range(4):
        model.w[...] = jnp.full(3, float(k))
        values = igjax.integrated_gradients(model, rule=RULE)(jnp.ones(3), 0.0).values
        np.testing.assert_allclose(values, [k, k, k], rtol=1e-6)
    assert len(traces) == 1


def test_an_attribute_that_the_method_does_not_name_may_change():
    class Trainer:
        def __init__(self):
            self.w, self.step, self.history = jnp.ones(3), 0, []

        def score(self, x):
            traces.add()
            return self.w @ x

    traces = Traces()
    trainer = Trainer()
    for _ in range(4):
        attribute = igjax.integrated_gradients(trainer.score, rule=RULE)
        trainer.history.append(attribute(jnp.ones(3), 0.0))
        trainer.step += 1
    assert len(traces) == 1


def test_a_global_that_is_only_the_name_of_an_attribute_may_change():
    traces = Traces()
    namespace: dict = {"traces": traces}
    source = "def f(x): traces.add(); return x.T @ x"
    exec(source, namespace)
    for k in range(4):
        namespace["T"] = k  # not what x.T means
        igjax.integrated_gradients(namespace["f"], rule=RULE)(jnp.ones(3), 0.0)
    assert len(traces) == 1


@pytest.mark.slow
def test_programs_of_one_function_are_bounded():
    traces = Traces()

    def f(x, name):
        traces.add()
        return x.sum()

    attribute = igjax.integrated_gradients(f, rule=igjax.rules.midpoint(1))
    with jax.disable_jit():  # saves the time of XLA: only the traces count
        for k in range(80):
            attribute(jnp.ones(2), 0.0, f"name {k}")
        attribute(jnp.ones(2), 0.0, "name 79")
        assert len(traces) == 80
        attribute(jnp.ones(2), 0.0, "name 0")  # the oldest was dropped
        assert len(traces) == 81


# Weights are operands.


def dense(w):
    return lambda x: jnp.tanh(w @ x).sum()


def dense_jitted_inside(w):
    inner = jax.jit(lambda x: jnp.tanh(w @ x))
    outer = jax.jit(lambda x: inner(x).sum())
    return lambda x: outer(x)


def dense_equinox(w):
    linear = eqx.nn.Linear(*w.shape, use_bias=False, key=jax.random.key(0))
    linear = eqx.tree_at(lambda m: m.weight, linear, w)
    return eqx.nn.Sequential([linear, eqx.nn.Lambda(jnp.tanh), eqx.nn.Lambda(jnp.sum)])


def dense_in_closure_of_equinox(w):
    model = dense_equinox(w)
    return lambda x: model(x)


def dense_nnx(w):
    class Model(nnx.Module):
        def __init__(self):
            self.w = nnx.Param(w)

        def __call__(self, x):
            return jnp.tanh(self.w[...] @ x).sum()

    return Model()


def dense_tree_partial(w):
    return jax.tree_util.Partial(lambda w, x: jnp.tanh(w @ x).sum(), w)


def dense_partial(w):
    return functools.partial(lambda x, w: jnp.tanh(w @ x).sum(), w=w)


def dense_numpy(w):
    w = np.asarray(w)
    return lambda x: jnp.tanh(w @ x).sum()


def dense_checkpointed(w):
    return lambda x: jax.checkpoint(lambda x: jnp.tanh(w @ x))(x).sum()


def dense_scanned(w):
    step = lambda h, _: (jnp.tanh(w @ h), None)
    return lambda x: jax.lax.scan(step, x, length=2)[0].sum()


def dense_scanned_and_jitted(w):
    inner = jax.jit(lambda h: jnp.tanh(w @ h))
    return lambda x: jax.lax.scan(lambda h, _: (inner(h), None), x, length=2)[0].sum()


def dense_branched(w):
    inner = jax.jit(lambda x: jnp.tanh(w @ x))
    return lambda x: jax.lax.cond(x[0] > 9, lambda x: x, inner, x).sum()


DENSE = (
    dense,
    dense_jitted_inside,
    dense_equinox,
    dense_in_closure_of_equinox,
    dense_nnx,
    dense_tree_partial,
    dense_partial,
    dense_numpy,
    dense_checkpointed,
    dense_scanned,
    dense_scanned_and_jitted,
    dense_branched,
)


def constants(jaxpr):
    """The sizes of all arrays that are baked into a jaxpr or one inside it."""
    for closed in inner_jaxprs(jaxpr):
        yield from (np.size(c) for c in closed.consts)


def inner_jaxprs(jaxpr):
    for eqn in jaxpr.eqns:
        for value in eqn.params.values():
            for item in value if isinstance(value, tuple | list) else [value]:
                if isinstance(item, core.ClosedJaxpr):
                    yield item
                    yield from inner_jaxprs(item.jaxpr)
                elif isinstance(item, core.Jaxpr):
                    yield from inner_jaxprs(item)


@pytest.mark.parametrize("make", DENSE, ids=lambda make: make.__name__)
def test_weights_are_operands(make):
    w = jax.random.normal(jax.random.key(1), (40, 40)) / 7
    f = make(w)
    attribute = igjax.integrated_gradients(f, rule=RULE)
    # Called by itself first, so that the program is the one a naive loop runs.
    attribute(jnp.ones(40), 0.0)
    closed = jax.make_jaxpr(attribute)(jnp.ones(40), 0.0)
    largest = max(constants(closed.jaxpr), default=0)
    assert largest < 40 * 40
    run = lambda consts, x: core.jaxpr_as_fun(core.ClosedJaxpr(closed.jaxpr, consts))(
        x, 0.0
    )
    text = jax.jit(run).lower(closed.consts, jnp.ones(40)).as_text()
    dense = re.findall(r"dense<.*> : tensor<(\d+)x(\d+)x", text)
    assert not [shape for shape in dense if shape == ("40", "40")]
    assert not re.search(r'dense<"0x[0-9A-F]{1000,}"', text)


# Size does not grow with the rule.


def table(n):
    """A rule with five rows of error weights, quick to make: only its size counts."""
    nodes = (np.arange(n) + 0.5) / n
    return igjax.rules.Rule(nodes, np.full(n, 1 / n), np.full((5, n), 1 / n))


def model(x, w):
    return jnp.tanh(w @ jnp.sin(w.T @ x)).sum()


def test_the_jaxpr_does_not_grow_with_the_nodes():
    args = jnp.ones(4), jnp.zeros(4), jnp.ones((4, 4))
    lengths = set()
    for rule in map(table, (8, 64, 1024)):
        attribute = igjax.integrated_gradients(model, rule=rule, chunk_size=8)
        jaxpr = jax.make_jaxpr(attribute)(*args).jaxpr
        inner = [len(closed.jaxpr.eqns) for closed in inner_jaxprs(jaxpr)]
        lengths.add((len(jaxpr.eqns), tuple(inner)))
    assert len(lengths) == 1


def test_the_lowered_text_does_not_grow_with_the_nodes():
    args = jnp.ones(4), jnp.zeros(4), jnp.ones((4, 4))
    texts = []
    for rule in map(table, (8, 64, 1024)):
        # The rule is an argument, as it is in the program that igjax compiles.
        run = lambda rule, *args: igjax.integrated_gradients(
            model, rule=rule, chunk_size=8
        )(*args)
        texts.append(jax.jit(run).lower(rule, *args).as_text())
    lines = {text.count("\n") for text in texts}
    assert len(lines) == 1
    # Shapes such as 1024 are longer to write than 8, and nothing else differs.
    assert len(texts[2]) - len(texts[0]) < 0.05 * len(texts[0])


def peak(nodes, width, **options):
    rule = table(nodes)
    x, w = jnp.ones(width), jnp.ones((width, width))
    run = lambda rule, x, w: igjax.integrated_gradients(model, rule=rule, **options)(
        x, 0.0, w
    )
    analysis = jax.jit(run).lower(rule, x, w).compile().memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes


def test_memory_with_a_chunk_size_does_not_depend_on_the_nodes():
    few, many = (peak(n, 64, chunk_size=10) for n in (50, 5000))
    # Besides the sums, only the table of the rule is kept: six rows of 5000 numbers.
    assert many <= few + 2 * 6 * 5000 * 8
    assert few >= 10 * 64 * 8  # one chunk of points


def test_memory_does_not_depend_on_the_nodes_by_default():
    few, many = (peak(n, 64) for n in (64, 5000))
    assert many <= few + 2 * 6 * 5000 * 8


def test_memory_grows_with_the_chunk_size():
    assert peak(512, 64, chunk_size=512) > 4 * peak(512, 64, chunk_size=8)
