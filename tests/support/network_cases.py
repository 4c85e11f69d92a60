"""Small networks as users build them, one function each: name -> (shape of one example, function of the input)."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

import kvae_export
from kvae.exporting.graphs import unrolled
from kvae_serve.model import Model, load
from support.layer_cases import Case, Minibatch, _chain, _local_response, _op

GRAY, COLOR, STEPS, VECTOR = (16, 16, 1), (16, 16, 3), (12, 6), (20,)


def all_cases() -> dict[str, Case]:
    """Return every network."""
    groups = (
        (COLOR, {**_convolutional(), **_attention_on_images(), **_image_operations(), **_decoders()}),
        (GRAY, _digits()),
        (STEPS, {**_recurrent(), **_sequences(), **_transformers()}),
        (VECTOR, {**_dense(), **_operations(), **_structures()}),
        ((6, 6, 4, 2), _volumes()),
    )
    return {name: (shape, build) for shape, group in groups for name, build in group.items()}


def encoder(name: str) -> keras.Model:
    """Return a network with a dense posterior of two dimensions and random weights.

    Variances of normalisations are positive, as after training.
    """
    shape, build = all_cases()[name]
    x = keras.Input(shape)
    state = layers.Flatten()(build(x))
    model = keras.Model(x, [layers.Dense(2, name="z_mean")(state), layers.Dense(2, name="z_log_var")(state)])
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if keras.backend.standardize_dtype(weight.dtype) in ("float32", "float16", "float64"):
            scale = 1 / math.sqrt(max(math.prod(weight.shape[:-1]), 1))
            is_positive = "variance" in weight.path or "gamma" in weight.path
            values = rng.uniform(0.5, 2, weight.shape) if is_positive else rng.normal(0, scale, weight.shape)
            weight.assign(values.astype("float32"))
    return model


def export(model: keras.Model, shape: tuple[int, ...], folder: Path) -> Model:
    """Write the sealed encoder of a network, compared with Keras at batch sizes 1, 7 and 64, and open it.

    Data of four axes have three in the file; the network restores the fourth.
    """
    size = shape if len(shape) < 4 else (shape[0], math.prod(shape[1:-1]), shape[-1])
    manifest = {
        "format": 1, "name": "network", "kind": "vae", "latent_dim": 2, "conditions": [], "model_id": "0" * 64,
        "data": {"kind": ("vector", "sequence", "image")[len(size) - 1], "shape": list(size), "range": [0.0, 1.0]},
        "likelihood": {"name": "gaussian"}, "prior": {"name": "standard_normal"}, "weights": "float32",
        "training": None,
    }  # fmt: skip

    def function(x: Any) -> dict[str, Any]:
        z_mean, z_log_var = model(x if size == shape else ops.reshape(x, (-1, *shape)), training=False)
        return {"z_mean": z_mean, "z_log_var": z_log_var}

    def inputs(_: str, batch: int) -> dict[str, np.ndarray]:
        return {"x": np.random.default_rng(batch).random((batch, *size), dtype=np.float32)}

    graph = kvae_export.Graph("encoder", function, {"x": (size, "float32")}, {"z_mean": (2,), "z_log_var": (2,)})
    with unrolled(model):
        kvae_export.write([graph], manifest, folder, parity_inputs=inputs)
    return load(folder)


# --- Parts ---


def _conv(filters: int = 4, size: int = 3, strides: int = 1, **more: Any) -> Any:
    return layers.Conv2D(filters, size, strides, padding="same", **more)


def _norm_relu(x: Any) -> Any:
    return layers.ReLU()(layers.BatchNormalization()(x))


def _residual(filters: int = 4) -> Callable:
    return lambda x: layers.ReLU()(_conv(filters)(_norm_relu(_conv(filters)(x))) + _conv(filters, 1)(x))


def _gelu(x: Any) -> Any:
    return ops.gelu(x, approximate=True)


def _patches(size: int = 4, width: int = 8) -> Callable:
    """Cut an image into square patches, each embedded as a vector."""
    return _chain(layers.Conv2D(width, size, size), lambda x: layers.Reshape((x.shape[1] * x.shape[2], width))(x))


def _block(x: Any, heads: int = 2, normalise: Any = layers.LayerNormalization, **attention: Any) -> Any:
    """Transformer block with normalisation first."""
    width = x.shape[-1]
    state = normalise()(x)
    x = x + layers.MultiHeadAttention(heads, 4)(state, state, **attention)
    return x + layers.Dense(width)(_gelu(layers.Dense(2 * width)(normalise()(x))))


def _squash(x: Any) -> Any:
    square = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * square / (1 + square) / ops.sqrt(square + 1e-7)


class Weighted(layers.Layer):
    """Layer with one weight of a shape, combined with the input by a function of both."""

    def __init__(self, shape: tuple[int, ...], function: Callable[[Any, Any], Any], **more: Any) -> None:
        super().__init__(**more)
        self.weight_shape, self.function = shape, function

    def build(self, input_shape: Any) -> None:
        self.w = self.add_weight(shape=self.weight_shape, initializer="random_normal", name="w")

    def call(self, x: Any) -> Any:
        return self.function(x, self.w)


class LocallyBuilt(layers.Layer):
    """Layer that makes its parts in `build`, from the shape of its input."""

    def build(self, input_shape: Any) -> None:
        self.parts = [layers.Dense(input_shape[-1] * factor, "relu") for factor in (2, 1)]
        for part in self.parts:
            part.build(input_shape)
            input_shape = (*input_shape[:-1], part.units)

    def call(self, x: Any) -> Any:
        state = x
        for part in self.parts:
            state = part(state)
        return x + state


class Subclassed(keras.Model):
    """Model written as a class."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = layers.Dense(8, "tanh"), layers.LayerNormalization(), layers.Dense(4)

    def call(self, x: Any, training: bool = False) -> Any:
        return self.last(self.norm(self.first(x)))


class StochasticDepth(layers.Layer):
    """Residual branch that is dropped at random in training."""

    def __init__(self, branch: Any) -> None:
        super().__init__()
        self.branch = branch

    def call(self, x: Any, training: bool = False) -> Any:
        branch = self.branch(x)
        if training:
            branch = branch * ops.cast(keras.random.uniform((ops.shape(x)[0], 1)) > 0.5, branch.dtype)
        return x + branch


