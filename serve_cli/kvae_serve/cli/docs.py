"""docs/cli.md, made from the help of every verb: `python -m kvae_serve.cli.docs > docs/cli.md`."""

from __future__ import annotations

import inspect

import click

from kvae_serve import errors
from kvae_serve.cli.commands_table import VERBS
from kvae_serve.cli.group import group

_HEAD = """# The command

Made from the help of each verb by `python -m kvae_serve.cli.docs > docs/cli.md`; a test holds it against them. More on
walks through the latent space is in [walks.md](walks.md), on requests by line in [requests.md](requests.md), on
training in [training.md](training.md).

`-m MODEL` is a folder of `.onnx` files, one such file, or the name of a shipped model (`kvae models` lists them); it
defaults to `$KVAE_MODEL`, else to `mnist`. Standard output carries data or one JSON document; words and progress go to
standard error. An error is one line, with `--json` an object `{"error": {"message": ..., "exit_code": ...}}`, also on
standard error.
"""

_OTHER_CODES = {0: "Done.", 1: "A bug of kvae; KVAE_DEBUG=1 shows where it is.", 130: "Interrupted."}


def page() -> str:
    """Return the whole page."""
    lines = [_HEAD, "| verb | does | needs |", "|---|---|---|"]
    lines += [
        f"| [`{name}`](#kvae-{name}) | {_cell(verb.help)} | {f'`kvae-onnx[{verb.extra}]`' if verb.extra else ''} |"
        for name, verb in VERBS.items()
    ]
    lines += ["", "## Exit codes", "", "| code | means |", "|---|---|"]
    lines += [f"| {code} | {_cell(text)} |" for code, text in sorted(exit_codes().items())]
    with click.Context(group, info_name="kvae") as context:
        for name in VERBS:
            command = group.get_command(context, name)
            assert command is not None
            lines += ["", *_section(command, click.Context(command, parent=context, info_name=name))]
    return "\n".join(lines) + "\n"


def exit_codes() -> dict[int, str]:
    """Return every exit code and what it means, the classes of errors in their own words."""
    classes = errors.KvaeError.__subclasses__()
    return _OTHER_CODES | {
        each.exit_code: inspect.getdoc(each) or "" for each in classes if each.__module__ == errors.__name__
    }


def examples(command: click.Command) -> list[str]:
    """Return the command lines of a verb's examples."""
    return (command.epilog or "").partition(": ")[2].split("; ")


def _section(command: click.Command, context: click.Context) -> list[str]:
    text = inspect.cleandoc(command.help or "").replace("\b\n", "")
    lines = [f"## kvae {command.name}", "", text, "", "```", _usage(command, context), "```"]
    records = [record for each in command.params if (record := each.get_help_record(context)) and record[1]]
    lines += ["", "| option | does |", "|---|---|"]
    lines += [f"| `{_cell(flags)}` | {_cell(' '.join(words.split()))} |" for flags, words in records]
    return [*lines, "", "```", *examples(command), "```"]


def _usage(command: click.Command, context: click.Context) -> str:
    return " ".join([context.command_path, *command.collect_usage_pieces(context)])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
