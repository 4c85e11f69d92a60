"""Datasets from arrays and IDX files: values are read back, and each kind of bad file has its message."""

from __future__ import annotations

import gzip
import io
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from kvae_serve.errors import InputDataError
from kvae_serve.readers import MissingSplitError, ReadOptions, check_range, read_dataset, read_for, read_idx
from kvae_serve.readers.partial import read_partial
from kvae_serve.sealed.manifest import Manifest
from support import make_linear_table, make_tiny_models

X = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
LABEL = np.array([0, 2, 1, 2, 0], np.uint8)


def idx(array: np.ndarray, code: int = 8) -> bytes:
    """Encode by the specification: two zero bytes, type, number of axes, sizes, values, all big-endian."""
    body = array.astype(array.dtype.newbyteorder(">")).tobytes()
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + body


def mnist_folder(folder: Path, zipped: bool = False, x: np.ndarray = X, label: np.ndarray = LABEL) -> Path:
    for prefix, factor in (("train", 1), ("t10k", 2)):
        for name, data in (
            (f"{prefix}-images-idx3-ubyte", idx(x * np.uint8(factor))),
            (f"{prefix}-labels-idx1-ubyte", idx(label)),
        ):
            (folder / (f"{name}.gz" if zipped else name)).write_bytes(gzip.compress(data) if zipped else data)
    return folder


@pytest.mark.parametrize("zipped", [False, True])
def test_mnist_folder_has_two_splits(tmp_path, zipped):
    mnist_folder(tmp_path, zipped)
    data = read_dataset(tmp_path)
    assert data.x.dtype == np.uint8
    assert (data.x[..., 0] == X).all()
    assert data.conditions["label"].tolist() == LABEL.tolist()
    assert data.conditions["label"].dtype == np.int64
    assert data.class_names == {"label": ("0", "1", "2")}
    assert data.range == (0, 255)
    assert data.source == str(tmp_path)
    assert (read_dataset(tmp_path, "test").x[..., 0] == 2 * X).all()


def test_labels_are_found_next_to_a_file_of_images(tmp_path):
    mnist_folder(tmp_path)
    path = tmp_path / "t10k-images-idx3-ubyte"
    assert read_dataset(path).conditions["label"].tolist() == LABEL.tolist()
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    assert read_dataset(path).conditions == {}


@pytest.mark.parametrize(("code", "dtype"), [(8, "u1"), (9, "i1"), (11, "i2"), (12, "i4"), (13, "f4"), (14, "f8")])
def test_every_idx_type_is_read(tmp_path, code, dtype):
    array = np.arange(12).reshape(3, 4).astype(dtype)
    (tmp_path / "a.idx").write_bytes(idx(array, code))
    values = read_idx(tmp_path / "a.idx")
    assert values.dtype == array.dtype
    assert (values == array).all()


def test_npz_has_x_and_each_type_of_condition(tmp_path):
    np.savez(
        tmp_path / "a.npz", x=X / 255.0, label=LABEL, animal=np.array(list("babab")), slant=np.linspace(-1, 1, 5),
        z=np.zeros((5, 2)), seed=np.uint64(3), scheme="s", start=0,
    )  # fmt: skip
    data = read_dataset(tmp_path / "a.npz")
    assert data.x.shape == (5, 4, 3, 1)
    assert data.x.dtype == np.float32
    assert data.range is None
    assert list(data.conditions) == ["label", "animal", "slant"]
    assert data.class_names == {"label": ("0", "1", "2"), "animal": ("a", "b")}
    assert data.conditions["animal"].tolist() == [1, 0, 1, 0, 1]
    assert data.conditions["slant"].dtype == np.float32


def test_keras_npz_has_two_splits(tmp_path):
    np.savez(tmp_path / "mnist.npz", x_train=X, y_train=LABEL, x_test=X[:2], y_test=LABEL[:2])
    assert len(read_dataset(tmp_path / "mnist.npz").x) == 5
    assert read_dataset(tmp_path / "mnist.npz", "test").conditions["label"].tolist() == [0, 2]


def test_npy_is_x_without_conditions(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((3, 7)))
    data = read_dataset(tmp_path / "a.npy")
    assert data.x.shape == (3, 7)
    assert data.conditions == {}


def test_packaged_digits_are_read_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    test, train = read_dataset("mnist-sample", "test"), read_dataset("mnist-sample")
    assert (test.x.shape, train.x.shape, test.source) == ((200, 28, 28, 1), (600, 28, 28, 1), "mnist-sample")
    assert set(test.conditions["label"].tolist()) == set(range(10))
    # An existing folder has precedence over the name. Other names and paths are not replaced.
    (tmp_path / "mnist-sample").mkdir()
    mnist_folder(tmp_path / "mnist-sample")
    assert len(read_dataset("mnist-sample").x) == len(X)
    refused(tmp_path / "other" / "mnist-sample", "does not exist. Give the path of a folder")
    refused(Path("mnist"), "Only kvae train downloads mnist. Use mnist-sample")


