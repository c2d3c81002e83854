"""A text explained by the sentiment LSTM: embed, attribute, certify.

The value of a word is the sum over the numbers that embed it, and so is its error, a
safe one: `igjax.grouped` would find the words with fewer gradients, but with errors that
are too small more often. Where signs cancel within words a tolerance that the numbers have
met is more for the words, which are what is shown: then it is asked for less. Texts are
padded to a few sizes, with words that are those
of the baseline and that the model does not read: one compiled program serves every text
of a size, and a text has the same values alone and among others.
"""

import dataclasses
from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

import igjax
from igjax._command.texts import Refusal
from igjax.plots._report import Explanation, by_word, share_of_words

FEWEST, MOST = 16, 256  # words of a program; the model was trained on no more
STEPS = 50
ASKS = 3  # tolerances at the embeddings
MARGIN, LEAST = 0.8, 1e-6  # of what is asked for again


def explainer(tolerance: float, *, compare: bool) -> Callable[[str], Explanation]:
    """Makes `explain(text)`, which raises a Refusal where there is nothing to explain.

    With `compare` an explanation tells as well what 50 fixed steps would have said.
    """
    from igjax.models import sentiment

    def logit(ids, length, params):
        return cast(jax.Array, model.apply(params, ids, length))[..., 0]

    model, params, vocabulary = sentiment.load()
    embed, f = igjax.from_embedding(logit)
    by = lambda rule: igjax.integrated_gradients(f, rule=rule)

    def explain(text: str) -> Explanation:
        tokens = sentiment.tokenize(text, vocabulary)
        _check_words(text, [token.id != sentiment.UNKNOWN for token in tokens])
        read = tokens[-MOST:]
        size = max(FEWEST, 1 << (len(read) - 1).bit_length())
        unknown = np.full(size, sentiment.UNKNOWN, np.int32)
        ids = unknown.copy()
        ids[: len(read)] = [token.id for token in read]
        args = jnp.asarray(ids), jnp.int32(len(read)), params
        x, baseline = embed(*args), embed(jnp.asarray(unknown), *args[1:])
        ask = lambda tolerance: by(igjax.rules.adaptive(tolerance))(x, baseline, *args)
        steps = by(igjax.rules.gauss_legendre(STEPS))
        result, asked = _good_for_words(ask, tolerance)
        return Explanation(
            text=text,
            words=[token.text for token in read],
            starts=[token.start for token in read],
            unknown=[token.id == sentiment.UNKNOWN for token in read],
            values=by_word(result.values)[: len(read)],
            errors=by_word(result.error)[: len(read)],
            result=result,
            fixed=steps(x, baseline, *args) if compare else None,
            tolerance=tolerance,
            asked=asked,
            left_out=len(tokens) - len(read),
        )

    return explain


def _good_for_words(ask, tolerance: float) -> tuple[igjax.Attribution, float]:
    """A result whose errors are within the tolerance when they are added up by words.

    Args:
        ask: the result of a tolerance at the embeddings.
        tolerance: that of the words.

    Returns:
        The result, with what all that was asked for has cost, and what was asked for.
        If that was not enough, the status says that the budget is spent.
    """
    asked, result = tolerance, ask(tolerance)
    spent = [result]
    while result.converged and len(spent) < ASKS:
        if (share := share_of_words(result)) <= tolerance:
            break
        asked = max(MARGIN * asked * tolerance / share, LEAST)
        spent.append(result := ask(asked))
    missed = result.converged and share_of_words(result) > tolerance
    total = dataclasses.replace(
        result,
        evaluations=sum(one.evaluations for one in spent),
        forwards=sum(one.forwards for one in spent),
        status=jnp.int32(igjax.Status.BUDGET_SPENT) if missed else result.status,
    )
    return total, asked


def _check_words(text: str, known: list[bool]) -> None:
    if not text.strip():
        raise Refusal('the text is empty. Try: python -m igjax "A wonderful film!"')
    if not known:
        raise Refusal("the text has no words.")
    if not any(known[-MOST:]):
        raise Refusal(
            "the model knows none of the words, so there is nothing to explain. It was "
            "trained on film reviews in English."
        )
