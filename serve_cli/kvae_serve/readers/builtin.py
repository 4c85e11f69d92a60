"""Data that are asked for by name: the few digits that ship with the package, and the sets that training downloads."""

from __future__ import annotations

from pathlib import Path

SAMPLE = "mnist-sample"
"""600 training and 200 test digits of MNIST."""

DOWNLOADED = ("mnist", "fashion_mnist")
"""Names that `kvae train` takes: Keras downloads these sets, and nothing else here does."""


def located(path: str | Path) -> Path:
    """Return where data are: the folder behind `SAMPLE`, unless something of that name exists; else the path itself."""
    path = Path(path)
    if str(path) == SAMPLE and not path.exists():
        return Path(__file__).parent / "mnist_sample"
    return path


def hint(path: Path) -> str:
    """Return what to say of a path that does not exist where it is a name that another command knows; else nothing."""
    if str(path) not in DOWNLOADED:
        return ""
    return f" The name {path} is for kvae train, which downloads that set; here give the folder that holds its files."
