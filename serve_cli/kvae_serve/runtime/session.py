"""One graph in ONNX Runtime: opened from checked bytes, its memory capped, run in batches, its outputs looked at.

A sealed graph is arithmetic alone, yet arithmetic can ask for more memory than a machine has. So each session gets an
allocator of its own with a limit. ONNX Runtime folds constants outside of any allocator: that is switched off, and
what is constant is computed under the limit at each run (exported graphs are folded already, and weights stored in
fewer bits are made float32 by `dequantize`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from kvae_serve.errors import InputDataError, ModelFileError, RequestError, printable
from kvae_serve.runtime import onnxruntime, process, providers
from kvae_serve.sealed import dequantize, signature
from kvae_serve.sealed import file as onnx_file
from kvae_serve.sealed.manifest import Manifest

BATCH_SIZE = 64
"""Rows in one run: measured to be near the best rate, at a tenth of the memory of large batches."""

MAX_THREADS = 256
"""ONNX Runtime starts as many as it is told, which a machine may not survive."""

# Folding happens outside of any allocator. A MatMul that is fused with its bias adds in another order, so that bits
# would depend on how far a graph is optimised (an exported one holds the two as one Gemm); so would those of a gelu.
# The third makes float32 tensors of float16 ones, outside of any allocator too, and where nothing is folded it ends the
# process (onnxruntime 1.26.0, at any Cast of such a tensor that feeds one input); what `dequantize` restores never
# meets it.
_DISABLED = ["ConstantFolding", "MatMulAddFusion", "FuseFp16InitializerToFp32NodeTransformer", "GeluFusionL2"]

MIN_MEMORY, MAX_MEMORY = 224 * 2**20, 4 * 2**30
"""Bytes that a session may take beside its weights where nobody says otherwise: of a small model, and at most."""

# Registering an allocator and opening a session that takes it must not be cut apart by another thread.
_registering = threading.Lock()


class Session:
    """A graph ready to run; safe to use from several threads.

    Args:
        graph: what `onnx_file.read` returned.
        manifest: its manifest, which `signature.check` has held against the graph.
        threads: threads within one run. More than one rarely helps small decoders.
        max_memory: bytes that weights and intermediate results may take; None for what a batch of 64 may well need.
        provider: what runs it, a name that `providers.check` gave.
    """

    def __init__(
        self,
        graph: onnx_file.SealedGraph,
        manifest: Manifest,
        threads: int = 1,
        max_memory: int | None = None,
        provider: str = providers.CPU,
    ) -> None:
        self.manifest = manifest
        self.name = printable(graph.path)
        self.inputs = signature.inputs(manifest)
        self.max_memory = max_memory or default_memory(graph, manifest)
        self._session = _open(dequantize.restore(graph.data), threads, self.max_memory, self.name, provider)
        self._outputs = list(graph.outputs)

    def run(
        self, feeds: Mapping[str, np.ndarray], batch_size: int = BATCH_SIZE, wanted: Collection[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Run all rows, `batch_size` at a time.

        Args:
            feeds: every input of the graph, `[rows, ...]` of the type and shape that the manifest says.
            batch_size: rows in one run; it changes memory and speed, not the result.
            wanted: names of the outputs to compute and return; all of them where None.

        Returns:
            Each output by name, `[rows, ...]`, all finite, in memory of its own: the cap is on running alone.

        Raises:
            InputDataError: a feed is missing, of the wrong type or shape, not finite, or an index is out of range.
            ModelFileError: the graph fails, needs too much memory, or gives NaN.
        """
        num = self._check_feeds(feeds)
        if batch_size < 1:
            raise RequestError(f"A batch has at least 1 row, got {batch_size}.")
        names = self._outputs if wanted is None else [name for name in self._outputs if name in wanted]
        whole: dict[str, np.ndarray] = {}
        for start in range(0, num, batch_size):
            batch = {name: np.ascontiguousarray(values[start : start + batch_size]) for name, values in feeds.items()}
            # What ONNX Runtime returns lies in the memory that is capped: copied, so that it is free for the next run.
            for name, value in zip(names, self._run_batch(batch, min(batch_size, num - start), names), strict=True):
                if start == 0:
                    whole[name] = self._room(num, value)
                if value.shape[1:] != whole[name].shape[1:]:
                    raise ModelFileError(f"{self.name} gives {printable(name)} of another shape in each batch.")
                whole[name][start : start + batch_size] = value
        return whole

    def _room(self, num: int, value: np.ndarray) -> np.ndarray:
        """Return an array of numpy's own for `num` rows like those of `value`."""
        try:
            return np.empty((num, *value.shape[1:]), value.dtype)
        except (MemoryError, ValueError) as error:
            raise RequestError(f"{num} rows of {self.name} do not fit into memory. Take fewer at a time.") from error

    def _run_batch(self, batch: dict[str, np.ndarray], num: int, names: Sequence[str]) -> list[np.ndarray]:
        try:
            values = self._session.run(names, batch)
        except Exception as error:  # What ONNX Runtime raises has no base class of its own.
            if "Available memory of" in str(error) or "bad_alloc" in str(error) or isinstance(error, MemoryError):
                raise ModelFileError(
                    f"{self.name} needs more than the {self.max_memory >> 20} MiB that it may take for {num} rows. "
                    "Take smaller batches, or raise the limit with KVAE_MAX_MEMORY (in MiB)."
                ) from error
            raise ModelFileError(f"{self.name} fails when ONNX Runtime runs it ({type(error).__name__}).") from error
        expected = signature.outputs(self.manifest)
        for name, value in zip(names, values, strict=True):
            shape = (num, *expected[name][1]) if name in expected else (num, *value.shape[1:])
            if value.shape != shape:
                raise ModelFileError(
                    f"{self.name} gives {printable(name)} {list(value.shape)}, expected {list(shape)}."
                )
            if not np.isfinite(value).all():
                raise ModelFileError(
                    f"{self.name} gives {printable(name)} with NaN or infinite values, so it is of no use."
                )
        return values

    def _check_feeds(self, feeds: Mapping[str, np.ndarray]) -> int:
        if set(feeds) != set(self.inputs):
            raise InputDataError(f"{self.name} takes {', '.join(self.inputs)}; got {', '.join(feeds) or 'nothing'}.")
        num = len(next(iter(feeds.values()), ()))
        if not num:
            raise InputDataError(f"{self.name} needs at least one row, got none.")
        for name, (dtype, shape) in self.inputs.items():
            values = feeds[name]
            if values.dtype != dtype or values.shape != (num, *shape):
                raise InputDataError(
                    f"{self.name} takes {name} as {dtype} {[num, *shape]}, got {values.dtype} {list(values.shape)}."
                )
            if dtype == "float32" and not np.isfinite(values).all():
                raise InputDataError(f"{name} has values that are NaN or infinite.")
            if dtype == "int64":
                condition = self.manifest.condition(name)
                size = len(condition.classes) if condition else self.manifest.num_components
                if values.min() < 0 or values.max() >= size:
                    raise InputDataError(f"{name} goes from 0 to {size - 1}, got {values.min()} to {values.max()}.")
        return num


