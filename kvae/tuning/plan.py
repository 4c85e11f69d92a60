"""Plan of a study: the data, the settings to try, the metric, and the configuration of each run.

This module does not import Keras or Optuna, so that errors are reported before they start, which takes seconds.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from kvae.backends import startup
from kvae.training import defaults, run_data
from kvae.training.config import Config
from kvae.tuning import space as spaces
from kvae.tuning.factors import Factors
from kvae_serve.errors import InputDataError, RequestError, printable
from kvae_serve.numbers import integer
from kvae_serve.readers import Dataset


class Metric(NamedTuple):
    """A metric to choose by.

    Attributes:
        direction: `maximize` or `minimize`.
        curve: Metric of each epoch that the pruner compares, and its sign; None if bad trials are not stopped.
        unit: Unit, for tables and charts.
    """

    direction: str
    curve: tuple[str, float] | None
    unit: str = "nats per example"


#: Metrics on validation data, by name.
METRICS = {
    "val_elbo": Metric("maximize", ("val_elbo", 1.0)),
    "val_nll": Metric("minimize", ("val_elbo", -1.0)),
    "val_reconstruction": Metric("minimize", ("val_reconstruction", 1.0)),
    "val_mig": Metric("maximize", None, "0 to 1"),
}

#: Most rows of DCI, whose trees are slow.
DCI_ROWS = 3000

Params = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Plan of a study: its data, the settings to try, and the metric that compares them.

    Attributes:
        dataset: The data of all runs.
        start: Configuration to start from; None for the defaults of the data.
        flags: Settings to change, with the names of the flags of `kvae train`.
        space: Settings to try, by key.
        is_grid: Whether all combinations are tried, and not a search.
        metric: Name of the metric in `METRICS`.
        seeds: Seeds of the runs of each configuration.
        factors: Factors that generated the data, or None.
        base: Configuration without any change.
    """

    dataset: Dataset
    start: Config | None
    flags: Mapping[str, Any]
    space: Mapping[str, Any]
    is_grid: bool
    metric: str
    seeds: tuple[int, ...]
    factors: Factors | None
    base: Config

    def config(self, params: Params, seed: int) -> Config:
        """Return the configuration of one run, which `kvae train` would choose with these settings.

        Args:
            params: Values by key, as Optuna stores them.
            seed: Seed of the run.
        """
        changes = {key.rpartition(".")[2]: self.space[key].value(value) for key, value in params.items()}
        return _config(self.dataset, self.start, {**self.flags, **changes, "seed": seed})

    def points(self) -> Iterator[Params]:
        """Yield each combination of a grid, with its seed: all combinations of the first seed first."""
        texts = [list(part.values) for part in self.space.values()]
        for seed, *values in itertools.product(self.seeds, *texts):
            yield {**dict(zip(self.space, values, strict=True)), "seed": seed}

    def defaults(self) -> Params:
        """Return the defaults of the data that lie in the space, as Optuna stores them."""
        values = {}
        for key, part in self.space.items():
            section, _, name = key.partition(".")
            value = getattr(getattr(self.base, section), name)
            if part.contains(value):
                texts = {each: text for text, each in part.values.items()} if isinstance(part, spaces.Choices) else {}
                values[key] = texts.get(value, value)
        return values

    def identity(self) -> dict[str, Any]:
        """Return what cannot change when a study continues, as JSON.

        A grid may get more values and more seeds, because each of its runs is a trial.
        """
        settings = dataclasses.asdict(self.base)
        for section, name in (("data", "data"), ("training", "seed")):
            del settings[section][name]
        document = {
            "backend": startup.chosen(),
            "metric": self.metric,
            "first seed": self.seeds[0],
            "settings": {name: value for section in settings.values() for name, value in _plain(section).items()},
        }
        if self.is_grid:
            return {**document, "grid": list(self.space)}
        return {**document, "seeds": len(self.seeds), "space": {key: str(part) for key, part in self.space.items()}}


def make(
    dataset: Dataset,
    start: Config | None,
    flags: Mapping[str, Any],
    *,
    space: str | Mapping[str, Any] | None,
    grid: str | Mapping[str, Any] | None,
    metric: str,
    num_seeds: int,
    factors: Factors | None,
) -> Plan:
    """Validate a request and return its plan.

    Raises:
        RequestError: If a setting cannot be tried with these data, or if a value is out of range.
        InputDataError: If the data do not fit the settings, or if the metric needs factors that they do not have.
    """
    if space is not None and grid is not None:
        raise RequestError("--space and --grid cannot be combined: a grid tries all its values. Give one of them.")
    if not isinstance(metric, str) or metric not in METRICS:
        raise RequestError(f"Unknown metric {printable(metric, 40)}; expected {', '.join(METRICS)}.")
    num_seeds = integer(num_seeds, "--seeds", 1)
    parsed = None
    if space is not None or grid is not None:
        parsed = spaces.parse_grid(grid) if grid is not None else spaces.parse_space(space or "")
    base = _config(dataset, start, flags)
    if not base.data.validation:
        raise RequestError("Trials are compared on validation data, and --validation is 0. Set it to a number above 0.")
    if metric == "val_mig" and factors is None:
        raise InputDataError(
            f"{dataset.source} does not have factors, which val_mig needs. Use data of `kvae sprites`, or --factors."
        )
    if parsed is None:
        parsed = spaces.default_space(base)
    option = "--grid" if grid is not None else "--space"
    spaces.require_effect(parsed, base, str(dataset.source), option)
    first = base.training.seed
    plan = Plan(
        dataset, start, flags, parsed, grid is not None, metric, tuple(range(first, first + num_seeds)), factors, base
    )
    for key, part in parsed.items():
        for value in part.ends():
            name = key.rpartition(".")[2]
            try:
                network = _config(dataset, start, {**flags, name: value}).model.network
            except (RequestError, InputDataError) as error:
                raise type(error)(f"{option} {key}: {error}") from None
            if network != base.model.network and name != "network":
                raise RequestError(
                    f"{option} {key}: a network {base.model.network} cannot have {printable(value, 40)} with these "
                    f"data, and would become {network}. Leave the value out, or set --network."
                )
    return plan


def _config(dataset: Dataset, start: Config | None, changes: Mapping[str, Any]) -> Config:
    wanted = start.replace(**changes) if start else defaults.starting_config(dataset, changes)
    return defaults.default_settings(dataset, wanted)


def _plain(section: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in section.items()}


def median(values: list[float]) -> float:
    """Return the median, or NaN if a value is NaN."""
    return float(statistics.median(values)) if values and np.isfinite(values).all() else float("nan")


def fingerprint(plan: Plan) -> dict[str, Any]:
    """Return the fingerprint of the data, as JSON."""
    return run_data.fingerprint(plan.dataset)
