"""How large is the error of sampled Shapley values, and does the reported one cover it?

Six games of 10 to 60 players (`_games.py`), ten inputs each, at 128, 512 and 2048 scores:
the median over inputs of the relative error (l2), the seconds of one explanation on a warm
program, and, for igjax, how often its 95% errors cover the exact values over inputs and
keys. Beside it shap, Captum and shapiq, where they are installed; what each is allowed is
the same number of scores. `--constants`: half and twice of each constant of the Gaussian
process instead.
"""

import argparse
import functools
import time
import warnings

import jax
import numpy as np
from _constants import changed, known
from _games import INPUTS, games, judged, repeated

import igjax
from igjax.perturbation import _gaussian

EXACT = ("SERIES",)  # of the process: a number of terms, to the last digit
BUDGETS = (128, 512, 2048)


def ours(game, budget, keys):
    """Median error over inputs and keys, seconds of one, and coverage."""
    attribute = igjax.perturbation.shapley_values(game.f, budget=budget)
    x, zero = np.ones(game.players, "f4"), np.zeros(game.players, "f4")
    one = jax.jit(lambda key, given: attribute(key, x, zero, given))
    errors, covered, seconds = [], [], []
    for i, found in repeated(game, attribute, keys):
        wrong, share = judged(found, game.exact[i])
        errors.append(np.linalg.norm(wrong, axis=1) / np.linalg.norm(game.exact[i]))
        covered.append(share)
        run = functools.partial(one, jax.random.key(i), game.parameters[i])
        jax.block_until_ready(run())
        start = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - start)
    return np.median(errors), np.median(seconds), np.mean(covered)


def scored(game, given):
    """A NumPy function of rows of masks, in blocks of one shape."""
    run = jax.jit(jax.vmap(game.f, (0, None)))

    def v(masks):
        masks = np.atleast_2d(np.asarray(masks, "f4"))
        blocks = [masks[i : i + 256] for i in range(0, len(masks), 256)]
        padded = [np.pad(b, ((0, 256 - len(b)), (0, 0))) for b in blocks]
        return np.concatenate(
            [run(p, given)[: len(b)] for p, b in zip(padded, blocks, strict=True)]
        )

    return v


def shap_permutation(v, n, budget, seed):
    """PermutationExplainer."""
    import shap

    explain = shap.PermutationExplainer(v, np.zeros((1, n)), seed=seed)
    return explain(np.ones((1, n)), max_evals=max(budget, 2 * n + 1), silent=True).values[0]


def shap_kernel(v, n, budget, seed):
    """KernelExplainer without its selection of ten features."""
    import shap

    np.random.seed(seed)  # noqa: NPY002
    explain = shap.KernelExplainer(v, np.zeros((1, n)))
    return explain.shap_values(
        np.ones((1, n)), nsamples=budget - 2, l1_reg=False, silent=True
    )[0]


