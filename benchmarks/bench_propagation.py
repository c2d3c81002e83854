"""DeepLIFT, LRP and guided gradients beside Captum, SHAP and zennit, on equal weights.

Each model stands here twice, as a torch module and as a JAX function with the same weights,
in float64. For each method and peer: `digits` of agreement, that is -log10 of the largest
difference in units of the largest value; `gap`, by how much the values of either miss the
change of the score (for LRP, the score), in units of the sum of their absolute values; and
milliseconds for a batch of 32 after the first call, igjax by `jit(vmap)`. Where digits are
few, the gap says who is wrong, if the method promises completeness; LRP's does not. The
summary names the rows of fewer than ten digits and those where the peer is faster.

The second table is the cost of igjax alone: a wide network, against its bare gradient, each
row with a baseline of its own. The seconds to compile are those of the CPU, with tracing
and without caches, the median of five; the rows with both scores are the least that a
method with a baseline can take. Where all rows share one baseline the pass there is one of
vectors, and XLA's CPU compiler makes a kernel for each product of a vector: faster to run,
slower to compile. `--models` has the costs of the networks of the first table.
"""

import argparse
import functools
import statistics
import time
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import igjax
from igjax import propagation as P

try:
    import captum.attr
    import shap
    import torch
    import zennit.attribution
    import zennit.composites
    import zennit.rules
    import zennit.types
except ImportError as missing:
    raise SystemExit(f"{missing}. pip install torch captum shap zennit") from None

BATCH, REPEATS = 32, 21
relu = jax.nn.relu


def arrays(module) -> dict:
    """The weights of a torch module, by name."""
    return {name: jnp.asarray(p.detach().numpy()) for name, p in module.named_parameters()}


def dense(w, name, x):
    """A torch Linear."""
    return x @ w[name + ".weight"].T + w[name + ".bias"]


def conv(w, name, x):
    """A torch Conv2d with padding 1, of one image."""
    y = jax.lax.conv(x[None], w[name + ".weight"], (1, 1), "SAME")[0]
    return y + w[name + ".bias"][:, None, None]


def pool(x, size, stride):
    """A torch MaxPool2d."""
    window, steps = (1, size, size), (1, stride, stride)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, steps, "VALID")


class Mlp(torch.nn.Module):
    """Two hidden layers of an activation module, each used once."""

    shape = (12,)

    def __init__(self, activation):
        super().__init__()
        self.a, self.b = torch.nn.Linear(12, 32), torch.nn.Linear(32, 32)
        self.c = torch.nn.Linear(32, 1)
        self.f, self.g = activation(), activation()

    def forward(self, x):
        """The scores of a batch."""
        return self.c(self.g(self.b(self.f(self.a(x)))))


def mlp(activation, w, x):
    """The same in JAX."""
    return dense(w, "c", activation(dense(w, "b", activation(dense(w, "a", x)))))[0]


class Cnn(torch.nn.Module):
    """Two convolutions; pools that overlap or not, a skip connection or none."""

    shape = (2, 9, 9)

    def __init__(self, size, stride, skip):
        super().__init__()
        self.a, self.b = (torch.nn.Conv2d(n, 4, 3, padding=1) for n in (2, 4))
        self.f, self.g = torch.nn.ReLU(), torch.nn.ReLU()
        self.pool = torch.nn.MaxPool2d(size, stride)
        side = (9 - size) // stride + 1
        self.c, self.skip = torch.nn.Linear(4 * side**2, 1), skip

    def forward(self, x):
        """The scores of a batch."""
        x = self.pool(self.f(self.a(x)))
        y = self.g(self.b(x))
        return self.c((x + y if self.skip else y).flatten(1))


def cnn(size, stride, skip, w, x):
    """The same in JAX."""
    x = pool(relu(conv(w, "a", x)), size, stride)
    y = relu(conv(w, "b", x))
    return dense(w, "c", (x + y if skip else y).reshape(-1))[0]


class Lstm(torch.nn.Module):
    """An LSTM of 12 steps; the last hidden state decides."""

    shape = (12, 4)

    def __init__(self):
        super().__init__()
        self.a, self.c = torch.nn.LSTM(4, 8, batch_first=True), torch.nn.Linear(8, 1)

    def forward(self, x):
        """The scores of a batch."""
        return self.c(self.a(x)[0][:, -1])


def lstm(w, x):
    """The same in JAX, a scan."""
    w = {name.removeprefix("a."): value for name, value in w.items()}

    def step(state, v):
        hidden, memory = state
        gates = w["weight_ih_l0"] @ v + w["bias_ih_l0"]
        gates += w["weight_hh_l0"] @ hidden + w["bias_hh_l0"]
        i, f, g, o = gates.reshape(4, 8)
        memory = jax.nn.sigmoid(f) * memory + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(memory), memory), None

    (hidden, _), _ = jax.lax.scan(step, (jnp.zeros(8), jnp.zeros(8)), x)
    return dense(w, "c", hidden)[0]


