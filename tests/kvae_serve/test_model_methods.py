"""Methods of `Model`: typed and documented, equal to the commands, and thread-safe."""

from __future__ import annotations

import inspect
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from kvae_serve.errors import InputDataError, RequestError
from kvae_serve.model import Model, load
from support.tiny import LABEL, binary_images

X = binary_images(12)
LABELS = np.resize(LABEL, 12)
COMMANDS = (
    "sample",
    "encode",
    "decode",
    "reconstruct",
    "traverse",
    "interpolate",
    "score",
    "evaluate",
    "info",
    "verify",
)
METHODS = (*COMMANDS, "impute", "sample_batches", "draw_codes", "log_likelihood")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_types_and_documents_each_argument(name):
    method = getattr(Model, name)
    signature = inspect.signature(method)
    arguments = [each for each in signature.parameters.values() if each.name != "self"]
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(each.annotation is not inspect.Parameter.empty for each in arguments)
    said = inspect.getdoc(method) or ""
    for each in arguments:
        assert f"\n    {each.name}: " in said, f"{each.name} of {name}"
    if {"x", "z"} & {each.name for each in arguments}:
        assert "[rows," in said


def everything(model: Model) -> list[np.ndarray]:
    """Results of every method."""
    z = np.linspace(-1, 1, 36, dtype="f4").reshape(12, 3)
    at = {"label": LABELS}
    scores = model.score(X, at, num_samples=3)
    figures = model.evaluate(X, at, importance_samples=4, binarize="dynamic")
    result: list[Any] = [
        model.sample(70, label="all", seed=2, draw=True).x,
        *(each.z for each in model.sample_batches(700, label="cat", seed=2)),
        *model.encode(X, at),
        model.draw_codes(X, at, seed=3),
        model.decode(z, at),
        model.decode(z, at, draw=True, seed=3),
        model.reconstruct(X, at, batch_size=5),
        model.traverse(label="dog", steps=3).x,
        model.traverse(label="dog", steps=3, data={"x": X, **at}).activity.values,
        model.interpolate(z[0], z[1], label="cat", to_label="dog").x,
        scores.elbo,
        scores.kl,
        model.log_likelihood(np.where(X > 127, 255, 0), z, at),
        [check.difference for check in model.verify()],
        [file["bytes"] for file in model.info()["files"]],
        np.frombuffer(json.dumps(figures, sort_keys=True).encode(), np.uint8),
    ]
    return [np.asarray(each) for each in result]


def test_eight_threads_on_one_model_get_the_results_of_one_thread(tiny):
    expected = everything(load(tiny / "conditional"))
    shared = load(tiny / "conditional")  # Not opened yet, so the threads open it together.
    ready = threading.Barrier(8)

    def work(_: int) -> bool:
        ready.wait()
        return all((a == b).all() for a, b in zip(everything(shared), expected, strict=True))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [True] * 8


def test_draws_equal_those_of_the_command(kvae, tiny, tmp_path):
    np.savez(tmp_path / "data.npz", x=X, label=LABELS)
    model = load(tiny / "conditional")
    for command, file in (("encode", "data.npz"), ("decode", "z.npz")):
        form = ["-m", tiny / "conditional", file, "--draw", "--seed", 5, "-q", "-o"]
        assert kvae(command, *form, "z.npz" if command == "encode" else "x.npz").returncode == 0
    with np.load(tmp_path / "z.npz") as codes, np.load(tmp_path / "x.npz") as made:
        assert (model.draw_codes(X, label=LABELS, seed=5) == codes["z"]).all()
        assert (model.decode(codes["z"], label=LABELS, draw=True, seed=5) == made["x"]).all()
        # A range equals the range of the whole.
        part = {"label": LABELS[7:], "seed": 5, "start": 7}
        assert (model.draw_codes(X[7:], **part) == codes["z"][7:]).all()
        assert (model.decode(codes["z"][7:], draw=True, **part, batch_size=2) == made["x"][7:]).all()
        # Without a seed, a new one is drawn.
        assert (model.decode(codes["z"], label=LABELS, draw=True) != made["x"]).any()


def test_invalid_arguments_are_rejected(tiny):
    model, z = load(tiny / "conditional"), np.zeros((12, 3))
    for wrong in ({"seed": -1}, {"start": -1}, {"start": 2**63 - 5}, {"start": 1.5}):
        with pytest.raises(RequestError):
            model.decode(z, label=0, draw=True, **wrong)
        with pytest.raises(RequestError):
            model.draw_codes(X, label=0, **wrong)
    with pytest.raises(RequestError, match="expected an array x"):
        model.traverse(label=0, data={"y": X})
    with pytest.raises(InputDataError):
        model.traverse(label=0, data={"x": X[:, :1], "label": LABELS})


def test_info_equals_that_of_the_command(kvae, tiny):
    path = tiny / "conditional"
    assert json.loads(kvae("info", "-m", path, "--json").stdout) == json.loads(json.dumps(load(path).info()))


def test_rows_of_a_table_with_an_unseen_class_are_warned_of(tiny, recwarn):
    model = load(tiny / "linear_table")
    rows = {"age": [20, 31], "sex": ["male", "other"], "pay": [-3, 0.5], "debt": [1, -1]}
    model.encode(rows)
    assert not recwarn.list
    model.encode(rows | {"sex": ["male", "moon"]})
    assert [str(each.message) for each in recwarn.list] == [
        "Column sex: row 1, column sex contains moon, which is not a class of the model and scores as unlike the "
        "training data."
    ]
    assert recwarn.list[0].filename == __file__
