"""What watches a run of `fit`: figures, progress, reasons to stop, and what is kept on the disk."""

from kvae.callbacks.board import Board
from kvae.callbacks.keeping import History, KeepCheckpoints, KeepModel
from kvae.callbacks.latents import Latents
from kvae.callbacks.progress import Progress
from kvae.callbacks.stopping import StopEarly, StopOnInterrupt, StopOnNaN

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
