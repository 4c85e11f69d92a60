"""Folder of a run: its files, its lock, and the checks before it is written or resumed.

This module does not import Keras, so that errors are reported before the backend starts, which takes seconds.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kvae.backends import startup
from kvae.training.config import Config
from kvae.training.config import read as read_config
from kvae_serve.errors import InputDataError, OutputError, RequestError, printable
from kvae_serve.writers import atomic

MODEL, CONFIG, HISTORY, METADATA = "model.keras", "config.toml", "history.csv", "run.json"
RECONSTRUCTIONS, SAMPLES, CHECKPOINTS = "reconstructions.png", "samples.png", "checkpoints"
FILES = (MODEL, CONFIG, HISTORY, METADATA, RECONSTRUCTIONS, SAMPLES, CHECKPOINTS)

#: Suffix of a saved Keras model.
KERAS = ".keras"

#: Folder of the pictures of --sample-every.
EPOCH_SAMPLES = "samples"

#: Settings that may change when a run is resumed.
RESUMABLE = ("data", "epochs", "patience", "checkpoint_every", "sample_every")

_MAX_BYTES = 2**24
_MIN_FREE_MIB = 50


def check_new(directory: str | Path, force: bool) -> None:
    """Raise OutputError unless a new run may be written to `directory`."""
    directory = Path(directory)
    if not directory.exists():
        if not (parent := directory.absolute().parent).is_dir():
            raise OutputError(f"Cannot create {directory}: {parent} is not a folder. Create it first.")
        return
    if not directory.is_dir():
        raise OutputError(f"{directory} is a file. Set -o to the name of a new folder.")
    names = sorted(entry.name for entry in directory.iterdir())
    if names and not force:
        raise OutputError(
            f"{directory} exists and contains {names[0]}. Choose another -o, continue the run with --resume, "
            "or replace it with --force."
        )
    if foreign := sorted(name for name in set(names) - {*FILES, EPOCH_SAMPLES} if not _is_leftover(name)):
        raise OutputError(f"{directory} contains {foreign[0]}, which is not part of a run. Choose another -o.")


@contextlib.contextmanager
def lock(directory: str | Path) -> Iterator[None]:
    """Create the folder of a run if it is missing, and lock it against training in another process.

    Raises:
        OutputError: If the folder cannot be created, is locked by another process, or is on a disk that is almost full.
    """
    directory = Path(directory)
    try:
        directory.mkdir(exist_ok=True)
        free_mib = shutil.disk_usage(directory).free / 2**20
        folder = os.open(directory, os.O_RDONLY) if os.name == "posix" else None
    except OSError as error:
        raise OutputError(f"Cannot write to {directory} ({error.strerror}). Choose another -o.") from None
    try:
        if folder is not None:
            _flock(folder, directory)
        if free_mib < _MIN_FREE_MIB:
            raise OutputError(
                f"Only {free_mib:.0f} MiB free in {directory}; a run needs at least {_MIN_FREE_MIB} MiB. Make room."
            )
        yield
    finally:
        if folder is not None:
            os.close(folder)


def _flock(folder: int, directory: Path) -> None:
    import fcntl

    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OutputError(f"Another process trains in {directory}. Wait for it, or choose another -o.") from None
    except OSError:
        return  # a file system without locks


def clear(directory: str | Path) -> None:
    """Remove the run in a folder, and create an empty folder for checkpoints."""
    directory = Path(directory)
    try:
        for name in (*FILES, EPOCH_SAMPLES):
            if (directory / name).is_dir():
                shutil.rmtree(directory / name)
            else:
                (directory / name).unlink(missing_ok=True)
        clean(directory)
        (directory / CHECKPOINTS).mkdir()
    except OSError as error:
        raise OutputError(f"Cannot write to {directory} ({error.strerror}). Choose another -o.") from None


def clean(directory: str | Path) -> None:
    """Remove the temporary files of a process that was killed while it wrote."""
    for folder in (Path(directory), *(Path(directory) / name for name in (CHECKPOINTS, EPOCH_SAMPLES))):
        for path in folder.glob(".*.tmp"):
            with contextlib.suppress(OSError):
                path.unlink()


def _is_leftover(name: str) -> bool:
    return name.startswith(".") and name.endswith(".tmp")


def write(directory: str | Path, config: Config | None = None, metadata: dict[str, Any] | None = None) -> None:
    """Write the configuration and the metadata of a run, each atomically."""
    if metadata:
        atomic.write_whole(Path(directory) / METADATA, (json.dumps(metadata, indent=1) + "\n").encode(), force=True)
    if config:
        atomic.write_whole(Path(directory) / CONFIG, config.to_toml().encode(), force=True)


def require_run(directory: str | Path) -> None:
    """Raise InputDataError unless `directory` contains a run with a trained model or a checkpoint."""
    _require(directory, CONFIG, METADATA)
    if not any((Path(directory) / CHECKPOINTS).glob("epoch-*")):
        _require(directory, MODEL)


def is_exported(path: str | Path) -> bool:
    """Return whether a path or a shipped name is an exported model instead of a run or a .keras file."""
    from kvae_serve.runtime import locate

    path = Path(path)
    if (path / METADATA).is_file():
        return False
    if path.is_dir():
        return any((path / f"{graph}.onnx").is_file() for graph in locate.MANIFEST_ORDER)
    return (path.is_file() and path.suffix != KERAS) or str(path) in locate.shipped()


def _require(directory: str | Path, *names: str) -> None:
    directory = Path(directory)
    if not directory.is_dir():
        raise InputDataError(f"{directory} is not a folder. Expected the folder that `kvae train -o` wrote.")
    for name in names:
        if not (directory / name).is_file():
            raise InputDataError(f"{directory} is not a run: {name} is missing. Create a run with `kvae train -o`.")


def read(directory: str | Path) -> tuple[Config, dict[str, Any]]:
    """Read the configuration and the metadata of a run.

    Raises:
        InputDataError: If the folder does not contain a run, or if its files are corrupted.
    """
    _require(directory, CONFIG, METADATA)
    try:
        if (Path(directory) / METADATA).stat().st_size > _MAX_BYTES:
            raise ValueError(f"{METADATA} has more than {_MAX_BYTES} bytes")
        metadata = json.loads((Path(directory) / METADATA).read_text(encoding="utf-8"))
        if "classes" in metadata:  # written before conditions had names
            classes = metadata.pop("classes")
            metadata["conditions"] = [{"name": "label", "kind": "categorical", "classes": classes}] if classes else []
        if missing := {"data", "conditions", "steps_per_epoch", "training"} - set(metadata):
            raise ValueError(f"{METADATA} lacks {', '.join(sorted(missing))}")
        return read_config(Path(directory) / CONFIG), metadata
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError, OSError, RecursionError) as error:
        reason = printable(str(error) or type(error).__name__, 60)
        raise InputDataError(f"{directory}: {CONFIG} or {METADATA} is corrupted ({reason}). Train it again.") from None


def open_existing(directory: str | Path, changes: dict[str, Any]) -> tuple[Config, dict[str, Any]]:
    """Read the run to resume, with the settings in `changes`.

    Returns:
        The changed configuration, and the metadata. `metadata["finished"]` is true if no epochs are left.

    Raises:
        InputDataError: If the folder does not contain a run.
        RequestError: If a change would make it a different run, or if the backend is not the one of the run.
    """
    if fixed := sorted(set(changes) - set(RESUMABLE)):
        flag = fixed[0].replace("_", "-")
        raise RequestError(
            f"--{flag} cannot change when a run is resumed. Start a new run with "
            f"`kvae train --config {Path(directory) / CONFIG} --{flag} ... -o NEW_FOLDER`."
        )
    config, metadata = read(directory)
    changed = config.replace(**changes)
    longer = (changed.training.epochs, changed.training.patience) != (config.training.epochs, config.training.patience)
    finished = bool(metadata.get("finished")) and not longer
    backend = printable(str(metadata.get("engine", "tensorflow")))
    if not finished and backend != startup.chosen():
        raise RequestError(
            f"{directory} was started on the backend {backend} and resumes only there. Set KERAS_BACKEND={backend}."
        )
    return changed, {**metadata, "finished": finished}
