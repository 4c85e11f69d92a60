"""Assemble the report: sections from a model and its results, rendered by a Jinja2 template."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from kvae.report import associations, examples, results
from kvae.report.blocks import Block, Number, SectionSkipped, note
from kvae.report.history import History
from kvae.report.labels import Labels
from kvae.report.subject import Subject
from kvae_serve import __version__
from kvae_serve.errors import InputDataError, MissingExtraError, printable

_TEMPLATE = "page.html.j2"


def require() -> None:
    """Raise MissingExtraError if a package of the report is missing. Cheap, so that it can run before long work.

    Example:
        >>> kvae.report.require()
    """
    if missing := [name for name in ("matplotlib", "jinja2") if find_spec(name) is None]:
        raise MissingExtraError(
            f"An HTML report needs {missing[0]}, which is not installed. "
            "Install it with: pip install 'kvae-onnx[evaluate]'"
        )


def render(
    model: Any,
    document: Mapping[str, Any],
    x: np.ndarray,
    conditions: Mapping[str, Any] | None = None,
    *,
    labels: Labels | None = None,
    history: History | None = None,
) -> str:
    """Return the report of an evaluation as a self-contained HTML page.

    Args:
        model: A model from `kvae.load`.
        document: The result of `model.evaluate` on these examples.
        x: The evaluated examples, `[rows, *shape]` in data units.
        conditions: Their conditions by name, as for `model.evaluate`.
        labels: Colours of the latent space for an unconditional model, see `read_labels`.
        history: Training curves, see `read_history`.

    Raises:
        MissingExtraError: matplotlib or Jinja2 is not installed.
        InputDataError: x is empty.
        ModelFileError: A graph is missing or corrupted.

    Example:
        >>> model = kvae.load("mnist")
        >>> data = kvae.data.load("mnist-sample", "test")
        >>> x, label = data.x[:4], {"label": data.conditions["label"][:4]}
        >>> page = kvae.report.render(model, model.evaluate(x, label, importance_samples=2), x, label)
        >>> page.startswith("<!DOCTYPE html>")
        True
    """
    require()
    if not len(x):
        raise InputDataError("The report has no examples: x has 0 rows. Pass the examples that were evaluated.")
    subject = Subject(model, dict(document), x, conditions, labels)
    parts: list[tuple[str, str, Callable[[], list[Block] | None]]] = [
        ("figures", "Figures", lambda: results.figures(subject)),
        ("sample-figures", "Sample quality", lambda: results.sample_quality(subject)),
        ("anomalies", "Anomalies", lambda: results.anomalies(subject)),
        ("history", "Training", lambda: results.training(history)),
        ("reconstructions", "Reconstructions", lambda: examples.reconstructions(subject)),
        ("samples", "Samples", lambda: examples.samples(subject)),
        ("marginals", "Samples and real data", lambda: examples.marginals(subject)),
        ("associations", "Associations of columns", lambda: associations.associations(subject)),
        ("kl", "KL per dimension", lambda: results.kl_per_dimension(subject)),
        ("traversals", "Traversals", lambda: examples.traversals(subject)),
        ("latent", "Latent space", lambda: results.latent_space(subject)),
    ]
    sections = []
    for name, title, part in parts:
        try:
            blocks = part()
        except SectionSkipped as reason:
            blocks = [note(f"Skipped: {reason}")]
        if blocks is not None:
            sections.append({"name": name, "title": title, "blocks": blocks})
    return render_sections(
        name=subject.manifest.name,
        kind="evaluation",
        facts=_facts(subject),
        headlines=list(results.headlines(subject.document)),
        sections=sections,
        written_by="kvae evaluate",
        source="from the exported files",
    )


def render_sections(
    *,
    name: str,
    kind: str,
    facts: list[tuple[str, str]],
    headlines: list[tuple[Any, str, str]],
    sections: list[dict[str, Any]],
    written_by: str,
    source: str,
) -> str:
    """Return a page of sections.

    Args:
        name: Heading.
        kind: Kind of report, for the title.
        facts: Names and texts below the heading.
        headlines: Value, name and unit of the most important figures.
        sections: `name`, `title` and `blocks` of each section.
        written_by: Command that writes the page, for the footer.
        source: Source of the figures, for the footer.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Names come from files of strangers: control characters go here, and autoescape makes the rest plain text.
    environment.filters["line"] = lambda value, limit=400: printable(str(value), limit)
    environment.tests["exact"] = lambda value: isinstance(value, Number)
    return environment.get_template(_TEMPLATE).render(
        name=name,
        kind=kind,
        facts=facts,
        headlines=headlines,
        sections=sections,
        written_by=written_by,
        source=source,
        version=__version__,
    )


def _facts(subject: Subject) -> list[tuple[str, str]]:
    manifest, document = subject.manifest, subject.document
    shape = " × ".join(map(str, manifest.data.shape))
    binarisation = {None: "", "none": ", black and white as given"}.get(
        document["binarize"], f", {document['binarize']} binarisation"
    )
    return [
        ("data", f"{document['n']} examples of {Path(document['data']).absolute().name}{binarisation}"),
        ("model", f"{manifest.kind} of {manifest.data.kind} data, {shape}, {manifest.latent_dim} latent dimensions"),
        ("p(x given z)", manifest.likelihood["name"].replace("_", " ")),
        ("prior", manifest.prior["name"].replace("_", " ")),
        ("conditions", ", ".join(each.name for each in manifest.conditions[:8]) or "none"),
        ("draws", f"K = {document['importance_samples']}, seed {document['seed']}"),
        ("model id", manifest.model_id[:16]),
    ]
