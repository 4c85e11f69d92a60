"""What a Gaussian fitted to the codes says: their total correlation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kvae.metrics.validation import check_codes, is_constant
from kvae_serve.errors import InputDataError


def total_correlation(codes: Any) -> float:
    """KL from the Gaussian fitted to the codes to the product of its marginals.

    In closed form -1/2 log det R with R the correlation matrix, which is the published
    1/2 (sum of log variances - log det covariance). It sees linear dependence only.

    Args:
        codes: numbers `[num, num_codes]`, more rows than codes. 10,000 rows are the protocol; all rows given are used.

    Returns:
        Nats, at least 0. Constant codes depend on nothing and are left out; 0 where one code or none is left.
        Infinite, as it truly is, where a code is a linear function of others up to rounding.

    Reference: Locatello et al. (2019), https://arxiv.org/abs/1811.12359, section 5.2; Watanabe (1960).
    """
    codes = check_codes(codes)
    live = codes[:, ~is_constant(codes)].astype(np.float64)
    if live.shape[1] < 2:
        return 0.0
    if len(live) <= live.shape[1]:
        raise InputDataError(
            f"codes has {len(live)} rows for {live.shape[1]} codes, expected more rows than codes. Give more examples."
        )
    live -= live.mean(axis=0)
    live /= np.abs(live).max(axis=0)
    live /= np.linalg.norm(live, axis=0)
    singular = np.linalg.svd(live, compute_uv=False)
    # The squares of these are the eigenvalues of R. float32 codes are whole only to their own precision.
    precision = float(np.finfo(codes.dtype).eps) if codes.dtype == np.float32 else float(np.finfo(np.float64).eps)
    if singular[-1] <= precision * math.sqrt(live.shape[1]) * 4.0:
        return math.inf
    return max(0.0, -float(np.log(singular).sum()))
