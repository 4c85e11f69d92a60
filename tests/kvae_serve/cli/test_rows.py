"""`encode`, `decode` and `reconstruct`, as commands and methods, compared with the formulas of the tiny models."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from kvae_serve.errors import InputDataError, RequestError
from kvae_serve.inference import latent_files, transforms
from kvae_serve.inference.sampling import Draws
from kvae_serve.model import load
from kvae_serve.readers import read_dataset, read_for
from kvae_serve.runtime import providers
from kvae_serve.sealed import noise
from kvae_serve.sealed.manifest import Manifest
from kvae_serve.writers import dispatch
from support import make_tiny_models as tiny_models
from support import wire
from support.tiny import CLOSE, LABEL, assert_refused, binary_images, names

PIL = pytest.importorskip("PIL.Image")
X = binary_images(5)


@pytest.fixture
def data(tmp_path):
    np.savez(tmp_path / "data.npz", x=X, label=LABEL)
    np.save(tmp_path / "x.npy", X)
    return tmp_path


def piped(tiny, folder, environment, first: bytes, *arguments) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "kvae", *map(str, arguments)]
    return subprocess.run(command, input=first, cwd=folder, env=environment, capture_output=True, check=False)


def test_encode_matches_the_encoder_formula_in_every_format(kvae, tiny, data):
    expected = tiny_models.encode(X, LABEL)
    arguments = ["encode", "-m", tiny / "conditional", "data.npz"]
    for form in ("c.npz", "c.npy", "c.csv"):
        done = kvae(*arguments, "-o", form)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", f"5 rows of conditional to {form}\n")
    with np.load(data / "c.npz") as found:
        assert found.files == ["z_mean", "z_log_var", "label"]
        for name in ("z_mean", "z_log_var"):
            np.testing.assert_allclose(found[name], expected[name], **CLOSE)
        assert (found["label"] == LABEL).all()
        assert np.load(data / "c.npy").tobytes() == found["z_mean"].tobytes()
        lines = (data / "c.csv").read_text().splitlines()
        assert lines[0] == "label,z_mean_0,z_mean_1,z_mean_2,z_log_var_0,z_log_var_1,z_log_var_2"
        assert [line.split(",")[0] for line in lines[1:]] == [tiny_models.CLASSES[each] for each in LABEL]
        table = np.array([line.split(",")[1:] for line in lines[1:]], np.float32)
        assert (table == np.hstack([found["z_mean"], found["z_log_var"]])).all()  # Nine digits restore a float32.
    assert kvae(*arguments, "-q").stdout == (data / "c.csv").read_text()


def test_label_option_replaces_or_supplies_the_labels(kvae, tiny, data):
    assert kvae("encode", "-m", tiny / "conditional", "data.npz", "--label", "dog", "-o", "c.npy").returncode == 0
    np.testing.assert_allclose(np.load(data / "c.npy"), tiny_models.encode(X, np.ones(5, int))["z_mean"], **CLOSE)
    arguments = ["encode", "-m", tiny / "conditional"]
    assert_refused(kvae(*arguments, "x.npy"), 4, "label", "--label")
    assert_refused(kvae(*arguments, "x.npy", "--label", "cow"), 2, "cat, dog, 0")
    assert_refused(kvae(*arguments, "x.npy", "--label", "cat", "--condition", "label=cat"), 2, "twice")
    assert_refused(kvae("encode", "-m", tiny / "unconditional", "x.npy", "--label", "cat"), 2, "unconditional")
    assert_refused(kvae(*arguments, "none.npy", "--label", "cat"), 4, "does not exist")
    assert_refused(kvae(*arguments, "x.npy", "--label", "cat", "-o", "a.png"), 2, "pictures", "z_mean")
    assert_refused(kvae(*arguments, "x.npy", "--label", "cat", "--start", 5), 2, "no row 5")
    assert names(data) == ["c.npy", "data.npz", "x.npy"]


def test_encode_of_a_range_equals_the_range_of_the_whole(kvae, tiny, data):
    model = tiny / "conditional"
    kvae("encode", "-m", model, "data.npz", "--draw", "--seed", 7, "-o", "whole.npz")
    kvae("encode", "-m", model, "data.npz", "--draw", "--seed", 7, "--start", 2, "-n", 2, "-o", "part.npz")
    with np.load(data / "whole.npz") as whole, np.load(data / "part.npz") as part:
        for name in ("z", "z_mean", "z_log_var", "label"):
            assert (part[name] == whole[name][2:4]).all()
        assert (int(part["seed"]), int(part["start"])) == (7, 2)
        normals, _ = noise.latent_noise(7, 0, 5, 3)
        want = whole["z_mean"] + np.exp(whole["z_log_var"] / 2) * normals
        np.testing.assert_allclose(whole["z"], want, rtol=1e-6)


@pytest.mark.parametrize("form", ["codes.npz", "codes.csv", "codes.npy"])
def test_decode_reads_the_output_of_encode(kvae, tiny, data, form):
    model = tiny / "conditional"
    assert kvae("encode", "-m", model, "data.npz", "-o", form).returncode == 0
    label_option = ["--label", "dog"] if form.endswith(".npy") else []  # An .npy does not have labels.
    label = np.ones(5, int) if label_option else LABEL
    assert kvae("decode", "-m", model, form, *label_option, "-o", "x_again.npz").returncode == 0
    z = tiny_models.encode(X, LABEL)["z_mean"]
    with np.load(data / "x_again.npz") as found:
        np.testing.assert_allclose(found["x"], tiny_models.decode(z, label)["x_mean"], **CLOSE)
        assert (found["label"] == label).all()
    if not label_option:
        assert kvae("reconstruct", "-m", model, "data.npz", "-o", "r.npy").returncode == 0
        with np.load(data / "x_again.npz") as found:
            np.testing.assert_allclose(np.load(data / "r.npy"), found["x"], atol=1e-3)


def test_encode_decode_and_reconstruct_work_in_pipes(tiny, data, command_environment):
    model = tiny / "unconditional"
    done = piped(tiny, data, command_environment, b"", "encode", "-m", model, "x.npy", "-o", "-")
    assert done.stderr == b"5 rows of unconditional\n"
    back = piped(tiny, data, command_environment, done.stdout, "decode", "-m", model, "-", "-o", "-")
    assert back.returncode == 0, back.stderr
    x = np.load(io.BytesIO(back.stdout))
    np.testing.assert_allclose(x, tiny_models.decode(tiny_models.encode(X)["z_mean"])["x_mean"], **CLOSE)
    raw = (data / "x.npy").read_bytes()
    same = piped(tiny, data, command_environment, raw, "reconstruct", "-m", model, "-", "-o", "-")
    assert np.load(io.BytesIO(same.stdout)).tobytes() == x.tobytes()
    for bad, word in ((b"", b"not an .npy"), (b"hello", b"not an .npy"), (raw[:-1], b"ends early"), (raw, b"shape")):
        done = piped(tiny, data, command_environment, bad, "decode", "-m", model, "-", "-o", "bad.npy")
        assert done.returncode == 4
        assert word in done.stderr or (bad != raw and b"shape" in done.stderr)
    assert names(data) == ["data.npz", "x.npy"]


def test_piped_rows_are_read_in_order_and_may_be_skipped():
    z = np.arange(5000, dtype="<f8").reshape(1000, 5)
    buffer = io.BytesIO()
    np.save(buffer, z)
    rows = latent_files.PipedRows(io.BytesIO(buffer.getvalue()), "it")
    assert (len(rows), rows.shape, rows.ndim) == (1000, (1000, 5), 2)
    assert (rows[3:7] == z[3:7]).all()
    assert (rows[990:2000] == z[990:]).all()
    for bad in (np.asfortranarray(z), z.astype(complex), np.zeros((0, 5)), np.array(3.0)):
        buffer = io.BytesIO()
        np.save(buffer, bad)
        with pytest.raises(InputDataError):
            latent_files.PipedRows(io.BytesIO(buffer.getvalue()), "it")


def test_reconstruct_pairs_each_example_with_its_reconstruction(kvae, tiny, data):
    arguments = ["reconstruct", "-m", tiny / "conditional", "data.npz"]
    for form in ("r.png", "r.npz", "r.npy", "folder"):
        assert kvae(*arguments, "--plain", "-o", form).returncode == 0
    expected = tiny_models.decode(tiny_models.encode(X, LABEL)["z_mean"], LABEL)["x_mean"]
    with np.load(data / "r.npz") as found:
        assert found.files == ["x", "x_mean", "label"]
        assert (found["x"] == X).all()
        np.testing.assert_allclose(found["x_mean"], expected, **CLOSE)
        x_mean = found["x_mean"]
    assert read_dataset(data / "r.npz").x.tobytes() == X.astype("f4").tobytes()  # The file is a dataset.
    with PIL.open(data / "r.png") as image:
        picture = np.asarray(image)
    assert picture.shape == (2 * 8 + 2, 3 * 12 + 2 * 2)
    assert (picture[:8, 14:20] == X[1, :, :, 0]).all()
    assert (picture[:8, 20:26] == np.rint(x_mean[1, :, :, 0])).all()
    assert names(data / "folder")[0] == "label-0_000000.png"
    with PIL.open(data / "folder" / "label-cat_000001.png") as image:
        assert (np.asarray(image) == np.rint(x_mean[1, :, :, 0])).all()
    shown = kvae(*arguments)
    assert len(shown.stdout.splitlines()) == 4
    assert max(map(len, shown.stdout.splitlines())) > 5 * 12


def test_decode_can_draw_x(kvae, tiny, data):
    z = noise.normals(1, 0, 0, 6, 3)
    np.savez(data / "z.npz", z=z, label=np.array(["cat", "dog", "0", "0", "dog", "cat"]))
    arguments = ["decode", "-m", tiny / "conditional", "z.npz", "--draw", "--seed", 3]
    assert kvae(*arguments, "-o", "drawn.npz").returncode == 0
    assert kvae(*arguments, "--start", 4, "-o", "end.npz", "--batch-size", 1).returncode == 0
    label = np.array([0, 1, 2, 2, 1, 0])
    uniform = noise.uniforms(3, noise.STREAM_DRAW, 0, 6, 48).reshape(6, 8, 6, 1)
    with np.load(data / "drawn.npz") as found, np.load(data / "end.npz") as end:
        want = np.where(uniform < tiny_models.decode(z, label)["x_mean"] / 255, 255, 0)
        assert (found["x"] == want).all()
        assert (end["x"] == found["x"][4:]).all()


def test_json_reports_the_request(kvae, tiny, data):
    done = kvae("encode", "-m", tiny / "conditional", "data.npz", "-o", "c.npz", "--json")
    found = json.loads(done.stdout)
    assert (found["rows"], found["data"], found["output"], found["start"]) == (5, "data.npz", "c.npz", 0)
    assert done.stderr == ""
    done = kvae("decode", "-m", tiny / "conditional", "c.npz", "--draw", "--seed", 3, "-o", "x.png", "--json")
    assert json.loads(done.stdout)["seed"] == 3
    done = kvae("decode", "-m", tiny / "conditional", "c.npz", "-o", "-", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--json and -o -" in json.loads(done.stderr)["error"]["message"]


@pytest.mark.parametrize(
    ("name", "arrays"),
    [
        ("shape.npz", {"z": np.zeros((2, 4))}),
        ("none.npz", {"q": np.zeros((2, 3))}),
        ("nan.npz", {"z": np.full((2, 3), np.nan)}),
        ("text.npz", {"z": np.array([["a"] * 3])}),
        ("empty.npz", {"z": np.zeros((0, 3))}),
        ("classes.npz", {"z": np.zeros((2, 3)), "label": np.array(["cat", "cow"])}),
        ("long.npz", {"z": np.zeros((2, 3)), "label": np.zeros(3, int)}),
    ],
)
def test_bad_latent_files_are_rejected(kvae, tiny, tmp_path, name, arrays):
    np.savez(tmp_path / name, **arrays)
    done = kvae("decode", "-m", tiny / "conditional", name, *(() if "label" in arrays else ("--label", "cat")))
    assert_refused(done, 4, name.split(".")[0] if name != "nan.npz" else "nan")


def test_latent_table_is_read_by_column_name(tiny, tmp_path):
    manifest = load(tiny / "conditional").manifest
    path = tmp_path / "z.csv"
    path.write_text("z_1,note,z_0,label,z_2\n1,a,0,dog,2\n4,b,3,0,5\n")
    z, given = latent_files.read(str(path), manifest)
    assert z.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert given["label"].tolist() == [1, 2]
    path.write_text("a,b,c\n1,2,3\n")
    with pytest.raises(InputDataError, match="z_0 to z_2"):
        latent_files.read(str(path), manifest)
    for missing in ("none.npy", "none.txt"):
        with pytest.raises(InputDataError, match="is not a file"):
            latent_files.read(missing, manifest)


def table_manifest() -> Manifest:
    """Two conditions and two columns, one of each categorical."""
    columns = [{"name": "b", "kind": "categorical", "classes": ["x", "y"]}, {"name": "a", "kind": "numeric"}]
    conditions = [
        {"name": "species", "kind": "categorical", "classes": ["ox", "cat"]},
        {"name": "age", "kind": "continuous", "range": [0, 1]},
    ]
    plain = tiny_models.manifest("table", False, "standard_normal") | {"graph": "decoder", "golden": None}
    plain["data"] = {"kind": "table", "shape": [2], "range": None, "columns": columns}
    return Manifest.from_dict(plain | {"conditions": conditions, "likelihood": {"name": "mixed"}})


def a_table_model(tmp_path) -> str:
    """A decoder written by hand: x_mean of column b is the class, of column a it is age + sum(z)."""
    manifest = table_manifest()
    shape = ["batch", 2]
    nodes = [
        wire.node("ReduceSum", ["z", "one"], ["sum"], wire.int_attribute("keepdims", 0)),
        wire.node("Add", ["sum", "age"], ["a"]),
        wire.node("Cast", ["species"], ["b"], wire.int_attribute("to", 1)),
        wire.node("Unsqueeze", ["b", "one"], ["b_column"]),
        wire.node("Unsqueeze", ["a", "one"], ["a_column"]),
        wire.node("Concat", ["b_column", "a_column"], ["x_mean"], wire.int_attribute("axis", 1)),
    ]
    inputs = [
        wire.value("z", ["batch", 3]),
        wire.value("species", ["batch"], wire.INT64),
        wire.value("age", ["batch"]),
    ]
    one = wire.tensor("one", [1], wire.int64s(1), wire.INT64)
    graph = wire.graph(nodes, inputs, [wire.value("x_mean", shape)], [one])
    (tmp_path / "decoder.onnx").write_bytes(wire.seal(wire.model(graph), manifest.raw))
    return str(tmp_path / "decoder.onnx")


def test_table_sample_is_csv_with_conditions_and_columns(kvae, tmp_path):
    path = a_table_model(tmp_path)
    arguments = ["sample", "-m", path, "--condition", "age=0.3", "--condition", "species=cat", "--seed", 5, "-n", 3]
    arguments.append("--mean")
    done = kvae(*arguments, "-o", "rows.csv")
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "rows.csv").read_text().splitlines()
    assert lines[0] == "species,age,b,a"
    z, _ = noise.latent_noise(5, 0, 3, 3)
    for line, code in zip(lines[1:], z, strict=True):
        species, age, b, a = line.split(",")
        assert (species, age, b) == ("cat", "0.3", "y")
        assert float(a) == pytest.approx(0.3 + code.sum(), abs=1e-5)
    assert kvae(*arguments, "-q").stdout.splitlines() == lines
    both = kvae(
        "sample", "-m", path, "--condition", "age=0.3", "--condition", "species=all", "--condition", "age=1", "-n", 1,
        "--mean",
    )  # fmt: skip
    assert [line.split(",")[:2] for line in both.stdout.splitlines()[1:]] == [
        ["ox", "0.3"], ["ox", "1"], ["cat", "0.3"], ["cat", "1"],
    ]  # fmt: skip
    assert_refused(kvae("sample", "-m", path, "--condition", "age=0.3"), 2, "species")
    assert_refused(kvae(*arguments, "--condition", "age=2"), 2, "0 to 1")
    assert_refused(kvae(*arguments, "-o", "a.png"), 2, "pictures", "table data")


def test_long_table_equals_the_samples_of_the_model(tmp_path):
    model = load(a_table_model(tmp_path))
    rows = model.plan(6000, conditions={"age": [0.1], "species": "all"}, seed=1, draw=False).row_stream()
    dispatch.stream(str(tmp_path / "a.csv"), rows, quiet=True)
    lines = (tmp_path / "a.csv").read_text().splitlines()
    whole = model.sample(6000, conditions={"age": [0.1], "species": "all"}, seed=1, draw=False)
    assert len(lines) == 12_001
    assert [float(line.split(",")[3]) for line in lines[1:]] == pytest.approx(whole.x[:, 1].tolist(), rel=1e-8)
    assert isinstance(whole, Draws)


def test_methods_are_thread_safe(tiny):
    model, z = load(tiny / "conditional"), noise.normals(0, 0, 0, 300, 3)
    x = binary_images(300)
    label = np.arange(300) % 3
    want = model.encode(x, label=label)[0], model.decode(z, label=label), model.reconstruct(x, label=label)
    np.testing.assert_allclose(want[2], tiny_models.decode(want[0], label)["x_mean"], **CLOSE)
    drawn = model.sample(3000, label="cat", seed=2).x
    shared, found = load(tiny / "conditional"), []

    def work() -> None:
        for _ in range(3):
            got = shared.encode(x, label=label)[0], shared.decode(z, label=label), shared.reconstruct(x, label=label)
            chunks = np.concatenate([each.x for each in shared.sample_batches(3000, label="cat", seed=2)])
            found.append(all((a == b).all() for a, b in zip(got, want, strict=True)) and (chunks == drawn).all())

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [True] * 24


def test_row_streams_check_each_chunk(tiny):
    model = load(tiny / "conditional")
    x = binary_images(3000).astype("f4")
    x[2990] = 300
    rows = transforms.encode(model, x, {"label": 1})
    with pytest.raises(InputDataError, match="expected 0 to 255"):
        list(rows.chunks)
    x[2990] = 0.5  # The last chunk is nearly black, which is valid because the first chunks are not.
    x[2048:] = np.minimum(x[2048:], 1)
    assert sum(len(chunk["z_mean"]) for chunk in transforms.encode(model, x, {"label": 1}).chunks) == 3000
    with pytest.raises(InputDataError, match="divided by 255"):
        list(transforms.encode(model, x[2048:], {"label": 1}).chunks)


@pytest.mark.parametrize(
    ("command", "arguments", "title"),
    [
        ("interpolate", ["--label", "cat", "--label", "dog", "--seed", 1], "label cat to dog, seed 1"),
        ("interpolate", ["--label", "cat", "--seed", 1, "--seed", 2, "--start", 4], "seed 1 to 2, start 4"),
        ("traverse", ["--label", "cat", "--seed", 3], "seed 3, standard deviations"),
    ],
)
def test_pictures_of_paths_name_the_seed(tiny, tmp_path, monkeypatch, command, arguments, title):
    from kvae.__main__ import run
    from kvae_serve.writers import captioned_grid

    titles, drawn = [], captioned_grid.draw

    def draw(images, rows, captions):
        titles.append(", ".join(captions.title))
        return drawn(images, rows, captions)

    monkeypatch.setattr(captioned_grid, "draw", draw)
    given = [command, "-m", tiny / "conditional", *arguments, "-o", tmp_path / "a.png"]
    assert run([str(each) for each in given]) == 0
    assert title in titles[0]
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.text["kvae seed"] in titles[0]


WITH_PROVIDER = {
    "sample": [],
    "encode": ["data.npz"],
    "decode": ["z.npz"],
    "reconstruct": ["data.npz"],
    "score": ["data.npz"],
    "evaluate": ["--data", "data.npz", "--importance-samples", 2, "--binarize", "dynamic"],
    "traverse": ["--label", "dog"],
    "interpolate": ["--label", "dog"],
    "verify": [],
}


@pytest.mark.parametrize("command", WITH_PROVIDER)
def test_unknown_provider_is_rejected_with_the_available_ones(kvae, tiny, data, command):
    before = names(data)
    done = kvae(command, "-m", tiny / "conditional", *WITH_PROVIDER[command], "--provider", "abacus")
    assert_refused(done, 2, "does not have the provider abacus", "it has cpu")
    assert names(data) == before


def test_every_command_runs_its_graphs_on_the_chosen_provider(tiny, data, monkeypatch):
    import onnxruntime as ort

    from kvae.__main__ import run

    np.savez(data / "z.npz", z=np.zeros((2, 3), "f4"), label=[0, 1])
    monkeypatch.chdir(data)
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    opened = ort.InferenceSession
    opened_with: list[str] = []

    def session(*arguments, providers, **options):
        opened_with.append(providers[0][0])
        made = opened(*arguments, providers=["CPUExecutionProvider"], **options)
        monkeypatch.setattr(made, "get_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
        return made

    monkeypatch.setattr(ort, "InferenceSession", session)
    for command, given in WITH_PROVIDER.items():
        opened_with.clear()
        arguments = [command, "-m", tiny / "conditional", *given, "--provider", "CUDAExecutionProvider"]
        assert run([str(each) for each in arguments]) == 0, command
        assert opened_with, command
        assert set(opened_with) == {"CUDAExecutionProvider"}, command


def test_providers_have_short_names(tiny):
    assert providers.available()[0] == "cpu"
    for name in ("cpu", "CPU", "CPUExecutionProvider"):
        model = load(tiny / "conditional", provider=name)
        assert model.provider == "cpu"
        assert (model.sample(2, seed=0).x == load(tiny / "conditional").sample(2, seed=0).x).all()
    for bad in ("", "cudaa", "azure", None, 3):
        with pytest.raises(RequestError, match="it has cpu"):
            load(tiny / "conditional", provider=bad)


def test_provider_that_fails_to_start_does_not_fall_back_to_cpu(tiny, monkeypatch):
    import onnxruntime as ort

    # ONNX Runtime built for a GPU lists the GPU even if there is none, and then runs on the CPU with a warning.
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    opened = ort.InferenceSession
    asked = []

    def session(*arguments, providers, **options):
        asked.append(providers)
        return opened(*arguments, providers=["CPUExecutionProvider"], **options)

    monkeypatch.setattr(ort, "InferenceSession", session)
    with pytest.raises(RequestError, match="does not start on this machine"):
        load(tiny / "conditional", provider="cuda", max_memory=2**26).sample(1)
    (name, options), fallback = asked[0]
    assert (name, fallback) == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert options.keys() == {"gpu_mem_limit", "use_tf32"}
    assert options["use_tf32"] == "0"
    # The limit of the arena is what remains of the limit after the weights and tables outside it.
    assert 0.95 * 2**26 < int(options["gpu_mem_limit"]) <= 2**26


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_missing_output_folder_is_reported(kvae, tiny, data):
    done = kvae("encode", "-m", tiny / "conditional", "data.npz", "-o", "none/a.npz")
    assert_refused(done, 7, "does not exist")


def test_rows_of_a_folder_of_images_name_their_files(kvae, tiny, tmp_path):
    for row, name in enumerate(["9.png", "10.png", "=1.png"]):
        (tmp_path / "dog").mkdir(exist_ok=True)
        PIL.fromarray(np.uint8(X[row, ..., 0])).save(tmp_path / "dog" / name)
    for command in ("encode", "score"):
        done = kvae(command, "-m", tiny / "conditional", "dog", "--start", 1)
        rows = [line.split(",") for line in done.stdout.splitlines()]
        column = rows[0].index("file")
        assert [row[column] for row in rows[1:]] == ["10.png", "'=1.png"], done.stderr
        assert "The label of all images is dog, the name of their folder." in done.stderr
        assert kvae(command, "-m", tiny / "conditional", "dog", "--start", 1, "-q").stderr == ""


@pytest.mark.parametrize("command", ["encode", "reconstruct", "score"])
def test_commands_read_the_training_split_by_default(kvae, tiny, tmp_path, command):
    np.savez(tmp_path / "both.npz", x_train=X, y_train=LABEL, x_test=X[::-1], y_test=LABEL[::-1])
    arguments = [command, "-m", tiny / "conditional", "both.npz"]
    first = kvae(*arguments, "-n", 1).stdout
    assert first
    assert first == kvae(*arguments, "-n", 1, "--split", "train").stdout
    assert first != kvae(*arguments, "-n", 1, "--split", "test").stdout


def test_csv_of_vectors_has_the_conditions_and_is_read_back(kvae, tiny, tmp_path):
    model = tiny / "linear_several"
    values = ("--label", "all", "--condition", "tilt=0.5", "--condition", "tilt=-1")
    assert kvae("sample", "-m", model, *values, "-n", 2, "--seed", 0, "-o", "rows.csv").returncode == 0
    data = read_for(tmp_path / "rows.csv", load(model).manifest)
    assert data.conditions["label"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert data.conditions["tilt"].tolist() == [0.5, 0.5, -1, -1] * 3
    drawn = load(model).sample(2, conditions={"label": "all", "tilt": [0.5, -1]}, seed=0)
    np.testing.assert_allclose(data.x, drawn.x, rtol=1e-6)
