"""One run of training, from a configuration to a folder that `kvae export` understands."""

import json
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from zipfile import BadZipFile

import keras
import numpy as np

from kvae import build, graphs, runs
from kvae.callbacks import KeepModel, Progress, StopOnInterrupt, StopOnNaN
from kvae.data import pipeline
from kvae.data.spec import DataSpec
from kvae.runs import CONFIG, FACTS, HISTORY, MODEL, RECONSTRUCTIONS, SAMPLES
from serve_cli import files, grid, png
from serve_cli.errors import InputDataError, OutputError, RequestError

_VALIDATION_BATCH = 500


@dataclass(frozen=True)
class Run:
    """What came of a run.

    Attributes:
        directory: where it lies.
        model: the trained model.
        facts: what the exported files will say of it, as JSON.
        interrupted: whether Ctrl-C ended it early.
    """

    directory: Path
    model: keras.Model
    facts: dict
    interrupted: bool


def train(config, directory, *, dataset=None, force=False, quiet=False):
    """Train the model that `config` describes and write the run.

    Args:
        config: `kvae.config.Config`.
        directory: the folder to write.
        dataset: what `runs.read_data(config)` returned, where it is at hand.
        force: replace the run that `directory` holds.
        quiet: no progress.

    Returns:
        `Run`.

    Raises:
        InputDataError: where the data are missing or bad. Nothing is written then.
        OutputError: where `directory` exists, holds what is not a run's, or cannot be written.
        VerificationError: where the loss becomes NaN; the model saved before is kept.
    """
    directory = Path(directory)
    runs.refuse(directory, force)
    dataset = dataset or runs.read_data(config)
    spec, classes = _spec(config, dataset), dataset.class_names["label"] if config.data.conditional else None
    train_rows, validation_rows = pipeline.hold_out(len(dataset.x), config.data.validation, config.training.seed)
    labels = dataset.conditions["label"] if config.data.conditional else None

    keras.utils.set_random_seed(config.training.seed)
    x = dataset.x[train_rows] if len(validation_rows) else dataset.x
    batches = pipeline.training_batches(
        x, None if labels is None else labels[train_rows], config.training.batch_size, config.training.seed
    )
    low, high = spec.range
    mean = (x.mean(axis=0, dtype="float64") - low) / (high - low)
    pseudo_inputs = None
    if config.model.prior == "vamp":
        pseudo_inputs = (x[: config.model.prior_components].astype("float32") - low) / (high - low)
    model = build.model(config, spec, classes, batches.steps, mean, len(x), pseudo_inputs)
    model.compile(build.optimizer(config, batches.steps), steps_per_execution=config.training.steps_per_execution)
    validation = None
    if len(validation_rows):
        given = None if labels is None else labels[validation_rows]
        validation = pipeline.validation_batches(dataset.x[validation_rows], given, _VALIDATION_BATCH)

    _make(directory)
    files.write_whole(directory / CONFIG, config.to_toml().encode(), force=True)
    facts = _facts(config, dataset, len(x), spec, classes, model.objective)
    _write_facts(directory, facts)
    stop, keep = StopOnInterrupt(), KeepModel(directory / MODEL)
    history = keras.callbacks.CSVLogger(directory / HISTORY)
    callbacks = [batches.callback, StopOnNaN(), stop, history, keep]
    if not quiet:
        callbacks.append(Progress(config.training.epochs))
    try:
        log = model.fit(
            batches.dataset,
            epochs=config.training.epochs,
            validation_data=validation,
            callbacks=callbacks,
            shuffle=False,
            verbose=0,
        )
    finally:
        stop.restore()
    keep.save()
    facts = _with_results(facts, model, log, batches.steps, len(validation_rows))
    _write_facts(directory, facts)
    shown = validation_rows if len(validation_rows) else train_rows
    _write_pictures(directory, model, dataset.x[shown[:20]], None if labels is None else labels[shown[:20]])
    return Run(directory, model, facts, stop.interrupted)


