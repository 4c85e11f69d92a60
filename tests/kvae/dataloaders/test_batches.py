"""Batches: the order of the training data, and the split into training and validation data."""

import numpy as np

from kvae.dataloaders import batches


def test_order_is_a_function_of_seed_and_epoch():
    x = np.arange(100, dtype="uint8")[:, None]

    def order(seed, epoch):
        loader = batches.training_batches(x, np.arange(100), 10, seed)
        loader.callback.on_epoch_begin(epoch)
        return np.concatenate([np.asarray(label) for _, label in loader.dataset])

    first = order(0, 0)
    assert sorted(first) == list(range(100))
    np.testing.assert_array_equal(first, order(0, 0))
    assert (first != order(0, 1)).any()
    assert (first != order(1, 0)).any()


def test_last_batch_of_an_epoch_is_full():
    loader = batches.training_batches(np.zeros((25, 1), "uint8"), np.arange(25), 10, 0)
    assert loader.steps == len(loader.dataset) == 2
    assert [len(label) for _, label in loader.dataset] == [10, 10]


def test_split_is_seeded_and_disjoint():
    train, validation = batches.hold_out(100, 10, seed=3)
    assert len(validation) == 10
    assert sorted([*train, *validation]) == list(range(100))
    np.testing.assert_array_equal(validation, batches.hold_out(100, 10, seed=3)[1])
    assert (validation != batches.hold_out(100, 10, seed=4)[1]).any()
