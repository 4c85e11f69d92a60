"""What the shell offers as values of options, when the user presses TAB.

It must be quick and never fail: no numpy, no ONNX Runtime, and whatever goes wrong means that nothing is offered.
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

MOST = 200
"""Classes that are offered at a time."""


def path(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer files."""
    return [_item(incomplete, type="file")]


def model(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the models that ship, and files."""
    found = [_item(name, help="ships with kvae") for name in locate.shipped() if name.startswith(incomplete)]
    return [*found, _item(incomplete, type="file")]


def label(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the classes of the model's condition named label, and `all`."""
    found = [condition for condition in _conditions(ctx) if condition.name == "label" and condition.categorical]
    names = [name for condition in found for name in condition.classes]
    return _offered([*names, "all"] if names and "all" not in names else names, incomplete)


def condition(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer `NAME=`, and behind it the classes of that condition."""
    known = _conditions(ctx)
    name, equals, _ = incomplete.partition("=")
    if not equals:
        return _offered([f"{each.name}=" for each in known], incomplete)
    return _offered([f"{name}={value}" for each in known if each.name == name for value in each.classes], incomplete)


def _offered(values: list[str], incomplete: str) -> list[CompletionItem]:
    """Return the values that go on as the user began; a shell reads them by line, so each must be one."""
    return [_item(value) for value in values if value.startswith(incomplete) and value.isprintable()][:MOST]


def _item(value: str, **rest: str) -> CompletionItem:
    # In here, for every verb imports this module, and only TAB needs that one.
    from click.shell_completion import CompletionItem

    return CompletionItem(value, **rest)


def _conditions(ctx: click.Context) -> tuple[Condition, ...]:
    # A bad model is told of when the command is run, not while it is typed.
    with contextlib.suppress(Exception):
        from kvae_serve.sealed import file as onnx_file
        from kvae_serve.sealed.manifest import Manifest

        asked = ctx.params.get("model") or os.environ.get("KVAE_MODEL") or locate.DEFAULT
        _, paths = locate.find(os.path.expanduser(asked))  # noqa: PTH111
        file = onnx_file.read(next(paths[graph] for graph in (*locate.GRAPHS, "") if graph in paths))
        return Manifest.parse(file.manifest_json, file.path).conditions
    return ()
