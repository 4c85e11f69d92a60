"""The memory of PyTorch's device, for data that lie there: `kvae.dataloaders.device`."""

import keras
import torch
from keras import ops
from keras.src.backend.torch.core import get_device


def put(columns):
    """Arrays in tuples and dicts to the same on the device."""
    return keras.tree.map_structure(ops.convert_to_tensor, columns)


def numbers(rows):
    """Numbers of rows where `batch` wants them: on the device too, for a copy in each step would wait for it."""
    return ops.convert_to_tensor(rows)


def batch(columns, rows):
    """Those rows of all columns."""
    return keras.tree.map_structure(lambda column: column[rows], columns)


def free():
    """Bytes that a GPU's memory has left; 0 where the device is none."""
    device = torch.device(get_device())
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
