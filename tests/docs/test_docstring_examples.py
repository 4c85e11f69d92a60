"""The `Example:` blocks in docstrings run and print what they show; public names have them."""

import doctest
import importlib
import inspect
from pathlib import Path

import keras
import numpy as np
import pytest

import kvae
import kvae.pyod
import kvae.sklearn
import kvae_export
import kvae_serve

OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def examples():
    finder = doctest.DocTestFinder()
    for package in (kvae, kvae_export, kvae_serve):
        root = Path(package.__file__).parent
        for path in sorted(root.rglob("*.py")):
            if ">>>" in path.read_text(encoding="utf-8"):
                parts = path.relative_to(root.parent).with_suffix("").parts
                module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
                for test in finder.find(module, extraglobs={"kvae": kvae, "np": np, "keras": keras}):
                    if test.examples:
                        yield pytest.param(test, id=test.name)


@pytest.mark.parametrize("test", list(examples()))
def test_docstring_example_prints_what_it_shows(test, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = []
    doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=report.append)
    assert not report, "".join(report)


def test_public_classes_functions_and_methods_have_examples():
    # resume needs a finished run, which would train for the second time.
    names = [name for name in kvae.__all__ if name != "resume" and not inspect.ismodule(getattr(kvae, name))]
    assert [name for name in names if ">>>" not in inspect.getdoc(getattr(kvae, name))] == []
    for name in (
        "sample",
        "encode",
        "decode",
        "reconstruct",
        "impute",
        "score",
        "traverse",
        "interpolate",
        "from_preset",
    ):
        assert ">>>" in inspect.getdoc(getattr(kvae.VAE, name)), name
