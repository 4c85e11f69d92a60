"""Datasets for a model: its columns, classes and values."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from PIL import Image

from kvae_serve.errors import InputDataError, RequestError
from kvae_serve.inference.sampling import Draws
from kvae_serve.latent.prior import encode_file
from kvae_serve.model import load
from kvae_serve.readers import check_data, read_for
from kvae_serve.readers.column_types import UNSEEN
from kvae_serve.sealed.manifest import Data, Manifest
from kvae_serve.writers import dispatch
from support import make_tiny_models

IMAGES = make_tiny_models.manifest("conditional", True, "standard_normal") | {"graph": "decoder", "golden": None}
COLUMNS = [{"name": "b", "kind": "categorical", "classes": ["y", "x"]}, {"name": "a", "kind": "numeric"}]


def manifest(**changes) -> Manifest:
    return Manifest.from_dict({**copy.deepcopy(IMAGES), **changes})


def tables() -> Manifest:
    return manifest(
        data={"kind": "table", "shape": [2], "range": None, "columns": COLUMNS},
        conditions=[
            {"name": "species", "kind": "categorical", "classes": ["ox", "cat"]},
            {"name": "size", "kind": "continuous", "range": [0, 1]},
        ],
        likelihood={"name": "mixed", "probabilities": ["x_probability_b", None]},
    )


def test_columns_in_another_order_are_matched_by_name(tmp_path):
    (tmp_path / "a.csv").write_text("spare,a,Species,b\n?,1.5,cat,x\n?,2,ox,y\n")
    data = read_for(tmp_path / "a.csv", tables())
    assert data.x.tolist() == [[1, 1.5], [0, 2]]
    assert data.conditions["species"].tolist() == [1, 0]
    assert list(data.conditions) == ["species"]
    assert data.class_names == {"species": ("ox", "cat")}
    (tmp_path / "a.csv").write_text("a,b\n1,z\n")
    data = read_for(tmp_path / "a.csv", tables())
    assert data.x.tolist() == [[UNSEEN, 1]]
    assert "row 2, column b contains z, which is not a class" in data.notes[0]


def test_table_samples_are_read_back_from_csv(tmp_path, capsys):
    x, size = np.array([[1, 1.5], [0, -0.125]], "f4"), np.array([0.1, 3], "f4")
    species = np.array([1, 0])
    draws = Draws(x, np.zeros((2, 3), "f4"), {"species": species, "size": size}, 0, 0, 2, tables())
    dispatch.write(str(tmp_path / "a.csv"), draws)
    dispatch.show(draws)
    expected = "species,size,b,a\ncat,0.1,x,1.5\nox,3,y,-0.125\n"
    assert (tmp_path / "a.csv").read_text() == expected
    assert capsys.readouterr().out == (tmp_path / "a.csv").read_text()
    data = read_for(tmp_path / "a.csv", tables())
    np.testing.assert_array_equal(data.x, x)
    np.testing.assert_array_equal(data.conditions["species"], species)
    images = Draws(np.zeros((1, 8, 6, 1), "f4"), np.zeros((1, 3), "f4"), {}, 0, 0, 1, manifest())
    with pytest.raises(RequestError, match="makes images"):
        dispatch.write(str(tmp_path / "b.csv"), images)


def test_classes_of_sub_folders_are_matched_by_name(tmp_path):
    for name in ("dog", "cat"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((8, 6), np.uint8)).save(tmp_path / name / "a.png")
    data = read_for(tmp_path, manifest())
    assert data.conditions["label"].tolist() == [0, 1]  # the model's classes are cat, dog and 0
    (tmp_path / "cat").rename(tmp_path / "cow")
    with pytest.raises(InputDataError, match="class cow; expected a class of the model"):
        read_for(tmp_path, manifest())


def test_class_indices_are_matched_by_index(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 8, 6), np.uint8), label=[2, 0, 1], other=[1, 2, 3])
    data = read_for(tmp_path / "a.npz", manifest())
    assert data.conditions["label"].tolist() == [2, 0, 1]
    assert list(data.conditions) == ["label"]
    np.savez(tmp_path / "a.npz", x=np.zeros((1, 8, 6), np.uint8), label=[3])
    with pytest.raises(InputDataError, match="expected a class of the model"):
        read_for(tmp_path / "a.npz", manifest())
    np.savez(tmp_path / "a.npz", x=np.zeros((1, 8, 6), np.uint8), label=[0.5])
    with pytest.raises(InputDataError, match="has floats"):
        read_for(tmp_path / "a.npz", manifest())


def test_examples_of_another_shape_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 6, 8), np.uint8))
    with pytest.raises(InputDataError, match=r"shape .6, 8, 1.; conditional expects .8, 6, 1.. Resize or reshape"):
        read_for(tmp_path / "a.npy", manifest())


def test_table_values_that_are_not_class_indices_or_finite_are_refused():
    data = Data("table", (2,), None, tuple(COLUMNS))
    check_data(np.array([[0, -5.5], [1, 1e9]], "f4"), data, "x")
    for bad in ([[2, 0.0]], [[-2, 0]], [[0.5, 0]]):
        with pytest.raises(InputDataError, match="row 0 of column b; expected the index of a class, 0 to 1"):
            check_data(np.array(bad, "f4"), data, "x")
    with pytest.raises(InputDataError, match="NaN"):
        check_data(np.array([[0, np.nan]], "f4"), data, "x")


def numbered(*classes: str) -> Manifest:
    return manifest(conditions=[{"name": "label", "kind": "categorical", "classes": list(classes)}])


def test_integer_labels_are_matched_by_value_if_the_classes_are_numbers(tmp_path):
    def read(*label: int) -> list[int]:
        np.savez(tmp_path / "a.npz", x=np.zeros((len(label), 8, 6), np.uint8), label=label)
        return read_for(tmp_path / "a.npz", numbered("1", "2", "3")).conditions["label"].tolist()

    assert read(1, 2, 1) == [0, 1, 0]
    assert read(3) == [2]
    with pytest.raises(InputDataError, match="two readings: 1 is the name of a class, but 0 is only an index"):
        read(0, 1, 2)


def test_integers_of_a_continuous_condition_keep_their_values(tmp_path):
    continuous = manifest(conditions=[{"name": "label", "kind": "continuous", "range": [0, 9]}])
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 8, 6), np.uint8), label=[7, 3, 7])
    assert read_for(tmp_path / "a.npz", continuous).conditions["label"].tolist() == [7, 3, 7]


def test_layouts_of_one_image_are_equal(tmp_path):
    x = np.arange(96, dtype=np.uint8).reshape(2, 8, 6, 1)
    for name, layout in {"rows": x.reshape(2, -1), "channels first": x.reshape(2, 1, 8, 6), "gray": x[..., 0]}.items():
        np.save(tmp_path / f"{name}.npy", layout)
        np.testing.assert_array_equal(read_for(tmp_path / f"{name}.npy", manifest(conditions=[])).x, x)
    header = ",".join(f"pixel{index}" for index in range(48))
    np.savetxt(tmp_path / "a.csv", x.reshape(2, -1), fmt="%d", delimiter=",", header=header, comments="")
    np.testing.assert_array_equal(read_for(tmp_path / "a.csv", manifest(conditions=[])).x, x)


def test_sequences_with_the_features_first_are_read_for_a_model(tmp_path):
    x = np.arange(24, dtype="f4").reshape(2, 4, 3)
    data = {"kind": "sequence", "shape": [4, 3], "range": None, "bounded": False, "mean": [0] * 3, "scale": [1] * 3}
    sequences = manifest(data=data, conditions=[], likelihood={"name": "gaussian", "sigma": [1.0] * 3})
    for name, layout in {"steps": x, "features": np.swapaxes(x, 1, 2), "flat": x.reshape(2, -1)}.items():
        np.save(tmp_path / f"{name}.npy", layout)
        np.testing.assert_array_equal(read_for(tmp_path / f"{name}.npy", sequences).x, x)


def test_label_follows_from_the_name_of_a_folder_of_images(tmp_path):
    (tmp_path / "dog").mkdir()
    Image.fromarray(np.zeros((8, 6), np.uint8)).save(tmp_path / "dog" / "a.png")
    for path in (tmp_path / "dog", tmp_path / "dog" / "a.png"):
        data = read_for(path, manifest())
        assert data.conditions["label"].tolist() == [1]
        assert data.notes == ("The label of all images is dog, the name of their folder.",)


def test_number_with_a_decimal_comma_is_read_for_a_model(tmp_path):
    (tmp_path / "a.csv").write_text("a;b\n1,5;x\n-2,25;y\n")
    assert read_for(tmp_path / "a.csv", tables()).x.tolist() == [[1, 1.5], [0, -2.25]]


def test_examples_of_a_path_are_read_in_every_layout(tmp_path, tiny):
    x = (np.arange(48, dtype=np.uint8) * 5).reshape(1, 8, 6, 1)
    model = load(tiny / "unconditional")
    np.save(tmp_path / "a.npy", x)
    expected = encode_file(model, str(tmp_path / "a.npy"), {}).z
    for layout in (x.reshape(1, -1), x.reshape(1, 1, 8, 6)):
        np.save(tmp_path / "b.npy", layout)
        np.testing.assert_array_equal(encode_file(model, str(tmp_path / "b.npy"), {}).z, expected)


def test_pixels_of_a_mask_are_divided_by_255_for_a_model_of_0_and_1(tmp_path):
    model = manifest(data={"kind": "image", "shape": [2, 2, 1], "range": [0, 1]})
    pixels = np.array([[0, 255], [255, 0]], np.uint8)
    for name, values in (("a.png", pixels), ("b.png", pixels // 255)):
        Image.fromarray(values).save(tmp_path / name)
        data = read_for(tmp_path / name, model)
        np.testing.assert_array_equal(data.x[0, :, :, 0], pixels / 255)
        assert [("divided by 255" in note) for note in data.notes] == ([True] if name == "a.png" else [])
