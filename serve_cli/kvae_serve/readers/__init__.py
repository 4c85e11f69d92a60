"""Read datasets from IDX, .npz, .npy, image and CSV files, with numpy, Pillow and the standard library.

The readers check the data: finite values, no empty arrays, as many labels as examples. Every bad file raises an
`InputDataError` with a message of one line.
"""

from kvae_serve.readers.checks import check_data, check_range
from kvae_serve.readers.dataset import Dataset, MissingSplitError, ReadOptions, Split
from kvae_serve.readers.dispatch import read_dataset, read_for
from kvae_serve.readers.idx import read_idx

__all__ = [
    "Dataset",
    "MissingSplitError",
    "ReadOptions",
    "Split",
    "check_data",
    "check_range",
    "read_dataset",
    "read_for",
    "read_idx",
]
