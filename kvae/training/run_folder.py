"""A run on disk, seen without Keras: its files, whether one may be written, and the data that it names.

What is asked here is asked before an engine is opened: a wrong flag or path should not cost ten seconds.
"""

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path

from kvae.backends import startup
from kvae.data import disk, sources
from kvae_serve.errors import InputDataError, OutputError, RequestError, printable
from kvae_serve.writers import atomic

MODEL, CONFIG, HISTORY, FACTS = "model.keras", "config.toml", "history.csv", "run.json"
RECONSTRUCTIONS, SAMPLES, CHECKPOINTS = "reconstructions.png", "samples.png", "checkpoints"
FILES = (MODEL, CONFIG, HISTORY, FACTS, RECONSTRUCTIONS, SAMPLES, CHECKPOINTS)

_MOST_BYTES = 2**24

#: Settings that may change when a run is resumed.
RESUMABLE = ("data", "epochs", "patience", "checkpoint_every")


def refuse(directory, force):
    """Raise OutputError unless a run may be written at `directory`."""
    directory = Path(directory)
    if not directory.exists():
        if not (parent := directory.absolute().parent).is_dir():
            raise OutputError(f"{parent} is no folder, so {directory} cannot be made; make it first.")
        return
    if not directory.is_dir():
        raise OutputError(f"{directory} is a file; give -o the name of a new folder.")
    held = sorted(entry.name for entry in directory.iterdir())
    if held and not force:
        raise OutputError(
            f"{directory} exists and holds {held[0]}; give another -o, --resume to go on with the run, "
            "or --force to replace it."
        )
    if foreign := sorted(name for name in set(held) - set(FILES) if not _is_leftover(name)):
        raise OutputError(f"{directory} holds {foreign[0]}, which is no part of a run; give another -o.")


@contextlib.contextmanager
def held(directory):
    """Make the folder of a run where there is none, and keep other processes from training in it meanwhile.

    Raises:
        OutputError: where it cannot be made, another process trains in it, or the disk is almost full.
    """
    directory = Path(directory)
    try:
        directory.mkdir(exist_ok=True)
        free = shutil.disk_usage(directory).free
        folder = os.open(directory, os.O_RDONLY) if os.name == "posix" else None
    except OSError as error:
        raise OutputError(f"{directory} cannot be written ({error.strerror}); give another -o.") from None
    try:
        if folder is not None:
            _lock(folder, directory)
        if free < 50 * 2**20:
            raise OutputError(f"{directory} has {free / 2**20:.0f} MiB of free disk, a run wants 50; make room first.")
        yield
    finally:
        if folder is not None:
            os.close(folder)


def _lock(folder, directory):
    import fcntl

    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OutputError(f"Another process trains in {directory}; wait for it, or give another -o.") from None
    except OSError:
        return  # a file system without locks


def clear(directory):
    """Remove the run that a folder holds, and make room for the next: an empty folder for checkpoints."""
    directory = Path(directory)
    try:
        for name in FILES:
            if (directory / name).is_dir():
                shutil.rmtree(directory / name)
            else:
                (directory / name).unlink(missing_ok=True)
        tidy(directory)
        (directory / CHECKPOINTS).mkdir()
    except OSError as error:
        raise OutputError(f"{directory} cannot be written ({error.strerror}); give another -o.") from None


def tidy(directory):
    """Remove what a process that was killed while it wrote has left behind."""
    for folder in (Path(directory), Path(directory) / CHECKPOINTS):
        for path in folder.glob(".*.tmp"):
            with contextlib.suppress(OSError):
                path.unlink()


def _is_leftover(name):
    return name.startswith(".") and name.endswith(".tmp")


def write(directory, config=None, facts=None):
    """Write the configuration and the facts of a run, each whole."""
    if facts:
        atomic.write_whole(Path(directory) / FACTS, (json.dumps(facts, indent=1) + "\n").encode(), force=True)
    if config:
        atomic.write_whole(Path(directory) / CONFIG, config.to_toml().encode(), force=True)


def require(directory):
    """Raise InputDataError unless `directory` holds a run with something learned."""
    _require(directory, CONFIG, FACTS)
    if not any((Path(directory) / CHECKPOINTS).glob("epoch-*")):
        _require(directory, MODEL)


def _require(directory, *names):
    directory = Path(directory)
    if not directory.is_dir():
        raise InputDataError(f"{directory} is no folder; give the folder that `kvae train -o` wrote.")
    for name in names:
        if not (directory / name).is_file():
            raise InputDataError(f"{directory} holds no {name}, so it is no run; make one with `kvae train -o`.")


