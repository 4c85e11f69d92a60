"""The graphs of one model: sealed files that are read, checked and opened in ONNX Runtime when they are first used."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping

import numpy as np

from kvae_serve.errors import ModelFileError, printable
from kvae_serve.runtime import locate
from kvae_serve.runtime.providers import CPU
from kvae_serve.runtime.session import BATCH_SIZE, Session
from kvae_serve.sealed import file as sealed_file
from kvae_serve.sealed import signature
from kvae_serve.sealed.manifest import GRAPHS, Manifest


class Graphs:
    """The graphs of one model. Several threads may share an instance.

    Args:
        path: Folder or file of the model.
        paths: File of each graph by name; the key of a single file is "".
        threads: Threads per run.
        max_bytes: Size limit of a file.
        max_memory: Memory limit of a graph in bytes; None for one that depends on the model's size.
        provider: Execution provider, as returned by `providers.check`.
    """

    def __init__(
        self,
        path: str,
        paths: Mapping[str, str],
        *,
        threads: int = 1,
        max_bytes: int = sealed_file.MAX_BYTES,
        max_memory: int | None = None,
        provider: str = CPU,
    ) -> None:
        self.path = path
        self.provider = provider
        self._paths = dict(paths)
        self._threads, self._max_bytes, self._max_memory = threads, max_bytes, max_memory
        self._lock = threading.RLock()
        self._sealed: dict[str, tuple[sealed_file.SealedGraph, Manifest]] = {}
        self._sessions: dict[str, Session] = {}
        if "" in paths:  # The graph of a single file is named in its manifest.
            graph, manifest = self._read(paths[""])
            self._sealed[manifest.graph] = graph, manifest
            self._paths = {manifest.graph: paths[""]}

    @property
    def graphs(self) -> tuple[str, ...]:
        """Names of the graphs: some of encoder, decoder, prior, likelihood and columns."""
        return tuple(graph for graph in GRAPHS if graph in self._paths)

    @property
    def manifest(self) -> Manifest:
        """Metadata of the model, from the decoder if there is one."""
        return self.graph_manifest(next(graph for graph in locate.MANIFEST_ORDER if graph in self._paths))

    def graph_manifest(self, graph: str) -> Manifest:
        """Return the manifest of one graph. It differs from the model's in its golden values only."""
        return self.sealed(graph)[1]

    def has(self, graph: str) -> bool:
        """Return whether the model has a graph (`"encoder"`, ...)."""
        return graph in self._paths

    def need(self, graph: str) -> None:
        """Raise `ModelFileError` if the model does not have a graph."""
        if graph not in self._paths:
            user = "The learned prior" if graph == "prior" else "This"
            raise ModelFileError(
                f"{printable(self.path)} does not include {graph}.onnx. {user} needs it: give the folder with all "
                "files that `kvae export` wrote."
            )

    def sealed(self, graph: str) -> tuple[sealed_file.SealedGraph, Manifest]:
        """Return the checked file and the manifest of a graph; the file is read on first use.

        Raises:
            ModelFileError: The file is missing, invalid, or belongs to another model than the other files.
        """
        with self._lock:
            self.need(graph)
            if graph not in self._sealed:
                file, manifest = self._read(self._paths[graph])
                if manifest.graph != graph:
                    raise ModelFileError(
                        f"{printable(file.path)} contains the {manifest.graph}, not the {graph}. Rename it to "
                        f"{manifest.graph}.onnx."
                    )
                for _, other in self._sealed.values():
                    self._check_same_model(manifest, other)
                self._sealed[graph] = file, manifest
            return self._sealed[graph]

    def rename(self, name: str) -> None:
        """Use a name in place of the path in messages, for callers who shall not learn it. Reads all graphs.

        Raises:
            ModelFileError: A graph is invalid.
        """
        with self._lock:
            for graph in self.graphs:
                file, manifest = self.sealed(graph)
                self._sealed[graph] = file._replace(path=f"{name}/{graph}.onnx"), manifest
            self._sessions.clear()
            self.path = name

    def session(self, graph: str) -> Session:
        """Return the session of a graph, opened on first use."""
        with self._lock:
            if graph not in self._sessions:
                file, manifest = self.sealed(graph)
                self._sessions[graph] = Session(file, manifest, self._threads, self._max_memory, self.provider)
            return self._sessions[graph]

    def run(
        self,
        graph: str,
        feeds: Mapping[str, np.ndarray],
        batch_size: int = BATCH_SIZE,
        outputs: Collection[str] | None = None,
    ) -> dict[str, np.ndarray]:
        """Run one graph on all rows of its inputs, in batches; see `Session.run`."""
        return self.session(graph).run(feeds, batch_size, outputs)

    def _read(self, path: str) -> tuple[sealed_file.SealedGraph, Manifest]:
        file = sealed_file.read(path, self._max_bytes)
        manifest = Manifest.parse(file.manifest_json, printable(path))
        signature.check(manifest, file.inputs, file.outputs, printable(path))
        return file, manifest

    def _check_same_model(self, one: Manifest, other: Manifest) -> None:
        keys = ("model_id", "latent_dim", "data", "conditions", "likelihood", "prior")
        if any(getattr(one, key) != getattr(other, key) for key in keys):
            raise ModelFileError(
                f"{printable(self.path)} mixes two models: {one.graph}.onnx has the model_id {one.model_id[:12]}, "
                f"{other.graph}.onnx has {other.model_id[:12]}. Copy all files from one export."
            )
