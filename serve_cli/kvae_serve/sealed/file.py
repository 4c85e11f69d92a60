"""Sealed ONNX files, which end in a manifest and a digest.

`read` opens the file once, checks the digest of all bytes, and validates the whole content (`validate.walk`) before
anything else uses it. The seal detects corruption. The validation protects against malice, because anyone can seal a
file. docs/format.md is the specification of the seal.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import Any, NamedTuple

from kvae_serve.errors import ModelFileError, printable
from kvae_serve.sealed import shapes, validate
from kvae_serve.sealed.protobuf import write_field
from kvae_serve.sealed.validate import MAX_MANIFEST_BYTES

MAX_BYTES = 128 * 2**20

MANIFEST_KEY = "kvae"
SEAL_KEY = "kvae.sha256"
_SEAL_HEAD = b"\x72\x4f\x0a\x0b" + SEAL_KEY.encode() + b"\x12\x40"
_SEAL_BYTES = len(_SEAL_HEAD) + 64


class SealedGraph(NamedTuple):
    """Content of a file that passed every check of `read`."""

    path: str
    data: bytes
    manifest_json: str
    inputs: dict[str, validate.TensorInfo]
    outputs: dict[str, validate.TensorInfo]
    num_nodes: int
    num_parameters: int
    computation: shapes.Graph


def seal(model: bytes, manifest: dict[str, Any]) -> bytes:
    """Append the manifest and the digest to a serialised ONNX model.

    The same model and manifest give the same bytes.

    Args:
        model: A ModelProto without metadata_props.
        manifest: A manifest as in docs/format.md, as plain Python values.

    Raises:
        ValueError: If the manifest is larger than 1 MiB or contains NaN, or the model has metadata_props.
    """
    import json

    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    value = text.encode()
    if len(value) > MAX_MANIFEST_BYTES:
        raise ValueError(f"The manifest has {len(value)} bytes; at most {MAX_MANIFEST_BYTES} are allowed.")
    if validate.has_metadata(model):
        raise ValueError("The model has metadata_props already. Seal the bare model.")
    sealed = model + _manifest_entry(value)
    return sealed + _SEAL_HEAD + hashlib.sha256(sealed).hexdigest().encode()


def unseal(graph: SealedGraph) -> bytes:
    """Return the serialised ONNX model of a sealed file, without manifest and digest."""
    return graph.data[: -len(_manifest_entry(graph.manifest_json.encode())) - _SEAL_BYTES]


def _manifest_entry(value: bytes) -> bytes:
    return write_field(14, write_field(1, MANIFEST_KEY.encode()), write_field(2, value))


def read(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> SealedGraph:
    """Read a sealed file and check all of it.

    Args:
        path: The file. Links are followed, because only the bytes matter.
        max_bytes: Size in bytes above which a file is refused without reading it.

    Raises:
        ModelFileError: If the file is missing, not a regular file, too large, not sealed or corrupted, or if it
            contains anything that a sealed graph must not contain.
    """
    return check(_read_bytes(path, max_bytes), path)


def check(data: bytes, path: str | os.PathLike[str]) -> SealedGraph:
    """Check the bytes of a sealed file.

    Args:
        data: All bytes of the file.
        path: Name of the file in messages.

    Raises:
        ModelFileError: As in `read`.
    """
    name = printable(path, 70)
    _check_seal(data, name)
    try:
        graph = validate.walk(data)
    except validate.WalkError as error:
        raise ModelFileError(f"{name} is not a graph that kvae runs: {printable(error)}.") from error
    keys = [key for key, _ in graph.metadata]
    if keys != [MANIFEST_KEY, SEAL_KEY] or not graph.metadata_last:
        raise ModelFileError(f"{name} must end in the entries {MANIFEST_KEY} and {SEAL_KEY} and contain no others.")
    manifest_json = graph.metadata[0][1]
    return SealedGraph(
        os.fspath(path),
        data,
        manifest_json,
        graph.inputs,
        graph.outputs,
        graph.num_nodes,
        graph.num_parameters,
        graph.computation,
    )


def _read_bytes(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """Read a regular file. It is opened without blocking, because a FIFO would block forever."""
    name = printable(path, 70)
    flags = os.O_RDONLY
    for flag in ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY"):
        flags |= getattr(os, flag, 0)
    try:
        # Checked before opening, because opening has effects on some devices, and again on the open descriptor.
        regular = stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116
        descriptor = os.open(path, flags) if regular else -1
    except FileNotFoundError as error:
        raise ModelFileError(
            f"{name} does not exist. Give a folder, an .onnx file or the name of a shipped model."
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "the name is not allowed"
        raise ModelFileError(f"{name} cannot be opened: {reason}.") from error
    if not regular:
        raise ModelFileError(f"{name} is not a regular file. Give an .onnx file.")
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ModelFileError(f"{name} is not a regular file. Give an .onnx file.")
        if status.st_size > max_bytes:
            raise ModelFileError(
                f"{name} has {status.st_size} bytes; at most {max_bytes} are allowed. "
                "If you trust it, raise the limit with KVAE_MAX_FILE (in MiB)."
            )
        data = os.read(descriptor, status.st_size + 1)
        while len(data) < status.st_size and (more := os.read(descriptor, status.st_size - len(data))):
            data += more
    except OSError as error:
        raise ModelFileError(f"{name} cannot be read: {error.strerror}.") from error
    finally:
        os.close(descriptor)
    if len(data) != status.st_size:
        raise ModelFileError(f"{name} changed while it was read. Try again when the writer has finished.")
    return data


def _check_seal(data: bytes, name: str) -> None:
    end = memoryview(data)[-_SEAL_BYTES:]
    if bytes(end[: len(_SEAL_HEAD)]) != _SEAL_HEAD:
        if data.startswith(b"version https://git-lfs"):
            raise ModelFileError(f"{name} is a Git LFS pointer, not the model. Fetch it with `git lfs pull`.")
        raise ModelFileError(
            f"{name} does not end in a seal: it is not a kvae model, or it is truncated. "
            "Copy it again, or write one with `kvae export`."
        )
    if bytes(end[len(_SEAL_HEAD) :]) != hashlib.sha256(memoryview(data)[:-_SEAL_BYTES]).hexdigest().encode():
        raise ModelFileError(f"{name} is damaged: its bytes do not match their digest. Copy it again.")
