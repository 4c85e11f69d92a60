"""Probability of each class of a conditional model given x, which finds mislabelled examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from kvae_serve.errors import RequestError, printable
from kvae_serve.inference import scoring
from kvae_serve.inference.densities import LOG_2_PI, Prior, log_sum_exp
from kvae_serve.runtime.graphs import Graphs
from kvae_serve.runtime.session import BATCH_SIZE
from kvae_serve.sealed.manifest import Condition, Manifest

CLASS_PRIORS = ("uniform", "data")
"""Choices of p(y): the same for all classes, or their shares in the training data."""


class LabelScores(NamedTuple):
    """Scores of some examples under every class, float64.

    Attributes:
        log_likelihood: log p(x|y) of each class, `[rows, num_classes]` in nats, by importance sampling.
        probability: p(y|x) of each class, `[rows, num_classes]`.
        evidence: log p(x) = log sum p(y) p(x|y), `[rows]` in nats.
    """

    log_likelihood: np.ndarray
    probability: np.ndarray
    evidence: np.ndarray


def score(
    model: Graphs,
    x: np.ndarray,
    class_prior: str = "uniform",
    *,
    num_samples: int = scoring.NUM_SAMPLES,
    seed: int = scoring.SEED,
    batch_size: int = BATCH_SIZE,
) -> LabelScores:
    """Compute the probability of each class given x. The time grows by the number of classes.

    Args:
        model: A model with encoder and likelihood, and one condition, a class.
        x: `[rows, *shape]` in data units.
        class_prior: Choice of p(y), one of `CLASS_PRIORS`.
        num_samples: Draws of z per example and class.
        seed: Seed of the draws, 0 to 2**64 - 1.
        batch_size: Rows per run of a graph.

    Raises:
        InputDataError: x has the wrong type, shape or range.
        RequestError: The model has other conditions, or an argument is out of range.
    """
    options: dict[str, Any] = {"num_samples": num_samples, "seed": seed, "batch_size": batch_size}
    parts = [scores for _, scores in stream(model, x, class_prior, **options)]
    return LabelScores(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def stream(
    model: Graphs, x: np.ndarray, class_prior: str = "uniform", **options: Any
) -> Iterator[tuple[scoring.Chunk, LabelScores]]:
    """Yield consecutive rows and their scores, in chunks. Other arguments as of `scoring.stream`."""
    condition = only_class(model.manifest)
    log_prior = _log_prior(condition, class_prior)
    num = len(condition.classes)
    for chunk in scoring.chunks(model, x, {condition.name: 0}, **options):
        log_likelihood = np.empty((len(chunk.x), num))
        for label in range(num):
            columns = {condition.name: np.full(len(chunk.x), label, np.int64)}
            log_likelihood[:, label] = _log_likelihood(model, chunk, columns)
        joint = log_prior + log_likelihood
        evidence = log_sum_exp(joint)
        yield chunk, LabelScores(log_likelihood, np.exp(joint - evidence[:, None]), evidence)


def only_class(manifest: Manifest) -> Condition:
    """Return the only condition of a model, or raise `RequestError` if that is not one class."""
    if len(manifest.conditions) != 1 or not manifest.conditions[0].categorical:
        raise RequestError(
            f"{printable(manifest.name, 60)} does not have exactly one condition, a class, to compare or "
            "to sum over. Leave out --over-labels."
        )
    return manifest.conditions[0]


def check_class_prior(class_prior: str) -> None:
    """Raise `RequestError` if a choice of p(y) does not exist."""
    if class_prior not in CLASS_PRIORS:
        raise RequestError(
            f"over_labels is {printable(repr(class_prior), 40)}; expected one of {', '.join(CLASS_PRIORS)}."
        )


def _log_prior(condition: Condition, class_prior: str) -> np.ndarray:
    num = len(condition.classes)
    check_class_prior(class_prior)
    if class_prior == "data" and not condition.shares:
        raise RequestError("The model does not store the shares of its classes. Use --over-labels uniform.")
    shares = np.array(condition.shares, np.float64) if class_prior == "data" else np.full(num, 1 / num)
    with np.errstate(divide="ignore"):
        return np.log(shares / shares.sum())


def _log_likelihood(model: Graphs, chunk: scoring.Chunk, columns: dict[str, np.ndarray]) -> np.ndarray:
    """Return log of the mean of p(x|z) p(z) / q(z|x) over the draws of z, `[rows]`."""
    q = scoring.posterior(model, chunk.x, columns, chunk.batch_size)
    z = q["z_mean"][:, None] + q["sigma"][:, None] * chunk.z_noise
    log_var = q["z_log_var"].astype(np.float64).sum(-1)
    log_q = -0.5 * (log_var[:, None] + (LOG_2_PI + np.square(chunk.z_noise.astype(np.float64))).sum(-1))
    log_p = scoring.log_likelihoods(model, chunk.x, z, columns, chunk.batch_size) + Prior(model, columns).log_prob(z)
    return log_sum_exp(log_p - log_q) - np.log(z.shape[1])
