"""Method by method: does igjax give what the peer gives, and is it at least as fast?

The same weights, inputs and numbers of gradients for both, in one process: Captum for
torch modules, PAIR saliency and SHAP as they are called, igjax compiled; repetitions
interleaved, and the ratio is the median of those within a repetition. `theirs` and `ours`
are digits that agree with the exact values (a float64 integral over very many nodes, or
very many draws), `agree` those in which the two agree with each other. Where a method is
random the digits are those of its noise; where there are no exact values, a blur ends
in different images or a walk depends on its gradients, they are those of completeness.

Integrated Hessians are compared with path_explain's algorithm (its package needs an old
TensorFlow), compiled in JAX: a grid of n x n points with both ends and equal weights, a
Hessian of Hessian-vector products at each. For each n igjax takes the least number of
nodes that is as accurate.

A second table holds the known defects of the peers, with the closed forms that show them.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import itertools
import os
import statistics
import sys
import warnings
from collections.abc import Callable
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from _defects import DEFECTS
from _models import LABEL, make
from bench_fixed_rules import device, digits, pin, timed

import igjax

NODES = 50
DRAWS = 64
GRADIENTS = 256
SCALE = 0.15
EXPLAINED = 8  # inputs of the random methods
IMAGES = 4
GAUSS = igjax.rules.gauss_legendre(NODES)
FINE = igjax.rules.composite(igjax.rules.gauss_legendre(8), 128)
HESSIAN_BAR = 10.0
POINTS = 8  # for Hessians: one takes less than a millisecond


class Row(NamedTuple):
    """A method twice: functions that return its values, and what they should return."""

    method: str
    peer: str
    package: str
    ours: Callable[[], np.ndarray]
    theirs: Callable[[], Callable[[], np.ndarray]]  # made only if it is installed
    quality: Callable  # (theirs, ours) -> digits of theirs, digits of ours


def against(exact: Callable[[], np.ndarray]):
    """Digits in which values agree with exact ones."""

    def quality(theirs, ours):
        values = exact()
        return digits(theirs, values), digits(ours, values)

    return quality


def compiled(function, *args, read=lambda result: result.values):
    """A call of the compiled function that returns NumPy values."""
    args = jax.device_put(args)
    run = jax.jit(function).lower(*args).compile()
    return lambda: np.asarray(read(jax.block_until_ready(run(*args))))


def as_values(result):
    """The values of an attribution, or values as they are."""
    return result.values if isinstance(result, igjax.Attribution) else result


def gray(case):
    """The baseline: a network without biases is homogeneous from 0, and any rule exact."""
    return np.full_like(case.inputs[0], case.inputs.mean())


def over_inputs(explain, case, count=None, read=lambda result: result.values):
    """`explain(x, baseline, label, params)` of the first inputs of a case."""
    xs, baseline = case.inputs[:count], gray(case)
    mapped = jax.vmap(explain, (0, None, None, None))
    return compiled(mapped, xs, baseline, LABEL, case.params, read=read)


def in_float64(explain, case, count=None, read=lambda result: result.values):
    """The same in float64, one input after the other."""
    xs = case.inputs[:count]

    def run():
        with jax.enable_x64(True):
            wide = lambda tree: jax.tree.map(lambda a: jnp.asarray(a, "float64"), tree)
            one = jax.jit(lambda x, b, p: read(explain(x, b, LABEL, p)))
            b, params = wide((gray(case), case.params))
            return np.stack([np.asarray(one(wide(x), b, params)) for x in xs])

    return run


def keyed(explain):
    """A method that draws, with its key bound."""
    return functools.partial(explain, jax.random.key(0))


def captum(case, make_method, count=None, chunks=True, **options):
    """Captum's values, by the faster one of two sizes of batches."""

    def ready():
        import torch

        model = case.make_torch()
        method = make_method(model)
        inputs = torch.tensor(case.to_torch(case.inputs[:count]))
        sizes = ({}, {"internal_batch_size": 10 * len(inputs)}) if chunks else ({},)

        def run(size):
            values = method.attribute(inputs, target=LABEL, **options, **size)
            return case.from_torch(values.detach().numpy())

        runs = [functools.partial(run, size) for size in sizes]
        for one in runs:
            one()
        return min(runs, key=timed)

    return ready


