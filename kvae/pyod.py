"""Detector of outliers with the conventions of PyOD: `VAE` in place of `pyod.models.vae.VAE`.

It does not need PyOD. The model, its training and its files are those of `kvae.sklearn.VAEOutlierDetector`.
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from kvae.sklearn import VAEOutlierDetector, check_parameters
from kvae_serve.errors import RequestError, printable
from kvae_serve.model import Model
from kvae_serve.numbers import is_number

from sklearn.base import BaseEstimator  # isort: skip  # after kvae.sklearn, which says what to install

__all__ = ["VAE"]

#: Names of PyOD for the parameters of `VAEOutlierDetector`.
_NAMES = {"hidden": "encoder_neuron_list", "epochs": "epoch_num", "learning_rate": "lr"}
#: Parameters of PyOD that change its model and do not have an effect here, and the values that agree with this model.
_IGNORED = {
    "preprocessing": True,
    "optimizer_name": "adam",
    "optimizer_params": None,
    "capacity": None,
    "decoder_neuron_list": None,
    "hidden_activation_name": "relu",
    "output_activation_name": "identity",
    "batch_norm": False,
    "dropout_rate": 0.0,
    "logvar_clip": None,
}


class VAE(BaseEstimator):
    """Detector of outliers with the conventions of PyOD: higher scores and the label 1 mean an outlier.

    Args:
        contamination: Share of the training rows that are labelled as outliers, above 0 and up to 0.5. The training
            leaves out as many.
        latent_dim: Size of z, without the dimensions of the columns.
        encoder_neuron_list: Widths of the decoder's hidden layers in reverse order. The encoder is linear.
        beta: Weight of the kl.
        lr: Learning rate of Adam.
        epoch_num: Passes over the data; `"auto"` as for `kvae.sklearn.VAETransformer`.
        batch_size: Rows per step. A small data set gets smaller batches.
        random_state: Seed, `numpy.random.RandomState` or None.
        verbose: 1 prints the progress of each epoch.
        preprocessing: Accepted as in PyOD. Columns are always scaled by their standard deviation.
        optimizer_name: Accepted as in PyOD. The optimizer is always Adam.
        optimizer_params: Accepted as in PyOD, without effect.
        capacity: Accepted as in PyOD, without effect. The kl is not limited.
        decoder_neuron_list: Accepted as in PyOD. The decoder always has `encoder_neuron_list` in reverse order.
        hidden_activation_name: Accepted as in PyOD. The activation is always relu.
        output_activation_name: Accepted as in PyOD. The output is always linear.
        batch_norm: Accepted as in PyOD, without effect.
        dropout_rate: Accepted as in PyOD, without effect.
        logvar_clip: Accepted as in PyOD, without effect.
        device: Accepted as in PyOD, without effect. TensorFlow chooses the device.
        use_compile: Accepted as in PyOD, without effect.
        compile_mode: Accepted as in PyOD, without effect.

    `fit` warns if one of these parameters asks for a different model. The defaults of the parameters are those of
    `VAEOutlierDetector`, and not those of PyOD.

    Attributes:
        decision_scores_: Outlier scores of the training rows, float64 `[rows]`: minus their elbo, in nats.
        threshold_: Highest score of a normal row.
        labels_: 1 for training rows that are outliers and 0 for the others, `[rows]`.
        detector_: The fitted `kvae.sklearn.VAEOutlierDetector`.

    Example:
        >>> from kvae.pyod import VAE
        >>> X = np.vstack([np.random.default_rng(0).normal(size=(99, 2)), [[30.0, 30.0]]])
        >>> detector = VAE(contamination=0.01, epoch_num=20).fit(X)
        >>> detector.predict([[0.0, 0.0], [40.0, 30.0]]).tolist()
        [0, 1]
    """

    def __init__(
        self,
        contamination: float = 0.1,
        *,
        latent_dim: int = 8,
        encoder_neuron_list: Sequence[int] = (128, 64),
        beta: float = 1.0,
        lr: float = 3e-3,
        epoch_num: int | str = "auto",
        batch_size: int = 128,
        random_state: Any = 42,
        verbose: int = 0,
        preprocessing: bool = True,
        optimizer_name: str = "adam",
        optimizer_params: Mapping[str, Any] | None = None,
        capacity: float | None = None,
        decoder_neuron_list: Sequence[int] | None = None,
        hidden_activation_name: str = "relu",
        output_activation_name: str = "identity",
        batch_norm: bool = False,
        dropout_rate: float = 0.0,
        logvar_clip: tuple[float, float] | None = None,
        device: Any = None,
        use_compile: bool = False,
        compile_mode: str = "default",
    ) -> None:
        self.contamination = contamination
        self.latent_dim = latent_dim
        self.encoder_neuron_list = encoder_neuron_list
        self.beta = beta
        self.lr = lr
        self.epoch_num = epoch_num
        self.batch_size = batch_size
        self.random_state = random_state
        self.verbose = verbose
        self.preprocessing = preprocessing
        self.optimizer_name = optimizer_name
        self.optimizer_params = optimizer_params
        self.capacity = capacity
        self.decoder_neuron_list = decoder_neuron_list
        self.hidden_activation_name = hidden_activation_name
        self.output_activation_name = output_activation_name
        self.batch_norm = batch_norm
        self.dropout_rate = dropout_rate
        self.logvar_clip = logvar_clip
        self.device = device
        self.use_compile = use_compile
        self.compile_mode = compile_mode

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train the model, and set threshold and labels.

        Args:
            X: Numbers `[rows, n_features]`; NaN is a missing value.
            y: Ignored.

        Raises:
            ValueError: X or a parameter is invalid.
        """
        detector = VAEOutlierDetector(
            self.contamination, latent_dim=self.latent_dim, hidden=self.encoder_neuron_list, beta=self.beta,
            epochs=self.epoch_num, batch_size=self.batch_size, learning_rate=self.lr, random_state=self.random_state,
            verbose=self.verbose,
        )  # fmt: skip
        check_parameters(detector, _NAMES)
        if ignored := self._ignored():
            warnings.warn(
                f"kvae.pyod.VAE ignores {', '.join(ignored)}: its model is always that of "
                "kvae.sklearn.VAEOutlierDetector.",
                stacklevel=2,
            )
        self.detector_ = detector.fit(X)
        self.decision_scores_, self.threshold_ = self.detector_.decision_scores_, self.detector_.threshold_
        self.labels_ = (self.detector_.labels_ == -1).astype(int)
        return self

    def _ignored(self) -> list[str]:
        """Return the parameters that ask for a model that is different from this one."""
        own: dict[str, Any] = {**_IGNORED, "decoder_neuron_list": self.encoder_neuron_list[::-1]}
        requested = {name: getattr(self, name) for name in own}
        return [name for name, each in requested.items() if each is not None and not np.array_equal(each, own[name])]

    @property
    def model_(self) -> Model:
        """The exported model, as `kvae.load` returns it."""
        return self._fitted.model_

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the outlier score of each row, minus its elbo in nats, float64 `[rows]`. Higher is less normal.

        Args:
            X: Numbers `[rows, n_features]`; NaN is a missing value.
        """
        return -self._fitted.score_samples(X)

    def predict(self, X: Any, return_confidence: bool = False) -> Any:
        """Return 1 for outliers and 0 for other rows, `[rows]`.

        Args:
            X: Numbers `[rows, n_features]`; NaN is a missing value.
            return_confidence: Return `(labels, confidences)`, with those of `predict_confidence`.
        """
        scores = self.decision_function(X)
        labels = self._labels(scores)
        return (labels, self._confidence(scores)) if return_confidence else labels

    def predict_confidence(self, X: Any) -> np.ndarray:
        """Return the probability that the label of each row stays the same with other training rows.

        Args:
            X: Numbers `[rows, n_features]`; NaN is a missing value.

        Returns:
            float64 `[rows]`, 0 to 1.

        Reference: Perini, Vercruyssen and Davis (2020), Quantifying the confidence of anomaly detectors in their
        example-wise predictions, https://doi.org/10.1007/978-3-030-67664-3_14.
        """
        return self._confidence(self.decision_function(X))

    def predict_with_rejection(self, X: Any, T: float = 32.0) -> np.ndarray:
        """Return the labels of `predict`, with -2 for rows whose label is too uncertain, `[rows]`.

        Args:
            X: Numbers `[rows, n_features]`; NaN is a missing value.
            T: Tolerance, above 0. A label is rejected if `|2 * confidence - 1|` is at most 1 - 2 exp(-T), so a higher
                value rejects more.

        Reference: Perini and Davis (2023), Unsupervised anomaly detection with rejection,
        https://arxiv.org/abs/2305.13189.
        """
        if not is_number(T) or T <= 0:
            raise RequestError(f"T is {printable(repr(T), 40)}; expected a number above 0.")
        labels, confidence = self.predict(X, return_confidence=True)
        return np.where(np.abs(2.0 * confidence - 1.0) <= 1.0 - 2.0 * np.exp(-T), -2, labels)

    def fit_predict(self, X: Any, y: Any = None) -> np.ndarray:
        """Train, and return the labels of the training rows.

        Args:
            X: As for `fit`.
            y: Ignored.
        """
        return self.fit(X).labels_

    def predict_proba(self, X: Any, method: str = "linear", return_confidence: bool = False) -> Any:
        """Return how far each score lies between the lowest and highest of the training rows.

        These are not calibrated probabilities.

        Args:
            X: Numbers `[rows, n_features]`; NaN is a missing value.
            method: `"linear"` scales the scores of the training rows to 0 to 1. `"unify"` is the Gaussian scaling of
                Kriegel et al. (2011), erf((score - mean) / (sd * sqrt(2))), at least 0.
            return_confidence: Return `(probabilities, confidences)`, with those of `predict_confidence`.

        Returns:
            float64 `[rows, 2]`: for a normal row, and for an outlier.
        """
        scores, known = self.decision_function(X), self.decision_scores_
        if method == "linear":
            width = float(known.max() - known.min()) or 1.0
            outlier = (scores - known.min()) / width
        elif method == "unify":
            from scipy.special import erf

            outlier = erf((scores - known.mean()) / (known.std() * np.sqrt(2.0) or 1.0))
        else:
            raise RequestError(f"method is {method!r}; expected linear or unify.")
        outlier = np.clip(outlier, 0.0, 1.0)
        both = np.stack([1.0 - outlier, outlier], axis=1)
        return (both, self._confidence(scores)) if return_confidence else both

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
        return self._fitted.export(folder, force=force)

    def _labels(self, scores: np.ndarray) -> np.ndarray:
        return (scores > self.threshold_).astype(int)

    def _confidence(self, scores: np.ndarray) -> np.ndarray:
        """Return the probability that rows with these scores get the same label with other training rows."""
        from scipy.stats import binom

        known = np.sort(self.decision_scores_)
        num = len(known)
        # The posterior mean of the share of rows with a lower score, from a uniform prior.
        below = (1 + np.searchsorted(known, scores, side="right")) / (2 + num)
        outlier = binom.sf(num - int(num * self.contamination), num, below)
        return np.where(self._labels(scores) == 1, outlier, 1.0 - outlier)

    @property
    def _fitted(self) -> VAEOutlierDetector:
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        return self.detector_
