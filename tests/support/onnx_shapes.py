"""Comparison of inferred shapes with `onnx.shape_inference`."""

from __future__ import annotations

from kvae_serve.sealed import shapes, validate


def compare(data: bytes, batch: int) -> int:
    """Assert that both agree on every value that ONNX knows at a fixed batch size; return the number of values."""
    import onnx

    model = onnx.load_from_string(data)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    values = shapes.infer(validate.computation(data), batch)
    count = 0
    for value in inferred.graph.value_info:
        kind = value.type.tensor_type
        dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
        if kind.HasField("shape") and None not in dims:
            assert (values[value.name].dtype, list(values[value.name].shape)) == (kind.elem_type, dims), value.name
            count += 1
    return count
