"""Charts by matplotlib, as SVG in `data:` addresses, readable on light and dark pages."""

from __future__ import annotations

import colorsys
import io
import warnings
from collections.abc import Callable
from typing import Any

from kvae.report.blocks import Picture, address

FIRST, SECOND = "#3f7fc4", "#d9722b"
_TEN = ("#4e79a7", "#f28e2b", "#e15759", "#59a14f", "#b07aa1", "#d4a72c", "#3fa7a0", "#f07aa0", "#9c755f", "#8a8f98")
_INK, _FAINT = "#7d8590", "#8b949e"

_SETTINGS: Any = {
    "svg.fonttype": "none",  # text stays text, so that the reader's fonts show every script
    "svg.hashsalt": "kvae",
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _FAINT,
    "grid.linewidth": 0.5,
    "grid.alpha": 0.35,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "text.color": _INK,
    "lines.linewidth": 1.6,
}


def colour(index: int, num: int) -> str:
    """Return the colour of a class as hex, visible on light and dark pages."""
    if num <= len(_TEN):
        return _TEN[index]
    red, green, blue = colorsys.hls_to_rgb(index / num, 0.45 + 0.15 * (index % 2), 0.6)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def draw(
    about: str, plot: Callable[[Any], object], caption: str = "", size: tuple[float, float] = (4.2, 2.6)
) -> Picture:
    """Return a chart.

    Args:
        about: text for people who cannot see it.
        plot: function that draws on matplotlib axes.
        caption: text above it.
        size: width and height in inches.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    file = io.BytesIO()
    # The user's own settings of matplotlib do not change the page.
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        plot(figure.add_subplot())
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return Picture(address(file.getvalue(), "image/svg+xml"), about, caption)