class MinimalCell(layers.Layer):
    """Cell of a custom recurrent layer."""

    def __init__(self, units: int = 4) -> None:
        super().__init__()
        self.units = self.state_size = units
        self.inner, self.outer = layers.Dense(units), layers.Dense(units, use_bias=False)

    def build(self, input_shape: Any) -> None:
        self.inner.build(input_shape)
        self.outer.build((None, self.units))

    def call(self, x: Any, states: Any) -> Any:
        state = ops.tanh(self.inner(x) + self.outer(states[0]))
        return state, [state]

    def get_initial_state(self, batch_size: Any = None) -> Any:
        return [ops.zeros((batch_size, self.units))]


# --- Images ---


def _convolutional() -> dict[str, Callable]:
    def unet(x, gate=None):
        one = _norm_relu(_conv()(x))
        two = _norm_relu(_conv(8)(layers.MaxPooling2D(2)(one)))
        deep = _norm_relu(_conv(8)(layers.MaxPooling2D(2)(two)))
        up = layers.Concatenate()([layers.Conv2DTranspose(4, 2, 2)(deep), two if gate is None else gate(two, deep)])
        up = layers.Conv2DTranspose(4, 2, 2)(_norm_relu(_conv()(up)))
        return _conv(1, 1)(layers.Concatenate()([up, one]))

    def gate(skip, deep):
        state = layers.Activation("relu")(_conv(4, 1)(skip) + layers.UpSampling2D()(_conv(4, 1)(deep)))
        return skip * _conv(1, 1, activation="sigmoid")(state)

    def excite(x):
        state = layers.Dense(2, "relu")(layers.GlobalAveragePooling2D()(x))
        return x * layers.Reshape((1, 1, x.shape[-1]))(layers.Dense(x.shape[-1], "sigmoid")(state))

    def inverted(x, activation="relu6"):
        state = layers.Activation(activation)(layers.BatchNormalization()(_conv(12, 1, use_bias=False)(x)))
        state = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(state)
        state = excite(layers.Activation(activation)(layers.BatchNormalization()(state)))
        return x + layers.BatchNormalization()(_conv(x.shape[-1], 1, use_bias=False)(state))

    def inception(x):
        towers = [_conv(2, 1)(x), _conv(2, 3)(_conv(2, 1)(x)), _conv(2, 5)(_conv(2, 1)(x))]
        return layers.Concatenate()([*towers, _conv(2, 1)(layers.MaxPooling2D(3, 1, padding="same")(x))])

    def densenet(x):
        for _ in range(3):
            x = layers.Concatenate()([x, _conv(4)(_norm_relu(x))])
        return layers.AveragePooling2D(2)(_conv(4, 1)(x))

    def resnext(x):
        parts = ops.split(_conv(8, 1)(x), 4, axis=-1)
        return _conv(8, 1)(layers.Concatenate()([_conv(2)(part) for part in parts]))

    def shuffled(x):
        groups = ops.reshape(_conv(8, 1)(x), (-1, 16, 16, 2, 4))
        return layers.DepthwiseConv2D(3)(ops.reshape(ops.transpose(groups, (0, 1, 2, 4, 3)), (-1, 16, 16, 8)))

    def res2net(x):
        parts = ops.split(_conv(8, 1)(x), 4, axis=-1)
        outputs = [parts[0]]
        for part in parts[1:]:
            outputs.append(_conv(2)(part + outputs[-1]))
        return layers.Concatenate()(outputs)

    def resolutions(x):
        high, low = _conv(4)(x), _conv(4, strides=2)(x)
        high, low = _conv(4)(high + layers.UpSampling2D()(low)), _conv(4)(low + _conv(4, strides=2)(high))
        return layers.Concatenate()([high, layers.UpSampling2D(interpolation="bilinear")(low)])

    def pyramid(x):
        one = _conv(4, strides=2)(x)
        two = _conv(4, strides=2)(one)
        top = _conv(4, 1)(two)
        return layers.Concatenate()(
            [layers.Flatten()(_conv(2)(layers.UpSampling2D()(top) + _conv(4, 1)(one))), layers.Flatten()(top)]
        )

    def convnext(x):
        state = layers.LayerNormalization(epsilon=1e-6)(layers.DepthwiseConv2D(7, padding="same")(x))
        state = layers.Dense(3)(_gelu(layers.Dense(12)(state)))
        return x + Weighted((3,), lambda a, w: a * w)(state)

    def ghost(x):
        first = _conv(4, 1)(x)
        return layers.Concatenate()([first, layers.DepthwiseConv2D(3, padding="same")(first)])

    def spatial_pyramid(x):
        state = _conv(4)(x)
        pooled = [layers.Flatten()(layers.MaxPooling2D(size)(state)) for size in (16, 8, 4)]
        return layers.Concatenate()(pooled)

    def aspp(x):
        rates = [_conv(3, 3, dilation_rate=rate)(x) for rate in (1, 2, 4)]
        mean = layers.UpSampling2D(16, interpolation="bilinear")(
            _conv(3, 1)(layers.GlobalAveragePooling2D(keepdims=True)(x))
        )
        return layers.Concatenate()([*rates, mean])

    return {
        "residual block": _chain(_residual(), _residual(6)),
        "pre-activation residual block": lambda x: _conv(3)(_norm_relu(_conv(3)(_norm_relu(x)))) + x,
        "U-Net": unet,
        "U-Net with attention gates": lambda x: unet(x, gate),
        "squeeze and excitation": _chain(_conv(8), excite),
        "MobileNet": _chain(layers.DepthwiseConv2D(3, 2, padding="same"), _norm_relu, _conv(8, 1), _norm_relu),
        "inverted residual": inverted,
        "EfficientNet block": lambda x: inverted(x, "silu"),
        "Inception": _chain(inception, inception),
        "DenseNet": densenet,
        "ResNeXt by split": resnext,
        "grouped convolution": layers.Conv2D(6, 3, groups=3),
        "ShuffleNet": shuffled,
        "Res2Net": res2net,
        "two resolutions": resolutions,
        "feature pyramid": pyramid,
        "ConvNeXt": convnext,
        "GhostNet": ghost,
        "SqueezeNet fire": lambda x: layers.Concatenate()([_conv(4, size)(_conv(2, 1)(x)) for size in (1, 3)]),
        "spatial pyramid pooling": spatial_pyramid,
        "dilated pyramid": aspp,
        "VGG": _chain(
            _conv(activation="relu"), _conv(activation="relu"), layers.MaxPooling2D(2), _conv(8), layers.MaxPooling2D(2)
        ),
        "asymmetric kernels": _chain(_conv(4, (1, 5)), _conv(4, (5, 1)), _conv(4, (3, 1), (2, 1))),
        "all convolutional": _chain(
            _conv(4, strides=2), _conv(8, strides=2), _conv(2, 1), layers.GlobalAveragePooling2D()
        ),
        "separable with multiplier": layers.SeparableConv2D(4, 3, depth_multiplier=2, padding="same"),
        "strided average pooling": _chain(
            _conv(), layers.AveragePooling2D(3, 2, padding="valid"), layers.MaxPooling2D(2, 1)
        ),
        "channels first": _chain(layers.Permute((3, 1, 2)), layers.Conv2D(4, 3, data_format="channels_first")),
        "spectral normalisation": layers.SpectralNormalization(_conv()),
        "weight standardisation": Weighted(
            (3, 3, 3, 4),
            lambda x, w: ops.conv(x, (w - ops.mean(w, (0, 1, 2))) / (ops.std(w, (0, 1, 2)) + 1e-5), padding="same"),
        ),
    }


