"""Model repositories for Triton: text and folders. tests/interop/test_triton.py checks them against its schema."""

import ast
import hashlib
import json
import re
import subprocess
import sys

import pytest

from kvae_export import triton
from kvae_serve.errors import OutputError
from kvae_serve.model import load


def _parameter(text):
    """Return the manifest in a config. Its string is escaped like a bytes literal, so Python can read it."""
    quoted = re.search(r'key: "kvae" value \{ string_value: (".*") \} \}$', text, re.MULTILINE)[1]
    return json.loads(ast.literal_eval("b" + quoted).decode())


@pytest.mark.parametrize("name", ["conditional", "gaussian_prior", "mixture_prior", "unconditional"])
def test_each_graph_becomes_a_model_with_the_sealed_bytes(name, tiny, tmp_path):
    model = load(tiny / name)
    triton.write(model, tmp_path / "repository")
    prefix = re.sub(r"[^A-Za-z0-9._-]+", "-", model.manifest.name)
    assert {path.name for path in (tmp_path / "repository").iterdir()} == {f"{prefix}_{each}" for each in model.graphs}
    for graph in model.graphs:
        folder = tmp_path / "repository" / f"{prefix}_{graph}"
        served = (folder / "1" / "model.onnx").read_bytes()
        assert served == (tiny / name / f"{graph}.onnx").read_bytes()
        assert hashlib.sha256(served[:-81]).hexdigest().encode() == served[-64:]
        want = model.graph_manifest(graph).to_dict()
        del want["golden"]
        assert _parameter((folder / "config.pbtxt").read_text("ascii")) == want


def test_scalar_per_row_is_reshaped_by_the_server(tiny, tmp_path):
    triton.write(load(tiny / "conditional"), tmp_path, name="m")
    lines = (tmp_path / "m_likelihood" / "config.pbtxt").read_text().splitlines()
    assert "max_batch_size: 64" in lines
    latent = load(tiny / "conditional").manifest.latent_dim
    assert f'input {{ name: "z" data_type: TYPE_FP32 dims: [ {latent} ] }}' in lines
    assert 'input { name: "label" data_type: TYPE_INT64 dims: [ 1 ] reshape { shape: [ ] } }' in lines
    assert 'output { name: "log_likelihood" data_type: TYPE_FP32 dims: [ 1 ] reshape { shape: [ ] } }' in lines


def test_names_and_classes_are_written_as_ascii(tiny, tmp_path):
    triton.write(load(tiny / "unconditional"), tmp_path, name='Ziffern "klein"/../\u00fc')
    assert all(re.fullmatch(r"Ziffern-klein_[a-z]+", path.name) for path in tmp_path.iterdir())
    assert triton._quoted('a"b\\c\n\u00fc') == '"a\\"b\\\\c\\012\\303\\274"'


def test_existing_models_of_a_repository_are_kept(tiny, tmp_path):
    (tmp_path / "other").mkdir()
    triton.write(load(tiny / "conditional"), tmp_path, name="m")
    kept = (tmp_path / "m_decoder" / "config.pbtxt").read_bytes()
    with pytest.raises(OutputError, match="exists already and was kept"):
        triton.write(load(tiny / "unconditional"), tmp_path, name="m")
    assert (tmp_path / "m_decoder" / "config.pbtxt").read_bytes() == kept
    triton.write(load(tiny / "unconditional"), tmp_path, name="m", force=True)
    assert (tmp_path / "m_decoder" / "config.pbtxt").read_bytes() != kept
    assert (tmp_path / "other").is_dir()


def test_corrupted_file_leaves_no_repository(tiny, tmp_path):
    from kvae_serve.errors import ModelFileError

    (tmp_path / "model").mkdir()
    for path in (tiny / "conditional").glob("*.onnx"):
        data = bytearray(path.read_bytes())
        data[20] ^= path.stem == "likelihood"
        (tmp_path / "model" / path.name).write_bytes(data)
    with pytest.raises(ModelFileError, match="damaged"):
        triton.write(load(tmp_path / "model"), tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


def test_exported_model_is_written_without_tensorflow(tiny, tmp_path, command_environment):
    block = "import sys; sys.modules.update(dict.fromkeys(['tensorflow', 'keras', 'tf2onnx', 'onnx', 'tomli_w']))"
    code = f"{block}; from kvae.__main__ import main; main()"

    def export(*arguments):
        command = [sys.executable, "-c", code, "export", *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, env=command_environment, capture_output=True, text=True)

    done = export(tiny / "conditional", "--triton", "repository", "--json", "-q")
    assert (done.returncode, done.stderr) == (0, "")
    made = json.loads(done.stdout)["files"]
    assert {name: (tmp_path / "repository" / name).stat().st_size for name in made} == made
    for arguments, code_wanted, said in [
        ([tiny / "conditional"], 2, "Give -o FOLDER, or --triton DIR"),
        ([tiny / "conditional", "--triton", "b", "-o", "c"], 2, "Leave out -o"),
        ([tiny / "conditional", "--triton", "repository"], 7, "exists already"),
        ([tiny / "conditional", "--triton", "no/where"], 7, "cannot be a model repository"),
    ]:
        done = export(*arguments)
        assert (done.returncode, done.stdout) == (code_wanted, "")
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
