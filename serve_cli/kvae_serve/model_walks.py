"""Walks of a model through its latent space: the part of `Model` that goes from place to place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from kvae_serve.errors import RequestError
from kvae_serve.runtime.session import BATCH_SIZE

if TYPE_CHECKING:
    from kvae_serve.latent.interpolation import Classes, Interpolation, Method
    from kvae_serve.latent.traversal import Spacing, Traversal
    from kvae_serve.model import Model
    from kvae_serve.readers import Dataset


class Walks:
    """What `Model` inherits: `traverse` and `interpolate`."""

    def traverse(
        self,
        *,
        dims: Sequence[int] | None = None,
        num: int | None = None,
        steps: int = 11,
        span: tuple[float, float] = (-3.0, 3.0),
        spacing: Spacing = "even",
        label: Any = None,
        conditions: Mapping[str, Any] | None = None,
        base: np.ndarray | None = None,
        seed: int | None = None,
        start: int = 0,
        example: str | None = None,
        data: Dataset | Mapping[str, Any] | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> Traversal:
        """Walk along one latent axis after another, the other coordinates held still.

        Args:
            dims: the dimensions; where None the `num` most active ones, the most active first.
            num: how many; 10 where None.
            steps: images along each axis.
            span: where the walks begin and end, in standard deviations of the prior from its mean.
            spacing: "even", or "quantile" for steps of equal probability.
            label: short for `conditions={"label": ...}`.
            conditions: a value, or several, for each condition; where nothing is said the first class of a lone one.
            base: the point to start from, float `[latent_dim]`, or `[combinations, latent_dim]`.
            seed: start from a draw of this seed instead.
            start: which draw of the seed.
            example: start from the posterior mean of an example instead, as `FILE` or `FILE:ROW`. Its own conditions
                are what it is encoded under, and decoded under where nothing else is asked.
            data: rank dimensions by their kl on these examples: arrays by name, `x` `[rows, *shape]` in data units and
                each condition, or what `kvae_serve.readers.read_for` read. Without them the kl in the model file
                serves, else how far the decoder moves x.
            batch_size: rows decoded at a time; the result does not depend on it.

        Returns:
            `Traversal`: x float32 `[combinations, dims, steps, *shape]` in data units, z, dims, values, activity. With
            no base, the walks pass the prior's mean.

        Raises:
            RequestError: a dimension, range, label or condition makes no sense, or there are two bases.
            ModelFileError: a file is bad, or the encoder or a learned prior's prior.onnx is missing.
        """
        from kvae_serve.latent import traversal

        model = cast("Model", self)
        if sum(each is not None for each in (base, seed, example)) > 1:
            raise RequestError("A traversal starts from a base, a seed's draw or an example. Give one of them.")
        asked: Mapping[str, Any] = model.with_label(label, conditions)
        if example is not None:
            base, asked = traversal.from_example(model, example, asked)
        elif seed is not None:
            base = traversal.from_draw(model, asked, seed, start)
        return traversal.traverse(
            model,
            conditions=asked,
            dims=dims,
            num=num,
            steps=steps,
            span=span,
            spacing=spacing,
            base=base,
            data=traversal.examples(data),
            batch_size=batch_size,
        )

    def interpolate(
        self,
        z_from: np.ndarray,
        z_to: np.ndarray,
        conditions: Mapping[str, Any] | None = None,
        to_conditions: Mapping[str, Any] | None = None,
        *,
        label: Any = None,
        to_label: Any = None,
        steps: int = 9,
        method: Method = "slerp",
        classes: Classes = "blend",
        batch_size: int = BATCH_SIZE,
    ) -> Interpolation:
        """Walk from points of the latent space to others.

        Args:
            z_from: float `[latent_dim]`, or `[pairs, latent_dim]`.
            z_to: the same; one point is the end of all pairs.
            conditions: of the beginning: a value, or one for each pair, for each condition.
            to_conditions: of the end; those of the beginning where None. Numbers go in a straight line.
            label: short for `conditions={"label": ...}`.
            to_label: short for `to_conditions={"label": ...}`.
            steps: images, the ends included.
            method: "slerp" along the great circle in coordinates in which the prior is N(0, I), or "lerp".
            classes: between two classes, "blend": the mean of x where the class is the last one with the probability
                of the way gone; or "switch": the class of the nearer end.
            batch_size: rows decoded at a time.

        Returns:
            `Interpolation`: x float32 `[pairs, steps, *shape]` in data units, z, t and conditions; both ends of z are
            the given points, bit for bit.
        """
        from kvae_serve.latent import interpolation

        model = cast("Model", self)
        to = None if to_label is None and to_conditions is None else model.with_label(to_label, to_conditions)
        return interpolation.interpolate(
            model,
            z_from,
            z_to,
            conditions=model.with_label(label, conditions),
            to_conditions=to,
            steps=steps,
            method=method,
            classes=classes,
            batch_size=batch_size,
        )
