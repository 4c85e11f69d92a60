"""Conversion of a function to an ONNX graph: trace, convert, check against the rules of sealed files, canonicalise.

tf2onnx logs the ops that it cannot convert and returns a broken file, so its log is captured and evaluated. An op that
cannot be exported is reported by name, with its layer and the nearest alternative that exports.
"""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
from collections.abc import Iterator

import onnx

from kvae_export.graph import Graph
from kvae_export.passes.batch_invariant import GRAPHS, make_batch_invariant
from kvae_export.passes.bind import bind
from kvae_export.passes.broadcast_scalars import broadcast_scalars
from kvae_export.passes.canonical import canonicalize
from kvae_export.passes.constant_shapes import constant_shapes, mixing_node, standard_resize, zero_states
from kvae_export.passes.fold import fold
from kvae_export.passes.fuse_bias import fuse_bias
from kvae_export.trace import LARGE, NOISE_HINT, ForConversion, Traced
from kvae_serve.errors import RequestError
from kvae_serve.sealed import shapes, validate
from kvae_serve.sealed.allowed_ops import ALLOWED_OPS

OPSET = 18
IR_VERSION = 8

_FFT = ("", "I", "R", "IR")
CUMPROD_HINT = "keras.ops.cumprod: multiply the steps one by one, or for positive x use exp(cumsum(log(x)))"
DIAGONAL_HINT = "keras.ops.diagonal: multiply by an identity matrix and sum"

HINTS = {
    "Erfc": "Exact gelu: use keras.ops.gelu(x, approximate=True), or 0.5 * x * (1 + keras.ops.erf(x / sqrt(2)))",
    "Log1p": "Use log(1 + x); for a cross-entropy softplus(logits) - x * logits",
    "Expm1": "Use exp(x) - 1; in place of celu use elu",
    "Bitcast": "keras.ops.argmax and argmin: use keras.ops.top_k(x, 1)[1]",
    "Lgamma": "Use Stirling's series",
    "ScaleAndTranslate": "Resize bilinearly without antialias",
    "CudnnRNNV3": "Build the layer with use_cudnn=False",
    "StatefulPartitionedCall": "Leave out jit_compile=True of tf.function",
    **dict.fromkeys(
        ("Compress", "ScatterElements", "MirrorPad"),
        "Symmetric padding: use the mode reflect, or keras.ops.concatenate with flipped slices",
    ),
    "MatrixDiagPartV3": DIAGONAL_HINT,
    "Erfinv": "Transform the data before they reach the model",
    "Bucketize": "keras.ops.digitize: count with keras.ops.sum(keras.ops.cast(x[..., None] >= edges, 'int32'), -1)",
    "Loop": "Use keras.layers.LSTM, GRU or SimpleRNN without a mask and with a fixed number of steps",
    "Scan": "Use keras.layers.LSTM, GRU or SimpleRNN without a mask and with a fixed number of steps",
    "LRN": "Use GroupNormalization, LayerNormalization or UnitNormalization",
    **dict.fromkeys(
        (
            "Complex",
            "Real",
            "Imag",
            "ComplexAbs",
            "DFT",
            "STFT",
            *(f"{a}FFT{n}" for a in _FFT for n in ("", "2D", "3D")),
        ),
        "Fourier transform: multiply by constant matrices of cosines and sines, or transform the data before",
    ),
    "If": "Compute both branches and select with keras.ops.where",
    "EagerPyFunc": "Write it with keras.ops",
    "PyFunc": "Write it with keras.ops",
    "RandomNormal": NOISE_HINT,
    "RandomNormalLike": NOISE_HINT,
    "RandomUniform": NOISE_HINT,
    "RandomUniformLike": NOISE_HINT,
    "Multinomial": NOISE_HINT,
    "Bernoulli": NOISE_HINT,
}
"""Alternatives to ops that cannot be exported, by their TensorFlow or ONNX name."""

ORIGINS = {"Compress": "MirrorPad", "ScatterElements": "MirrorPad", "If": "MatrixDiagPart"}
"""TensorFlow op, or the start of its name, that an ONNX op may come from without keeping its name."""

SMALL_KERNEL = "Give a transposed convolution a kernel that is at least as large as its stride"

