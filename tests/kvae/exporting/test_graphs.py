"""Export of models: the sealed files reproduce Keras, in data units, for every kind of model."""

import hashlib
import io

import keras
import numpy as np
import onnx
import pytest
from click.testing import CliRunner

import kvae
from kvae import networks
from kvae.commands.export import export as export_command
from kvae.data.spec import DataSpec
from kvae.exporting import pictures
from kvae.likelihoods import Bernoulli
from kvae.training import config, train
from kvae_serve.errors import ModelFileError, OutputError, RequestError, VerificationError
from support.pictures import text_places

SHAPE, LATENT = (8, 8, 1), 3


def randomised(model):
    """Assign random weights, so that every input matters."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.path.startswith("totals"):
            continue
        weight.assign(rng.normal(0, 0.2, weight.shape))
    return model


def cell(picture, row, column):
    """Return the pixels of an image of 8 x 8, counted from the end of a picture, before it was enlarged 7 times."""
    assert row < 0 > column
    y, x = (size - 8 + 60 * at for size, at in zip(picture.shape, (row, column), strict=True))
    enlarged = picture[y + 4 : y + 60, x + 4 : x + 60].astype("f4")
    small = enlarged[3::7, 3::7]
    np.testing.assert_array_equal(enlarged, small.repeat(7, axis=0).repeat(7, axis=1))
    return small


def plain():
    return randomised(
        kvae.VAE(networks.dense_encoder(SHAPE, LATENT, (9,)), networks.dense_decoder(SHAPE, LATENT, (9,)))
    )


def conditional():
    return randomised(
        kvae.ConditionalVAE(
            networks.conv_encoder(SHAPE, LATENT, (4, 6), dense=10, condition_dim=3),
            networks.conv_decoder(SHAPE, LATENT, (6, 4), dense=10, condition_dim=3),
            conditions=[kvae.Categorical("label", ["cat", "dog", "ox"])],
        )
    )


def residual():
    return randomised(
        kvae.VAE(
            networks.residual_encoder(SHAPE, LATENT, (4, 4), blocks=1, dense=8),
            networks.residual_decoder(SHAPE, LATENT, (4, 4), blocks=1, dense=8),
        )
    )


def sequence():
    return randomised(
        kvae.ConditionalVAE(
            networks.lstm_encoder((6, 2), LATENT, units=5, condition_dim=3),
            networks.lstm_decoder((6, 2), LATENT, units=5, condition_dim=3),
            conditions=kvae.Categorical("label", 3),
        )
    )


def several_conditions():
    conditions = [kvae.Categorical("species", 4, embedding_dim=2), kvae.Continuous("age", 0, 20)]
    return randomised(
        kvae.ConditionalBetaVAE(
            networks.dense_encoder((5,), LATENT, (7,), condition_dim=3, gated=True),
            networks.dense_decoder((5,), LATENT, (7,), condition_dim=3, gated=True),
            conditions=conditions,
            beta=4.0,
            data=DataSpec((5,), range=(0, 1)),
            likelihood=Bernoulli("none"),
        )
    )


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        pytest.param(plain, "vae", marks=pytest.mark.long),
        (conditional, "conditional-vae"),
        (several_conditions, "conditional-beta-vae"),
        pytest.param(residual, "vae", marks=pytest.mark.long),
        pytest.param(sequence, "conditional-vae", marks=pytest.mark.long),
    ],
)
def test_every_graph_matches_keras(make, kind, tmp_path):
    model = make()
    paths = model.export(tmp_path / "out", format="onnx", name="m")
    assert [p.name for p in paths][:3] == ["encoder.onnx", "decoder.onnx", "likelihood.onnx"]
    served = kvae.load(tmp_path / "out")
    assert served.manifest.kind == kind
    rng = np.random.default_rng(1)
    low, high = model.data.range
    x = rng.choice([low, high], (7, *model.data.shape)).astype("f4")
    z = rng.normal(size=(7, LATENT)).astype("f4")
    conditions = {}
    for condition in getattr(model, "conditions", []):
        if isinstance(condition, kvae.Categorical):
            conditions[condition.name] = np.arange(7) % condition.num_classes
        else:
            conditions[condition.name] = np.linspace(-5, 25, 7, dtype="f4")
    vector = (model.condition_vector(conditions),) if conditions else ()
    z_mean, z_log_var = model._encode(model.data.to_unit(x), vector)
    got = served.run("encoder", {"x": x, **conditions})
    np.testing.assert_allclose(got["z_mean"], z_mean, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(got["z_log_var"], z_log_var, rtol=1e-4, atol=1e-4)
    logits = np.asarray(model._decode(z, vector), "f8")
    got = served.run("decoder", {"z": z, **conditions})
    np.testing.assert_allclose(got["x_mean"], low + (high - low) / (1 + np.exp(-logits)), atol=1e-4 * (high - low))
    # log p(x|z) by the definition of a Bernoulli, in double precision.
    bit = x / high
    log_p = -(np.log1p(np.exp(-logits)) * bit + np.log1p(np.exp(logits)) * (1 - bit)).reshape(7, -1).sum(-1)
    got = served.run("likelihood", {"x": x, "z": z, **conditions})
    np.testing.assert_allclose(got["log_likelihood"], log_p, rtol=1e-5)


def test_same_weights_export_to_the_same_bytes_with_other_layer_names(tmp_path):
    first = plain()
    first.export(tmp_path / "a", name="m")
    keras.layers.Dense(3)  # moves the counters of automatic names
    again = plain()
    again.set_weights(first.get_weights())
    again.export(tmp_path / "b", name="m")
    for name in ("encoder.onnx", "decoder.onnx", "likelihood.onnx", "README.md", "preview.png"):
        a, b = ((tmp_path / folder / name).read_bytes() for folder in "ab")
        assert hashlib.sha256(a).digest() == hashlib.sha256(b).digest(), name


def test_files_of_two_models_are_not_mixed(tmp_path):
    model = plain()
    model.export(tmp_path / "a", name="m")
    model.decoder.weights[0].assign_add(np.full(model.decoder.weights[0].shape, 0.01))
    model.export(tmp_path / "b", name="m")
    (tmp_path / "a" / "decoder.onnx").write_bytes((tmp_path / "b" / "decoder.onnx").read_bytes())
    mixed = kvae.load(tmp_path / "a")
    mixed.sealed("encoder")
    with pytest.raises(ModelFileError, match="model"):
        mixed.sealed("decoder")


def test_file_that_differs_from_keras_is_exit_code_6_and_not_written(tmp_path, monkeypatch):
    from kvae_serve.sealed import file as onnx_file

    seal = onnx_file.seal
    model = plain()
    weight = np.ascontiguousarray(model.decoder.get_layer("dense_0").kernel, "<f4").tobytes()

    def broken(data, manifest):
        assert manifest["graph"] != "decoder" or weight in data
        spoiled = np.frombuffer(weight, "<f4").copy()
        spoiled[0] += 0.5
        return seal(data.replace(weight, spoiled.tobytes()), manifest)

    monkeypatch.setattr(onnx_file, "seal", broken)
    with pytest.raises(VerificationError, match="decoder") as error:
        model.export(tmp_path / "out")
    assert error.value.exit_code == 6
    assert list(tmp_path.iterdir()) == []


def test_layer_without_an_onnx_form_is_named_and_nothing_is_written(tmp_path):
    x = keras.Input(SHAPE)
    flat = keras.layers.Dense(9, activation="gelu", name="smooth")(keras.layers.Flatten()(x))
    encoder = keras.Model(x, [keras.layers.Dense(LATENT)(flat), keras.layers.Dense(LATENT)(flat)])
    model = kvae.VAE(encoder, networks.dense_decoder(SHAPE, LATENT, (9,)))
    with pytest.raises(RequestError, match="smooth") as error:
        model.export(tmp_path / "out")
    assert "approximate" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_every_activation_of_the_settings_exports(tmp_path):
    x, z = keras.Input(SHAPE), keras.Input((LATENT,))
    state = keras.layers.Flatten()(x)
    for activation in config.ACTIVATIONS:
        state = keras.layers.Dense(9, activation=activation)(state)
    encoder = keras.Model(x, [keras.layers.Dense(LATENT)(state), keras.layers.Dense(LATENT)(state)])
    decoder = keras.Model(z, keras.layers.Reshape(SHAPE)(keras.layers.Dense(64)(z)))
    assert len(randomised(kvae.VAE(encoder, decoder)).export(tmp_path / "out")) == 5


def test_existing_folder_is_kept_unless_forced(tmp_path):
    model = plain()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "decoder.onnx").write_bytes(b"before")
    with pytest.raises(OutputError, match="exists"):
        model.export(tmp_path / "out")
    assert (tmp_path / "out" / "decoder.onnx").read_bytes() == b"before"
    model.export(tmp_path / "out", force=True)
    assert (tmp_path / "out" / "decoder.onnx").read_bytes() != b"before"


@pytest.mark.parametrize("make", [plain, pytest.param(conditional, marks=pytest.mark.long)])
def test_other_formats_are_exported_by_keras(make, tmp_path):
    import tensorflow as tf

    model = make()
    model.export(tmp_path / "saved", format="tf_saved_model", verbose=False)
    x = np.full((2, *SHAPE), 100.0, "f4")
    inputs = x if make is plain else (x, {"label": np.array([0, 2])})
    artifact = tf.saved_model.load(tmp_path / "saved")  # kept, for its functions only borrow its variables
    served = artifact.serve(tf.nest.map_structure(tf.convert_to_tensor, inputs))
    np.testing.assert_allclose(served, model(inputs), rtol=1e-5, atol=1e-3)


def test_command_exports_a_run_with_its_metadata(tmp_path):
    settings = config.Config().replace(
        data="mnist-sample", conditional=True, validation=100, epochs=1, latent_dim=2,
        encoder_hidden=(16,), decoder_hidden=(16,), initial_beta=3.0, warmup_epochs=1.0, network="dense",
        batch_size=128,
    )  # fmt: skip
    train.train(settings, tmp_path / "run", quiet=True, export_check=False)
    result = CliRunner().invoke(export_command, [str(tmp_path / "run"), "-o", str(tmp_path / "out"), "--name", "tiny"])
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert f"Next: kvae sample -m {tmp_path / 'out'} --label 9" in result.stderr
    manifest = kvae.load(tmp_path / "out").manifest
    assert manifest.name == "tiny"
    assert manifest.training["dataset"] == "mnist-sample"
    assert manifest.training["beta"] == {"name": "linear", "start": 3.0, "end": 1.0, "steps": 3}
    assert manifest.training["validation"]["examples"] == 100
    assert (tmp_path / "out" / "config.toml").read_text() == (tmp_path / "run" / "config.toml").read_text()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "mnist-sample" in card


def test_preview_of_many_classes_shows_the_first_30():
    from PIL import Image

    conditions = kvae.Categorical("label", 1000)
    model = kvae.ConditionalVAE.dense((8, 8, 1), latent_dim=2, conditions=conditions, hidden=(4,))
    with Image.open(io.BytesIO(pictures.samples(model, columns=1))) as preview:
        assert 30 * 112 < preview.height < 31 * 120


def test_preview_shows_the_samples_of_the_command(tmp_path):
    from PIL import Image

    model = conditional()
    model.export(tmp_path / "out")
    with Image.open(tmp_path / "out" / "preview.png") as preview:
        picture = np.asarray(preview)
    rows = len(model.conditions[0].classes)
    for row, name in enumerate(model.conditions[0].classes):
        draws = kvae.load(tmp_path / "out").sample(10, label=name, seed=0).x[:, :, :, 0]
        for column, x in enumerate(draws):
            np.testing.assert_allclose(cell(picture, row - rows, column - 10), x, atol=0.51)
    assert text_places(picture, "cat")


@pytest.mark.parametrize("num_classes", [0, 3])
def test_preview_draws_z_from_a_learned_prior(num_classes, tmp_path):
    from PIL import Image

    conditions = {"conditions": kvae.Categorical("label", num_classes)} if num_classes else {}
    prior = (
        kvae.priors.ConditionalGaussian(2, num_classes) if num_classes else kvae.priors.GaussianMixture(2, 3, seed=1)
    )
    for weight in prior.weights:
        weight.assign(3.0 * np.random.default_rng(0).normal(size=weight.shape))
    build = kvae.ConditionalVAE if num_classes else kvae.VAE
    model = build.dense((8, 8, 1), latent_dim=2, hidden=(4,), prior=prior, **conditions)
    model.export(tmp_path / "out")
    with Image.open(tmp_path / "out" / "preview.png") as preview:
        picture = np.asarray(preview)
    given = {"label": "0"} if num_classes else {}
    draws = kvae.load(tmp_path / "out").sample(10, seed=0, **given).x
    for index, x in enumerate(draws[:, :, :, 0]):
        np.testing.assert_allclose(cell(picture, -(num_classes or 10), index - 10), x, atol=0.51)


@pytest.mark.parametrize("kind", ["rgb", "sequence", "two conditions", "vector"])
def test_pictures_exist_for_images_and_sequences(kind):
    from PIL import Image

    x = np.random.default_rng(0).uniform(0, 255, (5, 8, 8, 3)).astype("f4")
    conditions = None
    if kind == "vector":
        model = kvae.VAE.dense((2,), latent_dim=2, hidden=(4,))
        assert pictures.samples(model) is None
        assert pictures.reconstructions(model, x, None) is None
        return
    if kind == "sequence":
        model, x = kvae.VAE.lstm((8, 3), latent_dim=2), x[:, :, 0]
    elif kind == "rgb":
        model = kvae.VAE.conv((8, 8, 3), latent_dim=2, filters=(4,))
    else:
        conditions = {"label": np.arange(5) % 3, "angle": np.linspace(0, 1, 5, dtype="f4")}
        declared = [kvae.Categorical("label", ["a", "b", "犬"]), kvae.Continuous("angle", 0.0, 1.0)]
        model = kvae.ConditionalVAE.dense((8, 8, 1), latent_dim=2, conditions=declared, hidden=(4,))
        x = x[..., :1]
    for made in (pictures.samples(model, ("epoch 3",)), pictures.reconstructions(model, x, conditions)):
        with Image.open(io.BytesIO(made)) as picture:
            assert min(picture.size) > 56
            if conditions and made == pictures.samples(model, ("epoch 3",)):
                assert text_places(np.asarray(picture), "label 2, 0.5")


@pytest.mark.parametrize(
    "likelihood", [kvae.likelihoods.Gaussian("shared"), kvae.likelihoods.DiscretizedLogistic("shared")]
)
def test_scale_that_all_values_share_is_exported_without_shape_arithmetic(likelihood, tmp_path):
    shape, num = (4, 4, 1), likelihood.num_parameters
    encoder = networks.dense_encoder(shape, 2, (4,))
    for name, decoder in (
        ("dense", networks.dense_decoder(shape, 2, (4,), num_parameters=num)),
        ("conv", networks.conv_decoder(shape, 2, filters=(4,), num_parameters=num)),
    ):
        kvae.VAE(encoder, decoder, likelihood=likelihood).export(tmp_path / name)
    for path in tmp_path.glob("*/*.onnx"):
        operators = {node.op_type for node in onnx.load(path).graph.node}
        assert not operators & {"Shape", "ConstantOfShape", "Expand", "Range", "Size"}, path
