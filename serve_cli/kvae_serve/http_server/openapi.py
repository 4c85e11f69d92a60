"""Description of the API: an OpenAPI document for the models of a server, and a page of it without scripts."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from kvae_serve import __version__, request_fields
from kvae_serve.errors import RequestError, printable
from kvae_serve.http_server import formats, operations
from kvae_serve.http_server.formats import JSON
from kvae_serve.inference import column_densities, thresholds
from kvae_serve.model import Check, Model
from kvae_serve.runtime.conditions import ALL, DATA
from kvae_serve.sealed import noise
from kvae_serve.sealed.manifest import Condition, Manifest
from kvae_serve.writers.captioned_grid import MAX_SCALE

MAX_CLASSES = 50
"""Classes of a condition that are listed."""

_TEXTS = {
    "id": "Any value; returned in the answer.",
    "n": "Number of samples per label. Default: 16, or 1 for a conditional model of images without a label.",
    "label": "Class: a name, an index, or a list. `sample` draws each of the list; others have one per row.",
    "condition": "Value of each condition by name.",
    "seed": "Seed; the same seed gives the same rows as the command `kvae`. Default: random, and returned.",
    "start": "Index of the first sample, for drawing a large set in several requests.",
    "temperature": "Factor of the prior's standard deviation.",
    "given": "Values of columns by name; the others are drawn given them, from the model itself.",
    "draw": "Draw from the distribution instead of returning its mean.",
    "dtype": "Type of x. uint8 rounds to integers.",
    "records": "Return the rows of a table as objects with the columns of the training table.",
    "scale": "Factor that enlarges a PNG. Default: each image has at least 56 x 56 pixels.",
    "plain": "Return a PNG without captions.",
    "num_samples": "Draws of z per example.",
    "threshold": "Elbo in nats below which an example is an anomaly, or a quantile of normal data such as q0.01.",
}
_SCORE_SEED = "Seed of the draws of z. The default is fixed, so that scores repeat and quantiles apply."
_THRESHOLD = {
    True: "The model file stores quantiles of held-out data.",
    False: "The model file stores quantiles of training data, so more new rows may lie below.",
    None: "The model file does not store quantiles.",
}
_ERRORS = {
    400: "The request is wrong (exit code 2), or the host is not this machine",
    401: "The bearer token is missing or wrong",
    404: "The model does not exist, or does not have the graphs",
    405: "The address does not have this method",
    406: "Accept names no format of the answer",
    413: "The body is too large",
    415: "The body is not application/json",
    422: "The data do not fit the model (exit codes 4 and 5)",
    429: "Too many requests are waiting",
    500: "kvae has a bug (exit code 1)",
    501: "An extra is not installed (exit code 3)",
    503: "The model does not reproduce its reference outputs (exit code 6)",
    504: "The request took too long",
}
_ALWAYS = (400, 401, 429, 500, 504)
_ANSWERS = {
    "sample": ("rows", "n", "conditions", "seed", "start", "effective_sample_size", "x"),
    "encode": ("rows", "z_mean", "z_log_var", "z", "seed"),
    "decode": ("rows", "x", "seed"),
    "reconstruct": ("rows", "x_mean"),
    "score": ("rows", "num_samples", "seed", "elbo", "reconstruction", "kl", "threshold", "anomaly"),
    "impute": ("rows", "num_samples", "seed", "start", "effective_sample_size", "x"),
}
_SOMETIMES = {
    "sample": ("effective_sample_size",),
    "encode": ("z", "seed"),
    "decode": ("seed",),
    "score": ("threshold", "anomaly"),
}
"""Fields of answers for requests with `draw`, `given` or `threshold`."""
_MEANINGS = {
    "conditions": "Requested values of each condition.",
    "x_mean": "Mean of p(x given z) at the mean of q(z given x).",
    "z": "Draws from q(z given x). Only with `draw`.",
    "z_log_var": "Log of the variance.",
    "records": "Rows as objects, instead of x. Only with `records`.",
    "elbo": "-reconstruction - kl in nats; higher is more normal.",
    "reconstruction": "-log p(x given z) in nats.",
    "kl": "KL(q(z given x) to p(z)) in nats.",
    "effective_sample_size": "Number of draws of z that count: of each row; of `given` the median and the smallest.",
    "threshold": "The threshold in nats, and the rows of its quantile.",
    "anomaly": "Whether the elbo is below the threshold. Only with `threshold`.",
}
_QUERY = ("n", "label", "condition", "seed", "start", "temperature", "draw", "dtype", "records", "scale", "plain")


def summary(name: str, model: Model) -> dict[str, Any]:
    """Return the main properties of a model as plain values."""
    manifest = model.manifest
    return {
        "name": name,
        "model_id": manifest.model_id,
        "kind": manifest.kind,
        "data": {"kind": manifest.data.kind, "shape": manifest.data.shape, "range": manifest.data.range}
        | ({"columns": [each["name"] for each in manifest.data.columns]} if manifest.data.columns else {}),
        "latent_dim": manifest.latent_dim,
        "conditions": [
            {"name": each.name} | ({"classes": each.classes} if each.categorical else {"range": each.range})
            for each in manifest.conditions
        ],
        "operations": operations.available(model),
    }


def from_query(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the fields of a `sample` request from a query such as `label=3&label=5&n=4&seed=0`.

    A condition is `condition=NAME=VALUE`, as on the command line.

    Raises:
        RequestError: A field is unknown, given twice, or of the wrong type.
    """
    fields: dict[str, Any] = {}
    for key, text in pairs:
        if key not in _QUERY:
            raise RequestError(f"Unknown parameter {printable(key, 40)}; expected {', '.join(_QUERY)}.")
        if key == "label":
            fields.setdefault("label", []).append(text)
        elif key == "condition":
            name, equals, value = text.partition("=")
            if not (name and equals and value):
                raise RequestError(f"condition is {printable(text, 60)}; expected NAME=VALUE.")
            fields.setdefault("condition", {}).setdefault(name, []).append(value)
        elif key in fields:
            raise RequestError(f"{key} is given twice. Leave one out.")
        else:
            fields[key] = text if key == "dtype" else _value(text)
    return fields


