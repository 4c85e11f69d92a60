"""Studies: train and compare configurations on validation data, and write the best one as TOML."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kvae.backends import startup
from kvae.training import config as configs
from kvae.training import defaults, run_data, run_folder
from kvae.training.config import Config
from kvae.tuning import factors as factor_files
from kvae.tuning import plan as plans
from kvae.tuning import results, storage
from kvae.tuning.plan import METRICS, Plan
from kvae.tuning.results import Study
from kvae_serve.errors import InputDataError, OutputError, RequestError, VerificationError
from kvae_serve.numbers import integer
from kvae_serve.progress import Progress
from kvae_serve.readers import Dataset

#: Most trials of a study.
MAX_TRIALS = 100_000
#: Distance between the steps of two seeds that the pruner compares.
_SEED_STEPS = 1_000_000


def tune(
    data: Any = None,
    directory: str | os.PathLike[str] | None = None,
    *,
    trials: int | None = None,
    space: str | Mapping[str, Any] | None = None,
    grid: str | Mapping[str, Any] | None = None,
    metric: str = "val_elbo",
    seeds: int = 1,
    storage: str | None = None,
    factors: str | None = None,
    config: Config | str | os.PathLike[str] | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Study:
    """Search for the best settings, or train a grid of settings, as `kvae tune` does. Compare on validation data.

    The folder contains a run for each trial and seed, `best.toml` for `kvae.train`, `runs.csv` and `report.html`. Call
    it again with the same arguments to continue an interrupted study, or with more `trials` to extend it. Several
    processes may do so at the same time.

    Args:
        data: The data: a path or name as for `kvae.train`.
        directory: Folder of the study. Required.
        trials: Number of configurations that a search tries; 30 by default.
        space: Settings to search: `"objective.beta=1:16:log,model.latent_dim=2:64"`, or a mapping such as
            `{"latent_dim": "2:64", "activation": ["relu", "silu"]}`. By default those around the defaults of the data.
        grid: Settings of which all combinations are trained: `{"beta": [1, 2, 4]}`, or `"objective.beta=1,2,4"`.
        metric: `val_elbo`, `val_nll`, `val_reconstruction` or `val_mig`; nats per example, and 0 to 1.
        seeds: Number of runs of each configuration. The median counts.
        storage: Storage of Optuna: a URL such as `sqlite:///study.db`, or the path of a journal file. By default a
            journal in `directory`.
        factors: Array of an `.npz` with the factors that generated the data, for `val_mig` and the scores of a grid.
        config: Settings to start from, as for `kvae.train`.
        quiet: Do not print progress.
        **settings: Settings of all trials, with the names of the flags of `kvae train`.

    Returns:
        The study: its folder, its best configuration, and the numbers of trials.

    Raises:
        RequestError: If a setting cannot be tried, or if the folder contains a study with other settings.
        InputDataError: If the data are invalid, or if the folder contains a study of other data.
        OutputError: If the folder or the storage cannot be written.
        MissingExtraError: If Optuna, matplotlib or Jinja2 is not installed.
        VerificationError: If all trials failed.

    Example:
        >>> small = {"network": "dense", "encoder_hidden": (16,), "decoder_hidden": (16,), "epochs": 1}
        >>> study = kvae.tune("mnist-sample", "study", trials=2, space={"latent_dim": "2:8"}, quiet=True, **small)
        >>> study.counts["complete"], sorted(study.best["params"])
        (2, ['model.latent_dim'])
        >>> config = study.directory / "best.toml"
        >>> kvae.train(config, "run", export_check=False, quiet=True).metadata["training"]["epochs"]
        1
    """
    if directory is None:
        raise RequestError("No folder for the study. Set `directory` to the folder to write.")
    start = configs.read(config) if config is not None and not isinstance(config, Config) else config
    if data is not None:
        settings["data"] = data
    request = prepare(
        Path(directory), start, settings,
        trials=trials, space=space, grid=grid, metric=metric, seeds=seeds, storage_url=storage, factors=factors,
    )  # fmt: skip
    return run(request, quiet=quiet)


@dataclasses.dataclass(frozen=True)
class Request:
    """A valid request.

    Attributes:
        directory: Folder of the study.
        trials: Number of trials of a search.
        is_shared: Whether the storage may be that of other folders too.
        plan: The plan.
        study: The `optuna.Study`, new or continued.
    """

    directory: Path
    trials: int
    is_shared: bool
    plan: Plan
    study: Any


def prepare(
    directory: Path,
    start: Config | None,
    settings: Mapping[str, Any],
    *,
    trials: int | None,
    space: Any,
    grid: Any,
    metric: str,
    seeds: int,
    storage_url: str | None,
    factors: str | None,
) -> Request:
    """Validate everything that can be validated without Keras, and open the study. The arguments are those of `tune`.

    Raises:
        See `tune`.
    """
    from kvae import report

    if grid is not None and trials is not None:
        raise RequestError("--trials cannot be combined with --grid, which trains all its combinations. Leave it out.")
    trials = 30 if trials is None else trials
    trials = integer(trials, "--trials", 1, MAX_TRIALS)
    storage.require_optuna()
    report.require()
    startup.require_to_train()
    storage.check_folder(directory, storage_url)
    wanted = (start or Config()).replace(**settings)
    dataset = run_data.read(wanted)
    first = start.replace(**settings) if start else defaults.starting_config(dataset, settings)
    dataset = defaults.with_axes(first, dataset)
    plan = plans.make(
        dataset, start, settings,
        space=space, grid=grid, metric=metric, num_seeds=seeds,
        factors=factor_files.read(str(dataset.source), len(dataset.x), factors),
    )  # fmt: skip
    return Request(directory, trials, bool(storage_url), plan, storage.open_study(directory, storage_url, plan))


def describe(request: Request) -> list[str]:
    """Describe the data and the trials of a request, in lines of text."""
    plan = request.plan
    tried = ", ".join(f"{key}={part}" for key, part in plan.space.items())
    runs = f"{len(plan.seeds)} seed{'s' if len(plan.seeds) > 1 else ''}"
    if plan.is_grid:
        num = len(list(plan.points()))
        line = f"Grid of {num} runs, {runs}: {tried}."
    else:
        line = f"Search of {request.trials} trials, {runs}, by {plan.metric}: {tried}."
    return [*defaults.describe(plan.dataset, plan.base, plan.base)[: 1 + len(plan.dataset.notes)], line]


def summary(study: Study, request: Request) -> str:
    """Describe the result of a study, and the next step, in lines of text."""
    counts = ", ".join(f"{num} {state}" for state, num in study.counts.items() if num or state == "complete")
    lines = [f"{sum(study.counts.values())} trials: {counts}."]
    if study.best:
        best = study.best
        lines.append(
            f"Best {request.plan.metric} {best['value']:.6g}: {results.words(best['params'])} (trial {best['trial']})."
        )
    if study.interrupted:
        lines.append("Interrupted. Run the same command again to continue.")
    elif study.counts["running"]:
        lines.append("The trials that are still running belong to other processes. The last one writes the result.")
    if study.best:
        lines.append(f"Report: {study.directory / storage.REPORT}")
        lines.append(f"Next: kvae train --config {study.directory / storage.BEST} -o RUN")
    return "\n".join(lines)


def run(request: Request, quiet: bool = False) -> Study:
    """Train trials until the study is complete. Start the backend first, if that has not been done.

    Returns:
        The study; `interrupted` is true if Ctrl-C ended it.

    Raises:
        See `tune`.
    """
    plan, directory, study = request.plan, request.directory, request.study
    interrupted = False
    with storage.lost_storage():
        while not interrupted:
            with _next_trial(request) as number:
                if number is None:
                    break
                with _tensorflow_warnings_hidden():
                    interrupted = not _train_trial(request, number, quiet)
            if not interrupted:
                results.write_tables(study, plan, directory)
        written = _write(request, interrupted)
    if not written.best and not interrupted and not written.counts["running"]:
        reason = next(
            (each.user_attrs.get("error") for each in study.trials if each.user_attrs.get("error")), "unknown"
        )
        failure = f"No configuration finished training with all {len(plan.seeds)} seeds"
        if not written.counts["complete"]:
            failure = f"None of {len(study.trials)} trials finished training"
        raise VerificationError(f"{failure}. The first reason: {reason}")
    return written


def _write(request: Request, interrupted: bool) -> Study:
    """Write all files of the results, the report included."""
    from kvae.tuning import page

    study, plan, directory = request.study, request.plan, request.directory
    chosen = results.write_tables(study, plan, directory)
    page.write(study, plan, directory, chosen)
    best = None
    if chosen:
        params = {key: plan.space[key].value(value) for key, value in chosen.params.items()}
        best = {"trial": chosen.trial, "value": chosen.median(plan.metric), "params": params}
    return Study(directory, best, results.counts(results.rows(study, plan)), interrupted)


@contextlib.contextmanager
def _next_trial(request: Request) -> Iterator[int | None]:
    """Claim an interrupted trial or start a new one; yield its number, or None if no trials are left."""
    from optuna.trial import TrialState

    plan, directory, study = request.plan, request.directory, request.study
    with contextlib.ExitStack() as claims:
        with storage.locked(directory):
            number = None
            trials = study.get_trials(deepcopy=False)
            for trial in trials:
                folder = trial_folder(directory, trial.number)
                if trial.state != TrialState.RUNNING or (request.is_shared and not folder.is_dir()):
                    continue  # finished, or started in another folder
                has_settings = "grid" in trial.user_attrs or trial.params.keys() == plan.space.keys()
                if not has_settings:
                    study.tell(trial.number, state=TrialState.FAIL)  # killed while it was created
                elif claims.enter_context(storage.claim(_create(folder))):
                    number = trial.number
                    break
            if number is None and (number := _ask(request, trials)) is not None:
                claims.enter_context(storage.claim(_create(trial_folder(directory, number))))
        yield number


def _create(folder: Path) -> Path:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot write {folder} ({error.strerror}). Make room.") from None
    return folder


def _ask(request: Request, trials: list[Any]) -> int | None:
    """Start a new trial and return its number; None if the study has all its trials."""
    import optuna

    plan, study = request.plan, request.study
    if plan.is_grid:
        taken = [each.user_attrs["grid"] for each in trials if "grid" in each.user_attrs]
        point = next((each for each in plan.points() if each not in taken), None)
        if point is None:
            return None
        trial = study.ask()
        trial.set_user_attr("grid", point)
        return trial.number
    num_begun = sum(each.state != optuna.trial.TrialState.WAITING for each in trials)
    if num_begun >= request.trials:
        return None
    if not trials:
        study.enqueue_trial(plan.defaults())
    # A new sampler for each trial: what it draws depends on the trials before, and not on interruptions.
    seed = (plan.seeds[0] * 7919 + num_begun) % 2**32
    study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    return study.ask(_distributions(plan)).number


def _distributions(plan: Plan) -> dict[str, Any]:
    from optuna import distributions

    by_key: dict[str, Any] = {}
    for key, part in plan.space.items():
        if hasattr(part, "values"):
            by_key[key] = distributions.CategoricalDistribution(list(part.values))
        else:
            kind = distributions.IntDistribution if isinstance(part.low, int) else distributions.FloatDistribution
            by_key[key] = kind(part.low, part.high, log=part.log)
    return by_key


def trial_folder(directory: Path, number: int) -> Path:
    """Return the folder of a trial, which contains a run for each seed."""
    return directory / storage.TRIALS / f"{number:04d}"


def _train_trial(request: Request, number: int, quiet: bool) -> bool:
    """Train the runs of a claimed trial that are left, and store its result. Return False if Ctrl-C interrupted it."""
    import optuna
    from optuna.trial import TrialState

    plan, study, metric = request.plan, request.study, METRICS[request.plan.metric]
    frozen = study.get_trials(deepcopy=False)[number]
    trial = optuna.trial.Trial(study, frozen._trial_id)
    params = dict(frozen.user_attrs.get("grid") or frozen.params)
    seeds = (params.pop("seed"),) if plan.is_grid else plan.seeds
    started, values, title = time.monotonic(), [], results.words(params)
    try:
        for index, seed in enumerate(seeds):
            run_started = time.monotonic()
            if (figures := frozen.user_attrs.get(f"seed {seed}")) is None:
                pruning = None if plan.is_grid or not metric.curve else _pruning(trial, frozen, metric, index)
                config = plan.config(params, seed)
                folder = trial_folder(request.directory, number) / f"seed-{seed}"
                name = f"Trial {number}" + (f", seed {seed}" if len(seeds) > 1 or plan.is_grid else "")
                trained = _train(config, folder, plan.dataset, pruning, name, quiet)
                if trained.interrupted:
                    return False
                if pruning and pruning.pruned:
                    study.tell(number, state=TrialState.PRUNED)
                    _print_result(quiet, number, title, "pruned", started)
                    return True
                from kvae.tuning.figures import measure

                figures = {**measure(plan, config, trained), "seconds": round(time.monotonic() - run_started, 1)}
                trial.set_user_attr(f"seed {seed}", figures)
            values.append(figures[plan.metric])
    except (RequestError, InputDataError, VerificationError) as error:
        trial.set_user_attr("error", str(error))
        study.tell(number, state=TrialState.FAIL)
        _print_result(quiet, number, title, f"failed: {error}", started)
        return True
    value = plans.median(values)
    if math.isfinite(value):
        study.tell(number, value)
    else:
        trial.set_user_attr("error", f"{plan.metric} is not finite")
        study.tell(number, state=TrialState.FAIL)
    _print_result(quiet, number, title, f"{plan.metric} {value:.6g}", started)
    return True


@contextlib.contextmanager
def _tensorflow_warnings_hidden() -> Iterator[None]:
    """Hide the warnings of TensorFlow that functions are traced again, as they are for each trial."""
    import keras  # noqa: F401 - the import of TensorFlow may set the level

    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _print_result(quiet: bool, number: int, title: str, result: str, started: float) -> None:
    from kvae.training.callbacks.progress import print_line

    if not quiet:
        print_line(f"Trial {number}: {title}; {result} ({time.monotonic() - started:.0f} s)")


def _train(config: Config, folder: Path, dataset: Dataset, pruning: Any, name: str, quiet: bool) -> Any:
    """Train or continue a run, and return it. The run of an earlier process that is finished is read again."""
    import keras

    from kvae.training import train as training

    keras.backend.clear_session()  # the graphs of the trial before
    # The bar is removed at the end of the run, and one line per trial remains.
    with Progress(name, quiet) as progress:
        callbacks = [_epochs(progress, config.training.epochs), *([pruning] if pruning else [])]
        options: dict[str, Any] = {"dataset": dataset, "callbacks": callbacks, "quiet": True}
        if (folder / run_folder.METADATA).is_file():
            try:
                # The data may have moved since. Their content is checked.
                return training.resume(folder, data=config.data.data, **options)
            except InputDataError:  # killed while it wrote its first files, or damaged
                pass
        return training.train(config, folder, force=True, export_check=False, **options)


def _epochs(progress: Progress, num: int) -> Any:
    import keras

    return keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: progress(epoch + 1, num))


def _pruning(trial: Any, frozen: Any, metric: plans.Metric, index: int) -> Any:
    """Return a callback that reports each epoch to the pruner, and stops a bad trial."""
    import keras

    assert metric.curve is not None
    name, sign = metric.curve

    class Pruning(keras.callbacks.Callback):
        pruned = False

        def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            step, value = index * _SEED_STEPS + epoch, sign * float((logs or {})[name])
            if step not in frozen.intermediate_values and math.isfinite(value):
                trial.report(value, step)
            if epoch + 1 < self.params["epochs"] and trial.should_prune():
                self.pruned = self.model.stop_training = True

    return Pruning()
