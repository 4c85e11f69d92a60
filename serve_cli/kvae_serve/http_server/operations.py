"""Operations of the API: a checked request in, rows and facts out. The rows equal those of the command, bit for bit."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from kvae_serve import dates, request_fields
from kvae_serve.class_indices import marked
from kvae_serve.errors import InputDataError, RequestError, printable
from kvae_serve.inference import column_densities, imputation, inputs, scoring, thresholds, transforms
from kvae_serve.model import Model
from kvae_serve.numbers import integer
from kvae_serve.readers import frames as readers
from kvae_serve.readers.partial import partial_rows
from kvae_serve.request_fields import VALUE, Types
from kvae_serve.row_stream import RowStream
from kvae_serve.runtime import conditions as conditions_of
from kvae_serve.sealed import noise
from kvae_serve.sealed.manifest import Manifest
from kvae_serve.writers import frames
from kvae_serve.writers.captioned_grid import PictureStyle

BATCH_SIZE = 64
NUM_SAMPLES_FACTOR = 16
"""Draws of z of one `score` request: at most this many times the limit of rows."""

MAX_CELLS = 2**22
"""Cells of a table of rows that are objects: a small body with other columns in each row would fill the memory."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """Answer of an operation.

    Attributes:
        facts: Plain values for JSON.
        rows: Rows for any format; None if all values are facts.
        records: Whether JSON contains the rows of a table as objects.
        style: Look of a picture; None for the default.
    """

    facts: dict[str, Any]
    rows: RowStream | None = None
    records: bool = False
    style: PictureStyle | None = None


class Operation(NamedTuple):
    """Operation of a model.

    Attributes:
        summary: One line for the description of the API.
        graphs: Graphs that the model must have.
        fields: Types of the fields of a request.
        run: Function of the model, the checked request and the limit of rows.
        returns_data: Whether the rows are data, which can be a picture.
        likelihoods: Likelihoods that it supports; all if there are none.
    """

    summary: str
    graphs: tuple[str, ...]
    fields: Mapping[str, Types]
    run: Callable[[Model, dict[str, Any], int], Answer]
    returns_data: bool = True
    likelihoods: tuple[str, ...] = ()


def answer(operation: str, model: Model, request: dict[str, Any], max_rows: int) -> Answer:
    """Check a request and run an operation. Rows are computed when they are read.

    Raises:
        KvaeError: The request is invalid.
    """
    identity = {"id": request.pop("id")} if "id" in request else {}
    command = request.pop("command", operation)
    if command != operation:
        raise RequestError(f"command is {printable(repr(command), 40)}; expected {operation}, or leave it out.")
    request_fields.check(operation, request, OPERATIONS[operation].fields)
    if request.get("records") and model.manifest.data.kind != "table":
        raise RequestError(f"records are rows of a table, but the data are of the kind {model.manifest.data.kind}.")
    result = OPERATIONS[operation].run(model, request, max_rows)
    rows = result.rows
    if rows is not None:
        request_fields.check_inline(
            rows.num_rows, sum(math.prod(rows.arrays[name].shape) for name in rows.main), "Request fewer rows."
        )
        rows = rows.as_dtype(request.get("dtype", "float32"))
    style = PictureStyle(request.get("scale"), request.get("plain", False))
    return Answer(identity | result.facts, rows, request.get("records", False), style)


def _sample(model: Model, request: dict[str, Any], max_rows: int) -> Answer:
    plan = request_fields.plan(model, request, BATCH_SIZE)
    _check_rows(plan.rows, max_rows)
    facts, rows = request_fields.facts(plan), plan.row_stream()
    if given := request.get("given"):
        if plan.temperature != 1.0:
            raise RequestError("given draws from the model itself. Leave out temperature.")
        _check_draws(plan.rows, imputation.NUM_SAMPLES, max_rows)
        row = {name: [value] for name, value in given.items()}
        table = readers.from_frame(row, "given", readers.model_columns(model.manifest))
        texts = {name: cells[0] for name, cells in table.cells.items()}
        report = functools.partial(facts.__setitem__, "effective_sample_size")
        rows = imputation.sample_given(model, rows, texts, plan.seed, report)
        rows = dataclasses.replace(rows, chunks=iter(list(rows.chunks)))  # The facts are complete after the last row.
    return Answer(facts, rows)


def _encode(model: Model, request: dict[str, Any], max_rows: int) -> Answer:
    x, conditions = _examples(model, request, max_rows)
    draw, seed = request.get("draw", False), request_fields.seed(request)
    rows = transforms.encode(model, x, conditions, seed=seed, draw=draw, batch_size=BATCH_SIZE)
    return Answer({"rows": len(x)} | ({"seed": seed} if draw else {}), rows)


def _decode(model: Model, request: dict[str, Any], max_rows: int) -> Answer:
    z = request_fields.latent_vectors(request)
    _check_rows(len(z), max_rows)
    draw, seed = request.get("draw", False), request_fields.seed(request)
    conditions = model.with_label(request.get("label"), request.get("condition"))
    rows = transforms.decode(model, z, conditions, seed=seed, draw=draw, batch_size=BATCH_SIZE)
    return Answer({"rows": len(z)} | ({"seed": seed} if draw else {}), rows)


def _reconstruct(model: Model, request: dict[str, Any], max_rows: int) -> Answer:
    x, conditions = _examples(model, request, max_rows)
    rows = transforms.reconstruct(model, x, conditions, batch_size=BATCH_SIZE)
    if _are_objects(request["x"]):
        rows = dataclasses.replace(rows, ids=inputs.identifiers(model.manifest, _columns(request["x"], max_rows)))
    return Answer({"rows": len(x)}, rows)


def _score(model: Model, request: dict[str, Any], max_rows: int) -> Answer:
    draws = score_defaults(model.manifest) | request
    num_samples = integer(draws["num_samples"], "num_samples", 1, noise.MAX_INDEX)
    seed = integer(draws["seed"], "seed", 0, noise.MAX_SEED)
    text = request.get("threshold")
    below = None if text is None else thresholds.threshold(str(text), model.manifest, num_samples, seed)
    x, conditions = _examples(model, request, max_rows)
    _check_draws(len(x), num_samples, max_rows)
    scores = scoring.score(model, x, conditions, num_samples=num_samples, seed=seed, batch_size=BATCH_SIZE)
    facts = {"rows": len(x), "num_samples": num_samples, "seed": seed, **scores._asdict()}
    if below is not None:
        facts["threshold"] = below.document()
        facts["anomaly"] = scores.elbo < below.elbo
    return Answer(facts)


def _impute(model: Model, request: dict[str, Any], max_rows: int) -> Answer:
    manifest = model.manifest
    own: list[dict[str, Any]] = []
    if _are_objects(request.get("x")) and manifest.data.kind == "table":
        columns = _columns(request["x"], max_rows)
        own = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        conditions = model.with_label(request.get("label"), request.get("condition"))
        table = readers.from_frame(columns, "The table", readers.model_columns(manifest))
        rows = partial_rows(table, manifest, fixed=conditions)
        x = rows.x
        conditions = (
            marked(rows.conditions, [each.name for each in manifest.conditions if each.categorical]) | conditions
        )
    else:
        x, conditions = _examples(model, request, max_rows)
    num_samples = integer(request.get("num_samples", imputation.NUM_SAMPLES), "num_samples", 16, noise.MAX_INDEX)
    _check_draws(len(x), num_samples, max_rows)
    seed, start = request_fields.seed(request), request.get("start", 0)
    drawn = model.impute(x, conditions, num_samples=num_samples, seed=seed, start=start, batch_size=BATCH_SIZE)
    facts = {"rows": len(x), "num_samples": num_samples, "seed": seed, "start": start}
    facts["effective_sample_size"] = drawn.effective
    if not request.get("records"):
        return Answer(facts | {"x": drawn.x[0]})
    filled = _records(manifest, drawn.x[0], conditions_of.columns(manifest, conditions, len(x)))
    names = [str(each["name"]) for each in manifest.data.columns]
    for row, (record, known) in enumerate(zip(filled, own, strict=False)):
        missing = {name for name, value in zip(names, x[row], strict=True) if np.isnan(value)}
        record |= {name: value for name, value in known.items() if name not in missing}
    return Answer(facts | {"records": filled})


_CONDITIONS: dict[str, Types] = {"label": VALUE, "condition": (dict,)}
_SEED: dict[str, Types] = {"draw": (bool,), "seed": (int,)}
_DATA: dict[str, Types] = {"records": (bool,), **request_fields.PICTURE}
_X: dict[str, Types] = {"x": (list, dict)}
OPERATIONS: dict[str, Operation] = {
    "sample": Operation(
        "Draw samples from the model.", ("decoder",), {**request_fields.SAMPLE, "given": (dict,), **_DATA}, _sample
    ),
    "encode": Operation(
        "Encode examples as latent vectors.", ("encoder",), _X | _CONDITIONS | _SEED, _encode, returns_data=False
    ),
    "decode": Operation(
        "Decode latent vectors into data.",
        ("decoder",),
        {**request_fields.DECODE, **_SEED, **_DATA},
        _decode,
    ),
    "reconstruct": Operation(
        "Encode examples and decode them again.",
        ("encoder", "decoder"),
        {**_X, **_CONDITIONS, "dtype": (str,), **_DATA},
        _reconstruct,
    ),
    "score": Operation(
        "Compute the elbo of each example; flag anomalies.",
        ("encoder", "likelihood"),
        _X | _CONDITIONS | {"num_samples": (int,), "seed": (int,), "threshold": (str, int, float)},
        _score,
        returns_data=False,
    ),
    "impute": Operation(
        "Draw the missing values of rows given the others.",
        ("encoder", "decoder"),
        _X | _CONDITIONS | {"num_samples": (int,), "seed": (int,), "start": (int,), "records": (bool,)},
        _impute,
        returns_data=False,
        likelihoods=column_densities.SUPPORTED,
    ),
}


def score_defaults(manifest: Manifest) -> dict[str, int]:
    """Return the draws of z and the seed of scores: those of the quantiles in the manifest, if it has any."""
    return dict(zip(("num_samples", "seed"), thresholds.draws(manifest), strict=True))


def available(model: Model) -> list[str]:
    """Return the names of the operations for which a model has the graphs and a supported likelihood."""
    return [
        name
        for name, each in OPERATIONS.items()
        if all(map(model.has, each.graphs))
        and (not each.likelihoods or model.manifest.likelihood["name"] in each.likelihoods)
    ]


def records(rows: RowStream, arrays: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return rows of a table as one object per row, with the columns of the training table; a missing cell is None."""
    return _records(rows.manifest, arrays[rows.main[0]], arrays, rows.start, rows.ids)


