"""Where the examples lie in the latent space."""

from __future__ import annotations

import numpy as np

from kvae.report import svg
from kvae.report.markup import legend, note, number, text
from kvae.report.subject import Subject

_MOST_NAMED = 40


def project(codes: np.ndarray) -> tuple[np.ndarray, float]:
    """Return codes on their first two principal components, and the share of the variance that these hold.

    Args:
        codes: float64 `[rows, latent_dim]`, latent_dim at least 2.

    Returns:
        float64 `[rows, 2]`, each component with the sign that makes its largest weight positive.
    """
    centred = codes - codes.mean(0)
    _, scales, components = np.linalg.svd(centred, full_matrices=False)
    components = components[:2]
    if len(components) < 2:
        components = np.vstack([components, np.zeros_like(components)])
    largest = components[np.arange(2), np.abs(components).argmax(1)]
    components = components * np.where(largest < 0, -1.0, 1.0)[:, None]
    total = float(np.square(scales).sum())
    return centred @ components.T, float(np.square(scales[:2]).sum()) / total if total else 1.0


def section(subject: Subject) -> str:
    """Return the codes of the examples as a scatter, coloured by label."""
    codes = subject.codes
    dims = codes.shape[1]
    how = f"z_mean of {number(len(codes))} examples"
    if dims == 1:
        places, names = np.column_stack([codes[:, 0], np.arange(len(codes))]), ("z0", "example")
    elif dims == 2:
        places, names = codes, ("z0", "z1")
    else:
        places, share = project(codes)
        names = ("first principal component", "second principal component")
        how += f", all {dims} dimensions projected on their first two principal components (PCA), which hold "
        how += f"{number(round(100 * share, 1))}% of the variance"
    labels = subject.labels
    used = [] if labels is None else [int(index) for index in np.unique(labels.values)]

    def plot(axes):
        if labels is None:
            axes.scatter(*places.T, s=13, color=svg.FIRST, alpha=0.6, linewidths=0)
        else:
            for index in used:
                some = places[labels.values == index]
                axes.scatter(*some.T, s=13, color=svg.colour(index, len(labels.names)), alpha=0.75, linewidths=0)
        axes.set_xlabel(names[0])
        axes.set_ylabel(names[1])
        if dims > 1:
            axes.set_aspect("equal", adjustable="datalim")

    about = f"Scatter of z_mean of {len(codes)} examples" + ("" if labels is None else ", coloured by label")
    chart = f"<figure class=one>{svg.draw('latent', about, plot, (6.0, 4.6))}</figure>"
    if labels is None:
        return note(how + ". The data have no labels to colour by.") + chart
    shown = [(svg.colour(index, len(labels.names)), text(labels.names[index], 30)) for index in used[:_MOST_NAMED]]
    how += f", coloured by <i>{text(labels.name, 40)}</i>"
    given = any(each.name == labels.name for each in subject.manifest.conditions)
    how += (
        ". The model is given it, so that z need not tell it: classes may well lie over each other." if given else "."
    )
    return note(how) + legend(shown) + chart