def read(directory):
    """The configuration and the facts of a run.

    Raises:
        InputDataError: where the folder holds no run, or its files are damaged.
    """
    from kvae.training import config as configs

    _require(directory, CONFIG, FACTS)
    try:
        if (Path(directory) / FACTS).stat().st_size > _MOST_BYTES:
            raise ValueError(f"{FACTS} has more than {_MOST_BYTES} bytes")
        facts = json.loads((Path(directory) / FACTS).read_text(encoding="utf-8"))
        if "classes" in facts:  # of a run from before conditions had names
            classes = facts.pop("classes")
            facts["conditions"] = [{"name": "label", "kind": "categorical", "classes": classes}] if classes else []
        if not {"data", "conditions", "steps_per_epoch", "training"} <= set(facts):
            raise ValueError(f"it has only {', '.join(facts)}")
        return configs.read(Path(directory) / CONFIG), facts
    except (KeyError, TypeError, ValueError, OSError, RecursionError) as error:
        raise InputDataError(f"{directory}: {CONFIG} or {FACTS} is damaged ({_line(error)}); train it again.") from None


def reopen(directory, changes):
    """What to go on with: the configuration of a run with its `changes`, and its facts.

    `facts["finished"]` says whether nothing is left to do.

    Raises:
        InputDataError: where the folder holds no run.
        RequestError: where a change would make it another run.
    """
    if fixed := sorted(set(changes) - set(RESUMABLE)):
        flag = fixed[0].replace("_", "-")
        raise RequestError(
            f"--{flag} cannot change in the middle of a run; start a new one with "
            f"kvae train --config {Path(directory) / CONFIG} --{flag} ... -o NEW_FOLDER."
        )
    config, facts = read(directory)
    wanted = config.replace(**changes)
    longer = (wanted.training.epochs, wanted.training.patience) != (config.training.epochs, config.training.patience)
    finished = bool(facts.get("finished")) and not longer
    begun = printable(str(facts.get("engine", "tensorflow")))
    if not finished and begun != startup.chosen():
        raise RequestError(
            f"{directory} was begun on {begun}, and ends as it would have there alone; set KERAS_BACKEND={begun}."
        )
    return wanted, {**facts, "finished": finished}


def read_data(config):
    """Read what `config` trains on.

    Args:
        config: `kvae.training.config.Config`.

    Returns:
        `kvae_serve.readers.Dataset` of the training split, with the conditions that the model is given.

    Raises:
        RequestError: where the configuration names no data.
        InputDataError: where the data are missing or bad, lack a condition of the model, or are too few.
    """
    if not config.data.data:
        raise RequestError("Nothing to train on: give --data a file, a folder, or the name mnist.")
    dataset = _read(config)
    num, held_out = len(dataset.x), config.data.validation
    if held_out >= num:
        raise InputDataError(
            f"{config.data.data} has {num} examples, of which {held_out} cannot be held out for validation; "
            "give --validation a smaller number (0 for none)."
        )
    return dataset


def _read(config):
    """The data as the network takes them: files do not tell a sequence [steps, features] from a gray image."""
    dataset = sources.from_config(config.data)
    if config.model.network != "lstm" or dataset.columns:
        return dataset
    if dataset.x.ndim != 4 or dataset.x.shape[-1] != 1:
        raise InputDataError(
            f"{dataset.source} holds examples of shape {list(dataset.x.shape[1:])}, an LSTM takes sequences "
            "[steps, features]; use --network dense."
        )
    return dataset._replace(x=disk.as_sequences(dataset.x))


def fingerprint(dataset):
    """What tells whether data are still the same: count, shape and SHA-256 of the examples and their conditions."""
    digest = hashlib.sha256()
    for array in (dataset.x, *dataset.conditions.values()):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        for part in disk.fingerprint_chunks(array):
            digest.update(part)
    return {"examples": len(dataset.x), "shape": list(dataset.x.shape[1:]), "sha256": digest.hexdigest()}


def require_same_data(directory, facts, dataset):
    """Raise InputDataError unless `dataset` is what the run was begun with."""
    then, now = facts.get("fingerprint"), fingerprint(dataset)
    if then != now:
        seen = [f"{mark['examples']} of {mark['shape']}, SHA-256 {mark['sha256'][:12]}" for mark in (then, now) if mark]
        raise InputDataError(
            f"{dataset.source} is not what {directory} was begun with ({' now '.join(seen)}); "
            "give --data the same data, or start a new run."
        )


def settled(config, num):
    """The configuration with the number of validation examples worked out where it was left open.

    Args:
        config: `kvae.training.config.Config`.
        num: examples of the training split.
    """
    if config.data.validation >= 0:
        return config
    return config.replace(validation=min(5000, num // 10))


def data_of(directory):
    """The data of a run, as (what was trained on, what was held out): each a pair of x and its conditions.

    None in place of both where the data are no longer there, or are no longer those of the run.
    """
    from kvae.dataloaders import batches

    config, facts = read(directory)
    try:
        dataset = _read(config)
    except InputDataError:
        return None, None
    if fingerprint(dataset) != facts.get("fingerprint"):
        return None, None
    parts = batches.hold_out(len(dataset.x), config.data.validation, config.training.seed)

    def pair(rows):
        given = {name: values[rows] for name, values in dataset.conditions.items()}
        return (disk.take(dataset.x, rows), given or None) if len(rows) else None

    return tuple(map(pair, parts))


def _line(error):
    return str(error).splitlines()[0] if str(error) else type(error).__name__
