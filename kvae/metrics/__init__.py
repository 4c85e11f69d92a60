"""How disentangled codes are: figures from arrays of codes and of the factors that made the data.

Codes come from any model, yours or not; nothing here opens Keras. The settings are those of Locatello et al. (2019),
https://arxiv.org/abs/1811.12359, named in `kvae.metrics.protocol`, so with their counts of points (10,000 to train,
5,000 to test) and mean codes (`z_mean`, not a draw of z) the figures can be set beside published ones. Differences
between seeds of one model are larger than most effects: report medians of several.

Of arrays, `codes` `[num, num_codes]` and `factors` `[num, num_factors]`:
`mig`, `sap`, `dci`, `modularity`, `explicitness`. Of codes alone: `total_correlation`, `code_mutual_information`.
Of a function that encodes what it is asked for, `(factors) -> codes`: `beta_vae_score`, `factor_vae_score`;
`grid_sampler` makes such a function of arrays. `mig`, `modularity`, `factor_vae_score` and the two of codes alone need
numpy only, the others scikit-learn: pip install 'kvae-onnx[evaluate]'.

Every figure is a finite number whatever the codes, but for `total_correlation`, which is infinite where it is: each
function says what dead (constant) codes give. Data that cannot be judged raise `kvae_serve.errors.InputDataError`, a
ValueError. All randomness comes from the `seed` argument; numpy's global generator is neither read nor moved.
"""

from kvae.metrics.dci import DCI, dci
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
    "explicitness",
    "factor_vae_score",
    "grid_sampler",
    "mig",
    "modularity",
    "mutual_information",
    "sap",
    "total_correlation",
]
