"""HTML report of a study, and the plot of rate and distortion."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kvae.report import charts
from kvae.report.blocks import Block, Number, Picture, note, table
from kvae.report.page import render_sections
from kvae.tuning import results, storage
from kvae.tuning.plan import DCI_ROWS, METRICS, Plan
from kvae.tuning.results import FIGURES, Group
from kvae.tuning.space import is_log
from kvae_serve.writers import atomic

_SCORES = ("val_mig", "mig", "factor_vae_score", "dci_disentanglement")


def write(study: Any, plan: Plan, directory: Path, best: Group | None) -> None:
    """Write `report.html`, and for a grid the plot of rate and distortion as SVG."""
    rows = results.rows(study, plan)
    complete, numbers = results.groups(rows, plan.is_grid), results.counts(rows)
    sections = []
    if complete:
        blocks = (
            _grid(plan, complete, directory) if plan.is_grid else _search(plan, complete, best, sum(numbers.values()))
        )
        sections = [{"name": name, "title": title, "blocks": each} for name, title, each in blocks]
    sections.append({"name": "trials", "title": "All runs", "blocks": [_runs(rows, plan, bool(complete))]})
    page = render_sections(
        name=directory.absolute().name,
        kind="tuning",
        facts=_facts(plan),
        headlines=[*_headlines(plan, best), *_counts(plan, numbers)],
        sections=sections,
        written_by="kvae tune",
        source="from validation data",
    )
    atomic.write_whole(directory / storage.REPORT, page.encode(), force=True)


def _facts(plan: Plan) -> list[tuple[str, str]]:
    base = plan.base
    facts = [
        ("data", f"{len(plan.dataset.x)} examples of {Path(str(plan.dataset.source)).absolute().name}"),
        ("validation", f"{base.data.validation} examples, chosen by the seed"),
        ("metric", f"{plan.metric}, {METRICS[plan.metric].unit}, {METRICS[plan.metric].direction}d"),
        ("seeds", f"{plan.seeds[0]}" + (f" to {plan.seeds[-1]}" if len(plan.seeds) > 1 else "")),
        ("network", base.model.network),
        ("likelihood", base.model.likelihood),
        ("grid" if plan.is_grid else "space", ", ".join(f"{key} = {part}" for key, part in plan.space.items())),
    ]
    if plan.factors:
        facts.append(("factors", " × ".join(map(str, plan.factors.sizes))))
    return facts


def _headlines(plan: Plan, best: Group | None) -> list[tuple[Any, str, str]]:
    if best is None:
        return []
    return [(_aligned([best.median(plan.metric)])[0], f"best {plan.metric}", METRICS[plan.metric].unit)]


def _counts(plan: Plan, numbers: dict[str, int]) -> list[tuple[Any, str, str]]:
    tried = "configurations and seeds" if plan.is_grid else "configurations"
    lines = [(Number(sum(numbers.values())), "trials", f"{tried} that were tried")]
    units = {"complete": "trained to the end", "pruned": "stopped early as bad", "failed": "ended with an error",
             "running": "running or interrupted"}  # fmt: skip
    always = ("complete", "failed") if plan.is_grid else ("complete", "pruned", "failed")
    return lines + [(Number(numbers[name]), name, units[name]) for name in numbers if numbers[name] or name in always]


def _search(
    plan: Plan, complete: Sequence[Group], best: Group | None, num_trials: int
) -> list[tuple[str, str, list[Block]]]:
    assert best is not None
    known = plan.defaults()
    is_tried = known.keys() == plan.space.keys()
    default = next((each for each in complete if each.trial == 0), None) if is_tried else None
    rows = [
        (key, results.text(best.params[key]), results.text(known[key]) if key in known else "outside the space")
        for key in plan.space
    ]
    shown = _aligned([each.median(plan.metric) for each in (best, default) if each])
    rows.append((plan.metric, str(shown[0]), str(shown[1]) if default else "not complete" if is_tried else "not tried"))
    chosen = [
        table(("setting", f"best (trial {best.trial})", "default (trial 0)" if is_tried else "default"), rows),
        note(
            f"The best of {num_trials} trials on the same validation data is better than it will be on new data. To "
            "measure it on test data, train with this command, then use kvae export and kvae evaluate."
        ),
        {"command": f"kvae train --config {storage.BEST} -o RUN"},
    ]
    if METRICS[plan.metric].curve and plan.metric == "val_elbo" and "objective.beta" in plan.space:
        chosen.append(
            note("The elbo is the bound for beta 1, so it seldom prefers another beta. See a grid over beta.")
        )
    return [
        ("best", "Best configuration", chosen),
        ("progress", "Trials", [_progress(plan, complete)]),
        ("settings", "Settings", [{"charts": [_scatter(plan, key, complete, best) for key in plan.space]}]),
    ]


def _progress(plan: Plan, complete: Sequence[Group]) -> Block:
    """Return the value of each trial, and the best so far, as a chart."""
    numbers = [each.trial for each in complete]
    values = [each.median(plan.metric) for each in complete]
    running = np.maximum.accumulate if METRICS[plan.metric].direction == "maximize" else np.minimum.accumulate

    def plot(axes: Any) -> None:
        for each in complete:
            single = each.values(plan.metric)
            if len(single) > 1:
                axes.scatter([each.trial] * len(single), single, s=8, color=charts.FIRST, alpha=0.35, linewidths=0)
        axes.scatter(numbers, values, s=20, color=charts.FIRST, linewidths=0)
        axes.step(numbers, running(values), where="post", color=charts.SECOND)
        _limit(axes, plan, values)
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel("trial")
        axes.set_ylabel(plan.metric)

    about = f"{plan.metric} of {len(complete)} complete trials, and the best so far"
    return {"chart": charts.draw(about, plot, size=(6.4, 2.8))}


def _scatter(plan: Plan, key: str, complete: Sequence[Group], best: Group) -> Picture:
    """Return the metric against one setting."""
    values = [each.median(plan.metric) for each in complete]
    places, labels, log = _places(plan, key, complete)

    def plot(axes: Any) -> None:
        axes.scatter(places, values, s=20, color=charts.FIRST, alpha=0.75, linewidths=0)
        index = list(complete).index(best)
        axes.scatter(places[index], values[index], s=36, color=charts.SECOND, linewidths=0)
        _axis(axes, labels, log, _is_whole(plan, key))
        _limit(axes, plan, values)
        axes.set_ylabel(plan.metric)

    name = key.rpartition(".")[2]
    return charts.draw(f"{plan.metric} against {name}; the best trial is orange", plot, name)


def _limit(axes: Any, plan: Plan, values: Sequence[float]) -> None:
    """Leave the worst values outside, if they are so far off that they would hide the rest."""
    low, middle, high = np.quantile(values, (0, 0.5, 1))
    margin = max(4 * (high - middle if METRICS[plan.metric].direction == "maximize" else middle - low), 1e-9)
    if METRICS[plan.metric].direction == "maximize" and middle - low > margin:
        axes.set_ylim(bottom=middle - margin)
    elif METRICS[plan.metric].direction == "minimize" and high - middle > margin:
        axes.set_ylim(top=middle + margin)


def _places(plan: Plan, key: str, complete: Sequence[Group]) -> tuple[list[float], list[str] | None, bool]:
    """Return each group's place on the axis of a setting, names of its ticks if it is not numeric, and if it is log."""
    part = plan.space[key]
    if hasattr(part, "values") and not _is_numeric(plan, key):
        texts = list(part.values)
        return [float(texts.index(each.params[key])) for each in complete], texts, False
    places = [float(part.value(each.params[key])) for each in complete]
    return places, None, is_log(places) if hasattr(part, "values") else part.log


