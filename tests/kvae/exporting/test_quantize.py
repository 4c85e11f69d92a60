"""Weights stored as float16 or int8: content, outputs and cost of the files."""

import json

import keras
import numpy as np
import onnxruntime
import pytest

import kvae
from kvae import networks
from kvae.exporting import quantize
from kvae_export import weight_costs
from kvae_export.passes import quantized_storage
from kvae_serve.errors import RequestError, VerificationError

SHAPE = (8, 8, 1)


def randomised(model):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if not weight.path.startswith("totals"):
            positive = "variance" in weight.path
            weight.assign(rng.uniform(0.5, 2, weight.shape) if positive else rng.normal(0, 0.2, weight.shape))
    return model


def dense():
    return kvae.VAE(networks.dense_encoder(SHAPE, 3, (64,)), networks.dense_decoder(SHAPE, 3, (64,)))


def lstm():
    given = {"units": 40, "condition_dim": 3}
    return kvae.ConditionalVAE(
        networks.lstm_encoder((6, 2), 3, **given),
        networks.lstm_decoder((6, 2), 3, **given),
        conditions=kvae.Categorical("label", 3),
    )


def normalised():
    """Convolutions of every kind, with batch normalisations that are folded into them."""
    layers, x, z = keras.layers, keras.Input(SHAPE), keras.Input((4,))
    state = x
    for filters in (16, 24):
        state = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(state)
        state = layers.ReLU()(layers.BatchNormalization()(state))
    state = layers.Flatten()(state)
    encoder = keras.Model(x, [layers.Dense(4)(state), layers.Dense(4)(state)])
    state = layers.Reshape((2, 2, 24))(layers.Dense(96)(z))
    for filters in (24, 16):
        state = layers.Conv2DTranspose(filters, 3, strides=2, padding="same", use_bias=False)(state)
        state = layers.ReLU()(layers.BatchNormalization()(state))
    state = layers.SeparableConv2D(24, 3, padding="same")(state)
    return kvae.VAE(encoder, keras.Model(z, layers.Conv2DTranspose(1, 3, padding="same")(state)))


def sizes(folder):
    return sum(path.stat().st_size - 3000 for path in folder.glob("*.onnx"))  # without manifests


