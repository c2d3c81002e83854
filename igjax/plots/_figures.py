"""Where figures come from: the axes that the caller gives, or new ones.

Matplotlib is an extra, so it is imported when something is drawn. Pyplot is not used: a
library must not open windows or keep figures alive.
"""

from typing import TYPE_CHECKING

import numpy as np

from igjax.attribution import Attribution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_axes(caller: str, width: float, height: float) -> "tuple[Figure, Axes]":
    """Makes a figure of that many inches, with axes that fit themselves to it.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f'{caller} needs matplotlib. Install it: pip install "igjax[plots]"'
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def figure_of(axes: "Axes") -> "Figure":
    """The figure that holds the axes, directly or in a subfigure."""
    figure = axes.get_figure(root=True)
    if figure is None:
        raise ValueError("plots: the axes must belong to a figure, these were removed.")
    return figure


def check_single(caller: str, result: Attribution) -> None:
    """Checks that a result is that of one example and one output.

    Raises:
        ValueError: if it has an axis for examples or outputs.
    """
    if np.ndim(result.evaluations):
        raise ValueError(
            f"{caller}: the result must be that of one example, got a batch of shape "
            f"{np.shape(result.evaluations)}. Use result.example(i)."
        )
    if np.ndim(result.score):
        raise ValueError(
            f"{caller}: the result must be that of one output, got outputs of shape "
            f"{np.shape(result.score)}. Choose one in f: igjax.select(f)."
        )
