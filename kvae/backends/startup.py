"""Selection of the Keras backend: check that it is installed, and import it with its start-up log silenced.

This module does not import Keras before `open_quietly` is called.
"""

import contextlib
import importlib.util
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from kvae_serve.errors import KvaeError, MissingExtraError, RequestError

#: Packages that training needs, by backend, and the extra that installs them.
_NEEDS = {
    "tensorflow": (("tensorflow", "keras", "tf2onnx", "onnx", "tomli_w"), "train"),
    "jax": (("jax", "keras", "tomli_w"), "jax"),
    "torch": (("torch", "keras", "tomli_w"), "torch"),
}


def chosen() -> str:
    """Return the backend that Keras will use: `KERAS_BACKEND`, else the one in keras.json, else tensorflow."""
    if name := os.environ.get("KERAS_BACKEND"):
        return name
    home = Path(os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras"))  # noqa: PTH111 - works without HOME
    try:
        return str(json.loads((home / "keras.json").read_text(encoding="utf-8")).get("backend", "tensorflow"))
    except (OSError, ValueError, AttributeError):
        return "tensorflow"


def require_to_train(tensorboard: object = None) -> None:
    """Raise MissingExtraError unless the packages that train on the chosen backend are installed. Import nothing.

    Args:
        tensorboard: Folder for TensorBoard, or None. TensorFlow writes these files.
    """
    name = chosen()
    if name not in _NEEDS:
        *others, last = _NEEDS
        known = f"{', '.join(others)} and {last}"
        raise RequestError(f"KERAS_BACKEND is {name}; kvae trains on {known}. Set it to one of them.")
    if missing := _missing(name):
        found = next((each for each in _NEEDS if name == "tensorflow" and not _missing(each)), None)
        other = f", or set KERAS_BACKEND={found}, which is installed" if found else ""
        raise MissingExtraError(
            f"{missing} is not installed; training needs it. Run pip install 'kvae-onnx[{_NEEDS[name][1]}]'{other}."
        )
    if tensorboard and importlib.util.find_spec("tensorflow") is None:
        raise MissingExtraError(
            "tensorflow is not installed; --tensorboard needs it. Run pip install 'kvae-onnx[train]'."
        )


def require() -> None:
    """Raise MissingExtraError unless the packages that export are installed (TensorFlow). Import nothing."""
    if missing := _missing("tensorflow"):
        raise MissingExtraError(f"{missing} is not installed; export needs it. Run pip install 'kvae-onnx[train]'.")


def can_export() -> bool:
    """Return whether the packages that export are installed. Import nothing."""
    return not _missing("tensorflow")


def _missing(name: str) -> str | None:
    return next((each for each in _NEEDS[name][0] if importlib.util.find_spec(each) is None), None)


def open_quietly(name: str | None = None, prepare: Callable[[], None] | None = None, network: str | None = None) -> str:
    """Import Keras and its backend, start the devices, and return a description of the devices.

    The libraries write to stderr before their log level can be set, so stderr is redirected meanwhile. If the import
    fails, the redirected output is shown.

    Args:
        name: Backend; the chosen one by default.
        prepare: Function that is called after the import and before the devices start.
        network: Kind of network that will be trained. TensorFlow's use of the processors depends on it.
    """
    os.environ["KERAS_BACKEND"] = name = name or chosen()
    if name == "tensorflow" and network in ("conv", "residual"):
        _enable_onednn()
    with _stderr_redirected():
        if name == "torch":
            _disable_mps()
        import keras  # noqa: F401 - imported here for later use

        if name == "tensorflow" and network == "dense":
            _set_one_intra_op_thread()
        if prepare:
            prepare()
        if name == "tensorflow":
            return _tensorflow_devices()
        _hide_tensorflow_from_keras()
        return _jax_devices() if name == "jax" else _torch_devices()


def _enable_onednn() -> None:
    """Select the oneDNN kernels before TensorFlow is imported, on any x86-64 processor.

    TensorFlow selects them by itself only on processors with AVX-512 or the like. Without AVX-512 they make
    convolutions 1.5 times as fast and do not change dense networks (benchmarks/RESULTS.md).
    """
    if platform.machine().lower() in ("x86_64", "amd64"):
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def _set_one_intra_op_thread() -> None:
    """On two processors run each TensorFlow operation on one thread, so that two operations run at a time.

    Dense networks train 1.3 times as fast; convolutions do not (benchmarks/RESULTS.md). This was not measured on more
    than two processors.
    """
    import tensorflow as tf

    if "TF_NUM_INTRAOP_THREADS" in os.environ or _processors() > 2 or tf.config.list_physical_devices("GPU"):
        return
    with contextlib.suppress(RuntimeError):  # the devices have started already
        tf.config.threading.set_intra_op_parallelism_threads(1)


def _disable_mps() -> None:
    """Train on the CPU of a Mac under PyTorch: its GPU lacks float64, which the sums of losses need."""
    import torch

    if torch.backends.mps.is_available():
        os.environ.setdefault("KERAS_TORCH_DEVICE", "cpu")


def _hide_tensorflow_from_keras() -> None:
    """Stop Keras from importing TensorFlow under another backend. The import takes seconds and memory.

    Keras looks for TensorFlow once per process, when it first sets a seed.
    """
    import keras

    if "tensorflow" in sys.modules:
        return
    sys.modules["tensorflow"] = None  # type: ignore[assignment]
    try:
        keras.utils.set_random_seed(0)
    finally:
        del sys.modules["tensorflow"]


def _tensorflow_devices() -> str:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    tf.config.list_logical_devices()
    if not gpus:
        return f"CPU, {_processors()} cores"
    details = (tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus)
    return f"GPU: {', '.join(details)}"


def _processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _jax_devices() -> str:
    import jax

    devices = jax.devices()
    if devices[0].platform == "cpu":
        return f"CPU, {_processors()} cores, with JAX"
    return f"{devices[0].platform.upper()}: {', '.join(device.device_kind for device in devices)}, with JAX"


def _torch_devices() -> str:
    import keras
    import torch

    if (device := keras.ops.zeros(()).device).type == "cuda":
        return f"GPU: {torch.cuda.get_device_name(device)}, with PyTorch"
    return f"{device.type.upper()}, {_processors()} cores, with PyTorch"


@contextlib.contextmanager
def _stderr_redirected() -> Iterator[None]:
    sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # stderr is closed
        yield
        return
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        except KvaeError:  # its message is enough
            raise
        except Exception:
            os.dup2(saved, 2)
            captured.seek(0)
            os.write(2, captured.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
