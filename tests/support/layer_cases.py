"""Keras layers and ops, one small function each: name -> (shape of one example, layer or function)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
from keras import layers, ops

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "networks.json"
IMAGE, STEPS, VECTOR = (8, 8, 4), (6, 4), (12,)
Case = tuple[tuple[int, ...], Callable[[Any], Any]]


class Minibatch(keras.layers.Layer):
    """Minibatch standard deviation: combines the examples of a batch."""

    def call(self, x):
        spread = ops.mean(ops.std(x, axis=0, keepdims=True), axis=(1, 2, 3), keepdims=True)
        return ops.concatenate([x, ops.tile(spread, (ops.shape(x)[0], *x.shape[1:3], 1))], axis=-1)


def _attention(x):
    return layers.MultiHeadAttention(2, 4)(x, x)


def _squeeze_excitation(x):
    weights = layers.Dense(4, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    return layers.Conv2D(3, 3)(x * weights)


def _local_response(x):
    import tensorflow as tf

    return tf.nn.local_response_normalization(x)


def _chain(*parts: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def apply(x):
        for part in parts:
            x = part(x)
        return x

    return apply


def _op(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A layer that computes a function of `keras.ops`."""
    return layers.Lambda(function)


def page() -> str:
    """Return docs/layers.md."""
    text = """# Layers that can be exported

`python -m support.layer_cases` in `tests/` writes this page. `tests/kvae_export/test_layers.py` exports each entry,
compares it with Keras at batch sizes 1, 7 and 64, and compares its shapes with `onnx.shape_inference`. A name with a
comma is a network of both layers. `model.check_export()` checks your network before `fit`.

Recurrent layers need a fixed number of steps. The export unrolls GRU and SimpleRNN, so the file grows with the steps.

## Exported

| Shape of an example | Layers and ops |
|---|---|
"""
    exported = {**layer_cases(), **op_cases()}
    for shape in dict.fromkeys(shape for shape, _ in exported.values()):
        names = ", ".join(f"`{name}`" for name, (each, _) in exported.items() if each == shape)
        text += f"| {' x '.join(map(str, shape))} | {names} |\n"
    text += "\n## Refused\n\nThe error names the layer and an alternative, before training.\n\n"
    return text + "".join(f"- {name}\n" for name in refused_cases()) + _networks()


def _networks() -> str:
    """Return the section about whole networks, from the results of benchmarks/network_export.py."""
    results = json.loads(RESULTS.read_text())
    names = [name for name, result in results.items() if result["kvae"] == "right"]
    others = [name for name, result in results.items() if result["kvae"] != "right"]
    keras_right = sum(result["keras"] == "right" for result in results.values())
    return f"""
## Networks

`benchmarks/network_export.py` exports {len(results)} small networks with random weights, and compares the files with
Keras at batch sizes 1, 7 and 64. kvae exports {len(names)} of them, and `keras.Model.export(format="onnx")`
{keras_right}; [RESULTS.md](../benchmarks/RESULTS.md#networks-of-users) has the outcomes by kind.

Exported: {"; ".join(names)}.

Not exported: {"; ".join(others)}.
"""


