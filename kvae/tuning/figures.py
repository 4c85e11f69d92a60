"""Figures of one trained run: elbo and its parts on validation data, and disentanglement if the data have factors."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvae import metrics
from kvae.data import disk
from kvae.dataloaders.batches import hold_out
from kvae.exporting.keras_model import KerasModel
from kvae.training import run_data
from kvae.training.config import Config
from kvae.training.defaults import with_axes
from kvae.training.loop import Run
from kvae.tuning.factors import Factors
from kvae.tuning.plan import DCI_ROWS, Plan
from kvae_serve.errors import InputDataError
from kvae_serve.evaluation import evaluate
from kvae_serve.readers import Dataset

#: Validation examples and draws of z of `val_nll`.
NLL_EXAMPLES, NLL_DRAWS = 1000, 100
_BATCH = 4096


def measure(plan: Plan, config: Config, run: Run) -> dict[str, float]:
    """Return the figures of a run by name.

    `val_elbo`, `val_reconstruction` and `val_kl` (nats per example) and `val_active_units` are those of the validation
    data at the end of training. `val_nll` is estimated only if it is the metric. `val_mig` is the mutual information
    gap on the validation data, if all factors vary there; `mig`, `factor_vae_score` and `dci_disentanglement` are those
    of all data, as published ones are, and only of a grid. The gap and DCI need at least two dimensions of z.
    """
    validation = run.metadata["training"]["validation"]
    figures = {f"val_{name}": float(validation[name]) for name in ("elbo", "reconstruction", "kl", "active_units")}
    figures["epochs"] = float(run.metadata["training"]["epochs"])
    dataset, seed = with_axes(config, plan.dataset), config.training.seed
    rows = hold_out(len(dataset.x), validation["examples"], seed)[1]
    if plan.metric == "val_nll":
        x, conditions = run_data.take(dataset, rows[:NLL_EXAMPLES])
        document = evaluate(KerasModel(run.model), np.asarray(x), conditions, importance_samples=NLL_DRAWS, seed=seed)
        figures["val_nll"] = document["figures"]["nll"]["mean"]
    if plan.factors:
        try:
            figures["val_mig"] = metrics.mig(_encode(run.model, dataset, rows), plan.factors.classes[rows])
        except InputDataError:  # z has one dimension, or a factor does not vary among so few examples
            if plan.metric == "val_mig":
                raise
        if plan.is_grid:
            figures |= _disentanglement(run.model, dataset, plan.factors, seed)
    return figures


def _disentanglement(model: Any, dataset: Dataset, factors: Factors, seed: int) -> dict[str, float]:
    """Return the scores of the mean codes (`z_mean`) of all data."""
    codes = _encode(model, dataset, np.arange(len(dataset.x)))
    figures = {}
    if len(codes) == np.prod(factors.sizes) == len(np.unique(factors.classes, axis=0)):
        sampler, sizes = metrics.grid_sampler(codes, factors.classes)
        figures["factor_vae_score"] = metrics.factor_vae_score(sampler, sizes, seed=seed)
    if codes.shape[1] > 1:
        figures["mig"] = metrics.mig(codes, factors.classes)
        rows = np.random.default_rng(0).permutation(len(codes))[:DCI_ROWS]
        dci = metrics.dci(codes[rows], factors.classes[rows], estimator="random_forest", seed=seed)
        figures["dci_disentanglement"] = dci.disentanglement
    return figures


def _encode(model: Any, dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """Return z_mean of some examples, float32 `[rows, latent_dim]`."""
    parts = []
    for start in range(0, len(rows), _BATCH):
        chunk = rows[start : start + _BATCH]
        conditions = {name: values[chunk] for name, values in dataset.conditions.items()}
        parts.append(model.encode(np.asarray(disk.take(dataset.x, chunk)), conditions or None)[0])
    return np.concatenate(parts)
