"""Completion in bash, zsh and fish: the scripts that `kvae completion` prints, and the answers that they request.

Names in a model file may contain any printable characters, such as `$(...)`. Zsh and fish quote what they insert. Bash
inserts an answer as it is, so the answer contains the quoting. Bash also splits words at `=`.
"""

from __future__ import annotations

import os
import re
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
    local line type value
    COMPREPLY=()
    while IFS= read -r line; do
        [[ $line ]] || continue
        type=${line%%%%,*} value=${line#*,}
        if [[ $type == file ]]; then
            compopt -o default
        else
            [[ $value == *= ]] && compopt -o nospace
            COMPREPLY+=("$value")
        fi
    done < <(COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" COMP_BREAKS="$COMP_WORDBREAKS" \\
        %(complete_var)s=bash_complete "$1" 2>/dev/null)
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


_FISH = """function %(complete_func)s;
    set -l response (env %(complete_var)s=fish_complete COMP_WORDS=(commandline -cp) \\
COMP_CWORD=(commandline -t) %(prog_name)s);

    for completion in $response;
        set -l metadata (string split --max 1 "," -- $completion);

        if test $metadata[1] = "file";
            __fish_complete_path $metadata[2];
        else;
            printf "%%s\\n" $metadata[2];
        end;
    end;
end;

complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)";
"""

_PLAIN = re.compile(r"[\w@%+=:,./-]")


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
        option, equals, value = incomplete.partition("=")
        if option.startswith("--") and equals:
            words.append(option)
            incomplete = value
        self._quote, before = _open_quote(typed)
        # Bash inserts the answer after the open quote, or after the last separator.
        self._cut = 0
        if not self._quote and "=" in os.environ.get("COMP_BREAKS", "="):
            self._cut = incomplete.rfind("=") + 1
        self._inside = bool(self._quote) and not (before[-1:].isspace() or before.endswith("="))
        return words[1:], incomplete

    def format_completion(self, item: shell_completion.CompletionItem) -> str:
        """Return `type,value`: the text to insert, quoted; nothing if the open quote cannot contain the value."""
        value = item.value[self._cut :]
        if item.type == "file":
            return f"file,{value}"
        if self._quote:
            # Within double quotes bash expands "!" even after a backslash. A quote in the middle of a word is rare.
            if self._inside or self._quote in value or (self._quote == '"' and set(value) & set("!$`\\")):
                return ""
            return f"plain,{value}"
        return f"plain,{''.join(each if _PLAIN.match(each) else chr(92) + each for each in value)}"


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
    """Completion in fish. The script of click ends a value at a comma."""

    source_template = _FISH


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


def _open_quote(typed: str) -> tuple[str, str]:
    """Return the quote that is open at the end of a line, or an empty string, and the text before it."""
    quote, start, escaped = "", 0, False
    for place, each in enumerate(typed):
        if escaped:
            escaped = False
        elif each == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if each == quote else quote
        elif each in "'\"":
            quote, start = each, place
    return quote, typed[:start] if quote else typed


def _ends_a_word(typed: str) -> bool:
    """Tell whether the cursor follows a space that is neither quoted nor escaped."""
    if not typed[-1:].isspace():
        return False
    try:
        return shlex.split(typed) == shlex.split(typed + " ")
    except ValueError:
        return False  # A quote is still open.
