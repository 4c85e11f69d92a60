"""Keras callbacks of a training run: metrics, progress, stopping and saving."""

from kvae.training.callbacks.checkpointing import History, SaveCheckpoints, SaveModel
from kvae.training.callbacks.latent_usage import LatentUsage
from kvae.training.callbacks.progress import Progress
from kvae.training.callbacks.stopping import EarlyStopping, StopOnInterrupt, StopOnNaN
from kvae.training.callbacks.tensorboard import TensorBoardScalars

__all__ = [
    "EarlyStopping",
    "History",
    "LatentUsage",
    "Progress",
    "SaveCheckpoints",
    "SaveModel",
    "StopOnInterrupt",
    "StopOnNaN",
    "TensorBoardScalars",
]
