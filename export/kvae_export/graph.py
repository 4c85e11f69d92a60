"""A graph to be exported: a function whose inputs and outputs have names, types and shapes."""

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

    Shapes leave the batch axis out: it is the first axis of every tensor, and of any length.

    Args:
        name: of the graph and of its file: `decoder` becomes `decoder.onnx`.
        function: takes one tensor for each input, by keyword, and returns a flat dict of tensors. It must be a pure
            function of them: no noise drawn, no variable changed (layers are called with `training=False`).
        inputs: name to (shape, dtype), in the order of the file; float32, or int64 for an index.
        outputs: name to shape, in the order of the file; every output is float32.
    """

    name: str
    function: Callable[..., Mapping[str, Any]]
    inputs: Mapping[str, tuple[tuple[int, ...], str]]
    outputs: Mapping[str, tuple[int, ...]]

    def __post_init__(self):
        if not self.inputs or not self.outputs:
            raise RequestError(f"A graph needs inputs and outputs, {self.name} has {len(self.inputs) or 'no'} inputs.")
        names = [self.name, *self.inputs, *self.outputs]
        for name in names:
            # Upper-case names belong to the inner tensors, see canonical.py.
            if not _NAME.fullmatch(name):
                raise RequestError(
                    f"The name {name!r} of {self.name} cannot be exported: lower-case letters, digits and _ only."
                )
        both = set(self.inputs) & set(self.outputs)
        if both:
            raise RequestError(f"{min(both)!r} is an input and an output of {self.name}: give them different names.")
        for name, (shape, dtype) in self.inputs.items():
            _check_shape(self.name, name, shape)
            if dtype not in _DTYPES:
                raise RequestError(f"Input {name!r} of {self.name} is {dtype}, expected float32 or int64.")
        for name, shape in self.outputs.items():
            _check_shape(self.name, name, shape)


def _check_shape(graph: str, name: str, shape: tuple[int, ...]) -> None:
    if not all(isinstance(size, int) and size > 0 for size in shape):
        raise RequestError(f"{name!r} of {graph} has shape {shape}, expected fixed positive sizes without the batch.")
