"""Trace of a graph's function, and the reference outputs that its ONNX file is compared with.

A trace that an ONNX file cannot reproduce is refused. tf2onnx would freeze noise to one draw without a warning, and it
would drop changes of variables, as made by layers that are called with `training=True`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

# Keeps messages of TensorFlow's graph optimiser off stderr. TensorFlow reads it once, on import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import tensorflow as tf

from kvae_export.graph import Graph
from kvae_export.layer_names import LayerFinder
from kvae_serve.errors import RequestError

NOISE_HINT = "Graphs are deterministic: make the noise an input"
_NOISE = ("StatelessRandom", "StatelessTruncated", "StatelessMultinomial", "StatelessParameterized", "StatelessShuffle",
          "Random", "Truncated", "ParameterizedTruncated", "Multinomial", "Stateful", "Rng")  # fmt: skip
_ASSIGNMENTS = ("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp", "ResourceScatter")


class Traced:
    """A graph's function as a TensorFlow graph with a batch axis of any size.

    Raises:
        RequestError: If the function draws noise, changes a variable, or returns other tensors than the graph has.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.specs = [tf.TensorSpec((None, *shape), dtype, name=name) for name, (shape, dtype) in graph.inputs.items()]
        self.function = self._tf_function()
        self.concrete = self.function.get_concrete_function(*self.specs)
        self.layers = LayerFinder(lambda: self._tf_function().get_concrete_function(*self.specs))
        self._refuse_noise_and_change()

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs for `feeds`: float32 by name, in the order of the graph.

        They are computed on the CPU even if there is a GPU, where TensorFloat-32 would keep only three digits.
        """
        with tf.device("/CPU:0"):
            tensors = [tf.constant(feeds[spec.name], spec.dtype) for spec in self.specs]
            outputs = self.function(*tensors)
        return {name: outputs[name].numpy() for name in self.graph.outputs}

    def _tf_function(self):
        return tf.function(self._call, input_signature=self.specs, autograph=False)

    def _call(self, *tensors):
        outputs = self.graph.function(**dict(zip(self.graph.inputs, tensors, strict=True)))
        if not isinstance(outputs, Mapping) or set(outputs) != set(self.graph.outputs):
            returned = sorted(outputs) if isinstance(outputs, Mapping) else type(outputs).__name__
            raise RequestError(
                f"The function of {self.graph.name} returned {returned}; expected a dict of {list(self.graph.outputs)}."
            )
        return {name: self._checked(name, tf.convert_to_tensor(outputs[name])) for name in self.graph.outputs}

    def _checked(self, name: str, tensor: Any):
        expected = self.graph.outputs[name]
        if tensor.dtype != tf.float32:
            raise RequestError(f"Output {name!r} of {self.graph.name} is {tensor.dtype.name}; expected float32.")
        # A first axis of known length is not the batch axis.
        if not tensor.shape.is_compatible_with((None, *expected)) or tensor.shape[:1] != [None]:
            raise RequestError(
                f"Output {name!r} of {self.graph.name} has shape {tuple(tensor.shape)}; expected {(None, *expected)} "
                "with None for the batch."
            )
        return tensor

    def _refuse_noise_and_change(self) -> None:
        for name, op in self._used_ops():
            # A call is not noise; the called function is checked too.
            if op.startswith(_NOISE) and op != "StatefulPartitionedCall":
                raise RequestError(
                    f"{self.graph.name} cannot be exported: {self.layers.describe(name)} draws noise (op {op}). "
                    f"{NOISE_HINT}."
                )
        for op in self.concrete.graph.get_operations():
            # Integers are the state of random generators, whose draws may be unused.
            if op.type.startswith(_ASSIGNMENTS) and any(t.dtype.is_floating for t in op.inputs):
                raise RequestError(
                    f"{self.graph.name} cannot be exported: {self.layers.describe(op.name)} changes a variable "
                    f"(op {op.type}). Call its layers with training=False."
                )

    def _used_ops(self) -> Iterator[tuple[str, str]]:
        """Yield (name, type) of every op that an output depends on, including ops inside loops and branches."""
        pending = [tensor.op for tensor in self.concrete.outputs]
        seen: set[str] = set()
        functions: list[tuple[str, str]] = []
        while pending:
            op = pending.pop()
            if op.name in seen:
                continue
            seen.add(op.name)
            yield op.name, op.type
            pending.extend(tensor.op for tensor in op.inputs)
            functions.extend((op.name, called) for called in _functions_of(op.node_def))
        library = {}
        if functions:
            library = {f.signature.name: f for f in self.concrete.graph.as_graph_def().library.function}
        done = set()
        while functions:
            name, called = functions.pop()
            if called in done or called not in library:
                continue
            done.add(called)
            for node in library[called].node_def:
                yield name, node.op
                functions.extend((name, inner) for inner in _functions_of(node))


def _functions_of(node: Any) -> Iterator[str]:
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (function.name for function in value.list.func)