def _is_numeric(plan: Plan, key: str) -> bool:
    return all(isinstance(each, int | float) and not isinstance(each, bool) for each in plan.space[key].ends())


def _is_whole(plan: Plan, key: str) -> bool:
    return all(isinstance(each, int) for each in plan.space[key].ends())


def _axis(axes: Any, labels: list[str] | None, log: bool, whole: bool, ticks: Sequence[float] = ()) -> None:
    if labels is not None:
        axes.set_xticks(range(len(labels)), labels, rotation=30 if max(map(len, labels)) > 6 else 0)
        axes.set_xlim(-0.5, len(labels) - 0.5)
        return
    from matplotlib import ticker

    locator: Any = ticker.MaxNLocator(5, integer=whole)
    if log:
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        parts = (1, 2, 5) if len(powers) < 4 else (1,)
        between = [
            each for each in (float(f"{part}e{power}") for power in powers for part in parts) if low <= each <= high
        ]
        locator = ticker.FixedLocator(between) if len(between) > 2 else locator
    axes.xaxis.set_major_locator(ticker.FixedLocator(list(ticks)) if ticks else locator)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()


def _grid(plan: Plan, complete: Sequence[Group], directory: Path) -> list[tuple[str, str, list[Block]]]:
    first, *others = plan.space
    names = [name for name in FIGURES if any(each.values(name) for each in complete)]
    curves = _curves(plan, complete, others)
    picture = _rate_distortion(plan, curves, first)
    content = base64.b64decode(picture.address.partition(",")[2])
    atomic.write_whole(directory / storage.CURVE, content, force=True)
    legend: list[Block] = []
    if others:
        legend = [{"legend": [(charts.colour(index, len(curves)), label) for index, label in enumerate(curves)]}]
    seeds = max(len(each.figures) for each in complete)
    scores = [name for name in names if name in _SCORES]
    about = (
        "kl is the rate, reconstruction the distortion, in nats per example of the validation data. Points are runs, "
        f"the line joins the medians over {seeds} seed{'s' if seeds > 1 else ''}. A model below and to the left of "
        "another one is better in both."
    )
    remarks = [note("The elbo is the bound for beta 1 whatever beta is trained, so it is highest near beta 1.")]
    if scores:
        remarks.append(
            note(
                "MIG, FactorVAE score and DCI use z_mean of all data, as published values do, and the FactorVAE score "
                f"needs every combination of the factors once. DCI has random forests on at most {DCI_ROWS} rows, "
                "so it is not comparable with published values. MIG of validation data is the one to choose by."
            )
        )
    panels = [_against(plan, curves, first, name) for name in names]
    return [
        ("rate", "Rate and distortion", [note(about), *legend, {"chart": picture}]),
        ("figures", f"Figures against {first.rpartition('.')[2]}", [*remarks, *legend, {"charts": panels}]),
        ("medians", "Medians over seeds", [_medians(plan, complete, names)]),
    ]


