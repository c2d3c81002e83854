"""`python -m igjax`: why does the shipped sentiment LSTM read a sentence as it does?

The main job from end to end: embed, attribute, certify, draw. It is also the shortest
complete example of explaining a text model, so the parts are in the order of use.
"""

import argparse
import contextlib
import importlib
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import jax
import jax.numpy as jnp

import igjax
from igjax.plots import _report
from igjax.plots._sentence import visible

LAST_WORDS = 256  # the model was trained on no more
LARGEST_TEXT = 10_000_000  # bytes
HELP = """\
Explains how the sentiment LSTM that ships with igjax reads a text: which words speak for
praise (blue), which for criticism (orange), and how far these numbers can be trusted."""
EPILOG = """\
examples:
  python -m igjax "A wonderful film, though far too long."
  python -m igjax --file review.txt --html review.html --png review.png
  echo "Not bad at all!" | python -m igjax -
  python -m igjax -- "-5 stars, boring"

The value of a word says how much of the score it accounts for, compared with a text of
as many words that the model does not know. The values add up to the difference of both
scores, up to the gap; the certificate shows it, the estimated error, and what 50 fixed
steps would have said. Colors are left out where NO_COLOR is set or the output is no
terminal; then a number follows each word.

exit status: 0 if the text was explained, 2 if it could not be."""


class Refusal(Exception):
    """Something that the user has to change; its message says what."""


def main(argv: Sequence[str] | None = None) -> int:
    """Explains a text: prints the words, writes a page and a picture.

    Use it as `python -m igjax TEXT`; `--help` tells the rest.

    Args:
        argv: the arguments. Default: those of the command line.

    Returns:
        The exit status: 0, or 2 if the text could not be explained.

    Example:
        >>> main([""])
        2
    """
    options = _options(argv)
    try:
        _check_extras()
        explanation = explain(_text(options))
        _say(_report.terminal(explanation, _in_color(), _width()) + "\n")
        for path, content in (
            (options.html, _report.page(explanation)),
            (options.png, _report.picture(explanation)),
        ):
            _write(path, content)
            _say(f"  wrote {visible(str(path))}")
    except Refusal as refusal:
        print(f"python -m igjax: {visible(str(refusal))}", file=sys.stderr)
        return 2
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m igjax",
        description=HELP,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "text", nargs="*", metavar="TEXT", help="the text, or - to read standard input"
    )
    parser.add_argument("--file", type=Path, metavar="PATH", help="read the text from here")
    for kind in ("html", "png"):
        default = Path(f"igjax_explanation.{kind}")
        told = f"write the {kind.upper()} file here (default: {default})"
        parser.add_argument(
            f"--{kind}", type=Path, metavar="PATH", default=default, help=told
        )
    options = parser.parse_args(argv)
    if bool(options.text) == bool(options.file):
        parser.error("give either a TEXT (- for standard input) or --file PATH")
    return options


def _check_extras() -> None:
    for name in ("flax", "optax", "matplotlib"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise Refusal(
                f"{name} cannot be imported ({error}). Install what explaining a text "
                'needs with: pip install "igjax[models,plots]"'
            ) from error


def _text(options: argparse.Namespace) -> str:
    if not options.file and options.text != ["-"]:
        return " ".join(options.text)
    source = options.file or "standard input"
    try:
        raw = _bytes(options.file)
        if len(raw) > LARGEST_TEXT:
            raise Refusal(f"{source} is larger than {LARGEST_TEXT // 10**6} MB.")
        if b"\0" in raw:
            raise Refusal(f"{source} is no text: it holds a zero byte.")
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refusal(
            f"{source} is no UTF-8 text: byte {error.start} is "
            f"0x{error.object[error.start]:02x}. Save it as UTF-8."
        ) from error
    except OSError as error:
        raise Refusal(f"cannot read {source}: {error.strerror}.") from error


def _bytes(file: Path | None) -> bytes:
    if file is None:
        return sys.stdin.buffer.read(LARGEST_TEXT + 1)
    with file.open("rb") as stream:
        return stream.read(LARGEST_TEXT + 1)


def explain(text: str) -> _report.Explanation:
    """Attributes the score of a text to its words, at their embeddings."""
    from igjax.models import sentiment

    model, params, vocabulary = sentiment.load()
    tokens = sentiment.tokenize(text, vocabulary)
    _check_words(text, [token.id != sentiment.UNKNOWN for token in tokens])
    left_out = max(len(tokens) - LAST_WORDS, 0)
    tokens = tokens[left_out:]
    ids = jnp.array([token.id for token in tokens], jnp.int32)

    logit = lambda ids, params: cast(jax.Array, model.apply(params, ids))[..., 0]
    embed, f = igjax.from_embedding(logit)
    x = embed(ids, params)
    baseline = embed(jnp.full_like(ids, sentiment.UNKNOWN), params)
    result = igjax.integrated_gradients(f)(x, baseline, ids, params)
    steps = igjax.rules.gauss_legendre(50)
    fixed = igjax.integrated_gradients(f, rule=steps)(x, baseline, ids, params)

    start = tokens[0].start if left_out else 0
    ends = [start, *(token.end for token in tokens)]
    starts = [*(token.start for token in tokens), len(text)]
    return _report.Explanation(
        words=[token.text for token in tokens],
        between=[text[a:b] for a, b in zip(ends, starts, strict=True)],
        unknown=[token.id == sentiment.UNKNOWN for token in tokens],
        values=_report.by_word(result.values),
        errors=_report.by_word(result.error),
        result=result,
        fixed=fixed,
        left_out=left_out,
    )


def _check_words(text: str, known: list[bool]) -> None:
    if not text.strip():
        raise Refusal('the text is empty. Try: python -m igjax "A wonderful film!"')
    if not known:
        raise Refusal("the text has no words.")
    if not any(known[-LAST_WORDS:]):
        raise Refusal(
            "the model knows none of the words, so there is nothing to explain. It was "
            "trained on film reviews in English."
        )


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise Refusal(f"cannot write {path}: {error.strerror}.") from error


def _in_color() -> bool:
    silent = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not silent


def _width() -> int:
    return min(max(shutil.get_terminal_size().columns, 24), 100)


def _say(text: str) -> None:
    coding = sys.stdout.encoding or "utf-8"
    if not coding.lower().startswith("utf"):
        text = text.replace("±", "+-").replace("█", "#")
    # A reader such as head may have closed the pipe: the files are written all the same.
    with contextlib.suppress(BrokenPipeError):
        print(text.encode(coding, "backslashreplace").decode(coding), flush=True)


if __name__ == "__main__":
    sys.exit(main())
