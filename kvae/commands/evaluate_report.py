"""An evaluation as a page of HTML, which the floor above makes: `kvae.report`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvae_serve.cli.dataset_args import Given
    from kvae_serve.model import Model

SUFFIX = ".html"

# By name, as verbs are: what stands on the ground floor imports nothing of the floors above.
_REPORT = "kvae.report"
_HISTORY = "history.csv"


def is_page(output: str) -> bool:
    """Tell whether an output is a page."""
    return output.lower().endswith(SUFFIX)


def prepare(model: Model, history: str | None) -> Any:
    """Look, before the long work, whether a page can be made; return the curves of training, or None.

    Args:
        model: a loaded model.
        history: the file of curves; where None the one beside the model, if there is one.

    Raises:
        MissingExtraError: what draws charts is not installed.
        InputDataError: the history is missing or bad.
    """
    report = _module()
    report.require()
    if history is not None:
        return report.read_history(history)
    folder = model.path if os.path.isdir(model.path) else os.path.dirname(model.path)  # noqa: PTH112, PTH120
    return report.read_history(os.path.join(folder, _HISTORY), needed=False)  # noqa: PTH118


def write(
    output: str,
    model: Model,
    document: dict[str, Any],
    examples: Given,
    data: str,
    split: str | None,
    history: Any,
    force: bool,
) -> None:
    """Write the page, whole or not at all."""
    from kvae_serve.writers import atomic

    report = _module()
    labels = report.read_labels(data, model.manifest, split)
    page = report.render(model, document, examples.x, examples.conditions, labels=labels, history=history)
    atomic.write_whole(output, page.encode(), force)


def _module() -> Any:
    import importlib

    return importlib.import_module(_REPORT)