SHAPE_HINTS = {
    "as 'pads'": SMALL_KERNEL,
    "smaller than its stride": SMALL_KERNEL,
    "computes with elements": "Build the layer with dtype='float32'",
    "has limits that depend on data": DIAGONAL_HINT,
    "has weights for": "Grouped Conv3D: split the channels with keras.ops.split and convolve each group",
}
"""Alternatives by a part of the message of the shape inference."""


def convert(graph: Graph | Traced, large: int = LARGE) -> onnx.ModelProto:
    """Convert a graph to a checked ONNX model in canonical form, without metadata.

    Args:
        graph: The graph, or its trace if it was traced before.
        large: Number of elements from which a weight is kept out of tf2onnx, see `Traced.for_conversion`.

    Raises:
        RequestError: If the function cannot be exported. The message names the op, its layer and an alternative.
    """
    traced = graph if isinstance(graph, Traced) else Traced(graph)
    graph = traced.graph
    model = None
    if traced.has_weights_of(large):
        # tf2onnx recognises an LSTM only if its weights are constants, and a layer may need its weights as variables.
        with contextlib.suppress(Exception):
            model = _from_tf2onnx(traced, traced.for_conversion(large))
    if model is None:
        model = _from_tf2onnx(traced, traced.for_conversion())
    _set_signature(model.graph, graph)
    if graph.name in GRAPHS:
        model = make_batch_invariant(model)
    standard_resize(model.graph)
    zero_states(model.graph)
    _fix_shapes(traced, model)
    try:
        # Before canonicalisation renames the nodes, so that an error can be traced to its layer.
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        broadcast_scalars(model.graph, inferred.graph)
        model = canonicalize(model, graph.name, OPSET, IR_VERSION)
        model = canonicalize(fuse_bias(fold(model)), graph.name, OPSET, IR_VERSION)
        onnx.checker.check_model(model, full_check=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        name = re.search(r"node name: ([^)\s]+)", str(error))
        place = f": {traced.layers.describe(name[1])} becomes an invalid node" if name else ""
        if "pads must not contain negative" in str(error):
            raise RequestError(f"{graph.name} cannot be exported{place}. {SMALL_KERNEL}.") from error
        raise RequestError(f"{graph.name} cannot be exported{place}: {_one_line(error)}") from error
    return model


def _from_tf2onnx(traced: Traced, prepared: ForConversion) -> onnx.ModelProto:
    """Convert a function, refuse ops without an ONNX form, and bind the constants among its inputs."""
    import tf2onnx  # Imports TensorFlow, whose log level kvae_export.trace has set by now.

    with _captured_log() as errors:
        try:
            model, _ = tf2onnx.convert.from_function(prepared.function, input_signature=prepared.specs, opset=OPSET)
        except Exception as error:
            _refuse_unconverted(traced, errors)  # The log is more specific than the exception.
            raise RequestError(
                f"{traced.graph.name} cannot be exported: tf2onnx failed with {_one_line(error)}"
            ) from error
    _refuse_unconverted(traced, errors)
    _refuse_ops(traced, model)
    bind(model.graph, prepared.constants)
    return model


@contextlib.contextmanager
def _captured_log() -> Iterator[list[logging.LogRecord]]:
    """Collect the errors that tf2onnx logs and print nothing."""
    errors: list[logging.LogRecord] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            errors.append(record)

    logger = logging.getLogger("tf2onnx")
    handlers, propagate = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [Collector(logging.ERROR)], False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield errors
    finally:
        logger.handlers, logger.propagate = handlers, propagate


def _refuse_unconverted(traced: Traced, errors: list[logging.LogRecord]) -> None:
    ops: dict[tuple[str, str], None] = {}
    others = []
    for record in errors:
        args = record.args if isinstance(record.args, tuple) else ()
        if str(record.msg).startswith("Tensorflow op [") and len(args) == 2:
            ops[str(args[1]), str(args[0])] = None
        elif str(record.msg).startswith("Failed to convert node") and args:
            reason = _one_line(record.exc_info[1]) if record.exc_info and record.exc_info[1] else "no reason given"
            is_product = "cumprod" in str(args[0]).lower()
            hint = f" {CUMPROD_HINT}." if is_product else " Write it with other functions of keras.ops."
            others.append(f"{traced.layers.describe(str(args[0]))} cannot be converted: {reason.rstrip('.')}.{hint}")
        elif not str(record.msg).startswith("Unsupported ops"):
            others.append(_one_line(record.getMessage()))
    if ops:
        _refuse(traced, list(ops))
    if others:
        raise RequestError(f"{traced.graph.name} cannot be exported: {others[0]}")


def _refuse_ops(traced: Traced, model: onnx.ModelProto) -> None:
    refused = [(n.op_type, n.name) for n in model.graph.node if n.op_type not in ALLOWED_OPS or n.domain]
    if refused:
        _refuse(traced, refused)
    if model.functions or model.graph.sparse_initializer:
        raise RequestError(f"{traced.graph.name} cannot be exported: it contains ONNX functions or sparse tensors.")


def _refuse(traced: Traced, ops: list[tuple[str, str]]) -> None:
    """Raise for ops, given as (op, name of its node), with the first three places of each op on one line."""
    places: dict[str, list[str]] = {}
    ops = [_origin(traced, op, name) for op, name in ops]
    for op, name in ops:
        place = traced.layers.describe(name).rstrip(",")
        if place not in places.setdefault(op, []):
            places[op].append(place)
    parts: list[str] = []
    for op, found in places.items():
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        hint = HINTS.get(op, "")
        if any("cumprod" in name.lower() for each, name in ops if each == op):
            hint = CUMPROD_HINT
        hint = f" {hint}." if hint and hint not in " ".join(parts) else ""
        parts.append(f"{', '.join(found[:3])}{more}: the op {op} is not allowed in a sealed ONNX file.{hint}")
    raise RequestError(f"{traced.graph.name} cannot be exported. {' '.join(parts)}")


def _origin(traced: Traced, op: str, name: str) -> tuple[str, str]:
    """Return the TensorFlow op that an ONNX op comes from and its name, if the name of the node leads to no layer."""
    if op in ORIGINS and traced.layers.find(name) is None:
        return next(((each, used) for used, each in traced.used_ops() if each.startswith(ORIGINS[op])), (op, name))
    return op, name


def _fix_shapes(traced: Traced, model: onnx.ModelProto) -> None:
    """Apply the shape inference of the reader, while the names of nodes still lead to their layers."""
    try:
        computation = validate.computation(model.SerializeToString())
        one, two = (shapes.infer(computation, batch, allow_empty=True) for batch in (1, 2))
        shapes.check_batch_axes(one, two)
    except validate.WalkError as error:
        place = f"{traced.layers.describe(error.node)}: " if error.node else ""
        hint = next((f" {hint}." for text, hint in SHAPE_HINTS.items() if text in str(error)), "")
        raise RequestError(f"{traced.graph.name} cannot be exported. {place}{_one_line(error)}.{hint}") from error
    name = mixing_node(model.graph, one, two)
    if name is not None:
        raise RequestError(
            f"{traced.graph.name} cannot be exported: {traced.layers.describe(name)} combines the examples of a batch, "
            "so the result for one example would depend on the others. Reduce over the other axes."
        )
    constant_shapes(model.graph, one, two)


def _set_signature(onnx_graph: onnx.GraphProto, graph: Graph) -> None:
    """Give inputs and outputs the order and shapes of the graph, with `batch` as the first axis."""
    inputs = {value.name: value for value in onnx_graph.input}
    outputs = {value.name: value for value in onnx_graph.output}
    if set(inputs) != set(graph.inputs) or set(outputs) != set(graph.outputs):
        raise AssertionError(f"tf2onnx renamed the tensors of {graph.name}: {sorted(inputs)} to {sorted(outputs)}.")
    shapes = {name: shape for name, (shape, _) in graph.inputs.items()} | dict(graph.outputs)
    for values, names in ((inputs, graph.inputs), (outputs, graph.outputs)):
        for name in names:
            element = values[name].type.tensor_type.elem_type
            values[name].CopyFrom(onnx.helper.make_tensor_value_info(name, element, ["batch", *shapes[name]]))
    del onnx_graph.input[:]
    onnx_graph.input.extend(inputs[name] for name in graph.inputs)
    del onnx_graph.output[:]
    onnx_graph.output.extend(outputs[name] for name in graph.outputs)
    del onnx_graph.value_info[:]


def _one_line(error: object) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:299] + "…"
