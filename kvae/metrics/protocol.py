"""Settings of Locatello et al. (2019), https://arxiv.org/abs/1811.12359.

They were compared with the code and configurations of disentanglement_lib.
"""

NUM_BINS = 20
"""Bins of equal width over the range of each code, for mutual information."""

NUM_TRAIN = 10_000
"""Points to fit; also the points for MIG, modularity and the metrics of codes."""

NUM_TEST = 5_000
"""Points to test."""

BATCH_SIZE = 64
"""Examples per point of the beta-VAE and FactorVAE scores."""

NUM_VARIANCE = 10_000
"""Examples for the overall variance of each code in the FactorVAE score."""

PRUNE_SD = 0.05
"""FactorVAE score: codes with a smaller standard deviation are left out (disentanglement_lib defaults to 0)."""

SVC_C = 0.01
"""SAP: C of the linear support vector machine with balanced classes."""
