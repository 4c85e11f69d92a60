"""A Keras model behind the interface of an exported one, so that both sample, encode and decode with the same code."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from kvae.backends.current import without_gradients
from kvae.exporting import graphs
from kvae_export import Graph
from kvae_serve.model import Model
from kvae_serve.runtime.session import Session
from kvae_serve.sealed import signature
from kvae_serve.sealed.manifest import Manifest

BATCH_SIZE = 256
"""Rows per run of Keras, whose calls have more overhead than those of ONNX Runtime."""


class KerasModel(Model):
    """Exported model whose graphs are the functions of a Keras model with its present weights.

    Args:
        model: A `kvae.VAE`.
    """

    def __init__(self, model: Any) -> None:
        if hasattr(model, "jax_state_sync"):  # within a callback JAX has newer values than the variables
            model.jax_state_sync()
        self._functions = {graph.name: graph for graph in graphs.graphs(model)}
        super().__init__(model.name, {name: name for name in self._functions})
        self._document = json.loads(json.dumps(graphs.manifest(model, model.name)))

    def graph_manifest(self, graph: str) -> Manifest:
        """Return the manifest that the graph would have after an export."""
        return Manifest.from_dict({**self._document, "graph": graph}, self.path)

    def session(self, graph: str) -> Session:
        """Return the session of a graph, created on first use."""
        if graph not in self._sessions:
            self._sessions[graph] = _KerasSession(self._functions[graph], self.graph_manifest(graph))
        return self._sessions[graph]


class _KerasSession(Session):
    """Session whose graph is a function of Keras tensors. Inputs and outputs are checked as in ONNX Runtime."""

    def __init__(self, graph: Graph, manifest: Manifest) -> None:
        self.manifest, self.name = manifest, manifest.name
        self.inputs = signature.inputs(manifest)
        self._outputs, self._function = list(graph.outputs), graph.function

    def _largest_batch(self, batch: int, num: int) -> int:
        return batch  # Keras runs the functions, so ONNX Runtime's memory limit does not apply.

    def _run_batch(self, batch: dict[str, np.ndarray], num: int, names: Sequence[str]) -> list[np.ndarray]:
        with without_gradients():
            outputs = self._function(**batch)
        values = [ops.convert_to_numpy(outputs[name]) for name in names]
        self._check_outputs(values, num, names)
        return values
