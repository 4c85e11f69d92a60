"""Streams of random numbers, so that no two uses share a number."""

TRAIN_LATENT, TRAIN_TARGET, TEST_LATENT, TEST_TARGET = range(4)
