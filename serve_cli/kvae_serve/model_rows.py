"""What a model does row by row: sample, encode, decode, reconstruct. Methods of `Model`, apart for its length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from kvae_serve.inference import likelihoods, sampling
from kvae_serve.inference.sampling import Draws, Plan
from kvae_serve.runtime.session import BATCH_SIZE
from kvae_serve.sealed import noise

if TYPE_CHECKING:
    from kvae_serve.model import Model


class Rows:
    """The verbs `sample`, `encode`, `decode` and `reconstruct` on arrays; each is safe to call from several threads."""

    def sample(
        self,
        num: int,
        *,
        label: Any = None,
        conditions: Mapping[str, Any] | None = None,
        seed: int | None = None,
        start: int = 0,
        temperature: float = 1.0,
        draw: bool = False,
        batch_size: int = BATCH_SIZE,
    ) -> Draws:
        """Draw from the prior, and decode.

        Row i of each label depends on (seed, start + i) alone: it is the same in any batch, with any other labels, and
        shares its noise with row i of the others.

        Args:
            num: how many for each label (or each combination of conditions); rows come label by label.
            label: class name, index, several of them, or "all"; short for `conditions={"label": ...}`.
            conditions: a value, or several, for each condition. A class name wins over an index. A model with one
                categorical condition gives one of each class where nothing is asked.
            seed: 0 to 2**64 - 1; one is drawn where None, and kept in the result.
            start: index of the first row, so that parts of a job equal the whole.
            temperature: factor of the prior's standard deviation; 1 is the model itself, 0 its most typical image.
            draw: draw x from p(x given z) rather than take its mean.
            batch_size: rows decoded at a time; the result does not depend on it.

        Returns:
            `Draws`, with x float32 `[rows, *shape]` in data units.

        Raises:
            RequestError: a label or condition does not exist, or a number is out of range.
            ModelFileError: a file is bad, or a learned prior's prior.onnx is missing.
        """
        options = {"seed": seed, "start": start, "temperature": temperature, "draw": draw, "batch_size": batch_size}
        return self._plan(num, label, conditions, options).whole()

    def sample_batches(
        self,
        num: int,
        *,
        label: Any = None,
        conditions: Mapping[str, Any] | None = None,
        seed: int | None = None,
        start: int = 0,
        temperature: float = 1.0,
        draw: bool = False,
        batch_size: int = BATCH_SIZE,
    ) -> Iterator[Draws]:
        """Draw as `sample` does, and give the rows a chunk at a time: any number of them in the memory of a few.

        Each chunk is a `Draws` of its own: what `sample` would give for its labels, `start`, `num` and `seed`. One
        after another they are the rows of `sample`, bit for bit. A request that makes no sense is refused at once, not
        at the first chunk.

        Args:
            num: how many for each label (or each combination of conditions).
            label: as for `sample`.
            conditions: as for `sample`.
            seed: as for `sample`; one drawn is the same for all chunks.
            start: as for `sample`.
            temperature: as for `sample`.
            draw: as for `sample`.
            batch_size: rows decoded at a time. A chunk has a multiple of it, and takes about 4 MiB.

        Raises:
            RequestError: as `sample`.
            ModelFileError: as `sample`.
        """
        options = {"seed": seed, "start": start, "temperature": temperature, "draw": draw, "batch_size": batch_size}
        return self._plan(num, label, conditions, options).chunks()

    def plan(self, num: int, *, label: Any = None, conditions: Mapping[str, Any] | None = None, **options: Any) -> Plan:
        """Check a request to `sample`, which takes the same, without drawing; its `rows` is what outputs write."""
        defaults = {"seed": None, "start": 0, "temperature": 1.0, "draw": False, "batch_size": BATCH_SIZE}
        return self._plan(num, label, conditions, defaults | options)

    def _plan(self, num: int, label: Any, conditions: Mapping[str, Any] | None, options: dict[str, Any]) -> Plan:
        model = cast("Model", self)
        return sampling.plan(model, num, conditions=model.with_label(label, conditions), **options)

    def decode(
        self,
        z: np.ndarray,
        conditions: Mapping[str, Any] | None = None,
        *,
        label: Any = None,
        draw: bool = False,
        seed: int | None = None,
        start: int = 0,
        batch_size: int = BATCH_SIZE,
    ) -> np.ndarray:
        """Return the mean of p(x given z) or, with `draw`, a draw from it.

        Args:
            z: float `[rows, latent_dim]`.
            conditions: a value, or one for each row, for each condition.
            label: short for `conditions={"label": ...}`.
            draw: draw x rather than take its mean.
            seed: 0 to 2**64 - 1, keys the draws; a new one where None.
            start: index of the first row: the draw of row i depends on (seed, start + i), z and the conditions alone.
            batch_size: rows decoded at a time.

        Returns:
            float32 `[rows, *shape]` in data units.

        Raises:
            InputDataError: z has another shape, or is not finite.
            RequestError: a condition is missing or unknown, or a number is out of range.
        """
        model = cast("Model", self)
        feeds = model.feeds(conditions, label, z=z)
        if not draw:
            return sampling.decode(model, feeds, batch_size)
        likelihood = likelihoods.of(model.manifest)
        index = np.arange(len(feeds["z"])) + _index(start, len(feeds["z"]))
        return sampling.decode(model, feeds, batch_size, likelihood, sampling.checked_seed(seed), index)

    def encode(
        self,
        x: np.ndarray,
        conditions: Mapping[str, Any] | None = None,
        *,
        label: Any = None,
        batch_size: int = BATCH_SIZE,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and log variance of q(z given x), each float32 `[rows, latent_dim]`.

        Args:
            x: `[rows, *shape]` in data units.
            conditions: a value, or one for each row, for each condition.
            label: short for `conditions={"label": ...}`.
            batch_size: rows encoded at a time.

        Raises:
            InputDataError: x is not what the model takes.
            RequestError: a condition is missing or unknown.
            ModelFileError: there is no encoder.onnx, or it is bad.
        """
        model = cast("Model", self)
        outputs = model.run("encoder", model.feeds(conditions, label, x=x), batch_size, ["z_mean", "z_log_var"])
        return outputs["z_mean"], outputs["z_log_var"]

    def draw_codes(
        self,
        x: np.ndarray,
        conditions: Mapping[str, Any] | None = None,
        *,
        label: Any = None,
        seed: int | None = None,
        start: int = 0,
        batch_size: int = BATCH_SIZE,
    ) -> np.ndarray:
        """Return a draw of z from q(z given x) for each example, float32 `[rows, latent_dim]`: `kvae encode --draw`.

        Args:
            x: `[rows, *shape]` in data units.
            conditions: a value, or one for each row, for each condition.
            label: short for `conditions={"label": ...}`.
            seed: 0 to 2**64 - 1, keys the draws; a new one where None.
            start: index of the first row: z of row i depends on (seed, start + i) and the example alone.
            batch_size: rows encoded at a time.

        Raises:
            InputDataError: x is not what the model takes.
            RequestError: a condition is missing or unknown, or a number is out of range.
            ModelFileError: there is no encoder.onnx, or it is bad.
        """
        start, seed = _index(start, len(x)), sampling.checked_seed(seed)
        z_mean, z_log_var = self.encode(x, conditions, label=label, batch_size=batch_size)
        normals, _ = noise.latent_noise(seed, start, len(z_mean), z_mean.shape[1])
        return z_mean + np.exp(z_log_var / 2) * normals

    def reconstruct(
        self,
        x: np.ndarray,
        conditions: Mapping[str, Any] | None = None,
        *,
        label: Any = None,
        batch_size: int = BATCH_SIZE,
    ) -> np.ndarray:
        """Return the mean of p(x given z) at the mean of q(z given x): what the model keeps of each example.

        Args:
            x: `[rows, *shape]` in data units.
            conditions: a value, or one for each row, for each condition.
            label: short for `conditions={"label": ...}`.
            batch_size: rows at a time.

        Returns:
            float32 `[rows, *shape]` in data units.

        Raises:
            InputDataError: x is not what the model takes.
            RequestError: a condition is missing or unknown.
            ModelFileError: a graph is missing or bad.
        """
        model = cast("Model", self)
        feeds = model.feeds(conditions, label, x=x)
        z = model.run("encoder", feeds, batch_size, ["z_mean"])["z_mean"]
        del feeds["x"]
        return model.run("decoder", feeds | {"z": z}, batch_size, ["x_mean"])["x_mean"]


def _index(start: Any, num: int) -> int:
    """Return the index of the first row as a number, checked with that of the last."""
    expected = f"The start is a whole number from 0, and with {num} rows below 2**63"
    return sampling.whole_number(start, expected, 0, noise.MAX_INDEX - num)
