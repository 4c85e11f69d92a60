"""Comparison with real images and classifiers, on models and images with known results."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from kvae import sample_metrics
from kvae.sample_metrics import cached_classifier, classifier, matched_samples, network, real_images, table_text
from kvae_serve.errors import InputDataError, MissingExtraError, ModelFileError, RequestError
from kvae_serve.model import load
from kvae_serve.sealed.manifest import Manifest

onnx = pytest.importorskip("onnx")

SHAPE, CLASSES = (6, 8, 3), ("red", "green", "blue")
CONDITION = {"name": "label", "kind": "categorical", "classes": list(CLASSES)}
AGE = {"name": "age", "kind": "continuous", "range": [0, 100]}


def painted(num, seed):
    """Return coloured noise whose class is the brightest channel: float32 images and shuffled labels."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, num)
    x = rng.uniform(0, 100, (num, *SHAPE)).astype(np.float32)
    x[np.arange(num), :, :, label] += 150
    return x, label


def manifest(conditions=(CONDITION,), kind="image", shape=SHAPE):
    return Manifest.from_dict(
        {
            "format": 1, "graph": "decoder", "model_id": "0" * 64, "name": "painter", "kind": "vae", "latent_dim": 2,
            "data": {"kind": kind, "shape": list(shape), "range": [0, 255]}, "conditions": list(conditions),
            "likelihood": {"name": "bernoulli"}, "prior": {"name": "standard_normal"}, "training": None, "golden": None,
        }
    )  # fmt: skip


class Painter:
    """A model that draws real images, except wrong labels for `wrong` and repeated images with `copies`."""

    def __init__(self, conditions=(CONDITION,), wrong=None, copies=False):
        self.manifest, self.wrong, self.copies = manifest(conditions), wrong or {}, copies
        self.calls = []

    def sample(self, num, *, conditions=None, seed, start=0, temperature, draw):
        self.calls.append((conditions, num, start))
        x, _ = painted(num, [seed, start, 7])
        rng = np.random.default_rng([seed, start, 7])
        label = rng.integers(0, 3, num)
        if conditions:
            x = np.random.default_rng([seed, start]).uniform(0, 100, (num, *SHAPE)).astype(np.float32)
            given = CLASSES.index(conditions["label"])
            label = np.full(num, self.wrong.get(given, given))
            x[np.arange(num), :, :, label] += 150
        return SimpleNamespace(x=np.repeat(x[:1], num, axis=0) if self.copies else x)


def images(num, seed, conditions=("label",)):
    x, label = painted(num, seed)
    given = {"label": label, "age": np.linspace(0, 100, num).astype(np.float32)}
    return real_images.Real(x, {name: given[name] for name in conditions}, {"label": CLASSES}, "painted")


