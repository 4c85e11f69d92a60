"""The figures themselves: each with its n, K and standard error."""

from __future__ import annotations

from typing import Any

from kvae.report import svg
from kvae.report.markup import LeftOut, is_number, note, number, table, text, words
from kvae.report.subject import Subject

_HEADLINES = ("elbo", "nll", "kl", "bits_per_dimension")
_BARS = 48


def headlines(document: dict[str, Any]) -> str:
    """Return the few figures that are asked for first, as HTML."""
    shown = []
    for name in _HEADLINES:
        figure = document["figures"].get(name)
        if figure is not None:
            about = f"± {number(figure['standard_error'])}" if figure["standard_error"] is not None else ""
            unit = text(figure["unit"], 40)
            value = number(figure["mean"], figure["standard_error"])
            shown.append(f"<div><b>{value}</b><span>{words(name)}</span><small>{about} {unit}</small></div>")
    active = document["active_units"]
    if active["count"] is not None:
        value = f"<b>{number(active['count'])}</b>"
        shown.append(f"<div>{value}<span>active units</span><small>of {number(active['of'])} dimensions</small></div>")
    return f"<div class=headlines>{''.join(shown)}</div>"


def section(subject: Subject) -> str:
    """Return every figure of the document."""
    document = subject.document
    rows = []
    for name, figure in document["figures"].items():
        if figure is None:
            rows.append((words(name), "–", "", "", "", "not defined for this model"))
            continue
        error, samples = figure["standard_error"], figure["samples"]
        rows.append(
            (
                words(name),
                number(figure["mean"], error),
                "" if error is None else number(error),
                number(figure["n"]),
                "" if samples is None else number(samples),
                text(figure["unit"], 60),
            )
        )
    shown = table(("figure", "mean", "standard error", "n", "K", "unit"), rows, (1, 2, 3, 4))
    return shown + "".join(map(note, _notes(document)))


def _notes(document: dict[str, Any]) -> list[str]:
    nll, information = document["figures"]["nll"], document["figures"].get("mutual_information")
    found = [
        "n examples; K draws of z for each. The standard error is that of the mean over examples. Sums over an "
        "example, never means over its values.",
        f"nll: of {number(nll['samples'])} draws {number(nll['effective_samples'])} count on average; the draws alone "
        f"add an error of {number(nll['monte_carlo_error'])} and about {number(nll['bias'])} nats too much.",
    ]
    if information is not None:
        upper = information["upper_bound"]
        found.append(
            f"mutual information: a lower bound, which cannot exceed {number(information['ceiling'])} here"
            + ("" if upper is None else f"; an upper bound is {number(upper)}")
            + f". The gap is an upper bound. Both from a {text(information['estimator'].partition(', own')[0], 120)}."
        )
    return found


def samples(subject: Subject) -> str | None:
    """Return the figures of samples, beside those of real images; None where they were not asked for."""
    found = subject.document.get("samples")
    if not found:
        return None
    about = subject.document["samples_measured"]
    rows = [
        (
            words(name),
            number(figure["value"]),
            number(figure["standard_error"]) if figure.get("standard_error") is not None else "",
            number(figure["floor"]) if is_number(figure.get("floor")) else "",
            number(figure["n"]),
        )
        for name, figure in found.items()
        if figure["value"] is not None
    ]
    left = [words(name) for name, figure in found.items() if figure["value"] is None]
    judge = about["classifier"]
    right = f", right on {judge['accuracy']:.2%} of all real test images" if judge["accuracy"] is not None else ""
    how = (
        f"{number(about['n'])} samples ({text(about['images'])}, temperature {about['temperature']:g}, seed "
        f"{about['seed']}) against as many real test images, in the features of classifier {text(judge['digest'])}"
        f"{right}. Beside each figure what real training images get against them."
    )
    shown = note(how) + table(("figure", "samples", "standard error", "real", "n"), rows, (1, 2, 3, 4))
    return shown + (note(f"Left out: {', '.join(left)}.") if left else "")


def kl_per_dimension(subject: Subject) -> str:
    """Return kl of each latent dimension as bars, the highest first."""
    values = subject.document["kl_per_dimension"]
    if values is None:
        raise LeftOut("under a mixture prior kl does not divide into dimensions.")
    order = sorted(range(len(values)), key=lambda index: (-values[index], index))[:_BARS]

    def plot(axes):
        heights = [values[index] for index in order]
        axes.bar(range(len(order)), heights, color=svg.FIRST, width=0.8)
        axes.set_xticks(range(len(order)), [f"z{index}" for index in order], rotation=90 if len(order) > 16 else 0)
        axes.set_ylabel("nats")
        axes.grid(visible=False, axis="x")
        axes.set_xlim(-0.6, max(len(order), 12) - 0.4)  # few bars stay bars

    about = f"kl of {len(order)} latent dimensions, the highest first: z{order[0]} has {values[order[0]]:.3g} nats"
    chart = svg.draw("kl", about, plot, (6.4, 2.6))
    active, total = subject.document["active_units"], sum(values)
    said = f"The mean over {number(subject.document['n'])} examples; together {number(total)} nats."
    if active["count"] is not None:
        said += (
            f" {number(active['count'])} of {number(active['of'])} are active: the variance of z_mean over the "
            f"examples exceeds {active['threshold']:g}."
        )
    if len(order) < len(values):
        said += f" The {len(order)} highest are shown."
    rows = [(f"z{index}", number(values[index])) for index in order]
    exact = f"<details><summary>As numbers</summary>{table(('dimension', 'nats'), rows, (1,))}</details>"
    return note(said) + f"<figure class=one>{chart}</figure>" + exact
