"""How data that lie on the device reach `fit`: what `kvae.dataloaders.device` makes and the steps of an engine take."""

from typing import Any, NamedTuple


class Block(NamedTuple):
    """Some steps' batches.

    Attributes:
        columns: arrays `[num, ...]` on the device, in tuples and dicts: a whole dataset.
        rows: int32 `[steps, batch]`, those of each step.
    """

    columns: Any
    rows: Any


class Blocks:
    """Iterator over the `Block`s of an epoch, by which an engine knows them."""

    def __init__(self, blocks):
        self._blocks = blocks

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._blocks)


def of_an_execution(blocks, steps):
    """The next blocks of an iterator that hold `steps` batches: one, and the short last batch, which is one by itself.

    At the end of the epoch there are fewer.
    """
    found = [next(blocks)]
    while sum(len(block.rows) for block in found) < steps and (block := next(blocks, None)):
        found.append(block)
    return found