class Transformer(torch.nn.Module):
    """One block of attention, norm, GELU; modules for all that peers may know."""

    shape = (6, 8)

    def __init__(self):
        super().__init__()
        linear = torch.nn.Linear
        self.q, self.k, self.v, self.o = (linear(8, 8) for _ in range(4))
        self.a, self.b, self.c = linear(8, 16), linear(16, 8), linear(8, 1)
        self.norm, self.soft = torch.nn.LayerNorm(8), torch.nn.Softmax(-1)
        self.gelu = torch.nn.GELU()

    def forward(self, x):
        """The scores of a batch."""
        y = self.norm(x)
        weights = self.soft(self.q(y) @ self.k(y).transpose(-1, -2) / 8**0.5)
        x = x + self.o(weights @ self.v(y))
        return self.c((x + self.b(self.gelu(self.a(x)))).mean(1))


def transformer(w, x):
    """The same in JAX."""
    y = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
    y = y * w["norm.weight"] + w["norm.bias"]
    weights = jax.nn.softmax(dense(w, "q", y) @ dense(w, "k", y).T / 8**0.5)
    x = x + dense(w, "o", weights @ dense(w, "v", y))
    hidden = jax.nn.gelu(dense(w, "a", x), approximate=False)
    return dense(w, "c", (x + dense(w, "b", hidden)).mean(0))[0]


MODELS: dict[str, Any] = {
    "MLP ReLU": (lambda: Mlp(torch.nn.ReLU), functools.partial(mlp, relu)),
    "MLP tanh": (lambda: Mlp(torch.nn.Tanh), functools.partial(mlp, jnp.tanh)),
    "MLP GELU": (
        lambda: Mlp(torch.nn.GELU),
        functools.partial(mlp, functools.partial(jax.nn.gelu, approximate=False)),
    ),
    "CNN": (lambda: Cnn(3, 3, False), functools.partial(cnn, 3, 3, False)),
    "CNN, skip": (lambda: Cnn(3, 3, True), functools.partial(cnn, 3, 3, True)),
    "CNN, pools overlap": (lambda: Cnn(3, 2, False), functools.partial(cnn, 3, 2, False)),
    "LSTM": (Lstm, lstm),
    "transformer": (Transformer, transformer),
}


def by_zennit(rule, first=None):
    """A method of zennit: a rule for all layers, and one for the first."""
    kinds = [(zennit.types.Activation, zennit.rules.Pass())]
    layers = (zennit.types.Convolution, zennit.types.Linear)
    kinds += [(kind, rule) for kind in layers]
    if first is None:
        composite = zennit.composites.LayerMapComposite(kinds)
    else:
        special = [(kind, first) for kind in layers]
        composite = zennit.composites.SpecialFirstLayerMapComposite(kinds, special)

    def attribute(model, x, baseline):
        del baseline
        with zennit.attribution.Gradient(model, composite) as attributor:
            return attributor(x, lambda score: score)[1]

    return attribute


def by_captum(name):
    """A method of Captum."""

    def attribute(model, x, baseline):
        method = getattr(captum.attr, name)(model)
        given = {"baselines": baseline} if name == "DeepLift" else {}
        return method.attribute(x.requires_grad_(), target=0, **given)

    return attribute


def by_shap(model, x, baseline):
    """SHAP's DeepExplainer with one row of background."""
    explainer = shap.DeepExplainer(model, baseline)
    return torch.as_tensor(explainer.shap_values(x, check_additivity=False)[..., 0])


def only(rule):
    """LRP with one rule for all layers."""
    return lambda f: P.relevance(f, (("layer", rule),))


def at_first(rule):
    """LRP with a rule for the first layer, and z+ after it."""
    return lambda f: P.relevance(f, ((P.first, rule), ("layer", P.zplus())))


