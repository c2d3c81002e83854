"""`python -m igjax`: why does the shipped sentiment LSTM read a text as it does?

The main job from end to end, for people (terminal, page, picture) and for programs
(JSON). How a text model is explained is in `_command/explaining.py`, in the order of use.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from igjax._command import record, streams
from igjax._command.explaining import explainer
from igjax._command.texts import LARGEST_LINES, LARGEST_TEXT, Refusal, lines, read
from igjax.plots import _report
from igjax.plots._report import Explanation
from igjax.plots._sentence import visible

EXPLAINED, NOT_MET, REFUSED, INTERRUPTED = 0, 1, 2, 130
WRITERS: dict[str, Callable[[Explanation], bytes]] = {
    "html": _report.page,
    "png": _report.picture,
    "json": record.explained,
}
HELP = """\
Explains how the sentiment LSTM that ships with igjax reads a text: which words
speak for praise (blue), which for criticism (orange), and how far these numbers
can be trusted."""
EPILOG = """\
examples:
  python -m igjax "A wonderful film, though far too long."
  python -m igjax --file review.txt --html review.html --png review.png
  echo "Not bad at all!" | python -m igjax -
  python -m igjax -- "-5 stars, boring"
  python -m igjax "Not bad at all!" --json - | python -m json.tool
  python -m igjax --lines --file reviews.txt --json reviews.jsonl

The value of a word says how much of the score it accounts for, compared with a
text of as many words that the model does not know. The values add up to the
difference of both scores, up to the gap; the certificate shows it, the estimated
error, and what 50 fixed steps would have said. Colors are left out where NO_COLOR
is set or the output is no terminal; then a number follows each word.

Files are written where you ask for them. A PATH of - is standard output, and then
nothing else is written there. JSON has the words with places, values and errors,
the scores, the gap, the cost and the status; what each name means is told by
  python -m pydoc igjax._command.record

Most of the time goes into compiling the model, once for each of five lengths. To
keep the programs for the next time, set JAX_COMPILATION_CACHE_DIR=~/.cache/jax.

