"""Metrics of disentanglement, from latent codes and the factors that generated the data, and of anomaly detection.

Codes may come from any model; Keras is not imported. The settings are those of Locatello et al. (2019),
https://arxiv.org/abs/1811.12359, see `kvae.metrics.protocol`. With their numbers of points (10,000 to train, 5,000 to
test) and mean codes (`z_mean`, not a draw of z) the results are comparable with published ones. Differences between
seeds of one model are larger than most effects, so report medians of several seeds.

- From arrays, `codes` `[num, num_codes]` and `factors` `[num, num_factors]`: `mig`, `sap`, `dci`, `modularity`,
  `explicitness`.
- From codes: `total_correlation`, `code_mutual_information`.
- From scores and labels of anomalies: `detection_figures`, `detection_curves`.
- From a function that encodes on demand, `(factors) -> codes`: `beta_vae_score`, `factor_vae_score`. `grid_sampler`
  creates such a function from arrays.

`mig`, `modularity`, `factor_vae_score` and the metrics of codes need numpy only. The others need scikit-learn:
`pip install '.[evaluate]'` in a checkout.

Every result is finite, except that `total_correlation` can be infinite. Each docstring states the result for dead
(constant) codes. Invalid data raise `kvae_serve.errors.InputDataError`, a ValueError. All randomness comes from the
`seed` argument; numpy's global generator is not used.

Example:
    >>> import numpy as np
    >>> import kvae
    >>> factors = np.random.default_rng(0).integers((3, 6), size=(1000, 2))
    >>> round(kvae.metrics.mig(codes=factors + 0.0, factors=factors), 1)  # perfect codes
    1.0
"""

from kvae.metrics.dci import DCI, dci
from kvae.metrics.detection import detection_curves, detection_figures
from kvae.metrics.explicitness import explicitness
from kvae.metrics.mutual_information import code_mutual_information, mig, modularity, mutual_information
from kvae.metrics.sap import sap
from kvae.metrics.total_correlation import total_correlation
from kvae.metrics.vae_scores import beta_vae_score, factor_vae_score, grid_sampler

__all__ = [
    "DCI",
    "beta_vae_score",
    "code_mutual_information",
    "dci",
    "detection_curves",
    "detection_figures",
    "explicitness",
    "factor_vae_score",
    "grid_sampler",
    "mig",
    "modularity",
    "mutual_information",
    "sap",
    "total_correlation",
]