def captum_sampling(v, n, budget, seed):
    """ShapleyValueSampling."""
    import torch
    from captum.attr import ShapleyValueSampling

    torch.manual_seed(seed)
    model = lambda rows: torch.tensor(np.array(v(rows.numpy())))
    orders = max(1, (budget - 1) // (n - 1))
    found = ShapleyValueSampling(model).attribute(
        torch.ones(1, n), n_samples=orders, perturbations_per_eval=64
    )
    return found.numpy()[0]


def captum_kernel(v, n, budget, seed):
    """KernelShap."""
    import torch
    from captum.attr import KernelShap

    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    model = lambda rows: torch.tensor(np.array(v(rows.numpy())))
    found = KernelShap(model).attribute(
        torch.ones(1, n), n_samples=budget, perturbations_per_eval=64
    )
    return found.numpy()[0]


def shapiq(name, **options):
    """An approximator of shapiq, by its name."""

    def run(v, n, budget, seed):
        import shapiq

        maker = getattr(shapiq.approximator, name)
        zero = float(v(np.zeros((1, n)))[0])
        game = lambda masks: np.asarray(v(masks), float) - zero
        found = maker(n=n, random_state=seed, **options).approximate(budget, game)
        return np.array([found[(i,)] for i in range(n)])

    run.__doc__ = f"shapiq's {name}."
    return run


PEERS = {
    "shap Permutation": shap_permutation,
    "shap Kernel": shap_kernel,
    "captum ShapleyValueSampling": captum_sampling,
    "captum KernelShap": captum_kernel,
    "shapiq KernelSHAP": shapiq("KernelSHAP"),
    "shapiq LeverageSHAP": shapiq("LeverageSHAP"),
    "shapiq OddSHAP": shapiq("OddSHAP"),
    "shapiq ProxySHAP": shapiq("ProxySHAP", index="SV", max_order=1),
    "shapiq ProxySHAP, adjusted": shapiq(
        "ProxySHAP", index="SV", max_order=1, adjustment=True
    ),
    "shapiq kADDSHAP": shapiq("kADDSHAP", max_order=2),
}


def theirs(method, game, budget):
    """The median error over the inputs, and seconds of one."""
    errors, seconds = [], []
    for i, (given, exact) in enumerate(zip(game.parameters, game.exact, strict=True)):
        v = scored(game, given)
        v(np.ones((1, game.players)))
        start = time.perf_counter()
        values = method(v, game.players, budget, i)
        seconds.append(time.perf_counter() - start)
        errors.append(np.linalg.norm(values - exact) / np.linalg.norm(exact))
    return np.median(errors), np.median(seconds)


def constants(kinds, budget, keys):
    """What half and twice of each constant do to error, coverage and seconds."""

    def row(name, value):
        cells = []
        for game in kinds:
            anew = game._replace(f=lambda *given, f=game.f: f(*given))  # is traced anew
            error, seconds, covered = ours(anew, budget, keys)
            cells.append(f"{error:.4f} / {seconds:.3f} ({covered:.3f})")
        print(f"| {name} | {value} |", " | ".join(cells), "|", flush=True)

    print(f"\nat {budget} scores")
    print("| constant | is |" + "".join(f" {game.name} |" for game in kinds))
    print("|---|---|" + "---|" * len(kinds))
    row("as they are", "")
    for name, value in changed((_gaussian,), known((_gaussian,), EXACT)):
        row(name, value)


def main():
    """Prints a table for each game."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--games", nargs="*")
    parser.add_argument("--budgets", nargs="*", type=int, default=BUDGETS)
    parser.add_argument("--inputs", type=int, default=INPUTS, help="of each game")
    parser.add_argument("--keys", type=int, default=20, help="of each input, for igjax")
    parser.add_argument("--peers", nargs="*", default=list(PEERS))
    parser.add_argument("--constants", action="store_true")
    options = parser.parse_args()
    print(jax.devices()[0].device_kind, "jax", jax.__version__)
    if options.constants:
        kinds = [game.first(options.inputs) for game in games(options.games)]
        for budget in options.budgets:
            constants(kinds, budget, options.keys)
        return
    for game in games(options.games):
        game = game.first(options.inputs)
        budgets = [b for b in options.budgets if b >= 4 * game.players]
        print(f"\n{game.name}, {game.players} players: error / seconds (covered)")
        print("| estimator |" + "".join(f" {b} |" for b in budgets))
        print("|---|" + "---|" * len(budgets))
        cells = []
        for budget in budgets:
            error, seconds, covered = ours(game, budget, options.keys)
            cells.append(f"{error:.4f} / {seconds:.3f} ({covered:.3f})")
        print("| igjax |", " | ".join(cells), "|", flush=True)
        for name in options.peers:
            cells = []
            for budget in budgets:
                try:
                    error, seconds = theirs(PEERS[name], game, budget)
                    cells.append(f"{error:.4f} / {seconds:.3f}")
                except (ImportError, AttributeError):
                    cells.append("not installed")
                except Exception as problem:  # a peer's failure is a result
                    cells.append(f"{type(problem).__name__}")
            print(f"| {name} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
