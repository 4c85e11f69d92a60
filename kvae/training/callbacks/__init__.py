"""Keras callbacks of a training run: metrics, progress, stopping and saving."""

from kvae.training.callbacks.checkpointing import History, SaveModel
from kvae.training.callbacks.checkpointing import SaveCheckpoints as SaveCheckpoints
from kvae.training.callbacks.latent_usage import LatentUsage
from kvae.training.callbacks.progress import Progress
from kvae.training.callbacks.samples import SaveSamples
from kvae.training.callbacks.stopping import EarlyStopping, StopOnNaN
from kvae.training.callbacks.stopping import StopOnInterrupt as StopOnInterrupt
from kvae.training.callbacks.tensorboard import TensorBoardScalars

__all__ = [
    "EarlyStopping",
    "History",
    "LatentUsage",
    "Progress",
    "SaveModel",
    "SaveSamples",
    "StopOnNaN",
    "TensorBoardScalars",
]
