"""docs/cli.md: it matches the help of every command, and its examples run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from kvae.__main__ import COMMANDS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "cli.md"
# These examples need data outside the repository, a hub, minutes, a trained run, or do not end. Other tests run these
# commands.
ELSEWHERE = {"train", "tune", "export", "sprites", "evaluate", "score", "pull", "push", "serve"}


@pytest.fixture(scope="module")
def cli_page():
    """The generator of the page, which is not part of a package."""
    spec = spec_from_file_location("cli_page", DOCS / "cli_page.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_is_up_to_date(cli_page):
    assert PAGE.read_text(encoding="utf-8") == cli_page.page(), "run: python docs/cli_page.py > docs/cli.md"


def test_every_option_of_the_help_is_on_the_page(kvae):
    sections = re.split(r"^## kvae ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert [section.split("\n", 1)[0] for section in sections] == list(COMMANDS)
    for section, name in zip(sections, COMMANDS, strict=True):
        help_text = kvae(name, "--help").stdout
        for flag in re.findall(r"(?<![\w-])--[a-z-]+", help_text.split("Options:")[1].split("\n\nExample")[0]):
            assert flag in section or flag == "--help", f"{flag} of {name}"


def test_option_help_does_not_start_with_a_fragment():
    for name, command in COMMANDS.items():
        for option in command.load().params:
            text = getattr(option, "help", None) or ""
            assert not text.startswith(("Of ", "As ", "So many")), f"{option.opts[0]} of {name}"


def test_every_command_has_an_example(cli_page):
    for name in COMMANDS:
        lines = cli_page.examples(COMMANDS[name].load())
        assert lines, name
        for line in lines:
            assert line.startswith("kvae "), line
            assert name == "presets" or f"kvae {name}" in line, line


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - ELSEWHERE))
def test_examples_run(name, kvae, tmp_path, command_environment, cli_page):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "kvae").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kvae "$@"\n')
    (tmp_path / "bin" / "kvae").chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    assert kvae("sample", "--label", "all", "-n", 2, "-o", "digits.npz").returncode == 0
    shutil.copytree(Path(__file__).parents[1] / "data" / "linear_table", tmp_path / "people")
    (tmp_path / "people.csv").write_text("age,sex,pay,debt\n10,male,,0.5\n,female,-3,1\n")
    for line in cli_page.examples(COMMANDS[name].load()):
        if line.startswith("kvae train"):
            continue
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=tmp_path,
            env=command_environment | {"PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        words = shlex.split(line)
        if "-o" in words:
            output = words[len(words) - words[::-1].index("-o")]
            assert output == "-" or (tmp_path / output).exists()
