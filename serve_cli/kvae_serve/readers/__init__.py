"""Data sets from files: IDX, .npz, .npy, images and CSV, with numpy, Pillow and the standard library.

What is read is checked at once, so that nothing later meets a NaN, an empty array or labels of another length. Every
bad file is an `InputDataError` of one line.
"""

from kvae_serve.readers.checks import check_data, check_range
from kvae_serve.readers.dataset import Dataset, ReadOptions, Split
from kvae_serve.readers.dispatch import read_dataset, read_for
from kvae_serve.readers.idx import read_idx

__all__ = ["Dataset", "ReadOptions", "Split", "check_data", "check_range", "read_dataset", "read_for", "read_idx"]
