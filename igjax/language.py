r"""What is asked of a causal language model: the next token, a contrast, a whole text.

Each bridge makes of `g(tokens, *args) -> logits`, one row for each token, what `igjax`
explains: a scalar, or one number for each token of a continuation. Logits are read in
float32 or wider, since a log-probability in half precision has two digits.

The row of logits at place i speaks of the token at i + 1, given those up to i. So what
stands behind the place that is asked about has no part in it, and gets exactly 0.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from igjax import _checks, _labels
from igjax._tree import wide, wrapped
from igjax.bridges import named_after

__all__ = ["continuation", "contrast", "each_token", "loss", "next_token"]


def next_token(g) -> Callable:
    r"""The log-probability of one next token.

    $$f(\mathrm{tokens}, k) = \log p(k \mid \mathrm{tokens})$$

    Use it to ask why this token is likely. A probability close to 1 hardly changes on the
    last part of the path; why this token and not that one is `contrast`.

    Args:
        g: `g(tokens, *args) -> logits`, causal, for one text: tokens are integers of shape
            (T,), logits floating of shape (T, vocabulary).

    Returns:
        `f(tokens, target, *args) -> scalar`. The target is a token id, of the token after
        the last one, or (place, id), of the one after `tokens[place]`: of texts that are
        padded on their right. Negative places count from the end.

    Raises:
        TypeError: if the target is no integer, or the logits are no array.
        ValueError: if the target is known to be out of range, the logits are not one row
            for each token, or keys and values of an earlier call are among the arguments.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> f = igjax.language.next_token(lambda tokens, table: table[tokens])  # bigrams
        >>> table = jnp.log(jnp.array([[0.5, 0.5], [0.25, 0.75]]))
        >>> jnp.exp(f(jnp.array([0, 1]), 1, table)).round(2)
        Array(0.75, dtype=float32)
    """
    _checks.function("next_token", "g", g)

    def f(tokens, target, *args):
        logits = _logits("next_token", g, tokens, args)
        place, label = _asked("next_token", target, len(tokens))
        row = jax.nn.log_softmax(_row(logits, place))
        (score,) = _labels.chosen("next_token", f, row, (label,), (tokens, args))
        return score

    f.validate = lambda *given: _validate("next_token", f, 1, given)  # pyright: ignore[reportFunctionMemberAccess]
    return named_after(f, g)


def contrast(g) -> Callable:
    r"""Why this next token rather than that one: the difference of their logits.

    $$f(\mathrm{tokens}, k, l) = \log \frac{p(k \mid \mathrm{tokens})}
      {p(l \mid \mathrm{tokens})}$$

    What makes both more likely cancels: only what tells them apart is left.

    Args:
        g: as in `next_token`.

    Returns:
        `f(tokens, target, other, *args) -> scalar`; both are as in `next_token`.

    Raises:
        TypeError: as `next_token`.
        ValueError: as `next_token`.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> f = igjax.language.contrast(lambda tokens, table: table[tokens])
        >>> f(jnp.array([0, 1]), 1, 0, jnp.array([[0.0, 0.0], [1.0, 3.0]]))
        Array(2., dtype=float32)
    """
    _checks.function("contrast", "g", g)

    def f(tokens, target, other, *args):
        logits = _logits("contrast", g, tokens, args)
        asked = [_asked("contrast", label, len(tokens)) for label in (target, other)]
        one, another = (
            _labels.chosen("contrast", f, _row(logits, place), (label,), (tokens, args))[0]
            for place, label in asked
        )
        return one - another

    f.validate = lambda *given: _validate("contrast", f, 2, given)  # pyright: ignore[reportFunctionMemberAccess]
    return named_after(f, g)


def each_token(g) -> Callable:
    r"""The log-probability of each token of a continuation, given all before it.

    $$f(\mathrm{tokens}, \mathrm{places})_j = \log p(\mathrm{tokens}_{p_j} \mid
      \mathrm{tokens}_{< p_j})$$

    Use it for a table of target times source, from one sweep of the path: at each node one
    forward pass serves all targets.

    Args:
        g: as in `next_token`.

    Returns:
        `f(tokens, places, *args) -> array (n,)`: tokens are the prompt and what follows
        it, places integers of shape (n,), where the targets stand: at least 1, since
        nothing stands before the first. None: all of them.

    Raises:
        TypeError: if the places are no integers, or the logits are no array.
        ValueError: if a place is known to be out of range, or as `next_token`.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> f = igjax.language.each_token(lambda tokens, table: table[tokens])
        >>> table = jnp.log(jnp.array([[0.5, 0.5], [0.25, 0.75]]))
        >>> jnp.exp(f(jnp.array([0, 1, 1]), jnp.array([1, 2]), table)).round(2)
        Array([0.5 , 0.75], dtype=float32)
    """
    return _of_places("each_token", g, lambda scores: scores)


def continuation(g) -> Callable:
    r"""The log-probability of a whole continuation, given the prompt before it.

    $$f(\mathrm{tokens}, \mathrm{places}) = \sum_j \log p(\mathrm{tokens}_{p_j} \mid
      \mathrm{tokens}_{< p_j})$$

    Args:
        g: as in `next_token`.

    Returns:
        `f(tokens, places, *args) -> scalar`; as in `each_token`, of which it is the sum.

    Raises:
        TypeError: as `each_token`.
        ValueError: as `each_token`.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> f = igjax.language.continuation(lambda tokens, table: table[tokens])
        >>> table = jnp.log(jnp.array([[0.5, 0.5], [0.2, 0.8]]))
        >>> print(f"{jnp.exp(f(jnp.array([0, 1, 1]), jnp.array([1, 2]), table)):.2f}")
        0.40
    """
    return _of_places("continuation", g, jnp.sum)


def loss(g) -> Callable:
    r"""The loss of a text: minus the mean log-probability of its tokens.

    $$f(\mathrm{tokens}, \mathrm{places}) = -\frac{1}{n} \sum_j
      \log p(\mathrm{tokens}_{p_j} \mid \mathrm{tokens}_{< p_j})$$

    Use it to ask which tokens made a text surprising to a model, or less so.

    Args:
        g: as in `next_token`.

    Returns:
        `f(tokens, places, *args) -> scalar`, with places as in `each_token`.

    Raises:
        TypeError: as `each_token`.
        ValueError: as `each_token`.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> f = igjax.language.loss(lambda tokens, table: table[tokens])
        >>> f(jnp.array([0, 1, 1]), None, jnp.zeros((2, 2))).round(3)  # log 2
        Array(0.693, dtype=float32)
    """
    return _of_places("loss", g, lambda scores: -jnp.mean(scores))


def _of_places(caller: str, g, reading: Callable) -> Callable:
    """What a reading makes of the log-probabilities of the tokens at some places."""
    _checks.function(caller, "g", g)

    def f(tokens, places, *args):
        logits = _logits(caller, g, tokens, args)
        tokens = jnp.asarray(tokens)
        at = _places(caller, places, len(tokens))
        at, inside = wrapped(at, len(tokens))
        inside = inside & (at > 0)
        logp = jax.nn.log_softmax(_wide(logits[at - 1]))
        target, known = wrapped(tokens[at], logits.shape[-1])
        found = jnp.take_along_axis(logp, target[:, None], axis=-1)[:, 0]
        return reading(jnp.where(inside & known, found, jnp.nan))

    f.validate = lambda tokens, places, *_: _places(caller, places, len(tokens))  # pyright: ignore[reportFunctionMemberAccess]
    return named_after(f, g)


def _places(caller: str, places, size: int):
    """Where the targets stand, checked as far as it is known."""
    if size < 2:
        raise ValueError(
            f"{caller}: tokens must be at least two, a prompt and what follows, got {size}."
        )
    if places is None:
        return jnp.arange(1, size, dtype=jnp.int32)
    kind = _checks.kind(places)
    if not jnp.issubdtype(kind, jnp.integer) or np.ndim(places) != 1:
        raise TypeError(
            f"{caller}: places must be integers of shape (n,), got {kind}"
            f"{list(np.shape(places))}. Of a prompt of 5 tokens and what follows they are "
            "jnp.arange(5, len(tokens)); None is all tokens but the first."
        )
    if not isinstance(places, Tracer):
        _check_places(caller, np.asarray(places), size)
    return places


def _check_places(caller: str, places, size: int) -> None:
    inside = (places >= -size) & (places < size) & (places % size != 0)
    if not places.size or not inside.all():
        got = places[~inside][0] if places.size else "none"
        raise ValueError(
            f"{caller}: places must be in [1, {size}), where {size} tokens stand, got "
            f"{got}. Negative ones count from the end, and the first token has nothing "
            "before it: put a mark of the start in front."
        )


def _asked(caller: str, label, size: int):
    """The place of a label, and its token id."""
    place, token = label if isinstance(label, tuple | list) else (-1, label)
    if not isinstance(place, Tracer) and not -size <= int(place) < size:
        raise ValueError(
            f"{caller}: the place of (place, id) must be in [{-size}, {size}), got {place}."
        )
    return place, token


def _validate(caller: str, f, count: int, given: tuple) -> None:
    """Checks targets that are known against the logits that f has seen."""
    tokens, *rest = given
    labels, args = rest[:count], tuple(rest[count:])
    asked = [_asked(caller, label, len(tokens))[1] for label in labels]
    _labels.check(caller, f, asked, (tokens, args))


def _row(logits, place):
    """The row at a place; of NaN where a place that is traced leads nowhere."""
    at, inside = wrapped(place, len(logits))
    return _wide(jnp.where(inside, logits[at], jnp.nan))


def _wide(logits):
    return logits.astype(wide(logits.dtype))


def _logits(caller: str, g, tokens, args):
    """What g makes of the tokens, one row for each.

    Raises:
        TypeError: if it is no array.
        ValueError: if it is not one row of logits for each token, or g goes on from an
            earlier call.
    """
    if np.ndim(tokens) != 1:
        raise ValueError(
            f"{caller}: tokens must be those of one text, of shape (T,), got shape "
            f"{np.shape(tokens)}. A batch goes through jax.vmap(attribute)."
        )
    _refuse_cache(caller, args)
    logits = g(tokens, *args)
    if not isinstance(logits, jax.Array | np.ndarray):
        raise TypeError(
            f"{caller}: g must return logits, one array, got {type(logits).__name__}. Take "
            "them out, lambda tokens, *args: model(tokens).logits; where the rest are keys "
            f"and values for the next call, leave them: {_WHY}"
        )
    size = np.shape(tokens)[0]
    if logits.ndim != 2 or len(logits) != size:
        raise ValueError(
            f"{caller}: g must return logits of shape (T, vocabulary), here ({size}, ...), "
            f"got {logits.shape}. {_remedy(logits.shape, size)}"
        )
    return logits


def _remedy(shape: tuple, size: int) -> str:
    if len(shape) == 3 and shape[0] == 1:
        return "Take the batch axis off first: igjax.single(g)."
    if len(shape) == 1:
        return "Logits of one place are explained by igjax.select(g)."
    if len(shape) == 2 and size > 1:
        return f"A model that answers for its last tokens alone hides the others: {_WHY}"
    return "For one text it is a row for each of its tokens."


_WHY = (
    "what an earlier call has kept is a constant, so the tokens behind it would get "
    "nothing. Run the whole text at once."
)
_KEPT = ("cached_key", "cached_value", "past_key_values", "kv_cache")


def _refuse_cache(caller: str, args) -> None:
    """Keys and values of an earlier call hide the tokens that they were made of."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(args)[0]:
        names = {str(getattr(k, "key", getattr(k, "name", None))) for k in path}
        if _checks.is_array(leaf) and (found := sorted(names & set(_KEPT))):
            raise ValueError(
                f"{caller}: the arguments must hold no keys and values of an earlier call, "
                f"got {found[0]!r} in args{jax.tree_util.keystr(path)}: {_WHY} Build the "
                "model without its cache (decode=False)."
            )
