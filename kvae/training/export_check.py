"""Check that an untrained model can be exported, so that such an error comes before training and not after it.

`python -m kvae.training.export_check FOLDER` exports the run in a folder under TensorFlow: the check of a run that
trains on another backend.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kvae.backends import startup
from kvae.exporting import graphs
from kvae.training import run_folder, saved_run
from kvae.training.config import Config
from kvae_serve.errors import RequestError, VerificationError


def check(
    model: keras.Model, config: Config, metadata: dict[str, Any], x: np.ndarray, warn: Callable[[str], None]
) -> None:
    """Export a model to a temporary folder.

    Args:
        model: The untrained model, in float32.
        config: Settings of the run.
        metadata: Metadata of the run.
        x: Some examples, in data units.
        warn: Function that prints one line. Called if TensorFlow, which exports, is not installed.

    Raises:
        RequestError: If a layer does not have an ONNX form.
        VerificationError: If ONNX Runtime does not reproduce the outputs of Keras.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if keras.backend.backend() == "tensorflow":
            graphs.export(model, folder / "model", examples=x)
        elif startup.can_export():
            model.save(folder / run_folder.MODEL)
            run_folder.write(folder, config, metadata)
            _run_in_child(folder)
        else:
            warn("The export check is skipped because TensorFlow, which exports, is not installed.")


def _run_in_child(folder: Path) -> None:
    """Run `main` in a new process on TensorFlow, without the GPU that this process uses."""
    done = subprocess.run(
        [sys.executable, "-m", "kvae.training.export_check", str(folder)],
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        message = done.stderr.strip().splitlines()[-1]
        kind = RequestError if done.returncode == RequestError.exit_code else VerificationError
        raise kind(message)


def main(folder: Path) -> None:
    """Export the run in a folder. On an error print its message and exit with its exit code."""
    try:
        graphs.export(saved_run.load(folder)[0], folder / "model")
    except (RequestError, VerificationError) as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
