"""Hooks of mkdocs: pages made from other files of the repository, and links to files outside docs/."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120
import notebooks

ROOT = Path(__file__).parents[1]
REPOSITORY = "https://github.com/kvae-onnx/kvae/blob/main/"
COPIES = {"changelog.md": "CHANGELOG.md", "security.md": "SECURITY.md", "results.md": "benchmarks/RESULTS.md"}
"""Pages of the site that are files elsewhere in the repository."""
EXPLORER = "explorer-mnist.html"
"""Explorer of the shipped model `mnist`, which is made together with the site."""

_LINK = re.compile(r"(!?\[[^\]]*\]\()(?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")
_BRACKETS = re.compile(r"\[([^\]\n]*)\](?!\()")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are not in docs/."""
    for page, source in COPIES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    files.append(File.generated(config, "config.md", content=config_page()))
    files.append(File.generated(config, EXPLORER, content=explorer_of_mnist()))
    for path in notebooks.TUTORIALS.glob("*.md"):
        made = notebooks.notebook(path.read_text(encoding="utf-8"))
        files.append(File.generated(config, f"tutorials/{path.stem}.ipynb", content=made))
    for picture in (ROOT / "benchmarks").glob("**/*.png"):
        name = picture.relative_to(ROOT / "benchmarks").as_posix()
        files.append(File.generated(config, name, content=picture.read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Point links to pages of the site, or to the repository if a file is not part of the site."""
    source = COPIES.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def resolve(match: re.Match[str]) -> str:
        text, target, anchor = match.group(1), match.group(2), match.group(3) or ""
        path = os.path.normpath(os.path.join(os.path.dirname(source), target))  # noqa: PTH118, PTH120
        pages = {file: name for name, file in COPIES.items()}
        name = pages.get(path, path.removeprefix("docs/").removeprefix("benchmarks/"))
        known = path.startswith("docs/") or path in pages or path.endswith(".png")
        name = os.path.relpath(name, os.path.dirname(page.file.src_uri) or ".")  # noqa: PTH120
        return f"{text}{name if known else REPOSITORY + path}{anchor})"

    markdown = _LINK.sub(resolve, markdown)
    if page.file.src_uri == "cli.md":
        # `[default: 64] [x>=1]` in a help text is not a reference.
        parts = markdown.split("`")
        parts[::2] = [_BRACKETS.sub(r"\\[\1]", part) for part in parts[::2]]
        markdown = "`".join(parts)
    if page.file.src_uri == "index.md":
        # The two links next to the picture of the explorer open it.
        markdown = markdown.replace("(explorer.md)", f"({EXPLORER})", 2)
    if page.file.src_uri == "explorer.md":
        title, text = markdown.split("\n", 1)
        markdown = f"{title}\n\n[Open the explorer of mnist]({EXPLORER}) (8 MB).\n{text}"
    if page.file.src_uri.startswith("tutorials/"):
        title, text = markdown.split("\n", 1)
        name = page.file.name
        markdown = f"{title}\n\n[Download as a notebook]({name}.ipynb){{ download={name}.ipynb }}\n{text}"
    return markdown


def explorer_of_mnist() -> str:
    """Return the page of `kvae explore -m mnist --data mnist-sample`."""
    sys.path[:0] = [str(ROOT / folder) for folder in (".", "export", "serve_cli")]
    from kvae_serve import explorer
    from kvae_serve.model import load
    from kvae_serve.readers import read_for

    model = load("mnist")
    data = read_for("mnist-sample", model.manifest)
    return explorer.render(model, explorer.Examples(data.x, data.conditions), name="mnist")


def config_page() -> str:
    """Return the keys of config.toml with default and meaning, from the declarations of the settings."""
    sys.path[:0] = [str(ROOT / folder) for folder in (".", "export", "serve_cli")]
    from kvae.training.config import settings

    lines = [
        "# Keys of config.toml",
        "",
        "`kvae train` writes config.toml into the run, and `kvae train --config FILE` reads one. An option of the "
        "command has the same name as its key, with `-` for `_`.",
    ]
    section = ""
    for name, declared in settings():
        if name != section:
            section = name
            lines += ["", f"## [{section}]", "", "| Key | Default | Meaning |", "|---|---|---|"]
        lines.append(
            f"| `{declared.name}` | `{_toml(declared)}` | {declared.metadata['help'].replace('|', '&#124;')} |"
        )
    return "\n".join(lines) + "\n"


def _toml(declared: dataclasses.Field[Any]) -> str:
    if declared.metadata["auto"] is not None and declared.default == declared.metadata["auto"]:
        return '"auto"'
    default = declared.default
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return "[" + ", ".join(f'"{each}"' if isinstance(each, str) else str(each) for each in default) + "]"
    return f'"{default}"' if isinstance(default, str) else str(default)
