"""Total correlation of a Gaussian that is fitted to the codes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kvae.metrics.validation import check_codes, is_constant
from kvae_serve.errors import InputDataError


def total_correlation(codes: Any) -> float:
    """Compute the KL from the Gaussian that is fitted to the codes to the product of its marginals.

    The closed form is -1/2 log det R with the correlation matrix R, which equals the published
    1/2 (sum of log variances - log det covariance). It measures linear dependence only.

    Args:
        codes: Numbers `[num, num_codes]`, more rows than codes. The protocol has 10,000 rows; all rows are used.

    Returns:
        float of at least 0, in nats. Constant codes are left out; the result is 0 if fewer than two codes remain. It
        is infinite if a code is a linear function of others up to rounding.

    Raises:
        InputDataError: If the codes are invalid, or there are not more rows than codes.

    Example:
        >>> import numpy as np
        >>> import kvae
        >>> codes = np.random.default_rng(0).normal(size=(10_000, 2)) @ [[1.0, 0.6], [0.0, 0.8]]
        >>> round(kvae.metrics.total_correlation(codes), 2)  # -1/2 log(1 - 0.6^2)
        0.22

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
    # Their squares are the eigenvalues of R. Codes in float32 are exact only to that precision.
    precision = float(np.finfo(codes.dtype).eps) if codes.dtype == np.float32 else float(np.finfo(np.float64).eps)
    if singular[-1] <= precision * math.sqrt(live.shape[1]) * 4.0:
        return math.inf
    return max(0.0, -float(np.log(singular).sum()))
