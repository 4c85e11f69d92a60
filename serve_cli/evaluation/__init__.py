"""Honest numbers from the exported files: likelihood and latent space, with numpy and ONNX Runtime alone."""

from serve_cli.evaluation.evaluate import evaluate

__all__ = ["evaluate"]