def default_memory(graph: onnx_file.SealedGraph, manifest: Manifest) -> int:
    """Return how many bytes a session may take: a floor, the weights several times, and wide layers for 64 rows."""
    row = 4 * (manifest.data.num_values + manifest.latent_dim)
    # What a manifest claims is no reason to take more than half of the machine.
    most = min(MAX_MEMORY, _machine_memory() // 2)
    return min(MIN_MEMORY + 128 * BATCH_SIZE * row, most) + 8 * len(graph.data)


def _machine_memory() -> int:
    """Return how many bytes of memory the machine has; a lot where that is not known."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 2**40


def mebibytes(variable: str) -> int | None:
    """Return an environment variable that holds a number of MiB, in bytes; None where it is not set."""
    text = os.environ.get(variable, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and 0 < int(text[:12]) < 2**30):
        raise RequestError(f"{variable} is a whole number of MiB, got {printable(text, 40)}.")
    return int(text) << 20


def _open(data: bytes, threads: int, max_memory: int, name: str, provider: str) -> Any:
    if not 1 <= threads <= MAX_THREADS:
        raise RequestError(f"A run takes 1 to {MAX_THREADS} threads, got {threads}.")
    ort = onnxruntime.onnxruntime()
    if process.ours:
        ort.set_default_logger_severity(4)  # Some failures are told on standard error whatever the session says.
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # What fails is raised, and reported by us.
    options.add_session_config_entry("session.use_env_allocators", "1")
    if threads > 1:
        # Spinning threads ran at half the rate of a single one on a busy machine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    try:
        with _registering:
            # The last one registered serves the sessions opened from now on; those before keep theirs.
            ort.create_and_register_allocator(memory, ort.OrtArenaCfg({"max_mem": max_memory}))
            session = ort.InferenceSession(
                data,
                options,
                providers=providers.arguments(provider, max_memory),
                disabled_optimizers=_DISABLED,
                enable_fallback=0,
            )
    except Exception as error:  # What ONNX Runtime raises has no base class of its own.
        if "Available memory of" in str(error):
            raise ModelFileError(
                f"{name} needs more than the {max_memory >> 20} MiB that it may take. "
                "Raise the limit with KVAE_MAX_MEMORY (in MiB)."
            ) from error
        # Its message quotes raw bytes of the file: never echoed.
        raise ModelFileError(f"{name} is refused by ONNX Runtime ({type(error).__name__}).") from error
    providers.check_runs(session, provider)
    return session
