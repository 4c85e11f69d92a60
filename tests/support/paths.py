"""Import path for child processes: the same packages that the tests import, from a checkout or from a wheel."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

PACKAGES = ("kvae", "kvae_export", "kvae_serve")


def python_path(*more: Path) -> str:
    """Return a value of PYTHONPATH with the folders that hold kvae's packages, then `more`."""
    specs = (importlib.util.find_spec(name) for name in PACKAGES)
    folders = [Path(spec.origin).parents[1] for spec in specs if spec is not None and spec.origin]
    return os.pathsep.join(dict.fromkeys(map(str, (*folders, *more))))
