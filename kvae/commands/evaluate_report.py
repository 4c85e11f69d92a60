"""HTML report of `kvae evaluate`, made by `kvae.report`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvae_serve.cli.dataset_args import DatasetArgs, Examples
    from kvae_serve.model import Model

SUFFIX = ".html"
_HISTORY = "history.csv"


def prepare(model: Model, history: str | None) -> Any:
    """Check before the long work that a report can be made; return the training curves, or None.

    Args:
        model: A loaded model.
        history: File of training curves; the default is the one next to the model, if it exists.

    Raises:
        MissingExtraError: The package that draws charts is not installed.
        InputDataError: The history is missing or bad.
    """
    from kvae import report

    report.require()
    if history is not None:
        return report.read_history(history)
    folder = model.path if os.path.isdir(model.path) else os.path.dirname(model.path)  # noqa: PTH112, PTH120
    return report.read_history(os.path.join(folder, _HISTORY), needed=False)  # noqa: PTH118


def write(
    output: str,
    model: Model,
    document: dict[str, Any],
    examples: Examples,
    dataset: DatasetArgs,
    history: Any,
    force: bool,
) -> None:
    """Write the report; the file is complete or does not exist."""
    from kvae import report
    from kvae_serve.writers import atomic

    labels = report.read_labels(dataset.data, model.manifest, dataset.split)
    page = report.render(model, document, examples.x, examples.conditions, labels=labels, history=history)
    atomic.write_whole(output, page.encode(), force)
