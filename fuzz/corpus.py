"""Inputs and search loop of the fuzz targets. `corpus/NAME.zip` holds the inputs that searches start from.

python fuzz/corpus.py reader FOLDER    # pack the files of a folder; the same files give the same bytes
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(__file__).parent / "corpus"
DEFAULTS = ["-timeout=5", "-rss_limit_mb=2048"]

sys.path.insert(0, str(Path(__file__).parents[1] / "serve_cli"))


def read(name: str) -> dict[str, bytes]:
    """Return the inputs of a target by name."""
    with zipfile.ZipFile(FOLDER / f"{name}.zip") as bundle:
        return {member: bundle.read(member) for member in bundle.namelist()}


def pack(name: str, folder: Path) -> int:
    """Write the archive of a target from the files of a folder, named by their order; return their number."""
    contents = sorted(
        {path.read_bytes() for path in folder.iterdir() if path.is_file()}, key=lambda data: (len(data), data)
    )
    FOLDER.mkdir(exist_ok=True)
    with zipfile.ZipFile(FOLDER / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as bundle:
        for index, data in enumerate(contents):
            bundle.writestr(zipfile.ZipInfo(f"{index:04d}"), data, zipfile.ZIP_DEFLATED)  # The date is always 1980.
    return len(contents)


def search(name: str, one_input: Callable[[bytes], None], max_bytes: int, *modules: str) -> None:
    """Search with atheris until an input violates the promises of a target; takes the arguments of libFuzzer.

    Args:
        name: The target, whose corpus is the start.
        one_input: Raises if an input violates a promise.
        max_bytes: Largest input.
        modules: Modules to instrument.
    """
    import importlib

    import atheris

    with atheris.instrument_imports(include=["kvae_serve"]):
        for module in modules:
            importlib.import_module(module)
    # A single file is an input to repeat. A folder is a corpus to search on with.
    repeat = [argument for argument in sys.argv[1:] if Path(argument).is_file()]
    with tempfile.TemporaryDirectory() as found, tempfile.TemporaryDirectory() as seeds:
        for member, data in read(name).items():
            (Path(seeds) / member).write_bytes(data)
        folders = [] if repeat else [found, seeds]
        atheris.Setup([sys.argv[0], f"-max_len={max_bytes}", *DEFAULTS, *sys.argv[1:], *folders], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    print(pack(sys.argv[1], Path(sys.argv[2])), "inputs")
