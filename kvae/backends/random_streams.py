"""Numbers of the random streams of training. No two uses share a random number."""

TRAIN_LATENT, TRAIN_TARGET, TEST_LATENT, TEST_TARGET = range(4)
