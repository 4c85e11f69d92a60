"""Networks, data and protocol that the engines of training_speed.py share.

An engine is a process. It reads one JSON request per line from stdin, `{"net": ..., "epochs": E, "examples": N,
...form}`, trains that form of the network for E more epochs, and writes a line `{"seconds": ..., "loss": ...,
"parameters": ...}`: wall time, mean loss of the last epoch in nats per example, and number of parameters, which must be
equal in all engines. Its first line describes the engine.
"""

import json
import os
import sys
from typing import NamedTuple

import numpy as np


class Net(NamedTuple):
    """A network and its training settings.

    Attributes:
        kind: `"dense"` or `"conv"`.
        shape: (height, width, channels) of an example.
        latent_dim: size of z.
        widths: sizes of the hidden layers, or channels of the convolutions of stride 2; reversed in the decoder.
        batch: examples per step.
        steps_per_execution: steps per call from Python.
        examples: examples per epoch, by device.
    """

    kind: str
    shape: tuple[int, int, int]
    latent_dim: int
    widths: tuple[int, ...]
    batch: int
    steps_per_execution: int
    examples: dict[str, int]


_MNIST = {"cpu": 60_000, "gpu": 60_000}
NETS = {
    # 784-200-200-50 tanh, that of the preset iwae-paper, and the same in batches that fill a larger machine.
    "dense-100": Net("dense", (28, 28, 1), 50, (200, 200), 100, 50, _MNIST),
    "dense-1024": Net("dense", (28, 28, 1), 50, (200, 200), 1024, 29, _MNIST),
    # Convolutions with a dense layer of 256: two at 28 x 28, and the four of the preset beta-sprites-conv at 64 x 64.
    "conv-28": Net("conv", (28, 28, 1), 16, (32, 64), 128, 20, {"cpu": 5_120, "gpu": 51_200}),
    "conv-64": Net("conv", (64, 64, 1), 10, (32, 32, 64, 64), 64, 20, {"cpu": 2_560, "gpu": 51_200}),
}
DENSE = 256
"""Width of the dense layer of a convolutional net."""


def pixels(net, examples):
    """MNIST-like bytes `[examples, height, width, channels]`: about as many black pixels as MNIST has."""
    generator = np.random.default_rng(0)
    shape = (examples, *NETS[net].shape)
    return generator.integers(0, 256, shape, "uint8") * (generator.random(shape, "float32") < 0.2)


def serve(facts, run_of):
    """Answer requests until stdin ends. `run_of(net, examples, **form)` returns an object with `train(epochs)`."""
    answers = os.fdopen(os.dup(1), "w")
    # Prints of libraries must not mix with the answers. Errors go to stderr.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    print(json.dumps(facts), flush=True, file=answers)
    runs = {}
    for line in sys.stdin:
        request = json.loads(line)
        epochs, key = request.pop("epochs"), json.dumps(request)
        if key not in runs:
            runs[key] = run_of(**request)
        seconds, loss = runs[key].train(epochs)
        answer = {"seconds": seconds, "loss": loss, "parameters": runs[key].parameters}
        print(json.dumps(answer), flush=True, file=answers)
