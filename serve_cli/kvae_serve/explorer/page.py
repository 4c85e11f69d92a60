"""The page of the explorer, assembled from a model, examples, and the files in `web` and `onnxruntime_web`.

The page contains the sealed files byte for byte. JavaScript reads names and classes from them and shows them as text,
so nothing from a model file becomes markup. A Content-Security-Policy allows the scripts and the stylesheet of the page
by their digests, and no network.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import os
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from kvae_serve import __version__, cells
from kvae_serve.errors import RequestError, printable
from kvae_serve.inference.inputs import feeds
from kvae_serve.inference.mixed_autoregressive import Scores
from kvae_serve.inference.sampling import encode
from kvae_serve.latent.activity import Activity, measure
from kvae_serve.readers import Dataset
from kvae_serve.readers.dataset import evenly_spaced
from kvae_serve.runtime import conditions as conditions_of
from kvae_serve.runtime.graphs import Graphs
from kvae_serve.sealed.manifest import Data
from kvae_serve.writers import atomic

INLINE, BESIDE = "inline", "beside"

MAX_EXAMPLES = 2000
"""Number of examples on the map."""

MAX_EXAMPLE_BYTES = 2**20
"""Size of the examples that can be encoded in the page, before compression."""

MAX_COLUMNS = 40
"""Number of columns of a table that can colour the map."""

INACTIVE = 0.02
"""Share of the activity of the most active dimension below which a dimension is folded away."""

_MODULES = (
    "bytes", "noise", "features", "sealed", "draw", "paint", "model", "explorer", "controls", "gallery", "map",
    "encode", "paths", "share", "main",
)  # fmt: skip
_GZIP_LEVEL = 9
_WASM = "onnxruntime_web/ort-wasm-simd-threaded.wasm.gz"
_NOTHING, _SELF = "'none'", "'self'"


class Runtime(NamedTuple):
    """Source of onnxruntime-web: part of the page, one file next to it, or a folder on a server.

    Attributes:
        source: "inline", "beside", or the https address of a folder with the files of the npm package.
    """

    source: str = INLINE

    @property
    def file_name(self) -> str:
        """Name of the file next to the page."""
        return f"onnxruntime-web-{_vendored()['version']}.js"

    def check(self) -> None:
        """Raise `RequestError` if the source is neither a known word nor an address."""
        if self.source not in (INLINE, BESIDE) and not re.fullmatch(
            r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~@%+/-]*)?", self.source
        ):
            raise RequestError(
                f"--runtime is {printable(self.source, 80)}; expected inline, beside, or the https address of a folder "
                "with the files of the npm package onnxruntime-web."
            )


class Examples(NamedTuple):
    """Examples of a page.

    Attributes:
        x: `[rows, *shape]` in data units.
        conditions: Value of each condition of the model, or one value per row.
        labels: Further labels that colour the map, by name: values `[rows]`, and class names or None for numbers.
    """

    x: np.ndarray
    conditions: Mapping[str, Any] = {}
    labels: Mapping[str, tuple[np.ndarray, Sequence[str] | None]] = {}


def write(
    path: str,
    model: Graphs,
    examples: Examples | None = None,
    *,
    name: str,
    runtime: Runtime = Runtime(),  # noqa: B008
    force: bool = False,
) -> list[str]:
    """Write the page of a model.

    Args:
        path: Path of the page.
        model: A model with its decoder, and with its encoder if there are examples.
        examples: Examples for the map and for encoding.
        name: Name of the model for the commands that the page shows.
        runtime: Source of onnxruntime-web.
        force: Replace an existing page.

    Returns:
        Paths of the written files.

    Raises:
        RequestError: The runtime is invalid, or a condition of the examples is missing.
        InputDataError: The examples do not fit the model.
        ModelFileError: A graph is missing or invalid.
        OutputError: The page exists or cannot be written.
    """
    runtime.check()
    page = render(model, examples, name=name, runtime=runtime).encode()
    atomic.check_target(path, force)
    written = [path]
    if runtime.source == BESIDE:
        beside = os.path.join(os.path.dirname(path), runtime.file_name)  # noqa: PTH118, PTH120
        # The name contains the version, so an existing file has the same content.
        atomic.write_whole(beside, _runtime_beside().encode(), force=True)
        written.append(beside)
    atomic.write_whole(path, page, force=force)
    return written


def render(
    model: Graphs,
    examples: Examples | None = None,
    *,
    name: str,
    runtime: Runtime = Runtime(),  # noqa: B008
) -> str:
    """Return the page as text; arguments and errors as of `write`."""
    model.need("decoder")
    blocks = {f"graph-{graph}": model.sealed(graph)[0].data for graph in model.graphs}
    facts = {"version": __version__, "model": name, "graphs": model.graphs, **_facts(model, examples, blocks)}
    if "graph-likelihood" in blocks:  # It contains the weights of the decoder, which is a third of the page's model.
        pieces, blocks["graph-likelihood"] = _difference(blocks["graph-likelihood"], blocks["graph-decoder"])
        facts["likelihood_pieces"] = pieces
    if "graph-columns" in blocks:
        facts["atom_scores"] = [_atom_scores(column) for column in model.manifest.data.columns]
    script = _javascript()
    head, scripts, sources = _runtime(runtime, facts)
    style = _asset("web/style.css")
    addresses = [each for each in sources if each != _SELF]
    policy = (
        f"default-src 'none'; script-src {' '.join([*map(_digest, [script, *scripts]), *sources])} 'wasm-unsafe-eval'; "
        f"style-src {_digest(style)}; img-src data: blob:; connect-src {' '.join(addresses) or _NOTHING}; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">\n<link rel="icon" href="data:,">\n<title>kvae</title>',
        f"<style>{style}</style>\n</head>\n<body>",
        _asset("web/page.html"),
        _data_block("facts", _json(facts), "application/json"),
        _data_block("onnxruntime-web-licence", _asset("onnxruntime_web/LICENSE")),
        *(_data_block(each, _packed(content)) for each, content in blocks.items()),
        *head,
        f'<script type="module">{script}</script>\n</body>\n</html>\n',
    ]
    return "\n".join(parts)


def _facts(model: Graphs, examples: Examples | None, blocks: dict[str, bytes]) -> dict[str, Any]:
    """Return activity, principal axes and labels of the examples as plain values; add their arrays to the blocks."""
    manifest = model.manifest
    if examples is None:
        # The activity is then that of the model file, or of the decoder under the first value of each condition.
        first = {
            each.name: 0 if each.categorical else sum(each.range) / 2 if each.range else 0.0
            for each in manifest.conditions
        }
        activity = measure(model, conditions_of.columns(manifest, first, 1))
        return {"latent": _latent(activity), "examples": {"num": 0, "numX": 0, "columns": []}, "components": []}
    rows = evenly_spaced(len(examples.x), MAX_EXAMPLES)
    num = len(rows)
    stored = np.asarray(examples.x[rows])
    columns = {
        name: values[rows]
        for name, values in conditions_of.columns(manifest, examples.conditions, len(examples.x)).items()
    }
    inputs = feeds(manifest, columns, x=stored)
    z_mean = encode(model, inputs)["z_mean"]
    classes = {each.name: each.classes for each in manifest.conditions}
    labels = {name: (values, classes[name]) for name, values in columns.items()} | {
        name: (np.asarray(values)[rows], names) for name, (values, names) in examples.labels.items()
    }
    shown = inputs["x"].astype(np.uint8 if stored.dtype == np.uint8 else "<f4")
    num_x = min(num, MAX_EXAMPLE_BYTES // shown[0].nbytes)
    blocks["examples-z"] = z_mean.astype("<f4").tobytes()
    blocks["examples-x"] = shown[:num_x].tobytes()
    components = np.linalg.svd(z_mean.astype(np.float64) - z_mean.mean(axis=0), full_matrices=False)[2][:2]
    return {
        "latent": _latent(measure(model, {}, Dataset(inputs["x"], columns, {}, "", None))),
        "examples": {
            "num": num,
            "numX": num_x,
            "dtype": "uint8" if shown.dtype == np.uint8 else "float32",
            "columns": [_label(name, *each) for name, each in labels.items()]
            + _table_labels(inputs["x"], manifest.data),
        },
        "components": components.tolist(),
    }


def _atom_scores(column: Mapping[str, Any]) -> list[list[float]]:
    """Return each atom of a number in the quantile form with its score, which the page cannot compute."""
    knots = np.array(column.get("knots", ()), np.float32)
    atoms = np.unique(knots[1:][np.diff(knots) == 0])
    return np.stack([atoms, Scores(column)(atoms)], axis=1).tolist()


def _latent(activity: Activity) -> dict[str, Any]:
    """Return the dimensions by activity, and the number of active ones."""
    values = np.nan_to_num(activity.values)
    return {
        "order": activity.order(),
        "activity": values.tolist(),
        "unit": activity.unit,
        "active": int((values >= INACTIVE * values.max()).sum()) if values.max() > 0 else len(values),
    }


def _label(name: str, values: np.ndarray, classes: Sequence[str] | None) -> dict[str, Any]:
    """Return a label of the examples as plain values; a missing number is None."""
    numbers = values.astype(np.float64)
    known = numbers[np.isfinite(numbers)]
    extent = [float(known.min()), float(known.max())] if known.size else [0.0, 0.0]
    return {
        "name": name,
        "classes": list(classes) if classes else None,
        "values": [value if np.isfinite(value) else None for value in values.tolist()],
        "extent": extent,
        "texts": [f"{value:.6g}" for value in extent],
    }


def _table_labels(x: np.ndarray, data: Data) -> list[dict[str, Any]]:
    """Return the columns of a table as labels that colour the map."""
    labels = []
    for index, column in enumerate(data.columns[:MAX_COLUMNS]):
        label = _label(column["name"], x[:, index], column.get("classes")) | {"inTable": True}
        if not label["classes"]:
            label["texts"] = cells.texts(column, np.array(label["extent"]))
        labels.append(label)
    return labels


def _runtime(runtime: Runtime, facts: dict[str, Any]) -> tuple[list[str], list[str], list[str]]:
    """Return the elements that load onnxruntime-web, the scripts among them, and further sources to allow."""
    vendored = _vendored()
    facts["runtime"] = {"version": vendored["version"]}
    if runtime.source == INLINE:
        script = _classic(_asset("onnxruntime_web/ort.wasm.bundle.min.mjs"))
        return [_data_block("runtime", _base64(_bytes(_WASM))), f"<script>{script}</script>"], [script], []
    if runtime.source == BESIDE:
        # Browsers do not check the digest of a script that is a local file, so the policy cannot name it.
        return [f'<script src="{runtime.file_name}"></script>'], [], [_SELF]
    root = runtime.source.rstrip("/")
    module, wasm = (f"{root}/{each}" for each in ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"))
    digests = {each: bytes.fromhex(vendored["sha256"][each.rpartition("/")[2]]) for each in (module, wasm)}
    integrity = {each: f"sha256-{_base64(digest)}" for each, digest in digests.items()}
    facts["runtime"] |= {"address": wasm, "integrity": integrity[wasm]}
    imports = json.dumps({"integrity": {module: integrity[module]}})
    script = f"import * as ort from {json.dumps(module)};\nglobalThis.ort = ort;\n"
    elements = [f'<script type="importmap">{imports}</script>', f'<script type="module">{script}</script>']
    return elements, [imports, script], [module, wasm]


def _classic(module: str) -> str:
    """Return onnxruntime-web as a classic script that sets `ort`: a module cannot be loaded from a local file."""
    body, exported = re.fullmatch(
        r"(.*)export\{([^{}]*)\};?\s*(?://# sourceMappingURL.*)?\s*", module, re.DOTALL
    ).groups()  # type: ignore[union-attr]
    names = [each.split(" as ") for each in exported.split(",")]
    members = ",".join(f"{public}:{local}" for local, public in names if public != "default")
    body = body.replace("import.meta.url", "document.baseURI")
    return f"{body.rstrip()}\nglobalThis.ort={{{members}}};".join(("(()=>{", "})();"))


def _runtime_beside() -> str:
    """Return the file next to the page: onnxruntime-web with its WebAssembly as base64."""
    script = _classic(_asset("onnxruntime_web/ort.wasm.bundle.min.mjs"))
    wasm = json.dumps(_base64(_bytes(_WASM)))
    return f"/*\n{_asset('onnxruntime_web/LICENSE')}*/\n{script}\nglobalThis.kvaeRuntime={wasm};\n"


def _vendored() -> dict[str, Any]:
    """Return version and digests of the vendored files."""
    return json.loads(_asset("onnxruntime_web/version.json"))


def _javascript() -> str:
    """Return all modules as one: imports of each other are left out, because their names are in one scope."""
    parts = [_asset(f"web/{name}.js") for name in _MODULES]
    text = "\n".join(re.sub(r"^import .*? from \"\./\w+\.js\";\n", "", part, flags=re.MULTILINE) for part in parts)
    return re.sub(r"^export ", "", text, flags=re.MULTILINE)


def _difference(content: bytes, base: bytes, step: int = 256) -> tuple[list[list[int]], bytes]:
    """Split a file into pieces of another file and its own bytes, as rsync does.

    Args:
        content: The file.
        base: The other file.
        step: Length of the blocks of `base` to look for; only longer pieces are found.

    Returns:
        Pieces `[start, length]` of `base`, or `[-1, length]` for the next own bytes; and the own bytes.
    """
    known = {base[at : at + step]: at for at in range(0, len(base) - step + 1, step)}
    pieces, own, at, written = [], [], 0, 0
    while at <= len(content) - step:
        start = known.get(content[at : at + step])
        if start is None:
            at += 1
            continue
        back, end = 0, step
        while at - back > written and start > back and content[at - back - 1] == base[start - back - 1]:
            back += 1
        while content[at + end : at + end + step] == base[start + end : start + end + step] and at + end < len(content):
            end += step
        end = min(end, len(content) - at, len(base) - start)
        if at - back > written:
            pieces.append([-1, at - back - written])
            own.append(content[written : at - back])
        pieces.append([start - back, back + end])
        at = written = at + end
    pieces.append([-1, len(content) - written])
    return pieces, b"".join([*own, content[written:]])


def _data_block(identifier: str, text: str, kind: str = "text/plain") -> str:
    return f'<script type="{kind}" id="{identifier}">{text}</script>'


def _json(value: Mapping[str, Any]) -> str:
    """Return JSON that may stand in a script element: `</script>` and `<!--` cannot occur in it."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _packed(content: bytes) -> str:
    # mtime=0, so that the same model gives the same page.
    return _base64(gzip.compress(content, _GZIP_LEVEL, mtime=0))


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _digest(text: str) -> str:
    """Return the source expression of a script or stylesheet for the Content-Security-Policy."""
    return f"'sha256-{_base64(hashlib.sha256(text.encode()).digest())}'"


def _asset(path: str) -> str:
    return _bytes(path).decode()


def _bytes(path: str) -> bytes:
    return files(__package__).joinpath(path).read_bytes()
