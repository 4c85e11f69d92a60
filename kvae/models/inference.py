"""Inference methods of a Keras model: the same names, arguments, units and results as those of `kvae.load(...)`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kvae.backends.current import to_numpy
from kvae.exporting.keras_model import BATCH_SIZE, KerasModel
from kvae_serve.inference.sampling import Draws
from kvae_serve.inference.score_parts import ScoreParts
from kvae_serve.inference.scoring import Scores
from kvae_serve.latent.interpolation import Classes, Interpolation, Method
from kvae_serve.latent.traversal import Spacing, Traversal
from kvae_serve.readers import frames


class Inference:
    """Mixin for `VAE`: sampling, encoding and decoding with the present weights, under each backend.

    Data are in data units: pixels are 0 to 255, images `[height, width, channels]`. `conditions` are given by name, one
    value for all rows or one per row: class names or indices for a categorical condition, numbers for a continuous one.
    A model with one condition also accepts its values alone, such as `encode(x, labels)`. `label` is short for
    `conditions={"label": ...}`. A seed gives the images that the exported model gives, within 1e-5 of the data range.

    All methods raise `RequestError`, a `ValueError`, if a condition is missing or unknown or an argument is out of
    range, and `InputDataError`, also a `ValueError`, if x or z has the wrong type, shape or range.
    """

    def _repr_html_(self) -> str:
        return KerasModel(self)._repr_html_()

    def sample(
        self,
        num: int,
        conditions: Any = None,
        *,
        label: Any = None,
        seed: int | None = None,
        start: int = 0,
        temperature: float = 1.0,
        draw: bool | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> Draws:
        """Draw z from the prior and decode it.

        Row i of each label depends on (seed, start + i) only, and has the same noise as row i of the other labels.

        Args:
            num: Number of rows of each label (or each combination of conditions). Rows are ordered by label.
            conditions: One or several values per condition. "data" draws the value of each row as often as it occurs in
                the training data; it is the default for tables. A model of other data with one categorical condition
                uses all its classes by default.
            label: Class name, index, several of them, or "all".
            seed: Seed, 0 to 2**64 - 1; a random one if None. The result contains it.
            start: Index of the first row, for drawing a large set in parts.
            temperature: Factor of the prior's standard deviation. 1 is the prior itself, 0 its mean.
            draw: Whether to draw x from p(x|z) instead of its mean. By default all but pixels are drawn.
            batch_size: Rows decoded at a time.

        Returns:
            `Draws`, with x float32 `[rows, *shape]` in data units.

        Example:
            >>> model = kvae.ConditionalVAE.dense((8, 8, 1), latent_dim=2, conditions=kvae.Categorical("label", 3))
            >>> draws = model.sample(4, label=2, seed=0)
            >>> draws.x.shape
            (4, 8, 8, 1)
        """
        return KerasModel(self).sample(
            num,
            label=label,
            conditions=conditions,
            seed=seed,
            start=start,
            temperature=temperature,
            draw=draw,
            batch_size=batch_size,
        )

    def encode(
        self, x: Any, conditions: Any = None, *, label: Any = None, batch_size: int = BATCH_SIZE
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and log variance of q(z|x), each float32 `[rows, latent_dim]`.

        Args:
            x: `[rows, *shape]` in data units.
            conditions: One value, or one per row, for each condition.
            label: Short for `conditions={"label": ...}`.
            batch_size: Rows encoded at a time.

        Example:
            >>> model = kvae.ConditionalVAE.dense((8, 8, 1), latent_dim=2, conditions=kvae.Categorical("label", 3))
            >>> z_mean, z_log_var = model.encode(np.zeros((5, 8, 8, 1)), [0, 1, 2, 0, 1])
            >>> z_mean.shape
            (5, 2)
        """
        return KerasModel(self).encode(_rows(x), conditions, label=label, batch_size=batch_size)

    def decode(
        self,
        z: Any,
        conditions: Any = None,
        *,
        label: Any = None,
        draw: bool = False,
        seed: int | None = None,
        start: int = 0,
        batch_size: int = BATCH_SIZE,
    ) -> np.ndarray:
        """Return the mean of p(x|z) or, with `draw`, a draw from it.

        Args:
            z: float `[rows, latent_dim]`.
            conditions: One value, or one per row, for each condition.
            label: Short for `conditions={"label": ...}`.
            draw: Whether to draw x. By default x is its mean.
            seed: Seed of the draws, 0 to 2**64 - 1; a random one if None.
            start: Index of the first row. The draw of row i depends on (seed, start + i), z and the conditions only.
            batch_size: Rows decoded at a time.

        Returns:
            float32 `[rows, *shape]` in data units.

        Example:
            >>> model = kvae.ConditionalVAE.dense((8, 8, 1), latent_dim=2, conditions=kvae.Categorical("label", 3))
            >>> model.decode(np.zeros((1, 2)), 2).shape
            (1, 8, 8, 1)
        """
        return KerasModel(self).decode(
            to_numpy(z), conditions, label=label, draw=draw, seed=seed, start=start, batch_size=batch_size
        )

    def reconstruct(
        self, x: Any, conditions: Any = None, *, label: Any = None, batch_size: int = BATCH_SIZE
    ) -> np.ndarray:
        """Return the mean of p(x|z) at the mean of q(z|x), float32 `[rows, *shape]` in data units.

        Args:
            x: `[rows, *shape]` in data units.
            conditions: One value, or one per row, for each condition.
            label: Short for `conditions={"label": ...}`.
            batch_size: Rows per run.

        Example:
            >>> model = kvae.VAE.dense((8, 8, 1), latent_dim=2)
            >>> model.reconstruct(np.zeros((5, 8, 8, 1))).shape
            (5, 8, 8, 1)
        """
        return KerasModel(self).reconstruct(_rows(x), conditions, label=label, batch_size=batch_size)

    def impute(
        self,
        x: Any,
        conditions: Any = None,
        *,
        label: Any = None,
        observed: Any = None,
        num: int = 1,
        num_samples: int = 256,
        seed: int | None = None,
        start: int = 0,
        batch_size: int = BATCH_SIZE,
    ) -> Any:
        """Draw missing values from p(missing|observed), by importance resampling of z.

        It works for tables, and for vectors and sequences under a Gaussian.

        Args:
            x: `[rows, *shape]` in data units. By default NaN is a missing value. Of a table also a DataFrame, or a dict
                of columns by name.
            conditions: One value, or one per row, for each condition.
            label: Short for `conditions={"label": ...}`.
            observed: Mask of the observed values, bool, same shape. The others are ignored.
            num: Number of draws of each row (multiple imputations).
            num_samples: Draws of z per row. More are more exact.
            seed: Seed, 0 to 2**64 - 1; a random one if None.
            start: Index of the first row. Draws of row i depend on (seed, start + i) and the row only.
            batch_size: Rows per run.

        Returns:
            `Imputed`: x float32 `[num, rows, *shape]`, z, and the effective sample size of each row. Of a DataFrame or
            a dict the same kind, or a list of them if `num` is above 1.

        Example:
            >>> spec = kvae.DataSpec.learn_features(np.eye(4, dtype="float32"))
            >>> model = kvae.VAE.dense(data=spec, latent_dim=2, likelihood=kvae.likelihoods.Gaussian())
            >>> model.impute([[0.5, np.nan, -1.0, 0.0]], num=3).x.shape
            (3, 1, 4)
        """
        return KerasModel(self).impute(
            _rows(x),
            conditions,
            label=label,
            observed=observed,
            num=num,
            num_samples=num_samples,
            seed=seed,
            start=start,
            batch_size=batch_size,
        )

    def score(
        self,
        x: Any,
        conditions: Any = None,
        *,
        label: Any = None,
        num_samples: int = 16,
        seed: int = 0,
        batch_size: int = BATCH_SIZE,
        parts: bool = False,
    ) -> Scores | ScoreParts:
        """Compute reconstruction, kl and elbo of each example, float64 `[rows]` in nats. An anomaly has a low elbo.

        Args:
            x: `[rows, *shape]` in data units. Under a Bernoulli likelihood gray levels are drawn to black and white.
            conditions: One value, or one per row, for each condition.
            label: Short for `conditions={"label": ...}`.
            num_samples: Draws of z per example, the same noise for each example.
            seed: Seed of the draws, 0 to 2**64 - 1.
            batch_size: Rows per run.
            parts: Whether to add the reconstruction of each value and the kl of each dimension of z.

        Returns:
            `Scores`, or `ScoreParts` with `parts`.

        Example:
            >>> model = kvae.VAE.dense((8, 8, 1), latent_dim=2)
            >>> model.score(np.zeros((5, 8, 8, 1))).elbo.shape
            (5,)
        """
        return KerasModel(self).score(
            _rows(x),
            conditions,
            label=label,
            num_samples=num_samples,
            seed=seed,
            batch_size=batch_size,
            parts=parts,
        )

    def traverse(
        self,
        *,
        dims: Sequence[int] | None = None,
        num: int | None = None,
        steps: int = 11,
        span: tuple[float, float] = (-3.0, 3.0),
        spacing: Spacing = "even",
        label: Any = None,
        conditions: Any = None,
        base: np.ndarray | None = None,
        seed: int | None = None,
        start: int = 0,
        data: Mapping[str, Any] | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> Traversal:
        """Move one latent coordinate at a time and keep the others fixed.

        Args:
            dims: Dimensions to traverse; None for the `num` most active ones, the most active first.
            num: Number of dimensions, 10 by default.
            steps: Images per dimension.
            span: First and last position, in standard deviations of the prior from its mean.
            spacing: "even", or "quantile" for steps of equal probability.
            label: Short for `conditions={"label": ...}`.
            conditions: One or several values per condition. A single categorical condition uses its first class by
                default.
            base: Point that the paths pass, float `[latent_dim]` or `[combinations, latent_dim]`; by default the mean
                of the prior.
            seed: Seed of a draw from the prior to use as the base.
            start: Index of that draw.
            data: Examples for ranking dimensions by their kl: arrays by name, `x` `[rows, *shape]` in data units and
                each condition. The default is the change of x.
            batch_size: Rows decoded at a time.

        Returns:
            `Traversal`, with x float32 `[combinations, dims, steps, *shape]` in data units.

        Example:
            >>> model = kvae.VAE.dense((8, 8, 1), latent_dim=2)
            >>> model.traverse(steps=5).x.shape
            (1, 2, 5, 8, 8, 1)
        """
        return KerasModel(self).traverse(
            dims=dims,
            num=num,
            steps=steps,
            span=span,
            spacing=spacing,
            label=label,
            conditions=conditions,
            base=base,
            seed=seed,
            start=start,
            data=data,
            batch_size=batch_size,
        )

    def interpolate(
        self,
        z_from: np.ndarray,
        z_to: np.ndarray,
        conditions: Any = None,
        to_conditions: Any = None,
        *,
        label: Any = None,
        to_label: Any = None,
        steps: int = 9,
        method: Method = "slerp",
        classes: Classes = "blend",
        batch_size: int = BATCH_SIZE,
    ) -> Interpolation:
        """Decode the points of paths between pairs of latent vectors.

        Args:
            z_from: float `[latent_dim]`, or `[pairs, latent_dim]`.
            z_to: Same shape. A single point is the end of all pairs.
            conditions: Conditions at the beginning: one value, or one per pair, for each.
            to_conditions: Conditions at the end; by default the same. Numbers are interpolated linearly.
            label: Short for `conditions={"label": ...}`.
            to_label: Short for `to_conditions={"label": ...}`.
            steps: Images per pair, both ends included.
            method: "slerp" for the great circle in coordinates in which the prior is N(0, I), or "lerp" for a line.
            classes: "blend" for the mean of x if the class changes with the probability t, or "switch" for the class of
                the nearer end.
            batch_size: Rows decoded at a time.

        Returns:
            `Interpolation`, with x float32 `[pairs, steps, *shape]` in data units.

        Example:
            >>> model = kvae.VAE.dense((8, 8, 1), latent_dim=2)
            >>> model.interpolate([-1.0, 0.0], [1.0, 0.0], steps=5).x.shape
            (1, 5, 8, 8, 1)
        """
        return KerasModel(self).interpolate(
            z_from,
            z_to,
            conditions,
            to_conditions,
            label=label,
            to_label=to_label,
            steps=steps,
            method=method,
            classes=classes,
            batch_size=batch_size,
        )


def _rows(x: Any) -> Any:
    """Return x as a NumPy array, but a DataFrame or a dict of columns unchanged."""
    return x if frames.is_frame(x) else to_numpy(x)
