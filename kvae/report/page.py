"""The page around the parts: head, style, contents."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from kvae.report.figures import headlines
from kvae.report.markup import text
from kvae.report.style import STYLE
from kvae.report.subject import Subject
from kvae_serve import __version__


class Section(NamedTuple):
    """A part of the page: `name` for links, `title` for people, `body` as HTML."""

    name: str
    title: str
    body: str


def page(subject: Subject, sections: Sequence[Section]) -> str:
    """Return the whole document."""
    name = text(subject.manifest.name, 100)
    links = "".join(f'<a href="#{each.name}">{each.title}</a>' for each in sections)
    parts = "".join(f'<section id="{each.name}"><h2>{each.title}</h2>{each.body}</section>' for each in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<title>{name}: evaluation</title><style>{STYLE}</style></head><body><header><h1>{name}</h1>{_facts(subject)}"
        f"{headlines(subject.document)}</header><nav>{links}</nav><main>{parts}</main>"
        f"<footer>Made by <code>kvae evaluate</code>, kvae {__version__}, from the exported files.</footer>"
        "</body></html>\n"
    )


def _facts(subject: Subject) -> str:
    manifest, document = subject.manifest, subject.document
    shape = " × ".join(map(str, manifest.data.shape))
    given = ", ".join(text(each.name, 40) for each in manifest.conditions[:8])
    how = {None: "", "none": ", black and white as given"}.get(
        document["binarize"], f", {text(document['binarize'])} binarisation"
    )
    rows = [
        ("data", f"{document['n']} examples of {text(os.path.basename(os.path.abspath(document['data'])), 60)}{how}"),  # noqa: PTH100, PTH119
        ("model", f"{text(manifest.kind, 40)} of {manifest.data.kind} data, {shape}, z of {manifest.latent_dim}"),
        ("p(x given z)", text(manifest.likelihood["name"], 40).replace("_", " ")),
        ("prior", text(manifest.prior["name"], 40).replace("_", " ")),
        ("given", given or "nothing"),
        ("draws", f"K = {document['importance_samples']}, seed {document['seed']}"),
        ("model id", f"<code>{text(manifest.model_id[:16])}</code>"),
    ]
    return "<dl>" + "".join(f"<div><dt>{key}</dt><dd>{value}</dd></div>" for key, value in rows) + "</dl>"
