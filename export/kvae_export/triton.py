"""Model repository for Triton Inference Server from sealed files: `config.pbtxt` and version folders, no TensorFlow.

Each graph becomes one model, `NAME_GRAPH/config.pbtxt` and `NAME_GRAPH/1/model.onnx`. The file is the sealed file byte
for byte, with its seal and manifest. The configuration repeats the manifest without golden values as the parameter
`kvae`, so that clients can read class names, ranges and the likelihood over the network.

Reference: ModelConfig of Triton's model_config.proto, and its user guide, "Model Configuration".
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from kvae_serve.errors import OutputError, printable
from kvae_serve.runtime.session import BATCH_SIZE
from kvae_serve.sealed.manifest import GRAPHS
from kvae_serve.writers import atomic

if TYPE_CHECKING:
    from kvae_serve.model import Model
    from kvae_serve.sealed.manifest import Manifest
    from kvae_serve.sealed.validate import TensorInfo

QUEUE_DELAY = 200
"""Microseconds that a request may wait for others to share a batch. Decoding a batch takes longer."""

_TYPES = {"float32": "TYPE_FP32", "int64": "TYPE_INT64"}


def write(model: Model, directory: atomic.StrPath, *, name: str | None = None, force: bool = False) -> list[Path]:
    """Write every graph of a model into a Triton model repository.

    Args:
        model: A model from `kvae.load`. Its files are checked when they are read.
        directory: The repository. If it exists, its other models stay.
        name: Prefix of the model names; None for the name of the model. Characters that are not letters, digits, '.',
            '_' or '-' are replaced by '-'.
        force: Replace models of these names.

    Returns:
        Paths of the written files, two per graph.

    Raises:
        ModelFileError: If a file is corrupted.
        OutputError: If the repository contains a model of that name, or cannot be written.
    """
    root = Path(directory)
    prefix = _prefix(model.manifest.name if name is None else name)
    # All files are read and checked before the first folder is made.
    contents = {}
    for graph in model.graphs:
        sealed, manifest = model.sealed(graph)
        model_name = f"{prefix}_{graph}"
        contents[model_name] = config(model_name, manifest, sealed.inputs, sealed.outputs), sealed.data
    check_target(root, prefix, force)
    try:
        root.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{printable(root)} cannot be created: {error.strerror}. Create its parent folder first."
        ) from error
    with contextlib.ExitStack() as folders:
        for model_name, (text, data) in contents.items():
            aside = Path(folders.enter_context(atomic.new_folder(root / model_name, force)))
            atomic.write_whole(aside / "config.pbtxt", text.encode())
            (aside / "1").mkdir()
            atomic.write_whole(aside / "1" / "model.onnx", data)
    return [root / model_name / part for model_name in contents for part in ("config.pbtxt", "1/model.onnx")]


def check_target(directory: atomic.StrPath, name: str, force: bool) -> None:
    """Raise `OutputError` if the repository contains a model of that name or cannot be created.

    Call it before long work.
    """
    root = Path(directory)
    if not root.absolute().parent.is_dir() or (root.exists() and not root.is_dir()):
        raise OutputError(
            f"{printable(root)} cannot be a model repository: it is a file, or its parent folder does not exist."
        )
    for graph in GRAPHS if root.exists() else ():
        atomic.check_target(root / f"{_prefix(name)}_{graph}", force)


def config(name: str, manifest: Manifest, inputs: dict[str, TensorInfo], outputs: dict[str, TensorInfo]) -> str:
    """Return the text of one model's `config.pbtxt`.

    Args:
        name: Name of the model on the server and of its folder.
        manifest: Manifest of the graph.
        inputs: Inputs of the graph, each with the batch axis first.
        outputs: Outputs of the graph, each with the batch axis first.
    """
    described = {key: value for key, value in manifest.raw.items() if key != "golden"}
    text = json.dumps(described, sort_keys=True, separators=(",", ":"))
    return "\n".join(
        [
            f"name: {_quoted(name)}",
            'backend: "onnxruntime"',
            'default_model_filename: "model.onnx"',
            f"max_batch_size: {BATCH_SIZE}",
            *_tensors("input", inputs),
            *_tensors("output", outputs),
            f"dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_DELAY} }}",
            "version_policy { latest { num_versions: 1 } }",
            f'parameters {{ key: "kvae" value {{ string_value: {_quoted(text)} }} }}',
            "",
        ]
    )


def _tensors(kind: str, tensors: dict[str, TensorInfo]) -> Iterable[str]:
    for name, tensor in tensors.items():
        sizes = [size if isinstance(size, int) else -1 for size in tensor.shape[1:]]
        # Triton adds the batch axis and needs one more, so a single number per row becomes a list of one.
        dims = f"dims: [ {', '.join(map(str, sizes))} ]" if sizes else "dims: [ 1 ] reshape { shape: [ ] }"
        yield f"{kind} {{ name: {_quoted(name)} data_type: {_TYPES[tensor.dtype]} {dims} }}"


def _prefix(name: str) -> str:
    """Return a model's name in characters that the server and every file system accept."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:100] or "model"


def _quoted(text: str) -> str:
    """Return a protobuf text-format string, with characters outside printable ASCII as octal bytes of their UTF-8."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').encode()
    return '"' + "".join(chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}" for byte in escaped) + '"'
