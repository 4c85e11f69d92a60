"""Batches of examples: each row once, in an order that is a function of seed and epoch."""

import keras
import numpy as np
import pytest

from kvae.data import disk
from kvae.dataloaders import arrays, tensorflow


def as_numpy(dataset):
    return [keras.tree.map_structure(np.asarray, batch) for batch in dataset]


@pytest.mark.parametrize("loader", [arrays, tensorflow])
@pytest.mark.parametrize("conditions", ["none", "label", "several"])
@pytest.mark.parametrize("on_disk", [False, True])
def test_training_batches_have_each_row_once_with_its_conditions(loader, conditions, on_disk, tmp_path):
    x = np.arange(2 * 53, dtype="uint8").reshape(53, 2)
    label = np.arange(53)
    values = {"none": None, "label": label, "several": {"label": label, "age": label / 7}}[conditions]
    if on_disk:
        np.save(tmp_path / "x.npy", x)
        x = disk.OnDisk(np.load(tmp_path / "x.npy", mmap_mode="r"))
    dataset, begin, steps = loader.training_batches(x, values, 10, 4)
    assert steps == 5
    orders = []
    for epoch in (0, 7, 0):
        begin(epoch)
        batches = as_numpy(dataset)
        assert [len(batch[0]) for batch in batches] == [10] * 5
        orders.append([int(row) for batch in batches for row in batch[0][:, 0] // 2])
        assert len(set(orders[-1])) == 50
        for batch in batches:
            row = batch[0][:, 0] // 2
            np.testing.assert_array_equal(batch[0][:, 1], 2 * row + 1)
            if conditions == "label":
                np.testing.assert_array_equal(batch[1], row)
            elif conditions == "several":
                np.testing.assert_array_equal(batch[1]["label"], row)
                np.testing.assert_allclose(batch[1]["age"], row / 7)
    assert orders[0] == orders[2] != orders[1]
    assert orders[0] != sorted(orders[0])
    other = as_numpy(loader.training_batches(x, values, 10, 5)[0])
    assert [int(row) for batch in other for row in batch[0][:, 0] // 2] != orders[0]


@pytest.mark.parametrize("loader", [arrays, tensorflow])
def test_validation_batches_keep_the_order_and_the_short_last_batch(loader):
    x = np.arange(106, dtype="uint8").reshape(53, 2)
    batches = as_numpy(loader.validation_batches(x, None, 25))
    assert [len(batch[0]) for batch in batches] == [25, 25, 3]
    np.testing.assert_array_equal(np.concatenate([batch[0] for batch in batches]), x)
