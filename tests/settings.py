"""Settings that people run JAX with, and a call of every public function under them.

All that a call is given lies on the device: whatever is moved there in it is igjax's own.
`python -O -W error -m tests.settings` calls them under settings of Python.
"""

import contextlib
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

import igjax
from igjax import baselines, diagnostics, metrics, paths, perturbation, propagation, rules
from tests.registry import METHODS, PLAIN, RANDOM

# Transfers are a matter of each call: the tests guard them.
SETTINGS: dict[str, Callable[[], AbstractContextManager]] = {
    "strict dtypes": lambda: jax.numpy_dtype_promotion("strict"),
    "strict ranks": lambda: jax.numpy_rank_promotion("raise"),
    "no NaN": lambda: jax.debug_nans(True),
    "no leaks": jax.checking_leaks,
}


@contextlib.contextmanager
def together(names):
    """Several settings at once."""
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(SETTINGS[name]())
        yield


# What is explained.


def score(x):
    """A smooth score, of layers y, with places and channels, and z."""
    y = checkpoint_name(jnp.tanh(jnp.stack([x, 2 * x], -1)), "y")
    z = checkpoint_name(y.sum(-1) * x, "z")
    return z.sum() + x[0] * x[1]


def kinked(x):
    return jax.nn.relu(x * x[0] + 0.1).sum()


def many(x):
    """A score of too many features to take all coalitions of them, rows of three."""
    return jnp.tanh(x).sum() * x[0, 0]


def channels(x):
    return jax.nn.relu(checkpoint_name(x, "y")).sum()


def distance(x, y):
    return (score(x) - y.sum()) ** 2


def outputs(x):
    return jnp.stack([score(x), x.sum()])


def batch_first(xs):
    return jnp.tanh(xs).sum(1)


# Functions of inputs of several dtypes, and of another dtype than their score.
KINDS: dict[str, tuple[Callable, Any]] = {
    "mixed": (
        lambda x: score(x["a"]) * x["b"].sum().astype("float32"),
        {"a": np.array([0.8, -0.5, 1.2], "float32"), "b": np.array([0.5, 1.0])},
    ),
    "narrow": (
        lambda x: score(x.astype("float32")).astype("bfloat16"),
        jnp.bfloat16([0.8, -0.5, 1.2]),
    ),
    "wide": (
        lambda x: score(x.astype("float64")),
        np.array([0.8, -0.5, 1.2], "float32"),
    ),
    "complex": (
        lambda z: (z.real**2).sum() + z.imag.prod(),
        np.array([1 + 2j, 0.5j], "complex64"),
    ),
}


def arguments() -> dict[str, Any]:
    """What the calls are given, all of it on the device."""
    x = jnp.array([0.8, -0.5, 1.2], "float32")
    zero = jnp.zeros_like(x)
    rows = jnp.stack([zero, x / 2, x - 1, x**2])
    ig = igjax.integrated_gradients(score, rule=GAUSS)
    given = {
        "key": jax.random.key(0),
        "x": x,
        "zero": zero,
        "rows": rows,
        "no rows": jnp.zeros_like(rows),
        "weights": jnp.array([1.0, 0.5, -2.0], "float32"),
        "mask": jnp.array([True, False, True]),
        "labels": jnp.array([0, 0, 1]),
        "label": jnp.int32(1),
        "other": jnp.int32(0),
        "result": ig(x, zero),
        "batch": jax.vmap(ig, (0, None))(rows, zero),
    }
    for name, (_, x) in KINDS.items():
        given[name] = jax.tree.map(jnp.asarray, x)
        given[f"{name} zero"] = jax.tree.map(jnp.zeros_like, given[name])
    return jax.block_until_ready(given)


# The calls: each is made by a function without arguments.

CASES: dict[str, Callable[[], Callable[[dict], Any]]] = {}
GAUSS = rules.gauss_legendre(4)
ADAPTIVE = rules.adaptive(1e-2, max_evaluations=150)
RULES = {"fixed": GAUSS, "adaptive": ADAPTIVE}
ENDS = ("x", "zero")
IG = partial(igjax.integrated_gradients, rule=GAUSS)


