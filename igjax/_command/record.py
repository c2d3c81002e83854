"""An explanation as JSON, for programs: one object, on one line, in ASCII.

The names below stay as they are within a version of the schema; a later version may have
more of them, and a change of what one means has a new number in `schema`. A number that
is not finite is null.

    schema          "igjax.explanation/1"
    igjax           the version of igjax, which has the weights of the model
    model           "igjax.models.sentiment": its score is a logit, positive for praise
    line            the number of the line, from 1, with --lines; else null
    text            the whole text, as it was read
    refused         why the text could not be explained; then all that follows is null
    left_out        how many words there are before those that the model reads
    words           a list, in the order of the text, of
        text        the word as it is written: text[start:end]
        start, end  its place in the text, in characters (Unicode code points), from 0
        known       whether the model knows the word; if not, its value is 0
        value       its share of the score
        error       the estimated absolute error of the value
    score           of the text
    baseline_score  of as many words that the model does not know
    sum             of the values
    delta           sum - (score - baseline_score), up to rounding
    error           the sum of the errors
    cost            {"gradients": ..., "scores": ...}: evaluations of the model
    status          the name of an igjax.Status
    meaning         the status in words
    converged       whether the tolerance was met, and that was verified
    tolerance       what was asked for: the errors of all words, together, as a part of
                    the sum of the sizes of their values
"""

import json
import math
from importlib.metadata import version

import numpy as np

import igjax
from igjax.plots._report import Explanation

SCHEMA = "igjax.explanation/1"
EXPLAINED = (
    *("left_out", "words", "score", "baseline_score", "sum", "delta", "error"),
    *("cost", "status", "meaning", "converged", "tolerance"),
)


def explained(e: Explanation, line: int | None = None) -> bytes:
    """The line of a text that was explained."""
    values, errors = [[_number(np.float32(n)) for n in a] for a in (e.values, e.errors)]
    columns = zip(e.words, e.starts, e.unknown, values, errors, strict=True)
    status = igjax.Status(int(e.result.status))
    fields = {
        "left_out": e.left_out,
        "words": [
            {
                "text": word,
                "start": start,
                "end": start + len(word),
                "known": not unknown,
                "value": value,
                "error": error,
            }
            for word, start, unknown, value, error in columns
        ],
        "score": _number(e.result.score),
        "baseline_score": _number(e.result.baseline_score),
        "sum": _sum(values),
        "delta": _number(e.result.delta),
        "error": _sum(errors),
        "cost": {
            "gradients": int(e.result.evaluations),
            "scores": int(e.result.forwards),
        },
        "status": status.name,
        "meaning": status.meaning,
        "converged": bool(e.result.converged),
        "tolerance": e.tolerance,
    }
    return _line(e.text, line, None, fields)


def refused(text: str, reason: str, line: int | None = None) -> bytes:
    """The line of a text that could not be explained."""
    return _line(text, line, reason, dict.fromkeys(EXPLAINED))


def _line(text: str, line: int | None, reason: str | None, fields: dict) -> bytes:
    head = {
        "schema": SCHEMA,
        "igjax": version("igjax"),
        "model": "igjax.models.sentiment",
        "line": line,
        "text": text,
        "refused": reason,
    }
    return json.dumps(head | fields, allow_nan=False).encode("ascii") + b"\n"


def _number(a) -> float | None:
    """A number with as many digits as its dtype has; None if it is not finite."""
    number = float(str(np.asarray(a)[()]))
    return number if math.isfinite(number) else None


def _sum(numbers: list[float | None]) -> float | None:
    finite = [number for number in numbers if number is not None]
    return math.fsum(finite) if len(finite) == len(numbers) else None
