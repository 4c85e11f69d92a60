"""The directions of imports: the floors of the house, no circles, and what opens nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = {"kvae", "export", "serve_cli"}
MAY_IMPORT = {"kvae": OURS, "export": {"export", "serve_cli"}, "serve_cli": {"serve_cli"}}
HEAVY = {"tensorflow", "keras", "tf2onnx", "onnx"}


def imports(path):
    """Full names of all modules that a file imports, wherever in the file, type-checking blocks left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If)
        and "TYPE_CHECKING" in ast.unparse(block.test)
        and "not" not in ast.unparse(block.test)
        for statement in block.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def sources(floor):
    return sorted((ROOT / floor).rglob("*.py"))


@pytest.mark.parametrize("floor", sorted(OURS))
def test_imports_run_down_the_house(floor):
    assert sources(floor), f"{floor} has no sources here"
    for path in sources(floor):
        for name in imports(path):
            top = name.split(".")[0]
            assert top not in OURS or top in MAY_IMPORT[floor], f"{path} imports {name}"
            assert floor != "serve_cli" or top not in HEAVY, f"{path} imports {name}"


@pytest.mark.parametrize("floor", sorted(OURS))
def test_no_file_is_longer_than_400_lines(floor):
    for path in sources(floor):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path


def loaded_after(code):
    code += "\nimport sys; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_importing_kvae_opens_nothing_heavy():
    assert not loaded_after("import kvae") & (HEAVY | {"numpy", "onnxruntime"})


def test_loading_an_exported_model_opens_no_keras():
    loaded = loaded_after("import kvae; kvae.load('mnist').sample(1, label='3', seed=0)")
    assert "onnxruntime" in loaded
    assert not loaded & (HEAVY | {"PIL"})


# Modules that a command imports only if it needs them.
WATCHED = HEAVY | {
    "PIL",
    "zipfile",
    "csv",
    "numpy.random",
    "numpy",
    "onnxruntime",
    "kvae.training",
    "kvae_export",
    "asyncio",
    "email",
}
READERS = {"numpy", "onnxruntime", "zipfile", "csv"}
OPENS = {
    ("sample", "--label", "3", "-o", "a.png"): {"numpy", "onnxruntime"},
    ("sample", "--label", "3", "-o", "a.npz"): {"numpy", "onnxruntime"},
    ("sample", "--label", "3"): {"numpy", "onnxruntime"},
    ("encode", "data.npz", "-o", "codes.npz"): READERS,
    ("decode", "z.npz", "-o", "x.png"): READERS,
    ("reconstruct", "data.npz", "-o", "r.png"): READERS,
    ("score", "data.npz", "-o", "s.csv"): READERS | {"numpy.random"},
    ("verify",): {"numpy", "onnxruntime", "numpy.random"},
    ("info",): {"numpy"},
    ("models",): {"numpy"},
}


@pytest.mark.parametrize("arguments", OPENS, ids=" ".join)
def test_a_command_imports_what_it_uses_and_no_more(arguments, tmp_path):
    import numpy as np

    x = np.full((4, 28, 28, 1), 200, np.uint8)
    np.savez(tmp_path / "data.npz", x=x, label=np.arange(4))
    np.savez(tmp_path / "z.npz", z=np.zeros((4, 16)), label=np.arange(4))
    code = (
        f"import os, sys; os.chdir({str(tmp_path)!r}); from kvae.__main__ import run\n"
        f"assert run({list(arguments)!r}) == 0; open('loaded', 'w').write(' '.join(sys.modules))"
    )
    loaded_after(code)  # Its output is not checked.
    assert set((tmp_path / "loaded").read_text().split()) & WATCHED <= OPENS[arguments]


def test_every_public_name_resolves():
    code = "import kvae\nfor name in kvae.__all__: getattr(kvae, name)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)


def test_an_unknown_name_is_an_attribute_error():
    import kvae

    with pytest.raises(AttributeError, match="no attribute 'VAEE'"):
        _ = kvae.VAEE
