"""A run on disk, seen without Keras: its files, whether one may be written, and the data that it names.

What is asked here is asked before TensorFlow is opened: a wrong flag or path should not cost ten seconds.
"""

from pathlib import Path

from kvae.data import sources
from serve_cli.errors import InputDataError, OutputError, RequestError

MODEL, CONFIG, HISTORY, FACTS = "model.keras", "config.toml", "history.csv", "run.json"
RECONSTRUCTIONS, SAMPLES = "reconstructions.png", "samples.png"
FILES = (MODEL, CONFIG, HISTORY, FACTS, RECONSTRUCTIONS, SAMPLES)


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
        raise OutputError(f"{directory} exists and holds {held[0]}; give another -o, or --force to replace the run.")
    if foreign := sorted(set(held) - set(FILES)):
        raise OutputError(f"{directory} holds {foreign[0]}, which is no part of a run; give another -o.")


def require(directory):
    """Raise InputDataError unless `directory` holds a run."""
    directory = Path(directory)
    if not directory.is_dir():
        raise InputDataError(f"{directory} is no folder; give the folder that `kvae train -o` wrote.")
    for name in (CONFIG, FACTS, MODEL):
        if not (directory / name).is_file():
            raise InputDataError(f"{directory} holds no {name}, so it is no run; make one with `kvae train -o`.")


def read_data(config):
    """Read what `config` trains on.

    Args:
        config: `kvae.config.Config`.

    Returns:
        `serve_cli.readers.Dataset` of the training split.

    Raises:
        RequestError: where the configuration names no data.
        InputDataError: where the data are missing or bad, have no labels for a conditional model, or are too few.
    """
    if not config.data.data:
        raise RequestError("Nothing to train on: give --data a file, a folder, or the name mnist.")
    dataset = sources.load(config.data.data, split="train")
    if config.data.conditional:
        if "label" not in dataset.conditions:
            raise InputDataError(f"{dataset.source} has no labels, so no conditional model; leave --conditional out.")
        if "label" not in dataset.class_names or len(dataset.class_names["label"]) < 2:
            raise InputDataError(f"{dataset.source} needs at least 2 classes of label for a conditional model.")
    num, held_out = len(dataset.x), config.data.validation
    if held_out >= num:
        raise InputDataError(
            f"{config.data.data} has {num} examples, of which {held_out} cannot be held out for validation; "
            "give --validation a smaller number (0 for none)."
        )
    return dataset


def examples(directory, num=64):
    """The first examples of a run's data, `[num, *shape]`, or None where the data are no longer there."""
    from kvae import config as configs

    try:
        return sources.load(configs.read(Path(directory) / CONFIG).data.data).x[:num]
    except InputDataError:
        return None