Z = zennit.rules
DENSE = ("MLP ReLU", "MLP tanh", "CNN")
BEYOND = ("CNN, skip", "CNN, pools overlap", "LSTM", "transformer")
# Method, peer, ours, theirs, models.
CASES: list[Any] = [
    ("deeplift", "Captum", P.deeplift, by_captum("DeepLift"), tuple(MODELS)),
    ("deeplift", "SHAP", P.deeplift, by_shap, tuple(MODELS)),
    ("epsilon 1e-9", "Captum", only(P.epsilon(1e-9)), by_captum("LRP"), DENSE[:1]),
    ("epsilon 1e-9", "Captum", only(P.epsilon(1e-9)), by_captum("LRP"), BEYOND),
    (
        "epsilon 1e-6",
        "zennit",
        only(P.epsilon()),
        by_zennit(Z.Epsilon(1e-6)),
        DENSE + BEYOND,
    ),
    ("epsilon 0.25", "zennit", only(P.epsilon(0.25)), by_zennit(Z.Epsilon(0.25)), DENSE),
    ("zplus", "zennit", only(P.zplus()), by_zennit(Z.ZPlus()), DENSE),
    (
        "alpha 2, beta 1",
        "zennit",
        only(P.alpha_beta()),
        by_zennit(Z.AlphaBeta(2, 1)),
        DENSE,
    ),
    ("gamma 0.25", "zennit", only(P.gamma()), by_zennit(Z.Gamma(0.25)), DENSE),
    (
        "w squared, zplus",
        "zennit",
        at_first(P.wsquare()),
        by_zennit(Z.ZPlus(), Z.WSquare(zero_params="bias")),
        DENSE,
    ),
    (
        "flat, zplus",
        "zennit",
        at_first(P.flat()),
        by_zennit(Z.ZPlus(), Z.Flat(zero_params="bias")),
        DENSE,
    ),
    (
        "box, zplus",
        "zennit",
        at_first(P.box(-4.0, 4.0)),
        by_zennit(Z.ZPlus(), Z.ZBox(-4.0, 4.0)),
        DENSE,
    ),
    (
        "guided",
        "Captum",
        P.guided_gradient,
        by_captum("GuidedBackprop"),
        ("MLP ReLU", "CNN", "CNN, skip", "CNN, pools overlap"),
    ),
    (
        "deconvnet",
        "Captum",
        P.deconvnet_gradient,
        by_captum("Deconvolution"),
        ("MLP ReLU", "CNN", "CNN, skip", "CNN, pools overlap"),
    ),
]


def milliseconds(call) -> float:
    """The median time of a call, after one more."""
    call()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def compare(model_name, ours, theirs, has_baseline):
    """Digits of agreement, both gaps, both times."""
    torch.manual_seed(0)
    make, function = MODELS[model_name]
    module = make().double().eval()
    weights, generator = arrays(module), np.random.default_rng(1)
    x, baseline = generator.normal(size=(2, BATCH, *module.shape))
    baseline = baseline[:1]
    f = lambda x, w: function(w, x)
    explain = jax.jit(jax.vmap(ours(f), in_axes=(0, None, None)))
    run = lambda: jax.block_until_ready(explain(x, jnp.asarray(baseline[0]), weights))
    peer = lambda: theirs(module, torch.tensor(x), torch.tensor(baseline)).detach().numpy()
    result, other = run(), peer()
    values = np.asarray(result.values)
    with torch.no_grad():
        change = module(torch.tensor(x)).numpy()[:, 0]
        if has_baseline:
            change = change - module(torch.tensor(baseline)).numpy()[:, 0]
    np.testing.assert_allclose(result.score, jax.vmap(f, (0, None))(x, weights), rtol=1e-9)
    flat = lambda a: a.reshape(BATCH, -1)
    gap = lambda a: np.max(np.abs(flat(a).sum(1) - change) / np.abs(flat(a)).sum(1))
    digits = -np.log10(max(np.abs(values - other).max() / np.abs(values).max(), 1e-17))
    return digits, gap(values), gap(other), milliseconds(run), milliseconds(peer)


def table():
    """All methods, peers and models."""
    print("| method | peer | model | digits | gap, ours | theirs | ms, ours | theirs |")
    print("|---|---|---|---|---|---|---|---|")
    few, slow, count = [], [], 0
    for method, peer, ours, theirs, models in CASES:
        for model in models:
            head = f"| {method} | {peer} | {model} |"
            try:
                d, g, h, s, t = compare(model, ours, theirs, method == "deeplift")
            except Exception as error:
                print(head, type(error).__name__, str(error).splitlines()[0][:60], "|" * 5)
                continue
            gaps = f"{g:.0e} | {h:.0e}"
            gaps = "| " if method in ("guided", "deconvnet") else gaps
            print(head, f"{d:.1f} | {gaps} | {s:.2f} | {t:.1f} |", flush=True)
            count += 1
            few += [head] if d < 10 else []
            slow += [head] if s > t else []
    print(f"\nFewer than ten digits: {len(few)} of {count}.", *few, sep="\n")
    print(f"\nSlower than the peer: {len(slow)} of {count}.", *slow, sep="\n")


def wide(activation, x, weights):
    """Six layers of 256."""
    for w in weights:
        x = activation(x @ w + 0.1)
    return x.sum()