def _curves(plan: Plan, complete: Sequence[Group], others: Sequence[str]) -> dict[str, list[Group]]:
    """Return the groups of each curve: those that differ in the first setting only, in its order."""
    first = next(iter(plan.space))
    texts = list(plan.space[first].values)
    curves: dict[str, list[Group]] = {}
    for group in sorted(complete, key=lambda each: _order(plan, texts, each.params[first], first)):
        curves.setdefault(results.words({key: group.params[key] for key in others}), []).append(group)
    return curves


def _order(plan: Plan, texts: list[str], text: str, key: str) -> float:
    return float(plan.space[key].value(text)) if _is_numeric(plan, key) else float(texts.index(text))


def _rate_distortion(plan: Plan, curves: dict[str, list[Group]], first: str) -> Picture:
    name = first.rpartition(".")[2]

    def plot(axes: Any) -> None:
        for index, groups in enumerate(curves.values()):
            colour = charts.colour(index, len(curves))
            medians = np.array([(each.median("val_kl"), each.median("val_reconstruction")) for each in groups])
            axes.plot(*medians.T, color=colour, marker="o", markersize=4)
            for group, place in zip(groups, medians, strict=True):
                points = group.values("val_kl"), group.values("val_reconstruction")
                axes.scatter(*points, s=12, color=colour, alpha=0.45, linewidths=0)
                axes.annotate(group.params[first], place, xytext=(5, 5), textcoords="offset points")
        axes.set_xlabel("kl (rate), nats")
        axes.set_ylabel("reconstruction (distortion), nats")
        axes.margins(0.08)

    groups = next(iter(curves.values()))
    ends = [f"{name} {each.params[first]} has kl {each.median('val_kl'):.3g} and reconstruction "
            f"{each.median('val_reconstruction'):.3g}" for each in (groups[0], groups[-1])]  # fmt: skip
    about = f"Reconstruction against kl for {len(groups)} values of {name}: {'; '.join(dict.fromkeys(ends))}"
    return charts.draw(about, plot, size=(6.0, 4.0))


