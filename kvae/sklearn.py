"""Estimators with the interface of scikit-learn: `VAETransformer`, and `VAEOutlierDetector`.

`fit` trains a VAE of the columns with TensorFlow and exports it. All other methods run the exported files in ONNX
Runtime, so that a fitted estimator is small, and a pickle of it does not need TensorFlow.
"""

import contextlib
import os
import random
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from kvae_serve.errors import MissingExtraError, RequestError, VerificationError, printable
from kvae_serve.inference import thresholds
from kvae_serve.model import Model, load
from kvae_serve.numbers import integer, is_integer, is_number
from kvae_serve.sealed.manifest import MAX_COLUMN_TEXT
from kvae_serve.writers import atomic

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, OutlierMixin, TransformerMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_array, check_is_fitted, validate_data
except ImportError as error:
    raise MissingExtraError(
        "kvae.sklearn needs scikit-learn 1.6 or later, which is not installed: pip install 'kvae-onnx[sklearn]'."
    ) from error

__all__ = ["VAEOutlierDetector", "VAETransformer"]

#: Least steps of a training with `epochs="auto"`, and the bounds of its epochs.
_STEPS, _EPOCHS = 1000, (5, 200)
#: Least steps per epoch, and the smallest batch that makes them.
_STEPS_PER_EPOCH, _MIN_BATCH = 20, 16
#: Steps per call of TensorFlow, to save the time between them.
_STEPS_PER_EXECUTION = 16
#: Most steps of a training that runs them eagerly.
_EAGER_STEPS = 50
#: Columns whose mean is this many standard deviations away from 0 are trained without an offset.
_MAX_SHIFT = 100.0
#: Shares of a detector's epochs after which it selects the rows with the highest elbo again.
_TRIMMED = (0.1, 0.25, 0.5)
#: Least standard deviation of a column in the latents of a detector, in units of that of all training rows.
_LEAST_SCALE = 0.1
#: Share of the rows that `novelty=True` holds out.
_HELD_OUT = 0.2
#: Least rows for `novelty=True`.
_MIN_NOVELTY = 20


