"""Trace of a graph's function, and the reference outputs that its ONNX file is compared with.

A trace that an ONNX file cannot reproduce is refused. tf2onnx would freeze noise to one draw without a warning, and it
would drop changes of variables, as made by layers that are called with `training=True`.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

# Keeps messages of TensorFlow's graph optimiser off stderr. TensorFlow reads it once, on import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import tensorflow as tf

from kvae_export.graph import Graph
from kvae_export.layer_names import LayerFinder
from kvae_serve.errors import RequestError

NOISE_HINT = "Graphs are deterministic: draw noise in training only, as keras.layers.GaussianNoise does"
_NOISE = ("StatelessRandom", "StatelessTruncated", "StatelessMultinomial", "StatelessParameterized", "StatelessShuffle",
          "Random", "Truncated", "ParameterizedTruncated", "Multinomial", "Stateful", "Rng")  # fmt: skip
_ASSIGNMENTS = ("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp", "ResourceScatter")

LARGE = 2**16
"""Number of elements from which a Keras weight is converted as an input of the graph, see `Traced.for_conversion`."""


class ForConversion(NamedTuple):
    """A function for tf2onnx, the signature of its inputs, and the values of those that become constants, by name."""

    function: Any
    specs: list[Any]
    constants: dict[str, np.ndarray]


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

    def has_weights_of(self, large: int) -> bool:
        """Return whether the function reads a variable of at least `large` elements."""
        return any(math.prod(variable.shape) >= large for variable in self.concrete.variables)

    def for_conversion(self, large: int | None = None) -> ForConversion:
        """Return the function for tf2onnx, with large weights as further inputs.

        TensorFlow and tf2onnx copy each constant about forty times, which takes longer than everything else if the
        weights are large.

        Args:
            large: Number of elements from which a Keras weight of at least two axes becomes an input; None for no such
                inputs.
        """
        has_calls = any(op.type.endswith("PartitionedCall") for op in self.concrete.graph.get_operations())
        function, specs, weights = self._tf_function() if has_calls else self.function, self.specs, {}
        variables = self._read_variables(large) if large is not None else []
        if variables:
            import keras

            names = [f"Weight{index}" for index in range(len(variables))]  # Inputs of a graph have lower-case names.

            def call(*tensors):
                given = zip(variables, tensors[len(self.specs) :], strict=True)
                with keras.StatelessScope(list(given), initialize_variables=False):
                    return self._call(*tensors[: len(self.specs)])

            specs = [*specs, *(tf.TensorSpec(v.shape, v.dtype, name) for v, name in zip(variables, names, strict=True))]
            function = tf.function(call, input_signature=specs, autograph=False)
            weights = {name: variable.numpy() for name, variable in zip(names, variables, strict=True)}
        # tf2onnx makes inputs of captured tensors too, such as the mean of `keras.layers.Normalization`.
        with _without_xla():
            captures = function.get_concrete_function(*specs).graph.captures
        captured = {inner.name: outer.numpy() for outer, inner in captures if outer.dtype != tf.resource}
        return ForConversion(function, specs, weights | captured)

    def _read_variables(self, large: int) -> list[Any]:
        """Return the Keras variables that the function reads and that have at least `large` elements and two axes."""
        if "keras" not in sys.modules:
            return []
        import keras

        read = {}

        class Recorder(keras.StatelessScope):
            def get_current_value(self, variable):
                if len(variable.shape) > 1 and math.prod(variable.shape) >= large:
                    read[id(variable)] = variable
                return super().get_current_value(variable)

        def call(*tensors):
            with Recorder(initialize_variables=False):
                return self._call(*tensors)

        tf.function(call, input_signature=self.specs, autograph=False).get_concrete_function()
        return list(read.values())

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
            raise RequestError(
                f"Output {name!r} of {self.graph.name} is {tensor.dtype.name}; expected float32. "
                "Build the network with the dtype policy float32, or train a run with --mixed-precision."
            )
        # A first axis of known length is not the batch axis.
        if not tensor.shape.is_compatible_with((None, *expected)) or tensor.shape[:1] != [None]:
            raise RequestError(
                f"Output {name!r} of {self.graph.name} has shape {tuple(tensor.shape)}; expected {(None, *expected)} "
                "with None for the batch."
            )
        return tensor

    def _refuse_noise_and_change(self) -> None:
        for name, op in self.used_ops():
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

    def used_ops(self) -> Iterator[tuple[str, str]]:
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


@contextlib.contextmanager
def _without_xla() -> Iterator[None]:
    """Trace without functions for XLA, which tf2onnx cannot read. Keras compiles grouped convolutions in this way."""
    original = tf.function

    def function(*args: Any, **options: Any) -> Any:
        return original(*args, **{name: value for name, value in options.items() if name != "jit_compile"})

    tf.function = function
    try:
        yield
    finally:
        tf.function = original


def _functions_of(node: Any) -> Iterator[str]:
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (function.name for function in value.list.func)