def _add(name: str, build: Callable[[], Callable], *names: str):
    """A case: `build()` makes a function of the arguments of these names."""

    def make():
        run = build()
        return lambda given: run(*(given[name] for name in names))

    CASES[name] = make


def _unkeyed(method):
    """A method of the registry, whose key is made at each call, as one program."""
    return lambda *args, **options: jax.jit(method(*args, **options))


for method in METHODS:
    f = outputs if method.name == "integrated_jacobian" else score
    for kind, rule in RULES.items():
        _add(f"{method.name}, {kind}", partial(method.transform, f, rule=rule), *ENDS)
for method in PLAIN:
    _add(method.name, partial(method.transform, score), *ENDS)
for method in RANDOM:
    _add(method.name, partial(_unkeyed(method.transform), score), *ENDS)

for name, build in {
    "adaptive_rule": lambda: igjax.adaptive_rule(score, rule=ADAPTIVE),
    "shapley_interactions": lambda: perturbation.shapley_interactions(score),
    "ablation": lambda: perturbation.ablation(score),
    "occlusion": lambda: perturbation.occlusion(score, (2,)),
    "deeplift": lambda: propagation.deeplift(score),
    "relevance": lambda: propagation.relevance(score),
    "guided_gradient": lambda: propagation.guided_gradient(kinked),
    "deconvnet_gradient": lambda: propagation.deconvnet_gradient(kinked),
    "layer_deeplift": lambda: propagation.layer_deeplift(score, "z"),
    "deeplift by RevealCancel": lambda: propagation.deeplift(
        score, (("activation", propagation.reveal_cancel()),)
    ),
    "layer_relevance": lambda: propagation.layer_relevance(score, "z"),
    "guided": lambda: igjax.guided_integrated_gradients(score, steps=5),
    "hessians": lambda: igjax.integrated_hessians(score, nodes=3),
    "top_interactions": lambda: igjax.top_interactions(score, 2, nodes=3),
    "internal_influence": lambda: igjax.internal_influence(score, "z", rule=GAUSS),
    "single": lambda: IG(igjax.single(batch_first)),
    "grad": lambda: jax.jit(jax.grad(lambda x, b: IG(score)(x, b).values.sum())),
    "cost": lambda: partial(igjax.cost, IG(score)),
    "path polyline": lambda: IG(score, path=paths.polyline(np.ones(3))),
    "path staircase": lambda: IG(score, path=paths.staircase(np.arange(3), 3)),
    "path blur": lambda: IG(score, path=paths.blur(2.0, (0,))),
    "path pushforward": lambda: IG(score, path=paths.pushforward(jnp.sin)),
    "path latent": lambda: IG(score, path=paths.latent(jnp.sinh, jnp.arcsinh)),
    "cut": lambda: IG(lambda x: igjax.cut(score, "y").trunk(x).sum()),
    "cut head": lambda: IG(lambda x: igjax.cut(score, "z").head(x, x)),
}.items():
    _add(name, build, *ENDS)

for kind, rule in RULES.items():
    for name, method in {
        "layer_integrated_gradients": igjax.layer_integrated_gradients,
        "layer_conductance": igjax.layer_conductance,
        "neuron_conductance": partial(igjax.neuron_conductance, neuron=(0, 1)),
    }.items():
        _add(f"{name}, {kind}", partial(method, score, "y", rule=rule), *ENDS)
    profile = partial(diagnostics.path_profile, score, rule=rule, points=5)
    _add(f"path_profile, {kind}", profile, *ENDS)
    groups = partial(igjax.grouped, score, 2, rule=rule)
    _add(f"grouped, {kind}", groups, *ENDS, "labels")
    batch = lambda rule=rule: jax.vmap(IG(score, rule=rule), (0, None))
    _add(f"vmap, {kind}", batch, "rows", "zero")
    jitted = lambda rule=rule: jax.jit(jax.vmap(IG(score, rule=rule), (0, None)))
    _add(f"jit of vmap, {kind}", jitted, "rows", "zero")

