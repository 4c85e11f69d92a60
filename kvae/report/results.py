"""Sections with results: all figures, sample quality, training curves, KL per dimension, latent space."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from kvae.report import charts
from kvae.report.blocks import Block, Number, Picture, SectionSkipped, is_number, note, table
from kvae.report.history import NAME, History
from kvae.report.subject import Subject

_HEADLINES = ("elbo", "nll", "kl", "bits_per_dimension")
_CURVES = ("elbo", "reconstruction", "kl", "loss", "beta", "active_units")
_MOST_BARS, _MOST_CURVES, _MOST_NAMED = 48, 9, 40


def headlines(document: dict[str, Any]) -> Iterator[tuple[Number, str, str]]:
    """Yield the most important figures: value, name, standard error and unit."""
    for name in _HEADLINES:
        if (figure := document["figures"].get(name)) is not None:
            error = figure["standard_error"]
            shown = "" if error is None else f"± {Number(error)} "
            yield Number(figure["mean"], error), _words(name), shown + figure["unit"]
    active = document["active_units"]
    if active["count"] is not None:
        yield Number(active["count"]), "active units", f"of {active['of']} dimensions"


def figures(subject: Subject) -> list[Block]:
    """Return every figure of the evaluation, with n, K and standard error."""
    document = subject.document
    rows: list[Sequence[Any]] = []
    for name, figure in document["figures"].items():
        if figure is None:
            rows.append((_words(name), "–", "", "", "", "not defined for this model"))
            continue
        error, samples = figure["standard_error"], figure["samples"]
        cells = (Number(figure["mean"], error), _optional(error), Number(figure["n"]), _optional(samples))
        rows.append((_words(name), *cells, figure["unit"]))
    blocks = [
        table(("figure", "mean", "standard error", "n", "K", "unit"), rows),
        note(
            "n examples, K draws of z for each. The standard error is that of the mean over examples. Values are sums "
            "over an example, not means over its values."
        ),
    ]
    nll, information = document["figures"]["nll"], document["figures"].get("mutual_information")
    if nll["bias"] is None:
        blocks.append(note("nll: one draw of z per example does not show the error and the bias that it adds."))
    else:
        blocks.append(
            note(
                f"nll: {Number(nll['effective_samples'])} of {nll['samples']} draws count on average. The draws add "
                f"an error of {Number(nll['monte_carlo_error'])} and a bias of about {Number(nll['bias'])} nats."
            )
        )
    if information is not None:
        upper = information["upper_bound"]
        estimator = information["estimator"].partition(", own")[0]
        blocks.append(
            note(
                f"mutual information: a lower bound, at most {Number(information['ceiling'])} here"
                + ("" if upper is None else f"; an upper bound is {Number(upper)}")
                + f". The gap is an upper bound. Both from a {estimator}."
            )
        )
    return blocks


def anomalies(subject: Subject) -> list[Block] | None:
    """Return figures and curves of the detection of anomalies; None if the anomalies are not known."""
    found = subject.document.get("anomalies")
    if found is None:
        return None
    num, normal = found["anomalies"], found["n"] - found["anomalies"]
    rows = [
        (name, *(f"{each['value']:.3f} ({each['low']:.3f} to {each['high']:.3f})" for each in figures.values()))
        for name, figures in found["methods"].items()
    ]
    blocks = [
        note(
            f"{num} anomalies and {normal} normal examples, marked by {found['labels']}. Intervals of 95 % from "
            f"{found['resamples']} bootstrap resamples. Precision at rate is that of the {num} most anomalous examples."
        ),
        table(("score", "AUROC", "average precision", "precision at rate"), rows),
    ]
    names = list(found["methods"])
    pairs = (("ROC", "false_positive_rate", "recall"), ("precision and recall", "recall", "precision"))
    pictures = []
    for caption, across, up in pairs:

        def plot(axes: Any, across: str = across, up: str = up) -> None:
            for index, name in enumerate(names):
                curve = found["curves"][name]
                axes.plot(curve[across], curve[up], color=charts.colour(index, len(names)))
            axes.set(xlabel=_words(across), ylabel=_words(up), xlim=(0, 1), ylim=(0, 1.02))

        pictures.append(charts.draw(f"{caption} curves of {', '.join(names)}", plot, caption))
    blocks.append({"charts": pictures})
    blocks.append({"legend": [(charts.colour(index, len(names)), name) for index, name in enumerate(names)]})
    if found["thresholds"]:
        flagged = [
            (
                f"q{each['quantile']:g}",
                Number(each["elbo"]),
                f"{each['normal']} of {normal}",
                f"{each['anomalies']} of {num}",
            )
            for each in found["thresholds"]
        ]
        blocks.append(table(("threshold", "elbo", "normal examples below", "anomalies below"), flagged))
    return blocks


def sample_quality(subject: Subject) -> list[Block] | None:
    """Return the figures of samples and of real images; None if they were not measured."""
    found = subject.document.get("samples")
    if not found:
        return None
    about = subject.document["samples_measured"]
    rows = [
        (
            _words(name),
            Number(figure["value"]),
            _optional(figure.get("standard_error")),
            _optional(figure.get("floor")),
            Number(figure["n"]),
        )
        for name, figure in found.items()
        if figure["value"] is not None
    ]
    blocks = [
        note(_sample_settings(about)),
        table(("figure", "samples", "standard error", "real", "n"), rows),
    ]
    if skipped := [_words(name) for name, figure in found.items() if figure["value"] is None]:
        blocks.append(note(f"Skipped: {', '.join(skipped)}."))
    for name, figure in found.items():
        if "worst" in figure:
            worst = (
                (each if isinstance(each, str) else " and ".join(each), Number(value))
                for each, value in figure["worst"]
            )
            blocks.append(table(("", "similarity"), worst, f"Lowest {_words(name)}"))
    return blocks


def _sample_settings(about: dict[str, Any]) -> str:
    options = f"temperature {about['temperature']:g}, seed {about['seed']}"
    if "classifier" not in about:
        return (
            f"{about['n']} samples ({about['rows']}, {options}) compared with as many real test rows, and with "
            f"{about['train_rows']} training rows. The column real is the same figure for real rows."
        )
    classifier = about["classifier"]
    accuracy = classifier["accuracy"]
    return (
        f"{about['n']} samples ({about['images']}, {options}) "
        f"compared with as many real test images, in the features of classifier {classifier['digest']}"
        + ("" if accuracy is None else f", accuracy {accuracy:.2%} on real test images")
        + ". The column real is the same figure for real training images."
    )


def training(history: History | None) -> list[Block]:
    """Return the training curves."""
    if not history or not history["epoch"]:
        raise SectionSkipped(f"the model has no {NAME}. Use --history FILE to name one.")
    epochs = history["epoch"]
    columns = dict.fromkeys(name.removeprefix("val_") for name in history if name != "epoch")
    # KL per dimension has its own chart.
    names = [name for name in columns if not name.startswith("kl_")]
    names.sort(key=lambda name: _CURVES.index(name) if name in _CURVES else len(_CURVES))
    curves, validated = [], False
    for name in names[:_MOST_CURVES]:
        values = _finite(history.get(name))
        validation = [] if name == "beta" else _finite(history.get(f"val_{name}"))
        constant = len({value for value in values or validation if math.isfinite(value)}) < 2
        if (not values and not validation) or (name in ("beta", "active_units") and constant):
            continue
        validated = validated or bool(validation)
        curves.append(_curve(name, epochs, values, validation))
    if not curves:
        raise SectionSkipped(f"the {NAME} has no values.")
    legend = [(charts.FIRST, "training"), (charts.SECOND, "validation")]
    return [
        note(f"{len(epochs)} epochs, in nats per example. The elbo is the plain bound for every beta."),
        {"legend": legend if validated else legend[:1]},
        {"charts": curves},
    ]


def kl_per_dimension(subject: Subject) -> list[Block]:
    """Return KL of each latent dimension as bars, the highest first."""
    values = subject.document["kl_per_dimension"]
    if values is None:
        raise SectionSkipped("the KL of a mixture prior has no value per dimension.")
    order = sorted(range(len(values)), key=lambda index: (-values[index], index))[:_MOST_BARS]

    def plot(axes: Any) -> None:
        axes.bar(range(len(order)), [values[index] for index in order], color=charts.FIRST, width=0.8)
        axes.set_xticks(range(len(order)), [f"z{index}" for index in order], rotation=90 if len(order) > 16 else 0)
        axes.set_ylabel("nats")
        axes.grid(visible=False, axis="x")
        axes.set_xlim(-0.6, max(len(order), 12) - 0.4)

    active = subject.document["active_units"]
    text = f"Mean over {subject.document['n']} examples; {Number(sum(values))} nats in total."
    if active["count"] is not None:
        text += (
            f" {active['count']} of {active['of']} dimensions are active: the variance of z_mean over the examples is "
            f"above {active['threshold']:g}."
        )
    if len(order) < len(values):
        text += f" The {len(order)} highest are shown."
    about = f"KL of {len(order)} latent dimensions, the highest first: z{order[0]} has {values[order[0]]:.3g} nats"
    rows = [(f"z{index}", Number(values[index])) for index in order]
    return [
        note(text),
        {"chart": charts.draw(about, plot, size=(6.4, 2.6))},
        table(("dimension", "nats"), rows, "As numbers"),
    ]


def latent_space(subject: Subject) -> list[Block]:
    """Return the posterior means of the examples as a scatter plot, coloured by label."""
    z_mean, labels = subject.z_mean, subject.labels
    dims = z_mean.shape[1]
    text = f"z_mean of {len(z_mean)} examples"
    if dims == 1:
        places, names = np.column_stack([z_mean[:, 0], np.arange(len(z_mean))]), ("z0", "example")
    elif dims == 2:
        places, names = z_mean, ("z0", "z1")
    else:
        places, share = project(z_mean)
        names = ("first principal component", "second principal component")
        text += f", {dims} dimensions projected on two principal components ({100 * share:.3g} % of the variance)"
    used = [] if labels is None else [int(index) for index in np.unique(labels.values)]

    def plot(axes: Any) -> None:
        if labels is None:
            axes.scatter(*places.T, s=13, color=charts.FIRST, alpha=0.6, linewidths=0)
            return
        for index in used:
            rows = places[labels.values == index]
            axes.scatter(*rows.T, s=13, color=charts.colour(index, len(labels.names)), alpha=0.75, linewidths=0)
        axes.set_xlabel(names[0])
        axes.set_ylabel(names[1])
        if dims > 1:
            axes.set_aspect("equal", adjustable="datalim")

    about = f"Scatter plot of z_mean of {len(z_mean)} examples" + ("" if labels is None else ", coloured by label")
    chart = {"chart": charts.draw(about, plot, size=(6.0, 4.6))}
    if labels is None:
        return [note(text + ". The data have no labels to colour by."), chart]
    text += f", coloured by {labels.name}."
    if any(condition.name == labels.name for condition in subject.manifest.conditions):
        text += " The model receives the label, so z does not have to encode it, and classes may overlap."
    legend = [(charts.colour(index, len(labels.names)), labels.names[index]) for index in used[:_MOST_NAMED]]
    return [note(text), {"legend": legend}, chart]


def project(z_mean: np.ndarray) -> tuple[np.ndarray, float]:
    """Project on the first two principal components.

    Args:
        z_mean: float64 `[rows, latent_dim]`, latent_dim at least 2.

    Returns:
        float64 `[rows, 2]`, and the share of the variance. The largest weight of each component is positive.
    """
    centred = z_mean - z_mean.mean(0)
    _, scales, components = np.linalg.svd(centred, full_matrices=False)
    components = components[:2]
    if len(components) < 2:
        components = np.vstack([components, np.zeros_like(components)])
    largest = components[np.arange(2), np.abs(components).argmax(1)]
    components = components * np.where(largest < 0, -1.0, 1.0)[:, None]
    total = float(np.square(scales).sum())
    return centred @ components.T, float(np.square(scales[:2]).sum()) / total if total else 1.0


def _words(name: str) -> str:
    return name.replace("_", " ")


def _optional(value: Any) -> Number | str:
    return Number(value) if is_number(value) else ""


def _finite(values: list[float] | None) -> list[float]:
    return values if values is not None and any(map(math.isfinite, values)) else []


def _curve(name: str, epochs: list[float], values: list[float], validation: list[float]) -> Picture:
    def plot(axes: Any) -> None:
        for line, colour in ((values, charts.FIRST), (validation, charts.SECOND)):
            if line:
                axes.plot(epochs, line, color=colour, marker="." if len(epochs) < 4 else None)
        known = sorted(value for value in (*values, *validation) if math.isfinite(value))
        low, high = known[len(known) // 20], known[-1 - len(known) // 20]
        if high > low:  # the first epochs are often so far off that they would hide the rest
            margin = (high - low) * 0.15
            axes.set_ylim(max(known[0], low - 5 * margin) - margin / 3, min(known[-1], high + 5 * margin) + margin / 3)
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel("epoch")

    return charts.draw(f"{_words(name)} over {len(epochs)} epochs", plot, _words(name))