def onnx_file(path, inputs, outputs, nodes, constants=None):
    """Write an ONNX file; inputs and outputs are name to (type, shape)."""
    helper, types = onnx.helper, {"float": 1, "uint8": 2, "double": 11}
    faces = [
        [helper.make_tensor_value_info(name, types[kind], shape) for name, (kind, shape) in some.items()]
        for some in (inputs, outputs)
    ]
    initializer = [onnx.numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(nodes, "judge", *faces, initializer)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def brightest(tmp_path):
    """Write a classifier: logits are means of the channels, features are means of their rows."""
    node = onnx.helper.make_node
    return onnx_file(
        tmp_path / "brightest.onnx",
        {"x": ("float", ["n", *SHAPE])},
        {"features": ("float", ["n", 6, 3]), "logits": ("float", ["n", 3])},
        [
            node("ReduceMean", ["x", "width"], ["features"], keepdims=0),
            node("ReduceMean", ["x", "sides"], ["logits"], keepdims=0),
        ],
        {"width": np.array([2]), "sides": np.array([1, 2])},
    )


def judge(path, num_classes=3):
    return classifier.read(path, SHAPE, num_classes)


def known_fit(x, label):
    """Return a perfect classifier if most labels are right, else one that always predicts 0."""
    good = np.mean(x.mean(axis=(1, 2)).argmax(axis=1) == label) > 0.9
    return lambda other: other.mean(axis=(1, 2)).argmax(axis=1) if good else np.zeros(len(other), int)


def measured(model, path, num=200, **more):
    return sample_metrics.figures(
        model, images(700, 0), images(400, 1), judge(path), num, seed=3, **{"fit": known_fit, **more}
    )


def test_model_that_draws_real_images_reaches_the_baseline(brightest):
    found = measured(Painter(), brightest)
    assert json.loads(json.dumps(found)) == found
    for name in ("label_consistency", "label_consistency_worst", "classification_accuracy_score"):
        assert (found[name]["value"], found[name]["floor"]) == (1, 1)
    assert found["classification_accuracy_score"]["n"] == 400
    for name in ("precision", "recall", "density", "coverage", "within_class_spread"):
        assert found[name]["value"] == pytest.approx(found[name]["floor"], abs=0.2), name
    assert found["within_class_spread"]["value"] == pytest.approx(1, abs=0.02)
    assert found["coverage"]["value"] > 0.9
    assert found["frechet_distance"]["value"] < 2 * found["frechet_distance"]["floor"]
    assert {name: figure["n"] for name, figure in found.items() if figure["n"] != 200} == {
        "label_consistency_worst": np.bincount(images(400, 1).conditions["label"][chosen_rows()])[0],
        "classification_accuracy_score": 400,
    }


def chosen_rows():
    """Return the test images that `figures` selects."""
    return np.random.Generator(np.random.Philox(key=[3, 0])).permutation(400)[:200]


def test_mislabelled_samples_lower_the_consistency(brightest):
    found = measured(Painter(wrong={2: 1}), brightest)
    worst = found["label_consistency_worst"]
    assert (worst["value"], worst["label"], worst["floor"]) == (0, "blue", 1)
    share = found["label_consistency"]["value"]
    assert share == pytest.approx(1 - worst["n"] / 200)
    assert found["label_consistency"]["standard_error"] == pytest.approx(np.sqrt(share * (1 - share) / 200))
    assert found["classification_accuracy_score"]["value"] == np.mean(images(400, 1).conditions["label"] == 0)
    assert found["coverage"]["value"] < 0.8 < found["coverage"]["floor"]


def test_one_image_per_class_is_consistent_without_diversity(brightest):
    found = measured(Painter(copies=True), brightest)
    assert found["label_consistency"]["value"] == 1
    assert found["within_class_spread"]["value"] == 0
    assert found["recall"]["value"] == 0
    assert found["coverage"]["value"] < 0.2


def test_unconditional_model_skips_label_figures(brightest):
    model = Painter(conditions=())
    train, test = images(700, 0), images(400, 1)
    found = sample_metrics.figures(model, train, test, judge(brightest), 200)
    for name in ("label_consistency", "label_consistency_worst", "classification_accuracy_score"):
        assert found[name] == {"value": None, "floor": None, "left_out": "the model is unconditional"}
    assert found["coverage"]["value"] > 0.8
    assert found["within_class_spread"]["classes"] == 1
    about = {
        "n": 200, "seed": 0, "temperature": 1.0, "images": "means of p(x given z)",
        "classifier": {"digest": "abc", "accuracy": None},
    }  # fmt: skip
    lines = table_text.lines(found, about)
    assert lines[-1].startswith("skipped: label consistency, label consistency worst, classification accuracy score")
    assert not any("None" in line for line in lines)


def test_samples_have_the_conditions_of_the_images_and_different_noise(brightest):
    model = Painter(conditions=(CONDITION, AGE))
    both = ("label", "age")
    x = matched_samples.like(model, images(30, 5, both).conditions, 30, seed=1)
    assert x.shape == (30, *SHAPE)
    assert len(model.calls) == 30
    assert [start for *_, start in model.calls] == list(range(30))
    label = images(30, 5).conditions["label"]
    assert (x.mean(axis=(1, 2)).argmax(axis=1) == label).all()
    found = sample_metrics.figures(model, images(90, 0, both), images(60, 1, both), judge(brightest), 30, fit=known_fit)
    assert found["label_consistency"]["value"] == 1


def test_rows_of_a_shipped_model_differ_between_labels():
    model = load("mnist")
    label = np.array([3, 3, 5, 5])
    x = matched_samples.like(model, {"label": label}, 4, seed=9)
    np.testing.assert_array_equal(x[:2], model.sample(2, label="3", seed=9).x)
    np.testing.assert_array_equal(x[2:], model.sample(2, label="5", seed=9, start=2).x)


def test_invalid_comparison_is_one_error_line(brightest):
    train, test, one = images(700, 0), images(400, 1), judge(brightest)
    with pytest.raises(RequestError, match=r"401 samples .* there are 400 test images. Ask for at most 400"):
        sample_metrics.figures(Painter(), train, test, one, 401, fit=known_fit)
    with pytest.raises(RequestError, match="number of samples is 10; expected an integer above 10"):
        sample_metrics.figures(Painter(), train, test, one, 10, fit=known_fit)
    model = SimpleNamespace(manifest=manifest(kind="vector", shape=(4,)))
    for seed in (-1, 2**64, 0.5, True):
        with pytest.raises(RequestError, match="expected an integer from 0"):
            sample_metrics.figures(Painter(), train, test, one, 100, seed)
    with pytest.raises(RequestError, match="painter models vector data"):
        sample_metrics.figures(model, train, test, one, 100)
    with pytest.raises(InputDataError, match="painted lacks age"):
        sample_metrics.figures(Painter((CONDITION, AGE)), train, test, one, 100)
    few = train._replace(conditions={"label": np.zeros(700, np.int64)})
    with pytest.raises(RequestError, match="Class 1 has 0 training images"):
        sample_metrics.figures(Painter(), few, test, one, 100, fit=known_fit)


def test_rows_are_chosen_with_the_requested_labels():
    label, wanted = np.arange(300) % 3, np.array([2, 0, 2, 2])
    rows = real_images.take_like(label, wanted, np.random.default_rng(0))
    assert sorted(label[rows]) == [0, 2, 2, 2]
    assert len(set(rows.tolist())) == 4


FORMS = {"last": ["n", *SHAPE], "first": ["n", 3, 6, 8], "flat": ["n", 144], "fixed": [7, *SHAPE]}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["float", "double", "uint8"])
def test_classifier_receives_images_in_its_layout(tmp_path, form, kind):
    shape = FORMS[form]
    node = onnx.helper.make_node
    path = onnx_file(
        tmp_path / "echo.onnx",
        {"pixels": (kind, shape)},
        {"features": ("float", [shape[0], 144])},
        [node("Cast", ["pixels"], ["cast"], to=1), node("Flatten", ["cast"], ["features"])],
    )
    x = np.round(painted(10, 2)[0])
    expected = (x.transpose(0, 3, 1, 2) if form == "first" else x).reshape(10, -1)
    found = judge(path)(x)
    np.testing.assert_array_equal(found.features, expected)
    assert found.label is None


