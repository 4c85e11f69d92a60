"""`kvae train` on tables, image folders and data on disk: training, export and sampling by command."""

import csv
import json

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import kvae
from kvae import networks
from kvae.commands.export import export as export_command
from kvae.commands.train import train as train_command
from kvae.data import disk, sources
from kvae.dataloaders import batches as pipeline
from kvae.training import config, factory, run_data, saved_run, train
from kvae.training.distribution import Distribution
from kvae.training.setup import prepare
from kvae_serve.errors import InputDataError, RequestError
from kvae_serve.readers import ReadOptions, read_dataset, read_for

SMALL = {
    "validation": 20, "epochs": 1, "latent_dim": 2, "batch_size": 20, "encoder_hidden": (8,), "decoder_hidden": (8,),
    "network": "dense", "likelihood": "bernoulli",
}  # fmt: skip


def settings(**changes):
    return config.Config().replace(**{**SMALL, **changes})


@pytest.fixture
def table(tmp_path):
    """CSV of people whose income depends on their job."""
    rng = np.random.default_rng(0)
    with (tmp_path / "people.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "Age", "job", "income", "label", "Zip code"])
        for i in range(120):
            job = ["baker", "pilot"][i % 2]
            row = [f"p{i}", 20 + i % 50, job, round(rng.normal(4e4 + 3e4 * (i % 2), 3e3), 2), i % 3, 8000 + i % 4]
            writer.writerow(row)
    return tmp_path / "people.csv"


@pytest.fixture
def pictures(tmp_path):
    """Folder with two classes of gray images of 6 x 4, thirty of each."""
    rng = np.random.default_rng(0)
    for name in ("dog", "cat"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(30):
            pixels = np.clip(rng.normal(80 if name == "dog" else 180, 20, (6, 4)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{i}.png")
    return tmp_path / "pictures"


def invoke(command, *arguments):
    result = CliRunner().invoke(command, [str(each) for each in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def flags(**changes):
    for name, value in {**SMALL, **changes}.items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else value
        yield from (f"--{name.replace('_', '-')}", text)


def test_table_is_trained_exported_and_sampled_by_command(table, tmp_path):
    asked = {
        "data": table, "likelihood": "mixed", "condition_columns": ("label", "Age"), "drop_columns": ("id",),
        "categorical_columns": ("Zip code",),
    }  # fmt: skip
    invoke(train_command, *flags(**asked), "-o", tmp_path / "run", "-q", "--no-export-check")
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    label, age = facts["conditions"]
    assert (label["name"], label["classes"], sum(label["shares"])) == ("label", ["0", "1", "2"], pytest.approx(1.0))
    assert (age["name"], age["range"], age["column"]["name"]) == ("age", [20.0, 69.0], "Age")
    # Scales are learned from the training rows, not from those held out.
    rows, _ = pipeline.hold_out(120, 20, 0)
    income = read_dataset(table, options=ReadOptions(drop_columns=("id",))).x[:, 2]
    assert facts["data"]["columns"][1]["mean"] == pytest.approx(income[rows].mean(), rel=1e-5)
    assert facts["data"]["columns"][1]["scale"] == pytest.approx(income[rows].std(), rel=1e-4)
    exported = invoke(export_command, tmp_path / "run", "-o", tmp_path / "out")
    assert "--label 2 --condition age=44.5" in exported.stderr
    served = kvae.load(tmp_path / "out")
    assert [column["name"] for column in served.manifest.data.columns] == ["job", "income", "Zip code"]
    assert served.manifest.data.columns[2]["classes"] == ["8000", "8001", "8002", "8003"]
    draws = served.sample(50, conditions={"label": "1", "age": 30}, seed=0, draw=True)
    assert draws.x.shape == (50, 3)
    assert set(draws.x[:, 0]) <= {0, 1}
    assert all(check.ok for check in served.verify())
    # The same rows with the columns in another order are read as the model expects them.
    lines = list(csv.reader(table.open()))
    with (tmp_path / "turned.csv").open("w", newline="") as file:
        csv.writer(file).writerows(line[::-1] for line in lines)
    data = read_for(tmp_path / "turned.csv", served.manifest)
    np.testing.assert_array_equal(data.x[:, 1], income)
    np.testing.assert_array_equal(data.conditions["age"], [20 + i % 50 for i in range(120)])
    assert served.encode(data.x, data.conditions)[0].shape == (120, 2)


@pytest.mark.long
def test_export_of_a_table_does_not_need_its_file(table, tmp_path):
    train.train(
        settings(data=str(table), likelihood="mixed", drop_columns=("id",), sigma="shared"),
        tmp_path / "run", quiet=True, export_check=False,
    )  # fmt: skip
    invoke(export_command, tmp_path / "run", "-o", tmp_path / "a", "--name", "m", "-q")
    table.unlink()
    invoke(export_command, tmp_path / "run", "-o", tmp_path / "b", "--name", "m", "-q")
    for name in ("encoder", "decoder", "likelihood"):
        files = [(tmp_path / folder / f"{name}.onnx").read_bytes() for folder in "ab"]
        graphs = [file[: file.index(b"\x0a\x04kvae\x12") - 4] for file in files]  # all before the manifest's entry
        whole, without = (kvae.load(tmp_path / folder).graph_manifest(name).to_dict() for folder in "ab")
        # Only the quantiles of the elbo need the data.
        kept = whole.pop("score")
        assert (kept["examples"], kept["split"]) == (20, "validation")
        assert "score" not in without
        assert whole == without
        assert graphs[0] == graphs[1]


@pytest.mark.long
def test_image_folder_is_trained_by_class_and_exported(pictures, tmp_path):
    invoke(
        train_command, *flags(data=pictures, image_size="8x8", channels=3), "--conditional", "-o", tmp_path / "run",
        "-q", "--no-export-check",
    )  # fmt: skip
    invoke(export_command, tmp_path / "run", "-o", tmp_path / "out", "-q")
    served = kvae.load(tmp_path / "out")
    assert served.manifest.data.shape == (8, 8, 3)
    assert served.manifest.conditions[0].classes == ("cat", "dog")
    assert served.sample(2, label="dog", seed=0).x.shape == (2, 8, 8, 3)


@pytest.mark.long
def test_npz_arrays_are_conditions_by_name(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "a.npz", x=rng.uniform(size=(60, 5)), slant=np.linspace(-1, 1, 60),
        kind=np.array(["a", "b"] * 30), spare=np.arange(60),
    )  # fmt: skip
    chosen = settings(data=str(tmp_path / "a.npz"), condition_columns=("kind", "slant"), likelihood="gaussian")
    run = train.train(chosen, tmp_path / "run", quiet=True, export_check=False)
    assert [condition.name for condition in run.model.conditions] == ["kind", "slant"]
    assert config.read(tmp_path / "run" / "config.toml") == chosen.replace(sigma="optimal")
    invoke(export_command, tmp_path / "run", "-o", tmp_path / "out", "-q")
    assert kvae.load(tmp_path / "out").sample(3, conditions={"kind": "b", "slant": 0.2}).x.shape == (3, 5)


def refused(reason, error=InputDataError, **changes):
    def set_up():
        chosen = settings(**changes)
        dataset = run_data.read(chosen)
        factory.model(chosen, factory.spec_of(dataset, chosen.model.likelihood), factory.describe_conditions(dataset))

    with pytest.raises(error, match=reason) as found:
        set_up()
    assert str(found.value).isprintable()


def test_invalid_combinations_are_errors_of_one_line(table, pictures, tmp_path):
    people, images = str(table), str(pictures)
    drop = {"drop_columns": ("id",)}
    refused("is a table, which a bernoulli likelihood does not model. Use --likelihood mixed", data=people, **drop)
    refused("is not a table.* Use another --likelihood", data=images, likelihood="mixed")
    refused(
        "does not have a column size. Its columns are id, Age",
        data=people,
        likelihood="mixed",
        condition_columns=("size",),
    )
    refused("has no condition size; it has label", data=images, condition_columns=("size",))
    refused("leave out --categorical-columns", data=images, categorical_columns=("a",))
    refused("dense networks, got conv", RequestError, data=people, likelihood="mixed", network="conv", **drop)
    refused(r"divisible by 4, got \(6, 4, 1\); use fewer filters", RequestError, data=images, network="conv")
    refused("an LSTM needs sequences", data=images, network="lstm", channels=3)
    refused("64x48, got '64'", RequestError, data=images, image_size="64")
    refused("channels must be", RequestError, data=images, channels=2)
    refused("a name twice", RequestError, data=images, condition_columns=("a", "a"))
    refused("needs conditions", RequestError, data=people, prior="conditional_gaussian")
    np.savez(tmp_path / "a.npz", x=np.zeros((60, 2)), Big=np.arange(60) % 2, same=np.ones(60), label=np.zeros(60, int))
    arrays = str(tmp_path / "a.npz")
    refused("Big cannot be the name", data=arrays, condition_columns=("Big",))
    refused("the same same for every example", data=arrays, condition_columns=("same",))
    refused("at least 2 classes of label", data=arrays, conditional=True)


@pytest.fixture(params=["npy", "images"])
def near_and_far(request, tmp_path, pictures, monkeypatch):
    """Configuration, data in memory, and the same data on disk."""
    if request.param == "npy":
        path = tmp_path / "a.npy"
        np.save(path, np.random.default_rng(0).uniform(size=(70, 5)))
    else:
        path = pictures
    chosen = config.Config().replace(**{**SMALL, "data": str(path), "likelihood": "continuous_bernoulli"})
    near = sources.from_config(chosen.data)
    monkeypatch.setattr(sources, "IN_MEMORY", 100)
    return chosen, near, sources.from_config(chosen.data)


def test_batches_of_data_on_disk_equal_those_in_memory(near_and_far):
    _, near, far = near_and_far
    assert isinstance(near.x, np.ndarray)
    assert isinstance(far.x, disk.OnDisk)
    assert (far.x.shape, far.x.dtype) == (near.x.shape, near.x.dtype)
    given = {"age": np.arange(len(near.x), dtype="f4")}
    rows = np.arange(3, len(near.x))
    found = []
    for x in (near.x, far.x):
        held = {name: values[rows] for name, values in given.items()}
        batches = pipeline.training_batches(disk.take(x, rows), held, 16, seed=4)
        batches.callback.on_epoch_begin(2)
        assert batches.dataset.element_spec[0].shape == (16, *x.shape[1:])
        found.append(list(batches.dataset))
        found[-1] += list(pipeline.validation_batches(disk.take(x, rows), held, 25))
    for (x, own), (far_x, far_own) in zip(*found, strict=True):
        np.testing.assert_array_equal(x, far_x)
        np.testing.assert_array_equal(own["age"], far_own["age"])


@pytest.mark.long
def test_training_on_disk_equals_training_in_memory(near_and_far, tmp_path):
    chosen, near, far = near_and_far
    first, second = (
        train.train(chosen, tmp_path / name, dataset=dataset, quiet=True, export_check=False)
        for name, dataset in (("near", near), ("far", far))
    )
    for ours, theirs in zip(first.model.get_weights(), second.model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


def test_statistics_of_data_on_disk_equal_those_in_memory(near_and_far, monkeypatch):
    chosen, near, far = near_and_far
    monkeypatch.setattr(disk, "CHUNK_ROWS", 16)
    assert disk.value_range(far.x) == disk.value_range(near.x) == (float(near.x.min()), float(near.x.max()))
    spec = factory.spec_of(far, chosen.model.likelihood)
    assert spec.get_config() == factory.spec_of(near, chosen.model.likelihood).get_config()
    spec.check(far.x, "far")
    np.testing.assert_allclose(spec.unit_mean(far.x), near.x.mean(axis=0) / spec.range[1], rtol=1e-6)
    np.testing.assert_array_equal(disk.subsample(far.x, 10), near.x[:: len(near.x) // 10])
    assert run_data.fingerprint(far) == run_data.fingerprint(sources.from_config(chosen.data))


def test_nan_on_disk_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "IN_MEMORY", 100)
    x = np.random.default_rng(0).uniform(size=(70, 5))
    x[33, 2] = np.nan
    np.save(tmp_path / "a.npy", x)
    with pytest.raises(InputDataError, match="1 values of x that are NaN"):
        sources.from_config(settings(data=str(tmp_path / "a.npy")).data)


@pytest.mark.long
def test_run_without_named_conditions_is_read(tmp_path):
    chosen = settings(data="mnist-sample", conditional=True)
    train.train(chosen, tmp_path / "run", quiet=True, export_check=False)
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    wanted = [{key: each[key] for key in ("name", "kind", "classes")} for each in facts.pop("conditions")]
    (tmp_path / "run" / "run.json").write_text(json.dumps({**facts, "classes": list("0123456789")}))
    model, read = saved_run.load(tmp_path / "run")
    assert read["conditions"] == wanted
    assert model.conditions[0].classes == list("0123456789")


def test_class_names_replace_the_classes_of_label(tmp_path):
    words = ("nought", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    given = settings(data="mnist-sample", conditional=True, class_names=words)
    renamed, plain = (
        sources.from_config(given.data),
        sources.from_config(settings(data="mnist-sample", conditional=True).data),
    )
    assert renamed.class_names == {"label": words}
    np.testing.assert_array_equal(renamed.conditions["label"], plain.conditions["label"])
    # They are stored in the run.
    (tmp_path / "config.toml").write_text(given.to_toml())
    assert config.read(tmp_path / "config.toml") == given


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"conditional": True, "class_names": ("a", "b")}, "has 10 classes of label .0, 1, .*, got 2"),
        ({"conditional": True, "class_names": (*"abcdefghi", "a")}, "has 10 classes of label .*, got 9 different"),
        ({"class_names": tuple("abcdefghij")}, "add --conditional"),
    ],
)
def test_invalid_class_names_are_rejected(changes, words):
    with pytest.raises(InputDataError, match=words):
        sources.from_config(settings(data="mnist-sample", **changes).data)


@pytest.mark.long
def test_measurements_are_scaled_by_training_rows_and_unbounded(tmp_path):
    x = np.random.default_rng(0).normal(20.0, 1.0, (120, 3)).astype("f4")
    _, held_out = pipeline.hold_out(120, 20, 0)
    x[held_out[0]] = 60.0
    np.savez(tmp_path / "a.npz", x=x, age=x[:, 0])
    chosen = settings(data=str(tmp_path / "a.npz"), likelihood="gaussian", condition_columns=("age",))
    run = train.train(chosen, tmp_path / "run", quiet=True, export_check=False)
    seen = np.delete(x, held_out, axis=0)
    np.testing.assert_allclose(run.model.data.mean, seen.mean(0), rtol=1e-5)
    np.testing.assert_allclose(run.model.data.scale, seen.std(0), rtol=1e-5)
    assert run.metadata["conditions"][0]["range"] == [seen[:, 0].min(), seen[:, 0].max()]
    invoke(export_command, tmp_path / "run", "-o", tmp_path / "out", "-q")
    served = kvae.load(tmp_path / "out")
    assert not served.manifest.data.bounded
    assert all(check.ok for check in served.verify())
    # An example far from the training data has a valid, much lower score.
    elbo = served.score(np.array([[20, 20, 20], [80, 80, 80]], "f4"), {"age": np.array([20, 20], "f4")}).elbo
    assert elbo[1] < elbo[0] - 10
    with pytest.raises(InputDataError, match="NaN"):
        served.score(np.full((1, 3), np.nan, "f4"), {"age": np.array([20], "f4")})


def test_constant_data_are_rejected(tmp_path):
    np.save(tmp_path / "a.npy", np.full((60, 3), 7.0))
    refused(
        "60 examples of .* are identical: each has the value 7", data=str(tmp_path / "a.npy"), likelihood="gaussian"
    )


def test_vamp_prior_starts_at_examples_of_all_classes(pictures):
    chosen = settings(data=str(pictures), prior="vamp", prior_components=10, conditional=True)
    setup = prepare(chosen, run_data.read(chosen), Distribution())
    start = 1 / (1 + np.exp(-np.asarray(setup.model.prior.logits)))
    # The folder is sorted by class; cats are light (0.7), dogs dark (0.3).
    assert (start.mean(axis=(1, 2, 3)) > 0.5).tolist() == [True] * 5 + [False] * 5
    assert np.asarray(setup.model.prior.condition_vectors).argmax(1).tolist() == [0] * 5 + [1] * 5
    with pytest.raises(InputDataError, match="starts from 41 examples, but there are only 40"):
        prepare(chosen.replace(prior_components=41), run_data.read(chosen), Distribution())


@pytest.mark.long
def test_embeddings_and_a_prior_network_are_trained_by_command(tmp_path):
    tokens = np.random.default_rng(0).integers(0, 5, (100, 6, 2))
    np.savez(tmp_path / "a.npz", x=tokens, site=np.arange(100) % 4, age=np.linspace(0, 9, 100))
    asked = {
        "data": tmp_path / "a.npz", "likelihood": "categorical", "network": "lstm", "lstm_units": 6,
        "condition_columns": ("site", "age"), "condition_embedding": 2, "value_embedding": 3,
        "prior": "conditional_gaussian", "prior_hidden": (4,),
    }  # fmt: skip
    invoke(train_command, *flags(**asked), "-o", tmp_path / "run", "-q", "--no-export-check")
    model, _ = saved_run.load(tmp_path / "run")
    assert model.condition_dim == 3
    assert model.encoder.get_layer("embedding").embeddings.shape == (5, 3)
    assert [weight.shape for weight in model.prior.weights][:2] == [(3, 4), (4,)]
    invoke(export_command, tmp_path / "run", "-o", tmp_path / "out", "-q")
    drawn = kvae.load(tmp_path / "out").sample(3, conditions={"site": "2", "age": 4}, draw=True, seed=0).x
    assert drawn.shape == (3, 6, 2)
    assert set(drawn.ravel()) <= {0, 1, 2, 3, 4}


def test_one_hot_embedding_is_exact_under_mixed_precision():
    # bfloat16 cannot represent all of 256 indices.
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        encoder = networks.embedded_encoder(networks.dense_encoder, (2,), 3, 256, embedding_dim=0, hidden=())
    finally:
        keras.config.set_dtype_policy("float32")
    one_hot = keras.Model(encoder.inputs[0], encoder.get_layer("embedded").output)
    x = np.stack([np.arange(256), np.arange(256)[::-1]], axis=1).astype("f4")
    seen = np.asarray(one_hot(x / 255), "f4").reshape(256, 2, 256)
    np.testing.assert_array_equal(seen.argmax(-1), x)
    np.testing.assert_allclose(seen.max(-1), 1, atol=1e-4)
    np.testing.assert_allclose(seen.sum(-1), 1, atol=1e-4)


@pytest.mark.long
def test_arrays_of_three_axes_are_sequences_for_an_lstm(tmp_path, monkeypatch):
    x = np.random.default_rng(0).normal(size=(60, 5, 3)).astype("f4")
    np.save(tmp_path / "a.npy", x)
    chosen = settings(data=str(tmp_path / "a.npy"), network="lstm", lstm_units=4, likelihood="gaussian")
    np.testing.assert_array_equal(run_data.read(chosen).x, x)
    with monkeypatch.context() as patch:
        patch.setattr(sources, "IN_MEMORY", 100)
        far = disk.take(run_data.read(chosen).x, np.arange(40, 60))
    assert isinstance(far, disk.OnDisk)
    assert far.shape == (20, 5, 3)
    np.testing.assert_array_equal(far[3:9], x[43:49])
    run = train.train(chosen, tmp_path / "run", quiet=True, export_check=False)
    assert run.model.data.kind == "sequence"
    assert run_data.splits(tmp_path / "run")[1][0].shape == (20, 5, 3)
    run.model.export(tmp_path / "out")
    served = kvae.load(tmp_path / "out")
    assert served.encode(x)[0].shape == (60, 2)
    assert read_for(tmp_path / "a.npy", served.manifest).x.shape == (60, 5, 3)


def test_pseudo_inputs_learn_through_an_embedding():
    model = kvae.VAE(
        networks.embedded_encoder(networks.dense_encoder, (6,), 2, 4, embedding_dim=3, hidden=(8,)),
        networks.dense_decoder((6,), 2, (8,), num_parameters=4), data=kvae.DataSpec((6,), (0, 3)),
        likelihood=kvae.likelihoods.Categorical(4), prior=kvae.priors.VampPrior((6,), 3),
    )  # fmt: skip
    model.compile("adam", run_eagerly=True)
    start = [np.asarray(weight).copy() for weight in model.trainable_weights]
    model.fit(np.random.default_rng(0).integers(0, 4, (40, 6)), batch_size=20, verbose=0)
    for before, weight in zip(start, model.trainable_weights, strict=True):
        assert (before != np.asarray(weight)).any(), f"{weight.path} does not learn"


def test_class_names_are_by_index_and_may_have_no_examples(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.eye(6, dtype="f4"), label=[1, 3, 1, 3, 3, 1])
    chosen = settings(data=str(tmp_path / "a.npz"), conditional=True, class_names=tuple("abcd"))
    dataset = sources.from_config(chosen.data)
    assert dataset.class_names == {"label": tuple("abcd")}
    assert dataset.conditions["label"].tolist() == [1, 3, 1, 3, 3, 1]
    assert dataset.notes == ("Classes without examples: a, c.",)
    # Two names would be the classes 1 and 3 now, but the indices 0 and 1 of later data.
    with pytest.raises(InputDataError, match=r"classes of label .1, 3.*3 needs 4"):
        sources.from_config(settings(data=chosen.data.data, conditional=True, class_names=("a", "b")).data)
    for low, high in ((100, 300), (-1, 1)):
        np.savez(tmp_path / "a.npz", x=np.eye(6, dtype="f4"), label=[low, high, low, high, high, low])
        dataset = sources.from_config(settings(data=chosen.data.data, conditional=True, class_names=("a", "b")).data)
        assert dataset.conditions["label"].tolist() == [0, 1, 0, 1, 1, 0]


def test_data_of_one_class_are_rejected_for_a_conditional_model(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.eye(6, dtype="f4"), label=np.full(6, 7))
    with pytest.raises(InputDataError, match=r"needs at least 2 classes .* all have the class 7"):
        sources.from_config(settings(data=str(tmp_path / "a.npz"), conditional=True).data)


def test_conditional_table_without_labels_names_the_option_for_columns(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,x\n2,y\n")
    with pytest.raises(InputDataError, match=r"does not have a column label.* --condition-columns"):
        sources.from_config(settings(data=str(tmp_path / "a.csv"), conditional=True).data)


def test_keys_of_a_run_choose_the_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", other=np.zeros(3), faces=np.eye(6, dtype="f4"), who=[0, 1, 0, 1, 0, 1])
    data = settings(data=str(tmp_path / "a.npz"), conditional=True, key=("x=faces", "label=who")).data
    assert sources.from_config(data).conditions["label"].tolist() == [0, 1, 0, 1, 0, 1]
    with pytest.raises(RequestError, match="key must be NAME=ARRAY"):
        settings(key=("faces",))
