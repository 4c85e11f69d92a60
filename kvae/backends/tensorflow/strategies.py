"""Strategies of `tf.distribute` for training: several devices of this machine, or the workers of a cluster."""

import signal
import threading

import tensorflow as tf

from kvae.backends.tensorflow.autotune import without_autotune
from kvae_serve.errors import RequestError, WorkerLostError, printable

#: What a collective operation ends with where a worker is gone.
LOST = (
    tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError, tf.errors.CancelledError,
    tf.errors.InternalError, tf.errors.FailedPreconditionError, tf.errors.UnknownError,
)  # fmt: skip

# How long workers wait for all to start; for one that says nothing; for one that is late in a step, as the chief is
# while it writes.
_START_SECONDS, _SILENT_SECONDS, _STEP_SECONDS = 300, 30, 600


def of(cluster, devices):
    """Start the devices of this process: to be called before TensorFlow has started them by itself.

    Args:
        cluster: `kvae.training.cluster.Cluster`, or None for this process alone.
        devices: how many GPUs (without one, parts of the CPU) to train on at once; None for all.

    Returns:
        The strategy; None for one device.

    Raises:
        RequestError: where there are fewer devices.
        WorkerLostError: where the workers do not find each other.
    """
    _end_promptly()
    if cluster:
        return _among_workers(cluster)
    gpus = tf.config.list_physical_devices("GPU")
    wanted = devices or max(1, len(gpus))
    if wanted == 1:
        return None
    if not gpus:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * wanted)
    elif wanted > len(gpus):
        raise RequestError(f"--devices {wanted}, but this machine shows {len(gpus)} GPUs; give --devices all.")
    kind = "GPU" if gpus else "CPU"
    return tf.distribute.MirroredStrategy([f"{kind}:{i}" for i in range(wanted)])


def _end_promptly():
    """Take the tuning from the datasets that TensorFlow makes of ours for each device, for they have no options.

    With it the end of training waited up to a minute for each device: see `without_autotune`.
    """
    from tensorflow.python.data.ops import multi_device_iterator_ops as made_by

    make = made_by._create_device_dataset
    if make.__module__ == made_by.__name__:  # not ours already
        made_by._create_device_dataset = lambda *args: without_autotune(make(*args))


def _among_workers(cluster):
    _set_patience(cluster)
    before = signal.getsignal(signal.SIGTERM)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy(
            communication_options=tf.distribute.experimental.CommunicationOptions(timeout_seconds=_STEP_SECONDS)
        )
    except (tf.errors.OpError, RuntimeError) as error:
        raise WorkerLostError(
            f"The {cluster.num_workers} workers did not find each other ({type(error).__name__}: "
            f"{printable(str(error).partition(chr(10))[0])}); start all of them within {_START_SECONDS} s, and see "
            f"that {cluster.addresses[cluster.index]} is free here, and that they reach {cluster.addresses[0]} and "
            "each other."
        ) from error
    # TensorFlow takes SIGTERM to itself, for a warning that nobody reads; the process would not end by it any more.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
    return strategy


def _set_patience(cluster):
    """Tell TensorFlow's coordination service how long to wait; a strategy that finds one set up leaves it as it is."""
    from tensorflow.python.distribute.collective_all_reduce_strategy import coordination_config_pb2
    from tensorflow.python.eager import context

    jobs = [coordination_config_pb2.CoordinatedJob(name=name, num_tasks=num) for name, num in cluster.tasks.items()]
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader=f"/job:{'chief' if 'chief' in cluster.tasks else 'worker'}/task:0",
        cluster_register_timeout_in_ms=1000 * _START_SECONDS,
        heartbeat_timeout_in_ms=1000 * _SILENT_SECONDS,
        shutdown_barrier_timeout_in_ms=1000 * _SILENT_SECONDS,
        coordinated_jobs=jobs,
    )
