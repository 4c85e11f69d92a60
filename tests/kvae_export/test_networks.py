"""Whole networks of users: a sample of `support.network_cases`, all of which `benchmarks/network_export.py` exports."""

from __future__ import annotations

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("the export needs TensorFlow", allow_module_level=True)

from kvae_serve.errors import RequestError
from support import network_cases

# One of each kind of difficulty: skips, windows, sampling, upsampling, steps, cells, masks, sorting and nesting.
SAMPLE = (
    "U-Net with attention gates", "EfficientNet block", "shifted windows", "spatial transformer", "FiLM", "WaveNet",
    "custom cell", "causal transformer", "sparsemax", "nested models",
)  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("name", SAMPLE)
def test_network_is_exported_with_parity(name, tmp_path):
    shape, _ = network_cases.all_cases()[name]
    # `write` compares the sealed file with Keras and raises if they differ.
    served = network_cases.export(network_cases.encoder(name), shape, tmp_path / "network")
    assert {check.ok for check in served.verify()} == {True}


def test_index_of_a_repeated_axis_is_exported(tmp_path):
    """tf2onnx computes the sizes after a repeated last axis as an empty slice of a shape."""
    x = keras.Input((5, 3))
    index = keras.ops.cast(keras.ops.floor(4.9 * x[:, :, :1]), "int32")
    state = keras.ops.take_along_axis(x, keras.ops.repeat(index, 3, axis=2), axis=1)
    state = keras.layers.Flatten()(state)
    model = keras.Model(x, [keras.layers.Dense(2)(state), keras.layers.Dense(2)(state)])
    assert network_cases.export(model, (5, 3), tmp_path / "network").verify()[0].ok


def test_symmetric_padding_is_refused_with_an_alternative(tmp_path):
    shape, _ = network_cases.all_cases()["symmetric padding"]
    with pytest.raises(RequestError, match="use the mode reflect"):
        network_cases.export(network_cases.encoder("symmetric padding"), shape, tmp_path / "network")