class _SealedFiles:
    """Exported files in memory, and the model of them. Only the files are pickled."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self._model: Model | None = None

    def __getstate__(self) -> dict[str, bytes]:
        return self.files

    def __setstate__(self, files: dict[str, bytes]) -> None:
        self.files, self._model = files, None

    @property
    def model(self) -> Model:
        """The model, opened on first use."""
        if self._model is None:
            folder = tempfile.TemporaryDirectory(prefix="kvae-")
            for name, content in self.files.items():
                (Path(folder.name) / name).write_bytes(content)
            self._model = load(folder.name)
            # The model opens its files on first use, so they are removed with the model and not with the estimator.
            weakref.finalize(self._model, folder.cleanup)
        return self._model


class _VAEEstimator(BaseEstimator):
    """Base of the estimators: training, scores, draws and export."""

    _sealed: _SealedFiles
    _offsets: np.ndarray
    _stand_ins: np.ndarray
    n_features_in_: int

    def __init__(
        self,
        latent_dim: int = 8,
        *,
        hidden: Sequence[int] = (128, 64),
        beta: float = 1.0,
        numbers: str = "standard",
        epochs: int | str = "auto",
        batch_size: int = 128,
        learning_rate: float = 3e-3,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.latent_dim = latent_dim
        self.hidden = hidden
        self.beta = beta
        self.numbers = numbers
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether the last `fit` succeeded."""
        return hasattr(self, "_sealed")

    @property
    def model_(self) -> Model:
        """The exported model, as `kvae.load` returns it."""
        check_is_fitted(self)
        return self._sealed.model

    def score_samples(self, X: Any) -> np.ndarray:
        """Compute the elbo of each row, a lower bound of its log density.

        Args:
            X: Numbers `[rows, n_features]`; NaN is a missing value.

        Returns:
            float64 `[rows]`, in nats. Higher is more normal. Every row gets the same draws of z, so that a score does
            not depend on other rows.
        """
        check_is_fitted(self)
        return self.model_.score(self._rows(self._check(X))).elbo

    def sample(self, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """Draw rows from the model.

        Args:
            n_samples: Number of rows.
            random_state: Seed, or None for random rows.

        Returns:
            float64 `[n_samples, n_features]`.
        """
        check_is_fitted(self)
        drawn = self.model_.sample(n_samples, seed=_seed(random_state)).x
        return drawn.astype(np.float64) + self._offsets

    def export(self, folder: str | os.PathLike[str], *, force: bool = False) -> list[Path]:
        """Write the sealed ONNX files of the model, which `kvae.load` and the command `kvae` read.

        Args:
            folder: Folder to create.
            force: Replace the folder if it exists.

        Returns:
            Paths of the files.

        Raises:
            OutputError: The folder exists or cannot be written.
        """
        check_is_fitted(self)
        with atomic.new_folder(folder, force) as temporary:
            for name, content in self._sealed.files.items():
                (Path(temporary) / name).write_bytes(content)
        return [Path(folder) / name for name in self._sealed.files]

    def __sklearn_tags__(self) -> Any:
        """Return the tags of scikit-learn: missing values are allowed."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _check(self, X: Any, reset: bool = False) -> np.ndarray:
        if reset:
            self.__dict__.pop("_sealed", None)  # if the new fit fails, the old model and the new offsets do not mix
        return validate_data(
            self, X, reset=reset, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan",
            ensure_min_samples=2 if reset else 1,
        )  # fmt: skip

    def _rows(self, X: np.ndarray) -> np.ndarray:
        """Return rows as the graphs receive them: float32, minus the offsets, in a form that the model accepts."""
        with np.errstate(over="ignore", invalid="ignore"):
            rows = (X.astype(np.float64) - self._offsets).astype(np.float32)
        if np.isinf(rows).any():
            raise ValueError("X contains infinity or a value too large for dtype('float32'). Rescale that feature.")
        return np.where(np.isnan(rows), self._stand_ins, rows)

    def _fit(self, X: np.ndarray, held_out: np.ndarray | None = None) -> None:
        """Train on checked rows, and keep the exported files, with quantiles of the held-out rows if there are any."""
        check_parameters(self)
        absent = np.isnan(X).all(axis=0)
        if absent.any():
            raise ValueError(f"All values of feature {int(absent.argmax())} of X are missing. Leave it out.")
        with np.errstate(over="ignore"):
            mean, scale = np.nanmean(X, axis=0, dtype=np.float64), np.nanstd(X, axis=0, dtype=np.float64)
        self._offsets = np.where(np.abs(mean) > _MAX_SHIFT * scale, mean, 0.0)
        # A model of complete columns does not accept NaN.
        self._stand_ins = np.where(np.isnan(X).any(axis=0), np.nan, mean - self._offsets).astype(np.float32)
        x, seed = self._rows(X), _seed(self.random_state, 2**31)
        with tempfile.TemporaryDirectory(prefix="kvae-") as temporary:
            folder = Path(temporary) / "model"
            model = _train(self, x, self._columns(), seed)
            model.export(folder, name="vae", trained_on=x, held_out=None if held_out is None else self._rows(held_out))
            self._sealed = _SealedFiles({path.name: path.read_bytes() for path in sorted(folder.iterdir())})

    def _columns(self) -> list[dict[str, Any]]:
        names = [str(name) for name in getattr(self, "feature_names_in_", ())]
        valid = all(name.isprintable() and 0 < len(name) <= MAX_COLUMN_TEXT for name in names)
        if len(set(names)) < self.n_features_in_ or not valid:
            names = [f"x{index}" for index in range(self.n_features_in_)]
        columns: list[dict[str, Any]] = [{"name": name, "kind": "numeric", "type": "number"} for name in names]
        for column, offset in zip(columns, self._offsets.tolist(), strict=True):
            if offset:
                column["offset"] = offset
        return columns


class VAETransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _VAEEstimator):
    """Transformer from rows to the means of their latent vectors, and back.

    Args:
        latent_dim: Size of z, the number of output features.
        hidden: Widths of the encoder's hidden layers; the decoder has them in reverse order.
        beta: Weight of the kl. Higher values make smoother and fewer active latent dimensions.
        numbers: `"standard"` scales each column by its standard deviation. `"quantile"` maps it to a normal
            distribution by its quantiles, which makes better draws of skewed or discrete columns.
        epochs: Passes over the data. `"auto"` makes about 1,000 steps, in 5 to 200 passes.
        batch_size: Rows per step. A small data set gets smaller batches.
        learning_rate: Learning rate of Adam.
        random_state: Seed, `numpy.random.RandomState` or None. A seed makes the fit reproducible.
        verbose: 1 prints the progress of each epoch.

    Attributes:
        model_: The exported model, as `kvae.load` returns it.
        n_features_in_: Number of features in `fit`.
        feature_names_in_: Names of the features in `fit`, if all are texts.

    Example:
        >>> from kvae.sklearn import VAETransformer
        >>> X = np.random.default_rng(0).normal(size=(100, 3))
        >>> vae = VAETransformer(latent_dim=2, epochs=1, random_state=0).fit(X)
        >>> vae.transform(X).shape, vae.inverse_transform(np.zeros((5, 2))).shape, vae.sample(7).shape
        ((100, 2), (5, 3), (7, 3))
    """

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train the model.

        Args:
            X: Numbers `[rows, n_features]`; NaN is a missing value.
            y: Ignored.

        Returns:
            The estimator.

        Raises:
            ValueError: X or a parameter is invalid.
            VerificationError: The loss became NaN.
        """
        self._fit(self._check(X, reset=True))
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the mean of q(z|x) of each row.

        Args:
            X: Numbers `[rows, n_features]`; NaN is a missing value.

        Returns:
            `[rows, latent_dim]`, float32 if X is float32 and otherwise float64.
        """
        check_is_fitted(self)
        X = self._check(X)
        return self.model_.encode(self._rows(X))[0].astype(X.dtype)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Return the mean of p(x|z) of latent vectors.

        Args:
            X: Latent vectors `[rows, latent_dim]`.

        Returns:
            `[rows, n_features]` in the units of the data, float32 if X is float32 and otherwise float64.
        """
        check_is_fitted(self)
        z = check_array(X, dtype=[np.float64, np.float32])
        x_mean = self.model_.decode(z.astype(np.float32)).astype(np.float64)
        return (x_mean + self._offsets).astype(z.dtype)

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean elbo of the rows in nats, for example as the score of a grid search.

        Args:
            X: Numbers `[rows, n_features]`.
            y: Ignored.
        """
        return float(self.score_samples(X).mean())

    @property
    def _n_features_out(self) -> int:
        return self.model_.manifest.latent_dim

    def __sklearn_tags__(self) -> Any:
        """Return the tags of scikit-learn: float32 stays float32."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class VAEOutlierDetector(OutlierMixin, _VAEEstimator):
    """Detector of rows that the model of the other rows finds unlikely.

    The model differs from that of `VAETransformer` in three ways:

    - Its encoder is linear, so that the kl of a row grows with its distance.
    - Rows may be outliers during training. After a tenth, a quarter and a half of the epochs, `fit` leaves out the
      share `contamination` of the rows with the lowest elbo at that time (iterative trimming, Shen and Sanghavi 2019,
      https://arxiv.org/abs/1810.11874), and trains on the others. `novelty=True` trains on all rows but the held-out
      ones.
    - z has one more dimension per column, with the standardised value as the mean of q and 1 as its variance. The
      decoder ignores these dimensions. Their kl is half the squared distance of the row from the means of the columns,
      so a row with several unusual values has a low elbo even if the decoder reconstructs it. The elbo remains a lower
      bound of the log density, but is less tight than that of `VAETransformer`.

    The conventions are those of scikit-learn: `predict` returns -1 for an outlier and 1 for other rows, and
    `decision_function` is negative for outliers. `kvae.pyod.VAE` is the same detector with the conventions of PyOD.

    Args:
        contamination: Share of the training rows, above 0 and up to 0.5, that are labelled as outliers, and that the
            training leaves out. With `novelty`, the share of new normal rows that may be labelled, at least
            1 / (held-out rows + 1).
        novelty: Whether all training rows are normal. A fifth of them is then held out of the training, and the
            threshold is a quantile of their scores, because the scores of rows that were trained on are too high.
        latent_dim: Size of z, without the dimensions of the columns.
        hidden: Widths of the decoder's hidden layers in reverse order.
        beta: As for `VAETransformer`.
        numbers: As for `VAETransformer`.
        epochs: As for `VAETransformer`.
        batch_size: As for `VAETransformer`.
        learning_rate: As for `VAETransformer`.
        random_state: As for `VAETransformer`.
        verbose: As for `VAETransformer`.

    Attributes:
        offset_: Lowest `score_samples` of a normal row. `decision_function` is `score_samples` minus this.
        decision_scores_: Outlier scores of the training rows, `[rows]`: minus their `score_samples`, as in PyOD.
        threshold_: Highest outlier score of a normal row, `-offset_`.
        labels_: -1 for training rows that are outliers and 1 for the others, `[rows]`.
        model_: The exported model, as `kvae.load` returns it.
        n_features_in_: Number of features in `fit`.
        feature_names_in_: Names of the features in `fit`, if all are texts.

    Example:
        >>> from kvae.sklearn import VAEOutlierDetector
        >>> X = np.vstack([np.random.default_rng(0).normal(size=(99, 2)), [[30.0, 30.0]]])
        >>> detector = VAEOutlierDetector(contamination=0.01, epochs=30, random_state=0).fit(X)
        >>> detector.predict([[0.0, 0.0], [40.0, 30.0]]).tolist()
        [1, -1]
    """

    def __init__(
        self,
        contamination: float = 0.1,
        *,
        novelty: bool = False,
        latent_dim: int = 8,
        hidden: Sequence[int] = (128, 64),
        beta: float = 1.0,
        numbers: str = "standard",
        epochs: int | str = "auto",
        batch_size: int = 128,
        learning_rate: float = 3e-3,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            latent_dim, hidden=hidden, beta=beta, numbers=numbers, epochs=epochs, batch_size=batch_size,
            learning_rate=learning_rate, random_state=random_state, verbose=verbose,
        )  # fmt: skip
        self.contamination = contamination
        self.novelty = novelty

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train the model, and set the threshold.

        Args:
            X: Numbers `[rows, n_features]`; NaN is a missing value.
            y: Ignored.

        Returns:
            The estimator.

        Raises:
            ValueError: X or a parameter is invalid.
            VerificationError: The loss became NaN.
        """
        X = self._check(X, reset=True)
        check_parameters(self)
        held_out = np.zeros(len(X), bool)
        if self.novelty:
            if len(X) < _MIN_NOVELTY:
                raise RequestError(
                    f"novelty holds out a fifth of the rows, but X has n_samples={len(X)}; expected at least "
                    f"{_MIN_NOVELTY}. Use novelty=False."
                )
            num = round(_HELD_OUT * len(X))
            if self.contamination < 1 / (num + 1):
                raise RequestError(
                    f"contamination is {self.contamination!r}; expected at least {1 / (num + 1):.3g}, which is 1 / "
                    f"({num} held-out rows + 1). Use more rows or a larger contamination."
                )
            order = np.random.default_rng(_seed(self.random_state, 2**31)).permutation(len(X))
            held_out[order[:num]] = True
        self._fit(X[~held_out], X[held_out] if self.novelty else None)
        scores = self.model_.score(self._rows(X)).elbo
        if self.novelty:
            self.offset_ = thresholds.quantile(scores[held_out], self.contamination)
        else:  # the convention of scikit-learn and PyOD for the share of the training rows
            self.offset_ = float(np.percentile(scores, 100.0 * self.contamination))
        self.decision_scores_, self.threshold_ = -scores, -self.offset_
        self.labels_ = np.where(scores < self.offset_, -1, 1)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Return `score_samples` minus the offset: negative for outliers, float64 `[rows]`.

        Args:
            X: Numbers `[rows, n_features]`; NaN is a missing value.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """Return -1 for outliers and 1 for other rows, `[rows]`.

        Args:
            X: Numbers `[rows, n_features]`; NaN is a missing value.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)


