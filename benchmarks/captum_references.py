"""Which numbers does Captum give on the cases that igjax's tests quote?

Recomputes every literal live and prints one table: case, Captum's numbers, the exact
ones where a closed form exists, and the largest difference.  The stored output is
`captum_references.txt`; the tests quote it and never import this file or Captum.
"""

from __future__ import annotations

import math
import sys

import numpy as np

try:
    import captum
    import torch
    from captum import attr
    from captum.attr import IntegratedGradients
except ImportError:
    sys.exit("captum: not installed.  See benchmarks/README.md for the install lines.")

# A tanh network 3-4-1 and its input, in plain decimals for the tests to copy.
TANH_W1 = [[0.5, -0.3, 0.8], [-0.6, 0.9, 0.2], [0.1, 0.7, -0.4], [1.1, -0.2, 0.3]]
TANH_B1 = [0.1, -0.2, 0.3, 0.05]
TANH_W2 = [0.7, -1.2, 0.4, 0.9]
TANH_B2 = 0.25
TANH_X = [0.9, -1.4, 0.6]
TANH_BASELINE = [0.1, 0.2, -0.3]


def attribute(f, inputs, baselines=None, dtype=torch.float32, **options):
    """Run Captum; return rows of attributions and the convergence delta, in float64.

    `inputs` is a list of tensors, as lists of rows; several are returned side by side.
    """
    tensors = tuple(torch.tensor(x, dtype=dtype) for x in inputs)
    if baselines is not None:
        baselines = tuple(torch.tensor(b, dtype=dtype) for b in baselines)
    values, delta = IntegratedGradients(f).attribute(
        tensors, baselines, return_convergence_delta=True, **options
    )
    values = [v.detach().double().numpy().reshape(len(v), -1) for v in values]
    return np.concatenate(values, axis=1), delta.detach().double().numpy()


def relu_difference(n_steps):
    """`relu(relu(x1) - 1 - relu(x2))` at (3, 1): both unused and used kinks."""

    def f(x1, x2):
        return torch.relu(torch.relu(x1) - 1 - torch.relu(x2))

    got = attribute(f, [[3.0], [1.0]], n_steps=n_steps, method="gausslegendre")
    return got, [[1.5, -0.5]]


def product_with_exponential():
    """`x * exp(y)` from (-0.5, -0.25) to (0.5, 0.5), in float64."""
    got = attribute(
        lambda x, y: x * torch.exp(y),
        *([[0.5], [0.5]], [[-0.5], [-0.25]]),
        dtype=torch.float64,
        n_steps=50,
    )
    # With y = -1/4 + 3t/4 and x = t - 1/2: the first is the mean of exp(y).
    first = (math.exp(0.5) - math.exp(-0.25)) / 0.75
    total = 0.5 * math.exp(0.5) + 0.5 * math.exp(-0.25)
    return got, [[first, total - first]]


def distributed_tutorial():
    """Captum's Distributed tutorial: `relu(x1 + x2 + x3 - 10)`, default settings."""
    rows = [[3.0, 4.0, 5.0], [6.0, 7.0, 8.0], [9.0, 10.0, 11.0]]
    got = attribute(lambda x: torch.relu(x.sum(1) - 10.0), [rows])
    x = np.array(rows)
    return got, x * (1 - 10 / x.sum(1, keepdims=True))


def linear_with_trapezoid():
    """The linear model [1, 2, 3] at ones under `riemann_trapezoid`, 50 steps."""
    weights = torch.tensor([1.0, 2.0, 3.0])
    got = attribute(
        *(lambda x: x @ weights, [[[1.0, 1.0, 1.0]]]),
        n_steps=50,
        method="riemann_trapezoid",
    )
    return got, [[1.0, 2.0, 3.0]]


def opposed_sigmoids():
    """Two steep sigmoids whose errors cancel in delta: 5 steps at (1, 1) from 0."""

    def f(x):
        steep = torch.sigmoid(500 * (x - 0.5))
        return steep[:, 0] - steep[:, 1]

    got = attribute(f, [[[1.0, 1.0]]], dtype=torch.float64, n_steps=5)
    return got, [[1.0, -1.0]]


def tanh_network():
    """A float64 tanh network 3-4-1 under 16 Gauss-Legendre steps.

    "Exact" is the same integral with 200 nodes and float64 weights.
    """
    w1, b1, w2 = (np.array(a) for a in (TANH_W1, TANH_B1, TANH_W2))
    t1, c1, t2 = (torch.tensor(a) for a in (w1, b1, w2))
    got = attribute(
        lambda x: torch.tanh(x @ t1.T + c1) @ t2 + TANH_B2,
        *([[TANH_X]], [[TANH_BASELINE]]),
        dtype=torch.float64,
        n_steps=16,
    )
    nodes, weights = np.polynomial.legendre.leggauss(200)
    step = np.array(TANH_X) - np.array(TANH_BASELINE)
    points = np.array(TANH_BASELINE) + (nodes[:, None] + 1) / 2 * step
    slopes = ((1 - np.tanh(points @ w1.T + b1) ** 2) * w2) @ w1
    return got, [step * (weights / 2 @ slopes)]


