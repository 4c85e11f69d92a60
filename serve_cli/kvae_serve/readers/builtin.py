"""Datasets with a name: the sample of MNIST in the package, and the sets that training downloads."""

from __future__ import annotations

from pathlib import Path

SAMPLE = "mnist-sample"
"""600 training and 200 test digits of MNIST."""

DOWNLOADED = ("mnist", "fashion_mnist")
"""Names that `kvae train` accepts. Only Keras downloads these sets."""


def located(path: str | Path) -> Path:
    """Return the path of the data: the folder of `SAMPLE`, unless a file has that name, or the path itself."""
    path = Path(path)
    if str(path) == SAMPLE and not path.exists():
        return Path(__file__).parent / "mnist_sample"
    return path


def hint(path: Path) -> str:
    """Return a hint for a missing path that is the name of a downloaded set, otherwise an empty text."""
    if str(path) not in DOWNLOADED:
        return ""
    return f" Only kvae train downloads {path}. Use mnist-sample, or a folder with the files."
