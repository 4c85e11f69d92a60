"""Folder of an exported model: every graph converted, sealed and verified, with a model card. All of it or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kvae_export.graph import Graph
from kvae_export.model_card import GraphFile, render
from kvae_export.tolerances import Tolerance, accumulated_error, default_tolerances
from kvae_serve import model
from kvae_serve.errors import ModelFileError, RequestError, VerificationError
from kvae_serve.sealed import file as onnx_file
from kvae_serve.sealed import golden
from kvae_serve.sealed.manifest import Manifest
from kvae_serve.writers import atomic


class Inspection(NamedTuple):
    """Results of running the new files.

    Attributes:
        manifest: Additional keys of the manifest.
        table: Table of `weight_costs`.
        sections: Sections of the model card, each with its heading, in Markdown.
        files: Additional files, name to bytes.
    """

    manifest: Mapping[str, Any] = {}
    table: Sequence[Sequence[str]] = ()
    sections: Sequence[str] = ()
    files: Mapping[str, bytes] = {}


def write(
    graphs: Sequence[Graph],
    manifest: Mapping[str, Any],
    directory: atomic.StrPath,
    *,
    parity_inputs: Callable[[str, int], Mapping[str, np.ndarray]],
    tolerance: Mapping[str, Tolerance] | None = None,
    card: str | None = None,
    preview: bytes | None = None,
    extras: Mapping[str, bytes] | None = None,
    force: bool = False,
    inspect: Callable[[model.Model], Inspection] | None = None,
) -> list[Path]:
    """Write graphs as sealed files and verify them through the reader that runs them.

    The folder appears only after every graph, run from its sealed bytes at batch sizes 1, 7 and 64, reproduced the
    outputs of its function. The same weights and manifest give the same bytes.

    Args:
        graphs: One graph per file.
        manifest: Keys that all graphs share, see docs/format.md. `graph` and `golden` are added here. If `weights` is
            not float32, rounded weights are stored in fewer bits.
        directory: The folder to create.
        parity_inputs: Returns inputs by name for (graph name, batch size), similar to real data.
        tolerance: (absolute, relative) by output; `default_tolerances` for outputs that are not listed.
        card: Text of README.md; None for the model card of `kvae_export.model_card`.
        preview: Bytes of preview.png; None for no image.
        extras: Additional files, name to bytes, such as the training configuration.
        force: Replace the folder if it exists.
        inspect: Called with the model loaded from the new files, before they appear. It may add to their manifests
            and to the card, or refuse them by raising an error.

    Returns:
        Paths of the files, graphs first.

    Raises:
        RequestError: If a function cannot be exported. The message names the op and the layer.
        VerificationError: If a file does not reproduce its function.
        OutputError: If the folder exists or cannot be written.
    """
    shared = _plain(manifest)
    names = [graph.name for graph in graphs]
    if not names or len(set(names)) != len(names):
        raise RequestError(f"The graphs are named {names}; expected at least one graph and different names.")
    others = {**({"preview.png": preview} if preview is not None else {}), **(extras or {})}
    for name in others:
        if Path(name).name != name or name.endswith(".onnx") or name == "README.md":
            raise RequestError(
                f"The extra file {name!r} is not allowed; expected a plain name that is not README.md or *.onnx."
            )
    with atomic.new_folder(directory, force) as temporary:
        written = {g.name: _write_verified(g, shared, Path(temporary), parity_inputs, tolerance or {}) for g in graphs}
        inspection = inspect(model.load(temporary)) if inspect is not None else Inspection()
        names = _complete(Path(temporary), written, shared, inspection, others, card)
    return [Path(directory) / name for name in names]


def replace_prior(
    source: model.Model,
    prior: Graph,
    changes: Mapping[str, Any],
    directory: atomic.StrPath,
    *,
    parity_inputs: Callable[[str, int], Mapping[str, np.ndarray]],
    extras: Mapping[str, bytes] | None = None,
    force: bool = False,
    inspect: Callable[[model.Model], Inspection] | None = None,
) -> list[Path]:
    """Write a copy of an exported model with another prior. The other graphs keep their bytes, except the manifest.

    Args:
        source: The model, whose files are all read before the folder is replaced.
        prior: Graph of the new prior.
        changes: New values of keys of the manifest, at least `prior` and `model_id`.
        directory: The folder to create, which may be the folder of `source` with `force`.
        parity_inputs: As of `write`, for the prior.
        extras: As of `write`.
        force: As of `write`.
        inspect: As of `write`.

    Returns:
        Paths of the files, graphs first.

    Raises:
        VerificationError: If the file of the prior does not reproduce its function.
        OutputError: If the folder exists or cannot be written.
    """
    written = {}
    for name in source.graphs:
        if name != prior.name:
            sealed, manifest = source.sealed(name)
            written[name] = onnx_file.unseal(sealed), manifest.to_dict() | _plain(changes)
    shared = {key: value for key, value in next(iter(written.values()))[1].items() if key not in ("graph", "golden")}
    with atomic.new_folder(directory, force) as temporary:
        folder = Path(temporary)
        for name, (bare, document) in written.items():
            atomic.write_whole(folder / f"{name}.onnx", onnx_file.seal(bare, document))
        # Means and variances are small, so they stay float32.
        written[prior.name] = _write_verified(prior, shared, folder, parity_inputs, {}, stored="float32")
        inspection = inspect(model.load(temporary)) if inspect is not None else Inspection()
        names = _complete(folder, written, shared, inspection, dict(extras or {}))
    return [Path(directory) / name for name in names]


def _complete(
    folder: Path,
    written: Mapping[str, tuple[bytes, dict[str, Any]]],
    shared: Mapping[str, Any],
    inspection: Inspection,
    others: Mapping[str, bytes],
    card: str | None = None,
) -> list[str]:
    """Add the results of the inspection, the card and the other files; return the names of all files."""
    files = []
    for name, (bare, document) in written.items():
        path = folder / f"{name}.onnx"
        if inspection.manifest:
            _extend_manifest(bare, document, inspection.manifest, path)
        graph = onnx_file.read(path)
        inputs: dict[str, Any] = {each: (info.shape[1:], info.dtype) for each, info in graph.inputs.items()}
        outputs: dict[str, Any] = {each: info.shape[1:] for each, info in graph.outputs.items()}
        files.append(GraphFile(path.name, path.stat().st_size, inputs, outputs))
    others = {**others, **inspection.files}
    text = card
    if text is None:
        text = render(shared, files, "preview.png" in others, inspection.table, inspection.sections)
    others = {"README.md": text.encode(), **others}
    for name, data in others.items():
        atomic.write_whole(folder / name, data)
    return [*(file.name for file in files), *others]


def _extend_manifest(bare: bytes, manifest: Mapping[str, Any], more: Mapping[str, Any], path: Path) -> None:
    """Seal a verified graph again with additional keys in its manifest."""
    extended = {**manifest, **_plain(more)}
    Manifest.from_dict(extended, path.stem)
    atomic.write_whole(path, onnx_file.seal(bare, extended), force=True)


def _write_verified(
    graph: Graph,
    shared: dict[str, Any],
    folder: Path,
    parity_inputs: Callable[[str, int], Mapping[str, np.ndarray]],
    tolerance: Mapping[str, Tolerance],
    stored: str | None = None,
) -> tuple[bytes, dict[str, Any]]:
    """Convert, seal and verify one graph in `folder`; return the bare model and its manifest.

    `stored` is the data type of the weights in the file, by default that of the manifest.
    """
    # Imported here, so that an existing folder is refused before TensorFlow is imported.
    from kvae_export import convert, parity
    from kvae_export.passes import quantized_storage
    from kvae_export.trace import Traced

    traced = Traced(graph)
    proto = convert.convert(traced)
    if (stored or shared.get("weights", "float32")) != "float32":
        proto = quantized_storage.store(proto)
    allowed = default_tolerances(shared, graph.outputs) | {
        name: tolerance[name] for name in graph.outputs if name in tolerance
    }
    steps = shared["data"]["shape"][0] if any(node.op_type == "LSTM" for node in proto.graph.node) else 1
    error = accumulated_error([tensor.dims for tensor in proto.graph.initializer if 0 not in tensor.dims], steps)
    errors = {name: 0.0 if name in tolerance else error for name in graph.outputs}
    manifest = {**shared, "graph": graph.name}
    # The reader's rules apply here too: a manifest that it would refuse is not written.
    inputs = golden.golden_inputs(Manifest.from_dict({**manifest, "golden": None}, graph.name), graph.inputs)
    outputs = traced.run(parity.checked_feeds(graph, inputs, golden.NUM))
    for name, values in outputs.items():
        if not np.isfinite(values).all():
            raise VerificationError(f"{name} of {graph.name} is not finite for golden inputs. Train the model again.")
    manifest["golden"] = golden.record(outputs, allowed)
    bare = proto.SerializeToString(deterministic=True)
    sealed = onnx_file.seal(bare, manifest)
    path = folder / f"{graph.name}.onnx"
    atomic.write_whole(path, sealed)
    served = model.load(path)
    try:
        parity.check(graph, traced.run, lambda feeds: served.run(graph.name, feeds), parity_inputs, allowed, errors)
    except ModelFileError as error:
        reason = str(error).replace(str(path), path.name)
        raise VerificationError(f"{graph.name} cannot be run as exported; nothing was written. {reason}") from error
    return bare, manifest


def _plain(manifest: Mapping[str, Any]) -> dict[str, Any]:
    for key in ("graph", "golden"):
        if key in manifest:
            raise RequestError(f"The manifest contains the key {key!r}, which the export adds for each graph.")
    try:
        return json.loads(json.dumps(dict(manifest), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise RequestError(f"The manifest cannot be written as JSON: {error}.") from error
