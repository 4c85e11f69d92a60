"""Views of results in a notebook: a captioned picture, or a table."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from kvae_serve.latent_path import LatentPath

MAX_COLUMNS, MAX_ROWS = 10, 20
"""Images per row and rows of a picture in a notebook."""

_PICTURE_WIDTH = 480
_MAX_SCALE = 4


class View:
    """Mixin for results that a notebook shows: `_caption`, and `_picture` or `_table`."""

    def _caption(self) -> str:
        """Return one line that describes the result."""
        raise NotImplementedError

    def _picture(self) -> np.ndarray | None:
        """Return uint8 `[height, width, channels]`, or None if the result is not made of images."""
        return None

    def _table(self) -> Mapping[str, Sequence[Any]]:
        """Return the first rows of the result, column by column."""
        return {}

    def _show_text(self) -> None:
        """Print the result in a terminal."""
        raise NotImplementedError

    def _repr_png_(self) -> bytes | None:
        from kvae_serve.writers import png

        pixels = self._picture()
        return None if pixels is None else png.encode(pixels)

    def _repr_html_(self) -> str:
        pixels = self._picture()
        return figure(self._caption(), pixels) if pixels is not None else table(self._caption(), self._table())

    def show(self) -> None:
        """Show the result: as a picture or table in a notebook, as text in a terminal."""
        interactive = sys.modules.get("IPython")
        if interactive is not None and getattr(interactive.get_ipython(), "kernel", None) is not None:
            interactive.display.display(self)
        else:
            self._show_text()


class PathView(View):
    """Mixin for paths through the latent space, which have a method `path`."""

    def path(self) -> LatentPath:
        """Return rows of images."""
        raise NotImplementedError

    def save(
        self, path: str | os.PathLike[str], *, scale: int | None = None, plain: bool = False, force: bool = False
    ) -> None:
        """Write the images.

        Args:
            path: Output: .png, .gif, .webp, .npz, .npy or .csv.
            scale: Factor that enlarges pictures; by default each image has at least 56 x 56 pixels.
            plain: Write a picture or an animation without captions, enlarged only by `scale`.
            force: Replace an existing output.

        Raises:
            RequestError: The suffix is unknown, or does not fit the data.
            OutputError: The path exists or cannot be written.
        """
        from kvae_serve.writers import paths

        paths.write(os.fspath(path), self.path(), paths.Style(scale, plain), force=force)

    def _caption(self) -> str:
        return repr(self).strip("<>")

    def _picture(self) -> np.ndarray | None:
        path = self.path()
        rows = path.x[:MAX_ROWS]
        return picture(rows.reshape(-1, *rows.shape[2:]), rows.shape[1], path.manifest.data.range)

    def _table(self) -> Mapping[str, Sequence[Any]]:
        from kvae_serve.writers import csv

        path = self.path()
        columns = {name: values.ravel() for name, values in (path.positions | path.conditions).items()}
        values = path.x.reshape(-1, path.manifest.data.num_values)
        columns |= {name: values[:, index] for index, name in enumerate(csv.column_names(path.manifest.data))}
        return {name: column[:MAX_ROWS].tolist() for name, column in list(columns.items())[: 2 * MAX_COLUMNS]}

    def _show_text(self) -> None:
        from kvae_serve.writers import paths

        paths.show(self.path())


def figure(caption: str, pixels: np.ndarray) -> str:
    """Return HTML of a picture, enlarged if it is small.

    Args:
        caption: Text under the picture.
        pixels: uint8 `[height, width, channels]`.
    """
    import base64
    import html

    from kvae_serve.writers import png

    width = pixels.shape[1] * max(1, min(_MAX_SCALE, _PICTURE_WIDTH // pixels.shape[1]))
    data = base64.b64encode(png.encode(pixels)).decode()
    text = html.escape(caption)
    return (
        f'<figure><img src="data:image/png;base64,{data}" width="{width}" alt="{text}" '
        f'style="image-rendering: pixelated"><figcaption>{text}</figcaption></figure>'
    )


def table(caption: str, columns: Mapping[str, Sequence[Any]]) -> str:
    """Return HTML of a table with a header.

    Args:
        caption: Text above the table.
        columns: Cells by name of the column, as many in each; numbers are rounded to 4 digits.
    """
    import html

    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    rows = zip(*columns.values(), strict=True)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(_text(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><caption>{html.escape(caption)}</caption><tr>{head}</tr>{body}</table>"


def _text(cell: Any) -> str:
    return f"{cell:.4g}" if isinstance(cell, float | np.floating) else str(cell)


def picture(x: np.ndarray, columns: int, value_range: tuple[float, float] | None) -> np.ndarray | None:
    """Return a grid of images, or None if `x` does not hold images with 1 or 3 channels.

    Args:
        x: `[num, *shape]` in data units.
        columns: Images per row.
        value_range: Data values that become black and white.
    """
    from kvae_serve.writers.grid import grid

    if x.ndim != 4 or x.shape[-1] not in (1, 3) or not len(x):
        return None
    return grid(np.asarray(x, np.float32), columns, value_range)
