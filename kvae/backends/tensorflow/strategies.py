"""Strategies of `tf.distribute`: several devices of this machine, or the workers of a cluster."""

import signal
import threading
from typing import Any

import tensorflow as tf

from kvae.backends.tensorflow import private_api
from kvae_serve.errors import RequestError, WorkerLostError, printable

#: Errors of a collective operation after a worker was lost.
LOST = (
    tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError, tf.errors.CancelledError,
    tf.errors.InternalError, tf.errors.FailedPreconditionError, tf.errors.UnknownError,
)  # fmt: skip

# How long workers wait for all to start, for a silent worker, and for a worker that is late in a step. The chief is
# late while it writes.
_START_SECONDS, _SILENT_SECONDS, _STEP_SECONDS = 300, 30, 600


def create(cluster: Any, devices: int | None) -> Any:
    """Start the devices of this process and return their strategy, None for one device.

    Call this before TensorFlow starts the devices by itself.

    Args:
        cluster: `kvae.training.cluster.Cluster`, or None for this process only.
        devices: Number of GPUs (on a machine without a GPU, of parts of the CPU); None for all.

    Raises:
        RequestError: If the machine has fewer devices.
        WorkerLostError: If the workers do not find each other.
    """
    private_api.disable_device_autotune()
    if cluster:
        return _connect_workers(cluster)
    gpus = tf.config.list_physical_devices("GPU")
    requested = devices or max(1, len(gpus))
    if requested == 1:
        return None
    if not gpus:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * requested)
    elif requested > len(gpus):
        raise RequestError(f"--devices is {requested}, but this machine has {len(gpus)} GPUs. Use --devices all.")
    kind = "GPU" if gpus else "CPU"
    return tf.distribute.MirroredStrategy([f"{kind}:{i}" for i in range(requested)])


def _connect_workers(cluster: Any) -> Any:
    private_api.set_coordination_timeouts(cluster, _START_SECONDS, _SILENT_SECONDS)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy(
            communication_options=tf.distribute.experimental.CommunicationOptions(timeout_seconds=_STEP_SECONDS)
        )
    except (tf.errors.OpError, RuntimeError) as error:
        raise WorkerLostError(
            f"The {cluster.num_workers} workers did not find each other ({type(error).__name__}: "
            f"{printable(str(error).partition(chr(10))[0])}). Start all of them within {_START_SECONDS} s, and check "
            f"that {cluster.addresses[cluster.index]} is free here and that they reach {cluster.addresses[0]} and "
            "each other."
        ) from error
    # TensorFlow installs a SIGTERM handler that only logs a warning. End the process at once, so that the other workers
    # notice: an orderly end would wait for them.
    if threading.current_thread() is threading.main_thread():
        for name in {"SIGTERM", "SIGHUP"} & set(dir(signal)):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    return strategy