def layer_cases() -> dict[str, Case]:
    """Return the layers, each followed by a layer that needs its shape if shapes were unknown before."""
    conv, dense, flat = (lambda: layers.Conv2D(3, 3, padding="same")), (lambda: layers.Dense(5)), layers.Flatten
    images = {
        "Conv2D": conv(),
        "Conv2D, strides": layers.Conv2D(3, 3, 2),
        "Conv2D, groups": layers.Conv2D(6, 3, groups=2),
        "Conv2D, dilation": layers.Conv2D(3, 3, dilation_rate=2),
        "SeparableConv2D": layers.SeparableConv2D(3, 3),
        "DepthwiseConv2D": layers.DepthwiseConv2D(3),
        "Conv2DTranspose": layers.Conv2DTranspose(3, 3, 2, padding="same"),
        "Conv2DTranspose, valid": layers.Conv2DTranspose(3, 5, 2),
        "MaxPooling2D": layers.MaxPooling2D(2),
        "AveragePooling2D, same": layers.AveragePooling2D(3, 2, padding="same"),
        "GlobalAveragePooling2D": layers.GlobalAveragePooling2D(),
        "GlobalMaxPooling2D": layers.GlobalMaxPooling2D(),
        "UpSampling2D, Conv2D": _chain(layers.UpSampling2D(2), conv()),
        "UpSampling2D bilinear, Conv2D": _chain(layers.UpSampling2D(2, interpolation="bilinear"), conv()),
        "UpSampling2D bicubic, Conv2D": _chain(layers.UpSampling2D(2, interpolation="bicubic"), conv()),
        "Resizing, Conv2D": _chain(layers.Resizing(12, 10), conv()),
        "Resizing nearest, Conv2D": _chain(layers.Resizing(12, 10, interpolation="nearest"), conv()),
        "BatchNormalization": _chain(conv(), layers.BatchNormalization()),
        "LayerNormalization, Conv2D": _chain(layers.LayerNormalization(), conv()),
        "GroupNormalization, Conv2D": _chain(layers.GroupNormalization(2), conv()),
        "GroupNormalization of each channel, Conv2D": _chain(layers.GroupNormalization(-1), conv()),
        "RMSNormalization, Conv2D": _chain(layers.RMSNormalization(), conv()),
        "UnitNormalization, Conv2D": _chain(layers.UnitNormalization(), conv()),
        "SpectralNormalization": layers.SpectralNormalization(layers.Conv2D(3, 3)),
        "squeeze and excitation": _squeeze_excitation,
        "ZeroPadding2D": layers.ZeroPadding2D(1),
        "Cropping2D": layers.Cropping2D(1),
        "Permute": layers.Permute((2, 1, 3)),
        "Flatten": flat(),
        "Rescaling": layers.Rescaling(1 / 255),
        "PReLU": layers.PReLU(),
        "Dropout": layers.Dropout(0.5),
        "GaussianNoise": layers.GaussianNoise(0.1),
        "ReLU": layers.ReLU(6),
        "TimeDistributed": _chain(layers.TimeDistributed(layers.Conv1D(3, 3))),
        "ConvLSTM1D": layers.ConvLSTM1D(2, 3),
        "ops.image.resize": _op(lambda x: ops.image.resize(x, (16, 16))),
    }
    steps = {
        "Conv1D": layers.Conv1D(3, 3, activation="relu"),
        "Conv1D, Conv1D": _chain(layers.Conv1D(3, 3), layers.Conv1D(2, 2)),
        "Conv1D causal": layers.Conv1D(3, 3, padding="causal"),
        "SeparableConv1D": layers.SeparableConv1D(3, 3),
        "DepthwiseConv1D": layers.DepthwiseConv1D(3),
        "Conv1DTranspose": layers.Conv1DTranspose(3, 3, 2, padding="same"),
        "UpSampling1D, Conv1D": _chain(layers.UpSampling1D(2), layers.Conv1D(3, 3)),
        "MaxPooling1D": layers.MaxPooling1D(2),
        "AveragePooling1D": layers.AveragePooling1D(2),
        "GlobalAveragePooling1D": layers.GlobalAveragePooling1D(),
        "GlobalMaxPooling1D": layers.GlobalMaxPooling1D(),
        "LSTM": layers.LSTM(3),
        "LSTM, LSTM": _chain(layers.LSTM(3, return_sequences=True), layers.LSTM(2)),
        "LSTM go_backwards": layers.LSTM(3, go_backwards=True),
        "Bidirectional LSTM": layers.Bidirectional(layers.LSTM(3)),
        "Conv1D, LSTM": _chain(layers.Conv1D(3, 3), layers.LSTM(3)),
        "GRU": layers.GRU(3),
        "GRU, GRU": _chain(layers.GRU(3, return_sequences=True), layers.GRU(2)),
        "Bidirectional GRU": layers.Bidirectional(layers.GRU(3)),
        "SimpleRNN": layers.SimpleRNN(3),
        "TimeDistributed Dense": layers.TimeDistributed(dense()),
        "MultiHeadAttention": _attention,
        "GroupQueryAttention": lambda x: layers.GroupQueryAttention(4, 2, 1)(x, x),
        "LayerNormalization": layers.LayerNormalization(),
        "EinsumDense": layers.EinsumDense("abc,cd->abd", output_shape=(6, 5)),
        "SpatialDropout1D": layers.SpatialDropout1D(0.1),
        "ZeroPadding1D": layers.ZeroPadding1D(1),
        "Cropping1D": layers.Cropping1D(1),
        "Softmax": layers.Softmax(),
    }
    vectors = {
        "Dense": dense(),
        "Dense swish": layers.Dense(4, "swish"),
        "Dense softplus": layers.Dense(4, "softplus"),
        "Dense elu": layers.Dense(4, "elu"),
        "Dense selu": layers.Dense(4, "selu"),
        "Dense mish": layers.Dense(4, "mish"),
        "Dense gelu": _chain(dense(), lambda x: ops.gelu(x, approximate=True)),
        "Dense leaky_relu": layers.Dense(4, "leaky_relu"),
        "Dense softmax": layers.Dense(4, "softmax"),
        "Dense hard_sigmoid": layers.Dense(4, "hard_sigmoid"),
        "RepeatVector": layers.RepeatVector(3),
        "Reshape": layers.Reshape((3, 4)),
        "Normalization": layers.Normalization(mean=1.0, variance=2.0),
        "AlphaDropout": layers.AlphaDropout(0.1),
    }
    volumes = {
        "Conv3D": layers.Conv3D(2, 2),
        "Conv3DTranspose": layers.Conv3DTranspose(2, 2, 2),
        "MaxPooling3D": layers.MaxPooling3D(2),
        "UpSampling3D, Conv3D": _chain(layers.UpSampling3D(2), layers.Conv3D(2, 2)),
    }
    shaped = ((IMAGE, images), (STEPS, steps), (VECTOR, vectors), ((4, 4, 4, 2), volumes))
    return {name: (shape, layer) for shape, group in shaped for name, layer in group.items()}