def integrals():
    """The rows of path integrals, on the inputs of a network of dense layers."""
    case = make("mlp")
    places = {"Dense_0": 0, "Dense_1": 2}
    start = float(case.inputs.mean())

    def row(name, peer, ours, make_method, explain_options=None, **options):
        build = functools.partial(ours, case.f, **(explain_options or {}))
        return Row(
            *(name, f"Captum {peer}", "captum"),
            over_inputs(build(rule=GAUSS), case),
            captum(case, make_method, n_steps=NODES, baselines=start, **options),
            against(in_float64(build(rule=FINE), case)),
        )

    def late(name, *layer):
        def make_method(model):
            from captum import attr

            return getattr(attr, name)(model, *(model[places[key]] for key in layer))

        return make_method

    yield row(
        *("integrated gradients", "IntegratedGradients", igjax.integrated_gradients),
        late("IntegratedGradients"),
    )
    for method, peer, ours in (
        ("layer IG", "LayerIntegratedGradients", igjax.layer_integrated_gradients),
        ("layer conductance", "LayerConductance", igjax.layer_conductance),
        ("internal influence", "InternalInfluence", igjax.internal_influence),
    ):
        yield row(method, peer, ours, late(peer, "Dense_1"), {"layer": "Dense_1"})
    for rule in ("riemann_trapezoid", "gausslegendre"):
        yield row(
            *("neuron conductance", f"NeuronConductance, {rule}"),
            *(igjax.neuron_conductance, late("NeuronConductance", "Dense_1")),
            *({"layer": "Dense_1", "neuron": 7},),
            **{"neuron_selector": 7, "method": rule},
        )
    product = igjax.input_x_gradient(case.f)
    explain = lambda x, _, *args: product(x, 0.0 * x, *args)
    yield Row(
        *("gradient x input", "Captum InputXGradient", "captum"),
        over_inputs(explain, case),
        captum(case, late("InputXGradient"), chunks=False),
        against(in_float64(explain, case)),
    )


def smoothed():
    """The rows of gradients under noise."""
    case = make("mlp")

    def tunnel(model):
        from captum.attr import NoiseTunnel, Saliency

        return NoiseTunnel(Saliency(model))

    for method, kind, ours in (
        ("SmoothGrad", "smoothgrad", igjax.smooth),
        ("VarGrad", "vargrad", igjax.smooth_variance),
    ):
        noisy = functools.partial(ours, igjax.gradient(case.f), scale=SCALE, relative=False)
        many = functools.partial(noisy(draws=128 * DRAWS), jax.random.key(1))
        yield Row(
            *(method, f"Captum NoiseTunnel {kind}", "captum"),
            over_inputs(keyed(noisy(draws=DRAWS)), case, EXPLAINED),
            captum(
                *(case, tunnel, EXPLAINED, False),
                **{"nt_type": kind, "nt_samples": DRAWS, "stdevs": SCALE, "abs": False},
            ),
            against(over_inputs(many, case, EXPLAINED)),
        )


