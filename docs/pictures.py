"""The pictures of docs/integrator.md, drawn by igjax: `python docs/pictures.py FOLDER`."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from numpy.polynomial import Polynomial

import igjax
from igjax import plots
from igjax.integration.panels import probes_at

COUNTS = (9, 65, 513)
BLUE, ORANGE, GRAY = "#2166ac", "#d95f02", "0.45"
X = np.ones(2)


def gelu_net(x):
    """A smooth function of two features."""
    w = jnp.array([[1.0, -2.0], [2.0, 1.5], [-1.0, 3.0]])
    return jax.nn.gelu(3 * w @ x - jnp.array([0.5, 2.0, 1.5])).sum() / 5


def relu_net(x):
    """A function with corners."""
    w = jnp.array([[1.0, 0.5], [2.0, 1.5], [-1.0, 3.0], [3.0, -1.0]])
    shift = jnp.array([0.4, 2.6, 0.55, 1.7])
    return jax.nn.relu(w @ x - shift) @ jnp.array([1.0, -1.5, 0.9, 1.2])


def switches(x):
    """A function that goes up at 0.3 of the path and down at 0.7, steeply."""
    steep = 4000.0
    up, down = jax.nn.sigmoid(steep * (x - jnp.array([0.3, 0.7])))
    return up - 0.8 * down + 0.2 * jnp.sin(2 * x.sum())


def kinds() -> Figure:
    """The three kinds of integrand."""
    figure = Figure((9, 3.6), layout="constrained")
    names = ("smooth: GELU", "corners: ReLU", "switches: as in a long LSTM")
    columns = figure.subplots(2, 3, sharex=True)
    for (above, below), f, name in zip(
        columns.T, (gelu_net, relu_net, switches), names, strict=True
    ):
        rule = None if f is switches else igjax.rules.midpoint(401)
        seen = igjax.diagnostics.path_profile(f, rule=rule)(X, 0.0)
        above.plot(seen.t, seen.score, color="0.1")
        above.set_title(name)
        below.plot(seen.t, seen.slope, color=BLUE)
        below.set_xlabel("t, from the baseline to x")
    columns[0, 0].set_ylabel("score")
    columns[1, 0].set_ylabel("slope")
    return figure


def panel() -> Figure:
    """One panel: what 15 nodes believe, and what the scores say."""
    rule = igjax.rules.gauss_kronrod(15)
    nodes, place, steep = np.asarray(rule.nodes), 0.36, 300.0
    score = lambda t: 0.4 * np.sin(2 * t) + 0.8 / (1 + np.exp(-steep * (t - place)))
    spike = lambda t: steep * 0.2 / np.cosh(steep * (t - place) / 2) ** 2
    slope = lambda t: 0.8 * np.cos(2 * t) + spike(t)
    believed = Polynomial.fit(nodes, slope(nodes), 14, domain=[0, 1]).integ()
    t = np.union1d(np.linspace(0, 1, 801), place + np.linspace(-0.03, 0.03, 400))
    probes = probes_at()[1:-1]
    figure = Figure((8, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.5))
    above.plot(t, slope(t), color=GRAY, linewidth=1)
    above.plot(nodes, slope(nodes), "o", color=BLUE, label="15 Kronrod nodes")
    gauss = nodes[1::2]
    above.plot(gauss, slope(gauss), "o", color="white", markeredgecolor=BLUE)
    above.plot([], [], "o", color="white", markeredgecolor=BLUE, label="7 of them, Gauss")
    above.set(ylabel="slope", ylim=(-2, 20))
    above.legend(frameon=False)
    below.plot(t, score(t), color=GRAY, linewidth=1, label="the score")
    below.plot(nodes, score(nodes), "o", color=BLUE, label="scores at the nodes: known")
    below.plot(probes, score(probes), "|", color="0.1", label="56 scores: known")
    start = believed(0) - score(0)
    curve = believed(t) - start
    below.plot(t, curve, color=ORANGE, label="what the slopes add up to")
    arrow = {"arrowstyle": "<->", "color": ORANGE}
    ends = (0.7, score(0.7) - 0.02), (0.7, believed(0.7) - start)
    below.annotate("", *ends, arrowprops=arrow)
    below.text(0.71, 0.75, "the profile residual")
    below.set(ylabel="score", xlabel="t, along one panel")
    below.legend(frameon=False, loc="upper left")
    return figure


def panels() -> Figure:
    """The panels of a path with two switches, by their width."""
    seen = igjax.diagnostics.path_profile(switches)(X, 0.0)
    edges = np.asarray(seen.edges, float)
    figure = Figure((8, 4.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(seen.t, seen.score, color="0.1")
    above.set_ylabel("score")
    for lo, hi in edges:
        below.plot([lo, hi], [hi - lo] * 2, color=BLUE, linewidth=4, solid_capstyle="butt")
        below.plot((lo + hi) / 2, hi - lo, "o", color=BLUE, markersize=3)
    below.set(yscale="log", ylabel="width of a panel", xlabel="t, from the baseline to x")
    below.set_title(f"{len(edges)} panels, of 15 gradients each", fontsize="medium")
    return figure


def profile() -> Figure:
    """The same path, as `igjax.plots` draws it."""
    seen = igjax.diagnostics.path_profile(switches)(X, 0.0)
    figure = Figure((8, 5), layout="constrained")
    axes = figure.subplots()
    axes.axis("off")
    plots.diagnostics.path_profile(seen, ax=axes)
    return figure


def jump() -> Figure:
    """A jump narrower than the dtype resolves: a wall between two plains."""
    figure = Figure((5.6, 4.6), layout="constrained")
    axes = figure.subplots()
    wall = lambda x: x[0] + 2 * x[1] - 1.5  # the gradient points across it
    side = np.linspace(-0.1, 1.3, 200)
    grid = np.stack(np.meshgrid(side, side))
    axes.contourf(*grid, wall(grid) > 0, levels=[-0.5, 0.5, 1.5], colors=["0.96", "0.82"])
    axes.contour(*grid, wall(grid), levels=[0], colors="0.1")
    axes.plot([0, 1], [0, 1], color=BLUE, linewidth=2)
    axes.plot(0, 0, "o", color="white", markeredgecolor="0.1", markersize=8)
    axes.plot(1, 1, "o", color="0.1", markersize=8)
    arrow = {"arrowstyle": "->", "color": ORANGE, "linewidth": 2}
    axes.annotate("", (0.66, 0.82), (0.5, 0.5), arrowprops=arrow)
    axes.text(0.1, 0.88, "gradient: across the wall,\n1 part x₁ to 2 parts x₂", va="bottom")
    axes.text(0.03, -0.05, "baseline")
    axes.text(1.03, 1.02, "x")
    axes.text(0.05, 0.35, "score 0")
    axes.text(0.95, 0.45, "score 1")
    axes.set(xlabel="x₁", ylabel="x₂", aspect="equal")
    return figure


def convergence() -> Figure:
    """Rules against the three kinds of path: error over cost."""
    figure = Figure((10, 4.2), layout="constrained")
    families = {
        "midpoint": [igjax.rules.midpoint(n) for n in COUNTS],
        "Gauss-Legendre": [igjax.rules.gauss_legendre(n) for n in COUNTS],
        "adaptive": [igjax.rules.adaptive(tolerance) for tolerance in (1e-1, 1e-2, 1e-3)],
    }
    rules = [rule for family in families.values() for rule in family]
    names = [name for name, family in families.items() for _ in family]
    fine = igjax.rules.composite(igjax.rules.gauss_legendre(16), 4000)
    titles = ("smooth", "corners", "switches")
    columns = figure.subplots(1, 3, sharey=True)
    for axes, f, title in zip(columns, (gelu_net, relu_net, switches), titles, strict=True):
        exact = igjax.integrated_gradients(f, rule=fine)(X, 0.0).values
        found = igjax.diagnostics.convergence(f, X, 0.0, rules=rules, reference=exact)
        plots.diagnostics.convergence(found, names, ax=axes)
        axes.set(title=title, ylim=(1e-15, 1e3), xlim=(7, 1500))
        axes.get_legend().set_loc("lower left")
        if axes is not columns[1]:
            axes.get_legend().remove()
        if axes is not columns[0]:
            axes.set_ylabel("")
    return figure


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for draw in (kinds, panel, panels, profile, jump, convergence):
        draw().savefig(folder / f"{draw.__name__}.png", dpi=150, facecolor="white")
