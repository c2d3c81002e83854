"""Are the metrics those of Captum and Quantus where these are right, and how fast are they?

A network on 32 digits, the same weights in JAX and torch. Infidelity with Captum on the
same perturbations, with and without its scale; the deletion curve with Quantus'
PixelFlipping on the same order; and sensitivity-n of a linear model with exact
attributions, which is 1 by definition, and whatever else Quantus says of it; the largest
change of gradients with Captum, complexity and sparseness with Quantus. Seconds, warm:
of igjax for 20 curves (4 ways to break ties, 16 random orders) and for the fewest, 6; of
Quantus for the one. Sensitivity-n is Quantus' FaithfulnessCorrelation, on as many subsets.

How often the reported errors cover: `bench_coverage.py --metrics`.
"""

import time
import warnings

import jax
import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

import igjax

COUNT, DRAWS, STEPS = 32, 256, 16


def network():
    """Weights, images of 32 digits and their labels."""
    data = load_digits()
    xs = (data.data / 16).astype("f4")
    model = MLPClassifier(hidden_layer_sizes=(64,), max_iter=300, random_state=0)
    model.fit(xs, data.target)
    pairs = zip(model.coefs_, model.intercepts_, strict=True)
    weights = [(w.astype("f4"), b.astype("f4")) for w, b in pairs]
    return weights, xs[:COUNT], data.target[:COUNT]


def f(x, label, weights):
    """The logit of a label."""
    (w, b), (v, c) = weights
    return (jax.nn.relu(x @ w + b) @ v + c)[label]


def in_torch(weights):
    """The same network in torch."""
    import torch

    layers = []
    for w, b in weights:
        layer = torch.nn.Linear(*w.shape)
        layer.weight.data, layer.bias.data = torch.tensor(w.T), torch.tensor(b)
        layers += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(torch.nn.Flatten(), *layers[:-1]).eval()


def seconds(run):
    """The best of three, after one to warm up."""
    run()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
    return min(times)


def values_of(weights, xs, labels):
    """Gradient times input, of all digits."""
    return np.array(jax.vmap(jax.grad(f), (0, 0, None))(xs, labels, weights)) * xs


def infidelity(weights, xs, labels):
    """Against Captum, on the same perturbations."""
    noise = lambda key, x: 0.2 * jax.random.normal(key, x.shape)
    slopes = np.array(jax.vmap(jax.grad(f), (0, 0, None))(xs, labels, weights))
    key = jax.random.key(0)
    draws = [noise(jax.random.fold_in(key, k), xs[0]) for k in range(DRAWS)]
    ours = {}
    for scaled in (False, True):
        measure = igjax.metrics.infidelity(f, noise, draws=DRAWS, scaled=scaled)
        run = jax.jit(jax.vmap(measure, (None, 0, 0, 0, None)))
        ours[scaled] = run(key, slopes, xs, labels, weights)
        time_of = seconds(lambda run=run: run(key, slopes, xs, labels, weights).value)
    share = np.asarray(ours[True].share)
    print(f"infidelity: igjax {time_of:.3f} s; scaled share {share.mean():.3f}")
    try:
        import torch
        from captum.metrics import infidelity as theirs
    except ImportError:
        print("    captum is not installed")
        return
    model, x, a = in_torch(weights), torch.tensor(xs), torch.tensor(slopes)
    changes = torch.tensor(np.tile(np.stack(draws), (COUNT, 1)))
    perturb = lambda inputs: (changes, inputs - changes)
    target = torch.tensor(labels)
    for scaled, found in ours.items():
        run = lambda scaled=scaled: (
            theirs(
                model,
                perturb,
                x,
                a,
                target=target,
                n_perturb_samples=DRAWS,
                normalize=scaled,
            )
            .detach()
            .numpy()
        )
        apart = np.abs(run() / found.value - 1).max()
        print(f"    captum, scaled {scaled}: {seconds(run):.3f} s, apart {apart:.1e}")


def deletion(weights, xs, labels):
    """Against Quantus' PixelFlipping."""
    values = values_of(weights, xs, labels)
    values = values + 1e-6 * np.random.default_rng(0).normal(size=xs.shape).astype("f4")
    keys = jax.random.split(jax.random.key(0), COUNT)
    times = {}
    for curves, (ties, orders) in {20: (4, 16), 6: (2, 4)}.items():
        measure = igjax.metrics.deletion(f, steps=STEPS, ties=ties, orders=orders)
        run = jax.jit(jax.vmap(measure, (0, 0, 0, None, 0, None)))
        call = lambda run=run: run(keys, values, xs, 0.0, labels, weights)
        curve, times[curves] = call(), seconds(lambda call=call: call().value)
        print(f"deletion: igjax {times[curves]:.4f} s for {curves} curves")
    try:
        import quantus
    except ImportError:
        print("    quantus is not installed")
        return
    metric = quantus.PixelFlipping(
        features_in_step=64 // STEPS,
        abs=False,
        normalise=False,
        perturb_baseline=0.0,
        disable_warnings=True,
    )
    shape = (COUNT, 1, 8, 8)
    given = {
        "x_batch": xs.reshape(shape),
        "y_batch": labels,
        "a_batch": values.reshape(shape),
    }
    run = lambda: metric(
        model=in_torch(weights), channel_first=True, softmax=False, **given
    )
    found = np.array(run())
    apart = np.abs(found - np.asarray(curve.scores)[:, 1:]).max()
    theirs = seconds(run)
    ratios = ", ".join(f"{theirs / time_of:.1f} x" for time_of in times.values())
    print(f"    quantus {theirs:.4f} s for one curve ({ratios}), apart {apart:.1e}")


