"""Trace a graph's function once, and run what was traced: the reference that its ONNX file is held to.

The trace is refused where a file could not tell the same: noise would be frozen to one draw (a converter folds it to
a constant without a word), and a changed variable is lost, as with layers that are called with `training=True`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

# Keeps the notes of TensorFlow's graph optimiser off standard error. It is read once, when TensorFlow is first opened.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import tensorflow as tf

from kvae_export.graph import Graph
from kvae_export.layer_names import LayerFinder
from kvae_serve.errors import RequestError

NOISE_HINT = "Nothing in a graph is random: take the noise as an input"
_NOISE = ("StatelessRandom", "StatelessTruncated", "StatelessMultinomial", "StatelessParameterized", "StatelessShuffle",
          "Random", "Truncated", "ParameterizedTruncated", "Multinomial", "Stateful", "Rng")  # fmt: skip
_ASSIGNMENTS = ("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp", "ResourceScatter")


class Traced:
    """A graph's function as TensorFlow holds it, with the batch of any size."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.specs = [tf.TensorSpec((None, *shape), dtype, name=name) for name, (shape, dtype) in graph.inputs.items()]
        self.function = self._tf_function()
        self.concrete = self.function.get_concrete_function(*self.specs)
        self.layers = LayerFinder(lambda: self._tf_function().get_concrete_function(*self.specs))
        self._refuse_noise_and_change()

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return what the function gives for `feeds`: float32 by name, in the order of the graph.

        Computed on the CPU, also where there is a GPU: TensorFloat-32, on by default there, keeps three digits.
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
            found = sorted(outputs) if isinstance(outputs, Mapping) else type(outputs).__name__
            raise RequestError(
                f"The function of {self.graph.name} returned {found}, expected a dict of {list(self.graph.outputs)}."
            )
        return {name: self._checked(name, tf.convert_to_tensor(outputs[name])) for name in self.graph.outputs}

    def _checked(self, name: str, tensor: Any):
        expected = self.graph.outputs[name]
        if tensor.dtype != tf.float32:
            raise RequestError(f"Output {name!r} of {self.graph.name} is {tensor.dtype.name}, expected float32.")
        # A first axis of known length is one that does not follow the batch.
        if not tensor.shape.is_compatible_with((None, *expected)) or tensor.shape[:1] != [None]:
            raise RequestError(
                f"Output {name!r} of {self.graph.name} has shape {tuple(tensor.shape)}, expected {(None, *expected)} "
                "with None for the batch."
            )
        return tensor

    def _refuse_noise_and_change(self) -> None:
        for name, op in self._used_ops():
            # A call is no noise in itself; what it calls is looked at too.
            if op.startswith(_NOISE) and op != "StatefulPartitionedCall":
                raise RequestError(
                    f"{self.graph.name} cannot be exported: {self.layers.describe(name)} draws noise (op {op}). "
                    f"{NOISE_HINT}."
                )
        for op in self.concrete.graph.get_operations():
            # Integers are the state of random generators, whose draws may well go unused.
            if op.type.startswith(_ASSIGNMENTS) and any(t.dtype.is_floating for t in op.inputs):
                raise RequestError(
                    f"{self.graph.name} cannot be exported: {self.layers.describe(op.name)} changes a variable "
                    f"(op {op.type}). Call its layers with training=False."
                )

    def _used_ops(self) -> Iterator[tuple[str, str]]:
        """Yield (name, type) of every op that an output depends on, those inside of loops and branches included."""
        waiting = [tensor.op for tensor in self.concrete.outputs]
        seen: set[str] = set()
        functions: list[tuple[str, str]] = []
        while waiting:
            op = waiting.pop()
            if op.name in seen:
                continue
            seen.add(op.name)
            yield op.name, op.type
            waiting.extend(tensor.op for tensor in op.inputs)
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
