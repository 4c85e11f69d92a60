"""Which Keras layer made an op: for errors that say where to look.

The names of ops only hint at it, for TensorFlow numbers the scopes that repeat. So, once an error is certain, the
function is traced again with an eye on every layer that is called.
"""

from __future__ import annotations

import functools
import re
import sys
import threading
from collections.abc import Callable


class LayerFinder:
    """Finds the layer of an op by its name.

    Args:
        trace: traces the function anew; called at most once, and only when a layer is asked for.
    """

    def __init__(self, trace: Callable[[], object]):
        self._trace = trace

    def describe(self, op_name: str) -> str:
        """Return words such as `layer decoder/dense (Dense)`, or what is known where no layer made the op."""
        layer = self.find(op_name)
        return f"layer {layer}" if layer else f"{op_name!r}, outside of any layer,"

    def find(self, op_name: str) -> str | None:
        """Return the path and the class of the innermost layer that made an op, None where none did."""
        # A converter's own nodes are named after the op they stand for: `dense/MatMul__21`.
        name = re.sub(r"(__\d+)+$", "", op_name.partition(":")[0])
        parts = name.split("/")
        for start in range(len(parts)):  # An op from an inlined function has gained a prefix.
            found = self._layers.get("/".join(parts[start:]))
            if found:
                return found
        for end in range(len(parts) - 1, 0, -1):
            scope = "/".join(parts[:end]) + "/"
            inside = [layer for name, layer in self._layers.items() if name.startswith(scope)]
            if inside:
                return min(inside, key=lambda layer: layer.count("/"))
        return None

    @functools.cached_property
    def _layers(self) -> dict[str, str]:
        if "keras" not in sys.modules:
            return {}
        import keras
        import tensorflow as tf

        made: dict[str, str] = {}
        path: list[str] = []
        thread = threading.get_ident()
        original = keras.layers.Layer.__call__

        @functools.wraps(original)
        def watched(layer, *args, **kwargs):
            if threading.get_ident() != thread:
                return original(layer, *args, **kwargs)
            graph = tf.compat.v1.get_default_graph()
            before = len(graph.get_operations())
            path.append(layer.name)
            try:
                return original(layer, *args, **kwargs)
            finally:
                words = f"{'/'.join(path)} ({type(layer).__name__})"
                path.pop()
                for op in graph.get_operations()[before:]:
                    made.setdefault(op.name, words)  # The inner layers have come first.

        keras.layers.Layer.__call__ = watched
        try:
            self._trace()
        finally:
            keras.layers.Layer.__call__ = original
        return made
