"""Does any data file get past the readers' promises? A coverage-guided search, with atheris.

    pip install atheris && python fuzz/data.py -max_total_time=60

The first byte of an input says which form the rest is of. A reader must return a `Dataset`, or raise an
`InputDataError` of one printable line; see fuzz/reader.py for what else ends the search.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

NAMES = ("x.npy", "x.npz", "x.csv", "x.idx", "x.gz", "x.png", "x.jpg")
_FOLDER = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)


def one_input(data: bytes) -> None:
    """Raise unless the reader of the form that the first byte names keeps its promises."""
    from kvae_serve.errors import InputDataError
    from kvae_serve.readers import read_dataset

    if not data:
        return
    path = Path(_FOLDER.name) / NAMES[data[0] % len(NAMES)]
    path.write_bytes(data[1:])
    try:
        dataset = read_dataset(path)
        if not len(dataset.x) or any(len(each) != len(dataset.x) for each in dataset.conditions.values()):
            raise AssertionError("the parts of a data set are not of one length")
    except InputDataError as error:
        if not str(error).isprintable() or len(str(error)) > 300:
            raise AssertionError(f"the line is not fit to be printed: {error!r}") from error


def main() -> None:
    """Search, with the arguments of libFuzzer."""
    import atheris
    import corpus

    with atheris.instrument_imports(include=["kvae_serve"]):
        from kvae_serve.readers import arrays, idx, images, npy  # noqa: F401
    defaults = ["-max_len=8192", "-timeout=5", "-rss_limit_mb=2048"]
    # A single file is an input to see again, unless it is a folder to search on with.
    again = [argument for argument in sys.argv[1:] if Path(argument).is_file()]
    with tempfile.TemporaryDirectory() as found, tempfile.TemporaryDirectory() as seeds:
        corpus.unpack("data", Path(seeds))
        folders = [] if again else [found, seeds]
        atheris.Setup([sys.argv[0], *defaults, *sys.argv[1:], *folders], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
