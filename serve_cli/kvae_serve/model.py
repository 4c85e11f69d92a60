"""A model from its sealed files: load it, sample, decode, encode, score and verify, with numpy and ONNX Runtime alone.

```python
model = load("mnist")
draws = model.sample(16, label=3, seed=0)
draws.x  # float32 [16, 28, 28, 1], pixels 0 to 255
```
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kvae_serve.errors import InputDataError, ModelFileError, RequestError, VerificationError, printable
from kvae_serve.model_figures import Figures
from kvae_serve.model_rows import Rows
from kvae_serve.model_walks import Walks
from kvae_serve.runtime import conditions as conditions_of
from kvae_serve.runtime import locate, providers
from kvae_serve.runtime.providers import CPU
from kvae_serve.runtime.session import BATCH_SIZE, Session, mebibytes
from kvae_serve.sealed import file as onnx_file
from kvae_serve.sealed import golden, signature
from kvae_serve.sealed.manifest import GRAPHS, Manifest


class Check(NamedTuple):
    """One line of `Model.verify`: the worst difference of an output from its golden values, and what is allowed."""

    graph: str
    output: str
    difference: float
    allowed: float
    ok: bool


def load(
    path_or_name: str | os.PathLike[str],
    *,
    threads: int = 1,
    provider: str = "cpu",
    max_bytes: int | None = None,
    max_memory: int | None = None,
) -> Model:
    """Load a model; each of its files is read and opened when it is first needed.

    Args:
        path_or_name: the name of a shipped model, a folder of .onnx files, or one .onnx file. A path with a
            separator, such as `./mnist`, is never taken for a name.
        threads: threads within one run; results do not depend on it.
        provider: execution provider of ONNX Runtime, such as "cpu" or "cuda"; see
            `kvae_serve.runtime.providers`. What is promised of equal bits and of memory holds for "cpu".
        max_bytes: largest file that is read; 128 MiB, or `$KVAE_MAX_FILE` in MiB.
        max_memory: most bytes that one graph may take; chosen by the model's size, or `$KVAE_MAX_MEMORY` in MiB.

    Raises:
        RequestError: that is no path and no name, or this onnxruntime has no such provider.
        ModelFileError: there is no such model.
    """
    if provider != CPU:
        provider = providers.check(provider)
    path, paths = locate.find(path_or_name)
    return Model(
        path,
        paths,
        threads=threads,
        provider=provider,
        max_bytes=max_bytes or mebibytes("KVAE_MAX_FILE") or onnx_file.MAX_BYTES,
        max_memory=max_memory or mebibytes("KVAE_MAX_MEMORY"),
    )


def _load(path: str, threads: int, max_bytes: int, max_memory: int | None, provider: str = CPU) -> Model:
    return load(path, threads=threads, provider=provider, max_bytes=max_bytes, max_memory=max_memory)


class Model(Rows, Walks, Figures):
    """The graphs of one model; made by `load`. Safe to use from several threads.

    Data is in data units throughout, as the user's files hold it: pixels are 0 to 255, images `[height, width,
    channels]`. Conditions are given by name: for a categorical one class names or indices, for a continuous one
    numbers; one for all rows or one for each. `label` is short for the condition of that name.
    """

    def __init__(
        self,
        path: str,
        paths: dict[str, str],
        *,
        threads: int,
        max_bytes: int,
        max_memory: int | None,
        provider: str = CPU,
    ) -> None:
        self.path = path
        self.provider = provider
        self._paths = paths
        self._threads, self._max_bytes, self._max_memory = threads, max_bytes, max_memory
        self._lock = threading.RLock()
        self._graphs: dict[str, tuple[onnx_file.SealedGraph, Manifest]] = {}
        self._sessions: dict[str, Session] = {}
        if "" in paths:  # A lone file says itself which graph it is.
            graph, manifest = self._read(paths[""])
            self._graphs[manifest.graph] = graph, manifest
            self._paths = {manifest.graph: paths[""]}

    def __repr__(self) -> str:
        return f"<kvae model {printable(self.path)!r}: {', '.join(self.graphs)}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy as a path and options: sessions stay behind, and are opened again on first use."""
        options = self._threads, self._max_bytes, self._max_memory, self.provider
        return _load, (os.path.abspath(self.path), *options)  # noqa: PTH100

    @property
    def graphs(self) -> tuple[str, ...]:
        """Which graphs there are, of encoder, decoder, prior and likelihood."""
        return tuple(graph for graph in GRAPHS if graph in self._paths)

    @property
    def manifest(self) -> Manifest:
        """What the model says about itself, from the first of its files."""
        return self.graph_manifest(next(graph for graph in locate.GRAPHS if graph in self._paths))

    def graph_manifest(self, graph: str) -> Manifest:
        """Return the manifest of one graph: as the model's, with golden values of its own."""
        return self.sealed(graph)[1]

    def has(self, graph: str) -> bool:
        """Tell whether a graph (`"encoder"`, ...) is there."""
        return graph in self._paths

    def sealed(self, graph: str) -> tuple[onnx_file.SealedGraph, Manifest]:
        """Return a graph's checked file and manifest, read on first use.

        Raises:
            ModelFileError: it is not there, is bad, or belongs to another model than the other files.
        """
        with self._lock:
            if graph not in self._paths:
                raise ModelFileError(
                    f"{printable(self.path)} has no {graph}.onnx, which this needs. Copy it beside the others."
                )
            if graph not in self._graphs:
                file, manifest = self._read(self._paths[graph])
                if manifest.graph != graph:
                    raise ModelFileError(
                        f"{printable(file.path)} holds the {manifest.graph} of a model. Give it its own name back."
                    )
                for _, other in self._graphs.values():
                    self._check_same_model(manifest, other)
                self._graphs[graph] = file, manifest
            return self._graphs[graph]

    def run(
        self,
        graph: str,
        feeds: Mapping[str, np.ndarray],
        batch_size: int = BATCH_SIZE,
        wanted: Collection[str] | None = None,
    ) -> dict[str, np.ndarray]:
        """Run one graph on all rows of its inputs, in batches; see `Session.run`."""
        return self.session(graph).run(feeds, batch_size, wanted)

    def session(self, graph: str) -> Session:
        """Return the session of a graph, opened on first use."""
        with self._lock:
            if graph not in self._sessions:
                file, manifest = self.sealed(graph)
                self._sessions[graph] = Session(file, manifest, self._threads, self._max_memory, self.provider)
            return self._sessions[graph]

    def log_likelihood(
        self,
        x: np.ndarray,
        z: np.ndarray,
        conditions: Mapping[str, Any] | None = None,
        *,
        label: Any = None,
        batch_size: int = BATCH_SIZE,
    ) -> np.ndarray:
        """Return log p(x given z), every constant included: float32 `[rows]`, in nats per example.

        Args:
            x: `[rows, *shape]` in data units; for a Bernoulli likelihood the lowest or highest value each.
            z: float `[rows, latent_dim]`.
            conditions: a value, or one for each row, for each condition.
            label: short for `conditions={"label": ...}`.
            batch_size: rows at a time.

        Raises:
            InputDataError: x is not such data; gray levels are no outcomes of a Bernoulli.
        """
        feeds = self.feeds(conditions, label, x=x, z=z)
        if self.manifest.likelihood["name"] == "bernoulli":
            from kvae_serve.readers.checks import check_outcomes

            check_outcomes(feeds["x"], self.manifest.data.range, "x")
        return self.run("likelihood", feeds, batch_size)["log_likelihood"]

    def info(self) -> dict[str, Any]:
        """Return all that the model says about itself, after checking every file of it, as plain values.

        Returns:
            `path`; `manifest`, as docs/format.md tells it; and `files`, for each graph its `graph`, `path`, `bytes`,
            `parameters`, `nodes`, and `inputs` and `outputs` by name, each its type and then the size of each axis.

        Raises:
            ModelFileError: a file is bad, or belongs to another model than the others.
        """
        files = []
        for graph in self.graphs:
            file, _ = self.sealed(graph)
            faces = {"inputs": file.inputs, "outputs": file.outputs}
            sizes = {"bytes": len(file.data), "parameters": file.num_parameters, "nodes": file.num_nodes}
            files.append(
                {"graph": graph, "path": file.path, **sizes}
                | {
                    side: {name: [value.dtype, *value.shape] for name, value in values.items()}
                    for side, values in faces.items()
                }
            )
        return {"path": self.path, "manifest": self.manifest.to_dict(), "files": files}

    def verify(self) -> list[Check]:
        """Run the golden inputs through every graph and hold the outputs against what Keras gave.

        Returns:
            One `Check` for each output; all of them ok where the model still does here what it did where it was made.

        Raises:
            VerificationError: a file has no golden values.
        """
        checks = []
        for graph in self.graphs:
            manifest = self.graph_manifest(graph)
            if not (manifest.golden or {}).get("outputs"):
                raise VerificationError(
                    f"{graph}.onnx has no golden values, so it cannot be verified. Export it again."
                )
            session = self.session(graph)
            outputs = session.run(golden.golden_inputs(manifest, session.inputs))
            checks += [Check(graph, *each) for each in golden.compare(manifest, outputs)]
        return checks

    def _read(self, path: str) -> tuple[onnx_file.SealedGraph, Manifest]:
        file = onnx_file.read(path, self._max_bytes)
        manifest = Manifest.parse(file.manifest_json, printable(path))
        signature.check(manifest, file.inputs, file.outputs, printable(path))
        return file, manifest

    def _check_same_model(self, one: Manifest, other: Manifest) -> None:
        keys = ("model_id", "latent_dim", "data", "conditions", "likelihood", "prior")
        if any(getattr(one, key) != getattr(other, key) for key in keys):
            raise ModelFileError(
                f"{printable(self.path)} mixes two models: {one.graph}.onnx is of {one.model_id[:12]}, "
                f"{other.graph}.onnx of {other.model_id[:12]}. Copy all files of one export together."
            )

    def with_label(self, label: Any, conditions: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the conditions with the label among them, under its name."""
        asked = dict(conditions or {})
        if label is None:
            return asked
        if "label" in asked:
            raise RequestError("The label is given twice: as label, and as the condition named label.")
        if not self.manifest.conditions:
            raise RequestError(f"{self.manifest.name} is unconditional, so it takes no label. Leave it out.")
        return {"label": label} | asked

    def feeds(
        self,
        conditions: Mapping[str, Any] | None,
        label: Any,
        x: np.ndarray | None = None,
        z: np.ndarray | None = None,
        first: int = 0,
    ) -> dict[str, np.ndarray]:
        """Return what a graph takes, checked, for as many rows as x or z have.

        Args:
            conditions: a value, or one for each row, for each condition.
            label: short for `conditions={"label": ...}`.
            x: `[rows, *shape]` in data units.
            z: `[rows, latent_dim]`.
            first: row of the first in the data that these are a part of.
        """
        manifest = self.manifest
        feeds = {}
        if x is not None:
            feeds["x"] = _rows(x, manifest.data.shape, "x")
            from kvae_serve.readers.checks import check_data, check_units

            check_data(feeds["x"], manifest.data, "x", first)
            if first == 0:  # Of a part alone it may be wrong: some images are nearly black.
                check_units(np.asarray(x), manifest.data.range, "x")
        if z is not None:
            feeds["z"] = _rows(z, (manifest.latent_dim,), "z")
        num = len(next(iter(feeds.values())))
        return feeds | conditions_of.columns(manifest, self.with_label(label, conditions), num)


def _rows(values: Any, shape: Sequence[int], name: str) -> np.ndarray:
    """Return float32 `[rows, *shape]`; an axis of one channel may be left out."""
    rows = np.asarray(values)
    if rows.dtype.kind not in "uifb":
        raise InputDataError(f"{name} has the type {rows.dtype}, expected numbers.")
    if len(shape) > 1 and shape[-1] == 1 and rows.shape[1:] == tuple(shape[:-1]):
        rows = rows[..., None]
    if rows.ndim != 1 + len(shape) or rows.shape[1:] != tuple(shape):
        raise InputDataError(f"{name} has the shape {list(rows.shape)}, expected {['rows', *shape]}.")
    return rows.astype(np.float32)
