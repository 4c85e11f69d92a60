"""Detector of outliers with the interface of PyOD: `VAE` in place of `pyod.models.vae.VAE`.

It does not need PyOD. The model, its training and its files are those of `kvae.sklearn.VAEOutlierDetector`.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from kvae.sklearn import VAEOutlierDetector, check_parameters
from kvae_serve.errors import RequestError
from kvae_serve.model import Model

from sklearn.base import BaseEstimator  # isort: skip  # after kvae.sklearn, which says what to install

__all__ = ["VAE"]

#: Names of PyOD for the parameters of `VAEOutlierDetector`.
_NAMES = {"hidden": "encoder_neuron_list", "epochs": "epoch_num", "learning_rate": "lr"}


class VAE(BaseEstimator):
    """Detector of outliers with the conventions of PyOD: higher scores and the label 1 mean an outlier.

    Args:
        contamination: Share of the training rows that are labelled as outliers, above 0 and up to 0.5.
        latent_dim: Size of z.
        encoder_neuron_list: Widths of the encoder's hidden layers; the decoder has them in reverse order.
        beta: Weight of the kl.
        lr: Learning rate of Adam.
        epoch_num: Passes over the data; `"auto"` as for `kvae.sklearn.VAETransformer`.
        batch_size: Rows per step. A small data set gets smaller batches.
        random_state: Seed, generator of NumPy, or None.
        verbose: 1 prints the progress of each epoch.

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
        self.detector_ = detector.fit(X)
        self.decision_scores_, self.threshold_ = self.detector_.decision_scores_, self.detector_.threshold_
        self.labels_ = (self.detector_.labels_ == -1).astype(int)
        return self

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

    def predict(self, X: Any) -> np.ndarray:
        """Return 1 for outliers and 0 for other rows, `[rows]`.

        Args:
            X: Numbers `[rows, n_features]`; NaN is a missing value.
        """
        return (self.decision_function(X) > self.threshold_).astype(int)

    def fit_predict(self, X: Any, y: Any = None) -> np.ndarray:
        """Train, and return the labels of the training rows.

        Args:
            X: As for `fit`.
            y: Ignored.
        """
        return self.fit(X).labels_

    def predict_proba(self, X: Any, method: str = "linear") -> np.ndarray:
        """Return how far each score lies between the lowest and highest of the training rows.

        These are not calibrated probabilities.

        Args:
            X: Numbers `[rows, n_features]`; NaN is a missing value.
            method: `"linear"` scales the scores of the training rows to 0 to 1. `"unify"` is the Gaussian scaling of
                Kriegel et al. (2011), erf((score - mean) / (sd * sqrt(2))), at least 0.

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
        return np.stack([1.0 - outlier, outlier], axis=1)

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

    @property
    def _fitted(self) -> VAEOutlierDetector:
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        return self.detector_
