"""Signals: what is heard or measured above, what it does to the score below.

Time goes to the right in all rows. A picture has some hundred columns, so the values of
long signals are added up over as many samples as fall into one; the label says so, and
the errors are added up, too.
"""

from typing import TYPE_CHECKING

import numpy as np

from igjax.attribution import Attribution
from igjax.plots import _figures, _scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["audio", "series"]

COLUMNS = 400
LOUDNESS = 80  # decibels from white to black


def series(result: Attribution, signal, times=None, ax: "Axes | None" = None) -> "Axes":
    """Draws a time series, and below it its values with a band of their errors.

    Use it for measurements over time; where the gray band crosses zero, not even the sign
    is known. The values of several channels are added up. Of more than 400 samples,
    neighbors are added up.

    Args:
        result: of one example, with values of shape (T,) or (T, C).
        signal: the series, a line for each channel: shape (T,) or (T, C).
        times: of the T samples, ascending, evenly spaced. Default: their numbers.
        ax: axes to divide. Default: those of a new figure.

    Returns:
        The axes; the two rows are its `child_axes`.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if the result is a batch, or a shape does not fit.

    Example:
        >>> import igjax, igjax.plots, jax.numpy as jnp
        >>> x = jnp.sin(jnp.arange(100.0))
        >>> result = igjax.integrated_gradients(lambda x: x[50:].max())(x, 0.0)
        >>> above, below = igjax.plots.signals.series(result, x).child_axes
        >>> above.lines[0].get_ydata().size
        100
    """
    signal = np.asarray(signal, np.float64)
    values, errors = _along("series", result, signal)
    moments = np.arange(len(values)) if times is None else np.asarray(times, np.float64)
    if (
        moments.shape != values.shape
        or len(moments) < 2
        or not np.all(np.diff(moments) > 0)
    ):
        raise ValueError(
            "series: there must be at least two samples, at ascending times of shape "
            f"({len(values)},), got times of shape {moments.shape}."
        )
    axes = ax or _figures.new_axes("series", 7.0, 3.6)[1]
    above, below = _figures.rows(axes, (1, 1))
    shades = "0.15", "0.5", "0.7"
    for number, line in enumerate(signal.reshape(len(signal), -1).T):
        above.plot(moments, line, color=shades[number % 3], linewidth=0.9)
    above.set_ylabel("signal")
    _values(below, values, errors, moments[0], moments[1] - moments[0])
    _figures.note(below, "sample" if times is None else "time", result)
    return axes


def audio(result: Attribution, sound, rate: float, ax: "Axes | None" = None) -> "Axes":
    """Draws a recording: its spectrogram, its waveform, and the values below them.

    Use it for models of waveforms. The spectrogram is that of the sound, not of the
    values: magnitudes of windows of 25 ms, every 10 ms, from the loudest (black) to 80
    decibels below it (white).

    Args:
        result: of one example, with values of shape (T,).
        sound: the waveform, of shape (T,), at least 25 ms of it.
        rate: samples a second.
        ax: axes to divide. Default: those of a new figure.

    Returns:
        The axes; the three rows are its `child_axes`.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if the result is a batch, or a shape does not fit.

    Example:
        >>> import igjax, igjax.plots, jax.numpy as jnp
        >>> x = jnp.sin(jnp.arange(8000.0))
        >>> result = igjax.integrated_gradients(jnp.vdot)(x, 0.0, x)
        >>> axes = igjax.plots.signals.audio(result, x, rate=8000)
        >>> [row.get_ylabel() for row in axes.child_axes][:2]
        ['kHz', 'sound']
    """
    sound = np.asarray(sound, np.float64)
    values, errors = _along("audio", result, sound)
    if sound.ndim != 1 or len(sound) < 0.025 * rate:
        raise ValueError(
            "audio: sound must have shape (T,) and last for at least 25 ms, got shape "
            f"{sound.shape} at a rate of {rate}."
        )
    axes = ax or _figures.new_axes("audio", 7.0, 4.8)[1]
    top, middle, below = _figures.rows(axes, (1.2, 0.8, 1))
    _spectrogram(top, sound, rate)
    middle.plot(np.arange(len(sound)) / rate, sound, color="0.15", linewidth=0.4)
    middle.set_ylabel("sound")
    _values(below, values, errors, 0.0, 1 / rate)
    below.set_xlim(0, len(sound) / rate)
    _figures.note(below, "seconds", result)
    return axes


def _along(caller: str, result: Attribution, signal) -> tuple[np.ndarray, np.ndarray]:
    values, errors = _figures.arrays(caller, result)
    if values.ndim not in (1, 2) or signal.shape != values.shape:
        raise ValueError(
            f"{caller}: values must have shape (T,) or (T, C), and the signal the same, "
            f"got {values.shape} and {signal.shape}."
        )
    return tuple(a.reshape(len(a), -1).sum(axis=1) for a in (values, errors))


def _values(axes: "Axes", values, errors, start: float, pitch: float) -> None:
    """Steps up in blue and down in orange, and a gray band of errors at their ends."""
    size = -(-len(values) // COLUMNS)
    starts = np.arange(0, len(values), size)
    added, doubts = (np.add.reduceat(a, starts) for a in (values, errors))
    edges = start + pitch * (np.append(starts, len(values)) - 0.5)
    doubts = np.where(np.isfinite(doubts), doubts, 0.0)
    for side in (1, -1):
        color = _scale.sides(side)
        axes.stairs(np.where(side * added > 0, added, 0), edges, fill=True, color=color)
    band = {"baseline": added - doubts, "fill": True, "color": "0.2", "alpha": 0.35}
    axes.stairs(added + doubts, edges, **band)
    axes.axhline(0.0, color="0.25", linewidth=0.8)
    axes.set_ylabel("attribution" if size == 1 else f"attribution\nof {size} samples")


def _spectrogram(axes: "Axes", sound: np.ndarray, rate: float) -> None:
    window, step = round(0.025 * rate), max(1, round(0.01 * rate))
    frames = np.lib.stride_tricks.sliding_window_view(sound, window)[::step]
    power = np.abs(np.fft.rfft(frames * np.hanning(window))).T ** 2
    loudest = power.max() or 1.0
    level = 10 * np.log10(np.maximum(power / loudest, 10 ** (-LOUDNESS / 10)))
    middle = window / 2 / rate
    ends = middle - step / rate / 2, middle + (len(frames) - 0.5) * step / rate
    axes.imshow(
        level,
        origin="lower",
        aspect="auto",
        cmap="gray_r",
        vmin=-LOUDNESS,
        vmax=0,
        extent=(*ends, 0, rate / 2000),
    )
    axes.set_ylabel("kHz")
