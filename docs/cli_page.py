"""Generator of docs/cli.md from the help of every command: `python docs/cli_page.py > docs/cli.md`."""

from __future__ import annotations

import inspect

import click

from kvae.__main__ import COMMANDS
from kvae_serve import errors
from kvae_serve.cli.group import group

_HEAD = """# The command

Generated from the help of each command by `python docs/cli_page.py > docs/cli.md`; a test compares the two.
See also [walks.md](walks.md) on traversals and interpolations, [requests.md](requests.md) on `--requests`, and
[training.md](training.md).

`-m MODEL` is a folder of `.onnx` files, one such file, or the name of a shipped model (`kvae models` lists them). The
default is `$KVAE_MODEL`, else `mnist`. Standard output carries data or one JSON document; messages and progress go to
standard error. An error is one line, or with `--json` an object `{"error": {"message": ..., "exit_code": ...}}`.

Counts have the same names in every command: `-n` is the number of examples, rows or samples to process, and
`--num-samples` is the number of draws of z per example.
"""

_OTHER_CODES = {
    0: "Success.",
    1: "Bug in kvae; set KVAE_DEBUG=1 for a traceback.",
    130: "Interrupted by Ctrl-C.",
    129: "Ended by SIGHUP.",
    143: "Ended by SIGTERM.",
}


def page() -> str:
    """Return the whole page as Markdown."""
    lines = [_HEAD, "| Command | Purpose | Needs |", "|---|---|---|"]
    lines += [
        f"| [`{name}`](#kvae-{name}) | {_cell(entry.help)} | {f'`kvae-onnx[{entry.extra}]`' if entry.extra else ''} |"
        for name, entry in COMMANDS.items()
    ]
    lines += ["", "## Exit codes", "", "| Code | Meaning |", "|---|---|"]
    lines += [f"| {code} | {_cell(text)} |" for code, text in sorted(exit_codes().items())]
    kvae = group(COMMANDS)
    with click.Context(kvae, info_name="kvae") as context:
        for name, entry in COMMANDS.items():
            command = entry.load()
            lines += ["", *_section(command, click.Context(command, parent=context, info_name=name))]
    return "\n".join(lines) + "\n"


def exit_codes() -> dict[int, str]:
    """Return the meaning of every exit code, from the docstrings of the errors."""
    classes = errors.KvaeError.__subclasses__()
    return _OTHER_CODES | {
        each.exit_code: (inspect.getdoc(each) or "").partition("\n\n")[0]
        for each in classes
        if each.__module__ == errors.__name__
    }


def examples(command: click.Command) -> list[str]:
    """Return the example command lines of a command."""
    return (command.epilog or "").partition(": ")[2].split("; ")


def _section(command: click.Command, context: click.Context) -> list[str]:
    text = inspect.cleandoc(command.help or "").replace("\b\n", "")
    lines = [f"## kvae {command.name}", "", text, "", "```", _usage(command, context), "```"]
    records = [record for each in command.params if (record := each.get_help_record(context)) and record[1]]
    lines += ["", "| Option | Meaning |", "|---|---|"]
    lines += [f"| `{_cell(flags)}` | {_cell(' '.join(words.split()))} |" for flags, words in records]
    return [*lines, "", "```", *examples(command), "```"]


def _usage(command: click.Command, context: click.Context) -> str:
    return " ".join([context.command_path, *command.collect_usage_pieces(context)])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
