"""How many gradients do Expected Gradients take at equal error?

A random network with three hidden layers, 64 inputs and 64 baselines: smooth (GELU) and
kinked (ReLU). Expected Gradients are computed with the same number of gradients by
independent draws of baseline and place, as SHAP's GradientExplainer does (by SHAP itself
too, where it is installed); by stratified draws; and by a Gauss rule for each baseline.

The error is the root mean square over features and keys, in proportion to the root mean
square of the exact values; `claimed` is the same of the errors that the method reports
(95% half-widths, and estimates of the rule). `fewer` says how many times as many
independent draws would be needed for the same error, by their law of the inverse root.
`covered` is the share of values within their error of the exact ones.
"""

import argparse
import functools
import itertools

import jax
import numpy as np

import igjax

WIDTHS = (64, 128, 128, 128, 1)
ROWS = 64
COUNTS = (64, 256, 512, 1024, 4096)
KEYS = 20


def network(activation, seed=0):
    """Returns f(x, weights), and random weights that keep the scale of what passes."""
    rng = np.random.default_rng(seed)
    shapes = itertools.pairwise(WIDTHS)
    draw = lambda *shape: rng.normal(size=shape).astype("float32")
    weights = [(draw(n, m) * np.sqrt(2 / n), 0.3 * draw(m)) for n, m in shapes]
    weights = jax.tree.map(np.float32, weights)

    def f(x, weights):
        for kernel, bias in weights[:-1]:
            x = activation(x @ kernel + bias)
        kernel, bias = weights[-1]
        return (x @ kernel + bias)[0]

    return f, weights


def independent(f, draws, key, x, rows, weights):
    """Baseline and place drawn independently for every gradient."""
    key_of_rows, key_of_places = jax.random.split(key)
    b = rows[jax.random.randint(key_of_rows, (draws,), 0, len(rows))]
    t = jax.random.uniform(key_of_places, (draws, 1))
    terms = (x - b) * jax.vmap(jax.grad(f), (0, None))(b + t * (x - b), weights)
    half_width = 1.96 * terms.std(0, ddof=1) / np.sqrt(draws)
    return terms.mean(0), half_width


def drawn(explain, key, x, rows, weights):
    """Values and errors of an attribution of igjax."""
    result = explain(key, x, rows, weights)
    return result.values, result.error


def shap_values(activation, weights, x, rows, draws):
    """The values of SHAP's GradientExplainer, one row for each seed; None without it."""
    try:
        import shap
        import torch
    except ImportError:
        return None
    layers = []
    for kernel, bias in weights:
        layer = torch.nn.Linear(*kernel.shape)
        layer.weight.data, layer.bias.data = torch.tensor(kernel.T), torch.tensor(bias)
        layers += [layer, activation]
    model = torch.nn.Sequential(*layers[:-1])
    explainer = shap.GradientExplainer(model, torch.tensor(rows))
    point = torch.tensor(x[None])
    runs = [
        np.ravel(explainer.shap_values(point, nsamples=draws, rseed=seed))
        for seed in range(KEYS)
    ]
    return np.stack(runs)


def report(name, draws, values, error, exact, reference):
    """Prints a line; `reference` is the relative error of independent draws, or None."""
    scale = np.sqrt(np.mean(exact**2))
    relative = np.sqrt(np.mean((values - exact) ** 2)) / scale
    claimed = covered = ""
    if error is not None:
        claimed = f"{np.sqrt(np.mean(error**2)) / scale:.2e}"
        covered = f"{np.mean(np.abs(values - exact) <= error):.1%}"
    fewer = "" if reference is None else f"{(reference / relative) ** 2:12.3g}"
    print(
        f"  {name:<28}{draws:>7}{relative:12.2e}{claimed:>12}{covered:>10}{fewer}",
        flush=True,
    )
    return relative


def study(name, activation, twin, with_shap):
    """The table of one network."""
    f, weights = network(activation)
    rng = np.random.default_rng(1)
    x = rng.normal(size=WIDTHS[0]).astype("float32")
    rows = rng.normal(size=(ROWS, WIDTHS[0])).astype("float32")
    keys = jax.random.split(jax.random.key(0), KEYS)
    wide = jax.tree.map(np.float64, (x, rows, weights))
    with jax.enable_x64(True):
        rule = igjax.rules.composite(igjax.rules.gauss_legendre(16), 64)
        fine = igjax.expected(igjax.integrated_gradients(f, rule=rule))
        exact = np.asarray(fine(jax.random.key(0), *wide).values)

    print(f"\n{name}, {ROWS} baselines, {KEYS} keys")
    print(f"  {'':<28}{'draws':>7}{'error':>12}{'claimed':>12}{'covered':>10}{'fewer':>12}")
    for draws in COUNTS:
        line = functools.partial(report, draws=draws, exact=exact)
        over_keys = lambda one: jax.jit(jax.vmap(one, (0, None, None, None)))
        many = over_keys(functools.partial(independent, f, draws))
        values, error = map(np.asarray, many(keys, x, rows, weights))
        reference = line("independent", values=values, error=error, reference=None)
        if with_shap and draws <= 1024:
            values = shap_values(twin(), weights, x, rows, draws)
            if values is not None:
                line(
                    "shap.GradientExplainer", values=values, error=None, reference=reference
                )
        explain = igjax.expected_gradients(f, draws=draws)
        many = over_keys(functools.partial(drawn, explain))
        values, error = map(np.asarray, many(keys, x, rows, weights))
        line("expected_gradients", values=values, error=error, reference=reference)
        nodes = draws // ROWS
        rule = igjax.rules.gauss_legendre(nodes)
        explain = igjax.expected_integrated_gradients(f, rule=rule)
        values, error = map(np.asarray, drawn(explain, keys[0], x, rows, weights))
        gauss = f"Gauss {nodes} per baseline"
        line(gauss, values=values[None], error=error[None], reference=reference)


def main():
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shap", action="store_true", help="run SHAP too (slow)")
    with_shap = parser.parse_args().shap

    def gelu():
        import torch

        return torch.nn.GELU()

    def relu():
        import torch

        return torch.nn.ReLU()

    exact_gelu = functools.partial(jax.nn.gelu, approximate=False)
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}")
    study("smooth (GELU)", exact_gelu, gelu, with_shap)
    study("kinked (ReLU)", jax.nn.relu, relu, with_shap)


if __name__ == "__main__":
    main()
