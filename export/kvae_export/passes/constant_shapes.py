"""Shape arithmetic replaced by constants: in a finished file only the batch size varies.

TensorFlow traces a batch of unknown size, and tf2onnx computes shapes from it with many small nodes. Shape inference at
two batch sizes yields the results of these nodes. Those that do not depend on the batch become constants, and a
`Reshape` infers the batch axis itself (-1). Empty values are left out. A number that is repeated in the shape of
another value, as by `keras.ops.zeros_like`, becomes that value clipped to the number. `canonical` then drops the nodes
that are not used anymore.
"""

from __future__ import annotations

import numpy as np
import onnx

from kvae_serve.sealed.shapes import Value

Shapes = dict[str, Value]


def constant_shapes(graph: onnx.GraphProto, one: Shapes, two: Shapes) -> None:
    """Replace, in place, integer arithmetic that does not depend on the batch.

    Args:
        graph: A graph without subgraphs.
        one: Its values at batch size 1, see `kvae_serve.sealed.shapes.infer`.
        two: Its values at batch size 2.
    """
    outputs = {value.name for value in graph.output}
    makers = {name: node for node in graph.node for name in node.output}
    kept = []
    for node in graph.node:
        output = node.output[0]
        value = one[output]
        numbers = value.numbers if value == two[output] else None
        if numbers is not None and len(node.output) == 1 and output not in outputs:
            _constant(graph, output, value.dtype, numbers, value.shape)
            continue
        if node.op_type == "Reshape":
            sizes = [a if a == b else -1 for a, b in zip(value.shape, two[output].shape, strict=True)]
            if sizes.count(-1) <= 1:
                _set_sizes(graph, node, sizes)
        elif node.op_type == "Expand":
            expanded = _expansion(
                [values[node.input[0]].shape for values in (one, two)], value.shape, two[output].shape
            )
            if expanded is not None:
                _set_sizes(graph, node, expanded)
        elif node.op_type in ("Concat", "Squeeze", "Unsqueeze"):
            _drop_empty(node, one)
        elif node.op_type == "ConstantOfShape":
            _clip(graph, node, makers.get(node.input[0]), one)
        kept.append(onnx.NodeProto.FromString(node.SerializeToString()))
    del graph.node[:]
    graph.node.extend(kept)


def standard_resize(graph: onnx.GraphProto) -> None:
    """Write `Resize` nodes, in place, without the region that tf2onnx adds and in the modes of opset 18."""
    for node in graph.node:
        if node.op_type != "Resize":
            continue
        for tensor in [each for each in graph.initializer if each.name == node.input[1]]:
            graph.initializer.remove(tensor)
        node.input[1] = ""
        attributes = {each.name: each for each in node.attribute}
        mode = attributes.get("coordinate_transformation_mode")
        if mode is not None and mode.s == b"tf_half_pixel_for_nn":  # floor(x + 0.5) of half-pixel centers
            mode.s, attributes["nearest_mode"].s = b"half_pixel", b"round_prefer_ceil"


def zero_states(graph: onnx.GraphProto) -> None:
    """Leave out, in place, initial states of `LSTM` nodes that are zeros, the default, in the shape of the batch."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    for node in graph.node:
        for index in range(5, min(7, len(node.input)) if node.op_type == "LSTM" else 5):
            name = node.input[index]
            while name in makers and makers[name].op_type in ("Expand", "Unsqueeze"):
                name = makers[name].input[0]
            if name in constants and not onnx.numpy_helper.to_array(constants[name]).any():
                node.input[index] = ""


def mixing_node(graph: onnx.GraphProto, one: Shapes, two: Shapes) -> str | None:
    """Return the name of the first node that combines the examples of a batch, or None.

    Such a node computes a value without a batch axis from the inputs, such as the mean over a batch.
    """
    dependent = {value.name for value in graph.input}
    for node in graph.node:
        if node.op_type in ("Shape", "Size") or not dependent.intersection(node.input):
            continue
        names = [name for name in node.output if name]
        if any(one[name].shape == two[name].shape for name in names):
            return node.name
        dependent.update(names)
    return None


def _expansion(data: list[tuple[int, ...]], one: tuple[int, ...], two: tuple[int, ...]) -> list[int] | None:
    """Return constant sizes for `Expand`, where the data have the batch axis already; else None."""
    rank = len(one)
    before = [(1,) * (rank - len(shape)) + shape for shape in data]
    sizes = []
    for axis, (a, b) in enumerate(zip(one, two, strict=True)):
        if (before[0][axis], before[1][axis]) == (a, b):
            sizes.append(1)
        elif a == b:
            sizes.append(a)
        else:
            return None
    return sizes


def _drop_empty(node: onnx.NodeProto, one: Shapes) -> None:
    """Leave out empty parts of a `Concat` and empty lists of axes, as `keras.ops.roll` by 0 and `einsum` make them."""
    node.input[:] = [name for name in node.input if 0 not in one[name].shape]
    if len(node.input) == 1 and (node.op_type != "Squeeze" or one[node.input[0]].shape == one[node.output[0]].shape):
        node.op_type = "Identity"
        del node.attribute[:]


def _clip(graph: onnx.GraphProto, node: onnx.NodeProto, sizes: onnx.NodeProto | None, one: Shapes) -> None:
    """Write a number that is repeated in the shape of a float32 value as that value with the number as both bounds."""
    floats = {onnx.TensorProto.FLOAT}
    if sizes is None or sizes.op_type != "Shape" or sizes.attribute:
        return
    if {one[sizes.input[0]].dtype, one[node.output[0]].dtype} != floats:
        return
    number = onnx.numpy_helper.to_array(node.attribute[0].t) if node.attribute else np.zeros(1, np.float32)
    name = f"{node.output[0]}__number"
    graph.initializer.append(onnx.numpy_helper.from_array(number.reshape(()), name))
    node.op_type, node.input[:] = "Clip", [sizes.input[0], name, name]
    del node.attribute[:]


def _set_sizes(graph: onnx.GraphProto, node: onnx.NodeProto, sizes: list[int]) -> None:
    name = f"{node.output[0]}__sizes"
    _constant(graph, name, onnx.TensorProto.INT64, sizes, (len(sizes),))
    node.input[1] = name
    for attribute in [each for each in node.attribute if each.name == "allowzero"]:
        node.attribute.remove(attribute)


def _constant(graph: onnx.GraphProto, name: str, dtype: int, numbers, shape: tuple[int, ...]) -> None:
    array = np.array(numbers, onnx.helper.tensor_dtype_to_np_dtype(dtype)).reshape(shape)
    graph.initializer.append(onnx.numpy_helper.from_array(array, name))
