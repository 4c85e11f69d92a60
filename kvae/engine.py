"""Opening TensorFlow without its monologue: what its libraries say on start-up is about their build, not the run."""

import contextlib
import importlib.util
import os
import sys
import tempfile

from serve_cli.errors import MissingExtraError


def require():
    """Raise MissingExtraError unless what trains and exports is installed; opens none of it."""
    for name in ("tensorflow", "keras", "tf2onnx", "onnx", "tomli_w"):
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(f"This needs {name}, which is not installed: pip install 'kvae-onnx[train]'.")


def open_quietly():
    """Import Keras and TensorFlow, start the devices, and return what training runs on, for people.

    The libraries write to the process's standard error before any setting of theirs is heard, so it is set aside for
    the moment. Where the import fails, all that they wrote is shown.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _standard_error_aside():
        import keras  # noqa: F401 - opened here, used by who comes next
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        tf.config.list_logical_devices()
    if not gpus:
        return f"CPU, {os.cpu_count()} cores"
    details = (tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus)
    return f"GPU: {', '.join(details)}"


@contextlib.contextmanager
def _standard_error_aside():
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # closed by whoever started us: nothing to set aside
        yield
        return
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except Exception:
            os.dup2(kept, 2)
            aside.seek(0)
            os.write(2, aside.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