def outputs_file(path, **outputs):
    """Write a classifier with outputs of these numbers of columns, copied from the first pixels."""
    node = onnx.helper.make_node
    sizes = {f"to_{name}": np.array([columns]) for name, columns in outputs.items()}
    nodes = [node("Flatten", ["x"], ["flat"])]
    nodes += [node("Slice", ["flat", "zero", f"to_{name}", "one"], [name]) for name in outputs]
    faces = {name: ("float", ["n", columns]) for name, columns in outputs.items()}
    constants = {"zero": np.array([0]), "one": np.array([1]), **sizes}
    return onnx_file(path, {"x": ("float", ["n", *SHAPE])}, faces, nodes, constants)


@pytest.mark.parametrize(
    ("outputs", "num_features", "labels"),
    [
        ({"logits": 3, "features": 5}, 5, True),
        ({"dense_3": 5, "softmax": 3}, 5, True),
        ({"softmax": 3, "dense_3": 5}, 5, True),
        ({"only": 3}, 3, True),
        ({"only": 9}, 9, False),
        ({"features": 4, "other": 9, "third": 3}, 4, True),
    ],
)
def test_classifier_outputs_are_found_by_name_or_size(tmp_path, outputs, num_features, labels):
    found = judge(outputs_file(tmp_path / "c.onnx", **outputs))(painted(5, 3)[0])
    assert found.features.shape == (5, num_features)
    assert (found.label is not None) == labels


def test_file_that_does_not_fit_the_images_is_rejected(tmp_path, brightest):
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no onnx")
    with pytest.raises(ModelFileError, match="not a classifier that ONNX Runtime can open"):
        judge(bad)
    with pytest.raises(ModelFileError, match="is not a file"):
        judge(tmp_path / "none.onnx")
    with pytest.raises(ModelFileError, match=r"expects images .* but these are \['batch', 28, 28, 1\]"):
        classifier.read(brightest, (28, 28, 1), 3)
    with pytest.raises(ModelFileError, match="expected 10 classes"):
        judge(brightest, 10)
    with pytest.raises(ModelFileError, match="Name them features and logits"):
        judge(outputs_file(tmp_path / "two.onnx", a=4, b=5))
    broken = onnx_file(
        tmp_path / "nan.onnx", {"x": ("float", ["n", *SHAPE])}, {"features": ("float", ["n", 144])},
        [onnx.helper.make_node("Flatten", ["x"], ["flat"]), onnx.helper.make_node("Log", ["flat"], ["features"])],
    )  # fmt: skip
    with pytest.raises(ModelFileError, match="NaN or infinite"):
        judge(broken)(-painted(5, 0)[0])
    with pytest.raises(InputDataError, match=r"expects images \[6, 8, 3\], got \[8, 6, 3\]"):
        judge(brightest)(np.zeros((2, 8, 6, 3)))


