"""A model repository for Triton Inference Server from sealed files: `config.pbtxt` and version folders, no TensorFlow.

Each graph becomes a model of its own, `NAME_GRAPH/config.pbtxt` and `NAME_GRAPH/1/model.onnx`. The file is the sealed
one, byte for byte, so its seal and manifest stay with it; the configuration repeats the manifest (without its golden
values) as the parameter `kvae`, which clients read over the network: class names, ranges, the likelihood.

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
"""Microseconds that a request may wait for others to share its batch; decoding a batch takes longer."""

_TYPES = {"float32": "TYPE_FP32", "int64": "TYPE_INT64"}


def write(model: Model, directory: atomic.StrPath, *, name: str | None = None, force: bool = False) -> list[Path]:
    """Write every graph of a model into a Triton model repository.

    Args:
        model: what `kvae.load` returned; its files are checked as they are read.
        directory: the repository. Where it exists, the models in it stay, and those of this name are added.
        name: what the models' names begin with, the model's own where None. What is no letter, digit, '.', '_' or '-'
            in it becomes '-'.
        force: replace models of these names.

    Returns:
        The paths that were written, two for each graph.

    Raises:
        ModelFileError: a file is bad.
        OutputError: a model of that name is in the repository, or nothing can be written there.
    """
    root = Path(directory)
    prefix = _prefix(model.manifest.name if name is None else name)
    # All files are read, checked and described before the first folder is made.
    made = {}
    for graph in model.graphs:
        sealed, manifest = model.sealed(graph)
        model_name = f"{prefix}_{graph}"
        made[model_name] = config(model_name, manifest, sealed.inputs, sealed.outputs), sealed.data
    refuse_existing(root, prefix, force)
    try:
        root.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{printable(root)} cannot be made: {error.strerror}. Make its parent folder first."
        ) from error
    with contextlib.ExitStack() as folders:
        for model_name, (text, data) in made.items():
            aside = Path(folders.enter_context(atomic.new_folder(root / model_name, force)))
            atomic.write_whole(aside / "config.pbtxt", text.encode())
            (aside / "1").mkdir()
            atomic.write_whole(aside / "1" / "model.onnx", data)
    return [root / model_name / part for model_name in made for part in ("config.pbtxt", "1/model.onnx")]


def refuse_existing(directory: atomic.StrPath, name: str, force: bool) -> None:
    """Raise `OutputError` where the repository has a model of that name, or cannot be made; asked before long work."""
    root = Path(directory)
    if not root.absolute().parent.is_dir() or (root.exists() and not root.is_dir()):
        raise OutputError(f"{printable(root)} cannot be a model repository: its parent is no folder, or it is a file.")
    for graph in GRAPHS:
        atomic.refuse_existing(root / f"{_prefix(name)}_{graph}", force)


def config(name: str, manifest: Manifest, inputs: dict[str, TensorInfo], outputs: dict[str, TensorInfo]) -> str:
    """Return the text of one model's `config.pbtxt`.

    Args:
        name: the model's name on the server, which its folder has too.
        manifest: what the graph says about itself.
        inputs: of the graph, each with the batch axis first.
        outputs: likewise.
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
        # The batch axis is Triton's own. It allows no tensor without another, so a row's one number is a list of one.
        dims = f"dims: [ {', '.join(map(str, sizes))} ]" if sizes else "dims: [ 1 ] reshape { shape: [ ] }"
        yield f"{kind} {{ name: {_quoted(name)} data_type: {_TYPES[tensor.dtype]} {dims} }}"


def _prefix(name: str) -> str:
    """Return a model's name as a server and every file system take it."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:100] or "model"


def _quoted(text: str) -> str:
    """Return a protobuf text-format string: what is not printable ASCII as octal bytes of its UTF-8."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').encode()
    return '"' + "".join(chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}" for byte in escaped) + '"'
