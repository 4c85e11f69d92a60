"""Model of a DataFrame: trained on one, and rows, scores and latent vectors as one."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kvae.data import sources
from kvae.exporting.keras_model import KerasModel
from kvae.training import config as configs
from kvae.training.defaults import starting_config
from kvae.training.train import train
from kvae_serve.errors import RequestError
from kvae_serve.inference.score_parts import ScoreParts
from kvae_serve.inference.scoring import Scores
from kvae_serve.sealed.manifest import Manifest


class TableVAE:
    """Variational autoencoder of the rows of a table.

    Tables are pandas DataFrames, tables of pyarrow, or dicts of columns. Results are DataFrames with the columns,
    types, bounds, classes and dates of the training table; dicts of arrays if pandas is not installed.

    Args:
        **settings: Settings of `kvae train` by name, such as `epochs` or `latent_dim`. The others are those that
            `kvae train` chooses for a table.

    Raises:
        RequestError: A setting does not exist, or belongs to `fit`.

    Example:
        >>> rows = {"size": [1.5, 2.5, 4.0, 3.5] * 25, "kind": ["cat", "dog", "ox", "cat"] * 25}
        >>> model = kvae.TableVAE(epochs=1, encoder_hidden=(8,), decoder_hidden=(8,)).fit(rows)
        >>> drawn = model.sample(5, seed=0)
        >>> list(drawn), len(drawn["kind"])
        (['size', 'kind'], 5)
    """

    def __init__(self, **settings: Any) -> None:
        sections = {declared.name: section for section, declared in configs.settings()}
        for name in settings:
            if name not in sections:
                configs.Config().replace(**{name: None})  # raises the error of an unknown setting, with a suggestion
            if sections[name] == "data" and name != "validation":
                raise RequestError(f"{name} is a setting of the data. Use the arguments of fit.")
        self._settings = settings
        self._model: Any = None

    def __repr__(self) -> str:
        """Return the size of the model, or that it is not trained."""
        if self._model is None:
            return "<TableVAE, not trained>"
        columns, dim = len(self.manifest.data.columns), self.manifest.latent_dim
        return f"<TableVAE of {columns} column{'' if columns == 1 else 's'}, {dim} latent dimensions>"

    def fit(
        self,
        table: Any,
        conditions: str | Sequence[str] = (),
        *,
        columns: str | os.PathLike[str] | Mapping[str, Mapping[str, Any]] | None = None,
        missing_values: Sequence[str] = (),
        directory: str | os.PathLike[str] | None = None,
        quiet: bool = True,
    ) -> "TableVAE":
        """Train on all rows of a table.

        Args:
            table: The rows.
            conditions: Name or names of columns to condition on. Their values can be chosen in `sample`.
            columns: Settings of columns by name, or a `columns.toml`; see `kvae.data.load`.
            missing_values: Further texts that stand for a missing value.
            directory: Folder of the run, for `kvae export`. By default the run is not kept.
            quiet: Do not print progress.

        Returns:
            This object.

        Raises:
            InputDataError: A column does not exist or cannot be read.
            RequestError: A setting has an invalid value.
            VerificationError: The loss became NaN.
        """
        names = (conditions,) if isinstance(conditions, str) else tuple(conditions)
        dataset = sources.load(table, condition_columns=names, columns=columns, missing_values=missing_values)
        config = starting_config(dataset, {**self._settings, "condition_columns": names})
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "run" if directory is None else Path(directory)
            run = train(config, folder, dataset=dataset, quiet=quiet, export_check=False)
            self._model = run.model
        return self

    @property
    def model(self) -> Any:
        """The trained Keras model, a `kvae.VAE`."""
        if self._model is None:
            raise RequestError("The model is not trained. Call fit first.")
        return self._model

    @property
    def manifest(self) -> Manifest:
        """The description of the trained model."""
        return KerasModel(self.model).manifest

    def sample(self, num: int, conditions: Any = None, *, seed: int | None = None, start: int = 0) -> Any:
        """Draw rows.

        Args:
            num: Number of rows of each combination of the values of conditions.
            conditions: One or several values per condition. By default they are drawn as often as in the training
                table.
            seed: Seed, 0 to 2**64 - 1; a random one if None.
            start: Index of the first row, for drawing a large table in parts.

        Returns:
            A DataFrame of the rows.
        """
        return self.model.sample(num, conditions, seed=seed, start=start).to_frame()

    def score(self, table: Any, *, num_samples: int = 16, seed: int = 0, parts: bool = False) -> Scores | ScoreParts:
        """Compute reconstruction, kl and elbo of each row, float64 `[rows]` in nats. An anomaly has a low elbo.

        Args:
            table: Rows with the columns of the training table, in any order. A class that the training table does not
                have scores as unlike it.
            num_samples: Draws of z per row.
            seed: Seed of the draws.
            parts: Whether to add the reconstruction of each column and the kl of each dimension of z.
        """
        return self.model.score(table, num_samples=num_samples, seed=seed, parts=parts)

    def encode(self, table: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and log variance of q(z|x), each float32 `[rows, latent_dim]`.

        Args:
            table: Rows with the columns of the training table, in any order.
        """
        return self.model.encode(table)

    def reconstruct(self, table: Any) -> Any:
        """Return the mean of p(x|z) at the mean of q(z|x) as a DataFrame with the index of the table.

        Args:
            table: Rows with the columns of the training table, in any order.
        """
        return self.model.reconstruct(table)

    def impute(self, table: Any, num: int = 1, *, num_samples: int = 256, seed: int | None = None) -> Any:
        """Draw the missing values of rows from their distribution given the observed values.

        Args:
            table: Rows with missing values, or without some of the columns. Conditions must be present.
            num: Number of draws of each row, for multiple imputation.
            num_samples: Draws of z per row; see `kvae.load(...).impute`.
            seed: Seed, 0 to 2**64 - 1; a random one if None.

        Returns:
            A DataFrame with the index of the table in which no value of the model's columns is missing; a list of them
            if `num` is above 1.
        """
        return self.model.impute(table, num=num, num_samples=num_samples, seed=seed)

    def export(self, folder: str | os.PathLike[str], **options: Any) -> Any:
        """Write a folder of sealed ONNX files, which `kvae.load` and the command `kvae` read.

        Args:
            folder: Folder to create.
            **options: `name`, `weights` and `force`, as for `kvae.VAE.export`.

        Returns:
            Paths of the files.
        """
        return self.model.export(folder, **options)