def _records(
    manifest: Manifest, x: np.ndarray, conditions: Mapping[str, np.ndarray], *options: Any
) -> list[dict[str, Any]]:
    columns = frames.to_arrays(manifest, x, conditions, *options)
    values = {name: _plain(array, column) for name, (array, column) in columns.items()}
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def _plain(values: np.ndarray, column: Mapping[str, Any]) -> list[Any]:
    """Return the values of a column for JSON: dates as texts in the format of the column, and None for NaN and NaT."""
    if values.dtype.kind == "M":
        known = ~np.isnat(values)
        texts = iter(dates.write(values[known].astype("datetime64[us]").astype(np.int64) / 1e6, column["format"]))
        return [next(texts) if each else None for each in known.tolist()]
    return values.tolist()  # orjson writes NaN as null.


def _examples(model: Model, request: dict[str, Any], max_rows: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Return x and the conditions of a request. Rows of a table may be lists, objects, or one object of columns."""
    manifest = model.manifest
    if "x" not in request:
        raise RequestError(f"x is missing; expected rows of the shape {list(manifest.data.shape)} as nested lists.")
    x = request["x"]
    conditions = model.with_label(request.get("label"), request.get("condition"))
    if _are_objects(x):
        columns = _columns(x, max_rows)
        if manifest.data.kind != "table":
            raise InputDataError(f"x is an object; expected nested lists, because the data are {manifest.data.kind}s.")
        return inputs.from_frame(manifest, columns, conditions)[:2]
    _check_rows(len(x), max_rows)
    rows = request_fields.numbers(x, "x")
    if not rows.size:
        raise InputDataError("x is empty; expected at least one row.")
    return (rows[None] if rows.shape == manifest.data.shape else rows), conditions


def _are_objects(x: Any) -> bool:
    """Return whether x is rows that are objects, or an object of columns."""
    return isinstance(x, dict) or (bool(x) and all(isinstance(each, dict) for each in x))


def _columns(x: Any, max_rows: int) -> dict[str, list[Any]]:
    """Return the columns of rows that are objects; of an object of columns, itself."""
    if isinstance(x, list):
        _check_rows(len(x), max_rows)
        names = dict.fromkeys(name for row in x for name in row)
        if len(x) * len(names) > MAX_CELLS:
            raise InputDataError(
                f"The rows of x have {len(names)} columns together, which are more than {MAX_CELLS} cells. Send only "
                "the columns of the model, or fewer rows."
            )
        return {name: [row.get(name) for row in x] for name in names}
    for name, values in x.items():
        if not isinstance(values, list):
            raise InputDataError(f"Column {printable(name, 60)} of x is not a list; expected one value per row.")
        _check_rows(len(values), max_rows)
    return x


def _check_draws(num: int, num_samples: int, max_rows: int) -> None:
    if num * num_samples > NUM_SAMPLES_FACTOR * max_rows:
        raise RequestError(
            f"{num} rows with {num_samples} draws of z are too many; expected at most {NUM_SAMPLES_FACTOR * max_rows} "
            "draws per request. Lower num_samples, or send fewer rows."
        )


def _check_rows(num: int, max_rows: int) -> None:
    if num > max_rows:
        raise RequestError(f"{num} rows are too many; expected at most {max_rows} per request. Send several requests.")