def expectations():
    """The rows of Expected Gradients: 64 rows of baselines, as many gradients for all."""
    case = make("mlp")
    xs = case.inputs[:EXPLAINED]
    rows = np.abs(np.random.default_rng(1).normal(size=case.inputs.shape)).astype("float32")

    def drawn(explain, xs, rows, params):
        one = lambda x: keyed(explain)(x, rows, LABEL, params)
        return jax.vmap(one)(xs)

    explain = igjax.expected_gradients(case.f, draws=GRADIENTS)
    rule = igjax.rules.composite(igjax.rules.gauss_legendre(2), 2)
    ruled = igjax.expected_integrated_gradients(case.f, rule=rule)
    exactly = igjax.expected_integrated_gradients(
        case.f, rule=igjax.rules.composite(igjax.rules.gauss_legendre(4), 8)
    )
    of = lambda explain: compiled(functools.partial(drawn, explain), xs, rows, case.params)

    def shap_values():
        import shap
        import torch

        class One(torch.nn.Module):
            """SHAP takes no target, and no scores without an axis of outputs."""

            def __init__(self):
                super().__init__()
                self.model = case.make_torch()

            def forward(self, x):
                return self.model(x)[:, LABEL : LABEL + 1]

        explainer = shap.GradientExplainer(One(), torch.tensor(rows), batch_size=GRADIENTS)
        point = torch.tensor(xs)
        return lambda: explainer.shap_values(point, nsamples=GRADIENTS, rseed=0)[..., 0]

    def gradient_shap():
        import torch
        from captum.attr import GradientShap

        method, point = GradientShap(case.make_torch()), torch.tensor(xs)
        options = {"n_samples": GRADIENTS, "stdevs": 0.0, "target": LABEL}

        def run():
            values = method.attribute(point, baselines=torch.tensor(rows), **options)
            return values.detach().numpy()

        return run

    for name, ours in (("drawn", explain), ("4 nodes a baseline", ruled)):
        yield Row(
            *(f"Expected Gradients, {name}", "SHAP GradientExplainer", "shap"),
            *(of(ours), shap_values, against(of(exactly))),
        )
    yield Row(
        *("Expected Gradients, drawn", "Captum GradientShap", "captum"),
        *(of(explain), gradient_shap, against(of(exactly))),
    )


def images():
    """The rows of images: Grad-CAM, and PAIR's blur and guided walk."""
    case = make("cnn")
    look = igjax.grad_cam(case.f, "Conv_2")
    at_x = lambda x, zero, *args: look(x, *args)

    def cam():
        import torch
        from captum.attr import LayerGradCam

        model = case.make_torch()
        method = LayerGradCam(model, model[5])
        inputs = torch.tensor(case.to_torch(case.inputs))

        def run():
            maps = method.attribute(inputs, target=LABEL, relu_attributions=True)
            return maps.detach().numpy()[:, 0]

        return run

    yield Row(
        *("Grad-CAM", "Captum LayerGradCam", "captum"),
        *(over_inputs(at_x, case, read=as_values), cam),
        against(in_float64(at_x, case, read=as_values)),
    )
    params = jax.device_put(case.params)
    gradient = jax.jit(jax.vmap(lambda x, p: jax.grad(case.f)(x, LABEL, p), (0, None)))
    score = lambda x: float(case.f(jnp.asarray(x, "float32"), LABEL, params))

    def call(x, call_model_args=None, expected_keys=None):
        from saliency.core import INPUT_OUTPUT_GRADIENTS

        return {INPUT_OUTPUT_GRADIENTS: np.asarray(gradient(x.astype("float32"), params))}

    def completeness(start, explain):
        """Digits of sums of values; theirs start from `start(x)`."""

        def quality(theirs, ours):
            ends = lambda result: result.score - result.baseline_score
            mine = over_inputs(explain, case, IMAGES, read=ends)()
            xs = case.inputs[:IMAGES]
            other = np.array([score(x) - score(start(x)) for x in xs])
            sums = (values.reshape(IMAGES, -1).sum(1) for values in (theirs, ours))
            pairs = zip(sums, (other, mine), strict=True)
            return [digits(total / change, np.ones(IMAGES)) for total, change in pairs]

        return quality

    def blur():
        from saliency.core import BlurIG

        mask, options = BlurIG().GetMask, {"steps": NODES, "batch_size": NODES}
        return lambda: np.stack([mask(x, call, **options) for x in case.inputs[:IMAGES]])

    def blurred(x):
        from saliency.core.blur_ig import gaussian_blur

        return gaussian_blur(x, 50)

    explain = igjax.integrated_gradients(case.f, rule=GAUSS, path=igjax.paths.blur(50.0))
    yield Row(
        *("Blur IG", "PAIR BlurIG", "saliency"),
        *(over_inputs(explain, case, IMAGES), blur),
        completeness(blurred, explain),
    )

    def guided():
        from saliency.core import GuidedIG

        quantile = np.quantile
        # It stops at an argument that NumPy 2 has renamed.
        renamed = lambda a, q, interpolation: quantile(a, q, method=interpolation)
        options = {"call_model_function": call, "x_baseline": gray(case)}
        mask = functools.partial(GuidedIG().GetMask, **options)

        def run():
            with mock.patch("numpy.quantile", renamed):
                return np.stack([mask(x) for x in case.inputs[:IMAGES]])

        return run

    walk = igjax.guided_integrated_gradients(case.f)
    yield Row(
        *("Guided IG, 200 steps", "PAIR GuidedIG, patched", "saliency"),
        *(over_inputs(walk, case, IMAGES), guided),
        completeness(lambda _: gray(case), walk),
    )


