"""Evaluation of exported files on data: likelihood and latent space, with NumPy and ONNX Runtime only."""

from kvae_serve.evaluation.evaluate import evaluate

__all__ = ["evaluate"]
