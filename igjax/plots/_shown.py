"""A figure that a notebook shows: as the last value of a cell, without pyplot.

Jupyter draws the figures of pyplot only, of others it prints the size. It asks each value
for its picture, though, so here is the answer.
"""

import io
import struct

import matplotlib.figure

__all__ = ["Figure"]


class Figure(matplotlib.figure.Figure):
    """A figure of matplotlib with a picture for notebooks."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """The picture, twice as fine as it is shown: for screens of any kind."""
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=2 * self.dpi, bbox_inches="tight")
        picture = file.getvalue()
        width, height = struct.unpack(">II", picture[16:24])  # where PNG keeps its size
        return picture, {"width": width // 2, "height": height // 2}
