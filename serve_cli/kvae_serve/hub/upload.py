"""Upload of an exported model to the Hugging Face Hub, with a model card that its pages can read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvae_serve.errors import ModelFileError, OutputError, printable
from kvae_serve.hub import library
from kvae_serve.hub.address import Address
from kvae_serve.hub.download import CONFIG
from kvae_serve.sealed.manifest import GRAPHS

if TYPE_CHECKING:
    from kvae_serve.runtime.graphs import Graphs

_COMPANIONS = ("config.toml", "history.csv", "preview.png")
_IMAGES = "unconditional-image-generation"
_FRONT_MATTER = re.compile(r"\A---\r?\n.*?\r?\n---\r?\n+", re.DOTALL)
_TERMS = ("elbo", "reconstruction", "kl")


def files(model: Graphs, license_id: str) -> dict[str, bytes]:
    """Return the files of an upload by name: graphs, config.json, README.md, and those that `kvae export` adds.

    Args:
        model: A model that was opened from a folder.
        license_id: Identifier of the license, as the hub lists them, such as `apache-2.0`.

    Raises:
        ModelFileError: The model is a single file.
    """
    folder = Path(model.path)
    if not folder.is_dir():
        raise ModelFileError(f"{printable(model.path)} is a file; expected the folder that `kvae export` wrote.")
    found = {f"{graph}.onnx": model.sealed(graph)[0].data for graph in model.graphs}
    found[CONFIG] = (json.dumps(config(model), indent=2, ensure_ascii=False) + "\n").encode()
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else f"# {printable(model.manifest.name, 80)}\n"
    header = front_matter(model, license_id)
    found["README.md"] = f"---\n{header}---\n\n{_FRONT_MATTER.sub('', text, count=1)}".encode()
    found |= {name: (folder / name).read_bytes() for name in _COMPANIONS if (folder / name).is_file()}
    return found


def push(model: Graphs, address: Address, license_id: str, *, private: bool = False) -> Address:
    """Upload a model as one commit. The repository and its branch are created if necessary.

    Args:
        model: A model that was opened from a folder.
        address: Repository, branch and folder.
        license_id: Identifier of the license.
        private: Whether a new repository is private.

    Returns:
        The address with the new commit as revision.

    Raises:
        OutputError: The hub refuses the upload or cannot be reached.
    """
    content = files(model, license_id)
    hub = library.huggingface_hub()
    with library.translated(address, OutputError):
        api = hub.HfApi(library_name="kvae")
        api.create_repo(address.repo, private=private or None, exist_ok=True)
        if address.revision != "main":
            api.create_branch(address.repo, branch=address.revision, exist_ok=True)
        commit = api.create_commit(
            address.repo,
            [hub.CommitOperationAdd(address.file(name), data) for name, data in content.items()],
            commit_message=f"Upload {printable(model.manifest.name, 60)} with kvae",
            revision=address.revision,
        )
    return address._replace(revision=commit.oid)


def config(model: Graphs) -> dict[str, Any]:
    """Return what the manifests of all graphs share. Its file name makes the hub count downloads."""
    shared = {key: value for key, value in model.manifest.raw.items() if key not in ("golden", "graph")}
    return {"library_name": "kvae", **shared, "graphs": [graph for graph in GRAPHS if model.has(graph)]}


def front_matter(model: Graphs, license_id: str) -> str:
    """Return the metadata of the card as YAML: license, tags, data set, and measured figures with their n."""
    hub = library.huggingface_hub()
    manifest = model.manifest
    training = manifest.raw.get("training") or {}
    dataset = str(training.get("dataset") or "")
    is_image = manifest.data.kind == "image"
    tags = ["kvae", "onnx", "vae", *(["conditional-vae"] if manifest.conditions else []), manifest.data.kind]
    results = [
        hub.EvalResult(
            task_type=_IMAGES if is_image else "other",
            dataset_type=printable(dataset or "unknown", 60),
            dataset_name=printable(dataset or "unknown", 60),
            dataset_split=split,
            metric_type=term,
            metric_name=f"{term} in nats per example, n = {num}",
            metric_value=figures[term],
        )
        for split, num, figures in _measured(training)
        for term in _TERMS
        if isinstance(figures.get(term), int | float)
    ]
    known = [dataset] if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", dataset) else None
    data = hub.ModelCardData(
        library_name="kvae", pipeline_tag=_IMAGES if is_image else None, license=license_id, tags=tags, datasets=known,
        model_name=printable(manifest.name, 80), eval_results=results or None,
    )  # fmt: skip
    return data.to_yaml() + "\n"


def _measured(training: dict[str, Any]) -> list[tuple[str, int, dict[str, Any]]]:
    """Return split, number of examples and figures: of validation data if there were any, else of training data."""
    validation = training.get("validation")
    if isinstance(validation, dict):
        return [("validation", int(validation.get("examples", 0)), validation)]
    final = training.get("final")
    return [("train", int(training.get("examples") or 0), final)] if isinstance(final, dict) else []