def _attention_on_images() -> dict[str, Callable]:
    def cbam(x):
        x = _conv(4)(x)
        shared = keras.Sequential([layers.Dense(2, "relu"), layers.Dense(4)])
        pooled = shared(layers.GlobalAveragePooling2D()(x)) + shared(layers.GlobalMaxPooling2D()(x))
        x = x * layers.Reshape((1, 1, 4))(ops.sigmoid(pooled))
        flat = layers.Concatenate()([ops.mean(x, -1, keepdims=True), ops.max(x, -1, keepdims=True)])
        return x * _conv(1, 7, activation="sigmoid")(flat)

    def channel_convolution(x):
        pooled = layers.Reshape((3, 1))(layers.GlobalAveragePooling2D()(x))
        return x * layers.Reshape((1, 1, 3))(layers.Conv1D(1, 3, padding="same", activation="sigmoid")(pooled))

    def non_local(x):
        query, key, value = (layers.Reshape((256, 2))(_conv(2, 1)(x)) for _ in range(3))
        weights = ops.softmax(ops.matmul(query, ops.transpose(key, (0, 2, 1))))
        return x + _conv(3, 1)(layers.Reshape((16, 16, 2))(ops.matmul(weights, value)))

    def windows(x):
        x = _conv(4)(x)
        shifted = ops.roll(x, (-2, -2), axis=(1, 2))
        tiles = ops.reshape(
            ops.transpose(ops.reshape(shifted, (-1, 4, 4, 4, 4, 4)), (0, 1, 3, 2, 4, 5)), (-1, 16, 16, 4)
        )
        mixed = layers.MultiHeadAttention(2, 2, attention_axes=2)(tiles, tiles)
        back = ops.reshape(ops.transpose(ops.reshape(mixed, (-1, 4, 4, 4, 4, 4)), (0, 1, 3, 2, 4, 5)), (-1, 16, 16, 4))
        return x + ops.roll(back, (2, 2), axis=(1, 2))

    def vit(x):
        tokens = _patches()(x)
        start = Weighted((1, 1, 8), lambda a, w: ops.tile(w, (ops.shape(a)[0], 1, 1)))(tokens)
        state = Weighted((17, 8), lambda a, w: a + w)(ops.concatenate([start, tokens], axis=1))
        return layers.LayerNormalization()(_block(_block(state)))[:, 0]

    def perceiver(x):
        tokens = _patches()(x)
        queries = Weighted((1, 3, 8), lambda a, w: ops.broadcast_to(w, (ops.shape(a)[0], 3, 8)))(tokens)
        return _block(queries + layers.MultiHeadAttention(2, 4)(queries, tokens))

    def mixer(x):
        state = _patches()(x)
        mixed = layers.Permute((2, 1))(layers.LayerNormalization()(state))
        state = state + layers.Permute((2, 1))(layers.Dense(16)(_gelu(layers.Dense(8)(mixed))))
        return state + layers.Dense(8)(_gelu(layers.Dense(16)(layers.LayerNormalization()(state))))

    def axial(x):
        x = _conv(4)(x)
        return layers.MultiHeadAttention(2, 2, attention_axes=1)(x, x) + layers.MultiHeadAttention(
            2, 2, attention_axes=2
        )(x, x)

    def convmixer(x):
        state = layers.BatchNormalization()(_gelu(layers.Conv2D(6, 4, 4)(x)))
        mixed = state + layers.BatchNormalization()(_gelu(layers.DepthwiseConv2D(3, padding="same")(state)))
        return layers.BatchNormalization()(_gelu(_conv(6, 1)(mixed)))

    return {
        "channel and spatial attention": cbam,
        "channel attention by convolution": channel_convolution,
        "non-local block": non_local,
        "shifted windows": windows,
        "vision transformer": vit,
        "Perceiver": perceiver,
        "MLP-Mixer": mixer,
        "axial attention": axial,
        "ConvMixer": convmixer,
    }


