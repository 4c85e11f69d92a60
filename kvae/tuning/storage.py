"""Folder and storage of a study: Optuna's storage, the identity that a continued study must have, and locks.

A trial belongs to the folder in which it started. Its lock is held while a process trains it, so a trial that is
unfinished and unlocked was interrupted, and any process on this folder continues it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kvae.tuning.plan import METRICS, Plan, fingerprint
from kvae_serve.errors import InputDataError, KvaeError, MissingExtraError, OutputError, RequestError, printable
from kvae_serve.writers import atomic

STUDY, JOURNAL, TRIALS, LOCK = "study.json", "journal.log", "trials", ".lock"
BEST, RUNS, MEDIANS, REPORT, CURVE = "best.toml", "runs.csv", "medians.csv", "report.html", "rate_distortion.svg"
FILES = (STUDY, JOURNAL, f"{JOURNAL}{LOCK}", TRIALS, LOCK, BEST, RUNS, MEDIANS, REPORT, CURVE)

#: Name of a study in a journal inside its folder, which may be renamed.
_NAME = "kvae"
_IDENTITY = "kvae"


def require_optuna() -> None:
    """Raise MissingExtraError unless Optuna is installed. Import nothing."""
    from importlib.util import find_spec

    if find_spec("optuna") is None:
        raise MissingExtraError(
            "optuna is not installed; tuning needs it. Install it with: pip install 'kvae-onnx[tune]'"
        )


def check_folder(directory: Path, storage: str | None) -> None:
    """Check before the data are read that a folder is new, empty, or that of a study with the same kind of storage.

    Raises:
        OutputError: If the folder contains something else or cannot be created.
        InputDataError: If its `study.json` is damaged.
        RequestError: If the study was started with `--storage`, and is continued without it, or the reverse.
    """
    if directory.exists() and not directory.is_dir():
        raise OutputError(f"{directory} is a file. Set -o to the name of a new folder.")
    if not directory.exists():
        if not directory.absolute().parent.is_dir():
            raise OutputError(f"Cannot create {directory}: its parent is not a folder. Create it first.")
        return
    names = sorted(entry.name for entry in directory.iterdir())
    if foreign := [name for name in names if name not in FILES and not name.endswith(".tmp")]:
        raise OutputError(f"{directory} contains {printable(foreign[0], 60)}, so it is not a study. Choose another -o.")
    if (document := _read(directory)) and document["external"] != bool(storage):
        with_or_without = "with --storage. Give the same" if document["external"] else "without --storage. Leave it out"
        raise RequestError(f"{directory} was started {with_or_without}, or choose another -o.")


def _read(directory: Path) -> dict[str, Any] | None:
    path = directory / STUDY
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document["external"], bool) or not isinstance(document["identity"], dict):
            raise ValueError
        return document
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise InputDataError(f"{path} is damaged. Choose another -o.") from None


def open_study(directory: Path, storage: str | None, plan: Plan) -> Any:
    """Create or continue the study of a folder.

    Args:
        directory: Folder of the study, from `check_folder`.
        storage: URL of a database (`sqlite:///study.db`), path of a journal file, or None for a journal in the folder.
        plan: The plan, which must be that of an existing study.

    Returns:
        `optuna.Study`.

    Raises:
        OutputError: If the storage cannot be opened.
        InputDataError: If the study was made with other data.
        RequestError: If the study has other settings.
    """
    import optuna

    optuna.logging.set_verbosity(logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    identity = {"data": fingerprint(plan), **plan.identity()}
    if known := _read(directory):
        _require_same(str(directory), known["identity"], identity)
    opened = _external(storage) if storage else None
    try:
        directory.mkdir(exist_ok=True)
        (directory / TRIALS).mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot write to {directory} ({error.strerror}). Choose another -o.") from None
    name = directory.absolute().name if storage else _NAME
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=plan.base.training.epochs // 4)
    where = (storage and _shown(storage)) or str(directory / JOURNAL)
    with _storage_errors(where), locked(directory):
        study = optuna.create_study(
            storage=opened or _journal(directory / JOURNAL, _JournalLock(directory / f"{JOURNAL}{LOCK}")),
            study_name=name,
            direction=METRICS[plan.metric].direction,
            pruner=optuna.pruners.NopPruner() if plan.is_grid else pruner,
            load_if_exists=True,
        )
        known_identity = study.user_attrs.get(_IDENTITY)
        if known_identity is None:
            if study.get_trials(deepcopy=False):
                raise RequestError(
                    f"{where} has a study {printable(name, 40)} of another program. Choose another name for -o."
                )
            study.set_user_attr(_IDENTITY, identity)
        else:
            _require_same(f"The study {printable(name, 40)} in {where}", known_identity, identity)
        document = {"external": bool(storage), "identity": identity}
        atomic.write_whole(directory / STUDY, (json.dumps(document, indent=1) + "\n").encode(), force=True)
    return study


def _require_same(where: str, known: dict[str, Any], identity: dict[str, Any]) -> None:
    """Raise an error that names the first difference between two identities."""
    identity = json.loads(json.dumps(identity))
    if known.get("data") != identity["data"]:
        raise InputDataError(f"{where} was made with other data. Set --data to the same data, or choose another -o.")
    flat = [{**each, **each.get("settings", {})} for each in (known, identity)]
    for name in sorted({*flat[0], *flat[1]} - {"settings", "data"}):
        before, now = (_words(each.get(name)) for each in flat)
        if before != now:
            raise RequestError(
                f"{where} was made with {name} {before}, got {now}. Give the same, or choose another -o."
            )


def _words(value: Any) -> str:
    if isinstance(value, dict):
        value = [f"{name}={each}" for name, each in value.items()]
    return "none" if value is None else printable(",".join(map(str, value)) if isinstance(value, list) else value, 150)


def _external(storage: str) -> Any:
    """Open the storage that `--storage` names."""
    import optuna

    with _storage_errors(_shown(storage)):
        if "://" in storage:
            return optuna.storages.RDBStorage(storage)
        path = Path(storage)
        if not path.absolute().parent.is_dir() or path.is_dir():
            raise OutputError(f"--storage {storage} cannot be opened: expected a file in an existing folder, or a URL.")
        if path.is_file() and path.stat().st_size:
            with path.open("rb") as file:
                if file.read(1) != b"{":
                    raise OutputError(f"--storage {storage} is not an Optuna journal. A database needs sqlite:///FILE.")
        return _journal(path)


def _journal(path: Path, lock: Any = None) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock if os.name == "posix" else None))


class _JournalLock:
    """Lock of a journal that ends with its process. Optuna's own one blocks others for 30 seconds after a kill."""

    def __init__(self, path: Path) -> None:
        self._path, self._held = path, contextlib.ExitStack()

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._held.enter_context(_lock(self._path, wait=True))
        return True

    def release(self) -> None:
        """Release the lock."""
        self._held.close()


