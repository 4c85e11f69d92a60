"""Keras backends: start-up, and training steps, noise and loss tracker for each of them."""