def keep_freed_memory() -> None:
    """Restart with an allocator that keeps what is freed, as any busy process has.

    Else half the time of a call of 5 ms is that of pages which come and go.
    """
    kept = {"MALLOC_MMAP_THRESHOLD_": "1000000000", "MALLOC_TRIM_THRESHOLD_": "1000000000"}
    if not kept.items() <= os.environ.items():
        os.environ.update(kept)
        os.execv(sys.executable, [sys.executable, *sys.argv])


def races(ours, theirs, repeats: int):
    """Median seconds of ours, and the median of theirs over ours."""
    for run in (ours, theirs):
        run()
    pairs = [(timed(ours), timed(theirs)) for _ in range(repeats)]
    ratio = statistics.median(b / a for a, b in pairs)
    return statistics.median(a for a, _ in pairs), ratio


def compare(row: Row, repeats: int) -> None:
    """Print a row, with the bar: no slower."""
    label = f"  {row.method:<38}{row.peer:<40}"
    if importlib.util.find_spec(row.package) is None:
        print(f"{label} not installed")
        return
    theirs = row.theirs()
    mine, other = row.ours(), theirs()
    quality = row.quality(other, mine)
    seconds, ratio = races(row.ours, theirs, repeats)
    verdict = "pass" if ratio >= 1 else f"MISS: {1 / ratio:.2f} x as slow"
    print(
        f"{label}{quality[0]:7.1f}{quality[1]:7.1f}{digits(mine, other):7.1f}"
        f"{1e3 * seconds:10.2f}{ratio:10.2f}  {verdict}",
        flush=True,
    )


def network(features: int = 64):
    """A smooth network, f(x, weights), its weights, points and baselines, in float32."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype("float32")
    widths = (features, 128, 128, 1)
    weights = [
        (draw(n, m) * np.float32(np.sqrt(2 / n)), 0.3 * draw(m))
        for n, m in itertools.pairwise(widths)
    ]

    def f(x, weights):
        for kernel, bias in weights[:-1]:
            x = jax.nn.gelu(x @ kernel + bias)
        kernel, bias = weights[-1]
        return (x @ kernel + bias)[0]

    return f, weights, draw(POINTS, features), draw(POINTS, features)


def on_a_grid(f, nodes, weights, chunk: int = 16):
    """Integrated Hessians by products of nodes: path_explain's algorithm."""

    def explain(x, baseline, *args):
        change = x - baseline
        slope = jax.grad(f)
        rows = jnp.eye(len(x), dtype=x.dtype)

        def add(total, places):
            a, b, weight = places

            def at(s):
                product = lambda v: jax.jvp(
                    lambda z: slope(z, *args), (baseline + s * change,), (v,)
                )
                gradients, hessian = jax.vmap(product)(rows)
                return s * change[:, None] * hessian * change + jnp.diag(
                    change * gradients[0]
                )

            return total + jnp.tensordot(weight, jax.vmap(at)(a * b), 1), None

        grid = np.meshgrid(nodes, nodes, indexing="ij")
        table = [*grid, np.outer(weights, weights)]
        fill = -(len(nodes) ** 2) % chunk
        table = [np.pad(np.ravel(a), (0, fill)).reshape(-1, chunk) for a in table]
        table = [jnp.asarray(a, x.dtype) for a in table]
        zero = jnp.zeros((len(x), len(x)), x.dtype)
        return jax.lax.scan(add, zero, tuple(table))[0]

    return explain