def _shown(storage: str) -> str:
    """Return a storage for messages, without a user and password."""
    scheme, separator, rest = storage.partition("://")
    return printable(f"{scheme}{separator}{rest.rpartition('@')[2]}", 100)


@contextlib.contextmanager
def _storage_errors(where: str) -> Iterator[None]:
    """Turn the errors of Optuna, its database and their drivers into OutputError."""
    try:
        yield
    except KvaeError:
        raise
    except Exception as error:
        raise OutputError(f"The storage {where} cannot be opened ({_reason(error)}). Check --storage.") from error


@contextlib.contextmanager
def lost_storage() -> Iterator[None]:
    """Turn the error of Optuna that its storage cannot be reached into OutputError."""
    import optuna

    try:
        yield
    except optuna.exceptions.StorageInternalError as error:
        reason = _reason(error.__cause__ or error)
        raise OutputError(
            f"The storage cannot be read or written ({reason}). Run the same command again to continue."
        ) from error


def _reason(error: BaseException) -> str:
    return printable(str(getattr(error, "orig", None) or error).partition("\n")[0], 100)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock of a folder, waiting for it."""
    with _lock(directory / LOCK, wait=True):
        yield


@contextlib.contextmanager
def claim(directory: Path) -> Iterator[bool]:
    """Try to hold the lock of a trial's folder; yield whether it succeeded."""
    with _lock(directory / LOCK, wait=False) as held:
        yield held


@contextlib.contextmanager
def _lock(path: Path, wait: bool) -> Iterator[bool]:
    if os.name != "posix":
        yield True
        return
    import fcntl

    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        except OSError:  # a file system without locks
            pass
        yield True
