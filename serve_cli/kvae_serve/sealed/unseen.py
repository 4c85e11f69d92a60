"""Probability of integers that the training data lack, between and beyond the atoms of a column.

Each atom k keeps the part 1 - share_k of its probability and lends the rest to the integers around it that did not
occur. The share is the discount of absolute discounting (Ney, Essen and Kneser, 1994, "On structuring probabilistic
dependences in stochastic language modelling", Computer Speech and Language 8): d / count_k with d = n1 / (n1 + 2 n2),
where n1 and n2 are the numbers of atoms that occurred once and twice. An unseen integer v has the probability

    sum over k of weight_k * closeness_k(v) * probability_k.

Between two atoms the closeness falls linearly from 1 at the atom to 0 at its neighbour. Beyond the outermost atoms it
is 1 / (1 + (d / tail)^2) for the distance d. weight_k is share_k over the sum of closeness_k over all unseen integers,
so the probabilities of all integers sum to 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from kvae_serve.numbers import rounded

#: Largest share of its probability that an atom lends.
_MAX_SHARE = 0.5
#: Closeness of an unseen integer is below that of an atom, 1, also after rounding to float32.
CAP = 1.0 - 2.0**-20
#: Largest distance beyond the atoms, in tails, so that its square is finite in float32.
MAX_TAILS = 1e15


class Slopes(NamedTuple):
    """Constants of the closeness of each atom, float64 `[num_atoms]`.

    `left` and `right` are one over the distance to the neighbour, or 0 at the ends. `below` and `above` are one over
    the tail at the ends, and 0 elsewhere.
    """

    left: np.ndarray
    right: np.ndarray
    below: np.ndarray
    above: np.ndarray


def learn(atoms: np.ndarray, counts: np.ndarray, step: float = 1.0) -> dict[str, Any]:
    """Estimate the shares of a column from the number of rows of each atom.

    Args:
        atoms: Increasing numbers, float64 `[num_atoms]`, at least two.
        counts: Rows of each atom, `[num_atoms]`.
        step: Distance between neighbouring values that are possible, such as 86400 for dates in seconds.

    Returns:
        The entry `unseen` of the column: `step`, `tail`, `share` and `weight`.

    Example:
        >>> learned = learn(np.array([1.0, 2.0, 4.0]), np.array([50, 9, 1]))
        >>> learned["share"]
        [0.015, 0.0833333, 0.5]
    """
    gaps = np.diff(atoms) / step
    tail = float(np.median(gaps))
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    discount = (once + 0.5) / (once + 2 * twice + 1)
    # Closeness summed over the unseen integers of each gap, and of a tail (the sum of a Cauchy kernel).
    inside = (gaps - 1) / 2
    beyond = (math.pi * tail / math.tanh(math.pi * tail) - 1) / 2
    total = np.concatenate([[beyond], inside]) + np.concatenate([inside, [beyond]])
    share = np.where(total > 0, np.minimum(discount / counts, _MAX_SHARE), 0.0)
    weight = share / np.where(total > 0, total, 1.0)
    return {"step": step, "tail": tail * step, "share": rounded(share), "weight": rounded(weight)}


def slopes(atoms: np.ndarray, tail: float) -> Slopes:
    """Return the constants of the closeness to each atom."""
    inverse = 1.0 / np.diff(atoms)
    ends = np.zeros((2, len(atoms)))
    ends[0, 0] = ends[1, -1] = 1.0 / tail
    return Slopes(np.concatenate([[0.0], inverse]), np.concatenate([inverse, [0.0]]), *ends)


def closeness(values: np.ndarray, column: Mapping[str, Any]) -> np.ndarray:
    """Return the closeness of numbers to each atom, float64 `[rows, num_atoms]`: 1 at the atom itself.

    It is 0 for a number that is not a step away from an atom, such as 2.5 among integers, and for NaN.
    """
    atoms = np.array(column["atoms"], np.float32).astype(np.float64)
    away = values.astype(np.float64)[:, None] - atoms
    if "unseen" not in column:
        return (away == 0).astype(np.float64)
    step, tail = column["unseen"]["step"], column["unseen"]["tail"]
    side = slopes(atoms, tail)
    down, up = np.maximum(-away, 0.0), np.maximum(away, 0.0)
    close = np.maximum(0.0, 1.0 - down * side.left - up * side.right)
    close /= 1.0 + np.square(np.minimum(down * side.below + up * side.above, MAX_TAILS))
    close = np.where(np.round(away / step) * step == away, np.minimum(close, CAP), 0.0)
    return np.where(away == 0, 1.0, close)


def log_probs(probability: np.ndarray, values: np.ndarray, column: Mapping[str, Any]) -> np.ndarray:
    """Return the log probabilities of numbers, float64 `[rows]`; NaN for a missing or impossible number.

    Args:
        probability: Probabilities of the atoms, `[rows, num_atoms]`.
        values: The numbers, `[rows]`.
        column: Entry of the column in the manifest.
    """
    close = closeness(values, column)
    seen = close.max(axis=1) == 1.0
    if "unseen" in column:
        share, weight = (np.array(column["unseen"][name], np.float64) for name in ("share", "weight"))
        close *= np.where(seen[:, None], 1.0 - share, weight)
    picked = (close * probability).sum(axis=1)
    possible = close.max(axis=1) > 0
    return np.where(possible, np.log(np.maximum(picked, 1e-300)), np.nan)
