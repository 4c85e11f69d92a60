"""The models that ship: one of each kind, small, made by presets, and what their cards say. Runs without Keras."""

from __future__ import annotations

import csv
import itertools
import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kvae
from kvae.data.sprites import render
from kvae_serve.evaluation import evaluate
from kvae_serve.readers import read_dataset
from kvae_serve.runtime import locate

# Name, kind, and the preset that trained it.
MODELS = {
    "emoji-faces": ("conditional-vae", "emoji-faces"),
    "fashion": ("conditional-beta-vae", "fashion"),
    "mnist": ("conditional-vae", "mnist-cvae"),
    "mnist-vae": ("vae", "mnist-vae"),
    "sprites": ("beta-vae", "beta-sprites"),
}
NAMES = sorted(MODELS)
CLOTHES = (
    "t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
LARGEST = 2_000_000
# The curves of the first model that shipped were not kept.
WITHOUT_HISTORY = {"mnist"}
# The prior was fitted after training.
WITH_PRIOR = {"emoji-faces", "fashion"}


def folder(name: str) -> Path:
    return Path(locate.shipped()[name])


def priors(name: str) -> set[str]:
    return {"prior.onnx"} if name in WITH_PRIOR else set()


def card(name: str) -> str:
    return (folder(name) / "README.md").read_text(encoding="utf-8")


def figure(name: str, row: str) -> tuple[float, float]:
    """Mean and standard error of a row of the table that `kvae evaluate` wrote into a card."""
    found = re.search(rf"^{row} +(-?[0-9.]+) +([0-9.]+) ", card(name), flags=re.MULTILINE)
    assert found, f"{name}: no {row}"
    return float(found[1]), float(found[2])


def test_one_of_each_kind_ships_and_is_listed(kvae):
    assert list(locate.shipped()) == NAMES
    listed = json.loads(kvae("models", "--json").stdout)
    assert {model["name"]: model["kind"] for model in listed} == {name: kind for name, (kind, _) in MODELS.items()}
    lines = kvae("models").stdout.splitlines()
    assert [line.split()[0] for line in lines] == NAMES
    assert [line.split()[0] for line in lines if line.endswith("(default)")] == ["mnist"]


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_holds_small_graphs_and_what_people_read(name):
    files = {path.name: path.stat().st_size for path in folder(name).iterdir()}
    expected = {"decoder.onnx", "encoder.onnx", "likelihood.onnx", "README.md", "config.toml", "preview.png"}
    expected |= (set() if name in WITHOUT_HISTORY else {"history.csv"}) | priors(name)
    assert set(files) == expected
    assert max(size for file, size in files.items() if file.endswith(".onnx")) <= LARGEST
    with Image.open(folder(name) / "preview.png") as picture:
        picture.load()
        assert min(picture.size) >= 100


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_what_the_files_are(name):
    text, manifest = card(name), kvae.load(name).manifest
    assert f"`{manifest.model_id}`" in text
    assert manifest.kind == MODELS[name][0]
    assert manifest.name == name
    assert (manifest.prior["name"] == "gaussian_mixture") == (name in WITH_PRIOR)
    sizes = dict(re.findall(r"^\| `(\w+\.onnx)` \| [^|]+ \| ([0-9,]+) \|", text, flags=re.MULTILINE))
    assert {file: int(size.replace(",", "")) for file, size in sizes.items()} == {
        path.name: path.stat().st_size for path in folder(name).glob("*.onnx")
    }
    # Weights of two bytes each, and what that cost; measured before the quantiles of the data and of scores, and a
    # prior that was fitted later, went into the manifests.
    graphs = [path for path in folder(name).glob("*.onnx") if path.name not in priors(name)]
    whole = sum(path.stat().st_size for path in graphs)
    halved = re.search(r"^\| float16 \| ([0-9,]+) \|", text, flags=re.MULTILINE)
    assert halved
    assert 0 <= whole - int(halved[1].replace(",", "")) < (12_000 if name in WITH_PRIOR else 1000)
    assert re.search(rf"by `kvae evaluate -m {name} --data ", text)
    mean, error = figure(name, "elbo")
    reconstruction, kl = figure(name, "reconstruction")[0], figure(name, "kl")[0]
    # Of figures with one decimal, or with none beside a standard error of tens of nats.
    assert mean == pytest.approx(-reconstruction - kl, abs=0.11 if error < 10 else 1.1)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WITHOUT_HISTORY])
