"""Session: one graph in ONNX Runtime, with a memory limit, run in batches, its outputs checked.

A sealed graph can only compute, but a computation can request more memory than the machine has. Each session therefore
gets a separate allocator with a limit. ONNX Runtime folds constants outside of any allocator, so folding is switched
off. Constant expressions are computed in each run under the limit (exported graphs are folded already, and `dequantize`
converts weights that are stored in fewer bits).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from kvae_serve.errors import InputDataError, ModelFileError, RequestError, printable
from kvae_serve.runtime import memory, onnxruntime, providers
from kvae_serve.sealed import dequantize, features, shapes, signature
from kvae_serve.sealed.file import SealedGraph
from kvae_serve.sealed.manifest import Manifest

BATCH_SIZE = 64
"""Rows per run. Measured: nearly the highest rate, with a tenth of the memory of large batches."""

MAX_THREADS = 256
"""ONNX Runtime starts any number of threads, which can bring down a machine."""

# Folding happens outside of any allocator. Fusing MatMul with its bias, or a gelu, changes the order of additions, so
# the bits of a result would depend on the optimisation level (exported graphs contain MatMul and bias as one Gemm). The
# third converts float16 tensors to float32, also outside of any allocator. Without folding it crashes the process
# (onnxruntime 1.26.0, at a Cast of such a tensor that feeds one input). `dequantize` leaves nothing for it to convert.
_DISABLED = ["ConstantFolding", "MatMulAddFusion", "FuseFp16InitializerToFp32NodeTransformer", "GeluFusionL2"]

MIN_MEMORY, MAX_MEMORY = 224 * 2**20, 4 * 2**30
"""Default memory limit of a session in bytes, weights not included: for a small model, and the maximum."""

# Registers an allocator and opens the session that uses it, as one step for other threads.
_registering = threading.Lock()


class Session:
    """An open graph. Several threads may share it.

    Args:
        graph: Result of `sealed.file.read`.
        manifest: Manifest of the graph, checked by `signature.check`.
        threads: Threads per run. More than one rarely speeds up a small decoder.
        max_memory: Limit of weights and intermediate results in bytes; None for one that suits a batch of 64.
        provider: Execution provider, as returned by `providers.check`.
    """

    def __init__(
        self,
        graph: SealedGraph,
        manifest: Manifest,
        threads: int = 1,
        max_memory: int | None = None,
        provider: str = providers.CPU,
    ) -> None:
        self.manifest = manifest
        self.name = printable(graph.path)
        self.inputs = signature.inputs(manifest)
        self.max_memory = max_memory or default_memory(graph, manifest)
        self._graph = graph
        self._checked: dict[int, memory.Memory] = {}
        allocated = memory.allocated(self.max_memory - self._check_memory(1).outside)
        self._session = _open(
            dequantize.restore(graph.data),
            threads,
            allocated,
            self.name,
            provider,
            packed=memory.padding(graph.computation) <= memory.MAX_PADDING,
        )
        self._outputs = list(graph.outputs)

    def run(
        self, feeds: Mapping[str, np.ndarray], batch_size: int = BATCH_SIZE, outputs: Collection[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Run all rows, `batch_size` at a time.

        Args:
            feeds: Every input of the graph by name, `[rows, ...]`, with type and shape as in the manifest.
            batch_size: Rows per run. It changes memory and speed, not the result.
            outputs: Names of the outputs to compute; None for all.

        Returns:
            Each output by name, `[rows, ...]`, finite. The memory limit does not include these arrays.

        Raises:
            InputDataError: An input is missing, not finite, or of the wrong type or shape, or an index is out of range.
            ModelFileError: The graph fails, needs too much memory, or returns NaN.
        """
        num = self._check_feeds(feeds)
        if batch_size < 1:
            raise RequestError(f"batch_size is {batch_size}; expected at least 1.")
        names = self._outputs if outputs is None else [name for name in self._outputs if name in outputs]
        batch_size = self._largest_batch(min(batch_size, num), num)
        whole: dict[str, np.ndarray] = {}
        for start in range(0, num, batch_size):
            batch = {name: np.ascontiguousarray(values[start : start + batch_size]) for name, values in feeds.items()}
            # Results of ONNX Runtime lie in the limited memory. Copying frees it for the next run.
            for name, value in zip(names, self._run_batch(batch, min(batch_size, num - start), names), strict=True):
                if start == 0:
                    whole[name] = self._allocate(num, value)
                if value.shape[1:] != whole[name].shape[1:]:
                    raise ModelFileError(f"{self.name} returns {printable(name)} with a different shape in each batch.")
                whole[name][start : start + batch_size] = value
        return whole

    def _check_memory(self, batch: int) -> memory.Memory:
        """Return the memory that one run needs at most, and refuse a batch size at which it exceeds the limit."""
        if batch not in self._checked:
            try:
                values = shapes.infer(self._graph.computation, batch)
            except shapes.WalkError as error:
                raise ModelFileError(f"{self.name} cannot run {batch} rows at a time: {printable(error)}.") from error
            self._checked[batch] = memory.bound(self._graph.computation, values, len(self._graph.data))
        needed = self._checked[batch]
        if needed.total > self.max_memory:
            raise _too_much_memory(self.name, batch, self.max_memory, needed.total)
        return needed

    def _largest_batch(self, batch: int, num: int) -> int:
        """Return a batch size of at most `batch` with which `num` rows fit into the memory limit."""
        while True:
            try:
                self._check_memory(batch)
            except ModelFileError:
                if batch == 1:
                    raise
                batch = (batch + 1) // 2
            else:
                if num % batch:
                    self._check_memory(num % batch)
                return batch

    def _allocate(self, num: int, value: np.ndarray) -> np.ndarray:
        """Return an empty array of `num` rows like those of `value`."""
        try:
            return np.empty((num, *value.shape[1:]), value.dtype)
        except (MemoryError, ValueError) as error:
            raise RequestError(
                f"{num} rows of {self.name} do not fit into memory. Request fewer rows at a time."
            ) from error

    def _run_batch(self, batch: dict[str, np.ndarray], num: int, names: Sequence[str]) -> list[np.ndarray]:
        try:
            values = self._session.run(names, batch)
        except Exception as error:  # Exceptions of ONNX Runtime do not share a base class.
            if "Available memory of" in str(error) or "bad_alloc" in str(error) or isinstance(error, MemoryError):
                raise _too_much_memory(self.name, num, self.max_memory) from error
            raise ModelFileError(f"ONNX Runtime fails to run {self.name} ({type(error).__name__}).") from error
        self._check_outputs(values, num, names)
        return values

    def _check_outputs(self, values: Sequence[np.ndarray], num: int, names: Sequence[str]) -> None:
        expected = signature.outputs(self.manifest)
        for name, value in zip(names, values, strict=True):
            shape = (num, *expected[name][1]) if name in expected else (num, *value.shape[1:])
            if value.shape != shape:
                raise ModelFileError(
                    f"{self.name} returns {printable(name)} {list(value.shape)}; expected {list(shape)}."
                )
            if not np.isfinite(value).all():
                raise ModelFileError(
                    f"{self.name} returns {printable(name)} with NaN or infinite values, so it cannot be used."
                )

    def _num_indices(self, name: str) -> int:
        """Return the number of values of an index: of a condition, the component of a prior, or a feature."""
        if name == "feature":
            return features.num_features(self.manifest.data.columns)
        condition = self.manifest.condition(name)
        return len(condition.classes) if condition else self.manifest.num_components

    def _check_feeds(self, feeds: Mapping[str, np.ndarray]) -> int:
        if set(feeds) != set(self.inputs):
            raise InputDataError(
                f"{self.name} got {', '.join(feeds) or 'no inputs'}; expected {', '.join(self.inputs)}."
            )
        num = len(next(iter(feeds.values()), ()))
        if not num:
            raise InputDataError(f"{self.name} got no rows; expected at least one.")
        for name, (dtype, shape) in self.inputs.items():
            values = feeds[name]
            if values.dtype != dtype or values.shape != (num, *shape):
                raise InputDataError(
                    f"{self.name} got {name} as {values.dtype} {list(values.shape)}; expected {dtype} {[num, *shape]}."
                )
            if dtype == "float32" and not np.isfinite(values if name != "x" else self._present(values)).all():
                raise InputDataError(f"{name} contains NaN or infinite values.")
            if dtype == "int64":
                size = self._num_indices(name)
                if values.min() < 0 or values.max() >= size:
                    raise InputDataError(
                        f"{name} has indices {values.min()} to {values.max()}; expected 0 to {size - 1}."
                    )
        return num

    def _present(self, x: np.ndarray) -> np.ndarray:
        """Return x with 0 in place of NaN in the columns of a table that may have missing values."""
        columns = self.manifest.data.columns
        may_miss = np.array([column["kind"] == "categorical" or "missing" in column for column in columns], bool)
        return np.where(np.isnan(x) & may_miss, 0, x) if may_miss.any() else x


