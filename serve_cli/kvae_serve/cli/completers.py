"""Completion of option values when the user presses TAB.

It is fast, because it imports neither numpy nor ONNX Runtime. Any error ends it without suggestions.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from kvae_serve.runtime import locate

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem

    from kvae_serve.sealed.manifest import Condition

MAX_SUGGESTIONS = 200


def path(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Suggest files."""
    return [_item(incomplete, type="file")]


def model(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Suggest shipped models and files."""
    shipped = [_item(name, help="ships with kvae") for name in locate.shipped() if name.startswith(incomplete)]
    return [*shipped, _item(incomplete, type="file")]


def label(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Suggest the classes of the condition named label, and `all`."""
    names = [name for each in _conditions(ctx) if each.name == "label" and each.categorical for name in each.classes]
    return _matching([*names, "all"] if names and "all" not in names else names, incomplete)


def condition(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Suggest `NAME=`, and after it the classes of that condition."""
    known = _conditions(ctx)
    name, equals, _ = incomplete.partition("=")
    if not equals:
        return _matching([f"{each.name}=" for each in known], incomplete)
    return _matching([f"{name}={value}" for each in known if each.name == name for value in each.classes], incomplete)


def _matching(values: list[str], incomplete: str) -> list[CompletionItem]:
    """Return the values that start with `incomplete`. The shell reads one per line, so line breaks are excluded."""
    items = [_item(value) for value in values if value.startswith(incomplete) and value.isprintable()]
    return items[:MAX_SUGGESTIONS]


def _item(value: str, **rest: str) -> CompletionItem:
    # Imported here, because every command imports this module and only TAB needs click.shell_completion.
    from click.shell_completion import CompletionItem

    return CompletionItem(value, **rest)


def _conditions(ctx: click.Context) -> tuple[Condition, ...]:
    # A bad model is reported when the command runs, not while it is typed.
    with contextlib.suppress(Exception):
        from kvae_serve.sealed import file as onnx_file
        from kvae_serve.sealed.manifest import Manifest

        name = ctx.params.get("model") or os.environ.get("KVAE_MODEL") or locate.DEFAULT
        _, paths = locate.find(os.path.expanduser(name))  # noqa: PTH111
        file = onnx_file.read(next(paths[graph] for graph in (*locate.MANIFEST_ORDER, "") if graph in paths))
        return Manifest.parse(file.manifest_json, file.path).conditions
    return ()
