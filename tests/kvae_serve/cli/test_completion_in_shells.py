"""Completion in real shells on a terminal: a name from a model file is one word of the command and runs nothing."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import pytest

from support.terminal import Terminal
from support.tiny import resealed

# Each name begins with a different letter, which is what the user types.
NAMES = [
    "k$(touch PWN)",
    "b`touch PWN`=",
    "c'; touch PWN; '",
    'd"; touch PWN; "',
    "e\\ $(touch PWN)\\",
    "f{x,y} *?[z]~#",
    "g;touch PWN&touch PWN|x<y>z(PWN)",
    "h!!^x !$",
    "i,j=k%l@/m+",
    "ä ö 数",
]
COMMANDS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
SETUP = {
    "bash": 'bind "set bell-style none"; eval "$(kvae completion bash)"',
    "zsh": 'autoload -U compinit; compinit -u -d dump; eval "$(kvae completion zsh)"',
    "fish": "kvae completion fish | source",
}
# Characters of names that are not completed to a whole word. Bash suggests no name that the open quote cannot contain;
# fish does not close the quote after a name that ends in "=", so that Enter starts a second line.
EXCLUDED = {('"', "bash"): set('"!$`\\'), ("'", "bash"): {"'"}, ('"', "fish"): {"="}}


class Shell:
    """A shell in which `kvae` notes the arguments of each call."""

    def __init__(self, shell: str, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.log = folder, folder / "log"
        self.prompt = "> " if shell == "fish" else "$ "
        (folder / "bin").mkdir()
        self.log.touch()
        # Completion and its script need the real command. Every other call is only noted.
        script = (
            '#!/bin/sh\n[ "$1" = completion ] && exec "$PYTHON" -m kvae "$@"\n'
            '[ -n "$_KVAE_COMPLETE" ] && { "$PYTHON" -m kvae; echo completed >> "$LOG"; exit; }\n'
            'for word in "$@"; do printf "%s\\n" "$word"; done > "$LOG.words"; echo called >> "$LOG"\n'
        )
        (folder / "bin/kvae").write_text(script)
        (folder / "bin/kvae").chmod(0o755)
        own = {"PYTHON": sys.executable, "LOG": str(self.log), "HOME": str(folder), "TERM": "dumb", "PS1": "$ "}
        own |= {"PATH": f"{folder / 'bin'}:{environment['PATH']}", "LC_ALL": "C.UTF-8", "LANG": "C.UTF-8"}
        self.terminal = Terminal(COMMANDS[shell], folder, environment | own)
        # The shell echoes what is typed, so that only the output is one word.
        self.terminal.write(f"{SETUP[shell]}; echo rea''dy\r")
        assert "ready" in self.terminal.read("ready\r\n").replace("rea''dy", "")

    def wait(self, word: str, before: int, seconds: float) -> bool:
        """Wait until `word` is in the log more than `before` times; return whether it is."""
        end = time.monotonic() + seconds
        while self.log.read_text().split().count(word) <= before:
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    def enter(self, typed: str) -> list[str] | None:
        """Type a line, press TAB and Enter; return the words of the call, None if the shell waits for the quote."""
        calls, completed = (self.log.read_text().split().count(word) for word in ("called", "completed"))
        self.terminal.write(f"{typed}\t")
        assert self.wait("completed", completed, 8), self.terminal.read(seconds=0)
        time.sleep(0.3)
        self.terminal.write("\r")
        called = self.wait("called", calls, 1.0)
        self.terminal.read(seconds=0)
        if not called:
            self.terminal.write("\x03")
            self.terminal.read(self.prompt, seconds=3)  # What is typed before the prompt may be lost.
        time.sleep(0.2)
        assert not (self.folder / "PWN").exists(), typed
        return Path(f"{self.log}.words").read_text().split("\n")[:-1] if called else None


@pytest.fixture
def shell(request, tiny, tmp_path, command_environment):
    if shutil.which(request.param) is None:
        pytest.skip(f"no {request.param} here")

    def change(manifest):
        first = manifest["conditions"][0]
        others = [first | {"name": f"{name}(x)", "classes": NAMES} for name in NAMES[:3]]
        manifest["conditions"] = [first | {"name": "label", "classes": NAMES}, *others]

    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "decoder.onnx").write_bytes(resealed(tiny / "conditional" / "decoder.onnx", change))
    opened = Shell(request.param, tmp_path, command_environment)
    yield opened
    opened.terminal.close()


def last_word(shell, typed, excluded, name):
    words = shell.enter(typed)
    if excluded & set(name):
        assert words is None or words[-1] != name
    else:
        assert words is not None, typed
        assert words[-1].removeprefix("--label=") == name, typed


@pytest.mark.parametrize("shell", ["bash"], indirect=True)
def test_command_in_a_class_name_is_one_word(shell):
    last_word(shell, f"kvae sample -m m --label {NAMES[0][0]}", set(), NAMES[0])
    last_word(shell, f'kvae sample -m m --label "{NAMES[0][0]}', EXCLUDED['"', "bash"], NAMES[0])
    assert shell.enter("kvae sample -m m --condition k") == [
        "sample", "-m", "m", "--condition", f"{NAMES[0]}(x)=",
    ]  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize(
    ("shell", "option"),
    [
        pytest.param("bash", "--label ", id="bash-word"),
        pytest.param("bash", "--label=", id="bash-equals"),
        pytest.param("bash", '--label "', id="bash-double"),
        pytest.param("bash", "--label '", id="bash-single"),
        pytest.param("zsh", "--label ", id="zsh-word"),
        pytest.param("zsh", '--label "', id="zsh-double"),
        pytest.param("fish", "--label=", id="fish-equals"),
        pytest.param("fish", '--label "', id="fish-double"),
    ],
    indirect=["shell"],
)
def test_any_class_name_is_one_word_in_every_shell(shell, option, request):
    name = request.node.callspec.params["shell"]
    for each in NAMES:
        excluded = EXCLUDED.get((option[-1], name), set())
        if name == "fish" and not each.endswith("="):
            excluded = set()
        last_word(shell, f"kvae sample -m m {option}{each[0]}", excluded, each)


@pytest.mark.long
@pytest.mark.parametrize("shell", COMMANDS, indirect=True)
def test_condition_names_and_their_classes_are_one_word_in_every_shell(shell):
    for each in NAMES[:3]:
        words = shell.enter(f"kvae sample -m m --condition {each[0]}")
        assert words is not None
        assert words[-1] == f"{each}(x)="
    for each in NAMES:
        words = shell.enter(f"kvae sample -m m --condition label={each[0]}")
        assert words is not None
        assert words[-1] == f"label={each}"