def costs():
    """Against the bare gradient: six layers of 256, a batch of 32, float32."""
    keys = jax.random.split(jax.random.key(0), 6)
    weights = [jax.random.normal(k, (256, 256), "float32") / 16 for k in keys]
    f, g = functools.partial(wide, jax.nn.gelu), functools.partial(wide, relu)
    x = jax.random.normal(jax.random.key(1), (BATCH, 256), "float32")
    rows = jax.random.normal(jax.random.key(2), (16, 256), "float32")
    nodes = igjax.rules.midpoint(50)
    deepshap = igjax.expected(P.deeplift(f))
    methods = {
        "gradient": slopes(f),
        "gradient, both scores": with_both(f),
        "deeplift": P.deeplift(f),
        "deeplift, RevealCancel": P.deeplift(f, (("activation", P.reveal_cancel()),)),
        "expected(deeplift), 16 rows": lambda x, b, w: deepshap(keys[0], x, rows, w),
        "relevance, epsilon": P.relevance(f),
        "relevance, z+": only(P.zplus())(f),
        "relevance, alpha-beta": only(P.alpha_beta())(f),
        "relevance, gamma": only(P.gamma())(f),
        "integrated_gradients, 50 nodes": igjax.integrated_gradients(f, rule=nodes),
        "integrated_gradients, adaptive": igjax.integrated_gradients(f),
    }
    given = x, jnp.zeros_like(x), weights
    against("GELU, a baseline for each row", methods, given)
    names = "gradient", "gradient, both scores", "deeplift", "deeplift, RevealCancel"
    shared = {name: methods[name] for name in names}
    against("GELU, one baseline for all rows", shared, (x, jnp.zeros_like(x[0]), weights))
    guided = {
        "gradient": slopes(g),
        "deeplift": P.deeplift(g),
        "relevance, epsilon": P.relevance(g),
        "relevance, gamma": only(P.gamma())(g),
        "guided_gradient": P.guided_gradient(g),
    }
    against("ReLU, a baseline for each row", guided, given)


def costs_of_models():
    """DeepLIFT and LRP of the networks of the first table, against their gradients."""
    for name in ("MLP GELU", "CNN, skip", "LSTM", "transformer"):
        make, function = MODELS[name]
        module = make().double().eval()
        f = lambda x, w, function=function: function(w, x)
        x = jnp.asarray(np.random.default_rng(1).normal(size=(BATCH, *module.shape)))
        methods = {
            "gradient": slopes(f),
            "gradient, both scores": with_both(f),
            "deeplift": P.deeplift(f),
            "relevance, epsilon": P.relevance(f),
            "relevance, gamma": only(P.gamma())(f),
        }
        against(name, methods, (x, jnp.zeros_like(x), arrays(module)))


def slopes(f):
    """The bare gradient, with the arguments of an attribution."""
    return lambda x, b, w: jax.grad(f)(x, w)


def with_both(f):
    """The bare gradient and the scores at either end."""
    return lambda x, b, w: (jax.value_and_grad(f)(x, w), f(b, w))


def against(title, methods, given):
    """A table of methods against the first of them."""
    print(f"\n| {title} | ms | times the gradient | s to compile | times the gradient |")
    print("|---|---|---|---|---|")
    axes = 0, 0 if given[1].ndim == given[0].ndim else None, None
    batched = {name: jax.vmap(method, in_axes=axes) for name, method in methods.items()}
    seconds = {name: [] for name in methods}
    for _ in range(5):
        for name, explain in batched.items():
            seconds[name].append(compiled_in(explain, given))
    base = None
    for name, explain in batched.items():
        run, compiling = jax.jit(explain), statistics.median(seconds[name])
        ms = milliseconds(lambda run=run: jax.block_until_ready(run(*given)))
        base = base or (ms, compiling)
        row = f"{ms:.2f} | {ms / base[0]:.2f} | {compiling:.2f} | {compiling / base[1]:.1f}"
        print(f"| {name} | {row} |", flush=True)


def compiled_in(function, given) -> float:
    """The seconds of the CPU until a function of these operands is compiled."""
    jax.clear_caches()
    start = time.process_time()
    jax.jit(function).lower(*given).compile()
    return time.process_time() - start


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--costs", action="store_true", help="the second table alone")
    parser.add_argument("--models", action="store_true", help="costs of the networks")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    jax.config.update("jax_enable_x64", True)
    torch.set_num_threads(1)
    versions = f"jax {jax.__version__}, torch {torch.__version__}"
    print(f"{jax.devices()[0].device_kind}, {versions}\n")
    if arguments.models:
        costs_of_models()
    elif arguments.costs:
        costs()
    else:
        table()
