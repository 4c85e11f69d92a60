"""What watches a run of `fit`: figures, progress, reasons to stop, and what is kept on the disk."""

from kvae.training.callbacks.checkpointing import History, KeepCheckpoints, KeepModel
from kvae.training.callbacks.latent_usage import Latents
from kvae.training.callbacks.progress import Progress
from kvae.training.callbacks.stopping import StopEarly, StopOnInterrupt, StopOnNaN
from kvae.training.callbacks.tensorboard import Board

__all__ = [
    "Board",
    "History",
    "KeepCheckpoints",
    "KeepModel",
    "Latents",
    "Progress",
    "StopEarly",
    "StopOnInterrupt",
    "StopOnNaN",
]
