"""Graph to be exported: a function with named and typed inputs and outputs of fixed shape."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kvae_serve.errors import RequestError

_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_DTYPES = ("float32", "int64")


@dataclass(frozen=True)
class Graph:
    """One function that becomes one ONNX file.

    Shapes exclude the batch axis, which is the first axis of every tensor and has any length.

    Args:
        name: Name of the graph and of its file: `decoder` becomes `decoder.onnx`.
        function: Receives one tensor per input, by keyword, and returns a flat dict of tensors. It must be pure: it
            draws no noise and changes no variable (call layers with `training=False`).
        inputs: Name to (shape, dtype), in the order of the file. The dtype is float32, or int64 for an index.
        outputs: Name to shape, in the order of the file. Every output is float32.

    Raises:
        RequestError: If a name, a type or a shape is invalid.
    """

    name: str
    function: Callable[..., Mapping[str, Any]]
    inputs: Mapping[str, tuple[tuple[int, ...], str]]
    outputs: Mapping[str, tuple[int, ...]]

    def __post_init__(self) -> None:
        if not self.inputs or not self.outputs:
            raise RequestError(
                f"{self.name} has {len(self.inputs)} inputs and {len(self.outputs)} outputs; "
                "a graph needs at least one of each."
            )
        for name in (self.name, *self.inputs, *self.outputs):
            # Names with upper-case letters are used for inner tensors, see passes/canonical.py.
            if not _NAME.fullmatch(name):
                raise RequestError(
                    f"The name {name!r} of {self.name} is invalid; use lower-case letters, digits and _ only."
                )
        both = set(self.inputs) & set(self.outputs)
        if both:
            raise RequestError(f"{min(both)!r} is an input and an output of {self.name}; use different names.")
        for name, (shape, dtype) in self.inputs.items():
            _check_shape(self.name, name, shape)
            if dtype not in _DTYPES:
                raise RequestError(f"Input {name!r} of {self.name} is {dtype}; expected float32 or int64.")
        for name, shape in self.outputs.items():
            _check_shape(self.name, name, shape)


def _check_shape(graph: str, name: str, shape: tuple[int, ...]) -> None:
    if not all(isinstance(size, int) and size > 0 for size in shape):
        raise RequestError(f"{name!r} of {graph} has shape {shape}; expected fixed positive sizes without the batch.")
