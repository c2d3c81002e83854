"""Known defects of other libraries, each on a function whose answer is a closed form.

A `Defect` holds the right value, the value of igjax, that of the peer, and, where the
formula of the peer says what it must be, that prediction: that the peer hits it proves
the cause. The functions are so small that the answer can be read off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

import igjax

NODES = 50


class Defect(NamedTuple):
    """What should come out, and what does; `predicted` is None where nothing says."""

    peer: str
    what: str
    exact: float
    ours: float
    theirs: float | str
    predicted: float | None


def _identity():
    """A linear layer that does nothing, before a linear layer that adds up, in float64."""
    import torch

    first, last = torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 1, bias=False)
    first.weight.data, last.weight.data = torch.eye(2), torch.ones(1, 2)
    return torch.nn.Sequential(first, last).double()


def _unit(x):
    return checkpoint_name(x, "y").sum()


def _input(*values):
    import torch

    return torch.tensor([values], dtype=torch.float64)


def trapezoid() -> Defect:
    """Weights 1/n with halved ends, on n nodes: they add up to 1 - 1/n."""
    from captum.attr import IntegratedGradients

    method = IntegratedGradients(_identity())
    theirs = method.attribute(
        _input(1, 0), target=0, n_steps=NODES, method="riemann_trapezoid"
    )
    ours = igjax.integrated_gradients(_unit, rule=igjax.rules.trapezoid(NODES))
    return Defect(
        *("Captum IntegratedGradients", "riemann_trapezoid, x at 1"),
        *(1.0, float(ours(jnp.array([1.0, 0.0]), 0.0).values[0])),
        *(float(theirs[0, 0]), 1 - 1 / NODES),
    )


def neuron_conductance() -> Defect:
    """The same rule is the default here."""
    from captum.attr import NeuronConductance

    model = _identity()
    method = NeuronConductance(model, model[0])
    theirs = method.attribute(_input(1, 0), neuron_selector=0, target=0, n_steps=NODES)
    rule = igjax.rules.gauss_legendre(NODES)
    ours = igjax.neuron_conductance(_unit, "y", 0, rule=rule)
    return Defect(
        *("Captum NeuronConductance", "its default rule, x at 1"),
        *(1.0, float(ours(jnp.array([1.0, 0.0]), 0.0).values[0])),
        *(float(theirs[0, 0]), 1 - 1 / NODES),
    )


def layer_conductance() -> Defect:
    """Differences between n + 1 Gauss nodes: from the first to the last, not 0 to 1."""
    from captum.attr import LayerConductance

    model = _identity()
    theirs = LayerConductance(model, model[0]).attribute(
        _input(1, 0), target=0, n_steps=NODES
    )
    rule = igjax.rules.gauss_legendre(NODES)
    ours = igjax.layer_conductance(_unit, "y", rule=rule)
    nodes = np.polynomial.legendre.leggauss(NODES + 1)[0]
    return Defect(
        *("Captum LayerConductance", "a linear layer, x at 1"),
        *(1.0, float(ours(jnp.array([1.0, 0.0]), 0.0).values[0])),
        *(float(theirs[0, 0]), (nodes[-1] - nodes[0]) / 2),
    )


def left_differences() -> Defect:
    """The weights are thrown away: an error of first order where the head is curved."""
    import torch
    from captum.attr import LayerConductance

    class Square(torch.nn.Module):
        def forward(self, x):
            return (x**2).sum(1, keepdim=True)

    first = torch.nn.Linear(1, 1, bias=False).double()
    first.weight.data = torch.ones(1, 1, dtype=torch.float64)
    model = torch.nn.Sequential(first, Square())
    theirs = LayerConductance(model, first).attribute(_input(1), target=0, n_steps=NODES)
    rule = igjax.rules.gauss_legendre(NODES)
    square = lambda x: (checkpoint_name(x, "y") ** 2).sum()
    ours = igjax.layer_conductance(square, "y", rule=rule)(jnp.ones(1), 0.0)
    t = (np.polynomial.legendre.leggauss(NODES + 1)[0] + 1) / 2
    return Defect(
        *("Captum LayerConductance", "a square, x at 1"),
        *(1.0, float(ours.values[0]), float(theirs[0, 0])),
        float((2 * t[:-1] * np.diff(t)).sum()),
    )


def variance() -> Defect:
    """A mean of squares less a square of means, in float32, of a gradient of 1000.1."""
    import torch
    from captum.attr import NoiseTunnel, Saliency

    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1, bias=False)
    model.weight.data = torch.full((1, 1), 1000.1)
    method = NoiseTunnel(Saliency(model))
    theirs = method.attribute(
        torch.ones(1, 1), nt_type="vargrad", nt_samples=64, stdevs=1.0, target=0
    )
    constant = igjax.gradient(lambda x: 1000.1 * x.sum())
    ours = igjax.smooth_variance(constant, scale=1.0, relative=False)
    values = ours(jax.random.key(0), jnp.ones(1, "float32"), None).values
    return Defect(
        *("Captum NoiseTunnel", "vargrad of a constant gradient"),
        *(0.0, float(values[0]), float(theirs[0, 0]), None),
    )


def joint_baselines() -> Defect:
    """Baselines (b, 10 b) lie where f = 10 x - y is 0: so is the sum of attributions."""
    import torch
    from captum.attr import GradientShap

    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (Captum draws from it)
    rows = np.random.default_rng(0).normal(size=(16, 1)).astype("float32")
    method = GradientShap(lambda x, y: (10 * x - y)[:, 0])
    pair = torch.tensor(rows), torch.tensor(10 * rows)
    theirs = method.attribute(
        (torch.zeros(1, 1), torch.zeros(1, 1)), baselines=pair, n_samples=64, stdevs=0.0
    )
    f = lambda p: (10 * p["x"] - p["y"]).sum()
    zero = {"x": jnp.zeros(1), "y": jnp.zeros(1)}
    explain = igjax.expected_gradients(f, draws=64)
    values = explain(jax.random.key(0), zero, {"x": rows, "y": 10 * rows}).values
    return Defect(
        *("Captum GradientShap", "two inputs, baselines in pairs"),
        *(0.0, float(values["x"][0] + values["y"][0])),
        *(float(sum(a.sum() for a in theirs)), None),
    )


def _call(gradient):
    from saliency.core import INPUT_OUTPUT_GRADIENTS

    def call(x, call_model_args=None, expected_keys=None):
        return {INPUT_OUTPUT_GRADIENTS: gradient(np.asarray(x))}

    return call


def mean_of_points() -> Defect:
    """The mean of n points from 0 to 1 is no trapezoid: x**3 at 1 by 25 points."""
    from saliency.core import IntegratedGradients

    theirs = IntegratedGradients().GetMask(
        np.ones(1), _call(lambda x: 3 * x**2), x_steps=25, batch_size=25
    )
    rule = igjax.rules.gauss_legendre(2)
    ours = igjax.integrated_gradients(lambda x: (x**3).sum(), rule=rule)
    predicted = float(np.mean(3 * np.linspace(0, 1, 25) ** 2))
    return Defect(
        *("PAIR IntegratedGradients", "x**3, x at 1, 25 points"),
        *(1.0, float(ours(jnp.ones(1), 0.0).values[0]), float(theirs[0]), predicted),
    )


def last_width() -> Defect:
    """Steps of unequal widths in a batch: all take the width of the last."""
    from saliency.core import BlurIG
    from saliency.core.blur_ig import gaussian_blur

    rng = np.random.default_rng(0)
    image, w = rng.normal(size=(2, 16, 16, 1))
    exact = (w * (image - gaussian_blur(image, 4.0))).sum()
    theirs = BlurIG().GetMask(
        *(image, _call(lambda x: np.broadcast_to(w, x.shape))),
        **{"max_sigma": 4.0, "steps": 100, "sqrt": True, "batch_size": 50},
    )
    path = igjax.paths.blur(4.0)
    rule = igjax.rules.gauss_legendre(NODES)
    ours = igjax.integrated_gradients(lambda x: (w * x).sum(), rule=rule, path=path)
    result = ours(jnp.asarray(image), 0.0)
    share = float(result.values.sum() / (result.score - result.baseline_score))
    return Defect(
        *("PAIR BlurIG", "sqrt, batches of 50: sum / change"),
        *(1.0, share, float(theirs.sum() / exact), None),
    )


def guided() -> Defect:
    """F = (2 x + y)**2 at (3, 3): y last, and so 2 x first alone (PAIR's own test)."""
    from saliency.core import GuidedIG

    f = lambda x: (2 * x[0] + x[1]) ** 2
    slope = lambda x: np.stack([4 * (2 * x[..., 0] + x[..., 1])] * 2, -1) / [1, 2]
    try:
        theirs = GuidedIG().GetMask(
            np.full(2, 3.0), _call(slope), x_steps=200, fraction=0.1, max_dist=1.0
        )[0]
    except TypeError:
        theirs = "TypeError"
    ours = igjax.guided_integrated_gradients(f, fraction=0.1, max_distance=1.0)
    value = float(ours(jnp.full(2, 3.0), jnp.zeros(2)).values[0])
    return Defect("PAIR GuidedIG", "(2x + y)**2 at (3, 3)", 72.0, value, theirs, None)


def variance_of_the_mean() -> Defect:
    """Attributions x - b with b = 1 or -1: the mean of n has the variance 1/n."""
    import shap
    import torch

    model = torch.nn.Linear(1, 1, bias=False)
    model.weight.data = torch.ones(1, 1)
    rows = torch.tensor([[1.0], [-1.0]])
    explainer = shap.GradientExplainer(model, rows)
    _, theirs = explainer.shap_values(
        torch.zeros(1, 1), nsamples=100, rseed=0, return_variances=True
    )
    # Rows in turn: igjax's mean over an even number of draws has no variance at all.
    explain = igjax.expected_gradients(jnp.sum, draws=96)
    error = explain(jax.random.key(0), jnp.zeros(1), rows.numpy()).error
    return Defect(
        *("SHAP GradientExplainer", "variance of a mean of 100 (igjax stratifies)"),
        *(1 / 100, float((error[0] / 1.96) ** 2), float(np.ravel(theirs)[0])),
        1 / np.sqrt(100),
    )


DEFECTS: dict[Callable[[], Defect], str] = {
    trapezoid: "captum",
    neuron_conductance: "captum",
    layer_conductance: "captum",
    left_differences: "captum",
    variance: "captum",
    joint_baselines: "captum",
    mean_of_points: "saliency",
    last_width: "saliency",
    guided: "saliency",
    variance_of_the_mean: "shap",
}
