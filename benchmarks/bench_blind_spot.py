"""What the adaptive rule cannot see: structures without a net change of the score.

Two features that cancel in the score, or a jump up through one feature and back through
another: only samples that fall inside the structure can tell. For each width, over random
places: the share of inputs called converged although the error exceeds the tolerance,
the share refused, and the gradients spent.
"""

import jax
import jax.numpy as jnp
import numpy as np

import igjax

INPUTS = 500
WIDTHS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 1e-4)
TOLERANCE = 1e-2


def cancelling(x, place, width):
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


def main():
    """Prints the table."""
    jax.config.update("jax_enable_x64", True)
    rule = igjax.rules.adaptive(TOLERANCE)
    place = jax.random.uniform(jax.random.key(0), (INPUTS,), minval=0.05, maxval=0.85)
    print(f"{INPUTS} inputs each, tolerance {TOLERANCE}, float64\n")
    print(f"{'structure':<14}{'width':>8}{'false':>9}{'refused':>9}{'gradients':>11}")
    for f in (cancelling, up_and_back, spike):
        attribute = igjax.integrated_gradients(f, rule=rule)
        explain = jax.jit(jax.vmap(attribute, in_axes=(None, None, 0, None)))
        for width in WIDTHS:
            result = explain(jnp.ones(2), 0.0, place, width)
            truth = exact(f, place, width)
            error = np.abs(result.values - truth).sum(1)
            bad = error > TOLERANCE * np.abs(truth).sum(1)
            false = np.mean(result.converged & bad)
            print(
                f"{f.__name__:<14}{width:>8g}{100 * false:>8.1f}%"
                f"{100 * np.mean(~result.converged):>8.1f}%"
                f"{np.mean(result.evaluations):>11.0f}"
            )


if __name__ == "__main__":
    main()
