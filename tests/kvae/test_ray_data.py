"""Actors for Ray, run without Ray: batches of any size in any order equal a single run, bit for bit."""

import importlib.util
import pickle
import subprocess
import sys

import numpy as np
import pytest

from kvae import ray_data
from kvae_serve.errors import InputDataError, MissingExtraError, ModelFileError, RequestError
from kvae_serve.inference import scoring
from kvae_serve.model import load

X = (np.random.default_rng(1).random((30, 8, 6, 1)) * 256).astype(np.uint8)
LABEL = np.arange(30) % 3


def batches(columns, sizes):
    """Split columns into batches, in reverse order."""
    ends = np.cumsum(sizes)
    for end, size in reversed(list(zip(ends, sizes, strict=True))):
        yield {name: values[end - size : end] for name, values in columns.items()}


def union(parts):
    """Join batches in the order of their ids."""
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(columns["id"])
    return {name: values[order] for name, values in columns.items()}


@pytest.mark.parametrize("draw", [False, True])
def test_draws_of_two_actors_equal_those_of_one_process(tiny, draw):
    model = load(tiny / "conditional")
    request = {"label": ["0", "cat"], "seed": 11, "start": 4, "temperature": 0.7, "draw": draw}
    whole = model.sample(25, **request)
    actors = [ray_data.Sampler(tiny / "conditional", 25, **request) for _ in range(2)]
    ids = {"id": np.arange(50)}
    made = union([actors[n % 2](batch) for n, batch in enumerate(batches(ids, [1, 20, 9, 20]))])
    for name, values in whole.arrays().items():
        assert made[name].tobytes() == values.tobytes(), name


def test_scores_of_two_actors_equal_those_of_one_process(tiny):
    model = load(tiny / "conditional")
    whole = model.score(X, label=LABEL)
    below = float(np.median(whole.elbo))
    actors = [ray_data.Scorer(tiny / "conditional", threshold=below) for _ in range(2)]
    columns = {"id": np.arange(30), "x": X, "label": LABEL, "note": np.array([f"n{i}" for i in range(30)])}
    made = union([actors[n % 2](batch) for n, batch in enumerate(batches(columns, [13, 1, 16]))])
    assert set(made) == {"id", "label", "note", "elbo", "reconstruction", "kl", "anomaly"}
    for name in ("elbo", "reconstruction", "kl"):
        assert made[name].tobytes() == getattr(whole, name).tobytes(), name
    assert made["anomaly"].sum() == 15
    assert made["note"].tolist() == columns["note"].tolist()


def test_codes_equal_those_of_one_process(tiny):
    z_mean, z_log_var = load(tiny / "conditional").encode(X, label="dog")
    encode = ray_data.Encoder(tiny / "conditional", x="image", label="dog")
    columns = {"id": np.arange(30), "image": X, "label": LABEL}  # an argument for all rows overrides the column
    made = union([encode(batch) for batch in batches(columns, [7, 23])])
    assert set(made) == {"id", "label", "z_mean", "z_log_var"}
    assert made["z_mean"].tobytes() == z_mean.tobytes()
    assert made["z_log_var"].tobytes() == z_log_var.tobytes()


def test_labels_are_accepted_by_name_and_x_as_lists(tiny):
    names = np.array(["cat", "dog", "0"], object)[LABEL]
    lists = np.empty(30, object)
    lists[:] = [row.tolist() for row in X]
    made = ray_data.Scorer(tiny / "conditional")({"x": lists, "label": names})
    assert made["elbo"].tobytes() == load(tiny / "conditional").score(X, label=LABEL).elbo.tobytes()


def test_scorer_uses_num_samples_and_seed(tiny):
    made = ray_data.Scorer(tiny / "unconditional", num_samples=3, seed=9)({"x": X})
    expected = scoring.score(load(tiny / "unconditional"), X, num_samples=3, seed=9)
    assert made["kl"].tobytes() == expected.kl.tobytes()
    assert made["elbo"].tobytes() == expected.elbo.tobytes()


def test_unit_pixels_are_rejected_in_the_first_batch_only(tiny):
    dark = np.zeros((1, 8, 6, 1), np.float32)
    dark[0, 0] = 1
    for actor in (ray_data.Scorer(tiny / "unconditional"), ray_data.Encoder(tiny / "unconditional")):
        with pytest.raises(InputDataError, match="divided by 255"):
            actor({"x": (X / 255).astype(np.float32)})
        actor({"x": X.astype(np.float32)})
        assert len(actor({"x": dark})) in (2, 3)


def test_a_different_model_on_a_node_is_rejected(tiny):
    expected = load(tiny / "conditional").manifest.model_id
    ray_data.Encoder(tiny / "conditional", model_id=expected)
    with pytest.raises(ModelFileError, match="is a different model on this node"):
        ray_data.Sampler(tiny / "unconditional", 1, seed=0, model_id=expected)


def test_missing_columns_and_conditions_are_named(tiny):
    with pytest.raises(InputDataError, match="not have the column x; its columns are image, label"):
        ray_data.Scorer(tiny / "conditional")({"image": X, "label": LABEL})
    with pytest.raises(RequestError, match="needs label"):
        ray_data.Scorer(tiny / "conditional")({"x": X})
    ragged = np.array([[1, 2], [1, 2, 3]], object)
    with pytest.raises(InputDataError, match="rows of different shapes"):
        ray_data.Scorer(tiny / "unconditional")({"x": np.array([*ragged, None], object)[:2]})


def test_errors_can_be_pickled():
    error = pickle.loads(pickle.dumps(ModelFileError("a different model")))
    assert (type(error), str(error)) == (ModelFileError, "a different model")


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed here")
def test_missing_ray_names_the_extra(tiny):
    with pytest.raises(MissingExtraError, match=r"kvae-onnx\[ray\]"):
        ray_data.sample(tiny / "conditional", 3, seed=0)


def test_sampler_does_not_import_keras(tiny):
    code = (
        "import sys, kvae; from kvae.ray_data import Sampler; import numpy as np\n"
        f"Sampler({str(tiny / 'unconditional')!r}, 3, seed=0)({{'id': np.arange(3)}})\n"
        "print({'keras', 'tensorflow', 'ray', 'jax'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
