"""Samples to set beside real images: one for each of them, drawn under its conditions."""

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
    """Draw a sample for each of `num` rows of conditions.

    Every row has noise of its own: rows of one class follow each other in the order of the noise, class after class.
    (`Model.sample` asked for several labels at once gives all of them the same noise, which would make the set less
    varied than the model.)

    Args:
        model: a loaded model, see `kvae.load`.
        conditions: name to values `[num]`; nothing for an unconditional model.
        num: how many.
        seed: of the noise.
        temperature: of the prior.
        draw: draw x from p(x given z) rather than take its mean.

    Returns:
        float32 `[num, *shape]` in data units.
    """
    options = {"seed": seed, "temperature": temperature, "draw": draw}
    if not conditions:
        return model.sample(num, **options).x
    names = list(conditions)
    rows = np.stack([np.asarray(conditions[name], np.float64) for name in names], axis=1)
    wanted, group = np.unique(rows, axis=0, return_inverse=True)
    group = group.reshape(-1)
    categorical = {name: np.asarray(conditions[name]).dtype.kind in "iu" for name in names}
    x = np.empty((num, *model.manifest.data.shape), np.float32)
    start = 0
    for index, values in enumerate(wanted):
        places = np.flatnonzero(group == index)
        given = {
            name: int(value) if categorical[name] else float(value) for name, value in zip(names, values, strict=True)
        }
        x[places] = model.sample(len(places), conditions=given, start=start, **options).x
        start += len(places)
    return x