for name, build in {
    "gradient without a baseline": lambda: igjax.gradient(score),
    "layers": lambda: igjax.layer_gradient_x_activation(score, ["y", "z"]),
    "layer_activation": lambda: igjax.layer_activation(score, "y"),
    "grad_cam": lambda: igjax.grad_cam(score, "y"),
    "layer_names": lambda: igjax.layer_names(score),
    "baselines.zeros": lambda: baselines.zeros,
    "baselines.constant": lambda: partial(baselines.constant, value=0.5),
    "baselines.blurred": lambda: partial(baselines.blurred, sigma=1.0, axes=(0,)),
    "baselines.learned": lambda: partial(
        baselines.learned, baselines.surprise(outputs), steps=3
    ),
}.items():
    _add(name, build, "x")

_SAMPLED = {"draws": 8, "tolerance": 0.5}
for name, build in {
    "shapley_values": lambda: perturbation.shapley_values(score),
    "banzhaf_values": lambda: perturbation.banzhaf_values(score),
    "lime": lambda: perturbation.lime(score, budget=32),
    "rise": lambda: perturbation.rise(score, budget=32),
    "expected, tolerance": lambda: igjax.expected(
        IG(score, rule=ADAPTIVE), baselines.uniform(-0.1, 0.1), **_SAMPLED
    ),
    "expected_gradients of a sampler": lambda: igjax.expected_gradients(
        score, baselines.noise(0.1), draws=16
    ),
    "smooth with a key": lambda: igjax.smooth(igjax.gradient(score), draws=8),
}.items():
    _add(name, build, "key", *ENDS)

_add("expected of rows", lambda: igjax.expected(IG(score)), "key", "x", "rows")
_add("owen_values", lambda: perturbation.owen_values(score), "key", *ENDS, "labels")
for name, build in {
    "shapley_values, process": lambda: perturbation.shapley_values(many, budget=64),
    "shapley_values, looks": lambda: perturbation.shapley_values(
        many, budget=200, tolerance=0.5
    ),
    "shapley_values, least squares": lambda: perturbation.shapley_values(many, budget=2100),
    "banzhaf_values, process": lambda: perturbation.banzhaf_values(many, budget=64),
    "lime of some masks": lambda: perturbation.lime(many, budget=64),
    "lime, looks": lambda: perturbation.lime(many, budget=200, tolerance=0.5),
    "rise, looks": lambda: perturbation.rise(many, budget=200, tolerance=0.5),
    "sampled_interactions": lambda: perturbation.sampled_interactions(many, budget=1200),
    "black_box": lambda: perturbation.rise(
        perturbation.black_box(lambda xs: xs.sum((1, 2))), budget=8
    ),
}.items():
    _add(name, build, "key", "rows", "no rows")
importance = partial(perturbation.permutation_importance, distance, shuffles=2)
_add("permutation_importance", importance, "key", "rows", "rows")
_add("guided_grad_cam", lambda: propagation.guided_grad_cam(channels, "y"), "rows")
_ORDERED = {"steps": 3, "orders": 4, "ties": 2}
for name, build in {
    "deletion": lambda: metrics.deletion(score, **_ORDERED),
    "insertion": lambda: metrics.insertion(score, **_ORDERED),
    "comprehensiveness": lambda: metrics.comprehensiveness(score, shares=(0.3, 0.6)),
    "sufficiency": lambda: metrics.sufficiency(score, shares=(0.3, 0.6)),
    "against_shuffles": lambda: metrics.against_shuffles(
        metrics.deletion(score, **_ORDERED), shuffles=4
    ),
    "sensitivity_n": lambda: metrics.sensitivity_n(score, 2, subsets=8),
}.items():
    _add(name, build, "key", "weights", *ENDS)