def _too_much_memory(name: str, num: int, limit: int, needed: int = 0) -> ModelFileError:
    expected = f" (about {needed >> 20} MiB)" if needed else ""
    return ModelFileError(
        f"{name} needs more memory for {num} rows{expected} than its limit of {limit >> 20} MiB. "
        "Use smaller batches, or raise the limit with KVAE_MAX_MEMORY (in MiB)."
    )


def default_memory(graph: SealedGraph, manifest: Manifest) -> int:
    """Return the memory limit of a session in bytes: a minimum, copies of the weights, and layers for 64 rows."""
    row = 4 * (manifest.data.num_values + manifest.latent_dim)
    # A manifest can claim any size, so the limit is half of the machine at most.
    most = min(MAX_MEMORY, _machine_memory() // 2)
    return min(MIN_MEMORY + 128 * BATCH_SIZE * row, most) + 8 * len(graph.data)


def _machine_memory() -> int:
    """Return the memory of the machine in bytes; a large number if it is not known."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 2**40


def mebibytes(variable: str) -> int | None:
    """Return an environment variable with a number of MiB as bytes; None if it is not set."""
    text = os.environ.get(variable, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and 0 < int(text[:12]) < 2**30):
        raise RequestError(f"{variable} is {printable(text, 40)}; expected a positive integer, in MiB.")
    return int(text) << 20


def _open(data: bytes, threads: int, max_memory: int, name: str, provider: str, packed: bool = True) -> Any:
    if not 1 <= threads <= MAX_THREADS:
        raise RequestError(f"threads is {threads}; expected 1 to {MAX_THREADS}.")
    ort = onnxruntime.onnxruntime()
    if onnxruntime.IS_COMMAND:
        ort.set_default_logger_severity(4)  # Some failures are logged to stderr whatever the session's level.
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # Failures are raised, and reported by kvae.
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.enable_mem_pattern = False  # A plan of the memory of a batch size doubles it.
    if not packed:  # Packed and blocked weights would be many times larger, see runtime/memory.py.
        options.add_session_config_entry("session.disable_prepacking", "1")
    if threads > 1:
        # On a busy machine, spinning threads ran at half the rate of a single thread.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    allocator = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    try:
        with _registering:
            # Serves the sessions opened from now on. Earlier sessions keep theirs.
            # The strategy 1 adds what is requested, not twice as much.
            ort.create_and_register_allocator(
                allocator, ort.OrtArenaCfg({"max_mem": max_memory, "arena_extend_strategy": 1})
            )
            session = ort.InferenceSession(
                data,
                options,
                providers=providers.arguments(provider, max_memory),
                disabled_optimizers=_DISABLED if packed else [*_DISABLED, "NchwcTransformer"],
                enable_fallback=0,
            )
    except Exception as error:  # Exceptions of ONNX Runtime do not share a base class.
        if "Available memory of" in str(error):
            raise ModelFileError(
                f"{name} needs more memory than its limit of {max_memory >> 20} MiB. "
                "Raise the limit with KVAE_MAX_MEMORY (in MiB)."
            ) from error
        # The message is not shown because it quotes raw bytes of the file.
        raise ModelFileError(f"ONNX Runtime cannot open {name} ({type(error).__name__}).") from error
    providers.check_runs(session, provider)
    return session
