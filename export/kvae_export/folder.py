"""A model's folder: every graph converted, sealed and proved, with a card for people; all of it or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kvae_export.graph import Graph
from kvae_export.model_card import FileFacts, render
from kvae_export.tolerances import Tolerance, default_tolerances
from kvae_serve import model
from kvae_serve.errors import ModelFileError, RequestError, VerificationError
from kvae_serve.sealed import file as onnx_file
from kvae_serve.sealed import golden
from kvae_serve.sealed.manifest import Manifest
from kvae_serve.writers import atomic


class Inspection(NamedTuple):
    """Results of running the new files: further keys of the manifest, and the table of `weight_costs`."""

    manifest: Mapping[str, Any]
    table: Sequence[Sequence[str]]


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
    """Write graphs as sealed files that were proved through the reader that serves them.

    Nothing appears at `directory` before every graph, run from its sealed bytes at batch 1, 3 and 64, gave what its
    function gives. The same weights and manifest give the same bytes.

    Args:
        graphs: one for each file.
        manifest: what all of them share, by docs/format.md; `graph` and `golden` are added here. Where its `weights`
            say that some were rounded, these are stored in fewer bits.
        directory: the folder to make.
        parity_inputs: gives inputs by name for (graph name, batch size): such data as the model will see.
        tolerance: (absolute, relative) by output; `default_tolerances` for those that it leaves out.
        card: text of README.md; None writes the model card of `kvae_export.model_card`.
        preview: bytes of preview.png; None for no picture.
        extras: more files for people, name to bytes, such as the training configuration.
        force: replace the folder where it exists.
        inspect: called with the model that is served from the new files, before they appear; it may add to their
            manifests and to the card, or refuse them by raising.

    Returns:
        Paths of the files, the graphs first.

    Raises:
        RequestError: a function cannot be exported; the line names the op and the layer.
        VerificationError: a file does not give what its function gives.
        OutputError: the folder exists, or cannot be written.
    """
    shared = _plain(manifest)
    names = [graph.name for graph in graphs]
    if not names or len(set(names)) != len(names):
        raise RequestError(f"A model's folder needs graphs with names of their own, got {names}.")
    beside = {**({"preview.png": preview} if preview is not None else {}), **(extras or {})}
    for name in beside:
        if Path(name).name != name or name.endswith(".onnx") or name == "README.md":
            raise RequestError(f"The extra file {name!r} needs a plain name that is no graph's and not README.md.")
    with atomic.new_folder(directory, force) as aside:
        proved = {g.name: _write_proved(g, shared, Path(aside), parity_inputs, tolerance or {}) for g in graphs}
        found = inspect(model.load(aside)) if inspect is not None else Inspection({}, ())
        facts = []
        for graph in graphs:
            path = Path(aside) / f"{graph.name}.onnx"
            size = _sealed_anew(*proved[graph.name], found.manifest, path) if found.manifest else path.stat().st_size
            facts.append(FileFacts(path.name, size, graph.inputs, graph.outputs))
        text = card if card is not None else render(shared, facts, preview=preview is not None, table=found.table)
        beside = {"README.md": text.encode(), **beside}
        for name, data in beside.items():
            atomic.write_whole(Path(aside) / name, data)
    return [Path(directory) / name for name in [*(each.name for each in facts), *beside]]


def _sealed_anew(bare: bytes, manifest: Mapping[str, Any], more: Mapping[str, Any], path: Path) -> int:
    """Write a graph that was proved with more keys in its manifest; return its size."""
    whole = {**manifest, **_plain(more)}
    Manifest.from_dict(whole, path.stem)
    sealed = onnx_file.seal(bare, whole)
    atomic.write_whole(path, sealed, force=True)
    return len(sealed)


def _write_proved(
    graph: Graph,
    shared: dict[str, Any],
    folder: Path,
    parity_inputs: Callable[[str, int], Mapping[str, np.ndarray]],
    tolerance: Mapping[str, Tolerance],
) -> tuple[bytes, dict[str, Any]]:
    """Convert, seal and prove one graph in `folder`; return it without its manifest, and that."""
    # Here, so that a folder that exists is refused before TensorFlow is opened.
    from kvae_export import convert
    from kvae_export.parity import checked_feeds, prove
    from kvae_export.passes import quantized_storage
    from kvae_export.trace import Traced

    traced = Traced(graph)
    proto = convert.convert(traced)
    if shared.get("weights", "float32") != "float32":
        proto = quantized_storage.store(proto)
    allowed = default_tolerances(shared, graph.outputs) | {
        name: tolerance[name] for name in graph.outputs if name in tolerance
    }
    manifest = {**shared, "graph": graph.name}
    # A manifest that a reader would refuse is refused here, by the reader's own rules.
    made = golden.golden_inputs(Manifest.from_dict({**manifest, "golden": None}, graph.name), graph.inputs)
    outputs = traced.run(checked_feeds(graph, made, golden.NUM))
    for name, values in outputs.items():
        if not np.isfinite(values).all():
            raise VerificationError(
                f"{name} of {graph.name} is not finite for ordinary inputs, so the model is of no use: train it anew."
            )
    manifest["golden"] = golden.record(outputs, allowed)
    bare = proto.SerializeToString(deterministic=True)
    sealed = onnx_file.seal(bare, manifest)
    path = folder / f"{graph.name}.onnx"
    atomic.write_whole(path, sealed)
    served = model.load(path)
    try:
        prove(graph, traced.run, lambda feeds: served.run(graph.name, feeds), parity_inputs, allowed)
    except ModelFileError as error:
        reason = str(error).replace(str(path), path.name)
        raise VerificationError(f"{graph.name} cannot be served as exported; nothing was written. {reason}") from error
    return bare, manifest


def _plain(manifest: Mapping[str, Any]) -> dict[str, Any]:
    for key in ("graph", "golden"):
        if key in manifest:
            raise RequestError(f"The manifest has the key {key!r} already, which the export adds for each graph.")
    try:
        return json.loads(json.dumps(dict(manifest), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise RequestError(f"The manifest is no plain JSON: {error}.") from error