def refused(path: Path, reason: str, split=None) -> None:
    with pytest.raises(InputDataError, match=reason) as error:
        read_dataset(path, split)
    assert error.value.exit_code == 4
    assert str(error.value).isprintable()


def test_missing_and_unknown_files_are_refused(tmp_path):
    refused(tmp_path / "none", "does not exist")
    refused(tmp_path, "does not contain train-images-idx3-ubyte")
    refused(tmp_path, "does not contain t10k-images-idx3-ubyte", "test")
    (tmp_path / "a.txt").write_text("hello")
    refused(tmp_path / "a.txt", "unknown suffix")
    mnist_folder(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    refused(tmp_path, "does not contain train-labels-idx1-ubyte")
    refused(tmp_path / "train-images-idx3-ubyte", "does not have a test split", "test")


@pytest.mark.parametrize("word", ["val", "valid", "validation"])
def test_use_of_the_arrays_of_medmnist_is_noted(word, tmp_path):
    arrays = {"train": X, f"{word}": X[:3], "test": X[:2]}
    images = {f"{split}_images": each for split, each in arrays.items()}
    labels = {f"{split}_labels": LABEL[: len(each), None] for split, each in arrays.items()}
    np.savez(tmp_path / "pathmnist.npz", **images, **labels)
    for split in ("train", "test"):
        data = read_dataset(tmp_path / "pathmnist.npz", split)
        assert (data.x[..., 0] == arrays[split]).all()
        assert data.conditions["label"].tolist() == LABEL[: len(arrays[split])].tolist()
        assert data.notes == (
            f"In {tmp_path / 'pathmnist.npz'}, the training split is train_images and train_labels, the test split is "
            f"test_images and test_labels; {word}_images and {word}_labels are not used, because validation data are "
            "held out of the training split.",
        )
    validation = read_dataset(
        tmp_path / "pathmnist.npz", options=ReadOptions(keys=(f"x={word}_images", f"label={word}_labels"))
    )
    assert len(validation.x) == 3


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz", ".npy", ".png", ".gz", ""])
def test_missing_file_does_not_exist_for_any_reader(suffix, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # It is not needed to find this.
    served = {"graph": "decoder", "golden": None}
    table = Manifest.from_dict(make_linear_table.manifest() | served)
    images = Manifest.from_dict(make_tiny_models.manifest("unconditional", False, "standard_normal") | served)
    reads = [read_dataset, lambda path: read_for(path, table), lambda path: read_for(path, images)]
    if suffix in (".csv", ".parquet"):
        reads.append(lambda path: read_partial(path, table))
    for read in reads:
        with pytest.raises(InputDataError, match=r"none\S* does not exist\. Give the path of "):
            read(tmp_path / f"none{suffix}")


def bad_images() -> dict[str, tuple[bytes, str]]:
    good = idx(X)
    return {
        "empty": (b"", "cut short"),
        "wrong magic": (b"\x89PNG" + good[4:], "not an IDX file"),
        "wrong type": (bytes([0, 0, 7, 3]) + good[4:], "not an IDX file"),
        "no axes": (bytes([0, 0, 8, 0]), "not an IDX file"),
        "cut in the header": (good[:9], "in its header"),
        "cut in the values": (good[:-1], "needs 60 bytes, it has 59"),
        "too long": (good + b"\0", "it has more"),
        "a huge claim": (bytes([0, 0, 8, 3]) + b"\xff" * 12, "claims"),
        "a large claim": (bytes([0, 0, 8, 3]) + struct.pack(">3I", 100_000, 100, 100), "it has 0|like a zip bomb"),
        "labels instead": (idx(LABEL), "expected images"),
        "does not contain any examples": (idx(X[:0]), "does not contain any examples"),
        "no pixels": (idx(X[:, :0]), "does not contain any examples"),
    }


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", bad_images())
def test_bad_idx_file_is_refused_with_the_reason(tmp_path, name, zipped):
    data, reason = bad_images()[name]
    mnist_folder(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(gzip.compress(data) if zipped else data)
    refused(tmp_path, reason)


@pytest.mark.parametrize("length", [5, 20, -1, -9])
def test_truncated_gzip_file_is_refused(tmp_path, length):
    mnist_folder(tmp_path, zipped=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:length])
    refused(tmp_path, "cannot be unzipped")


def test_labels_of_another_length_or_shape_are_refused(tmp_path):
    refused(mnist_folder(tmp_path, label=LABEL[:4]), "5 examples but 4 values of label")
    refused(mnist_folder(tmp_path, label=X), r"expected labels \[num\]")


def bad_arrays() -> dict[str, tuple[dict, str]]:
    nan = X / 1.0
    nan[2, 1, 1] = np.nan
    return {
        "two arrays that may be x": ({"images": X, "data": X}, r"images .5, 4, 3., data .*--key x=NAME"),
        "nothing": ({}, "contains nothing"),
        "NaN": ({"x": nan}, "1 values of x that are NaN"),
        "infinite": ({"x": np.where(np.isnan(nan), np.inf, 0)}, "NaN or infinite"),
        "beyond float32": ({"x": np.full((2, 2), 1e300)}, "NaN or infinite"),
        "zero examples": ({"x": X[:0]}, "does not contain any examples"),
        "one axis": ({"x": np.zeros(5)}, "shape"),
        "five axes": ({"x": np.zeros((2, 2, 2, 2, 2))}, "to .num, height, width, channels"),
        "texts": ({"x": np.array([["a"]])}, "expected numbers"),
        "complex": ({"x": np.ones((2, 2), complex)}, "expected numbers"),
        "objects": ({"x": np.array([[{}]], object)}, "never loaded"),
        "other length": ({"x": X, "label": LABEL[:3]}, "5 examples but 3 values of label"),
        "one-hot labels": ({"x": X, "label": np.eye(5)}, r"is one-hot, .*np.argmax.label, axis=1."),
        "too many labels": ({"x": np.zeros((10_001, 2)), "label": np.arange(10_001)}, "at most 10000 classes"),
        "NaN in a condition": ({"x": X, "slant": np.full(5, np.nan)}, "values of slant"),
        "dates": ({"x": X, "when": np.zeros(5, "M8[s]")}, "numbers or texts"),
    }


@pytest.mark.parametrize("name", bad_arrays())
def test_bad_arrays_in_an_npz_are_refused(tmp_path, name):
    arrays, reason = bad_arrays()[name]
    np.savez(tmp_path / "a.npz", **arrays)
    refused(tmp_path / "a.npz", reason)


def test_damaged_npz_and_npy_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=X)
    data = (tmp_path / "a.npz").read_bytes()
    for bad in (b"", b"PK", data[:50], data[:-30], b"hello" * 30, data.replace(b"\x93NUMPY", b"\x93NUMPX")):
        (tmp_path / "a.npz").write_bytes(bad)
        refused(tmp_path / "a.npz", "not a readable|never loaded")
    np.savez(tmp_path / "b.npz", x=X)
    refused(tmp_path / "b.npz", "does not have a test split", "test")
    buffer = io.BytesIO()
    np.save(buffer, X)
    for bad in (b"", buffer.getvalue()[:20], buffer.getvalue()[:-1], b"hello" * 30):
        (tmp_path / "a.npy").write_bytes(bad)
        refused(tmp_path / "a.npy", "not a readable|never loaded")
    np.save(tmp_path / "o.npy", np.array([{}], object))
    refused(tmp_path / "o.npy", "never loaded")


def test_header_that_claims_more_than_any_memory_is_refused(tmp_path):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f8", "fortran_order": False, "shape": (10**15, 9)})
    (tmp_path / "a.npy").write_bytes(buffer.getvalue() + bytes(80))
    refused(tmp_path / "a.npy", "damaged")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as bundle:
        bundle.writestr("x.npy", buffer.getvalue() + bytes(80))
    refused(tmp_path / "a.npz", "damaged")


def test_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("kvae_serve.readers.dataset.MAX_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("x.npy", bytes(2**21))
    refused(tmp_path / "a.npz", "claims")


def test_check_range_refuses_values_outside_and_not_finite():
    check_range(np.array([0.0, 255.0]), (0, 255), "file")
    check_range(np.array([-9.0, 999.0]), None, "file")
    for bad in ([-1.0], [255.5], [np.nan], [np.inf]):
        with pytest.raises(InputDataError):
            check_range(np.array(bad), (0, 255), "file")


LABELS = {
    "column": (LABEL[:, None], None),
    "whole floats": (LABEL.astype("f8"), None),
    "texts": (LABEL.astype("U"), None),
    "bytes": (LABEL.astype("S"), None),
    "from 1": (LABEL + 1, 1),
    "with gaps": (LABEL * 100 + 100, None),
    "negative": (LABEL - 5, None),
}


@pytest.mark.parametrize("form", LABELS)
def test_only_labels_that_occur_are_classes(tmp_path, form):
    label, _ = LABELS[form]
    np.savez(tmp_path / "a.npz", x=X, label=label)
    data = read_dataset(tmp_path / "a.npz")
    values = [int(each) for each in label.ravel()]
    assert data.class_names["label"] == tuple(map(str, sorted(set(values))))
    assert [int(data.class_names["label"][index]) for index in data.conditions["label"]] == values


@pytest.mark.parametrize(
    ("x", "label"),
    [("images", "labels"), ("X", "y"), ("data", "target"), ("arr_0", "arr_1"), ("train_images", "train_labels"),
     ("X_train", "y_train")],
)  # fmt: skip
def test_other_names_of_arrays_are_recognised(tmp_path, x, label):
    np.savez(tmp_path / "a.npz", **{x: X, label: LABEL[:, None]})
    data = read_dataset(tmp_path / "a.npz")
    np.testing.assert_array_equal(data.x[..., 0], X)
    assert [int(data.class_names["label"][index]) for index in data.conditions["label"]] == LABEL.tolist()


def test_keys_choose_the_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", faces=X, other=X, who=LABEL)
    refused(tmp_path / "a.npz", r"contains faces .5, 4, 3., other .*who .5.; it is not clear which array is x")
    data = read_dataset(tmp_path / "a.npz", options=ReadOptions(keys=("x=faces", "label=who")))
    np.testing.assert_array_equal(data.x[..., 0], X)
    assert list(data.conditions) == ["label"]
    with pytest.raises(InputDataError, match="--key x=face does not name an array"):
        read_dataset(tmp_path / "a.npz", options=ReadOptions(keys=("x=face",)))


def test_both_splits_have_the_classes_of_the_train_split(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=X, y_train=[3, 5, 7, 3, 5], x_test=X[:2], y_test=[7, 5])
    test = read_dataset(tmp_path / "a.npz", "test")
    assert test.class_names == {"label": ("3", "5", "7")}
    assert test.conditions["label"].tolist() == [2, 1]


def test_channels_before_height_and_width_are_moved(tmp_path):
    x = np.arange(2 * 3 * 6 * 5, dtype=np.uint8).reshape(2, 3, 6, 5)
    np.save(tmp_path / "a.npy", x)
    data = read_dataset(tmp_path / "a.npy")
    np.testing.assert_array_equal(data.x, x.transpose(0, 2, 3, 1))
    assert data.notes == ("x has the shape [2, 3, 6, 5]; axis 1 was read as the channels.",)
    requested = ReadOptions(image_size=(6, 5), channels=3)
    np.testing.assert_array_equal(read_dataset(tmp_path / "a.npy", options=requested).x, data.x)


def test_options_that_do_not_apply_to_the_data_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 8, 6, 1), np.uint8))
    for options, reason in {
        ReadOptions(image_size=(4, 4)): r"shape .3, 8, 6, 1.; --image-size and --channels",
        ReadOptions(channels=3): "--image-size and --channels",
        ReadOptions(keys=("x=a",)): "is not an .npz file, so --key does not apply",
        ReadOptions(delimiter=";"): "is not a CSV file, so --delimiter does not apply",
        ReadOptions(skip_bad=True): "is not a folder of images, so --skip-bad does not apply",
    }.items():
        with pytest.raises(InputDataError, match=reason):
            read_dataset(tmp_path / "a.npy", options=options)
    np.save(tmp_path / "a.npy", np.arange(96, dtype=np.uint8).reshape(2, 48))
    assert read_dataset(tmp_path / "a.npy", options=ReadOptions(image_size=(8, 6))).x.shape == (2, 8, 6, 1)


