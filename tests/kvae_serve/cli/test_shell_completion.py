"""What TAB offers: asked of the command as a shell asks it, and in the shells that are here."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from kvae.__main__ import COMMANDS
from kvae_serve.cli.shell_completion import script


@pytest.fixture
def offered(tmp_path, command_environment):
    """What bash is told for a line with the cursor at its end, and the modules that were imported for it."""

    def ask(line, **environment):
        code = (
            "import sys; from kvae.__main__ import run; code = run([])\n"
            "print(code, *[name for name in ('numpy', 'onnxruntime', 'PIL', 'kvae.data') if name in sys.modules], "
            "file=sys.stderr)"
        )
        given = {"_KVAE_COMPLETE": "bash_complete", "COMP_LINE": line, "COMP_POINT": str(len(line)),
                 "COMP_BREAKS": " \t\n\"'><=;|&(:"}  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=command_environment | given | environment,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stderr == "0\n"
        return done.stdout.splitlines()

    return ask


def test_verbs_options_models_and_labels_are_offered_without_numpy(offered, tiny):
    assert offered("kvae ") == [f"plain,{verb}" for verb in COMMANDS]
    assert offered("kvae samp") == ["plain,sample"]
    assert "plain,--label" in offered("kvae sample --la")
    assert offered("kvae verify -m mni") == ["plain,mnist", "plain,mnist-vae", "file,mni"]
    model = f"kvae sample -m {tiny / 'conditional'}"
    assert offered(f"{model} --label ") == ["plain,cat", "plain,dog", "plain,0", "plain,all"]
    assert offered(f"{model} --label d") == ["plain,dog"]
    assert offered(f"{model} --label=d") == ["plain,dog"]
    assert offered(f"{model} --condition ") == ["plain,label="]
    assert offered(f"{model} --condition label=c") == ["plain,cat"]
    assert offered("kvae sample --label c", KVAE_MODEL=str(tiny / "conditional")) == ["plain,cat"]
    assert offered("kvae traverse --loop o") == ["plain,once"]
    assert offered("kvae sample -o ") == ["file,"]
    assert offered(f"{model} ") == []


def test_a_bad_model_offers_nothing_and_says_nothing(offered, tiny, tmp_path):
    (tmp_path / "decoder.onnx").write_bytes((tiny / "conditional" / "decoder.onnx").read_bytes()[:-9])
    for model in (tmp_path, "none", tiny / "unconditional"):
        assert offered(f"kvae sample -m {model} --label ") == []


def test_the_script_tells_how_to_install_it(kvae):
    for shell in ("bash", "zsh", "fish"):
        done = kvae("completion", shell)
        assert (done.returncode, done.stdout) == (0, script(shell))
        assert f"kvae completion {shell}" in done.stdout.split("\n\n")[0]
    assert kvae("completion", SHELL="/bin/zsh").stdout == script("zsh")
    assert kvae("completion", SHELL="/bin/csh").returncode == 2


def test_bash_quotes_a_class_with_blanks(tiny, tmp_path, command_environment):
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
