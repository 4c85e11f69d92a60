"""Class methods that build a model with its networks in one call: `dense`, `conv`, `residual` and `lstm`."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Self

from kvae import networks
from kvae.data.spec import DataSpec
from kvae.data.table import TableSpec
from kvae.likelihoods.base import Likelihood
from kvae.models.conditions import Condition
from kvae.objectives.objectives import Objective
from kvae.objectives.schedules import Schedule
from kvae.priors import Prior

#: Builder behind `from_preset`. `kvae.presets.models` sets it, because presets are made of models.
preset_builder: Callable[..., Any] | None = None


class Constructors:
    """Mixin for `VAE`. Each method builds an encoder and a mirrored decoder, and the model of both.

    The options after the sizes of the networks are those of the class: `conditions` only of a conditional model, `beta`
    only of a beta-VAE.
    """

    @classmethod
    def dense(
        cls,
        shape: Sequence[int] | None = None,
        latent_dim: int = 16,
        hidden: Sequence[int] = (512, 256),
        activation: str = "relu",
        gated: bool = False,
        *,
        conditions: Condition | Sequence[Condition] | None = None,
        beta: float | Schedule | None = None,
        data: DataSpec | TableSpec | None = None,
        likelihood: Likelihood | None = None,
        prior: Prior | None = None,
        objective: Objective | None = None,
        seed: int = 0,
        name: str | None = None,
    ) -> Self:
        """Build a model of dense layers, for vectors, tables and small images.

        Args:
            shape: Shape of one example. Default: the shape of `data`.
            latent_dim: Size of z.
            hidden: Widths of the encoder's hidden layers; the decoder has them in reverse order.
            activation: Activation of the hidden layers; ignored if `gated`.
            gated: As for `kvae.networks.dense_encoder`.
            conditions: As for `ConditionalVAE`.
            beta: As for `BetaVAE`.
            data: As for `VAE`. Default: pixels 0 to 255 of `shape`.
            likelihood: As for `VAE`.
            prior: As for `VAE`.
            objective: As for `VAE`.
            seed: As for `VAE`.
            name: As for `VAE`.

        Example:
            >>> model = kvae.BetaVAE.dense((28, 28, 1), latent_dim=4, hidden=(16,), beta=4.0)
            >>> model.latent_dim
            4
        """
        options = _options(cls, conditions, beta, data, likelihood, prior, objective, seed, name)
        return _build(
            cls,
            networks.dense_encoder,
            networks.dense_decoder,
            shape,
            latent_dim,
            options,
            {"hidden": hidden, "activation": activation, "gated": gated},
            {"hidden": hidden[::-1], "activation": activation, "gated": gated},
        )

    @classmethod
    def conv(
        cls,
        shape: Sequence[int] | None = None,
        latent_dim: int = 16,
        filters: Sequence[int] | None = None,
        dense: int | Sequence[int] = 256,
        activation: str = "relu",
        *,
        conditions: Condition | Sequence[Condition] | None = None,
        beta: float | Schedule | None = None,
        data: DataSpec | TableSpec | None = None,
        likelihood: Likelihood | None = None,
        prior: Prior | None = None,
        objective: Objective | None = None,
        seed: int = 0,
        name: str | None = None,
    ) -> Self:
        """Build a model of convolutions of stride 2, for images.

        Args:
            shape: (height, width, channels), both sides divisible by 2 to the power of the number of filters. Default:
                the shape of `data`.
            latent_dim: Size of z.
            filters: Channels of the encoder's convolutions; the decoder has them in reverse order. Default: (32, 64),
                and more for sides above 64.
            dense: Width of the dense layer, or widths of several.
            activation: Activation of all layers but the last.
            conditions: As for `ConditionalVAE`.
            beta: As for `BetaVAE`.
            data: As for `VAE`. Default: pixels 0 to 255 of `shape`.
            likelihood: As for `VAE`.
            prior: As for `VAE`.
            objective: As for `VAE`.
            seed: As for `VAE`.
            name: As for `VAE`.

        Example:
            >>> model = kvae.VAE.conv((8, 8, 3), latent_dim=2, filters=(4, 8), dense=16)
            >>> model.data.shape
            (8, 8, 3)
        """
        options = _options(cls, conditions, beta, data, likelihood, prior, objective, seed, name)
        return _build(
            cls,
            networks.conv_encoder,
            networks.conv_decoder,
            shape,
            latent_dim,
            options,
            {"filters": filters, "dense": dense, "activation": activation},
            {"filters": filters and filters[::-1], "dense": _reverse(dense), "activation": activation},
        )

    @classmethod
    def residual(
        cls,
        shape: Sequence[int] | None = None,
        latent_dim: int = 16,
        filters: Sequence[int] | None = None,
        blocks: int = 1,
        dense: int | Sequence[int] = 256,
        activation: str = "relu",
        *,
        conditions: Condition | Sequence[Condition] | None = None,
        beta: float | Schedule | None = None,
        data: DataSpec | TableSpec | None = None,
        likelihood: Likelihood | None = None,
        prior: Prior | None = None,
        objective: Objective | None = None,
        seed: int = 0,
        name: str | None = None,
    ) -> Self:
        """Build a model of convolutions and residual blocks, for images.

        Args:
            shape: (height, width, channels), both sides divisible by 2 to the power of the number of filters. Default:
                the shape of `data`.
            latent_dim: Size of z.
            filters: Channels of the encoder's convolutions; the decoder has them in reverse order. Default: (32, 64),
                and more for sides above 64.
            blocks: Residual blocks per resolution.
            dense: Width of the dense layer, or widths of several.
            activation: Activation of all layers but the last.
            conditions: As for `ConditionalVAE`.
            beta: As for `BetaVAE`.
            data: As for `VAE`. Default: pixels 0 to 255 of `shape`.
            likelihood: As for `VAE`.
            prior: As for `VAE`.
            objective: As for `VAE`.
            seed: As for `VAE`.
            name: As for `VAE`.

        Example:
            >>> model = kvae.VAE.residual((8, 8, 1), latent_dim=2, filters=(4, 8), dense=16)
            >>> model.latent_dim
            2
        """
        options = _options(cls, conditions, beta, data, likelihood, prior, objective, seed, name)
        return _build(
            cls,
            networks.residual_encoder,
            networks.residual_decoder,
            shape,
            latent_dim,
            options,
            {"filters": filters, "blocks": blocks, "dense": dense, "activation": activation},
            {
                "filters": filters and filters[::-1],
                "blocks": blocks,
                "dense": _reverse(dense),
                "activation": activation,
            },
        )

    @classmethod
    def lstm(
        cls,
        shape: Sequence[int] | None = None,
        latent_dim: int = 16,
        units: int = 128,
        dense: int | Sequence[int] = (),
        activation: str = "relu",
        *,
        conditions: Condition | Sequence[Condition] | None = None,
        beta: float | Schedule | None = None,
        data: DataSpec | TableSpec | None = None,
        likelihood: Likelihood | None = None,
        prior: Prior | None = None,
        objective: Objective | None = None,
        seed: int = 0,
        name: str | None = None,
    ) -> Self:
        """Build a model of LSTMs, for sequences.

        Args:
            shape: (steps, features). Default: the shape of `data`.
            latent_dim: Size of z.
            units: Width of the LSTMs.
            dense: Widths of dense layers after the encoder's LSTM and, in reverse order, before the decoder's.
            activation: Activation of the dense layers.
            conditions: As for `ConditionalVAE`.
            beta: As for `BetaVAE`.
            data: As for `VAE`. Default: pixels 0 to 255 of `shape`.
            likelihood: As for `VAE`.
            prior: As for `VAE`.
            objective: As for `VAE`.
            seed: As for `VAE`.
            name: As for `VAE`.

        Example:
            >>> model = kvae.VAE.lstm((12, 2), latent_dim=2, units=8)
            >>> model.data.kind
            'sequence'
        """
        options = _options(cls, conditions, beta, data, likelihood, prior, objective, seed, name)
        return _build(
            cls,
            networks.lstm_encoder,
            networks.lstm_decoder,
            shape,
            latent_dim,
            options,
            {"units": units, "dense": dense, "activation": activation},
            {"units": units, "dense": _reverse(dense), "activation": activation},
        )

    @classmethod
    def from_preset(
        cls,
        preset: str,
        *,
        data: DataSpec | TableSpec | None = None,
        conditions: Condition | Sequence[Condition] | None = None,
        num_examples: int | None = None,
    ) -> Any:
        """Build and compile the model of a preset of `kvae train`, with initial weights.

        Args:
            preset: Name; `kvae.presets.names()` lists all.
            data: `DataSpec` or `TableSpec` of the examples. Default: that of the preset's data set, if Keras
                downloads it.
            conditions: As for `ConditionalVAE`. Default: the labels of the preset's data set.
            num_examples: Number of training examples, for schedules that count in epochs. Default: the size of the
                preset's data set.

        Returns:
            A `VAE` or the subclass that the preset describes. The optimizer has the preset's learning rate.

        Raises:
            RequestError: The preset does not exist, is of another class, or needs `data`.

        Example:
            >>> model = kvae.VAE.from_preset("mnist-cvae")
            >>> model.latent_dim, model.condition_dim
            (16, 10)
        """
        if preset_builder is None:
            raise ImportError("The presets are not loaded. Use kvae.VAE, or import kvae.presets.models.")
        return preset_builder(cls, preset, data, conditions, num_examples)


def _options(cls: Any, *values: Any) -> dict[str, Any]:
    """Return the options that are given, or raise ValueError for one that the class does not have."""
    names = ("conditions", "beta", "data", "likelihood", "prior", "objective", "seed", "name")
    options = {name: value for name, value in zip(names, values, strict=True) if value is not None}
    known = inspect.signature(cls.__init__).parameters
    for name, kind in (("conditions", "ConditionalVAE"), ("beta", "BetaVAE")):
        if name in options and name not in known:
            raise ValueError(f"{cls.__name__} does not have {name}. Use {kind} or ConditionalBetaVAE.")
    return options


def _build(
    cls: Any,
    build_encoder: Callable[..., Any],
    build_decoder: Callable[..., Any],
    shape: Sequence[int] | None,
    latent_dim: int,
    options: dict[str, Any],
    encoder_sizes: dict[str, Any],
    decoder_sizes: dict[str, Any],
) -> Any:
    """Build both networks and the model."""
    if "data" not in options:
        if shape is None:
            raise ValueError("shape and data are missing. Give the shape of one example, such as shape=(28, 28, 1).")
        options["data"] = DataSpec(tuple(shape))
    data, likelihood = options["data"], options.get("likelihood")
    if shape is not None and tuple(shape) != tuple(data.shape):
        raise ValueError(f"shape is {tuple(shape)}, but data has {tuple(data.shape)}. Give one of them.")
    conditions = options.get("conditions", ())
    several = conditions if isinstance(conditions, (list, tuple)) else [conditions]
    condition_dim = sum(condition.dim for condition in several)
    num_parameters = 1 if likelihood is None else likelihood.num_parameters
    if likelihood is not None and likelihood.num_extra:
        decoder_sizes = {**decoder_sizes, "num_extra": likelihood.num_extra}
    if likelihood is not None and likelihood.kind == "categorical":
        encoder = networks.embedded_encoder(
            build_encoder,
            data.unit_shape,
            latent_dim,
            num_classes=likelihood.num_classes,
            condition_dim=condition_dim,
            **encoder_sizes,
        )
    else:
        encoder = build_encoder(data.unit_shape, latent_dim, condition_dim=condition_dim, **encoder_sizes)
    decoder = build_decoder(
        data.unit_shape, latent_dim, condition_dim=condition_dim, num_parameters=num_parameters, **decoder_sizes
    )
    return cls(encoder, decoder, **options)


def _reverse(widths: int | Sequence[int]) -> int | Sequence[int]:
    return widths if isinstance(widths, int) else widths[::-1]
