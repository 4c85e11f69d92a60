"""Distribution of a run: one device, several devices of this machine, or several worker processes.

A run is trained by the same code in all three cases. Several workers take every step together; only the first of them,
the chief, writes files and messages.
"""

import contextlib
import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kvae.dataloaders import batches as pipeline
from kvae.training import checkpoint, run_folder
from kvae.training.cluster import Cluster
from kvae_serve.errors import InputDataError, RequestError, WorkerLostError, printable


@dataclass(frozen=True)
class ValidationBatches:
    """Batches of validation. An iteration gives each batch once.

    Attributes:
        dataset: Dataset for `fit`.
        steps: Number of steps after which the dataset repeats; None if it is finite.
    """

    dataset: Any
    steps: int | None

    def __iter__(self) -> Iterator:
        return itertools.islice(self.dataset, self.steps)


class Distribution:
    """One device, and the interface of the other distributions."""

    #: Strategy or distribution of Keras under which the model is built; None for one device.
    strategy: Any = None
    num_replicas = 1
    num_workers = 1
    is_chief = True

    def steps_per_epoch(self, batches: pipeline.Batches) -> int | None:
        """Return the argument of `fit`, None if the dataset is finite."""
        return None

    def scope(self) -> contextlib.AbstractContextManager:
        """Return the context in which the model must be built."""
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()

    def require_even(self, batch_size: int) -> None:
        """Raise RequestError unless the batch size is a multiple of the number of devices."""
        if batch_size % self.num_replicas:
            below = batch_size // self.num_replicas * self.num_replicas
            sizes = [below] * (below > 0) + [below + self.num_replicas]
            raise RequestError(
                f"--batch-size is {batch_size}; expected a multiple of the {self.num_replicas} devices. Use "
                f"--batch-size {' or '.join(map(str, sizes))}."
            )

    def training_batches(self, x: Any, conditions: Any, batch_size: int, seed: int) -> pipeline.Batches:
        """Return the training batches, see `kvae.dataloaders.batches`."""
        with self.scope():
            return pipeline.training_batches(x, conditions, batch_size, seed)

    def validation_batches(self, x: Any, conditions: Any, batch_size: int) -> ValidationBatches:
        """Return the validation batches, see `kvae.dataloaders.batches`."""
        with self.scope():
            return ValidationBatches(pipeline.validation_batches(x, conditions, batch_size), None)

    def lock(self, directory: Path) -> contextlib.AbstractContextManager:
        """Return a context in which the chief locks the folder of the run."""
        return run_folder.lock(directory) if self.is_chief else contextlib.nullcontext()

    def require_same(self, config: Any, fingerprint: dict, model: keras.Model) -> None:
        """Raise InputDataError unless all workers start with the same settings, data and weights.

        Args:
            config: `kvae.training.config.Config`. The path of the data may differ between workers.
            fingerprint: Fingerprint of the data, as JSON.
            model: Compiled model with its initial weights.
        """

    def any(self, flag: bool) -> bool:
        """Return whether `flag` is true on any worker. All workers must call this at the same time."""
        return bool(flag)

    def watching(self, directory: Path | None = None) -> contextlib.AbstractContextManager:
        """Return a context that turns the loss of a worker into WorkerLostError.

        Args:
            directory: Folder of the run, for the message; None if nothing is written yet.
        """
        return contextlib.nullcontext()


class JaxDistribution(Distribution):
    """Several devices of this process under JAX, through `keras.distribution.DataParallel`.

    XLA splits the step over the devices. The noise and the objective are those of the whole batch, so the run equals
    one on a single device up to rounding.
    """

    def __init__(self, devices: int):
        self.num_replicas = devices
        self.strategy = keras.distribution.DataParallel(devices=keras.distribution.list_devices()[:devices])


