"""The `Example:` blocks in the docstrings of the public names run and print what they show."""

import doctest
import inspect
import sys

import keras
import numpy as np
import pytest

import kvae
import kvae.pyod
import kvae.sklearn

OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def public_objects():
    """Public classes and functions of `kvae` and of its public modules, by their public name."""
    found = {}
    for name in (*kvae.__all__, "pyod", "sklearn"):
        value = getattr(kvae, name)
        if not inspect.ismodule(value):
            found[f"kvae.{name}"] = value
            continue
        for inner in getattr(value, "__all__", vars(value)):
            each = getattr(value, inner)
            if not inner.startswith("_") and callable(each) and _is_of(each, value):
                found[f"kvae.{name}.{inner}"] = each
    return found


def _is_of(value, module):
    return f"{getattr(value, '__module__', '')}.".startswith(f"{module.__name__}.")


def documented(value):
    """A class or function and, of a class, its own public methods, which may have examples too."""
    yield "", value
    if inspect.isclass(value):
        for name, method in vars(value).items():
            if not name.startswith("_") and inspect.getdoc(method):
                yield f".{name}", method


def examples():
    finder = doctest.DocTestParser()
    for name, value in sorted(public_objects().items()):
        for suffix, each in documented(value):
            module = vars(sys.modules[value.__module__])
            names = {**module, "kvae": kvae, "np": np, "keras": keras}
            test = finder.get_doctest(inspect.getdoc(each) or "", names, name + suffix, None, None)
            if test.examples:
                yield pytest.param(test, id=name + suffix)


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
