"""Formats of an answer: JSON, .npy, .png or .csv, chosen by the header Accept."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import orjson

from kvae_serve.http_server import operations
from kvae_serve.http_server.operations import Answer, Operation
from kvae_serve.row_stream import RowStream
from kvae_serve.sealed.manifest import Manifest
from kvae_serve.writers import csv, dispatch, images, npy
from kvae_serve.writers.captioned_grid import PictureStyle

JSON, NPY, PNG, CSV = "application/json", "application/x-npy", "image/png", "text/csv"


def offered(operation: Operation, name: str, manifest: Manifest) -> list[str]:
    """Return the formats of an operation for a model, the default first."""
    if name in ("score", "impute"):
        return [JSON]
    data = manifest.data
    has_pictures = data.kind == "sequence" or (data.kind == "image" and data.shape[2] in (1, 3))
    is_table = not operation.returns_data or data.kind != "image"
    return [JSON, NPY, *([PNG] if operation.returns_data and has_pictures else []), *([CSV] if is_table else [])]


def choose(accept: str, available: list[str]) -> str | None:
    """Return the format that a client prefers; None if it accepts none of them.

    Args:
        accept: Header Accept (RFC 9110, section 12.5.1); an empty one accepts all.
        available: Media types, the default first.
    """
    weights: dict[str, float] = {}
    for part in accept.lower().split(","):
        kind, *parameters = (each.strip() for each in part.split(";"))
        quality = next((each[2:] for each in parameters if each.startswith("q=")), "1")
        if kind:
            weights[kind] = float(quality) if quality.replace(".", "", 1).isdecimal() and quality.isascii() else 0.0
    if not weights:
        return available[0]

    def weight(kind: str) -> float:
        ranges = (kind, kind.partition("/")[0] + "/*", "*/*")
        return next((weights[each] for each in ranges if each in weights), 0.0)

    # Old browsers send image/avif,image/webp,*/* for an image element.
    only_images = {kind.partition("/")[0] for kind in weights} == {"image", "*"}
    best = max(available, key=lambda kind: (weight(kind), only_images and kind == PNG))
    return best if weight(best) > 0 else None


def body(answer: Answer, kind: str) -> bytes:
    """Return the content of an answer in a format. This computes the rows."""
    rows = answer.rows
    if rows is None or kind == JSON:
        return _json(answer)
    if kind == NPY:
        binary = io.BytesIO()
        npy.write(binary, rows)
        return binary.getvalue()
    if kind == PNG:
        dispatch.check_pictures(kind, rows)
        style = answer.style or PictureStyle()
        images.check_grid(kind, rows, style)
        return images.grid_png(rows, style)
    text = io.StringIO()
    csv.write(text, rows)
    return text.getvalue().encode()


def to_json(document: Any) -> bytes:
    """Return plain values and arrays as JSON. Each float32 has as few digits as restore it, and NaN is null."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _json(answer: Answer) -> bytes:
    if answer.rows is None:
        return to_json(answer.facts)
    arrays = _joined(answer.rows)
    if answer.records:
        return to_json(answer.facts | {"records": operations.records(answer.rows, arrays)})
    return to_json(answer.facts | {name: np.ascontiguousarray(arrays[name]) for name in _shown(answer.rows)})


def _shown(rows: RowStream) -> tuple[str, ...]:
    """Return the names of the arrays in JSON: the data; of codes z_mean, z_log_var and a drawn z."""
    return rows.main if rows.data_names else tuple(name for name in ("z", "z_mean", "z_log_var") if name in rows.arrays)


def _joined(rows: RowStream) -> dict[str, np.ndarray]:
    chunks = list(rows.chunks)
    if len(chunks) == 1:
        return dict(chunks[0])
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in rows.arrays}
