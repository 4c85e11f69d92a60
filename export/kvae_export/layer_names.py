"""Names of the Keras layers that made the ops of a graph, for error messages.

The name of an op is only a hint, because TensorFlow numbers repeated scopes. So once an error is certain, the function
is traced again with every layer call recorded.
"""

from __future__ import annotations

import contextlib
import functools
import re
import sys
import threading
from collections.abc import Callable, Iterator


class LayerFinder:
    """Finds the layer that made an op.

    Args:
        trace: Traces the function again. It is called at most once, on the first search.
    """

    def __init__(self, trace: Callable[[], object]) -> None:
        self._trace = trace

    def describe(self, op_name: str) -> str:
        """Return text such as `layer decoder/dense (Dense)`, or the name of the op if no layer made it."""
        layer = self.find(op_name)
        return f"layer {layer}" if layer else f"{op_name!r}, outside of any layer,"

    def find(self, op_name: str) -> str | None:
        """Return path and class of the innermost layer that made an op, or None."""
        # tf2onnx names its own nodes after the op that they replace: `dense/MatMul__21`.
        name = re.sub(r"(__\d+)+$", "", op_name.partition(":")[0])
        parts = name.split("/")
        for start in range(len(parts)):  # An op of an inlined function has a prefix.
            layer = self._layers.get("/".join(parts[start:]))
            if layer:
                return layer
        for end in range(len(parts) - 1, 0, -1):
            scope = "/".join(parts[:end]) + "/"
            inside = [layer for name, layer in self._layers.items() if name.startswith(scope)]
            if inside:
                return min(inside, key=lambda layer: layer.count("/"))
        return None

    @functools.cached_property
    def _layers(self) -> dict[str, str]:
        """Name of each op -> path and class of its layer."""
        if "keras" not in sys.modules:
            return {}
        with _recorded_layer_calls() as layers:
            self._trace()
        return layers


@contextlib.contextmanager
def _recorded_layer_calls() -> Iterator[dict[str, str]]:
    """Record which layer makes each op of the graphs that are traced inside the block.

    Keras does not have a hook for layer calls, so `Layer.__call__` is replaced in this thread inside the block.
    """
    import keras
    import tensorflow as tf

    layers: dict[str, str] = {}
    path: list[str] = []
    thread = threading.get_ident()
    original = keras.layers.Layer.__call__

    @functools.wraps(original)
    def recorded(layer, *args, **kwargs):
        if threading.get_ident() != thread:
            return original(layer, *args, **kwargs)
        graph = tf.compat.v1.get_default_graph()
        before = len(graph.get_operations())
        path.append(layer.name)
        try:
            return original(layer, *args, **kwargs)
        finally:
            described = f"{'/'.join(path)} ({type(layer).__name__})"
            path.pop()
            for op in graph.get_operations()[before:]:
                layers.setdefault(op.name, described)  # Inner layers are recorded first.

    keras.layers.Layer.__call__ = recorded
    try:
        yield layers
    finally:
        keras.layers.Layer.__call__ = original