def linspace(n: int):
    """Equal weights on n points from 0 to 1."""
    return np.linspace(0, 1, n), np.full(n, 1 / n)


def gauss(n: int):
    """Gauss nodes and weights on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return (nodes + 1) / 2, weights / 2


def hessians(repeats: int) -> None:
    """Print the race of integrated Hessians at equal error, on 64 features."""
    f, weights, xs, baselines = network()

    def over_points(explain):
        mapped = jax.vmap(explain, (0, 0, None))
        return compiled(mapped, xs, baselines, weights, read=as_values)

    with jax.enable_x64(True):
        args = jax.tree.map(lambda a: jnp.asarray(a, "float64"), (xs, baselines, weights))
        one = jax.jit(on_a_grid(f, *gauss(24)))
        exact = np.stack(
            [np.asarray(one(x, b, args[2])) for x, b in zip(*args[:2], strict=True)]
        )
    error_of = lambda values: np.abs(values - exact).max() / np.abs(exact).max()
    ours, known = {}, {}
    for nodes in (1, 2, 3, 4, 5, 6, 8, 10, 12):
        ours[nodes] = over_points(igjax.integrated_hessians(f, nodes=nodes))
        known[nodes] = error_of(ours[nodes]())
    print(f"\nintegrated Hessians, {len(xs)} points of 64 features, at equal error")
    print("(path_explain takes a grid of 10 x 10 by itself)")
    print(f"  {'grid':<24}{'error':>10}{'nodes':>7}{'error':>10}{'ms':>9}{'ratio':>9}")
    for name, rule, n in (
        *(("equal weights", linspace, n) for n in (5, 10, 20, 40)),
        ("Gauss (nobody's)", gauss, 4),
    ):
        candidates = [over_points(on_a_grid(f, *rule(n), chunk)) for chunk in (1, 4, 16)]
        error = error_of(candidates[0]())
        for candidate in candidates:
            candidate()
        theirs = min(candidates, key=timed)
        nodes = next((k for k, e in known.items() if e <= error), max(known))
        seconds, ratio = races(ours[nodes], theirs, repeats)
        verdict = "pass" if ratio >= HESSIAN_BAR else f"MISS: bar {HESSIAN_BAR:g}"
        print(
            f"  {f'{n} x {n}, {name}':<24}{error:10.1e}{nodes:7d}{known[nodes]:10.1e}"
            f"{1e3 * seconds:9.2f}{ratio:9.1f}  {verdict if rule is linspace else ''}",
            flush=True,
        )


def defects() -> None:
    """Print what the peers give where a closed form is known."""
    print("\nknown defects")
    print(
        f"  {'peer':<28}{'case':<46}{'exact':>8}{'igjax':>12}{'peer':>12}"
        f"{'by its formula':>16}"
    )
    for defect, package in DEFECTS.items():
        if importlib.util.find_spec(package) is None:
            print(f"  {defect.__name__}: {package} is not installed")
            continue
        row = defect()
        theirs = row.theirs if isinstance(row.theirs, str) else f"{row.theirs:.6g}"
        predicted = "" if row.predicted is None else f"{row.predicted:.6g}"
        print(
            f"  {row.peer:<28}{row.what:<46}{row.exact:8.6g}{row.ours:12.6g}"
            f"{theirs:>12}{predicted:>16}"
        )


SUITES = {
    "integrals": integrals,
    "smoothed": smoothed,
    "expectations": expectations,
    "images": images,
}


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suites", nargs="+", choices=SUITES, default=list(SUITES))
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--cores", type=int, default=0, help="pin to so many cores")
    args = parser.parse_args()
    keep_freed_memory()
    pin(args.cores)
    warnings.simplefilter("ignore")
    print(f"{device()}, jax {jax.__version__} on {jax.default_backend()}")
    print(
        f"  {'method':<38}{'peer':<40}{'theirs':>7}{'ours':>7}{'agree':>7}"
        f"{'igjax ms':>10}{'peer / us':>10}"
    )
    for suite in args.suites:
        for row in SUITES[suite]():
            compare(row, args.repeats)
    hessians(args.repeats)
    defects()


if __name__ == "__main__":
    main()