def _image_operations() -> dict[str, Callable]:
    def transformer(x):
        """Spatial transformer: bilinear sampling at an affine grid that depends on the image."""
        theta = ops.reshape(layers.Dense(6)(layers.Flatten()(layers.MaxPooling2D(4)(x))), (-1, 2, 3))
        line = ops.linspace(-1.0, 1.0, 16)
        grid = ops.stack([*(ops.reshape(a, (256,)) for a in ops.meshgrid(line, line)), ops.ones(256)], axis=0)
        place = ops.clip((ops.matmul(theta, grid) + 1) * 7.5, 0.0, 14.999)
        low = ops.floor(place)
        share, flat = place - low, ops.reshape(x, (-1, 256, 3))
        total = 0.0
        for down in (0, 1):
            for right in (0, 1):
                index = ops.cast((low[:, 1] + down) * 16 + low[:, 0] + right, "int32")
                weight = ops.abs(1 - down - share[:, 1]) * ops.abs(1 - right - share[:, 0])
                total += weight[..., None] * ops.take_along_axis(flat, ops.repeat(index[..., None], 3, axis=2), axis=1)
        return ops.reshape(total, (-1, 16, 16, 3))

    def soft_argmax(x):
        maps = ops.reshape(ops.transpose(_conv(4)(x), (0, 3, 1, 2)), (-1, 4, 256))
        line = ops.linspace(0.0, 1.0, 16)
        places = ops.stack([ops.reshape(each, (256,)) for each in ops.meshgrid(line, line)], axis=1)
        return ops.matmul(ops.softmax(maps), places)

    def haar(x):
        a, b, c, d = x[:, ::2, ::2], x[:, 1::2, ::2], x[:, ::2, 1::2], x[:, 1::2, 1::2]
        return ops.concatenate([a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d], axis=-1)

    def laplacian(x):
        return x - layers.UpSampling2D(interpolation="bilinear")(layers.AveragePooling2D(2)(x))

    def coordinates(x):
        line = ops.reshape(ops.linspace(-1.0, 1.0, 16), (1, 16, 1, 1))
        zeros = ops.zeros_like(x[..., :1])
        return _conv()(layers.Concatenate()([x, zeros + line, zeros + ops.transpose(line, (0, 2, 1, 3))]))

    def circular(x):
        x = ops.concatenate([x[:, -1:], x, x[:, :1]], axis=1)
        return layers.Conv2D(4, 3)(ops.concatenate([x[:, :, -1:], x, x[:, :, :1]], axis=2))

    def adaptive_norm(x):
        state = _conv(4)(x)
        shift, scale = (layers.Dense(4)(layers.GlobalAveragePooling2D()(x))[:, None, None] for _ in range(2))
        mean, variance = ops.moments(state, axes=(1, 2), keepdims=True)
        return (state - mean) / ops.sqrt(variance + 1e-5) * (1 + scale) + shift

    def style(x):
        flat = ops.reshape(_conv(4)(x), (-1, 256, 4))
        return ops.matmul(ops.transpose(flat, (0, 2, 1)), flat) / 256

    sobel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], "float32").reshape(3, 3, 1, 1).repeat(3, axis=2)
    blur = np.outer([1, 2, 1], [1, 2, 1]).astype("float32").reshape(3, 3, 1, 1).repeat(3, axis=2) / 16
    return {
        "spatial transformer": transformer,
        "spatial softmax": soft_argmax,
        "Haar wavelet": haar,
        "Laplacian pyramid": laplacian,
        "coordinate convolution": coordinates,
        "circular padding": circular,
        "reflection padding": _chain(
            lambda x: ops.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), "reflect"), layers.Conv2D(4, 5)
        ),
        "symmetric padding": lambda x: ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), "symmetric"),
        "adaptive instance normalisation": adaptive_norm,
        "Gram matrix": style,
        "fixed Sobel filter": lambda x: ops.depthwise_conv(x, sobel, padding="same"),
        "anti-aliased pooling": _chain(
            layers.MaxPooling2D(2, 1), lambda x: ops.depthwise_conv(x, blur, 2, padding="same")
        ),
        "morphological gradient": lambda x: ops.max_pool(x, 3, 1, "same") + ops.max_pool(-x, 3, 1, "same"),
        "median of patches": lambda x: ops.median(
            ops.reshape(ops.image.extract_patches(x, (2, 2)), (-1, 8, 8, 4, 3)), axis=3
        ),
        "extract patches": lambda x: ops.image.extract_patches(x, (4, 4)),
        "gray scale": _chain(ops.image.rgb_to_grayscale, _conv()),
        "center crop and resize": _chain(layers.CenterCrop(12, 12), layers.Resizing(8, 8), _conv()),
        "resize by nearest": _chain(layers.Resizing(24, 24, interpolation="nearest"), _conv(2, 3, 2)),
        "augmentation layers": _chain(
            layers.RandomFlip(),
            layers.RandomRotation(0.1),
            layers.RandomContrast(0.1),
            layers.RandomTranslation(0.1, 0.1),
            _conv(),
        ),
        "pixel normalisation": _chain(
            _conv(), lambda x: x * ops.rsqrt(ops.mean(ops.square(x), -1, keepdims=True) + 1e-8)
        ),
        "instance normalisation": _chain(_conv(), layers.GroupNormalization(-1), _conv()),
        "every normalisation": _chain(
            _conv(),
            layers.GroupNormalization(2),
            _conv(),
            layers.LayerNormalization(axis=(1, 2, 3)),
            _conv(),
            layers.RMSNormalization(),
            layers.UnitNormalization(),
            layers.BatchNormalization(axis=1),
        ),
        "global pooling of every kind": lambda x: layers.Concatenate()(
            [
                layers.GlobalAveragePooling2D()(x),
                layers.GlobalMaxPooling2D()(x),
                ops.std(x, (1, 2)),
                ops.logsumexp(x, (1, 2)),
            ]
        ),
        "channel permutation": lambda x: ops.take(_conv()(x), np.array([2, 0, 3, 1]), axis=-1),
        "minibatch standard deviation": Minibatch(),
        "noise injection": lambda x: layers.Lambda(lambda a: a + keras.random.normal((16, 16, 1)))(_conv()(x)),
        "local response normalisation": _chain(_conv(), _op(_local_response)),
        "resize with antialias": layers.Resizing(7, 7, antialias=True),
    }


