"""Who trains a run: one device, several of this machine, or several workers, each a process that `TF_CONFIG` describes.

What differs between them is here, so that a run is trained by the same lines. Several workers take every step together;
the first of them, the chief, alone writes and speaks.
"""

import contextlib
import hashlib
import itertools
import json
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kvae.dataloaders import batches as pipeline
from kvae.training import checkpoint, run_folder
from kvae_serve.errors import InputDataError, RequestError, WorkerLostError, printable


@dataclass(frozen=True)
class ValidationBatches:
    """Batches of validation, each once in an iteration.

    Attributes:
        dataset: what `fit` takes.
        steps: after how many steps it begins again; None where it ends by itself.
    """

    dataset: Any
    steps: int | None

    def __iter__(self):
        return itertools.islice(self.dataset, self.steps)


class Distribution:
    """A strategy of `tf.distribute`, or none, and what a run needs of it.

    Args:
        strategy: a `MirroredStrategy`, a `MultiWorkerMirroredStrategy`, or None for one device.
        cluster: `kvae.training.cluster.Cluster` of the workers; None where there is one process.
    """

    def __init__(self, strategy=None, cluster=None):
        self.strategy = strategy
        self.num_replicas = strategy.num_replicas_in_sync if strategy else 1
        self.num_workers = cluster.num_workers if cluster else 1
        self._worker = cluster.index if cluster else 0
        self._share = (self._worker, self.num_workers, self.num_replicas // self.num_workers)

    def steps_per_epoch(self, batches):
        """What `fit` is told of `pipeline.Batches`, None where their dataset ends by itself."""
        return batches.steps if self.strategy else None

    @property
    def is_chief(self):
        """Whether this process writes and speaks."""
        return self._worker == 0

    def scope(self):
        """Context in which the model that trains is made."""
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()

    def require_even(self, batch_size):
        """Raise RequestError unless the devices can share a batch of so many examples evenly."""
        if batch_size % self.num_replicas:
            below = batch_size // self.num_replicas * self.num_replicas
            several = [below] * (below > 0) + [below + self.num_replicas]
            raise RequestError(
                f"{self.num_replicas} devices cannot share a batch of {batch_size} examples evenly; give --batch-size "
                f"{' or '.join(map(str, several))}."
            )

    def training_batches(self, x, conditions, batch_size, seed):
        """As `pipeline.training_batches`; each device is given its part of every batch."""
        if not self.strategy:
            return pipeline.training_batches(x, conditions, batch_size, seed)
        from kvae.dataloaders import distributed

        batches = distributed.training_batches(x, conditions, batch_size, seed, distributed.Share(*self._share))
        return batches._replace(dataset=self._spread(batches.dataset))

    def validation_batches(self, x, conditions, batch_size):
        """`ValidationBatches` over `pipeline.validation_batches`; each device is given some of the batches."""
        if not self.strategy:
            return ValidationBatches(pipeline.validation_batches(x, conditions, batch_size), None)
        from kvae.dataloaders import distributed

        share = distributed.Share(*self._share)
        dataset = self._spread(distributed.validation_batches(x, conditions, batch_size, share))
        return ValidationBatches(dataset, distributed.validation_steps(len(x), batch_size, share))

    def _spread(self, dataset):
        return self.strategy.distribute_datasets_from_function(lambda _: dataset)

    def lock(self, directory):
        """Lock the folder of the run on the chief, as `run_folder.lock`; the other workers do not write."""
        return run_folder.lock(directory) if self.is_chief else contextlib.nullcontext()

    def require_same(self, config, fingerprint, model):
        """Raise InputDataError unless all workers begin alike; else they would learn nothing of use together.

        Args:
            config: `kvae.training.config.Config`; where the data lie is for each worker to know.
            fingerprint: of the data, as JSON.
            model: compiled, with the weights that it begins with.
        """
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
        everybody = self._gather(np.array([np.frombuffer(each.digest()[:8], "int64")[0] for each in digests.values()]))
        for name, found in zip(digests, everybody.T, strict=True):
            if len(other := np.flatnonzero(found != found[0])):
                raise InputDataError(
                    f"Worker {other[0]} has other {name} than the chief; start all workers with the same command, data "
                    "and versions, and resume from copies of the same folder."
                )

    def any(self, flag):
        """Whether `flag` is true on some worker. All workers ask at the same time, and wait for each other."""
        return bool(flag) if self.num_workers == 1 else bool(self._gather(np.array([int(flag)])).any())

    def _gather(self, numbers):
        """Integers `[n]` of each worker, as `[workers, n]` on all."""
        own = np.zeros((self.num_workers, len(numbers)), "int64")
        own[self._worker] = numbers
        return np.asarray(self.strategy.reduce("SUM", keras.ops.convert_to_tensor(own), axis=None))

    @contextlib.contextmanager
    def watching(self, directory=None):
        """Context in which a worker that is gone ends the run with WorkerLostError, which says how to go on.

        Args:
            directory: of the run; None where nothing is written yet.
        """
        if self.num_workers == 1:
            yield
            return
        from kvae.backends.tensorflow import strategies

        try:
            yield
        except strategies.LOST as error:
            raise WorkerLostError(
                f"A worker is gone, so worker {self._worker} of {self.num_workers} stops too "
                f"({type(error).__name__}: {printable(error.message.partition(chr(10))[0])}). See what it said last, "
                f"and start all of them again{f': kvae train --resume {directory}' if directory else '.'}"
            ) from error


def start(cluster=None, devices=None):
    """Start the devices that train together: before TensorFlow has started them by itself.

    Args:
        cluster: `kvae.training.cluster.Cluster`, or None for this process alone.
        devices: how many GPUs (without one, parts of the CPU) to train on at once; None for all.

    Returns:
        `Distribution`.

    Raises:
        RequestError: where there are fewer devices.
        WorkerLostError: where the workers do not find each other.
    """
    if cluster is None and devices == 1:
        return Distribution()
    if (backend := keras.backend.backend()) != "tensorflow":
        raise RequestError(
            f"Several devices or workers train under KERAS_BACKEND=tensorflow alone, found {backend}; set it, or train "
            "on one device, with no TF_CONFIG."
        )
    from kvae.backends.tensorflow import strategies

    return Distribution(strategies.of(cluster, devices), cluster)
