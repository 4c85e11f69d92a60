"""The tutorials run as they are written, as notebooks made from the same text."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from pathlib import Path

import pytest

from support import doc_blocks

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("jupytext")

FOLDER = doc_blocks.ROOT / "docs" / "tutorials"
TUTORIALS = sorted(path.stem for path in FOLDER.glob("*.md"))
MAGIC = "%%sh -e\n"


@pytest.fixture(scope="module")
def notebooks():
    spec = importlib.util.spec_from_file_location("notebooks", FOLDER.parent / "notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text_of(name):
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", TUTORIALS)
def test_notebook_has_the_blocks_of_the_tutorial(name, notebooks):
    made = nbformat.reads(notebooks.notebook(text_of(name)), as_version=4)
    nbformat.validate(made)
    cells = [cell.source for cell in made.cells if cell.cell_type == "code"]
    blocks = [
        (MAGIC if block.language == "sh" else "") + block.text.strip() for block in doc_blocks.blocks(text_of(name))
    ]
    assert cells == blocks
    assert notebooks.notebook(text_of(name)) == notebooks.notebook(text_of(name))


@pytest.mark.long
@pytest.mark.parametrize("name", TUTORIALS)
def test_tutorial_runs(name, notebooks, tmp_path, monkeypatch, command_environment):
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    command = tmp_path / "bin" / "kvae"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kvae "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    environment = command_environment | {"PYTHONWARNINGS": "default"}
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("PATH", f"{command.parent}:{Path(sys.executable).parent}:{environment['PATH']}")
    folder = tmp_path / "work"
    folder.mkdir()
    text = text_of(name)
    for data in re.findall(r"\]\((\w+\.csv)\)", text):  # a file to download
        shutil.copy(FOLDER / data, folder)
    made = nbformat.reads(notebooks.notebook(text), as_version=4)
    resources = {"metadata": {"path": folder}}
    nbclient.NotebookClient(made, timeout=1200, kernel_name="python3", resources=resources).execute()
    for picture in re.findall(r"!\[[^\]]*\]\(([\w.-]+)\)", text):
        assert (folder / picture).is_file(), picture  # a picture that the tutorial makes
        assert (FOLDER / picture).is_file(), picture