def _decoders() -> dict[str, Callable]:
    def seed(x, width=8):
        return layers.Reshape((4, 4, width))(layers.Dense(16 * width)(layers.GlobalAveragePooling2D()(x)))

    def pixel_shuffle(x):
        x = ops.reshape(_conv(16)(x), (-1, 4, 4, 2, 2, 4))
        return ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, 8, 8, 4))

    def film(x):
        state, z = seed(x), layers.GlobalAveragePooling2D()(x)
        for _ in range(2):
            scale, shift = ops.split(layers.Dense(16)(z)[:, None, None], 2, axis=-1)
            state = layers.ReLU()(_conv(8)(state) * (1 + scale) + shift)
        return state

    def modulated(x):
        state, style = seed(x, 4), layers.Dense(4)(layers.GlobalAveragePooling2D()(x))
        kernels = Weighted((4, 6), lambda s, w: s[:, :, None] * w)(style)
        kernels = kernels * ops.rsqrt(ops.sum(ops.square(kernels), 1, keepdims=True) + 1e-8)
        return ops.einsum("bhwc,bcd->bhwd", state, kernels)

    def broadcast(x):
        z = layers.GlobalAveragePooling2D()(x)
        tiled = layers.Reshape((8, 8, 3))(layers.RepeatVector(64)(z))
        grid = ops.stack(ops.meshgrid(ops.linspace(-1.0, 1.0, 8), ops.linspace(-1.0, 1.0, 8)), axis=-1)
        grid = ops.zeros_like(tiled[..., :2]) + grid
        return _conv(4)(layers.Concatenate()([tiled, grid]))

    def ladder(x):
        state = seed(x)
        for factor in (2, 2):
            state = _norm_relu(_conv(6)(layers.UpSampling2D(factor)(state)))
        return _conv(3, activation="sigmoid")(state)

    return {
        "DCGAN": _chain(
            seed,
            layers.Conv2DTranspose(6, 4, 2, "same"),
            _norm_relu,
            layers.Conv2DTranspose(3, 4, 2, "same", activation="tanh"),
        ),
        "upsampling decoder": ladder,
        "bilinear decoder": _chain(seed, layers.UpSampling2D(4, interpolation="bilinear"), _conv(3)),
        "pixel shuffle": _chain(seed, pixel_shuffle, _conv(3)),
        "FiLM": film,
        "modulated convolution": modulated,
        "spatial broadcast decoder": broadcast,
        "transposed, kernel 5, valid": _chain(
            seed, layers.Conv2DTranspose(3, 5, 2), layers.Cropping2D(((1, 0), (0, 1)))
        ),
        "transposed, output padding": _chain(seed, layers.Conv2DTranspose(3, 3, 2, "same", output_padding=0)),
        "transposed, dilated": _chain(seed, layers.Conv2DTranspose(3, 3, dilation_rate=2)),
        "transposed, kernel below stride": _chain(seed, layers.Conv2DTranspose(3, 2, 3)),
        "residual decoder": _chain(seed, _residual(8), layers.UpSampling2D(), _residual(4)),
        "softmax over pixels": _chain(
            seed, lambda x: ops.reshape(ops.softmax(ops.reshape(x, (-1, 128))), (-1, 4, 4, 8))
        ),
    }


def _digits() -> dict[str, Callable]:
    def rows(build):
        return _chain(layers.Reshape((16, 16)), build)

    return {
        "LeNet": _chain(
            layers.Conv2D(4, 5, activation="tanh"),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(8, "tanh"),
        ),
        "GRU over rows": rows(layers.GRU(4)),
        "LSTM over rows": rows(layers.LSTM(4)),
        "bidirectional LSTM over rows": rows(layers.Bidirectional(layers.LSTM(3))),
        "LSTM backwards over rows": rows(layers.LSTM(4, go_backwards=True)),
        "repeated LSTM decoder": _chain(
            layers.Flatten(),
            layers.Dense(4),
            layers.RepeatVector(8),
            layers.LSTM(4, return_sequences=True),
            layers.TimeDistributed(layers.Dense(6)),
        ),
        "attention over rows": rows(lambda x: layers.MultiHeadAttention(2, 4)(x, x)),
        "rescaling inside": _chain(layers.Rescaling(1 / 255, 0.1), layers.Flatten(), layers.Dense(8, "relu")),
        "pixels as embeddings": _chain(
            _op(lambda x: ops.cast(ops.round(15 * x), "int32")),
            layers.Embedding(16, 3),
            layers.Reshape((16, 16, 3)),
            _conv(),
        ),
        "PReLU after pooling": _chain(_conv(), layers.GlobalAveragePooling2D(), layers.PReLU()),
        "batch normalisation and dropout": _chain(_conv(4, 3, 2), layers.BatchNormalization(), layers.Dropout(0.5)),
        "Gaussian noise": _chain(layers.GaussianNoise(0.1), layers.GaussianDropout(0.1), _conv()),
        "random operation": _op(lambda x: x + keras.random.normal(ops.shape(x))),
        "columns of convolutions": rows(_chain(layers.Conv1D(4, 3), layers.MaxPooling1D(2), layers.GRU(3))),
        "binary pixels": _chain(_op(lambda x: ops.cast(x > 0.5, "float32")), _conv()),
        "time distributed rows": _chain(
            layers.TimeDistributed(layers.Conv1D(3, 3)), layers.TimeDistributed(layers.Flatten()), layers.GRU(3)
        ),
    }


# --- Sequences ---


def _recurrent() -> dict[str, Callable]:
    def attended(x):
        states, h, c = layers.LSTM(4, return_sequences=True, return_state=True)(x)
        decoded = layers.LSTM(4, return_sequences=True)(layers.RepeatVector(5)(h), initial_state=[h, c])
        return layers.Concatenate()([decoded, layers.Attention()([decoded, states])])

    return {
        "LSTM": layers.LSTM(4),
        "stacked LSTM": _chain(layers.LSTM(4, return_sequences=True), layers.Dropout(0.1), layers.LSTM(3)),
        "bidirectional LSTM, summed": layers.Bidirectional(layers.LSTM(3, return_sequences=True), merge_mode="sum"),
        "GRU": layers.GRU(4),
        "GRU, reset before": layers.GRU(4, reset_after=False, return_sequences=True),
        "stacked GRU": _chain(layers.GRU(4, return_sequences=True), layers.GRU(3)),
        "bidirectional GRU": layers.Bidirectional(layers.GRU(3)),
        "SimpleRNN": layers.SimpleRNN(4, activation="relu"),
        "stacked cells": layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)]),
        "custom cell": layers.RNN(MinimalCell()),
        "masked LSTM": _chain(layers.Masking(0.0), layers.LSTM(4)),
        "LSTM states": lambda x: layers.Concatenate()(layers.LSTM(3, return_state=True)(x)[1:]),
        "sequence to sequence with attention": attended,
        "ConvLSTM": _chain(layers.Reshape((4, 3, 6)), layers.ConvLSTM1D(2, 3, padding="same")),
        "LSTM then pooling": _chain(layers.LSTM(4, return_sequences=True), layers.GlobalAveragePooling1D()),
        "convolution then LSTM": _chain(layers.Conv1D(4, 3, activation="relu"), layers.MaxPooling1D(2), layers.LSTM(4)),
        "LSTM with layer normalisation": _chain(
            layers.LSTM(4, return_sequences=True), layers.LayerNormalization(), layers.LSTM(2)
        ),
    }