class TensorFlowDistribution(Distribution):
    """A strategy of `tf.distribute`, with several devices or workers.

    Args:
        strategy: `MirroredStrategy` or `MultiWorkerMirroredStrategy`.
        cluster: The workers; None for one process.
    """

    def __init__(self, strategy: Any, cluster: Cluster | None = None):
        from kvae.dataloaders.distributed import Shard

        self.strategy = strategy
        self.num_replicas = strategy.num_replicas_in_sync
        self.num_workers = cluster.num_workers if cluster else 1
        self._worker = cluster.index if cluster else 0
        self.is_chief = self._worker == 0
        self._shard = Shard(self._worker, self.num_workers, self.num_replicas // self.num_workers)

    def steps_per_epoch(self, batches: pipeline.Batches) -> int | None:
        """Return the number of steps, because the dataset is infinite."""
        return batches.steps

    def training_batches(self, x: Any, conditions: Any, batch_size: int, seed: int) -> pipeline.Batches:
        """Return the training batches; each device receives its shard of every batch."""
        from kvae.dataloaders import distributed

        batches = distributed.training_batches(x, conditions, batch_size, seed, self._shard)
        return batches._replace(dataset=self._distribute(batches.dataset))

    def validation_batches(self, x: Any, conditions: Any, batch_size: int) -> ValidationBatches:
        """Return the validation batches; each device receives some of them."""
        from kvae.dataloaders import distributed

        dataset = self._distribute(distributed.validation_batches(x, conditions, batch_size, self._shard))
        return ValidationBatches(dataset, distributed.validation_steps(len(x), batch_size, self._shard))

    def _distribute(self, dataset: Any) -> Any:
        return self.strategy.distribute_datasets_from_function(lambda _: dataset)

    def require_same(self, config: Any, fingerprint: dict, model: keras.Model) -> None:
        """Compare digests of settings, data and weights over the workers."""
        if self.num_workers == 1:
            return
        weights = hashlib.sha256()
        for name, array in checkpoint.capture(model).items():
            weights.update(name.encode() + array.tobytes())
        digests = {
            "settings": hashlib.sha256(config.replace(data="").to_toml().encode()),
            "data": hashlib.sha256(json.dumps(fingerprint).encode()),
            "weights": weights,
        }
        numbers = np.array([np.frombuffer(each.digest()[:8], "int64")[0] for each in digests.values()])
        for name, values in zip(digests, self._gather(numbers).T, strict=True):
            if len(other := np.flatnonzero(values != values[0])):
                raise InputDataError(
                    f"The {name} of worker {other[0]} differ from those of the chief. Start all workers with the same "
                    "command, data and versions, and resume from copies of the same folder."
                )

    def any(self, flag: bool) -> bool:
        """Return whether `flag` is true on any worker. Waits for all workers."""
        return bool(flag) if self.num_workers == 1 else bool(self._gather(np.array([int(flag)])).any())

    def _gather(self, numbers: np.ndarray) -> np.ndarray:
        """Return the integers `[n]` of each worker as `[workers, n]` on all workers."""
        own = np.zeros((self.num_workers, len(numbers)), "int64")
        own[self._worker] = numbers
        return np.asarray(self.strategy.reduce("SUM", keras.ops.convert_to_tensor(own), axis=None))

    @contextlib.contextmanager
    def watching(self, directory: Path | None = None) -> Iterator[None]:
        """Turn the loss of a worker into WorkerLostError, whose message contains the command that resumes."""
        if self.num_workers == 1:
            yield
            return
        from kvae.backends.tensorflow import strategies

        try:
            yield
        except strategies.LOST as error:
            then = f": kvae train --resume {directory}" if directory else "."
            raise WorkerLostError(
                f"A worker was lost, so worker {self._worker} of {self.num_workers} stops too "
                f"({type(error).__name__}: {printable(error.message.partition(chr(10))[0])}). See the last message of "
                f"the lost worker, then start all workers again{then}"
            ) from error


def start(cluster: Cluster | None = None, devices: int | None = None) -> Distribution:
    """Start the devices that train together. Call this before the backend starts them by itself.

    Args:
        cluster: The workers, or None for this process only.
        devices: Number of GPUs (on a machine without a GPU, of parts of the CPU); None for all.

    Raises:
        RequestError: If the machine has fewer devices, or the backend cannot distribute.
        WorkerLostError: If the workers do not find each other.
    """
    if cluster is None and devices == 1:
        return Distribution()
    backend = keras.backend.backend()
    if backend == "jax" and cluster is None:
        return _start_jax(devices)
    if backend != "tensorflow":
        several = "several workers (TF_CONFIG)" if cluster else "several devices"
        known = "tensorflow" if cluster else "tensorflow or jax"
        raise RequestError(f"KERAS_BACKEND is {backend}; {several} need {known}. Set it, or train on one device.")
    from kvae.backends.tensorflow import strategies

    strategy = strategies.create(cluster, devices)
    return TensorFlowDistribution(strategy, cluster) if strategy else Distribution()


def _start_jax(devices: int | None) -> Distribution:
    import jax

    with contextlib.suppress(RuntimeError):  # the devices have started already
        jax.config.update("jax_num_cpu_devices", devices or 1)
    available = len(jax.devices())
    requested = devices or available
    if requested > available:
        raise RequestError(f"--devices is {requested}, but this machine has {available} devices. Use --devices all.")
    return JaxDistribution(requested) if requested > 1 else Distribution()