def test_the_curves_end_where_the_file_says_and_the_card_agrees(name):
    with (folder(name) / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    training = kvae.load(name).manifest.training
    assert len(rows) == training["epochs"]
    assert float(rows[-1]["val_elbo"]) == pytest.approx(training["validation"]["elbo"], abs=1e-3)
    # Held-out examples of the same kind, in Keras and before weights were rounded: 1 % is far more than both change.
    assert figure(name, "elbo")[0] == pytest.approx(training["validation"]["elbo"], rel=0.04)


@pytest.mark.parametrize("name", NAMES)
def test_the_configuration_is_that_of_the_preset(name):
    made = tomllib.loads((folder(name) / "config.toml").read_text(encoding="utf-8"))
    preset = tomllib.loads((Path(kvae.__file__).parent / "presets" / f"{MODELS[name][1]}.toml").read_text())
    for section in ("data", "model", "objective", "training"):
        for key, value in preset[section].items():
            assert made[section][key] == value, f"{section}.{key}"


@pytest.mark.parametrize("name", ["mnist", "mnist-vae"])
def test_digits_have_the_elbo_of_the_card(name):
    # 200 of the 10,000 test images that the card is about.
    data = read_dataset("mnist-sample", "test")
    given = {"label": data.conditions["label"]} if name == "mnist" else {}
    found = evaluate(kvae.load(name), data.x, given, importance_samples=5)["figures"]
    for row in ("elbo", "reconstruction", "kl"):
        mean, error = figure(name, row)
        assert abs(found[row]["mean"] - mean) < 4 * np.hypot(found[row]["standard_error"], error), row


def test_sprites_have_the_elbo_of_the_card():
    x = render.render(render.index_to_factors(render.select({"orientation": 1}, 300, 0)))
    found = evaluate(kvae.load("sprites"), x, importance_samples=5, binarize="none")["figures"]
    for row in ("elbo", "reconstruction", "kl"):
        mean, error = figure("sprites", row)
        assert abs(found[row]["mean"] - mean) < 4 * np.hypot(found[row]["standard_error"], error), row


def test_each_factor_of_the_sprites_that_was_learned_has_an_axis_of_its_own():
    # Of each active axis of z: how far does its mean move with each factor, the others averaged out?
    sizes = (3, 6, 1, 16, 16)
    counts = dict(zip(render.FACTORS, sizes, strict=True))
    factors = render.index_to_factors(render.select(counts))
    codes, _ = kvae.load("sprites").encode(render.render(factors))
    explained = {}
    for axis, name in enumerate(render.FACTORS):
        values = np.unique(factors[:, axis])
        means = np.array([codes[factors[:, axis] == value].mean(axis=0) for value in values])
        explained[name] = means.var(axis=0) / codes.var(axis=0)
    # The axis of scale is less pure than those of position, and the card says so.
    for name, least in (("scale", 0.6), ("position_x", 0.9), ("position_y", 0.9)):
        axis = int(np.argmax(explained[name]))
        assert explained[name][axis] > least, name
        assert all(explained[other][axis] < 0.2 for other in render.FACTORS if other != name), name
    assert len({int(np.argmax(explained[name])) for name in ("scale", "position_x", "position_y")}) == 3


def test_clothes_are_asked_for_by_name(kvae, tmp_path):
    assert kvae_labels("fashion") == CLOTHES
    for label in ("ankle boot", "9"):
        done = kvae("sample", "-m", "fashion", "--label", label, "-n", 3, "--seed", 1, "-o", f"{label}.npz")
        assert done.returncode == 0, done.stderr
    named, numbered = (np.load(tmp_path / f"{label}.npz")["x"] for label in ("ankle boot", "9"))
    assert (named == numbered).all()
    wrong = kvae("sample", "-m", "fashion", "--label", "hat")
    assert wrong.returncode == 2
    assert "ankle boot" in wrong.stderr


def kvae_labels(name: str) -> tuple[str, ...]:
    return tuple(kvae.load(name).manifest.condition("label").classes)


def test_clothes_of_a_name_look_like_that_and_no_other():
    # Without a classifier: a trouser is narrow, a bag is wide; boots reach higher than other shoes.
    model = kvae.load("fashion")
    mean = {name: model.sample(64, label=name, seed=0).x.mean(axis=0)[..., 0] for name in CLOTHES}
    assert mean["trouser"][:, 10:18].sum() > 0.7 * mean["trouser"].sum()
    assert mean["bag"][:, 10:18].sum() < 0.5 * mean["bag"].sum()
    for other in ("sandal", "sneaker"):
        assert mean["ankle boot"][4:10].sum() > 2 * mean[other][4:10].sum()


def test_faces_have_the_skin_tone_of_their_label():
    # Without a classifier: luminance in the middle of the face, by the skin tones of Unicode from light to dark.
    model = kvae.load("emoji-faces")
    tones = ("light skin", "medium-light skin", "medium skin", "medium-dark skin", "dark skin")
    assert kvae_labels("emoji-faces") == ("animal", *sorted((*tones, "smiley")))
    assert sum(path.stat().st_size for path in folder("emoji-faces").glob("*.onnx")) <= 2 * 2**20
    middle = {
        name: model.sample(64, label=name, seed=0).x[:, 12:22, 12:20].mean(axis=(0, 1, 2))
        for name in (*tones, "smiley")
    }
    luminance = [middle[tone] @ (0.299, 0.587, 0.114) for tone in tones]
    assert all(lighter > darker + 10 for lighter, darker in itertools.pairwise(luminance))
    # Smileys are yellow.
    red, green, blue = middle["smiley"]
    assert min(red, green) > blue + 80