def check_parameters(estimator: _VAEEstimator, names: Mapping[str, str] | None = None) -> None:
    """Raise RequestError if a parameter of an estimator is invalid.

    Args:
        estimator: Estimator of this module.
        names: Name of a parameter in the message, if it is different.
    """
    shown = names or {}

    def require(valid: bool, name: str, expected: str) -> None:
        if not valid:
            value = printable(repr(getattr(estimator, name)), 60)
            raise RequestError(f"{shown.get(name, name)} is {value}; expected {expected}.")

    for name in ("latent_dim", "batch_size"):
        integer(getattr(estimator, name), shown.get(name, name), 1)
    hidden, epochs, beta, rate = estimator.hidden, estimator.epochs, estimator.beta, estimator.learning_rate
    is_list = isinstance(hidden, Sequence | np.ndarray) and not isinstance(hidden, str | bytes)
    valid = is_list and all(is_integer(width) and width >= 1 for width in hidden)
    require(valid, "hidden", "a list of integers of at least 1, such as (128, 64)")
    valid = epochs == "auto" if isinstance(epochs, str) else is_integer(epochs) and epochs >= 1
    require(valid, "epochs", "auto or an integer of at least 1")
    require(is_number(beta) and beta >= 0, "beta", "a number of at least 0")
    require(is_number(rate) and rate > 0, "learning_rate", "a number above 0")
    require(str(estimator.numbers) in ("standard", "quantile"), "numbers", "standard or quantile")
    if isinstance(estimator, VAEOutlierDetector):
        share = estimator.contamination
        require(is_number(share) and 0 < share <= 0.5, "contamination", "a share above 0 and up to 0.5")