def _value(text: str) -> Any:
    """Return a JSON value, or the text itself. The check of the fields refuses what is not expected."""
    try:
        return json.loads(text) if len(text) <= 40 else text
    except ValueError:
        return text


def description(models: Mapping[str, Model], max_rows: int) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document.

    Args:
        models: Models by name.
        max_rows: Limit of rows per request.
    """
    paths: dict[str, Any] = {
        "/health": {"get": _get("Whether the server runs.", {"status": _STRING, "version": _STRING}, security=[])},
        "/v1/models": {"get": _get("List the models and the limits.", {"models": _list(_SUMMARY), "limits": _LIMITS})},
    }
    for name, model in models.items():
        root = f"/v1/models/{quote(name, safe='')}"
        paths[f"{root}/info"] = {"get": _get(f"Show the metadata of {name}.", _INFO)}
        verify = _get(f"Check that {name} reproduces its reference outputs.", _VERIFY)
        verify["responses"]["503"] = verify["responses"]["200"] | {"description": _ERRORS[503]}
        paths[f"{root}/verify"] = {"get": verify}
        for operation in operations.available(model):
            paths[f"{root}/{operation}"] = _operation(name, operation, model.manifest, max_rows)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "kvae",
            "version": __version__,
            "description": "Sealed variational autoencoders over HTTP. Rows equal those of the command `kvae`, bit for "
            "bit for the same seed: convert the numbers of JSON to float32.",
        },
        "paths": paths,
        "components": {
            "schemas": {"Error": _ERROR},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"bearer": []}],
    }


def _list(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _object(properties: dict[str, Any], optional: Sequence[str] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


_KINDS: list[dict[str, Any]] = [{"type": kind} for kind in ("object", "string", "integer", "number", "boolean")]
_ANY, _STRING, _INTEGER, _NUMBER, _BOOLEAN = _KINDS
_ERROR = _object(
    {
        "error": _object(
            {
                "message": _STRING,
                "exit_code": _INTEGER | {"description": "Exit code of the command for the same error."},
            },
            optional=["exit_code"],
        )
    }
)
_SUMMARY = _object(
    dict.fromkeys(("name", "model_id", "kind"), _STRING)
    | {"data": _ANY, "latent_dim": _INTEGER, "conditions": _list(_ANY), "operations": _list(_STRING)}
)
_LIMITS = _object({"rows": _INTEGER, "body": _INTEGER, "seconds": _NUMBER})
_FILE = _object(
    {"graph": _STRING, "path": _STRING, "bytes": _INTEGER, "parameters": _INTEGER, "nodes": _INTEGER}
    | {"inputs": _ANY, "outputs": _ANY}
)
_INFO = {"path": _STRING, "manifest": _ANY, "files": _list(_FILE)}
_CHECK = _object(
    dict(zip(Check._fields, (_STRING, _STRING, {"type": ["number", "null"]}, _NUMBER, _BOOLEAN), strict=True))
)
_VERIFY = {"ok": _BOOLEAN, "model_id": _STRING, "checks": _list(_CHECK)}
_LIMIT = _object(
    {"elbo": _NUMBER, "quantile": {"type": ["number", "null"]}, "examples": {"type": ["integer", "null"]}}
    | {"held_out": _BOOLEAN, "interval": _list(_NUMBER)},
    optional=["examples", "held_out", "interval"],
)


def _errors(*codes: int) -> dict[str, Any]:
    content = {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {str(code): {"description": _ERRORS[code], "content": content} for code in codes}


def _get(text: str, answer: dict[str, Any], **rest: Any) -> dict[str, Any]:
    content = {JSON: {"schema": _object(answer)}}
    responses = {"200": {"description": "Success", "content": content}} | _errors(*_ALWAYS)
    return {"summary": text, "responses": responses, **rest}


def _operation(name: str, operation: str, manifest: Manifest, max_rows: int) -> dict[str, Any]:
    known = operations.OPERATIONS[operation]
    kinds = formats.offered(known, operation, manifest)
    properties = {
        field: schema
        for field in ("id", *known.fields)
        if (schema := _field(field, operation, manifest, max_rows)) is not None
        and (field != "records" or manifest.data.kind == "table")
        and (field != "given" or manifest.likelihood["name"] in column_densities.SUPPORTED)
        and (field not in request_fields.PICTURE or formats.PNG in kinds)
    }
    required = [field for field in ("x", "z") if field in properties]
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    content = {
        kind: {"schema": _answer(operation, manifest, max_rows) if kind == JSON else _STRING | _BINARY.get(kind, {})}
        for kind in kinds
    }
    headers = {"Kvae-Seed": {"description": "Seed of the draws", "schema": {"type": "string"}}}
    answers = {"200": {"description": "Success", "content": content, "headers": headers}}
    answers |= _errors(*_ALWAYS, 404, 406, 413, 422, 501)
    post = {
        "summary": f"{known.summary[:-1]} ({name}).",
        "requestBody": {"required": operation != "sample", "content": {JSON: {"schema": schema}}},
        "responses": answers | _errors(415),
    }
    if operation != "sample":
        return {"post": post}
    parameters = [
        {"name": field, "in": "query", "schema": _QUERY_SCHEMAS.get(field, properties[field])}
        for field in _QUERY
        if field in properties
    ]
    get = {
        "summary": f"{known.summary[:-1]} ({name}), for links and <img>.",
        "parameters": parameters,
        "responses": answers,
    }
    return {"get": get, "post": post}


_BINARY = {formats.NPY: {"contentMediaType": formats.NPY}, formats.PNG: {"contentMediaType": formats.PNG}}
_QUERY_SCHEMAS: dict[str, Any] = {
    "label": _list(_STRING) | {"description": "Class, by name or index. May be repeated."},
    "condition": _list(_STRING) | {"description": "NAME=VALUE. May be repeated."},
}


def _answer(operation: str, manifest: Manifest, max_rows: int) -> dict[str, Any]:
    """Return the schema of an answer in JSON. With `records`, x has another name."""
    is_table = manifest.data.kind == "table"
    data = _nested(manifest.data.shape, ["number", "null"] if is_table else "number", max_rows)
    z = _nested((manifest.latent_dim,), "number", max_rows)
    schemas: dict[str, dict[str, Any]] = dict.fromkeys(("rows", "n", "num_samples", "seed", "start"), _INTEGER)
    schemas |= {"id": {}, "conditions": _ANY | {"additionalProperties": _list(_STRING)}, "x": data, "x_mean": data}
    schemas |= {"z": z, "z_mean": z, "z_log_var": z, "records": _list(_ANY)}
    schemas |= dict.fromkeys(("elbo", "reconstruction", "kl"), _list(_NUMBER))
    size = _object({"median": _NUMBER, "minimum": _NUMBER, "of": _INTEGER})
    schemas |= {"effective_sample_size": size if operation == "sample" else _list(_NUMBER)}
    schemas |= {"threshold": _LIMIT, "anomaly": _list(_BOOLEAN)}
    names, optional = ("id", *_ANSWERS[operation]), ("id", *_SOMETIMES.get(operation, ()))
    if is_table and "records" in operations.OPERATIONS[operation].fields:
        names, optional = (*names, "records"), (*optional, "records", "x", "x_mean")
    described = {name: {"description": _MEANINGS[name]} if name in _MEANINGS else {} for name in names}
    return _object({name: schemas[name] | described[name] for name in names}, optional)


def _field(field: str, operation: str, manifest: Manifest, max_rows: int) -> dict[str, Any] | None:
    """Return the schema of a field for a model; None if the model does not have it."""
    schemas: dict[str, dict[str, Any]] = {
        "id": {},
        "n": {"type": "integer", "minimum": 1, "maximum": max_rows},
        "seed": {"type": "integer", "minimum": 0, "maximum": noise.MAX_SEED},
        "start": {"type": "integer", "minimum": 0, "maximum": noise.MAX_INDEX, "default": 0},
        "temperature": {"type": "number", "minimum": 0, "default": 1},
        "given": {"type": "object", "additionalProperties": {"type": ["number", "string", "boolean"]}},
        "draw": {"type": "boolean"},
        "dtype": {"type": "string", "enum": ["float32", "uint8"], "default": "float32"},
        "records": {"type": "boolean", "default": False},
        "scale": {"type": "integer", "minimum": 1, "maximum": MAX_SCALE},
        "plain": {"type": "boolean", "default": False},
        "num_samples": {"type": "integer", "minimum": 1},
        "threshold": {"anyOf": [{"type": "number"}, {"type": "string", "pattern": "^q0?\\.[0-9]+$"}]},
    }
    if field == "label":
        condition = manifest.condition("label")
        return None if condition is None else _condition(condition, operation) | {"description": _TEXTS["label"]}
    if field == "condition":
        if not manifest.conditions:
            return None
        values = {each.name: _condition(each, operation) for each in manifest.conditions}
        return {"type": "object", "properties": values, "additionalProperties": False} | {
            "description": _TEXTS["condition"]
        }
    if operation == "score" and field in ("num_samples", "seed"):
        default = operations.score_defaults(manifest)[field]
        text = _SCORE_SEED if field == "seed" else _TEXTS[field]
        return schemas[field] | {"description": text, "default": default}
    if field == "threshold":
        stored: Any = manifest.raw.get("score")
        held_out = stored.get("split") == thresholds.HELD_OUT if stored else None
        return schemas[field] | {"description": f"{_TEXTS[field]} {_THRESHOLD[held_out]}"}
    if field == "z":
        rows = _nested((manifest.latent_dim,), "number", max_rows)
        return rows | {"description": f"Latent vectors, [rows, {manifest.latent_dim}]."}
    if field == "x":
        return _x(manifest, max_rows, may_lack_columns=operation == "impute")
    return schemas[field] | {"description": _TEXTS[field]}


def _condition(condition: Condition, operation: str) -> dict[str, Any]:
    """Return the schema of one value, or a list of values. `sample` also has the words `all` and `data`."""
    words: list[str] = []
    if operation == "sample":
        words += [ALL] if condition.categorical else []
        words += [DATA] if condition.shares or condition.quantiles else []
    if not condition.categorical:
        low, high = condition.range or (None, None)
        one = {"type": "number"} | ({} if low is None else {"minimum": low, "maximum": high})
        # One value per row is data, which may lie outside the range.
        forms = [one, *([{"type": "string", "enum": words}] if words else [])]
        return {"anyOf": [*forms, _list(one if operation == "sample" else _NUMBER) | {"minItems": 1}]}
    index = {"type": "integer", "minimum": 0, "maximum": len(condition.classes) - 1}
    few = len(condition.classes) <= MAX_CLASSES
    name, item = (_STRING | ({"enum": [*condition.classes, *more]} if few else {}) for more in (words, []))
    return {"anyOf": [name, index, _list({"anyOf": [item, index]}) | {"minItems": 1}]}


def _x(manifest: Manifest, max_rows: int, may_lack_columns: bool) -> dict[str, Any]:
    data = manifest.data
    if data.kind != "table":
        text = f"Rows in data units, [rows, {', '.join(map(str, data.shape))}]"
        if data.range is not None and data.bounded:
            text += f", {data.range[0]:g} to {data.range[1]:g}"
        shapes = [data.shape]
        if len(data.shape) > 1 and data.shape[-1] == 1:
            shapes.append(data.shape[:-1])
            text += ". The last axis may be left out"
        forms = [_nested(shape, "number", max_rows) for shape in shapes]
        return (forms[0] if len(forms) == 1 else {"anyOf": forms}) | {"description": f"{text}."}
    names = [str(each["name"]) for each in data.columns]
    names += [str(each.column.get("name", each.name)) for each in manifest.conditions]
    cell = {"type": ["number", "string", "boolean", "null"]}
    rows = {"type": "array", "minItems": 1, "maxItems": max_rows}
    listed = ", ".join(names[:MAX_CLASSES]) + (", ..." if len(names) > MAX_CLASSES else "")
    return {
        "description": f"Rows of the table: objects with the columns {listed}; or one object of such columns, each a "
        f"list; or lists of {data.shape[0]} numbers with classes as indices. null is a missing cell.",
        "anyOf": [
            rows | {"items": {"type": "object", "properties": dict.fromkeys(names, cell)}},
            {
                "type": "object",
                "properties": dict.fromkeys(names, rows | {"items": cell}),
                "required": [] if may_lack_columns else [str(each["name"]) for each in data.columns],
            },
            _nested(data.shape, ["number", "null"], max_rows),
        ],
    }


def _nested(shape: Sequence[int], kind: str | list[str], max_rows: int) -> dict[str, Any]:
    """Return the schema of rows of a shape as nested lists."""
    schema: dict[str, Any] = {"type": kind}
    for size in reversed(shape):
        schema = _list(schema) | {"minItems": size, "maxItems": size}
    return _list(schema) | {"minItems": 1, "maxItems": max_rows}


_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 0.9em ui-monospace, monospace; }
pre { overflow-x: auto; padding: 0.75rem; background: #8881; border-radius: 6px; }
table { border-collapse: collapse; width: 100%; display: block; overflow-x: auto; }
th, td { text-align: left; vertical-align: top; padding: 0.25rem 0.75rem 0.25rem 0; border-bottom: 1px solid #8884; }
summary { cursor: pointer; padding: 0.4rem 0; }
.method { display: inline-block; min-width: 3.5rem; font-weight: 600; }
"""


