"""The documentation site: its pages cover what the code has, and its hooks resolve links."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from kvae.training.config import settings
from kvae_serve import errors

ROOT = Path(__file__).parents[2]
ERRORS = (ROOT / "docs/errors.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the site, with warnings as errors."""
    if find_spec("mkdocs") is None or find_spec("mkdocstrings") is None:
        pytest.skip("the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_page_of_errors_lists_every_exit_code_and_exception():
    for each in errors.KvaeError.__subclasses__():
        if each.__module__ == errors.__name__:
            bases = {base.__name__ for base in each.__mro__} & {"ValueError", "ImportError", "OSError"}
            row = next(line for line in ERRORS.splitlines() if f"`{each.__name__}`" in line)
            assert row.startswith(f"| {each.exit_code} |"), each
            assert {name for name in ("ValueError", "ImportError", "OSError") if f"`{name}`" in row} == bases, each


def test_page_of_errors_lists_every_environment_variable_of_kvae():
    used = set()
    for folder in ("kvae", "export", "serve_cli"):
        for path in (ROOT / folder).rglob("*.py"):
            used |= set(re.findall(r"(?<![A-Z_])KVAE_[A-Z_]+", path.read_text(encoding="utf-8")))
    assert used == set(re.findall(r"`(KVAE_[A-Z_]+)`", ERRORS))


@pytest.mark.long
def test_site_has_every_setting_and_every_public_class(site):
    page = (site / "config/index.html").read_text(encoding="utf-8")
    for _, declared in settings():
        assert isinstance(declared, dataclasses.Field)
        assert f"<code>{declared.name}</code>" in page, declared.name
    pages = {
        "api": ("load", "Model", "RequestError"),
        "api/keras": ("VAE", "ConditionalVAE", "train"),
        "api/parts": ("Bernoulli", "VampPrior"),
        "api/data": ("TableSpec", "mig"),
        "api/estimators": ("VAEOutlierDetector",),
    }
    for path, names in pages.items():
        text = (site / path / "index.html").read_text(encoding="utf-8")
        for name in names:
            assert re.search(rf'id="[\w.]+\.{name}"', text), name


@pytest.mark.long
def test_site_has_the_explorer_of_mnist(site):
    assert 'href="../explorer-mnist.html"' in (site / "explorer/index.html").read_text(encoding="utf-8")
    assert 'id="graph-decoder"' in (site / "explorer-mnist.html").read_text(encoding="utf-8")


@pytest.mark.long
def test_site_loads_nothing_from_other_hosts(site):
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]+src=[\"']?(https?://[^\"'\s>]+)", text)
        loaded += re.findall(r"<link(?=[^>]+stylesheet)[^>]+href=[\"']?(https?://[^\"'\s>]+)", text)
        assert not loaded, path
