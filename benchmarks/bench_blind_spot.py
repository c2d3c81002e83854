"""What the adaptive rule cannot see: structures without a net change of the score.

Two features that cancel in the score, or a jump up through one feature and back through
another: only samples that fall inside the structure can tell. And a step hidden among the
kinks of a ReLU network, whose features cancel in the score up to 1 / R: what the step
changes the score by is less than what the kinks do. And a crowd of small steps, each of a
feature of its own: a sample that falls into one of them shows a slope that would explain
all the others. For each width, R, and number of steps, over random places: the share of
inputs called converged although the error exceeds the tolerance, the share refused, and
the gradients spent.
"""

import jax
import jax.numpy as jnp
import numpy as np

import igjax

INPUTS = 500
WIDTHS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 1e-4)
TOLERANCE = 1e-2
CANCELED = (1, 3, 10, 30, 100, 300)
UNITS, FEATURES, STEPS = 30, 12, 4
CROWDS = (3, 12, 30)


def canceling(x, place, width):
    """Two features switch at one place in opposite directions: the score stays 0."""
    switch = lambda u: jax.nn.sigmoid(4 * (u - place) / width)
    return switch(x[0]) - switch(x[1])


def up_and_back(x, place, width):
    """One feature switches the score on, another switches it off a width later."""
    switch = lambda u: jax.nn.sigmoid(40 * u / width)
    return switch(x[0] - place) - switch(x[1] - place - width)


def spike(x, place, width):
    """The score rises and falls again through the same feature: nothing is left of it."""
    return x[1] + jnp.exp(-(((x[0] - place) / width) ** 2))


def exact(f, place, width):
    """The attributions of both features, by their closed forms."""
    ends = np.zeros((len(place), 2))
    for feature in range(2):
        on = np.zeros(2)
        on[feature] = 1.0
        at = jax.vmap(f, (None, 0, None))
        ends[:, feature] = at(jnp.array(on), place, width) - at(jnp.zeros(2), place, width)
    return ends


def risen(place, width):
    """What steps of height 1 rise by from 0 to 1."""
    return jax.nn.sigmoid((1 - place) / width) - jax.nn.sigmoid(-place / width)


def hidden(x, u, place, width, height, w, c, v):
    """Steps along u, among the kinks of a network of ReLUs."""
    steps = jnp.sum(height * jax.nn.sigmoid((x @ u - place) / width))
    return steps + v @ jax.nn.relu(w @ x + c)


def hidden_problem(canceled):
    """Random x, arguments of `hidden`, and the exact attributions from baseline 0.

    Along the path u moves from 0 to 1, while its parts sum to `canceled` without signs.
    """
    g = np.random.default_rng(canceled)
    shape = (INPUTS, FEATURES)
    x, u = g.normal(size=shape), g.normal(size=shape)
    parts = (u * x)[:, :-1]
    signed, size = parts.sum(1), np.abs(parts).sum(1)
    u[:, -1] = ((size + np.abs(signed)) / canceled - signed) / x[:, -1]
    u /= (u * x).sum(1, keepdims=True)
    w, c, v = (g.normal(size=(INPUTS, UNITS, *s)) for s in ((FEATURES,), (), ()))
    # Each unit is a function of one number, and on for a share of the path.
    rise = np.einsum("nhf,nf->nh", w, x)
    share = (np.maximum(rise + c, 0) - np.maximum(c, 0)) / rise
    kinks = x * np.einsum("nh,nhf->nf", v * share, w)
    # The steps are as large in the features as the network, or a tenth of it.
    ratio = np.abs(kinks).sum(1) / np.abs(u * x).sum(1) * g.choice([0.1, 1.0], INPUTS)
    height = g.normal(size=(INPUTS, STEPS)) * ratio[:, None]
    place, width = g.uniform(size=(INPUTS, STEPS)), 10 ** g.uniform(-6, 0, (INPUTS, STEPS))
    change = (height * risen(place, width)).sum(1, keepdims=True)
    exact = change * u * x + kinks
    return x, (u, place, width, height, w, c, v), exact


def crowd(x, place, width, height):
    """A smooth score of one feature, and a small step of each of the others."""
    steps = height * jax.nn.sigmoid((x[1:] - place) / width)
    return jnp.tanh(2 * x[0]) + x[0] ** 2 + steps.sum()


def crowd_problem(count):
    """Arguments of `crowd` from 0 to 1, and the exact attributions."""
    g = np.random.default_rng(count)
    shape = (INPUTS, count)
    place = (np.arange(count) + g.uniform(0.2, 0.8, size=shape)) / count
    height, width = g.normal(size=shape) * 0.05 / count, 10 ** g.uniform(-6, -3, shape)
    smooth = np.full((INPUTS, 1), np.tanh(2) + 1)
    exact = np.concatenate([smooth, height * risen(place, width)], 1)
    return np.ones((INPUTS, 1 + count)), (place, width, height), exact


def head(case):
    """The head of a table whose cases are of this kind."""
    print(f"{'structure':<14}{case:>8}{'false':>9}{'refused':>9}{'gradients':>11}")


def row(name, case, result, exact):
    """One line of the table."""
    error = np.abs(result.values - exact).sum(1)
    bad = error > TOLERANCE * np.abs(exact).sum(1)
    print(
        f"{name:<14}{case:>8g}{100 * np.mean(result.converged & bad):>8.1f}%"
        f"{100 * np.mean(~result.converged):>8.1f}%"
        f"{np.mean(result.evaluations):>11.0f}"
    )


def main():
    """Prints the table."""
    jax.config.update("jax_enable_x64", True)
    rule = igjax.rules.adaptive(TOLERANCE)
    place = jax.random.uniform(jax.random.key(0), (INPUTS,), minval=0.05, maxval=0.85)
    print(f"{INPUTS} inputs each, tolerance {TOLERANCE}, float64\n")
    head("width")
    for f in (canceling, up_and_back, spike):
        attribute = igjax.integrated_gradients(f, rule=rule)
        explain = jax.jit(jax.vmap(attribute, in_axes=(None, None, 0, None)))
        for width in WIDTHS:
            result = explain(jnp.ones(2), 0.0, place, width)
            row(f.__name__, width, result, exact(f, place, width))
    for f, problem, case, cases in (
        (hidden, hidden_problem, "R", CANCELED),
        (crowd, crowd_problem, "steps", CROWDS),
    ):
        print()
        head(case)
        explain = jax.jit(jax.vmap(igjax.integrated_gradients(f, rule=rule)))
        for number in cases:
            x, args, truth = problem(number)
            row(f.__name__, number, explain(x, np.zeros_like(x), *args), truth)


if __name__ == "__main__":
    main()
