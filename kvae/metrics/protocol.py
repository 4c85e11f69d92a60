"""The settings of Locatello et al. (2019), https://arxiv.org/abs/1811.12359, by name.

Checked against the code and configurations of their library, disentanglement_lib.
"""

NUM_BINS = 20
"""Bins of equal width over each code's own range, for all that counts information."""

NUM_TRAIN = 10_000
"""Points to fit on; also the points that MIG, modularity and the unsupervised figures are computed from."""

NUM_TEST = 5_000
"""Points to test on."""

BATCH_SIZE = 64
"""Examples behind one point of the beta-VAE and FactorVAE scores."""

NUM_VARIANCE = 10_000
"""Examples that the FactorVAE score takes each code's overall variance from."""

PRUNE_SD = 0.05
"""FactorVAE score: codes whose standard deviation is below this are left out (the library itself defaults to 0)."""

SVC_C = 0.01
"""SAP: the strength of the linear support vector machine, whose classes are balanced."""
