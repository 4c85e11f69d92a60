"""Output of the commands that turn rows into rows: write or show them, then report."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kvae_serve.errors import RequestError, printable

if TYPE_CHECKING:
    from kvae_serve.cli.options import OutputArgs, PictureArgs, RowArgs
    from kvae_serve.row_stream import RowStream
    from kvae_serve.sealed.manifest import Manifest

SHOWN = 16
"""Images shown as text by default."""

MAX_ON_TERMINAL = 100
"""Images shown on a terminal at most."""


def deliver(rows: RowStream, output: OutputArgs, facts: Mapping[str, Any], picture: PictureArgs | None = None) -> None:
    """Write or show the rows, then report the number of rows and `facts`. `picture` is the look of pictures."""
    from kvae_serve.cli import options
    from kvae_serve.writers import dispatch

    manifest = rows.manifest
    if output.path is not None:
        style = dispatch.PictureStyle(picture.scale, picture.plain) if picture else None
        dispatch.stream(output.path, rows, dtype=output.dtype, style=style, force=output.force, quiet=output.quiet)
    elif output.shows_text:
        if rows.holds_images and rows.num_rows > MAX_ON_TERMINAL and sys.stdout is not None and sys.stdout.isatty():
            raise RequestError(
                f"{rows.num_rows:,} images do not fit on a terminal, which shows at most {MAX_ON_TERMINAL}. "
                "Give -o FILE.png to write them, or a smaller -n."
            )
        dispatch.show(rows, quiet=output.quiet)
    else:
        for _ in rows.chunks:  # Compute all rows, so that an error in any of them is reported.
            pass
    noun = "image" if manifest.data.kind == "image" and rows.data_names else "row"
    output.report(
        manifest,
        {"rows": rows.num_rows, **facts},
        f"{rows.num_rows} {noun}{'s' if rows.num_rows > 1 else ''} of {printable(manifest.name, 60)}"
        f"{output.destination}"
        + (f", seed {facts['seed']}" if "seed" in facts else "")
        + _form(manifest, facts)
        + options.effective_sample_size(facts),
    )


def _form(manifest: Manifest, facts: Mapping[str, Any]) -> str:
    """Return whether samples are draws or means; nothing for means of images."""
    if "draw" not in facts or (manifest.data.kind == "image" and not facts["draw"]):
        return ""
    return ", drawn from p(x given z)" if facts["draw"] else ", means of p(x given z)"


def num_rows(rows: RowArgs, output: OutputArgs, manifest: Manifest) -> int | None:
    """Return the number of rows to make; None means all. Images shown as text are few by default."""
    return SHOWN if rows.num is None and output.shows_text and manifest.data.kind == "image" else rows.num