def op_cases() -> dict[str, Case]:
    """Return functions of `keras.ops` on images or sequences."""
    found = {
        "einsum": lambda x: ops.einsum("bij,bkj->bik", x, x),
        "einsum of vectors": lambda x: ops.einsum("bi,bij->bj", x[..., 0], x),
        "sort": lambda x: ops.sort(x, axis=-1),
        "top_k": lambda x: ops.top_k(x, 2)[0],
        "take": lambda x: ops.take(x, [2, 0, 1], axis=1),
        "flip": lambda x: ops.flip(x, axis=1),
        "split": lambda x: ops.add(*ops.split(x, 2, axis=-1)),
        "norm": lambda x: x / (1 + ops.norm(x, axis=-1, keepdims=True)),
        "logsumexp": lambda x: ops.logsumexp(x, axis=-1),
        "one_hot": lambda x: ops.one_hot(ops.cast(ops.top_k(x, 1)[1][..., 0], "int32"), 4),
        "roll": lambda x: ops.roll(x, 1, axis=1),
        "roll by 0": lambda x: ops.roll(x, 0, axis=1),
        "cumsum": lambda x: ops.cumsum(x, axis=1),
        "softmax": lambda x: ops.softmax(x, axis=1),
        "pad": lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 0))),
        "pad reflect": lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 0)), mode="reflect"),
        "mean": lambda x: ops.mean(x, axis=1),
        "std": lambda x: ops.std(x, axis=-1),
        "var": lambda x: ops.var(x, axis=1, keepdims=True),
        "max": lambda x: ops.max(x, axis=1),
        "prod": lambda x: ops.prod(x, axis=-1),
        "where": lambda x: ops.where(x > 0.5, x, -x),
        "clip": lambda x: ops.clip(x, 0.2, 0.8),
        "matmul": lambda x: ops.matmul(x, ops.transpose(x, (0, 2, 1))),
        "concatenate": lambda x: ops.concatenate([x, x], axis=1),
        "stack": lambda x: ops.stack([x, 2 * x], axis=1),
        "repeat": lambda x: ops.repeat(x, 2, axis=1),
        "repeat of the last axis": lambda x: ops.repeat(x[..., None], 2, axis=-1),
        "tile": lambda x: ops.tile(x, (1, 2, 1)),
        "expand_dims": lambda x: ops.expand_dims(x, 1),
        "squeeze": lambda x: ops.squeeze(x[:, :1], 1),
        "slice with steps": lambda x: x[:, ::-2, 1:],
        "moveaxis": lambda x: ops.moveaxis(x, 1, 2),
        "exp": ops.exp,
        "log": lambda x: ops.log(x + 1),
        "sqrt": ops.sqrt,
        "rsqrt": lambda x: ops.rsqrt(x + 1),
        "abs": ops.abs,
        "erf": ops.erf,
        "sin": ops.sin,
        "tanh": ops.tanh,
        "floor": ops.floor,
        "sign": lambda x: ops.sign(x - 0.5),
        "power": lambda x: ops.power(x, 3.0),
        "maximum": lambda x: ops.maximum(x, 0.3),
        "floor_divide": lambda x: x // 0.3,
        "linspace": lambda x: x * ops.reshape(ops.linspace(0.0, 1.0, 6), (6, 1)),
        "tril": lambda x: ops.tril(x),
        "log_softmax": ops.log_softmax,
        "logaddexp of softplus": lambda x: ops.softplus(x) + x,
        "normalize": lambda x: ops.normalize(x),
        "argsort": lambda x: ops.cast(ops.argsort(x, axis=-1), "float32"),
        "meshgrid": lambda x: x + ops.meshgrid(ops.arange(4.0), ops.arange(6.0))[0],
        "cast": lambda x: ops.cast(ops.cast(3 * x, "int32"), "float32"),
        "average_pool": lambda x: ops.average_pool(x, 2),
        "broadcast_to": lambda x: x + ops.broadcast_to(ops.ones((1, 4)), (6, 4)),
        "dot": lambda x: ops.dot(x, ops.ones((4, 2))),
        "take_along_axis": lambda x: ops.take_along_axis(x, ops.argsort(x, axis=1), axis=1),
    }
    return {f"ops.{name}": (STEPS, _op(function)) for name, function in found.items()}