def _seed(random_state: Any, limit: int = 2**32) -> int:
    """Return a seed for a `random_state` of scikit-learn."""
    if random_state is None:
        return int.from_bytes(os.urandom(4), "little") % limit
    return int(check_random_state(random_state).randint(limit, dtype=np.int64))


def _train(estimator: _VAEEstimator, x: np.ndarray, columns: list[dict[str, Any]], seed: int) -> Any:
    """Train a model of rows with TensorFlow, and return it.

    Args:
        estimator: The parameters.
        x: float32 `[rows, n_features]`, minus the offsets.
        columns: Description of the columns for `TableSpec`.
        seed: Seed of the weights, the batches and the noise.
    """
    # Imported here, so that a pickled estimator is used without TensorFlow.
    from kvae.data.table import TableSpec
    from kvae.dataloaders.batches import training_batches
    from kvae.likelihoods import Mixed
    from kvae.models.vae import VAE, BetaVAE
    from kvae.networks import dense_encoder
    from kvae.optimizers import Adam

    spec = TableSpec.learn(columns, x, order=[column["name"] for column in columns], numbers=estimator.numbers)
    batch_size = int(min(estimator.batch_size, max(_MIN_BATCH, len(x) // _STEPS_PER_EPOCH)))
    options: dict[str, Any] = {"data": spec, "likelihood": Mixed.from_spec(spec), "seed": seed}
    kind: Any = VAE
    if estimator.beta != 1.0:
        kind, options["beta"] = BetaVAE, float(estimator.beta)
    is_detector = isinstance(estimator, VAEOutlierDetector)
    with _seeded(seed):
        model = kind.dense(latent_dim=int(estimator.latent_dim), hidden=tuple(map(int, estimator.hidden)), **options)
        if is_detector:
            model = kind(dense_encoder(spec.unit_shape, model.latent_dim, ()), model.decoder, **options)
        batches = training_batches(x, None, batch_size, seed)
        epochs: Any = estimator.epochs
        if epochs == "auto":
            epochs = min(max(-(-_STEPS // batches.steps), _EPOCHS[0]), _EPOCHS[1])
        # To compile the step takes longer than a few steps without.
        is_short = epochs * batches.steps <= _EAGER_STEPS
        per_call = 1 if is_short else min(_STEPS_PER_EXECUTION, batches.steps)
        model.compile(Adam(float(estimator.learning_rate)), run_eagerly=is_short, steps_per_execution=per_call)
        num_outliers = int(estimator.contamination * len(x)) if is_detector and not estimator.novelty else 0
        stages = sorted({round(share * epochs) for share in _TRIMMED} - {0}) if num_outliers else []
        first, losses, normal = 0, [], x
        for last in (*stages, int(epochs)):
            if first:
                elbo = model.score(x, num_samples=1).elbo
                normal = x[np.sort(np.argsort(-elbo, kind="stable")[: len(x) - num_outliers])]
                batches = training_batches(normal, None, batch_size, seed)
            losses += model.fit(
                batches.dataset, initial_epoch=first, epochs=last, callbacks=[batches.callback], shuffle=False,
                verbose=2 if estimator.verbose else 0,
            ).history.get("loss", [])  # fmt: skip
            first = last
    if not np.isfinite(losses).all():
        raise VerificationError("The loss became NaN. Lower learning_rate, or rescale the features.")
    return _with_column_latents(model, spec, normal) if is_detector and spec.numbers else model


def _with_column_latents(model: Any, spec: Any, x: np.ndarray) -> Any:
    """Add a latent dimension per column, whose posterior mean is the standardised column. The decoder ignores it.

    Args:
        model: Trained model with a linear encoder.
        spec: `TableSpec` of the columns.
        x: Rows that have the mean 0 and the standard deviation 1 in the added dimensions.
    """
    from kvae.networks import dense_decoder, dense_encoder

    unit = spec.unit_array(x)
    num, start = len(spec.numbers), unit.shape[1] - len(spec.may_miss)
    present = np.ones((len(x), num))
    kernel, bias = np.zeros((unit.shape[1], num)), np.zeros(num)
    flags = {column: start + at for at, column in enumerate(spec.may_miss)}
    missing = {at: flags[column] for at, column in enumerate(spec.numbers) if column in flags}
    for at, flag in missing.items():
        present[:, at] -= unit[:, flag]
    counts = np.maximum(present.sum(axis=0), 1.0)
    mean = unit[:, :num].sum(axis=0) / counts
    scale = np.sqrt((present * np.square(unit[:, :num] - mean)).sum(axis=0) / counts)
    weight = 1.0 / np.maximum(scale, _LEAST_SCALE)
    kernel[:num], bias = np.diag(weight), -mean * weight
    for at, flag in missing.items():
        kernel[flag, at] = -bias[at]  # a missing value has the mean
    latent_dim = model.latent_dim + num
    encoder = dense_encoder(spec.unit_shape, latent_dim, ())
    for name, added in (("z_mean", (kernel, bias)), ("z_log_var", (0.0 * kernel, 0.0 * bias))):
        learned = model.encoder.get_layer(name).get_weights()
        weights = [np.concatenate([a, b], axis=-1) for a, b in zip(learned, added, strict=True)]
        encoder.get_layer(name).set_weights(weights)
    widths = [layer.units for layer in model.decoder.layers if hasattr(layer, "units")][:-1]
    likelihood = model.likelihood
    decoder = dense_decoder(spec.unit_shape, latent_dim, widths, num_extra=likelihood.num_extra)
    first, *others = model.decoder.get_weights()
    decoder.set_weights([np.pad(first, ((0, num), (0, 0))), *others])
    return type(model)(encoder, decoder, data=spec, likelihood=likelihood, seed=model.seed)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the weights of Keras. The states of Python's and NumPy's generators are restored."""
    import keras

    states = random.getstate(), np.random.get_state()
    keras.utils.set_random_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
