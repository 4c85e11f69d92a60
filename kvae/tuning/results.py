"""Results of a study: rows of runs, medians over seeds, the best configuration, and the files with them."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kvae.tuning import storage
from kvae.tuning.plan import METRICS, Params, Plan, median
from kvae_serve.errors import printable
from kvae_serve.writers import atomic

#: Figures in the order of tables, if the runs have them, and their description.
FIGURES = {
    "val_elbo": "elbo (nats, higher is better)",
    "val_nll": "nll (nats, lower is better)",
    "val_reconstruction": "reconstruction (nats, lower is better)",
    "val_kl": "kl (nats)",
    "val_active_units": "active units",
    "val_mig": "MIG of validation data",
    "mig": "MIG",
    "factor_vae_score": "FactorVAE score",
    "dci_disentanglement": "DCI disentanglement",
}
_SEED = "seed "


class Row(NamedTuple):
    """One run, or a trial without a finished run.

    Attributes:
        trial: Number of the trial.
        state: `complete`, `pruned`, `failed` or `running`.
        seed: Seed of the run; None without a finished run.
        params: Values by key.
        figures: Figures by name.
        error: Reason of a failure.
    """

    trial: int
    state: str
    seed: int | None
    params: Params
    figures: Mapping[str, float]
    error: str


class Group(NamedTuple):
    """Runs of one configuration: its trials, its values by key, and figures by seed."""

    trial: int
    params: Params
    figures: dict[int, Mapping[str, float]]

    def values(self, name: str) -> list[float]:
        """Return a figure of each run that has it."""
        return [each[name] for each in self.figures.values() if name in each]

    def median(self, name: str) -> float:
        """Return the median of a figure over seeds."""
        return median(self.values(name))


@dataclasses.dataclass(frozen=True)
class Study:
    """Result of a study.

    Attributes:
        directory: Folder with `best.toml`, `runs.csv`, `report.html` and the runs.
        best: `trial`, `value` and `params` of the best configuration; None if no trial is complete.
        counts: Number of trials that are `complete`, `pruned`, `failed` and `running`.
        interrupted: Whether Ctrl-C ended it.
    """

    directory: Path
    best: dict[str, Any] | None
    counts: dict[str, int]
    interrupted: bool = False


def rows(study: Any, plan: Plan) -> list[Row]:
    """Return all runs of a plan, by trial and seed. Runs of grid values that are not in the plan are left out."""
    all_rows = []
    for trial in study.get_trials(deepcopy=False):
        params = dict(trial.user_attrs.get("grid") or trial.params)
        seed = params.pop("seed", None)
        if plan.is_grid and not all(params.get(key) in part.values for key, part in plan.space.items()):
            continue
        state = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}.get(trial.state.name, "running")
        error = trial.user_attrs.get("error", "")
        runs = {int(key[len(_SEED) :]): value for key, value in trial.user_attrs.items() if key.startswith(_SEED)}
        for each in sorted(runs):
            all_rows.append(Row(trial.number, state, each, params, runs[each], error))
        if not runs:
            all_rows.append(Row(trial.number, state, seed, params, {}, error))
    return all_rows


def groups(all_rows: Iterable[Row], is_grid: bool) -> list[Group]:
    """Return the complete configurations. The trials of a grid with different seeds are one."""
    by_settings: dict[Any, Group] = {}
    for row in all_rows:
        if row.state == "complete" and row.seed is not None:
            key = tuple(sorted(row.params.items())) if is_grid else row.trial
            by_settings.setdefault(key, Group(row.trial, row.params, {})).figures[row.seed] = row.figures
    return list(by_settings.values())


def best(complete: Sequence[Group], metric: str, seeds: Sequence[int]) -> Group | None:
    """Return the group with the best median of a metric, among those with a complete run of each seed."""
    sign = 1.0 if METRICS[metric].direction == "maximize" else -1.0
    ranked = [each for each in complete if set(seeds) <= set(each.figures) and math.isfinite(each.median(metric))]
    return max(ranked, key=lambda each: sign * each.median(metric), default=None)


def counts(all_rows: Iterable[Row]) -> dict[str, int]:
    """Return the number of trials by state."""
    numbers = dict.fromkeys(("complete", "pruned", "failed", "running"), 0)
    for _, state in {(row.trial, row.state) for row in all_rows}:
        numbers[state] += 1
    return numbers


def words(params: Mapping[str, Any]) -> str:
    """Return settings as text, such as `beta 4, latent_dim 8`."""
    return ", ".join(f"{key.rpartition('.')[2]} {text(value)}" for key, value in params.items())


def text(value: Any) -> str:
    """Return a value as short text."""
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "0"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_tables(study: Any, plan: Plan, directory: Path) -> Group | None:
    """Write the CSV files and `best.toml`, and return the best group."""
    all_rows = rows(study, plan)
    complete = groups(all_rows, plan.is_grid)
    names = [name for name in FIGURES if any(name in row.figures for row in all_rows)]
    head = ["trial", "state", "seed", *plan.space, *names, "epochs", "seconds", "error"]
    lines = [
        [
            row.trial, row.state, "" if row.seed is None else row.seed,
            *(row.params.get(key, "") for key in plan.space),
            *(row.figures.get(name, "") for name in [*names, "epochs", "seconds"]), printable(row.error, 300),
        ]
        for row in all_rows
    ]  # fmt: skip
    _write_csv(directory / storage.RUNS, head, lines)
    if plan.is_grid:
        head = [*plan.space, "runs", *(f"{name}{end}" for name in names for end in ("", "_lowest", "_highest"))]
        _write_csv(directory / storage.MEDIANS, head, [_summary(each, plan, names) for each in complete])
    chosen = best(complete, plan.metric, plan.seeds)
    if chosen:
        config = plan.config(chosen.params, plan.seeds[0])
        number = f"{chosen.median(plan.metric):.6g}"
        line = f"# Best of {sum(counts(all_rows).values())} trials of kvae tune: {plan.metric} {number}\n"
        atomic.write_whole(directory / storage.BEST, (line + config.to_toml()).encode(), force=True)
    return chosen


def _summary(group: Group, plan: Plan, names: Iterable[str]) -> list[Any]:
    cells: list[Any] = [*(group.params[key] for key in plan.space), len(group.figures)]
    for name in names:
        values = group.values(name)
        cells += [group.median(name), min(values), max(values)] if values else ["", "", ""]
    return cells


def _write_csv(path: Path, head: list[str], lines: Iterable[list[Any]]) -> None:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(lines)
    atomic.write_whole(path, file.getvalue().encode(), force=True)
