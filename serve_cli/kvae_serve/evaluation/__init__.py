"""Honest numbers from the exported files: likelihood and latent space, with numpy and ONNX Runtime alone."""

from kvae_serve.evaluation.evaluate import evaluate

__all__ = ["evaluate"]