exit status:
    0  explained, and the tolerance was met and verified
    1  explained, but for some text the tolerance was not met: it is said why
    2  wrong arguments, a text that cannot be explained, a file not written
  130  interrupted"""


def main(argv: Sequence[str] | None = None) -> int:
    """Explains a text, for a person to read, and in files that were asked for.

    Use it as `python -m igjax TEXT`; `--help` tells the rest.

    Args:
        argv: the arguments. Default: those of the command line.

    Returns:
        The exit status: 0, or 1 if the tolerance was not met, 2 if the text could not be
        explained, 130 if the user interrupted it.

    Example:
        >>> main([""])
        2
    """
    streams.reopen()
    options = _options(argv)
    try:
        _check_extras(options)
        return (_each_line if options.lines else _one_text)(options)
    except Refusal as refusal:
        streams.complain(str(refusal))
        return REFUSED
    except KeyboardInterrupt:
        streams.status()
        return INTERRUPTED


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m igjax",
        description=HELP,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("text", nargs="*", metavar="TEXT", help="the text, or - to read standard input")
    add("--file", type=Path, metavar="PATH", help="read the text from here")
    add("--lines", action="store_true", help="explain each line by itself; no page, no PNG")
    add("--html", type=Path, metavar="PATH", help="write a page here")
    add("--png", type=Path, metavar="PATH", help="write a picture here")
    add(
        "--json",
        type=Path,
        metavar="PATH",
        help="write the numbers here; with --lines, an object on each line (JSON Lines)",
    )
    add(
        "--tolerance",
        type=_tolerance,
        default=1e-2,
        metavar="T",
        help="errors to allow, those of all words together, as a part of the sum of the "
        "sizes of their values: above 0, below 1 (default: 0.01)",
    )
    options = parser.parse_args(argv)
    if bool(options.text) == bool(options.file):
        parser.error("give either a TEXT (- for standard input) or --file PATH")
    # Not Path.is_file, which raises where a text is too long for a name.
    if len(options.text) == 1 and os.path.isfile(options.text[0]):
        name = visible(options.text[0])
        parser.error(f"{name} is a file: to explain what it says, --file {name}")
    if options.lines and (options.html or options.png):
        parser.error("--html and --png show one text: leave out --lines, or use --json")
    outputs = list(_outputs(options).values())
    if outputs.count(streams.STANDARD_OUTPUT) > 1:
        parser.error("only one of --html, --png and --json can go to standard output (-)")
    files = [path for path in (*outputs, options.file) if path and path != Path("-")]
    if len({path.resolve() for path in files}) < len(files):
        parser.error("--file, --html, --png and --json must be different files")
    return options


def _tolerance(text: str) -> float:
    try:
        tolerance = float(text)
    except ValueError:
        tolerance = 0.0
    if not 0 < tolerance < 1:
        told = f"must be a number above 0 and below 1, such as 0.01, got {visible(text)}"
        raise argparse.ArgumentTypeError(told)
    return tolerance


def _outputs(options: argparse.Namespace) -> dict[str, Path]:
    return {kind: path for kind in WRITERS if (path := getattr(options, kind))}


def _check_extras(options: argparse.Namespace) -> None:
    names = ["flax", "optax", *["jinja2"] * bool(options.html)]
    for name in [*names, *["matplotlib"] * bool(options.png)]:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise Refusal(
                f"{name} cannot be imported ({error}). Install what explaining a text "
                'needs with: pip install "igjax[models,plots]"'
            ) from error


def _one_text(options: argparse.Namespace) -> int:
    text, outputs = read(options.text, options.file, LARGEST_TEXT), _outputs(options)
    compare = _for_people(options) or "html" in outputs
    streams.status("explaining: some 15 seconds, most of it for compiling ...")
    e = explainer(options.tolerance, compare=compare)(text)
    if _for_people(options):
        streams.say(_report.terminal(e, streams.in_color(), streams.width()) + "\n")
    written = [_write(options, WRITERS[kind](e), path) for kind, path in outputs.items()]
    judged = _judged(e, "explained")
    return judged if all(written) else REFUSED


def _write(options: argparse.Namespace, content: bytes, path: Path) -> bool:
    """True if the file was written; the others are not lost with one that was not."""
    try:
        streams.write(path, content)
    except Refusal as refusal:
        streams.complain(str(refusal))
        return False
    if _for_people(options):
        streams.say(f"  wrote {visible(str(path))}")
    return True


def _each_line(options: argparse.Namespace) -> int:
    texts = lines(read(options.text, options.file, LARGEST_LINES))
    explain = explainer(options.tolerance, compare=False)
    found = []
    with streams.sink(options.json) as put:
        for line, text in texts:
            streams.status(f"explaining text {len(found) + 1} of {len(texts)} ...")
            status, row, report = _line(explain, line, text)
            found.append(status)
            heard = put(row)
            if report and _for_people(options):
                heard = streams.say(report) or options.json
            if not heard:
                break
    if _for_people(options):
        count = f"{len(found) - found.count(REFUSED)} of {len(texts)} texts"
        streams.say(f"Explained {count}, {found.count(EXPLAINED)} to the tolerance.")
    return max(found)


def _line(explain, line: int, text: str) -> tuple[int, bytes, str]:
    """The status of a line, its record, and the report for people."""
    try:
        e = explain(text)
    except Refusal as refusal:
        streams.complain(f"line {line}: {refusal}")
        return REFUSED, record.refused(text, str(refusal), line), ""
    report = _report.brief(e, line, streams.in_color(), streams.width())
    return _judged(e, f"line {line}: explained"), record.explained(e, line), report + "\n"


def _judged(e: Explanation, told: str) -> int:
    if e.result.converged:
        return EXPLAINED
    streams.complain(f"{told}, but {_report.meaning(e.result)}.")
    return NOT_MET


def _for_people(options: argparse.Namespace) -> bool:
    return streams.STANDARD_OUTPUT not in _outputs(options).values()


if __name__ == "__main__":
    sys.exit(main())
