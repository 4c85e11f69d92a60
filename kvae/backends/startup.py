"""Which engine Keras runs on, whether it is installed, and opening it without its monologue.

What the libraries say on start-up is about their build, not the run. Nothing here opens Keras before it is asked to.
"""

import contextlib
import importlib.util
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

from kvae_serve.errors import KvaeError, MissingExtraError, RequestError

#: Engine to the packages that train with it, and to the extra that brings them.
_NEEDS = {
    "tensorflow": (("tensorflow", "keras", "tf2onnx", "onnx", "tomli_w"), "train"),
    "jax": (("jax", "keras", "tomli_w"), "jax"),
    "torch": (("torch", "keras", "tomli_w"), "torch"),
}


def chosen():
    """The engine that Keras will take: `KERAS_BACKEND`, or what its own file of settings says, or tensorflow."""
    if name := os.environ.get("KERAS_BACKEND"):
        return name
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    try:
        return str(json.loads((home / "keras.json").read_text(encoding="utf-8")).get("backend", "tensorflow"))
    except (OSError, ValueError, AttributeError):
        return "tensorflow"


def require_to_train(tensorboard=None):
    """Raise MissingExtraError unless what trains on the chosen engine is installed; opens none of it.

    Args:
        tensorboard: a folder for TensorBoard's figures, which TensorFlow writes, or None.
    """
    name = chosen()
    if name not in _NEEDS:
        *others, last = _NEEDS
        known = f"{', '.join(others)} and {last}"
        raise RequestError(f"kvae trains on {known}, got KERAS_BACKEND={name}; set it to one of them.")
    if missing := _missing(name):
        found = next((each for each in _NEEDS if name == "tensorflow" and not _missing(each)), None)
        other = f"; or set KERAS_BACKEND={found}, which is" if found else ""
        raise MissingExtraError(
            f"This needs {missing}, which is not installed: pip install 'kvae-onnx[{_NEEDS[name][1]}]'{other}."
        )
    if tensorboard and importlib.util.find_spec("tensorflow") is None:
        raise MissingExtraError(
            "--tensorboard needs tensorflow, which is not installed: pip install 'kvae-onnx[train]'."
        )


def require():
    """Raise MissingExtraError unless what exports is installed, TensorFlow on any engine; opens none of it."""
    if missing := _missing("tensorflow"):
        raise MissingExtraError(f"This needs {missing}, which is not installed: pip install 'kvae-onnx[train]'.")


def can_export():
    """Whether what exports is installed; opens none of it."""
    return not _missing("tensorflow")


def _missing(name):
    return next((each for each in _NEEDS[name][0] if importlib.util.find_spec(each) is None), None)


def open_quietly(name=None, prepare=None, network=None):
    """Import Keras and its engine, start the devices, and return what it runs on, for people.

    The libraries write to the process's standard error before any setting of theirs is heard, so it is set aside for
    the moment. Where the import fails, all that they wrote is shown.

    Args:
        name: the engine; the chosen one where not given.
        prepare: called between the two, for what must be said before devices start.
        network: the kind of network that is to be trained, for which an engine may use the processors otherwise.
    """
    os.environ["KERAS_BACKEND"] = name = name or chosen()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if name == "tensorflow" and network in ("conv", "residual"):
        _convolve_by_onednn()
    with _standard_error_aside():
        if name == "torch":
            _leave_apples_gpu()
        import keras  # noqa: F401 - opened here, used by who comes next

        if name == "tensorflow" and network == "dense":
            _share_processors()
        if prepare:
            prepare()
        if name == "tensorflow":
            return _tensorflow_devices()
        _do_without_tensorflow()
        return _jax_devices() if name == "jax" else _torch_devices()


def _convolve_by_onednn():
    """Ask TensorFlow, before it is imported, for the kernels of oneDNN on any x86-64 processor.

    It takes them by itself only where there is AVX-512 or the like. Without it convolutions train 1.5 times as fast
    for them; dense networks do not care (benchmarks/RESULTS.md).
    """
    if platform.machine().lower() in ("x86_64", "amd64"):
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def _share_processors():
    """On two processors give each operation of TensorFlow one thread, before its devices start.

    Two operations at a time, a thread each, beat one operation that two threads share: dense nets train 1.3 times as
    fast (convolutions as before, or more slowly: benchmarks/RESULTS.md). More than two processors were not measured.
    """
    import tensorflow as tf

    if "TF_NUM_INTRAOP_THREADS" in os.environ or _processors() > 2 or tf.config.list_physical_devices("GPU"):
        return
    with contextlib.suppress(RuntimeError):  # the devices have started already
        tf.config.threading.set_intra_op_parallelism_threads(1)


def _leave_apples_gpu():
    """Have Keras train on a Mac's CPU under PyTorch: its GPU has no double precision, which sums of figures need."""
    import torch

    if torch.backends.mps.is_available():
        os.environ.setdefault("KERAS_TORCH_DEVICE", "cpu")


def _do_without_tensorflow():
    """Let Keras find no TensorFlow, unless it is open already: its import takes seconds, memory and lines, for nothing.

    Keras looks for it when it seeds, and when it saves; it looks once a process.
    """
    import keras

    if "tensorflow" in sys.modules:
        return
    sys.modules["tensorflow"] = None  # type: ignore[assignment]
    try:
        keras.utils.set_random_seed(0)
    finally:
        del sys.modules["tensorflow"]


def _tensorflow_devices():
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    tf.config.list_logical_devices()
    if not gpus:
        return f"CPU, {_processors()} cores"
    details = (tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus)
    return f"GPU: {', '.join(details)}"


def _processors():
    """How many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _jax_devices():
    import jax

    devices = jax.devices()
    if devices[0].platform == "cpu":
        return f"CPU, {_processors()} cores, with JAX"
    return f"{devices[0].platform.upper()}: {', '.join(device.device_kind for device in devices)}, with JAX"


def _torch_devices():
    import torch
    from keras.src.backend.torch.core import get_device

    if (device := torch.device(get_device())).type == "cuda":
        return f"GPU: {torch.cuda.get_device_name(device)}, with PyTorch"
    return f"{device.type.upper()}, {_processors()} cores, with PyTorch"


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
        except KvaeError:  # says by itself what is wrong
            raise
        except Exception:
            os.dup2(kept, 2)
            aside.seek(0)
            os.write(2, aside.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
