"""How often does the error estimate of a fixed rule cover the true error?

Random integrands with known integrals, smooth ones and sums of steps (the gradients of
ReLU networks along a path). For each rule: the share of integrands whose error is at
most the estimate, and the median ratio of estimate to error.
"""

import numpy as np

from igjax import rules

FEATURES = 4000
MAKERS = (
    rules.left,
    rules.midpoint,
    rules.trapezoid,
    rules.simpson,
    rules.gauss_legendre,
    rules.gauss_kronrod,
    rules.clenshaw_curtis,
)
COUNTS = (3, 5, 15, 33, 129)


def smooth(rng):
    """Sums of six random sigmoids; the integral is a difference of log cosh."""
    height, slope, place = rng.normal(size=(3, FEATURES, 6))
    slope, place = 3 * slope, 2 * place
    logcosh = lambda z: np.logaddexp(z, -z)
    ends = logcosh(0.7 * slope + place) - logcosh(-0.3 * slope + place)
    f = lambda t: (
        height[..., None] * np.tanh(slope[..., None] * (t - 0.3) + place[..., None])
    ).sum(1)
    return f, (height * ends / slope).sum(1)


def steps(count):
    """Sums of random steps at random places."""

    def make(rng):
        height, place = (
            rng.normal(size=(FEATURES, count)),
            rng.uniform(size=(FEATURES, count)),
        )
        f = lambda t: (height[..., None] * (t > place[..., None])).sum(1)
        return f, (height * (1 - place)).sum(1)

    return make


KINDS = {"smooth": smooth, "1 step": steps(1), "5 steps": steps(5), "30 steps": steps(30)}


def main():
    """Prints the table."""
    rng = np.random.default_rng(0)
    problems = {name: make(rng) for name, make in KINDS.items()}
    print(f"{FEATURES} integrands of each kind: covered, median estimate / error\n")
    print(f"{'rule':<18}{'nodes':>6}" + "".join(f"{name:>20}" for name in problems))
    for maker in MAKERS:
        for n in COUNTS:
            rule = maker(n)
            cells = []
            for f, exact in problems.values():
                values = f(rule.nodes)
                error = np.abs(values @ rule.weights - exact)
                estimate = np.sqrt(((values @ rule.error_weights.T) ** 2).sum(1))
                covered = np.mean(error <= estimate + 1e-13)
                ratio = np.median(estimate / np.maximum(error, 1e-16))
                cells.append(f"{100 * covered:9.1f}% {ratio:8.2g}x")
            print(f"{maker.__name__:<18}{n:>6}" + "".join(f"{cell:>20}" for cell in cells))


if __name__ == "__main__":
    main()