def _against(plan: Plan, curves: dict[str, list[Group]], first: str, figure: str) -> Picture:
    def plot(axes: Any) -> None:
        ticks: set[float] = set()
        labels, log = None, False
        everywhere = [place for groups in curves.values() for place in _places(plan, first, groups)[0]]
        for index, groups in enumerate(curves.values()):
            colour = charts.colour(index, len(curves))
            having = [each for each in groups if each.values(figure)]
            places, labels, _ = _places(plan, first, having)
            ticks |= set(places)
            axes.plot(places, [each.median(figure) for each in having], color=colour)
            for place, group in zip(places, having, strict=True):
                values = group.values(figure)
                axes.scatter([place] * len(values), values, s=14, color=colour, alpha=0.55, linewidths=0)
        log = labels is None and is_log(everywhere)
        _axis(axes, labels, log, _is_whole(plan, first), sorted(ticks) if len(ticks) <= 8 else ())
        if figure in _SCORES:
            axes.set_ylim(0, 1)

    return charts.draw(f"{FIGURES[figure]} against {first.rpartition('.')[2]}, a point per run", plot, FIGURES[figure])


def _medians(plan: Plan, complete: Sequence[Group], names: Sequence[str]) -> Block:
    rows = []
    ordered = [group for groups in _curves(plan, complete, list(plan.space)[1:]).values() for group in groups]
    for group in ordered:
        cells: list[Any] = [group.params[key] for key in plan.space]
        for name in names:
            values = group.values(name)
            middle, low, high = _aligned([group.median(name), min(values), max(values)]) if values else ("", "", "")
            cells.append(f"{middle} ({low} to {high})" if len(values) > 1 else str(middle))
        rows.append((*cells, Number(len(group.figures))))
    head = [*(key.rpartition(".")[2] for key in plan.space), *(FIGURES[name].partition(" (")[0] for name in names)]
    return table((*head, "runs"), rows)


def _runs(all_rows: Sequence[results.Row], plan: Plan, folded: bool) -> Block:
    names = [name for name in FIGURES if any(name in row.figures for row in all_rows)]
    lines = []
    finite = [{name: value for name, value in row.figures.items() if _finite(value)} for row in all_rows]
    columns = {name: iter(_aligned([each[name] for each in finite if name in each])) for name in names}
    for row, figures in zip(all_rows, finite, strict=True):
        shown = [next(columns[name]) if name in figures else "" for name in names]
        state = f"{row.state}: {row.error}" if row.error else row.state
        params = [results.text(row.params.get(key, "")) for key in plan.space]
        lines.append((Number(row.trial), state, "" if row.seed is None else Number(row.seed), *params, *shown))
    head = ("trial", "state", "seed", *(key.rpartition(".")[2] for key in plan.space), *names)
    return table(head, lines, f"{len(lines)} rows" if folded else "")


def _aligned(values: Sequence[float]) -> list[Number]:
    """Return figures with equally many decimals: four digits of the largest one; none if all are whole."""
    largest = max((abs(each) for each in values if _finite(each)), default=0.0)
    if not largest or all(float(each).is_integer() for each in values):
        return [Number(each) for each in values]
    return [Number(each, 10.0 ** (math.floor(math.log10(largest)) - 2)) for each in values]


def _finite(value: Any) -> bool:
    return value is not None and math.isfinite(value)