def load(directory):
    """Rebuild a run's model in code and load its weights, and nothing else, from its file.

    Args:
        directory: the folder that `kvae train` wrote.

    Returns:
        The pair (model, facts).

    Raises:
        InputDataError: where the folder is no run, or its files do not belong together.
    """
    from kvae import config as configs

    directory = Path(directory)
    runs.require(directory)
    try:
        config = configs.read(directory / CONFIG)
        facts = json.loads((directory / FACTS).read_text(encoding="utf-8"))
        spec = DataSpec.from_config(facts["data"])
        model = build.model(
            config, spec, facts["classes"], facts["steps_per_epoch"], num_examples=facts["training"]["examples"]
        )
        model.load_weights(directory / MODEL)
    except (KeyError, TypeError, ValueError, OSError, RuntimeError, BadZipFile, RequestError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputDataError(f"{directory}: its files do not make a model ({reason}); train it again.") from error
    return model, facts


def _spec(config, dataset):
    spec = build.spec_of(dataset, config.model.likelihood)
    try:
        spec.check(dataset.x, str(dataset.source))
    except ValueError as error:
        raise InputDataError(str(error)) from None
    return spec


def _make(directory):
    try:
        if directory.exists():
            for name in runs.FILES:
                (directory / name).unlink(missing_ok=True)
        else:
            directory.mkdir()
        free = shutil.disk_usage(directory).free
    except OSError as error:
        raise OutputError(f"{directory} cannot be written ({error.strerror}); give another -o.") from None
    if free < 50 * 2**20:
        raise OutputError(f"{directory} has {free / 2**20:.0f} MiB of free disk, a run wants 50; make room first.")


def _facts(config, dataset, num_examples, spec, classes, objective):
    return {
        "data": spec.get_config(),
        "classes": classes,
        "steps_per_epoch": build.steps_per_epoch(config, num_examples),
        "training": {
            "dataset": Path(str(dataset.source)).name,
            "examples": num_examples,
            "epochs": 0,
            **_objective_facts(objective.manifest()),
            "seed": config.training.seed,
            "batch_size": config.training.batch_size,
            "learning_rate": config.training.learning_rate,
            "validation": None,
            "versions": {name: _version(name) for name in ("kvae-onnx", "keras", "tensorflow")},
        },
    }


def _objective_facts(manifest):
    return {"beta": manifest["beta"]} if manifest["name"] == "elbo" else {"objective": manifest}


def _with_results(facts, model, log, steps, num_validation):
    last = {name: values[-1] for name, values in log.history.items() if values}
    training = {**facts["training"], "epochs": round(int(model.optimizer.iterations) / steps, 2)}
    training["final"] = {name: round(float(last[name]), 4) for name in ("elbo", "reconstruction", "kl") if name in last}
    if num_validation and "val_elbo" in last:
        figures = {name: round(float(last[f"val_{name}"]), 4) for name in ("elbo", "reconstruction", "kl")}
        training["validation"] = {**figures, "examples": num_validation}
    return {**facts, "training": training}


def _write_facts(directory, facts):
    files.write_whole(directory / FACTS, (json.dumps(facts, indent=1) + "\n").encode(), force=True)


def _write_pictures(directory, model, x, labels):
    if (samples := graphs.preview(model)) is None:
        return
    files.write_whole(directory / SAMPLES, samples, force=True)
    x = np.asarray(x, "float32")
    reconstructed = keras.ops.convert_to_numpy(model((x,) if labels is None else (x, labels)))
    columns = 10
    # Rows in pairs: originals, and what the model makes of them below.
    pairs = [(x[i : i + columns], reconstructed[i : i + columns]) for i in range(0, len(x), columns)]
    picture = grid.grid(np.concatenate([row for pair in pairs for row in pair]), min(columns, len(x)), model.data.range)
    files.write_whole(directory / RECONSTRUCTIONS, png.encode(picture), force=True)


def _version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return version("tensorflow-cpu") if name == "tensorflow" else None
