"""Download of models into the cache of huggingface_hub.

Only graphs and `config.json` are fetched. Sizes are limited before and during the download. Each file is compared with
the hash that the hub states, and the seal, the structure and the model_id of the graphs are checked. If a check
fails, no file is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kvae_serve.errors import ModelFileError, OutputError, printable
from kvae_serve.hub import library
from kvae_serve.hub.address import Address, parse
from kvae_serve.sealed import file as sealed_file
from kvae_serve.sealed.manifest import GRAPHS, Manifest

CONFIG = "config.json"
"""Manifest of the model. It is fetched last, so that its presence in the cache marks a complete model."""

_MAX_CONFIG = sealed_file.MAX_MANIFEST_BYTES
_TIMEOUT = 10.0


class CachedModel(NamedTuple):
    """A model in the cache.

    Attributes:
        address: Address with the commit as revision.
        path: Folder of the files.
        num_bytes: Size of the files.
        config: Content of config.json.
    """

    address: Address
    path: str
    num_bytes: int
    config: Mapping[str, Any]


def fetch(text: str, max_bytes: int = sealed_file.MAX_BYTES) -> tuple[str, Address]:
    """Download a model unless it is in the cache.

    A branch or a tag is looked up each time; if the hub cannot be reached, the cached commit is used. A commit of 40
    digits that is in the cache works without a connection. Standard error gets one line after a download.

    Args:
        text: Address of the model.
        max_bytes: Size limit of one graph.

    Returns:
        Folder of the files, and the address with the commit as revision.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
        RequestError: The address is invalid.
        ModelFileError: The model does not exist, cannot be reached, or fails a check.
    """
    address = parse(text)
    hub = library.huggingface_hub()
    if address.is_pinned and (folder := _cached(address)):
        return folder, address
    try:
        with library.translated(address):
            info = hub.HfApi(library_name="kvae").model_info(
                address.repo, revision=address.revision, files_metadata=True, timeout=_TIMEOUT
            )
    except ModelFileError as error:
        folder = _cached(address)
        if folder is None or isinstance(error.__cause__, _refusals(hub)):
            raise
        pinned = address._replace(revision=_commit(folder, address))
        _note(f"The hub cannot be reached; using {pinned} from the cache.")
        return folder, pinned
    pinned = address._replace(revision=info.sha)
    if not pinned.is_pinned:
        raise ModelFileError(f"{printable(address, 60)}: the hub did not state the commit. Check HF_ENDPOINT.")
    known = _cached(pinned)
    folder = known or _download(pinned, info.siblings or (), max_bytes)
    if not address.is_pinned and _cached(address) != folder:
        # Records which commit the branch or tag refers to, for use without a connection.
        with library.translated(address):
            hub.hf_hub_download(address.repo, address.file(CONFIG), revision=address.revision, etag_timeout=_TIMEOUT)
    if known is None:
        _note(f"Downloaded {pinned}.")
    return folder, pinned


def cached_models() -> list[CachedModel]:
    """List the complete models in the cache, by address."""
    hub = library.huggingface_hub()
    if not os.path.isdir(hub.constants.HF_HUB_CACHE):  # noqa: PTH112
        return []
    models = []
    for repo in hub.scan_cache_dir().repos:
        for revision in repo.revisions if repo.repo_type == "model" else ():
            sizes: dict[Path, int] = {}
            for file in revision.files:
                folder = file.file_path.parent
                sizes[folder] = sizes.get(folder, 0) + file.size_on_disk
            for folder, num_bytes in sizes.items():
                config = _read_config(folder / CONFIG)
                if config is not None and any((folder / f"{graph}.onnx").exists() for graph in GRAPHS):
                    inside = folder.relative_to(revision.snapshot_path).as_posix()
                    address = Address(repo.repo_id, revision.commit_hash, "" if inside == "." else inside)
                    models.append(CachedModel(address, str(folder), num_bytes, config))
    return sorted(models, key=lambda model: str(model.address))


def remove(text: str) -> list[CachedModel]:
    """Remove the revisions of a model from the cache.

    Args:
        text: Address. Without a revision, all revisions of the repository are removed.

    Returns:
        The models removed.

    Raises:
        OutputError: The cache does not contain the model.
    """
    address = parse(text)
    hub = library.huggingface_hub()
    removed = [
        model
        for model in cached_models()
        if model.address.repo == address.repo and (address.revision in ("main", model.address.revision))
    ]
    if not removed:
        raise OutputError(f"The cache does not contain {printable(address, 60)}. `kvae models --cached` lists it.")
    hub.scan_cache_dir().delete_revisions(*{model.address.revision for model in removed}).execute()
    return removed


def _refusals(hub: Any) -> tuple[type[Exception], ...]:
    """Return the errors with which the hub states that the model does not exist."""
    errors = hub.errors
    return errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.GatedRepoError


def _cached(address: Address) -> str | None:
    """Return the folder of a complete model in the cache."""
    hub = library.huggingface_hub()
    path = hub.try_to_load_from_cache(address.repo, address.file(CONFIG), revision=address.revision)
    return str(Path(path).parent) if isinstance(path, str) else None


def _commit(folder: str, address: Address) -> str:
    depth = len(address.folder.split("/")) if address.folder else 0
    return Path(folder).parents[depth - 1].name if depth else Path(folder).name


def _download(address: Address, siblings: Iterable[Any], max_bytes: int) -> str:
    hub = library.huggingface_hub()
    files = {each.rfilename: each for each in siblings}
    names = [name for name in (*(f"{graph}.onnx" for graph in GRAPHS), CONFIG) if address.file(name) in files]
    if CONFIG not in names or len(names) == 1:
        raise ModelFileError(
            f"{printable(address, 100)} is not a model of kvae: expected {CONFIG} and at least one graph, such as "
            "decoder.onnx."
        )
    limits = {name: _MAX_CONFIG if name == CONFIG else max_bytes for name in names}
    for name in names:
        size = files[address.file(name)].size
        if size is not None and size > limits[name]:
            raise ModelFileError(
                f"{name} of {printable(address, 80)} has {size} bytes; at most {limits[name]} are allowed."
            )
    paths: dict[str, str] = {}
    try:
        for name in names:
            with library.translated(address):
                paths[name] = hub.hf_hub_download(
                    address.repo, address.file(name), revision=address.revision, etag_timeout=_TIMEOUT,
                    tqdm_class=_size_limit(name, limits[name]),
                )  # fmt: skip
            _check_hash(name, paths[name], files[address.file(name)], address)
        _check_model(paths, address, max_bytes)
    except BaseException:
        for path in paths.values():
            _forget(path)
        raise
    return str(Path(paths[CONFIG]).parent)


def _size_limit(name: str, limit: int) -> type:
    """Return a progress bar that stops a download that is larger than the hub stated."""
    from huggingface_hub.utils import tqdm

    class SizeLimit(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.received = 0.0
            super().__init__(*args, **{**kwargs, "disable": not sys.stderr.isatty()})

        def update(self, n: float | None = 1) -> bool | None:
            self.received += n or 0
            if self.received > limit:
                raise ModelFileError(f"{name} from the hub is larger than the {limit} bytes that are allowed.")
            return super().update(n)

    return SizeLimit


def _check_hash(name: str, path: str, stated: Any, address: Address) -> None:
    """Compare a file with the hash that the hub states: SHA-256 for large files, that of Git for others."""
    data = Path(path).read_bytes()
    if stated.lfs is not None:
        expected, found = stated.lfs.sha256, hashlib.sha256(data).hexdigest()
    elif stated.blob_id is not None:
        expected, found = stated.blob_id, hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    else:
        return
    if found != expected:
        raise ModelFileError(
            f"{name} of {printable(address, 80)} is damaged: its hash differs from the one that the hub states. "
            "Try again."
        )


def _check_model(paths: Mapping[str, str], address: Address, max_bytes: int) -> None:
    """Check the seal and the structure of every graph, and that all have the model_id of config.json."""
    config = _read_config(Path(paths[CONFIG]))
    if config is None:
        raise ModelFileError(f"{CONFIG} of {printable(address, 100)} is not a JSON object with a model_id.")
    for name, path in paths.items():
        if name == CONFIG:
            continue
        manifest = Manifest.parse(sealed_file.read(path, max_bytes).manifest_json, name)
        if manifest.model_id != config["model_id"]:
            raise ModelFileError(
                f"{name} of {printable(address, 60)} has the model_id {manifest.model_id[:12]}, {CONFIG} has "
                f"{printable(config['model_id'], 12)}. The files are of two exports."
            )


def _read_config(path: Path) -> dict[str, Any] | None:
    try:
        if path.stat().st_size > _MAX_CONFIG:
            return None
        config = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return config if isinstance(config, dict) and isinstance(config.get("model_id"), str) else None


def _forget(path: str) -> None:
    """Delete a file of the cache, and the content to which it links."""
    target = os.path.realpath(path)
    for each in {path, target}:
        Path(each).unlink(missing_ok=True)


def _note(line: str) -> None:
    if sys.stderr is not None:
        print(line, file=sys.stderr)