def cube():
    """`x^3` at 2 in float64: two nodes are exact, float32 weights leave a floor."""
    got = attribute(lambda x: (x**3).sum(1), [[[2.0]]], dtype=torch.float64, n_steps=50)
    return got, [[8.0]]


class TanhNetwork(torch.nn.Module):
    """The tanh network as a module with layers, for the methods that want one."""

    def __init__(self):
        super().__init__()
        self.hidden, self.tanh, self.out = (
            torch.nn.Linear(3, 4, dtype=torch.float64),
            torch.nn.Tanh(),
            torch.nn.Linear(4, 1, dtype=torch.float64),
        )
        literals = TANH_W1, TANH_B1, [TANH_W2], [TANH_B2]
        with torch.no_grad():
            for parameter, literal in zip(self.parameters(), literals, strict=True):
                parameter.copy_(torch.tensor(literal, dtype=torch.float64))

    def forward(self, x):
        """Apply; (n, 3) to (n,)."""
        return self.out(self.tanh(self.hidden(x)))[:, 0]


def family():
    """Other methods on the tanh network, by Captum's call, with its numbers."""
    net = TanhNetwork()
    x, b = (torch.tensor([a], dtype=torch.float64) for a in (TANH_X, TANH_BASELINE))
    sixteen = {"n_steps": 16, "method": "gausslegendre"}
    neuron = attr.NeuronConductance(net, net.tanh)
    calls = {
        "Saliency": attr.Saliency(net).attribute(x.requires_grad_(), abs=False),
        "InputXGradient": attr.InputXGradient(net).attribute(x),
        "LayerActivation": attr.LayerActivation(net, net.tanh).attribute(x),
        "LayerGradientXActivation": (
            attr.LayerGradientXActivation(net, net.tanh).attribute(x)
        ),
        "LayerIntegratedGradients, 16": (
            attr.LayerIntegratedGradients(net, net.tanh).attribute(x, b, **sixteen)
        ),
        "LayerConductance, 16": (
            attr.LayerConductance(net, net.tanh).attribute(x, b, **sixteen)
        ),
        "NeuronConductance of unit 0": neuron.attribute(x, 0, b),
        "NeuronConductance of unit 0, 16": neuron.attribute(x, 0, b, **sixteen),
        "InternalInfluence, 16": (
            attr.InternalInfluence(net, net.tanh).attribute(x, b, **sixteen)
        ),
        "ShapleyValues": attr.ShapleyValues(net).attribute(x.detach(), b),
    }
    return {name: values.detach().numpy().ravel() for name, values in calls.items()}


CASES = (
    ("relu(relu(x1)-1-relu(x2)) at (3,1), 50", lambda: relu_difference(50)),
    ("relu(relu(x1)-1-relu(x2)) at (3,1), 1000", lambda: relu_difference(1000)),
    ("x*exp(y), (-.5,-.25) to (.5,.5), f64, 50", product_with_exponential),
    ("relu(x1+x2+x3-10), three rows, defaults", distributed_tutorial),
    ("linear [1,2,3], riemann_trapezoid, 50", linear_with_trapezoid),
    ("sig(500(x0-.5))-sig(500(x1-.5)), f64, 5", opposed_sigmoids),
    ("tanh network 3-4-1, f64, 16", tanh_network),
    ("x^3 at 2, f64, 50", cube),
)


def _numbers(row, digits):
    return "[" + ", ".join(f"{value:.{digits}g}" for value in row) + "]"


def slope_of_cube():
    """What torch gives for d/dx of the attribution of x^3, which is 3 x^2, at 2."""
    x = torch.tensor([[2.0]], dtype=torch.float64, requires_grad=True)
    values = IntegratedGradients(lambda x: (x**3).sum(1)).attribute(x)
    return torch.autograd.grad(values.sum(), x)[0].item()


def main():
    """Print the table."""
    print(f"captum {captum.__version__}, torch {torch.__version__}")
    print("gausslegendre unless another rule is named; baseline 0 unless one is named")
    for name, case in CASES:
        (values, delta), exact = case()
        exact = np.asarray(exact)
        digits = 17 if "f64" in name else 9
        print(f"\n{name}")
        for got, gap, want in zip(values, delta, exact, strict=True):
            print(f"  captum     {_numbers(got, digits)}")
            print(f"  exact      {_numbers(want, 17)}")
            print(f"  difference {np.abs(got - want).max():.3g}   delta {gap:.3g}")
    print("\ntanh network: tanh(x @ W1.T + b1) @ w2 + b2")
    for name in ("W1", "B1", "W2", "B2", "X", "BASELINE"):
        print(f"  {name} = {globals()['TANH_' + name]}")
    print("\ntanh network, other methods; layers are the values of tanh; Captum's defaults")
    print("unless 16 Gauss-Legendre steps are named")
    for name, values in family().items():
        print(f"  {name:<32} {_numbers(values, 17)}")
    print(f"\nd/dx of the attribution of x^3 at 2: {slope_of_cube():.9g}, exact 12")


if __name__ == "__main__":
    main()
