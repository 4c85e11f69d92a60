"""Completion in bash, zsh and fish: the scripts that `kvae completion` prints, and the answers that they request.

Zsh and fish use the scripts of click. Bash splits words at `=` and `:` and leaves quoting to the script, so
`--condition hair=<TAB>` and the class "red panda" need a script of this package.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from click import shell_completion

if TYPE_CHECKING:
    import click

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_KVAE_COMPLETE"

INSTALL = {
    "bash": """# Completion of kvae for bash, 4.4 or later. For this shell:  eval "$(kvae completion bash)"
# For every shell: that line in ~/.bashrc; or, if bash-completion is installed,
#   kvae completion bash > ~/.local/share/bash-completion/completions/kvae
""",
    "zsh": """#compdef kvae
# Completion of kvae for zsh. For this shell, after compinit:  eval "$(kvae completion zsh)"
# For every shell: that line in ~/.zshrc; or this script as a file _kvae in a folder of $fpath.
""",
    "fish": """# Completion of kvae for fish. For this shell:  kvae completion fish | source
# For every shell:  kvae completion fish > ~/.config/fish/completions/kvae.fish
""",
}

_BASH = """%(complete_func)s() {
    local line type value word="${COMP_WORDS[COMP_CWORD]}"
    COMPREPLY=()
    while IFS= read -r line; do
        [[ $line ]] || continue
        type=${line%%%%,*} value=${line#*,}
        if [[ $type == file ]]; then
            compopt -o default
        elif [[ $word == [\\"\\']* || $value == *= ]]; then
            [[ $value == *= ]] && compopt -o nospace
            COMPREPLY+=("$value")
        else
            printf -v value %%q "$value"
            COMPREPLY+=("$value")
        fi
    done < <(COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" COMP_BREAKS="$COMP_WORDBREAKS" \\
        %(complete_var)s=bash_complete "$1" 2>/dev/null)
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class Bash(shell_completion.ShellComplete):
    """Completion in bash, from the line up to the cursor."""

    name = "bash"
    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the complete words, and the word at the cursor."""
        # COMP_POINT counts bytes in some locales and characters in others.
        line, point = os.environ["COMP_LINE"], int(os.environ["COMP_POINT"])
        data = line.encode(errors="surrogateescape")
        typed = line if point >= len(line) else data[:point].decode(errors="ignore")
        words = shell_completion.split_arg_string(typed)
        incomplete = words.pop() if words and not _ends_a_word(typed) else ""
        self._cut = 0
        option, equals, value = incomplete.partition("=")
        if option.startswith("--") and equals:
            words.append(option)
            incomplete = value
        if "=" in os.environ.get("COMP_BREAKS", "="):
            self._cut = incomplete.rfind("=") + 1
        return words[1:], incomplete

    def format_completion(self, item: shell_completion.CompletionItem) -> str:
        """Return `type,value`, without the part that bash treats as a separate word."""
        return f"{item.type},{item.value[self._cut :]}"


class _WholeWords(shell_completion.ShellComplete):
    """Base for shells that replace the whole word: `--label=r` becomes `--label=red`."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the complete words, and the value at the cursor."""
        words, incomplete = super().get_completion_args()
        option, equals, value = incomplete.partition("=")
        self._option = f"{option}=" if option.startswith("--") and equals else ""
        return ([*words, option], value) if self._option else (words, incomplete)

    def format_completion(self, item: shell_completion.CompletionItem) -> str:
        """Return the item in the format of the script, with the option before the value."""
        item.value = self._option + item.value
        return super().format_completion(item)


class Zsh(_WholeWords, shell_completion.ZshComplete):
    """Completion in zsh."""


class Fish(_WholeWords, shell_completion.FishComplete):
    """Completion in fish, whose script ends the help at a comma."""

    def format_completion(self, item: shell_completion.CompletionItem) -> str:
        """Return the item in the format of the script, without commas in the help."""
        item.help = (item.help or "").replace(",", ";") or None
        return super().format_completion(item)


_CLASSES: dict[str, type[shell_completion.ShellComplete]] = {"bash": Bash, "zsh": Zsh, "fish": Fish}


def script(shell: str) -> str:
    """Return the script for a shell, after comments that explain its installation."""
    completer = _CLASSES[shell](None, {}, "kvae", VARIABLE)  # type: ignore[arg-type]
    return INSTALL[shell] + (completer.source_template % completer.source_vars()).lstrip()


def answer(group: click.Group) -> int:
    """Print the completions of the line in the environment; return the exit code. Errors print nothing."""
    shell, _, instruction = os.environ.get(VARIABLE, "").partition("_")
    if shell not in SHELLS or instruction != "complete":
        return 1
    try:
        completer = _CLASSES[shell](group, {}, "kvae", VARIABLE)
        text = completer.complete()
    except Exception:
        return 1
    if text:
        print(text)
    return 0


def _ends_a_word(typed: str) -> bool:
    """Tell whether the cursor follows a space that is neither quoted nor escaped."""
    if not typed[-1:].isspace():
        return False
    try:
        return shlex.split(typed) == shlex.split(typed + " ")
    except ValueError:
        return False  # A quote is still open.
