r"""Curves of a score while features leave or come in the order of their values.

Only the order counts, not the values; points on the way leave the data; and there are
orders that fool any such curve. So a curve stands beside those of random orders, on the
same points, and its error tells what is due to ties and to the number of random orders.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from igjax import _checks
from igjax._program import compiled
from igjax._tree import strong
from igjax.metrics._features import fitted, half_width, mapped, mixer, places, score

__all__ = ["Curve", "comprehensiveness", "deletion", "insertion", "sufficiency"]

SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)


class Curve(NamedTuple):
    """A number about an order of features, beside the same of random orders.

    Attributes:
        value: the area under the curve, or a mean over it; see the function.
        error: half-width of a 95% interval of value - random, for the ties and the random
            orders that were drawn.
        random: the mean of the same number over random orders.
        random_spread: its standard deviation over them.
        scores: the curve, the mean over ties, one score for each fraction.
        fractions: of the features that have left, or come.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> curve = igjax.metrics.Curve(0.2, 0.1, 0.5, 0.1, jnp.ones(2), jnp.arange(2.0))
        >>> curve.value < curve.random
        True
    """

    value: Any
    error: Any
    random: Any
    random_spread: Any
    scores: Any
    fractions: Any


def deletion(f, *, steps: int = 16, ties: int = 4, orders: int = 16, chunk_size=None):
    r"""Deletion (pixel flipping, MoRF): the area while the largest values leave first.

    $$\int_0^1 f\bigl(x \text{ without the share } q \text{ of largest values}\bigr)\,dq$$

    Low is good: the score goes early. Of `-values` it is LeRF, where high is good. The
    number is in units of the score, and compares methods on one model only. Adding up how
    low curves get says nothing of whether values are right, only of their order; masking
    leaves the data.

    Args:
        f: `f(x, *args) -> scalar`: whether logit or probability changes the answer.
        steps: in how many equal steps the features leave; at most the number of features.
        ties: how many times equal values are ordered at random, at least 2.
        orders: how many random orders are beside it, at least 4; an odd one is rounded up.
        chunk_size: how many scores are computed side by side; None chooses.

    Returns:
        `measure(key, values, x, baseline, *args) -> Curve`. Features leave to the
        baseline: take the one that the values were computed for.

    Raises:
        TypeError: if f is not callable, the key none, or x no floating array.
        ValueError: if the values are not like x, or a number makes no sense.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> w = jnp.array([4.0, 3.0, 2.0, 1.0])
        >>> measure = igjax.metrics.deletion(lambda x: x @ w, steps=4)
        >>> curve = measure(jax.random.key(0), w, jnp.ones(4), 0.0)
        >>> curve.scores
        Array([10.,  6.,  3.,  1.,  0.], dtype=float32)

    References:
        Samek et al., "Evaluating the Visualization of What a Deep Neural Network Has
        Learned", 2017.
        Petsiuk, Das, Saenko, "RISE", BMVC 2018.
    """
    return _areas("deletion", f, (steps, ties, orders, chunk_size), back=False)


def insertion(f, *, steps: int = 16, ties: int = 4, orders: int = 16, chunk_size=None):
    r"""Insertion: the area while the largest values come first, from the baseline.

    $$\int_0^1 f\bigl(x' \text{ with the share } q \text{ of largest values at } x
      \bigr)\,dq$$

    High is good. See `deletion` for what it does not tell.

    Args:
        f: as in `deletion`.
        steps: as in `deletion`.
        ties: as in `deletion`.
        orders: as in `deletion`.
        chunk_size: as in `deletion`.

    Returns:
        `measure(key, values, x, baseline, *args) -> Curve`.

    Raises:
        TypeError: as `deletion`.
        ValueError: as `deletion`.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> w = jnp.array([4.0, 3.0, 2.0, 1.0])
        >>> measure = igjax.metrics.insertion(lambda x: x @ w, steps=4)
        >>> curve = measure(jax.random.key(0), w, jnp.ones(4), 0.0)
        >>> curve.scores
        Array([ 0.,  4.,  7.,  9., 10.], dtype=float32)

    References:
        Petsiuk, Das, Saenko, "RISE", BMVC 2018.
    """
    return _areas("insertion", f, (steps, ties, orders, chunk_size), back=True)


def comprehensiveness(
    f, *, shares=SHARES, ties: int = 4, orders: int = 16, chunk_size=None
):
    r"""Comprehensiveness: what the score loses without the largest values.

    $$\frac{1}{|Q|} \sum_{q \in Q} f(x) - f(x \text{ without the share } q)$$

    High is good. Used for texts, with words as groups. Where scores are probabilities it
    cannot exceed f(x), so that it ranks models by their confidence as well.

    Args:
        f: as in `deletion`.
        shares: of the features, rounded up to whole ones.
        ties: as in `deletion`.
        orders: as in `deletion`.
        chunk_size: as in `deletion`.

    Returns:
        `measure(key, values, x, baseline, *args) -> Curve`.

    Raises:
        TypeError: as `deletion`.
        ValueError: as `deletion`, and if a share is not in (0, 1].

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> w = jnp.array([4.0, 3.0, 2.0, 1.0])
        >>> measure = igjax.metrics.comprehensiveness(lambda x: x @ w, shares=(0.25, 0.5))
        >>> float(measure(jax.random.key(0), w, jnp.ones(4), 0.0).value)
        5.5

    References:
        DeYoung et al., "ERASER", ACL 2020.
    """
    options = (shares, ties, orders, chunk_size)
    return _losses("comprehensiveness", f, options, back=False)


def sufficiency(f, *, shares=SHARES, ties: int = 4, orders: int = 16, chunk_size=None):
    r"""Sufficiency: what the score loses if only the largest values are left.

    $$\frac{1}{|Q|} \sum_{q \in Q} f(x) - f(x' \text{ with the share } q \text{ at } x)$$

    Low is good. See `comprehensiveness`.

    Args:
        f: as in `deletion`.
        shares: as in `comprehensiveness`.
        ties: as in `deletion`.
        orders: as in `deletion`.
        chunk_size: as in `deletion`.

    Returns:
        `measure(key, values, x, baseline, *args) -> Curve`.

    Raises:
        TypeError: as `deletion`.
        ValueError: as `comprehensiveness`.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> w = jnp.array([4.0, 3.0, 2.0, 1.0])
        >>> measure = igjax.metrics.sufficiency(lambda x: x @ w, shares=(0.25, 0.5))
        >>> float(measure(jax.random.key(0), w, jnp.ones(4), 0.0).value)
        4.5

    References:
        DeYoung et al., "ERASER", ACL 2020.
    """
    return _losses("sufficiency", f, (shares, ties, orders, chunk_size), back=True)


def _areas(caller, f, options, *, back: bool):
    steps, *rest = options
    _checks.count(caller, "steps", steps)

    def cuts(n):
        if steps > n:
            raise ValueError(
                f"{caller}: steps must be at most the number of features, {n}, got {steps}."
            )
        return np.round(np.linspace(0, n, steps + 1)).astype(int)

    def area(scores, fractions):
        widths = jnp.asarray(np.diff(fractions), scores.dtype)
        return (scores[:, 1:] + scores[:, :-1]) @ widths / 2

    return _measure(caller, f, (cuts, area, rest), back=back)


def _losses(caller, f, options, *, back: bool):
    shares, *rest = options
    if not len(shares) or not all(0 < share <= 1 for share in shares):
        raise ValueError(f"{caller}: shares must be in (0, 1], got {shares}.")

    def cuts(n):
        # The first score is f(x) itself, also where the others come from the baseline.
        inside = [int(np.ceil(share * n)) for share in shares]
        return np.array([n if back else 0, *inside])

    loss = lambda scores, fractions: scores[:, 0] - scores[:, 1:].mean(1)
    return _measure(caller, f, (cuts, loss, rest), back=back)


def _measure(caller, f, recipe, *, back: bool):
    cuts_of, number, (ties, orders, chunk_size) = recipe
    _checks.function(caller, "f", f)
    _checks.count(caller, "ties", ties, 2)
    _checks.count(caller, "orders", orders, 4)
    _checks.chunk_size(caller, chunk_size)

    def measure(key, values, x, baseline, /, *args):
        _checks.key(caller, key)
        values = fitted(caller, values, x)
        _checks.inputs(caller, x, baseline)
        n, mixed = len(values), mixer(strong(x), baseline)
        cuts = cuts_of(n)
        found_ranks = ranks(key, values, ties, orders)
        steps = jnp.asarray(cuts, jnp.int32)

        def one(k):
            moved = found_ranks[k // len(cuts)] < steps[k % len(cuts)]
            return score(f, mixed(moved == back), args)

        scores = mapped(one, len(found_ranks) * len(cuts), chunk_size)
        scores = scores.reshape(len(found_ranks), len(cuts))
        return compared(number(scores, cuts / n), scores, ties, cuts / n)

    return compiled.function(caller, measure)


def compared(found, scores, ties: int, fractions) -> Curve:
    """The numbers of orders by the values, beside those of the random ones after them."""
    mine, random = found[:ties], found[ties:]
    halves = random.reshape(2, -1).mean(0)  # an order and its reverse
    widths = [half_width(a.std(ddof=1), len(a)) for a in (mine, halves)]
    curve, spread = scores[:ties].mean(0), random.std(ddof=1)
    error = jnp.hypot(*widths)
    return Curve(mine.mean(), error, random.mean(), spread, curve, jnp.asarray(fractions))


def ranks(key, values, ties: int, orders: int):
    """Places of the features: by their values, and at random, forwards and backwards."""
    of_ties, of_random = jax.random.split(key)
    mine = jax.vmap(lambda key: places(key, values))(jax.random.split(of_ties, ties))
    keys = jax.random.split(of_random, (orders + 1) // 2)
    random = jax.vmap(lambda key: places(key, 0 * values))(keys)
    return jnp.concatenate([mine, random, len(values) - 1 - random])