def page(document: Mapping[str, Any]) -> str:
    """Return an OpenAPI document as an HTML page without scripts and external files."""
    info = document["info"]
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<link rel="icon" href="data:,">\n<title>kvae API</title>\n<style>{_STYLE}</style>\n</head>\n<body>',
        f"<h1>kvae {_text(info['version'])}</h1>\n<p>{_text(info['description'])}</p>",
        '<p><a href="/">Explorer</a> · <a href="/openapi.json">OpenAPI document</a>, for clients and generators</p>',
    ]
    for path, methods in document["paths"].items():
        for method, each in methods.items():
            parts.append(_endpoint(path, method, each))
    codes = "".join(f"<tr><td>{code}</td><td>{_text(text)}</td></tr>" for code, text in _ERRORS.items())
    parts.append(f"<h2>Errors</h2>\n<table><tr><th>Status</th><th>Meaning</th></tr>{codes}</table>")
    parts.append('<p>The body of an error is <code>{"error": {"message": "...", "exit_code": 2}}</code>.</p>')
    parts.append("</body>\n</html>\n")
    return "\n".join(parts)


def _endpoint(path: str, method: str, each: Mapping[str, Any]) -> str:
    content = each.get("requestBody", {}).get("content", {}).get(JSON, {})
    schema = content.get("schema", {})
    fields = [(name, value, name in schema["required"]) for name, value in schema.get("properties", {}).items()]
    fields += [(value["name"], value["schema"], False) for value in each.get("parameters", ())]
    answers = each["responses"]["200"]["content"]
    returned = [(name, value, False) for name, value in answers[JSON]["schema"]["properties"].items()]
    return (
        f'<details><summary><span class="method">{method.upper()}</span> <code>{_text(path)}</code> '
        f"{_text(each['summary'])}</summary>\n{_table('Field', fields)}\n<p>Answer: {_text(', '.join(answers))}</p>\n"
        f"{_table('Field of the answer', returned)}</details>"
    )