def _sequences() -> dict[str, Callable]:
    def wavenet(x):
        state, skips = layers.Conv1D(4, 2, padding="causal")(x), []
        for rate in (1, 2, 4):
            gated = layers.Conv1D(4, 2, padding="causal", dilation_rate=rate, activation="tanh")(state)
            gated = gated * layers.Conv1D(4, 2, padding="causal", dilation_rate=rate, activation="sigmoid")(state)
            skips.append(layers.Conv1D(4, 1)(gated))
            state = state + skips[-1]
        return layers.Conv1D(2, 1)(layers.ReLU()(layers.Add()(skips)))

    def tcn(x):
        for rate in (1, 2):
            state = layers.Conv1D(6, 3, padding="causal", dilation_rate=rate, activation="relu")(x)
            x = layers.ReLU()(x + layers.SpatialDropout1D(0.1)(state))
        return x

    def unet(x):
        one = layers.Conv1D(4, 3, padding="same", activation="relu")(x)
        two = layers.Conv1D(6, 3, padding="same", activation="relu")(layers.MaxPooling1D(2)(one))
        return layers.Conv1D(2, 3, padding="same")(layers.Concatenate()([layers.UpSampling1D()(two), one]))

    def spectrum(x):
        angles = 2 * np.pi * np.outer(np.arange(12), np.arange(7)) / 12
        real, imaginary = (ops.einsum("btc,tf->bfc", x, f(angles).astype("float32")) for f in (np.cos, np.sin))
        return ops.log(ops.square(real) + ops.square(imaginary) + 1e-3)

    def decomposition(x):
        padded = ops.concatenate([x[:, :1], x, x[:, -1:]], axis=1)
        trend = layers.AveragePooling1D(3, 1)(padded)
        return layers.Concatenate()([trend, x - trend])

    def differences(x):
        return ops.concatenate([x[:, :1], x[:, 1:] - x[:, :-1]], axis=1)

    return {
        "WaveNet": wavenet,
        "temporal convolutions": tcn,
        "U-Net of sequences": unet,
        "separable Conv1D": _chain(
            layers.SeparableConv1D(4, 3), layers.DepthwiseConv1D(3), layers.BatchNormalization()
        ),
        "Conv1DTranspose": _chain(layers.Conv1D(4, 3, 2), layers.Conv1DTranspose(6, 4, 2)),
        "spectrum by matrices": spectrum,
        "Fourier transform": _op(lambda x: ops.rfft(ops.transpose(x, (0, 2, 1)))[0]),
        "trend and rest": decomposition,
        "differences and sums": lambda x: ops.cumsum(differences(x), axis=1),
        "set of vectors": _chain(layers.Dense(6, "relu"), lambda x: ops.sum(x, 1), layers.Dense(4)),
        "PointNet": _chain(
            layers.Conv1D(8, 1, activation="relu"), layers.BatchNormalization(), layers.GlobalMaxPooling1D()
        ),
        "graph convolution": Weighted((6, 4), lambda x, w: ops.matmul(np.eye(12, k=1, dtype="float32"), x @ w)),
        "lagged features": lambda x: ops.concatenate([ops.roll(x, lag, axis=1) for lag in (0, 1, 2)], axis=-1),
        "sorted steps": lambda x: ops.sort(x, axis=1)[:, -3:],
        "largest steps": lambda x: ops.top_k(ops.transpose(x, (0, 2, 1)), 3)[0],
        "reversed steps": lambda x: layers.Conv1D(4, 3)(ops.flip(x, axis=1)),
        "strided slices": lambda x: layers.Concatenate()([x[:, ::3], x[:, 1::3], x[:, 2::3]]),
    }


def _transformers() -> dict[str, Callable]:
    def positions(x):
        angles = np.arange(12)[:, None] / 10.0 ** np.arange(3)
        return x + np.concatenate([np.sin(angles), np.cos(angles)], 1).astype("float32")

    def rotary(x):
        angles = (np.arange(12)[:, None] / 10.0 ** np.arange(3)).astype("float32")
        a, b = ops.split(x, 2, axis=-1)
        cos, sin = np.cos(angles), np.sin(angles)
        return ops.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)

    def linear(x):
        query, key, value = (layers.Dense(4)(x) for _ in range(3))
        query, key = ops.elu(query) + 1, ops.elu(key) + 1
        scale = ops.einsum("btd,bd->bt", query, ops.sum(key, axis=1))[..., None]
        return ops.einsum("btd,bde->bte", query, ops.einsum("btd,bte->bde", key, value)) / scale

    def relative(x):
        query, key, value = (layers.Dense(4)(x) for _ in range(3))
        bias = Weighted((23,), lambda a, w: ops.take(w, np.arange(12)[:, None] - np.arange(12) + 11))(x)
        return ops.matmul(ops.softmax(ops.matmul(query, ops.transpose(key, (0, 2, 1))) / 2 + bias), value)

    def gated(x):
        a, b = ops.split(_gelu(layers.Dense(12)(layers.LayerNormalization()(x))), 2, axis=-1)
        b = layers.Permute((2, 1))(layers.Dense(12)(layers.Permute((2, 1))(layers.LayerNormalization()(b))))
        return x + layers.Dense(6)(a * b)

    def pooled(x):
        query = Weighted((1, 1, 6), lambda a, w: ops.repeat(w, ops.shape(a)[0], axis=0))(x)
        return layers.MultiHeadAttention(2, 3)(query, x)

    def swiglu(x):
        return x + layers.Dense(6)(layers.Dense(8, "silu")(x) * layers.Dense(8)(x))

    return {
        "transformer": _chain(positions, _block, _block, layers.GlobalAveragePooling1D()),
        "transformer, post-normalised": lambda x: layers.LayerNormalization()(
            x + layers.MultiHeadAttention(2, 3)(x, x)
        ),
        "transformer, exact gelu": lambda x: x + layers.Dense(6)(layers.Dense(12, "gelu")(x)),
        "causal transformer": lambda x: _block(positions(x), use_causal_mask=True),
        "RMS transformer": lambda x: swiglu(_block(rotary(x), normalise=layers.RMSNormalization)),
        "grouped queries": lambda x: layers.GroupQueryAttention(4, 2, 1)(x, x),
        "additive attention": lambda x: layers.AdditiveAttention()([x, layers.Dense(6)(x)]),
        "linear attention": linear,
        "relative positions": relative,
        "gated MLP": gated,
        "attention pooling": pooled,
        "feature tokens": _chain(
            lambda x: ops.transpose(x, (0, 2, 1)), layers.Dense(8), _block, lambda x: ops.max(x, 1)
        ),
    }