def refused_cases() -> dict[str, Case]:
    """Return what cannot be exported."""
    return {
        "gelu, exact": (STEPS, layers.Activation("gelu")),
        "noise": (STEPS, _op(lambda x: x + keras.random.normal(ops.shape(x)))),
        "ops.argmax": (STEPS, _op(lambda x: ops.one_hot(ops.argmax(x, axis=-1), 4))),
        "ops.log1p": (STEPS, _op(ops.log1p)),
        "ops.expm1": (STEPS, _op(ops.expm1)),
        "Resizing, antialias": (IMAGE, layers.Resizing(4, 4, antialias=True)),
        "mean over the batch": (STEPS, _op(lambda x: x - ops.mean(x, axis=0, keepdims=True))),
        "minibatch standard deviation": (IMAGE, Minibatch()),
        "flip of the batch": (STEPS, _op(lambda x: ops.flip(x, axis=0))),
        "cumsum over the batch": (STEPS, _op(lambda x: ops.cumsum(x, axis=0))),
        "ops.while_loop": (
            STEPS,
            _op(lambda x: ops.while_loop(lambda y: ops.all(y < 9), lambda y: (y * 2 + 1,), (x,))[0]),
        ),
        "ops.cond": (STEPS, _op(lambda x: ops.cond(ops.sum(x) > 1, lambda: x, lambda: -x))),
        "local response normalization": (IMAGE, _op(_local_response)),
        "ops.rfft": (STEPS, _op(lambda x: ops.rfft(x)[0])),
        "ops.cumprod": (STEPS, _op(lambda x: ops.cumprod(x, axis=1))),
        "ops.cumprod of the last axis": (STEPS, _op(lambda x: ops.cumprod(x, axis=-1))),
        "mixed float16": (VECTOR, layers.Dense(5, dtype="mixed_float16")),
    }


if __name__ == "__main__":
    Path(__file__).parents[2].joinpath("docs", "layers.md").write_text(page())
