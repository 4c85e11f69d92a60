"""Charts as inline SVG that takes the page's fonts and colours, light or dark.

matplotlib draws in colours that no chart uses otherwise; each is then replaced by a variable of the page's style.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kvae.report.markup import text

INK, FAINT, FIRST, SECOND = "#010203", "#010204", "#010205", "#010206"
_VARIABLES = {INK: "var(--ink)", FAINT: "var(--faint)", FIRST: "var(--first)", SECOND: "var(--second)"}

FIRST_CSS, SECOND_CSS = _VARIABLES[FIRST], _VARIABLES[SECOND]

_TEN = ("#4e79a7", "#f28e2b", "#e15759", "#59a14f", "#b07aa1", "#d4a72c", "#3fa7a0", "#f07aa0", "#9c755f", "#8a8f98")

_PARAMETERS: Any = {
    "svg.fonttype": "none",  # words stay words: they can be searched, and take the page's font
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "grid.alpha": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "text.color": INK,
    "lines.linewidth": 1.6,
}


def colour(index: int, num: int) -> str:
    """Return the colour of a class as hex, one that is seen on light and on dark."""
    if num <= len(_TEN):
        return _TEN[index]
    import colorsys

    red, green, blue = colorsys.hls_to_rgb(index / num, 0.45 + 0.15 * (index % 2), 0.6)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


@contextmanager
def _plain() -> Iterator[None]:
    """The settings of charts, whatever the user's own are."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_PARAMETERS)
        yield


def draw(name: str, about: str, plot: Callable[[Any], object], size: tuple[float, float] = (4.2, 2.6)) -> str:
    """Return a chart as SVG.

    Args:
        name: of this chart alone on the page: letters, digits and dashes.
        about: what it shows, for those who cannot see it; a plain text.
        plot: draws on the axes that it is given.
        size: width and height in inches of 72 units.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with _plain():
        matplotlib.rcParams["svg.hashsalt"] = name
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        plot(figure.add_subplot())
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return _clean(file.getvalue(), name, about)


def _clean(found: str, name: str, about: str) -> str:
    """Return what matplotlib wrote without what a page needs not, its names made the page's own."""
    found = found[found.index("<svg") :]
    for part in (r"<!--.*?-->", r"<metadata>.*?</metadata>", r"<style.*?</style>", r'(?<=</g>)\s+|(?<=">)\n\s*(?=<)'):
        found = re.sub(part, "", found, flags=re.DOTALL)
    box = re.search(r'viewBox="([\d. ]+)"', found)
    assert box is not None
    opened = f'<svg viewBox="{box[1]}" role="img" aria-label="{text(about, 200)}">'
    found = opened + found[found.index(">") + 1 :].strip()
    used = set(re.findall(r'(?:href="|url\()#([\w.-]+)', found))

    def renamed(match: re.Match[str]) -> str:
        return f' id="{name}-{match[1]}"' if match[1] in used else ""

    found = re.sub(r' id="([^"]*)"', renamed, found)
    found = re.sub(r'(href="|url\()#', rf"\g<1>#{name}-", found).replace("xlink:href", "href")
    for placeholder, variable in _VARIABLES.items():
        found = found.replace(placeholder, variable)
    return found
