"""What one run is made of: its data, its model and the checks before the first step."""

import contextlib
import sys
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kvae import backends
from kvae.data import disk
from kvae.dataloaders import batches as pipeline
from kvae.training import export_check as exportable
from kvae.training import factory
from kvae.training import metadata as run_facts
from kvae.training.callbacks.progress import say
from kvae.training.distribution import Distribution
from kvae_serve.errors import InputDataError, RequestError, VerificationError

_VALIDATION_BATCH = 500
_MEASURED = 5000


@dataclass(frozen=True)
class Setup:
    """What a run is made of: the same for its beginning and for every resumption."""

    config: Any
    distribution: Distribution
    model: keras.Model
    #: The model that is saved and exported: the one that trains, or its twin in float32 on one device.
    shipped: keras.Model
    batches: pipeline.Batches
    validation: Any
    num_validation: int
    #: Batches that tell which dimensions of z are in use: of the validation data where there are any.
    measured: Any
    facts: dict
    #: A few examples and their labels for pictures and the export check.
    shown: tuple


def set_up(config, dataset, distribution):
    """Split the data, build and compile the model, and look at all of it.

    Args:
        config: `kvae.training.config.Config`, settled for the data.
        dataset: what `runs.read_data` returned.
        distribution: `Distribution`, whose devices hold the model that trains.

    Returns:
        `Setup`.

    Raises:
        InputDataError: where the data do not fit the likelihood or the prior.
        RequestError: where the devices cannot share a batch.
    """
    distribution.require_even(config.training.batch_size)
    train_rows, validation_rows = pipeline.hold_out(len(dataset.x), config.data.validation, config.training.seed)
    spec, conditions = _spec(config, dataset, train_rows), factory.conditions_of(dataset, train_rows)

    def rows_of(rows):
        given = {name: values[rows] for name, values in dataset.conditions.items()}
        return disk.take(dataset.x, rows), given or None

    def in_order(rows):
        x, given = rows_of(rows)
        return distribution.validation_batches(x, given, _VALIDATION_BATCH)

    _seed(config)
    x, given = rows_of(train_rows) if len(validation_rows) else (dataset.x, dataset.conditions or None)
    batches = distribution.training_batches(x, given, config.training.batch_size, config.training.seed)
    mean = spec.unit_mean(disk.subsample(x, _MEASURED))
    pseudo_inputs = None
    if config.model.prior == "vamp":
        pseudo_inputs = _pseudo_inputs(spec, x, given, config.model.prior_components)

    def compiled():
        model = factory.model(config, spec, conditions, batches.steps, mean, len(x), pseudo_inputs)
        model.compile(factory.optimizer(config, batches.steps), steps_per_execution=config.training.steps_per_execution)
        model.optimizer.build(model.trainable_variables)  # in the scope of the strategy, if there is one
        return model

    with distribution.scope(), _bfloat16() if config.training.mixed_precision else contextlib.nullcontext():
        model = compiled()
    shipped = compiled() if config.training.mixed_precision or distribution.strategy else model
    _check_likelihood(shipped, dataset.x, dataset.source)
    validation = None
    if len(validation_rows):
        validation = in_order(validation_rows)
    some = train_rows[:: max(1, len(train_rows) // _MEASURED)]
    measured = validation or in_order(some)
    facts = run_facts.begun(
        config, dataset, shipped, conditions=conditions, examples=len(x), steps_per_epoch=batches.steps
    )
    if distribution.num_replicas > 1:
        facts["devices"] = distribution.num_replicas
    shown = (validation_rows if len(validation_rows) else train_rows)[:64]
    shown = (dataset.x[shown], rows_of(shown)[1])
    return Setup(
        config, distribution, model, shipped, batches, validation, len(validation_rows), measured, facts, shown
    )


def _pseudo_inputs(spec, x, given, num):
    """Examples for a VampPrior to start at, in unit data, and their conditions.

    They are evenly spaced, for data often lie class by class.
    """
    if num > len(x):
        raise InputDataError(
            f"The prior vamp starts at {num} examples, there are {len(x)}; give --prior-components {max(2, len(x))}."
        )
    rows = np.linspace(0, len(x) - 1, num).astype(int)
    return spec.unit_array(x[rows]), {name: values[rows] for name, values in (given or {}).items()}


def _seed(config):
    keras.utils.set_random_seed(config.training.seed)
    backends.settle(config.training.deterministic)


@contextlib.contextmanager
def _bfloat16():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _spec(config, dataset, rows):
    spec = factory.spec_of(dataset, config.model.likelihood, rows)
    try:
        spec.check(dataset.x, str(dataset.source))
    except ValueError as error:
        raise InputDataError(str(error)) from None
    return spec


def _check_likelihood(model, x, source):
    try:
        model.likelihood.check(x, model.data, str(source))
    except ValueError as error:
        raise InputDataError(str(error)) from None


def check_export(setup, quiet):
    """Export the untrained model to a temporary folder.

    Raises:
        RequestError: where a layer of the model has no ONNX form.
        VerificationError: where ONNX Runtime does not reproduce Keras.
    """
    live = sys.stderr.isatty() and not quiet
    if live:
        sys.stderr.write("Checking that the model can be exported ...")
        sys.stderr.flush()
    try:
        warn = (lambda line: None) if quiet else say
        exportable.check(setup.shipped, setup.config, setup.facts, setup.shown[0], warn)
    except (RequestError, VerificationError) as error:
        raise type(error)(f"{error} Nothing was trained; --no-export-check trains it all the same.") from error
    finally:
        if live:
            sys.stderr.write("\r\x1b[K")
