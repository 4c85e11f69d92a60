"""The inputs that searches start from, and that tests run again: `corpus/NAME.zip`, a member each.

python fuzz/corpus.py reader FOLDER    # packs the files of a folder; the same files give the same bytes
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

FOLDER = Path(__file__).parent / "corpus"


def read(name: str) -> dict[str, bytes]:
    """Return the inputs of a target by the name of each."""
    with zipfile.ZipFile(FOLDER / f"{name}.zip") as bundle:
        return {member: bundle.read(member) for member in bundle.namelist()}


def unpack(name: str, folder: Path) -> None:
    """Write the inputs of a target into a folder, for libFuzzer."""
    for member, data in read(name).items():
        (folder / member).write_bytes(data)


def pack(name: str, folder: Path) -> int:
    """Make the archive of a target anew from the files of a folder, named by their order; return how many there are."""
    contents = sorted(
        {path.read_bytes() for path in folder.iterdir() if path.is_file()}, key=lambda data: (len(data), data)
    )
    FOLDER.mkdir(exist_ok=True)
    with zipfile.ZipFile(FOLDER / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as bundle:
        for index, data in enumerate(contents):
            bundle.writestr(zipfile.ZipInfo(f"{index:04d}"), data, zipfile.ZIP_DEFLATED)  # Dated 1980, as all of them.
    return len(contents)


if __name__ == "__main__":
    print(pack(sys.argv[1], Path(sys.argv[2])), "inputs")