@pytest.mark.long
def test_classifier_is_trained_once_and_cached(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow")
    x, label = painted(300, 0)
    made_for = network.Images(SHAPE, (0.0, 255.0), 3)
    heard = []
    first = cached_classifier.kept(x, label, made_for, tmp_path / "new" / "folder", report=heard.append, steps=60)
    assert len(heard) == 1
    assert "300 real images" in heard[0]
    other, right = painted(200, 1)
    assert np.mean(first(other).label == right) > 0.95
    assert first(other).features.shape == (200, network.FEATURES)

    monkeypatch.setattr(cached_classifier, "_train", None)  # whatever trains again fails
    again = cached_classifier.kept(x, label, made_for, tmp_path / "new" / "folder", report=heard.append, steps=60)
    assert again.digest == first.digest
    assert len(heard) == 1
    with pytest.raises(TypeError):  # other labels are other data
        cached_classifier.kept(x, label[::-1], made_for, tmp_path / "new" / "folder", steps=60)

    file = next((tmp_path / "new" / "folder").iterdir())
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(ModelFileError, match=r"digest.* Delete this file"):
        cached_classifier.kept(x, label, made_for, tmp_path / "new" / "folder", steps=60)


def test_model_folder_is_rejected_as_cache(tiny):
    x, label = painted(30, 0)
    with pytest.raises(RequestError, match="contains a model"):
        cached_classifier.kept(x, label, network.Images(SHAPE, (0.0, 255.0), 3), tiny / "conditional")


def test_array_functions_need_only_numpy():
    code = "import kvae.sample_metrics, sys; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"keras", "tensorflow", "onnxruntime", "onnx", "sklearn", "scipy", "PIL"}


def test_missing_keras_names_the_extra(tmp_path, monkeypatch, brightest):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    x, label = painted(30, 0)
    with pytest.raises(MissingExtraError, match=r"kvae-onnx\[train\]"):
        cached_classifier.kept(x, label, network.Images(SHAPE, (0.0, 255.0), 3), tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
    found = measured(Painter(), brightest, fit=None)
    assert "kvae-onnx[train]" in found["classification_accuracy_score"]["left_out"]
    assert found["label_consistency"]["value"] == 1


def test_shifted_images_keep_their_centre():
    x = np.zeros((60, 28, 28, 2), np.uint8)
    x[:, 10:12, 12:16] = 7
    moved = network.shifted(x, np.random.default_rng(7))
    assert (moved.sum(axis=(1, 2, 3)) == x[0].sum()).all()
    assert {int(np.argmax(image.any(axis=(1, 2)))) for image in moved} == {8, 9, 10, 11, 12}
    assert {int(np.argmax(image.any(axis=(0, 2)))) for image in moved} == {10, 11, 12, 13, 14}
    assert (network.shifted(np.full((5, 8, 8, 1), 9), np.random.default_rng(0)) == 9).all()


def test_comparison_with_folders_of_images(tmp_path, brightest, monkeypatch):
    pytest.importorskip("tensorflow")
    monkeypatch.setattr(network, "fitter", lambda images: known_fit)
    for split, num, seed in (("train", 60, 0), ("test", 45, 1)):
        for index, (x, label) in enumerate(zip(*painted(num, seed), strict=True)):
            folder = tmp_path / "pictures" / split / CLASSES[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(x.astype(np.uint8)).save(folder / f"{index}.png")
    # The folder names its classes in another order than the model does.
    found = sample_metrics.measure(Painter(), tmp_path / "pictures", num=30, classifier=brightest)
    assert found.figures["label_consistency"]["value"] == 1
    assert found.about["classifier"]["accuracy"] == 1
    assert found.about["n"] == 30
    with pytest.raises(RequestError, match="Give training images with --train-data"):
        sample_metrics.measure(Painter(), tmp_path / "pictures" / "test", num=30, classifier=brightest)
    apart = sample_metrics.measure(
        Painter(), tmp_path / "pictures" / "test", num=30, classifier=brightest,
        train_data=tmp_path / "pictures" / "train",
    )  # fmt: skip
    assert apart.figures["frechet_distance"] == found.figures["frechet_distance"]
    unlabelled = tmp_path / "plain"
    unlabelled.mkdir()
    for split in ("train", "test"):
        (unlabelled / split).mkdir()
        for index, x in enumerate(painted(20, 3)[0]):
            Image.fromarray(x.astype(np.uint8)).save(unlabelled / split / f"{index}.png")
    with pytest.raises(InputDataError, match="a classifier with --classifier FILE"):
        sample_metrics.measure(Painter(conditions=()), unlabelled, num=20)
    free = sample_metrics.measure(Painter(conditions=()), unlabelled, num=20, classifier=brightest)
    assert free.figures["precision"]["value"] is not None