# --- Vectors ---


def _dense() -> dict[str, Callable]:
    def highway(x):
        gate = layers.Dense(20, "sigmoid")(x)
        return gate * layers.Dense(20, "relu")(x) + (1 - gate) * x

    def crossed(x):
        state = x
        for _ in range(2):
            state = x * layers.Dense(20)(state) + state
        return state

    def factorised(x):
        return Weighted((20, 4), lambda a, v: 0.5 * (ops.square(a @ v) - ops.square(a) @ ops.square(v)))(x)

    def experts(x, kept=None):
        weights = layers.Dense(4)(x)
        if kept is not None:
            weights = ops.where(weights >= ops.top_k(weights, kept)[0][:, -1:], weights, -1e9)
        outputs = ops.stack([layers.Dense(6, "relu")(x) for _ in range(4)], axis=1)
        return ops.sum(ops.softmax(weights)[..., None] * outputs, axis=1)

    def sparsemax(x):
        ordered = ops.flip(ops.sort(x, axis=-1), axis=-1)
        sums, counts = ops.cumsum(ordered, axis=-1), ops.arange(1, 21, dtype="float32")
        support = ops.sum(ops.cast(1 + counts * ordered > sums, "float32"), -1, keepdims=True)
        index = ops.cast(support - 1, "int32")
        return ops.relu(x - (ops.take_along_axis(sums, index, axis=-1) - 1) / support)

    def coupled(x):
        for _ in range(2):
            a, b = ops.split(x, 2, axis=-1)
            scale, shift = ops.split(layers.Dense(20)(layers.Dense(8, "relu")(a)), 2, axis=-1)
            x = ops.concatenate([b * ops.exp(ops.tanh(scale)) + shift, a], axis=-1)
        return x

    def capsules(x):
        votes = layers.Reshape((5, 3, 4))(layers.Dense(60)(x))
        logits = ops.zeros_like(votes[..., 0])
        for _ in range(2):
            outputs = _squash(ops.einsum("bij,bijd->bjd", ops.softmax(logits, -1), votes))
            logits = logits + ops.einsum("bijd,bjd->bij", votes, outputs)
        return outputs

    def quantised(x):
        z = layers.Reshape((5, 4))(x)

        def nearest(z, book):
            distances = ops.sum(ops.square(z[:, :, None] - book), -1)
            return ops.take(book, ops.top_k(-distances, 1)[1][..., 0], axis=0)

        return Weighted((7, 4), nearest)(z)

    mask = (np.arange(20)[:, None] < np.arange(20)).astype("float32")
    return {
        "self-normalising": _chain(layers.Dense(8, "selu"), layers.AlphaDropout(0.1), layers.Dense(8, "selu")),
        "highway": highway,
        "gated linear unit": _chain(layers.Dense(16), lambda x: ops.glu(x)),
        "Maxout": _chain(layers.Dense(24), layers.Reshape((8, 3)), lambda x: ops.max(x, -1)),
        "cross network": crossed,
        "factorisation machine": factorised,
        "wide and deep": lambda x: layers.Concatenate()([x, layers.Dense(4, "relu")(layers.Dense(8, "relu")(x))]),
        "mixture of experts": experts,
        "sparse mixture of experts": lambda x: experts(x, 2),
        "sparsemax": sparsemax,
        "affine coupling": coupled,
        "masked autoregression": Weighted((20, 20), lambda x, w: ops.tanh(x @ (w * mask))),
        "capsules": capsules,
        "vector quantisation": quantised,
        "radial basis functions": Weighted((6, 20), lambda x, w: ops.exp(-ops.sum(ops.square(x[:, None] - w), -1))),
        "Fourier features": lambda x: ops.concatenate(
            [ops.sin(layers.Dense(8)(x)), ops.cos(layers.Dense(8)(x))], axis=-1
        ),
        "SIREN": _chain(layers.Dense(8), lambda x: ops.sin(30 * x), layers.Dense(4)),
        "hypernetwork": lambda x: ops.einsum("bi,bij->bj", x[:, :4], layers.Reshape((4, 5))(layers.Dense(20)(x))),
        "bilinear pooling": lambda x: ops.einsum("bi,bj->bij", layers.Dense(4)(x), layers.Dense(5)(x)),
        "unrolled ODE": lambda x: _ode(x, layers.Dense(20, "tanh")),
        "every activation": lambda x: layers.Concatenate()(
            [
                layers.Activation(name)(x)
                for name in (
                    "relu6",
                    "silu",
                    "softplus",
                    "softsign",
                    "elu",
                    "selu",
                    "hard_sigmoid",
                    "hard_silu",
                    "hard_tanh",
                    "leaky_relu",
                    "log_sigmoid",
                    "mish",
                    "squareplus",
                    "tanh_shrink",
                    "sparse_plus",
                    "exponential",
                    "soft_shrink",
                    "hard_shrink",
                    "log_softmax",
                )
            ]
        ),
        "celu": layers.Dense(4, "celu"),
        "polynomial features": lambda x: ops.concatenate([x, x**2, x**3], axis=-1),
    }


def _ode(x: Any, field: Any) -> Any:
    for _ in range(3):
        x = x + field(x + 0.05 * field(x)) / 10
    return x


