"""Whether an untrained model can be exported, asked before hours of training that could not ship."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import keras

from kvae.backends import startup
from kvae.exporting import graphs
from kvae.training import run_folder
from kvae_serve.errors import RequestError, VerificationError


def check(model, config, facts, x, warn):
    """Export a model to a temporary folder.

    Args:
        model: the untrained model, in float32.
        config: `kvae.training.config.Config` of the run.
        facts: of the run.
        x: some examples.
        warn: function of one line, for an engine from which nothing can be exported here.

    Raises:
        RequestError: where a layer has no ONNX form.
        VerificationError: where ONNX Runtime does not reproduce Keras.
    """
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside)
        if keras.backend.backend() == "tensorflow":
            graphs.export(model, folder / "model", examples=x)
        elif startup.can_export():
            model.save(folder / run_folder.MODEL)
            run_folder.write(folder, config, facts)
            _elsewhere(folder)
        else:
            warn("Whether the model can be exported is not checked: that needs TensorFlow, which is not installed.")


def _elsewhere(folder):
    """Export the run in a folder in a process of its own, on TensorFlow, which leaves the GPU to this one."""
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


def _main(folder):
    startup.open_quietly("tensorflow")
    from kvae.training import train

    try:
        graphs.export(train.load(folder)[0], folder / "model")
    except (RequestError, VerificationError) as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
