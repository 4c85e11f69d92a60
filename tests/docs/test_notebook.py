"""Samples, paths, data and models in a notebook: executed cells contain pictures and tables."""

from __future__ import annotations

import base64

import pytest

from support.paths import python_path

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

CELLS = (
    "import kvae\nmodel = kvae.load('mnist')\ndraws = model.sample(4, label='3', seed=7)\ndraws",
    "model.traverse(label='3', num=2)",
    "kvae.data.load('mnist-sample')",
    "model",
    "draws.show()",
    "draws.save('three.png')",
)


@pytest.mark.long
def test_notebook_shows_pictures_and_tables(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", python_path())
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    client = nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    outputs = [[output.get("data", {}) for output in cell["outputs"]] for cell in notebook["cells"]]
    sample, path, data, model, shown, saved = outputs
    for (result,) in (sample, path, data, shown):
        html = result.get("text/html", "")
        picture = result.get("image/png") or html.partition("data:image/png;base64,")[2].partition('"')[0]
        assert base64.b64decode(picture).startswith(b"\x89PNG")
    assert "600 examples" in data[0]["text/html"]
    assert "<table" in model[0]["text/html"]
    assert saved == []
    assert (tmp_path / "three.png").read_bytes().startswith(b"\x89PNG")
