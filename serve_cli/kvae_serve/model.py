"""Exported model: load it, then sample, decode, encode, reconstruct, score, traverse, interpolate, evaluate or verify.

```python
model = load("mnist")
draws = model.sample(16, label=3, seed=0)
draws.x  # float32 [16, 28, 28, 1], pixels 0 to 255
```

NumPy and ONNX Runtime are the only packages that are needed.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kvae_serve.errors import RequestError, VerificationError, printable
from kvae_serve.inference import sampling
from kvae_serve.inference.likelihoods import get_likelihood
from kvae_serve.inference.sampling import Draws, Plan
from kvae_serve.numbers import integer
from kvae_serve.runtime import conditions as conditions_of
from kvae_serve.runtime import locate, providers
from kvae_serve.runtime.graphs import Graphs
from kvae_serve.runtime.providers import CPU
from kvae_serve.runtime.session import BATCH_SIZE, mebibytes
from kvae_serve.sealed import file as sealed_file
from kvae_serve.sealed import golden

# The other modules are imported when they are used, because `kvae sample` shall start quickly.
if TYPE_CHECKING:
    from kvae_serve.inference.label_scores import LabelScores
    from kvae_serve.inference.score_parts import ScoreParts
    from kvae_serve.inference.scoring import Scores
    from kvae_serve.latent.interpolation import Classes, Interpolation, Method
    from kvae_serve.latent.traversal import Spacing, Traversal
    from kvae_serve.readers import Dataset


class Check(NamedTuple):
    """Result of `Model.verify` for one output: its largest difference from the golden values, and the tolerance."""

    graph: str
    output: str
    difference: float
    allowed: float
    ok: bool


def load(
    path_or_name: str | os.PathLike[str],
    *,
    threads: int = 1,
    provider: str = CPU,
    max_bytes: int | None = None,
    max_memory: int | None = None,
) -> Model:
    """Load a model. Each of its files is read and opened on first use.

    Args:
        path_or_name: Name of a shipped model, folder of .onnx files, or .onnx file. A path with a separator, such as
            `./mnist`, is never a name. `hf://owner/repo[@revision][/folder]` is a model on the Hugging Face Hub
            (extra `hub`), which is downloaded once.
        threads: Threads per run. They do not change the results.
        provider: Execution provider of ONNX Runtime, such as "cpu" or "cuda"; see `kvae_serve.runtime.providers`. Equal
            bits and the memory limit are guaranteed for "cpu" only.
        max_bytes: Size limit of a file; by default 128 MiB, or `$KVAE_MAX_FILE` in MiB.
        max_memory: Memory limit of a graph in bytes; by default chosen by the model's size, or `$KVAE_MAX_MEMORY` in
            MiB.

    Raises:
        RequestError: The argument is not a path, or this onnxruntime does not have the provider.
        ModelFileError: The model does not exist.

    Example:
        >>> model = kvae.load("mnist")
        >>> model.sample(2, label=3, seed=0).x.shape
        (2, 28, 28, 1)
    """
    if provider != CPU:
        provider = providers.check(provider)
    max_bytes = max_bytes or mebibytes("KVAE_MAX_FILE") or sealed_file.MAX_BYTES
    if isinstance(path_or_name, str) and path_or_name.startswith("hf://"):
        from kvae_serve.hub.download import fetch

        path_or_name, _ = fetch(path_or_name, max_bytes)
    path, paths = locate.find(path_or_name)
    return Model(
        path,
        paths,
        threads=threads,
        provider=provider,
        max_bytes=max_bytes,
        max_memory=max_memory or mebibytes("KVAE_MAX_MEMORY"),
    )


class Model(Graphs):
    """Exported model; use `load` to create it. Several threads may share an instance.

    Data are in data units, as in the user's files: pixels are 0 to 255, images `[height, width, channels]`. Conditions
    are given by name, one value for all rows or one per row: class names or indices for a categorical condition,
    numbers for a continuous one. If the classes are numbers such as 1 to 26, integers that name one class and are the
    index of another are refused; texts are class names, and the conditions of a `Dataset` or of `Draws` are indices. A
    model with one condition also accepts its values alone, such as `encode(x, labels)` or `sample(16, 3)`. `label` is
    short for `conditions={"label": ...}`.

    All methods raise `RequestError` if a condition is missing or unknown or an argument is out of range, and
    `ModelFileError` if a graph is missing or invalid.
    """

    def __repr__(self) -> str:
        return f"<kvae model {printable(self.path)!r}: {', '.join(self.graphs)}>"

    def _repr_html_(self) -> str:
        from kvae_serve.writers import notebook

        return notebook.table(repr(self).strip("<>"), self.summary())

    def summary(self) -> dict[str, list[str]]:
        """Return the main properties of the model as a table: `property` and `value`."""
        manifest = self.manifest
        data = manifest.data
        low_high = "" if data.range is None else f", {data.range[0]:g} to {data.range[1]:g}"
        properties = {
            "kind": manifest.kind,
            "data": f"{data.kind} {list(data.shape)}{low_high}",
            "latent_dim": str(manifest.latent_dim),
            "conditions": "; ".join(
                f"{each.name}: {', '.join(each.classes) if each.categorical else each.range}"
                for each in manifest.conditions
            ),
            "likelihood": str(manifest.likelihood["name"]),
            "prior": str(manifest.prior["name"]),
            "graphs": ", ".join(self.graphs),
            "model_id": manifest.model_id[:12],
        }
        shown = {name: printable(value, 200) for name, value in properties.items() if value}
        return {"property": list(shown), "value": list(shown.values())}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy the path and the options. The copy opens its own sessions on first use."""
        reopen = functools.partial(
            load,
            threads=self._threads,
            provider=self.provider,
            max_bytes=self._max_bytes,
            max_memory=self._max_memory,
        )
        return reopen, (os.path.abspath(self.path),)  # noqa: PTH100

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

        Row i of each label depends on (seed, start + i) only. It is the same in any batch and with any other labels,
        and has the same noise as row i of the other labels.

        Args:
            num: Number of rows of each label (or each combination of conditions). Rows are ordered by label.
            conditions: One or several values per condition. A class name has precedence over an index. "data" draws the
                value of each row as often as it occurs in the training data; it is the default for tables. A model of
                other data with one categorical condition uses all its classes by default.
            label: Class name, index, several of them, or "all".
            seed: Seed, 0 to 2**64 - 1; a random one if None. The result contains it.
            start: Index of the first row, for drawing a large set in parts.
            temperature: Factor of the prior's standard deviation. 1 is the prior itself, 0 its mean.
            draw: Whether to draw x from p(x|z) instead of its mean. By default all but pixels are drawn.
            batch_size: Rows decoded at a time. It does not change the result.

        Returns:
            `Draws`, with x float32 `[rows, *shape]` in data units.
        """
        options = {"seed": seed, "start": start, "temperature": temperature, "draw": draw, "batch_size": batch_size}
        return self.plan(num, label=label, conditions=conditions, **options).draw_all()

    def sample_batches(
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
    ) -> Iterator[Draws]:
        """Draw like `sample`, in chunks of about 4 MiB, so that memory does not grow with the number of rows.

        Each chunk is a `Draws`, equal to what `sample` returns for its labels, `start`, `num` and `seed`. Joined
        together the chunks equal the rows of `sample`, bit for bit. Arguments are checked by this call, not by the
        first chunk.

        Args:
            num: As of `sample`.
            conditions: As of `sample`.
            label: As of `sample`.
            seed: As of `sample`. A random seed is the same for all chunks.
            start: As of `sample`.
            temperature: As of `sample`.
            draw: As of `sample`.
            batch_size: Rows decoded at a time. A chunk has a multiple of it.
        """
        options = {"seed": seed, "start": start, "temperature": temperature, "draw": draw, "batch_size": batch_size}
        return self.plan(num, label=label, conditions=conditions, **options).chunks()

    def plan(self, num: int, conditions: Any = None, *, label: Any = None, **options: Any) -> Plan:
        """Check a request to `sample` without drawing.

        Args:
            num: As of `sample`.
            conditions: As of `sample`.
            label: As of `sample`.
            **options: `seed`, `start`, `temperature`, `draw` and `batch_size`, as of `sample`.

        Returns:
            `Plan`, which draws all rows (`draw_all`), chunks (`chunks`), some rows (`at`) or a stream for a writer.
        """
        return sampling.plan(self, num, conditions=self.with_label(label, conditions), **options)

    def decode(
        self,
        z: np.ndarray,
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
            conditions: Value of each condition, or one value per row.
            label: Short for `conditions={"label": ...}`.
            draw: Whether to draw x. By default x is its mean.
            seed: Seed of the draws, 0 to 2**64 - 1; a random one if None.
            start: Index of the first row. The draw of row i depends on (seed, start + i), z and the conditions only.
            batch_size: Rows decoded at a time.

        Returns:
            float32 `[rows, *shape]` in data units.

        Raises:
            InputDataError: z has the wrong type or shape, or is not finite.
        """
        feeds = self.feeds(conditions, label, z=z)
        if not draw:
            return sampling.decode(self, feeds, batch_size)
        num = len(feeds["z"])
        index = np.arange(num) + sampling.first_index(start, num)
        likelihood = get_likelihood(self)
        return sampling.decode(self, feeds, batch_size, likelihood, sampling.checked_seed(seed), index)

    def encode(
        self,
        x: np.ndarray,
        conditions: Any = None,
        *,
        label: Any = None,
        batch_size: int = BATCH_SIZE,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and log variance of q(z|x), each float32 `[rows, latent_dim]`.

        Args:
            x: `[rows, *shape]` in data units. Of a table also a DataFrame, or a dict of columns by name.
            conditions: Value of each condition, or one value per row.
            label: Short for `conditions={"label": ...}`.
            batch_size: Rows encoded at a time.

        Raises:
            InputDataError: x has the wrong type, shape or range.
        """
        x, requested = self._from_frame(x, self.with_label(label, conditions))
        outputs = sampling.encode(self, self.feeds(requested, None, x=x), batch_size)
        return outputs["z_mean"], outputs["z_log_var"]

    def draw_codes(
        self,
        x: np.ndarray,
        conditions: Any = None,
        *,
        label: Any = None,
        seed: int | None = None,
        start: int = 0,
        batch_size: int = BATCH_SIZE,
    ) -> np.ndarray:
        """Return a draw of z from q(z|x) for each example, float32 `[rows, latent_dim]`, like `kvae encode --draw`.

        Args:
            x: `[rows, *shape]` in data units.
            conditions: Value of each condition, or one value per row.
            label: Short for `conditions={"label": ...}`.
            seed: Seed of the draws, 0 to 2**64 - 1; a random one if None.
            start: Index of the first row. z of row i depends on (seed, start + i) and the example only.
            batch_size: Rows encoded at a time.

        Raises:
            InputDataError: x has the wrong type, shape or range.
        """
        start, seed = sampling.first_index(start, len(x)), sampling.checked_seed(seed)
        return sampling.draw_posterior(*self.encode(x, conditions, label=label, batch_size=batch_size), seed, start)

    def reconstruct(
        self,
        x: np.ndarray,
        conditions: Any = None,
        *,
        label: Any = None,
        batch_size: int = BATCH_SIZE,
    ) -> np.ndarray:
        """Return the mean of p(x|z) at the mean of q(z|x), float32 `[rows, *shape]` in data units.

        Args:
            x: `[rows, *shape]` in data units. Of a table also a DataFrame, or a dict of columns by name; then the
                result is a DataFrame with the same index, or a dict of arrays if pandas is not installed.
            conditions: Value of each condition, or one value per row.
            label: Short for `conditions={"label": ...}`.
            batch_size: Rows per run.

        Raises:
            InputDataError: x has the wrong type, shape or range.
        """
        rows, requested = self._from_frame(x, self.with_label(label, conditions))
        feeds = self.feeds(requested, None, x=rows)
        reconstructed = sampling.reconstruct(self, feeds, batch_size)
        if rows is x:
            return reconstructed
        from kvae_serve.inference import inputs
        from kvae_serve.writers import frames

        ids = inputs.identifiers(self.manifest, x)
        return frames.to_frame(frames.to_arrays(self.manifest, reconstructed, feeds, ids=ids), x)

    def impute(
        self,
        x: Any,
        conditions: Any = None,
        *,
        label: Any = None,
        observed: np.ndarray | None = None,
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
                of columns by name, which may lack some of the columns.
            conditions: Value of each condition, or one value per row.
            label: Short for `conditions={"label": ...}`.
            observed: Mask of the observed values, bool, same shape. The others are ignored.
            num: Number of draws of each row (multiple imputations).
            num_samples: Draws of z per row. More are more exact; the result has the number that is effective.
            seed: Seed, 0 to 2**64 - 1; a random one if None.
            start: Index of the first row. Draws of row i depend on (seed, start + i) and the row only.
            batch_size: Rows per run of a graph.

        Returns:
            `Imputed`: x float32 `[num, rows, *shape]`, z, and the effective sample size of each row. Of a DataFrame or
            a dict a DataFrame with the same index, or a dict of arrays if pandas is not installed, in which no value of
            the model's columns is missing; a list of them if `num` is above 1.

        Raises:
            InputDataError: x has the wrong shape, or an observed value is not finite or out of range.

        Reference: Rezende et al. (2014), https://arxiv.org/abs/1401.4082, appendix F, with importance weights.
        """
        from kvae_serve.inference import imputation, inputs

        options = {"observed": observed, "num": num, "num_samples": num_samples, "seed": seed, "start": start}
        if self.manifest.data.kind == "table" and not isinstance(x, np.ndarray):
            from kvae_serve.readers import frames

            if frames.is_frame(x):
                requested = self.with_label(label, conditions)
                return imputation.impute_frame(self, x, requested, batch_size=batch_size, **options)
        x = np.asarray(x)
        observed = inputs.observed_values(x, observed, self.manifest.data)
        filled = inputs.with_placeholders(x, observed, self.manifest.data)
        feeds = self.feeds(conditions, label, x=filled)
        num, num_samples = integer(num, "num", 1), integer(num_samples, "num_samples", 16)
        return imputation.impute(
            self,
            feeds.pop("x"),
            observed.reshape(filled.shape),
            feeds,
            np.arange(len(x)) + sampling.first_index(start, len(x)),
            num=num,
            num_samples=num_samples,
            seed=sampling.checked_seed(seed),
            batch_size=batch_size,
        )

    def log_likelihood(
        self,
        x: np.ndarray,
        z: np.ndarray,
        conditions: Any = None,
        *,
        label: Any = None,
        batch_size: int = BATCH_SIZE,
    ) -> np.ndarray:
        """Return log p(x|z) of each example with all constants, float32 `[rows]` in nats.

        Args:
            x: `[rows, *shape]` in data units. Under a Bernoulli likelihood every value must be an end of the range.
            z: float `[rows, latent_dim]`.
            conditions: Value of each condition, or one value per row.
            label: Short for `conditions={"label": ...}`.
            batch_size: Rows per run.

        Raises:
            InputDataError: x has the wrong type, shape or range, or has gray levels under a Bernoulli likelihood.
        """
        feeds = self.feeds(conditions, label, x=x, z=z)
        if self.manifest.likelihood["name"] == "bernoulli":
            from kvae_serve.readers.checks import check_outcomes

            check_outcomes(feeds["x"], self.manifest.data.range, "x")
        values = self.run("likelihood", feeds, batch_size)["log_likelihood"]
        if not self.manifest.data.columns:
            return values
        from kvae_serve.inference import scoring

        return values + scoring.class_correction(feeds["x"], self.manifest.data).astype(np.float32)

    def score(
        self,
        x: np.ndarray,
        conditions: Any = None,
        *,
        label: Any = None,
        num_samples: int = 16,
        seed: int = 0,
        batch_size: int = BATCH_SIZE,
        parts: bool = False,
    ) -> Scores | ScoreParts:
        """Compute reconstruction, kl and elbo of each example, float64 `[rows]` in nats. An anomaly has a low elbo.

        Every example gets the same noise, so its score depends on the example only.

        Args:
            x: `[rows, *shape]` in data units. Of a table also a DataFrame, or a dict of columns by name. Under a
                Bernoulli likelihood gray levels are drawn to black and white.
            conditions: Value of each condition, or one value per row.
            label: Short for `conditions={"label": ...}`.
            num_samples: Draws of z per example.
            seed: Seed of the draws, 0 to 2**64 - 1.
            batch_size: Rows per run. It does not change the result.
            parts: Whether to add the reconstruction of each value and the kl of each dimension of z.

        Returns:
            `Scores`, or `ScoreParts` with `parts`.

        Raises:
            InputDataError: x has the wrong type, shape or range.

        Example:
            >>> model = kvae.load("mnist-vae")
            >>> found = model.score(kvae.data.load("mnist-sample").x[:2], parts=True)
            >>> found.elbo.shape, found.reconstruction_parts.shape, found.kl_parts.shape
            ((2,), (2, 28, 28, 1), (2, 20))
        """
        from kvae_serve.inference import score_parts, scoring

        x, requested = self._from_frame(x, self.with_label(label, conditions))
        compute = score_parts.score if parts else scoring.score
        return compute(self, x, requested, num_samples=num_samples, seed=seed, batch_size=batch_size)

    def score_labels(
        self,
        x: np.ndarray,
        class_prior: str = "uniform",
        *,
        num_samples: int = 16,
        seed: int = 0,
        batch_size: int = BATCH_SIZE,
    ) -> LabelScores:
        """Compute the probability of each class given x, under a model with one condition, a class.

        A small probability of the label of an example marks a wrong label.

        Args:
            x: `[rows, *shape]` in data units. Of a table also a DataFrame, or a dict of columns by name.
            class_prior: Prior p(y): `"uniform"`, or the shares of the classes in the training `"data"`.
            num_samples: Draws of z per example and class.
            seed: Seed of the draws, 0 to 2**64 - 1.
            batch_size: Rows per run.

        Returns:
            `LabelScores`: log p(x|y) and p(y|x), float64 `[rows, num_classes]`, and log p(x), `[rows]`, in nats.

        Raises:
            InputDataError: x has the wrong type, shape or range.

        Example:
            >>> model = kvae.load("mnist")
            >>> data = kvae.data.load("mnist-sample")
            >>> found = model.score_labels(data.x[:2], num_samples=4)
            >>> (found.probability.argmax(1) == data.conditions["label"][:2]).all()
            np.True_
        """
        from kvae_serve.inference import label_scores

        if not isinstance(x, np.ndarray):
            first = self.manifest.conditions[:1]
            x, _ = self._from_frame(x, {each.name: 0 for each in first})
        return label_scores.score(self, x, class_prior, num_samples=num_samples, seed=seed, batch_size=batch_size)

    def complexity(self, x: np.ndarray, *, seed: int = 0) -> np.ndarray:
        """Compute the size of each image after lossless compression, float64 `[rows]`, in nats.

        The elbo plus the complexity separates simple images that the elbo takes for normal ones (Serra et al., 2020,
        https://arxiv.org/abs/1909.11480).

        Args:
            x: `[rows, height, width, channels]` in data units. Under a Bernoulli likelihood gray levels are drawn to
                black and white, as by `score`.
            seed: Seed of these draws.

        Raises:
            RequestError: The model is not one of images of 8 bits, or black and white.

        Example:
            >>> model = kvae.load("mnist-vae")
            >>> model.complexity(np.zeros((1, 28, 28, 1))).shape
            (1,)
        """
        from kvae_serve.inference import complexity, scoring

        complexity.check("complexity", self.manifest)
        conditions = {each.name: 0 if each.range is None else each.range[0] for each in self.manifest.conditions}
        chunks = scoring.chunks(self, x, conditions, seed=seed)
        return np.concatenate([complexity.complexity(chunk.x, self.manifest) for chunk in chunks])

    def evaluate(
        self,
        x: np.ndarray,
        conditions: Any = None,
        *,
        label: Any = None,
        importance_samples: int = 100,
        seed: int = 0,
        limit: int | None = None,
        binarize: str | None = None,
        over_labels: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, Any]:
        """Compute the metrics of the model on data; see `kvae_serve.evaluation.evaluate` for the result.

        Args:
            x: `[rows, *shape]` in data units.
            conditions: Value of each condition, or one value per row.
            label: Short for `conditions={"label": ...}`.
            importance_samples: K, draws of z per example.
            seed: Seed of noise and dynamic binarisation, 0 to 2**64 - 1.
            limit: Number of examples; None for all. The first ones are used.
            binarize: "dynamic" (default), "static" or "none", for a Bernoulli likelihood.
            over_labels: "uniform" or "data", the p(y) of a sum over the classes; None for no sum.
            progress: Called with the number of finished draws and the number of all draws.

        Raises:
            InputDataError: x has the wrong type, shape or range.
        """
        from kvae_serve.evaluation import evaluate

        return evaluate(
            self,
            x,
            self.with_label(label, conditions),
            importance_samples=importance_samples,
            seed=seed,
            limit=limit,
            binarize=binarize,
            over_labels=over_labels,
            progress=progress,
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
        example: str | None = None,
        data: Dataset | Mapping[str, Any] | None = None,
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
            example: Example whose posterior mean is the base, as `FILE` or `FILE:ROW`. It is encoded with the
                conditions of the file, and decoded with them unless others are given.
            data: Examples for ranking dimensions by their kl: arrays by name (`x` `[rows, *shape]` in data units, and
                each condition), or the result of `kvae_serve.readers.read_for`. The default is the kl in the model
                file, or the change of x if the file does not contain it.
            batch_size: Rows decoded at a time. It does not change the result.

        Returns:
            `Traversal`, with x float32 `[combinations, dims, steps, *shape]` in data units, z, dims, values and
            activity.

        Raises:
            RequestError: An argument is out of range, a label or condition does not exist, or there are two bases.
        """
        from kvae_serve.latent import traversal

        if sum(each is not None for each in (base, seed, example)) > 1:
            raise RequestError("base, seed and example exclude each other. Give one of them.")
        requested: Mapping[str, Any] = self.with_label(label, conditions)
        if example is not None:
            base, requested = traversal.from_example(self, example, requested)
        elif seed is not None:
            base = traversal.from_draw(self, requested, seed, start)
        return traversal.traverse(
            self,
            conditions=requested,
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
            conditions: Value of each condition at the beginning, or one value per pair.
            to_conditions: Conditions at the end; by default the same. Numbers are interpolated linearly.
            label: Short for `conditions={"label": ...}`.
            to_label: Short for `to_conditions={"label": ...}`.
            steps: Images per pair, both ends included.
            method: "slerp" for the great circle in coordinates in which the prior is N(0, I), or "lerp" for a line.
            classes: "blend" for the mean of x if the class changes with probability t, or "switch" for the class of the
                nearer end.
            batch_size: Rows decoded at a time.

        Returns:
            `Interpolation`, with x float32 `[pairs, steps, *shape]` in data units, z, t and conditions. Both ends of z
            equal the given points bit for bit.
        """
        from kvae_serve.latent import interpolation

        to = None if to_label is None and to_conditions is None else self.with_label(to_label, to_conditions)
        return interpolation.interpolate(
            self,
            z_from,
            z_to,
            conditions=self.with_label(label, conditions),
            to_conditions=to,
            steps=steps,
            method=method,
            classes=classes,
            batch_size=batch_size,
        )

    def info(self) -> dict[str, Any]:
        """Check all files and return the metadata of the model as plain values.

        Returns:
            `path`; `manifest`, as described in docs/format.md; and `files`, with `graph`, `path`, `bytes`,
            `parameters`, `nodes`, and `inputs` and `outputs` by name, each a list of its type and the size of each
            axis.
        """
        files = []
        for graph in self.graphs:
            file, _ = self.sealed(graph)
            tensors = {"inputs": file.inputs, "outputs": file.outputs}
            sizes = {"bytes": len(file.data), "parameters": file.num_parameters, "nodes": file.num_nodes}
            files.append(
                {"graph": graph, "path": file.path, **sizes}
                | {
                    side: {name: [value.dtype, *value.shape] for name, value in values.items()}
                    for side, values in tensors.items()
                }
            )
        return {"path": self.path, "manifest": self.manifest.to_dict(), "files": files}

    def verify(self) -> list[Check]:
        """Run every graph on its golden inputs and compare the outputs with those of Keras.

        Returns:
            One `Check` per output. All are ok if the model computes here what Keras computed at the export.

        Raises:
            VerificationError: A file does not contain golden values.
        """
        checks = []
        for graph in self.graphs:
            manifest = self.graph_manifest(graph)
            if not (manifest.golden or {}).get("outputs"):
                raise VerificationError(
                    f"{graph}.onnx does not contain golden values, so it cannot be verified. Export it again."
                )
            session = self.session(graph)
            outputs = session.run(golden.golden_inputs(manifest, session.inputs))
            checks += [Check(graph, *each) for each in golden.compare(manifest, outputs)]
        return checks

    def with_label(self, label: Any, conditions: Any) -> dict[str, Any]:
        """Return the conditions, with the label added under its name. Integers with two readings are refused."""
        return conditions_of.with_one_reading(self.manifest, conditions_of.with_label(self.manifest, label, conditions))

    def _from_frame(self, x: Any, conditions: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Return the rows and the conditions of a DataFrame, and warn of unusual values; other x unchanged."""
        if isinstance(x, np.ndarray) or self.manifest.data.kind != "table":
            return x, dict(conditions)
        from kvae_serve.inference import inputs

        x, requested, notes = inputs.from_frame(self.manifest, x, conditions)
        for note in notes:
            warnings.warn(note, stacklevel=3)
        return x, requested

    def feeds(
        self,
        conditions: Any,
        label: Any,
        x: np.ndarray | None = None,
        z: np.ndarray | None = None,
        first: int = 0,
    ) -> dict[str, np.ndarray]:
        """Return the checked inputs of a graph for the rows of x or z; see `kvae_serve.inference.inputs.feeds`."""
        from kvae_serve.inference import inputs

        return inputs.feeds(self.manifest, self.with_label(label, conditions), x=x, z=z, first=first)