def changes(weights, xs, labels):
    """The largest change of a gradient, against Captum's sensitivity_max on the same."""
    attribute, radius = igjax.gradient(f), 0.05
    measure = igjax.metrics.max_sensitivity(attribute, radius, draws=10)
    key = jax.random.key(0)
    run = jax.jit(jax.vmap(measure, (None, 0, None, 0, None)))
    ours = run(key, xs, None, labels, weights).value
    try:
        import torch
        from captum.attr import Saliency
        from captum.metrics import sensitivity_max
    except ImportError:
        print("max-sensitivity: captum is not installed")
        return
    uniform = lambda k: jax.random.uniform(
        jax.random.fold_in(key, k), (64,), minval=-radius, maxval=radius
    )
    moves = torch.tensor(np.tile(np.stack([uniform(k) for k in range(10)]), (COUNT, 1)))
    explain = lambda inputs, **options: Saliency(in_torch(weights)).attribute(
        inputs, abs=False, **options
    )
    found = sensitivity_max(
        explain,
        torch.tensor(xs),
        perturb_func=lambda inputs, *_: inputs + moves,
        n_perturb_samples=10,
        target=torch.tensor(labels),
    )
    apart = np.abs(found.numpy() - np.asarray(ours)).max() / np.asarray(ours).max()
    print(f"max-sensitivity: captum apart {apart:.1e}")


def shapes(weights, xs, labels):
    """Complexity and sparseness of values, against Quantus."""
    values = values_of(weights, xs, labels)
    try:
        import quantus
    except ImportError:
        print("complexity, sparseness: quantus is not installed")
        return
    given = {"model": None, "x_batch": xs, "y_batch": labels}
    for name, measure in (
        ("Complexity", igjax.metrics.complexity),
        ("Sparseness", igjax.metrics.sparseness),
    ):
        ours = np.asarray(jax.vmap(measure)(values))
        make = getattr(quantus, name)
        plain = make(abs=True, normalise=False, disable_warnings=True)
        found = np.array(plain(a_batch=np.abs(values), **given))
        signed = make(abs=False, normalise=False, disable_warnings=True)
        try:
            told = np.array(signed(a_batch=values.copy(), **given))
            told = f"{np.nanmin(told):.2f} to {np.nanmax(told):.2f}"
        except Exception as problem:  # a peer's failure is a result
            told = type(problem).__name__
        apart = np.abs(found / ours - 1).max()
        print(f"{name}: quantus apart {apart:.1e}; with abs=False it gives {told}")


def sensitivity(xs):
    """Of a linear model with exact attributions, and what else Quantus says of it."""
    w = np.random.default_rng(1).normal(size=64).astype("f4")
    exact = igjax.input_x_gradient(lambda x: x @ w)
    measure = igjax.metrics.sensitivity_n(lambda x: x @ w, 16, subsets=100)
    run = jax.jit(jax.vmap(measure, (0, 0, 0, None)))
    keys = jax.random.split(jax.random.key(0), COUNT)
    call = lambda: run(keys, xs * w, xs, 0.0).value
    print(
        f"sensitivity-16 of a linear model: igjax {np.asarray(call()).mean():.6f}, "
        f"{seconds(call):.4f} s for 100 subsets"
    )
    gaps = jax.vmap(lambda x: exact(x, 0.0))(xs)
    share = np.asarray(jax.vmap(igjax.metrics.completeness)(gaps).share).max()
    print(f"    the largest share that is missing {share:.1e}")
    try:
        import quantus
        import torch
    except ImportError:
        print("    quantus is not installed")
        return
    layer = torch.nn.Linear(64, 1, bias=False)
    layer.weight.data = torch.tensor(w[None])
    model = torch.nn.Sequential(torch.nn.Flatten(), layer).eval()
    shape = (COUNT, 1, 8, 8)
    given = {
        "model": model,
        "x_batch": xs.reshape(shape),
        "y_batch": np.zeros(COUNT, int),
        "a_batch": (xs * w).reshape(shape),
        "channel_first": True,
        "softmax": False,
    }
    common = {"normalise": False, "disable_warnings": True}
    signed = {"abs": False, "return_aggregate": False, **common}
    metric = quantus.SensitivityN(features_in_step=4, perturb_baseline=0.0, **signed)
    found = np.nanmean(metric(**given))
    print(f"    quantus SensitivityN {found:.3f}: must be 1")
    for baseline in (0.0, "black"):
        metric = quantus.FaithfulnessCorrelation(
            subset_size=16, perturb_baseline=baseline, **signed
        )
        found = np.mean(metric(**given))
        took = seconds(lambda metric=metric: metric(**given))
        print(
            f"    quantus FaithfulnessCorrelation, baseline {baseline}: {found:.4f}, "
            f"{took:.3f} s for 100 subsets"
        )
    metric = quantus.Completeness(perturb_baseline=0.0, **common)
    print(f"    quantus Completeness: {np.mean(metric(**given)):.2f} are true; must be 1")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(jax.devices()[0].device_kind, "jax", jax.__version__)
    data = network()
    infidelity(*data)
    deletion(*data)
    changes(*data)
    shapes(*data)
    sensitivity(np.random.default_rng(0).normal(size=(COUNT, 64)).astype("f4"))
