"""Small training runs on the digits that ship with kvae."""

from pathlib import Path

from kvae.training import checkpoint, config, run_folder
from kvae.training import train as training

SMALL = {
    "data": "mnist-sample", "validation": 100, "epochs": 4, "latent_dim": 3, "batch_size": 50, "steps_per_execution": 4,
    "encoder_hidden": (16,), "decoder_hidden": (16,), "checkpoint_every": 1, "network": "dense",
    "likelihood": "bernoulli",
}  # fmt: skip


def settings(**changes):
    """Configuration of a small run: 10 steps per epoch."""
    return config.Config().replace(**{**SMALL, **changes})


def train(directory, *, quiet=True, export_check=False, tensorboard=None, callbacks=(), **changes):
    """Train a small run without the export check."""
    return training.train(
        settings(**changes),
        directory,
        quiet=quiet,
        export_check=export_check,
        tensorboard=tensorboard,
        callbacks=callbacks,
    )


def latest(directory):
    """Latest checkpoint of a run."""
    return checkpoint.Store(Path(directory) / run_folder.CHECKPOINTS).latest()[0]