infidelity = partial(metrics.infidelity, score, baselines.noise(0.1), draws=8)
_add("infidelity", infidelity, "key", "weights", "x")
for name, build in {
    "max_sensitivity": lambda: metrics.max_sensitivity(IG(score), 0.1, draws=4),
    "local_lipschitz": lambda: metrics.local_lipschitz(IG(score), 0.1, draws=4),
}.items():
    _add(name, build, "key", *ENDS)
for name, build in {
    "spearman": lambda: metrics.spearman,
    "kendall": lambda: metrics.kendall,
    "top_overlap": lambda: partial(metrics.top_overlap, count=2),
    "rank_biased_overlap": lambda: metrics.rank_biased_overlap,
    "paired": lambda: lambda a, b: metrics.paired({"one": a, "other": b}).means,
}.items():
    _add(name, build, "x", "weights")
for measure in (metrics.pointing_game, metrics.mass_inside, metrics.rank_inside):
    _add(measure.__name__, lambda measure=measure: measure, "weights", "mask")
_add("sparseness", lambda: metrics.sparseness, "weights")
_add("complexity", lambda: metrics.complexity, "weights")
_add("completeness", lambda: metrics.completeness, "result")
agreement = partial(metrics.agreement, metrics.spearman, draws=40)
_add("agreement", agreement, "key", "result", "result")
_add("randomized", lambda: metrics.randomized, "key", "rows")


def _randomization():
    slopes = igjax.gradient(lambda x, w: jnp.tanh(w @ x).sum())
    return metrics.randomization(slopes, [""], draws=2)


_add("randomization", _randomization, "key", *ENDS, "rows")


def _road():
    measure = metrics.road(lambda x: (x**2).sum(), shares=(0.3, 0.6), orders=4, ties=2)
    return jax.jit(lambda key, values: measure(key, values[..., None], values[..., None]))


def _imputed():
    fill = lambda key, x: metrics.imputed(key, x[..., None], x > 0)
    return jax.jit(fill)


_add("road", _road, "key", "rows")
_add("imputed", _imputed, "key", "rows")
_add("expected of some rows", lambda: igjax.expected_gradients(score), "key", "x", "rows")
hessian = partial(igjax.integrated_hessian_product, score, nodes=3)
_add("hessian_product", hessian, *ENDS, "weights")
_add("select", lambda: IG(igjax.select(outputs)), *ENDS, "label")
_add("contrast", lambda: IG(igjax.contrast(outputs)), *ENDS, "label", "other")
_add("aggregate", lambda: partial(igjax.aggregate, count=2), "result", "labels")
_add("within", lambda: partial(diagnostics.within, tolerance=1e-2), "result")
_add("report", lambda: diagnostics.report, "result")
_add("to_records", lambda: lambda batch, x: igjax.to_records(batch, x=x), "batch", "rows")
_add("report of a batch", lambda: diagnostics.report, "batch")
_add("converged", lambda: lambda result: result.converged, "batch")
_add("example", lambda: lambda batch: batch.example(1), "batch")
_add("baselines.mean", lambda: baselines.mean, "rows")
_add("baselines.permuted", lambda: baselines.permuted, "key", "x")
_add("baselines.noise", lambda: baselines.noise(0.1), "key", "x")
_add("baselines.uniform", lambda: baselines.uniform(0.0, 1.0), "key", "x")
_add("baselines.rows", lambda: lambda k, rows: baselines.rows(rows)(k, None), "key", "rows")
_add("baselines.repeated", lambda: partial(baselines.repeated, token=1), "labels")
_add("baselines.mean_embedding", lambda: baselines.mean_embedding, "rows", "x")


def _compared(f):
    attribute = IG(f)
    return lambda x, *ends: baselines.compare(attribute, x, ends)


_add("baselines.compare", partial(_compared, score), "x", "zero", "weights")


def _convergence():
    tried = [GAUSS, rules.midpoint(3)]
    find = partial(diagnostics.convergence, score, rules=tried)
    return lambda x, zero, known: find(x, zero, reference=known)