@pytest.mark.parametrize(
    "make", [dense, pytest.param(lstm, marks=pytest.mark.long), pytest.param(normalised, marks=pytest.mark.long)]
)
def test_small_files_match_keras_with_the_rounded_weights(make, tmp_path):
    model = randomised(make())
    before = model.get_weights()
    served = {}
    for form in quantize.FORMS:
        model.export(tmp_path / form, format="onnx", weights=form, name="m")
        served[form] = kvae.load(tmp_path / form)
        # The difference is at most a tenth of the tolerance.
        assert all(check.difference <= 0.1 * check.allowed for check in served[form].verify()), form
        assert served[form].manifest.raw["weights"] == form
    for weight, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, kept)
    assert sizes(tmp_path / "float16") < 0.62 * sizes(tmp_path / "float32")
    assert sizes(tmp_path / "int8") < 0.45 * sizes(tmp_path / "float32")
    assert len({each.manifest.model_id for each in served.values()}) == 3
    # Any other runtime folds the stored weights itself, to the same bits.
    rng = np.random.default_rng(2)
    z = rng.normal(size=(5, model.latent_dim)).astype("f4")
    given = {"label": np.arange(5) % 3} if make is lstm else {}
    whole = served["float32"].decode(z, given)
    for form, apart in (("float16", 1e-3), ("int8", 0.05)):
        got = served[form].decode(z, given)
        plain = onnxruntime.InferenceSession(str(tmp_path / form / "decoder.onnx"), providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(plain.run(["x_mean"], {"z": z, **given})[0], got, atol=2e-5, rtol=1e-6)
        difference = np.abs(got - whole).max() / 255
        assert 0 < difference < apart, (form, difference)


def test_rounding_matches_the_formula():
    layer = keras.layers.Dense(2)
    weight = np.array([[1.0, -0.5], [0.003, 0.2501], [-0.5, 0.0]], "f4")
    layer.build((None, 3))
    for dtype, steps in ((np.int8, 127), (np.float16, None)):
        scale = quantized_storage.scale_of(weight, (-1,), dtype)
        got = quantized_storage.round_to(weight, scale, dtype) * scale
        if steps:
            want = np.round(weight / [1.0, 0.5] * 127) / 127 * [1.0, 0.5]
            np.testing.assert_allclose(got, want, rtol=1e-6)
            assert np.abs(got - weight).max() <= 0.5 / 127
        else:
            np.testing.assert_allclose(got, weight, rtol=2**-11)
    zero = np.zeros((4, 4), "f4")
    assert (quantized_storage.round_to(zero, quantized_storage.scale_of(zero, (0,), np.int8), np.int8) == 0).all()


def test_card_shows_the_cost_of_small_weights(tmp_path):
    model, measured = randomised(dense()), []
    x = np.random.default_rng(0).choice([0.0, 255.0], (300, *SHAPE)).astype("f4")
    model.export(tmp_path / "out", weights="int8", trained_on=x[:200], held_out=x[200:], measured=measured)
    head, whole, small = measured
    assert head[:2] == ("Weights", "Bytes")
    assert [whole[0], small[0]] == ["float32", "int8"]
    served = kvae.load(tmp_path / "out")
    elbo = served.score(x[200:]).elbo.mean()
    assert small[-1].startswith(f"{elbo:.3f} (")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "## Weights" in card
    assert small[-1] in card
    kept = served.manifest.raw["score"]
    scores = np.sort(served.score(x[200:]).elbo)
    assert (kept["num_samples"], kept["seed"], kept["examples"], kept["split"]) == (16, 0, 100, "validation")
    for share, value in kept["quantiles"].items():
        assert value == pytest.approx(np.interp(float(share) * 101, np.arange(1, 101), scores), abs=1e-2)
    # The manifest of every file contains them.
    for graph in served.graphs:
        assert served.graph_manifest(graph).raw["score"] == kept


def test_weights_that_do_not_pay_are_refused_and_nothing_is_written(tmp_path):
    small = kvae.VAE(networks.dense_encoder((4,), 2, (5,)), networks.dense_decoder((4,), 2, (5,)))
    with pytest.raises(VerificationError, match="do not make a model of this size smaller") as error:
        randomised(small).export(tmp_path / "out", weights="float16")
    assert error.value.exit_code == 6
    assert list(tmp_path.iterdir()) == []


def test_gain_in_size_or_time_is_required():
    row = weight_costs.Row("float32", 1000, 10.0, 1.0, 0.0, 0.0, -90.0)
    worse = row._replace(weights="int8", max_difference=0.01, elbo=-91.0)
    with pytest.raises(VerificationError):
        weight_costs.require_gain([row, worse])
    with pytest.raises(VerificationError):
        weight_costs.require_gain([row, worse._replace(batched=0.5)])
    weight_costs.require_gain([row, worse._replace(num_bytes=900)])
    weight_costs.require_gain([row, worse._replace(batched=0.5, single=8.0)])
    weight_costs.require_gain([row])


def test_unknown_form_is_refused(tmp_path):
    with pytest.raises(RequestError, match="float32, float16 or int8, got 'int4'"):
        randomised(dense()).export(tmp_path / "out", weights="int4")


def test_weights_are_restored_after_an_error():
    model = randomised(dense())
    before = json.dumps([w.tolist() for w in model.get_weights()])
    with quantize.rounded(model, "int8"):
        assert json.dumps([w.tolist() for w in model.get_weights()]) != before

    def fails():
        with quantize.rounded(model, "int8"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert json.dumps([w.tolist() for w in model.get_weights()]) == before
