"""Notebooks of the tutorials, made from their Markdown.

    python docs/notebooks.py FOLDER

writes `NAME.ipynb` for each `docs/tutorials/NAME.md`. The site has them as downloads.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jupytext

TUTORIALS = Path(__file__).parent / "tutorials"
HEADER = """---
jupyter:
  kernelspec:
    name: python3
    display_name: Python 3
    language: python
---
"""


def notebook(markdown: str) -> str:
    """Return a tutorial as a Jupyter notebook, with its `sh` and `python` blocks as cells."""
    made = jupytext.reads(HEADER + markdown, fmt="md")
    for number, cell in enumerate(made.cells):
        cell["id"] = f"cell-{number}"  # random by default
        cell["source"] = cell["source"].replace("%%sh\n", "%%sh -e\n")  # stop at the first error
    return str(jupytext.writes(made, fmt="ipynb"))


def main() -> None:
    """Write the notebooks into the folder that is the only argument."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for path in sorted(TUTORIALS.glob("*.md")):
        target = Path(sys.argv[1]) / f"{path.stem}.ipynb"
        target.write_text(notebook(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