def _sharded():
    mesh = jax.make_mesh((1,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    return igjax.sharded(IG(score), mesh, (0, None))


def _job():
    explain = jax.jit(jax.vmap(IG(score), (0, None)))

    def run(*batch):
        with tempfile.TemporaryDirectory() as folder:
            job = igjax.attribute_batches(explain, [batch], folder, progress=False)
            return list(job)

    return run


def _stored():
    def run(result):
        with tempfile.TemporaryDirectory() as folder:
            igjax.save(f"{folder}/result.npz", result)
            return igjax.load(f"{folder}/result.npz").result

    return run


_add("convergence", _convergence, *ENDS, "result")
_add("sharded", _sharded, "rows", "zero")
_add("attribute_batches", _job, "rows", "zero")
_add("save and load", _stored, "result")

_OF_KINDS = {
    "integrated_gradients": IG,
    "integrated_gradients, adaptive": partial(igjax.integrated_gradients, rule=ADAPTIVE),
    "input_x_gradient": igjax.input_x_gradient,
    "guided": partial(igjax.guided_integrated_gradients, steps=4),
    "hessians": partial(igjax.integrated_hessians, nodes=3),
    "shapley": perturbation.shapley_values,
    "relevance": propagation.relevance,
    "deeplift": propagation.deeplift,
    "smooth": lambda f: igjax.smooth(igjax.input_x_gradient(f), draws=8),
    "expected": lambda f: igjax.expected(IG(f), _itself, draws=4, tolerance=1.0),
    "expected_gradients": lambda f: igjax.expected_gradients(f, _itself, draws=16),
    "expected_integrated_gradients": lambda f: igjax.expected_integrated_gradients(
        f, _itself, draws=4
    ),
    "grouped": lambda f: jax.jit(
        lambda *ends: igjax.grouped(f, 2, rule=GAUSS)(
            *ends, jax.tree.map(lambda a: np.int8(1), ends[0])
        )
    ),
    "layer": lambda f: igjax.layer_integrated_gradients(f, "z", rule=GAUSS),
    "layers": lambda f: igjax.layer_conductance(f, ["y", "z"], rule=GAUSS),
    "layer, adaptive": lambda f: igjax.layer_conductance(f, "z", rule=ADAPTIVE),
    "baselines.compare": _compared,
    "blur": partial(IG, path=paths.blur(2.0, (0,))),
}
_KEYED = {"shapley", "smooth", "expected", "expected_gradients"}
_KEYED.add("expected_integrated_gradients")
_REAL = {"guided", "hessians", "layer", "layers", "layer, adaptive"}
_REAL |= {"relevance", "deeplift"}


def _itself(key, baseline):
    del key
    return baseline


for kind, (f, _) in KINDS.items():
    for name, method in _OF_KINDS.items():
        if kind != "complex" or name not in _REAL:
            key = ["key"] * (name in _KEYED)
            _add(f"{kind}: {name}", partial(method, f), *key, kind, f"{kind} zero")


# What came out.


def troubles(result, name: str) -> list[str]:
    """What is wrong with a result: it ought to say that nothing is.

    But that the rounding of half precision may be in the way.
    """
    fine = [igjax.Status.TOLERANCE_MET, igjax.Status.NO_TOLERANCE]
    fine += [igjax.Status.ROUNDING] * name.startswith("narrow")
    is_result = lambda a: isinstance(a, igjax.Attribution)
    found = []
    for part in jax.tree.leaves(result, is_leaf=is_result):
        values = part.values if is_result(part) else part
        found += [f"{a}" for a in jax.tree.leaves(values) if not _finite(a)]
        if is_result(part) and not np.isin(np.asarray(part.status), fine).all():
            found.append(f"status {part.status}")
    return found


def _finite(a) -> bool:
    return not hasattr(a, "dtype") or not np.isnan(np.asarray(a, float)).any()


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_disable_most_optimizations", True)
    given = arguments()
    names = sys.argv[1:] or CASES
    wrong = {name: troubles(CASES[name]()(given), name) for name in names}
    sys.exit("\n".join(f"{n}: {found}" for n, found in wrong.items() if found) or None)
