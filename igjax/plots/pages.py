"""A result as a page for a colleague: what it says, how far to trust it, what made it."""

import base64
import datetime
import io
import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from igjax.attribution import Attribution
from igjax.diagnostics import certificate
from igjax.methods.groups import aggregate
from igjax.plots import _figures, _page, _scale
from igjax.plots._sentence import sentence
from igjax.running.records import to_records
from igjax.running.storage import called

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["report"]

SIDES = ("lower score", "higher score")


def report(
    result: Attribution,
    *,
    picture: "Axes | Figure | Sequence[Axes] | None" = None,
    words: Sequence[str] | None = None,
    names=None,
    x=None,
    method=None,
    rule=None,
    path=None,
    baseline=None,
    title: str = "Attribution of a score",
    notes: Sequence[str] = (),
) -> str:
    """Writes a page with a result, its certificate, and what it was made by.

    Use it to send an explanation to somebody, or to keep it beside the model. The page is
    one file: a picture is in it, nothing is loaded from elsewhere, nothing in it runs. It
    shows every text that it is given, never obeys it.

    Args:
        result: of one example and one output, of any method.
        picture: what `igjax.plots` has drawn of it, of an image or a series, say: axes, a
            list of them, or their figure.
        words: of a text, one for each value, or for each row of values of embeddings, which
            are added up (`igjax.aggregate`): the certificate is that of the words. They are
            colored, and listed in the place of features.
        names: of the features, as in `igjax.to_records`.
        x: what the features are, as in `igjax.to_records`, to be told beside their values.
        method: what made the result: a name or the function, as in `igjax.save`.
        rule: the rule.
        path: the path, a name or the function.
        baseline: what x was compared with, likewise, or a number.
        title: of the page.
        notes: paragraphs at its end: what was asked, of which model, on which data.

    Returns:
        The page; write it with `encoding="utf-8"`. As the last value of a notebook's cell
        it is shown there.

    Raises:
        ImportError: if jinja2 is not installed.
        TypeError: if words is one string, or the picture is none.
        ValueError: if the result is a batch or a Jacobian, or words, names or x do not fit.

    Example:
        >>> import igjax, igjax.plots, jax.numpy as jnp
        >>> row, rule = jnp.array([3.0, 1.5]), igjax.rules.gauss_legendre(8)
        >>> result = igjax.integrated_gradients(jnp.prod, rule=rule)(row, 0.0)
        >>> page = igjax.plots.pages.report(
        ...     result,
        ...     names=["age", "<script>"],
        ...     x=row,
        ...     method=igjax.integrated_gradients,
        ...     rule=rule,
        ...     baseline=0.0,
        ... )
        >>> "gauss_legendre(8)" in page, "<script>" in page
        (True, False)
    """
    caller = "report"
    _figures.check_single(caller, result)
    result = result if words is None else _by_word(result)
    lines, advice = certificate(result)
    made_by = {"method": method, "rule": rule, "path": path, "baseline": baseline}
    told = {name: _fact(thing) for name, thing in made_by.items() if thing is not None}
    shown, bars = _of_words(words, result) if words is not None else (None, None)
    return _page.page(
        caller,
        title,
        words=shown,
        picture=None if picture is None else _encoded(picture),
        bars=bars or _of_features(result, names, x),
        tables=[
            [("Certificate", ""), *lines.items()],
            [("Made by", ""), *told.items(), *_versions().items()],
        ],
        notes=[advice, *notes],
    )


def _by_word(result: Attribution) -> Attribution:
    """The result of words from that of what embeds them, with the certificate of words."""
    shape = np.shape(result.values)
    if len(shape) < 2:
        return result
    return aggregate(
        result, np.arange(shape[0]).reshape(-1, *(1,) * (len(shape) - 1)), shape[0]
    )


def _of_words(words: Sequence[str], result: Attribution):
    """The colored sentence, and the table of its words."""
    s = sentence("report", words, result.values, result.error)
    return _page.words(s, *SIDES), _page.word_bars(s)


def _of_features(result: Attribution, names, x) -> dict[str, Any]:
    """The table of the largest features."""
    records = to_records(result, names, x=x)
    column = lambda name: [record[name] for record in records]
    told = [""] * len(records) if x is None else [_scale.short(a) for a in column("x")]
    values, errors = (np.array(column(name), np.float64) for name in ("value", "error"))
    heading = "" if x is None else "x"
    return _page.bars(column("feature"), told, values, errors, "features", heading)


def _fact(thing) -> str:
    """What a method, a rule, a path or a baseline is called."""
    if np.ndim(thing):
        return f"{np.asarray(thing).dtype}{list(np.shape(thing))}"
    return str(called(thing))


def _versions() -> dict[str, str]:
    own = {"igjax": version("igjax"), "jax": jax.__version__}
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return own | {"Python": platform.python_version(), "date": today}


def _encoded(picture) -> str:
    """The figure of a picture as PNG, in base64."""
    first = picture[0] if isinstance(picture, list | tuple | np.ndarray) else picture
    figure = first if hasattr(first, "savefig") else _figure_of(first)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150, bbox_inches="tight")
    return base64.b64encode(content.getvalue()).decode()


def _figure_of(axes) -> "Figure":
    if not hasattr(axes, "get_figure"):
        raise TypeError(
            "report: picture must be axes, a list of them or a figure, got "
            f"{type(axes).__name__}. Every function of igjax.plots that draws returns axes."
        )
    return _figures.figure_of(axes)