def test_mnist_files_as_file_managers_unpack_them_are_read(tmp_path):
    folder = mnist_folder(tmp_path)
    for path in list(folder.iterdir()):
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert len(read_dataset(folder).x) == len(X)
    for path in folder.glob("t10k*"):
        path.unlink()
    assert len(read_dataset(folder).x) == len(X)
    with pytest.raises(MissingSplitError, match=r"contains only the train split.*Use --split train"):
        read_dataset(folder, "test")


@pytest.mark.parametrize(
    ("arrays", "unread"),
    [
        ({"x": X, "label": LABEL, "slant": LABEL / 2, "z": X, "seed": [1]}, ""),
        ({"images": X, "labels": LABEL, "slant": LABEL / 2, "z": X}, "slant [5]"),
        ({"arr_0": X, "arr_1": LABEL, "arr_2": LABEL}, "arr_2 [5]"),
        ({"images": X, "y": LABEL, "target": X}, "y [5], target [5, 4, 3]"),
        ({"train_images": X, "train_labels": LABEL, "test_images": X, "test_masks": X[:2]}, "test_masks [2, 4, 3]"),
    ],
)
def test_arrays_that_are_not_read_are_listed(tmp_path, arrays, unread):
    np.savez(tmp_path / "a.npz", **arrays)
    notes = read_dataset(tmp_path / "a.npz").notes
    start = f"Arrays of {tmp_path / 'a.npz'} that are not read, because of their names: "
    assert notes == ((f"{start}{unread}; --key NAME=ARRAY reads one.",) if unread else ())
