"""Shell completion: the answers to the shell, and the scripts in a real bash."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from kvae.__main__ import COMMANDS, run
from kvae_serve.cli.shell_completion import script

LINE = {"_KVAE_COMPLETE": "bash_complete", "COMP_BREAKS": " \t\n\"'><=;|&(:"}
"""Environment in which bash requests a completion, without the line itself."""


@pytest.fixture
def completions(tmp_path, monkeypatch, capsys):
    """Answers to bash for a line with the cursor at its end."""
    monkeypatch.chdir(tmp_path)
    for name, value in LINE.items():
        monkeypatch.setenv(name, value)

    def complete(line, **environment):
        for name, value in {"COMP_LINE": line, "COMP_POINT": str(len(line)), **environment}.items():
            monkeypatch.setenv(name, value)
        assert run([]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out.splitlines()

    return complete


def test_commands_options_models_and_labels_are_completed(completions, tiny):
    assert completions("kvae ") == [f"plain,{name}" for name in COMMANDS]
    assert completions("kvae samp") == ["plain,sample"]
    assert "plain,--label" in completions("kvae sample --la")
    assert completions("kvae verify -m mni") == ["plain,mnist", "plain,mnist-vae", "file,mni"]
    model = f"kvae sample -m {tiny / 'conditional'}"
    assert completions(f"{model} --label ") == ["plain,cat", "plain,dog", "plain,0", "plain,all"]
    assert completions(f"{model} --label d") == ["plain,dog"]
    assert completions(f"{model} --label=d") == ["plain,dog"]
    assert completions(f"{model} --condition ") == ["plain,label="]
    assert completions(f"{model} --condition label=c") == ["plain,cat"]
    assert completions("kvae sample --label c", KVAE_MODEL=str(tiny / "conditional")) == ["plain,cat"]
    assert completions("kvae traverse --loop o") == ["plain,once"]
    assert completions("kvae sample -o ") == ["file,"]
    assert completions(f"{model} ") == []


def test_former_option_names_are_not_completed(completions):
    assert completions("kvae score --num-s") == ["plain,--num-samples"]
    assert completions("kvae score --sam") == []


def test_completion_imports_nothing_heavy(tiny, tmp_path, command_environment):
    line = f"kvae sample -m {tiny / 'conditional'} --label "
    code = (
        "import sys; from kvae.__main__ import run; code = run([])\n"
        "print(code, *[name for name in ('numpy', 'onnxruntime', 'PIL', 'kvae.data') if name in sys.modules])"
    )
    environment = command_environment | LINE | {"COMP_LINE": line, "COMP_POINT": str(len(line))}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["plain,cat", "plain,dog", "plain,0", "plain,all", "0"]


def test_bad_model_gives_no_completions_and_no_error(completions, tiny, tmp_path):
    (tmp_path / "decoder.onnx").write_bytes((tiny / "conditional" / "decoder.onnx").read_bytes()[:-9])
    for model in (tmp_path, "none", tiny / "unconditional"):
        assert completions(f"kvae sample -m {model} --label ") == []


def test_script_explains_its_installation(kvae):
    for shell in ("bash", "zsh", "fish"):
        done = kvae("completion", shell)
        assert (done.returncode, done.stdout) == (0, script(shell))
        assert f"kvae completion {shell}" in done.stdout.split("\n\n")[0]
    assert kvae("completion", SHELL="/bin/zsh").stdout == script("zsh")
    assert kvae("completion", SHELL="/bin/csh").returncode == 2


def test_bash_quotes_classes_with_spaces(tiny, tmp_path, command_environment):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    from support.tiny import resealed

    def change(manifest):
        manifest["conditions"][0]["classes"] = ["red panda", "$(touch bad)", "*"]

    (tmp_path / "decoder.onnx").write_bytes(resealed(tiny / "conditional" / "decoder.onnx", change))
    (tmp_path / "kvae").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kvae "$@"\n')
    (tmp_path / "kvae").chmod(0o755)
    (tmp_path / "script").write_text(script("bash"))
    for line, words, want in (
        ("./kvae sample -m . --label ", "./kvae sample -m . --label ''", r"red\ panda|\$\(touch\ bad\)|\*|all|"),
        ("./kvae sample -m . --label 're", './kvae sample -m . --label "\'re"', "red panda|"),
    ):
        ask = (
            "compopt() { :; }\nsource ./script\n"
            f'COMP_WORDS=({words}); COMP_CWORD=5; COMP_LINE="{line}"; COMP_POINT=${{#COMP_LINE}}\n'
            "_kvae_completion ./kvae; printf '%s|' \"${COMPREPLY[@]}\""
        )
        done = subprocess.run(
            [bash, "--norc", "-c", ask], cwd=tmp_path, env=command_environment, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        assert done.stdout == want, done.stderr
    assert not (tmp_path / "bad").exists()
