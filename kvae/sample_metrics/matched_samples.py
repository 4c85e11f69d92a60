"""Samples that match real examples: one for each, drawn with its conditions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def like(
    model: Any,
    conditions: Mapping[str, np.ndarray],
    num: int,
    seed: int = 0,
    *,
    temperature: float = 1.0,
    draw: bool = False,
) -> np.ndarray:
    """Draw one sample for each of `num` rows of conditions.

    Every row uses different noise: noise indices count through the rows class by class. (`Model.sample` with several
    labels uses the same noise for all of them, so the set would be less diverse than the model.)

    Args:
        model: A model from `kvae.load`.
        conditions: Values `[num]` by name; empty for an unconditional model.
        num: Number of samples.
        seed: Seed of the noise.
        temperature: Temperature of the prior.
        draw: Draw x from p(x given z) instead of its mean.

    Returns:
        float32 `[num, *shape]` in data units.
    """
    options = {"seed": seed, "temperature": temperature, "draw": draw}
    if not conditions:
        return model.sample(num, **options).x
    names = list(conditions)
    rows = np.stack([np.asarray(conditions[name], np.float64) for name in names], axis=1)
    combinations, group = np.unique(rows, axis=0, return_inverse=True)
    group = group.reshape(-1)
    classes = {each.name: each.classes for each in model.manifest.conditions if each.categorical}
    x = np.empty((num, *model.manifest.data.shape), np.float32)
    start = 0
    for index, combination in enumerate(combinations):
        places = np.flatnonzero(group == index)
        requested = {
            name: classes[name][int(value)] if name in classes else float(value)
            for name, value in zip(names, combination, strict=True)
        }
        x[places] = model.sample(len(places), conditions=requested, start=start, **options).x
        start += len(places)
    return x
