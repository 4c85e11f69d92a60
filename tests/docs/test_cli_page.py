"""docs/cli.md says what the command says, and its examples run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from kvae.__main__ import COMMANDS
from kvae.commands import cli_page

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
# What an example reads is no file of the checkout, takes minutes, or needs a trained run; their own tests run these.
ELSEWHERE = {"train", "export", "sprites", "evaluate", "score"}


def test_the_page_is_what_the_verbs_say_of_themselves():
    assert PAGE.read_text(encoding="utf-8") == cli_page.page(), "run: python -m kvae.commands.cli_page > docs/cli.md"


def test_every_option_of_every_verb_is_on_the_page(kvae):
    sections = re.split(r"^## kvae ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert [section.split("\n", 1)[0] for section in sections] == list(COMMANDS)
    for section, name in zip(sections, COMMANDS, strict=True):
        help_text = kvae(name, "--help").stdout
        for flag in re.findall(r"(?<![\w-])--[a-z-]+", help_text.split("Options:")[1].split("\n\nExample")[0]):
            assert flag in section or flag == "--help", f"{flag} of {name}"


def test_every_verb_has_an_example_of_itself():
    for name in COMMANDS:
        lines = cli_page.examples(COMMANDS[name].load())
        assert lines, name
        for line in lines:
            assert line.startswith("kvae "), line
            assert name == "presets" or f"kvae {name}" in line, line


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - ELSEWHERE))
def test_the_examples_run(name, kvae, tmp_path, command_environment):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "kvae").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kvae "$@"\n')
    (tmp_path / "bin" / "kvae").chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    assert kvae("sample", "--label", "all", "-n", 2, "-o", "digits.npz").returncode == 0
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