def _table(head: str, fields: Sequence[tuple[str, Mapping[str, Any], bool]]) -> str:
    """Return a table of fields: name, schema, and whether the field is required. An empty column is left out."""
    has_texts = any("description" in value for _, value, _ in fields)
    rows = "".join(
        f"<tr><td><code>{_text(name)}</code>{' (required)' if required else ''}</td><td>{_text(_type(value))}</td>"
        + (f"<td>{_text(value.get('description', ''))}</td>" if has_texts else "")
        for name, value, required in fields
    )
    meaning = "<th>Meaning</th>" if has_texts else ""
    return f"<table><tr><th>{head}</th><th>Type</th>{meaning}</tr>{rows}</table>" if rows else ""


def _type(schema: Mapping[str, Any]) -> str:
    """Return the type of a schema in words."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(each) for each in schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(schema["enum"])
    kind = schema.get("type", "any")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"list of {_type(schema['items'])}"
    if "minimum" in schema:
        high = f" to {schema['maximum']:g}" if schema.get("maximum", 2**63) < 2**53 else ""
        return f"{kind} {'from' if high else 'of at least'} {schema['minimum']:g}{high}"
    return str(kind)


def _text(value: object) -> str:
    """Return text as HTML, with code for what is between backticks."""
    parts = html.escape(str(value)).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
