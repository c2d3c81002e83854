"""A text explained by the sentiment LSTM: embed, attribute, certify.

The value of a word is the sum over the numbers that embed it, and so is its error, a
safe one: `igjax.grouped` would find the words with fewer gradients, but with errors that
are too small more often. Texts are padded to a few sizes, with words that are those
of the baseline and that the model does not read: one compiled program serves every text
of a size, and a text has the same values alone and among others.
"""

from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

import igjax
from igjax._command.texts import Refusal
from igjax.plots._report import Explanation, by_word

FEWEST, MOST = 16, 256  # words of a program; the model was trained on no more
STEPS = 50


def explainer(tolerance: float, *, compare: bool) -> Callable[[str], Explanation]:
    """Makes `explain(text)`, which raises a Refusal where there is nothing to explain.

    With `compare` an explanation tells as well what 50 fixed steps would have said.
    """
    from igjax.models import sentiment

    def logit(ids, length, params):
        return cast(jax.Array, model.apply(params, ids, length))[..., 0]

    model, params, vocabulary = sentiment.load()
    embed, f = igjax.from_embedding(logit)
    rules = [igjax.rules.adaptive(tolerance), igjax.rules.gauss_legendre(STEPS)]
    attributions = [igjax.integrated_gradients(f, rule=r) for r in rules[: 1 + compare]]

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
        results = [attribute(x, baseline, *args) for attribute in attributions]
        return Explanation(
            text=text,
            words=[token.text for token in read],
            starts=[token.start for token in read],
            unknown=[token.id == sentiment.UNKNOWN for token in read],
            values=by_word(results[0].values)[: len(read)],
            errors=by_word(results[0].error)[: len(read)],
            result=results[0],
            fixed=results[1] if compare else None,
            tolerance=tolerance,
            left_out=len(tokens) - len(read),
        )

    return explain


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