def _operations() -> dict[str, Callable]:
    def bucketed(x):
        edges = np.linspace(0.1, 0.9, 5).astype("float32")
        return ops.sum(ops.cast(x[..., None] >= edges, "int32"), -1)

    def categories(x):
        return ops.one_hot(ops.cast(ops.clip(ops.floor(4 * x), 0, 3), "int32"), 4)

    return {
        "one-hot classes": _chain(_op(categories), layers.Dense(3)),
        "buckets by comparison": _chain(_op(bucketed), lambda x: ops.cast(x, "float32")),
        "Discretization": _chain(layers.Discretization([0.2, 0.5, 0.8]), lambda x: ops.cast(x, "float32")),
        "CategoryEncoding": _chain(
            _op(lambda x: ops.cast(ops.floor(3.9 * x[:, :1]), "int32")),
            layers.CategoryEncoding(4, output_mode="one_hot"),
        ),
        "embedded classes": _chain(
            _op(lambda x: ops.cast(ops.floor(4.9 * x), "int32")), layers.Embedding(5, 3), layers.Flatten()
        ),
        "gathered columns": lambda x: ops.take(x, np.array([[0, 3], [5, 19]]), axis=1),
        "indexed by data": lambda x: ops.take_along_axis(x, ops.argsort(x, axis=-1)[:, :5], axis=-1),
        "argmax": _op(lambda x: ops.one_hot(ops.argmax(x, -1), 20)),
        "log1p": _op(ops.log1p),
        "logaddexp": _op(lambda x: ops.logaddexp(x, 0.5)),
        "cumulative product": _op(lambda x: ops.cumprod(x, axis=-1)),
        "condition": _op(lambda x: ops.cond(ops.sum(x) > 1, lambda: x, lambda: -x)),
        "while loop": _op(lambda x: ops.while_loop(lambda y: ops.all(y < 9), lambda y: (y * 2 + 1,), (x,))[0]),
        "double precision": _chain(layers.Dense(4, dtype="float64"), lambda x: ops.cast(x, "float32")),
        "half precision": layers.Dense(4, dtype="mixed_float16"),
        "integers and booleans": _op(
            lambda x: ops.where(
                ops.logical_and(x > 0.2, ops.logical_not(x > 0.8)), ops.cast(ops.cast(9 * x, "int32") % 4, "float32"), x
            )
        ),
        "standardised rows": lambda x: (x - ops.mean(x, -1, keepdims=True)) / (ops.std(x, -1, keepdims=True) + 1e-3),
        "centred by the batch": _op(lambda x: x - ops.mean(x, axis=0, keepdims=True)),
        "norms and angles": lambda x: ops.concatenate(
            [
                ops.norm(x, axis=-1, keepdims=True),
                ops.arctan2(x, x + 1),
                ops.arccos(x / 2),
            ],
            axis=-1,
        ),
        "triangular products": lambda x: ops.einsum("bi,ij->bj", x, ops.tril(ops.ones((20, 20)))),
        "outer differences": lambda x: ops.abs(x[:, :, None] - x[:, None]),
        "diagonal": lambda x: ops.diagonal(ops.einsum("bi,bj->bij", x, x), axis1=1, axis2=2),
        "nan to number": lambda x: ops.nan_to_num(ops.log(x)),
        "quantile of features": _op(lambda x: ops.quantile(x, 0.25, axis=-1)),
    }


def _structures() -> dict[str, Callable]:
    def shared(x):
        layer = layers.Dense(10, "relu")
        return layer(x[:, :10]) - layer(x[:, 10:])

    def nested():
        inner = keras.Sequential([keras.Input((20,)), layers.Dense(8, "relu"), layers.Dense(20)])
        inputs = keras.Input((20,))
        return keras.Model(inputs, inner(inner(inputs)) + inputs)

    def branches(x):
        inputs = keras.Input((20,))
        state = layers.Dense(8, "relu")(inputs)
        outputs = keras.Model(inputs, {"a": layers.Dense(3)(state), "b": layers.Dense(2)(state)})(x)
        return layers.Concatenate()([outputs["b"], outputs["a"]])

    return {
        "shared layer": shared,
        "nested models": lambda x: nested()(x),
        "several outputs": branches,
        "subclassed model": lambda x: Subclassed()(x),
        "layer built from its input": LocallyBuilt(),
        "custom layer with a weight": Weighted((20, 4), lambda x, w: ops.square(x @ w)),
        "Lambda": _chain(layers.Lambda(lambda x: 2 * x + 1), layers.Dense(4)),
        "stochastic depth": lambda x: StochasticDepth(layers.Dense(20, "relu"))(x),
        "merge layers": lambda x: layers.Concatenate()(
            [
                layers.Add()([x, x]),
                layers.Multiply()([x, x]),
                layers.Average()([x, 2 * x]),
                layers.Maximum()([x, 1 - x]),
                layers.Minimum()([x, 1 - x]),
                layers.Subtract()([x, 2 * x]),
                layers.Dot(1)([x, x]),
            ]
        ),
        "normalised features": _chain(layers.Normalization(mean=0.5, variance=0.1), layers.Dense(4)),
        "identity": layers.Identity(),
        "activity regularisation": _chain(
            layers.Dense(6, activity_regularizer="l2"), layers.ActivityRegularization(0.1)
        ),
        "einsum dense": layers.EinsumDense("ab,bcd->acd", (3, 4), bias_axes="cd"),
        "low-rank adapter": lambda x: _adapted(x),
    }


def _adapted(x: Any) -> Any:
    layer = layers.Dense(8)
    layer.build(x.shape)
    layer.enable_lora(2)
    return layer(x)


def _volumes() -> dict[str, Callable]:
    return {
        "Conv3D": _chain(layers.Reshape((6, 6, 4, 2)), layers.Conv3D(3, 2, activation="relu"), layers.MaxPooling3D(2)),
        "residual Conv3D": lambda x: x + layers.Conv3D(2, 3, padding="same")(layers.BatchNormalization()(x)),
        "Conv3DTranspose": _chain(layers.Conv3D(2, 2, 2), layers.Conv3DTranspose(2, 2, 2)),
        "frames of images": _chain(
            layers.TimeDistributed(layers.Conv2D(2, 3)), layers.TimeDistributed(layers.Flatten()), layers.LSTM(3)
        ),
        "upsampled volume": _chain(layers.UpSampling3D(2), layers.AveragePooling3D(2), layers.GlobalMaxPooling3D()),
    }
