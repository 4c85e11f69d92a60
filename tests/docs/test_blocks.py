"""Each `sh` and `python` block of README.md and docs/ runs, or is listed with the reason why it does not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kvae
from kvae_serve.runtime.locate import shipped
from support import doc_blocks

DOCUMENTS = {doc_blocks.name_of(path): path for path in doc_blocks.documents()}
TUTORIALS = {name: path for name, path in DOCUMENTS.items() if name.startswith("docs/tutorials/")}
PAGES = {name: path for name, path in DOCUMENTS.items() if name not in TUTORIALS and name != "docs/cli.md"}

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the documents show commands of a POSIX shell")


def text_of(name):
    return DOCUMENTS[name].read_text(encoding="utf-8")


def marked(names):
    for name in names:
        page = doc_blocks.PAGES.get(name, doc_blocks.Page())
        if doc_blocks.steps(name, text_of(name))[0]:
            yield pytest.param(name, marks=() if page.fast else pytest.mark.long, id=name)


@pytest.fixture(scope="session")
def environment(tmp_path_factory, command_environment):
    """An environment in which `kvae` is the command that the tests import, and nothing reaches a network."""
    folder = tmp_path_factory.mktemp("bin")
    command = folder / "kvae"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kvae "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    paths = os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])
    offline = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    warnings = {"PYTHONWARNINGS": "default"}
    return command_environment | offline | warnings | {"PATH": paths, "XDG_CACHE_HOME": str(folder / "cache")}


def save_idx(path, array):
    """Write bytes in the format of MNIST (https://yann.lecun.com/exdb/mnist)."""
    head = bytes([0, 0, 8, array.ndim]) + np.asarray(array.shape, ">u4").tobytes()
    path.write_bytes(head + array.astype(np.uint8).tobytes())


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """The files that the pages read: a model, and a few digits in several forms."""
    folder = tmp_path_factory.mktemp("files")
    shutil.copytree(shipped()["mnist"], folder / "digits")
    shutil.copy(folder / "digits" / "decoder.onnx", folder)
    (folder / "mnist-folder").mkdir()
    for split, prefix, name in (("train", "train", "train"), ("test", "t10k", "test")):
        data = kvae.data.load("mnist-sample", split=split)
        x, label = np.asarray(data.x)[:200], np.asarray(data.conditions["label"])[:200]
        save_idx(folder / "mnist-folder" / f"{prefix}-images-idx3-ubyte", x[..., 0])
        save_idx(folder / "mnist-folder" / f"{prefix}-labels-idx1-ubyte", label)
        for digit in range(10):
            (folder / "photos" / name / str(digit)).mkdir(parents=True)
        for number, (image, digit) in enumerate(zip(x, label, strict=True)):
            Image.fromarray(image[..., 0].astype(np.uint8)).save(folder / f"photos/{name}/{digit}/{number}.png")
    for name in ("digits.npz", "new.npz"):
        np.savez(folder / name, x=x[:100].astype(np.uint8), label=label[:100])
    np.save(folder / "new.npy", x[:100].astype(np.uint8))
    Image.fromarray(x[0, ..., 0].astype(np.uint8)).save(folder / "a.png")
    rng = np.random.default_rng(0)
    age = rng.integers(18, 80, 300)
    rows = [
        f"{'' if missing else years},{rng.choice(['Male', 'Female'])},{hours},{'>50K' if rich else '<=50K'}"
        for years, hours, rich, missing in zip(
            age, rng.integers(10, 60, 300), age + rng.normal(0, 10, 300) > 50, rng.random(300) < 0.05, strict=True
        )
    ]
    for name, part in {"people": rows, "train": rows[:200], "test": rows[200:]}.items():
        (folder / f"{name}.csv").write_text("\n".join(["age,sex,hours,income", *part]) + "\n", encoding="utf-8")
    normal = rng.multivariate_normal([20, 50, 5], [[4, 6, 1], [6, 16, 2], [1, 2, 1]], 1200)
    anomalies = rng.normal([20, 50, 5], [8, 1, 4], (40, 3))
    new = np.concatenate([normal[1000:], anomalies])
    marked = np.column_stack([new, np.repeat([0, 1], [200, 40])])
    for name, values in {"normal": normal[:1000], "new": new, "marked": marked}.items():
        names = ["temperature", "pressure", "flow", "anomaly"][: values.shape[1]]
        np.savetxt(folder / f"{name}.csv", values, "%.10g", ",", header=",".join(names), comments="")
    both = folder / "folder-with-train-and-test"
    both.mkdir()
    for name in ("train.csv", "test.csv"):
        shutil.copy(folder / name, both)
    return folder


@pytest.fixture(scope="session")
def trained(files, tmp_path_factory, environment):
    """Further files for pages that train: a run and the model `people`, made with the library and a seed."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(files, folder, dirs_exist_ok=True)
    small = "--epochs 1 --encoder-hidden 8 --decoder-hidden 8 --no-export-check -q"
    script = f"""
        kvae train --data mnist-folder --conditional --network dense {small} -o run
        kvae train --data people.csv {small} -o people-run
        kvae export people-run -o people -q
        kvae sprites --orientations 1 -o sprites.npz -q
    """
    subprocess.run(["bash", "-euc", script], cwd=folder, env=environment, check=True)
    return folder


def remove_outputs(name, folder):
    """Remove the files that the page makes itself: those that it first names as an output."""
    text = "\n".join(re.sub("#.*", "", text) for _, text in doc_blocks.steps(name, text_of(name))[0])
    for path in folder.iterdir():
        first = re.search(rf"(?<![\w./-]){re.escape(path.name)}(?![\w.-])", text)
        if first and text[: first.start()].endswith(("-o ", 'export("')):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def run_document(name, folder, environment):
    program = doc_blocks.driver(name, text_of(name))
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.parametrize("name", list(marked(PAGES)))
def test_blocks_of_a_page_run(name, request, tmp_path, environment):
    fast = doc_blocks.PAGES.get(name, doc_blocks.Page()).fast
    shutil.copytree(request.getfixturevalue("files" if fast else "trained"), tmp_path, dirs_exist_ok=True)
    remove_outputs(name, tmp_path)
    run_document(name, tmp_path, environment)


@pytest.mark.parametrize("name", PAGES)
def test_each_block_runs_or_has_a_reason(name):
    page, text = doc_blocks.PAGES.get(name, doc_blocks.Page()), text_of(name)
    shown = "".join(block.text for block in doc_blocks.blocks(text))
    assert [part for part in (*page.not_run, *page.shorter) if part not in shown] == []
    assert all(page.not_run.values())
    named = [path for reason in page.not_run.values() for path in re.findall(r"tests/[\w/.]*\w", reason)]
    assert [path for path in named if not (doc_blocks.ROOT / path).exists()] == []


def test_table_of_pages_names_existing_documents():
    assert set(doc_blocks.PAGES) <= set(DOCUMENTS)
