"""Preparation of a run before its first step: split data, compiled model, and the checks of one against the other."""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kvae.backends.current import configure
from kvae.data import disk
from kvae.data.spec import DataSpec
from kvae.dataloaders.batches import Batches, hold_out
from kvae.training import export_check, factory, run_data
from kvae.training.callbacks.progress import print_line
from kvae.training.config import Config
from kvae.training.distribution import Distribution
from kvae.training.metadata import describe_start
from kvae_serve.errors import InputDataError, RequestError, VerificationError
from kvae_serve.readers import Dataset
from kvae_serve.readers.dataset import evenly_spaced

_VALIDATION_BATCH = 500
_LATENT_SAMPLE = 5000
_PRIOR_SAMPLE = 50_000


@dataclass(frozen=True)
class Setup:
    """Data and model of a run. A run and all its resumptions have the same."""

    config: Config
    distribution: Distribution
    model: keras.Model
    #: Model that is saved and exported: `model`, or a float32 copy on one device if that trains in another form.
    saved_model: keras.Model
    batches: Batches
    validation: Any
    num_validation: int
    #: Batches on which the use of each latent dimension is measured: the validation data if there are any.
    latent_batches: Any
    metadata: dict[str, Any]
    #: A few examples (x and its conditions) for pictures and the export check.
    examples: run_data.Split
    #: Training examples whose posteriors the prior is fitted to at the end; None if it is not.
    prior_examples: run_data.Split | None = None


def prepare(
    config: Config, dataset: Dataset, distribution: Distribution, data_config: dict[str, Any] | None = None
) -> Setup:
    """Split the data, build and compile the model, and validate both.

    Args:
        config: Settings of the run, with a validation size of at least 0.
        dataset: The data, from `run_data.read`.
        distribution: Devices of the model that trains.
        data_config: Configuration of the `DataSpec` of a run that is resumed; by default it is learned from the data.

    Returns:
        The prepared run.

    Raises:
        InputDataError: If the data do not fit the likelihood or the prior.
        RequestError: If the devices cannot share a batch evenly.
    """
    distribution.require_even(config.training.batch_size)
    train_rows, validation_rows = hold_out(len(dataset.x), config.data.validation, config.training.seed)
    spec, conditions = (
        spec_of(config, dataset, train_rows, data_config),
        factory.describe_conditions(dataset, train_rows),
    )

    def batches_in_order(rows: np.ndarray) -> Any:
        return distribution.validation_batches(*run_data.take(dataset, rows), _VALIDATION_BATCH)

    _seed(config)
    x, values = run_data.take(dataset, train_rows) if len(validation_rows) else (dataset.x, dataset.conditions or None)
    batches = distribution.training_batches(x, values, config.training.batch_size, config.training.seed)
    mean = spec.unit_mean(disk.subsample(x, _LATENT_SAMPLE))
    pseudo_inputs = None
    if config.model.prior == "vamp":
        pseudo_inputs = _pseudo_inputs(spec, x, values, config.model.prior_components)

    def compiled_model() -> keras.Model:
        model = factory.model(config, spec, conditions, batches.steps, mean, len(x), pseudo_inputs)
        model.compile(factory.optimizer(config, batches.steps), steps_per_execution=config.training.steps_per_execution)
        model.optimizer.build(model.trainable_variables)  # must run inside the scope of the strategy
        return model

    with distribution.scope(), _bfloat16() if config.training.mixed_precision else contextlib.nullcontext():
        model = compiled_model()
    saved_model = compiled_model() if config.training.mixed_precision or distribution.strategy else model
    _check_likelihood(saved_model, dataset.x, dataset.source)
    validation = batches_in_order(validation_rows) if len(validation_rows) else None
    latent_batches = validation or batches_in_order(train_rows[:: max(1, len(train_rows) // _LATENT_SAMPLE)])
    metadata = describe_start(
        config, dataset, saved_model, conditions=conditions, num_examples=len(x), steps_per_epoch=batches.steps
    )
    if distribution.num_replicas > 1:
        metadata["devices"] = distribution.num_replicas
    candidates = validation_rows if len(validation_rows) else train_rows
    shown_rows = candidates[evenly_spaced(len(candidates), 64)]
    examples = (dataset.x[shown_rows], run_data.take(dataset, shown_rows)[1])
    return Setup(
        config,
        distribution,
        model,
        saved_model,
        batches,
        validation,
        len(validation_rows),
        latent_batches,
        metadata,
        examples,
        _spread(x, values, _PRIOR_SAMPLE) if config.model.fit_prior else None,
    )


def _pseudo_inputs(spec: DataSpec, x: Any, conditions: dict[str, Any] | None, num: int) -> tuple[Any, dict[str, Any]]:
    """Select initial pseudo-inputs of a VampPrior, in unit data, and their conditions.

    They are evenly spaced, because many datasets are sorted by class.
    """
    if num > len(x):
        raise InputDataError(
            f"The prior vamp starts from {num} examples, but there are only {len(x)}. "
            f"Set --prior-components to at most {max(2, len(x))}."
        )
    examples, values = _spread(x, conditions, num)
    return spec.unit_array(examples), values or {}


def _spread(x: Any, conditions: dict[str, Any] | None, num: int) -> run_data.Split:
    """Select at most `num` examples, evenly spaced, with their conditions."""
    rows = evenly_spaced(len(x), num)
    return disk.take(x, rows), conditions and {name: values[rows] for name, values in conditions.items()}


def _seed(config: Config) -> None:
    keras.utils.set_random_seed(config.training.seed)
    configure(config.training.deterministic)


@contextlib.contextmanager
def _bfloat16() -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def spec_of(config: Config, dataset: Dataset, rows: np.ndarray, data_config: dict[str, Any] | None = None) -> DataSpec:
    """Return the specification of the data, from `data_config` or learned from the training rows, and check the data.

    Raises:
        InputDataError: If the data do not fit.
    """
    if data_config:
        spec = factory.spec_from(data_config)
    else:
        m, bounds = config.model, config.data.lowest_and_highest
        spec = factory.spec_of(dataset, m.likelihood, rows, bounds, m.numbers)
    try:
        spec.check(dataset.x, str(dataset.source))
    except ValueError as error:
        raise InputDataError(str(error)) from None
    return spec


def _check_likelihood(model: keras.Model, x: Any, source: Any) -> None:
    try:
        model.likelihood.check(x, model.data, str(source))
    except ValueError as error:
        raise InputDataError(str(error)) from None


def check_export(setup: Setup, quiet: bool) -> None:
    """Export the untrained model to a temporary folder.

    Raises:
        RequestError: If a layer of the model does not have an ONNX form.
        VerificationError: If ONNX Runtime does not reproduce the outputs of Keras.
    """
    live = sys.stderr.isatty() and not quiet
    if live:
        sys.stderr.write("Checking that the model can be exported ...")
        sys.stderr.flush()
    try:
        warn = (lambda line: None) if quiet else print_line
        export_check.check(setup.saved_model, setup.config, setup.metadata, setup.examples[0], warn)
    except (RequestError, VerificationError) as error:
        raise type(error)(f"{error} Nothing was trained. --no-export-check skips this check.") from error
    finally:
        if live:
            sys.stderr.write("\r\x1b[K")
