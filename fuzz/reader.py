"""Does any model file get past the reader's promises? A coverage-guided search, with atheris.

    pip install atheris && python fuzz/reader.py -max_total_time=60

An input is a model and its manifest; it is sealed here, for anyone can seal, and a search does not find a SHA-256. The
reader must refuse it in one printable line of at most 200 characters, or take it; with KVAE_FUZZ_RUN=1 what it takes is
run in ONNX Runtime too. Anything else, a crash, a hang of five seconds or 2 GB of memory among them, ends the search
with the input in a file `crash-...`; give that file as the only argument to see it again.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

SEAL = b"\x72\x4f\x0a\x0bkvae.sha256\x12\x40"


def sealed(data: bytes) -> bytes:
    """Return a model that ends in its manifest with the seal of docs/format.md."""
    return data + SEAL + hashlib.sha256(data).hexdigest().encode()


def one_input(data: bytes) -> None:
    """Raise unless the reader keeps its promises over these bytes."""
    from kvae_serve.errors import ModelFileError
    from kvae_serve.sealed import file as onnx_file
    from kvae_serve.sealed import golden, signature
    from kvae_serve.sealed.manifest import Manifest

    try:
        graph = onnx_file.check(sealed(data), "m.onnx")
        manifest = Manifest.parse(graph.manifest_json, "m.onnx")
        signature.check(manifest, graph.inputs, graph.outputs, "m.onnx")
        if os.environ.get("KVAE_FUZZ_RUN") == "1":
            from kvae_serve.runtime.session import Session

            session = Session(graph, manifest, max_memory=2**28)
            session.run(golden.golden_inputs(manifest, session.inputs, seed=0, num=1))
    except ModelFileError as error:
        if not str(error).isprintable() or len(str(error)) > 200:
            raise AssertionError(f"the line is not fit to be printed: {error!r}") from error


def main() -> None:
    """Search, with the arguments of libFuzzer."""
    import tempfile

    import atheris
    import corpus

    with atheris.instrument_imports(include=["kvae_serve"]):
        from kvae_serve.sealed import dataflow, manifest, protobuf, signature, validate  # noqa: F401
    defaults = ["-max_len=65536", "-timeout=5", "-rss_limit_mb=2048"]
    # A single file is an input to see again, unless it is a folder to search on with.
    again = [argument for argument in sys.argv[1:] if Path(argument).is_file()]
    with tempfile.TemporaryDirectory() as found, tempfile.TemporaryDirectory() as seeds:
        corpus.unpack("reader", Path(seeds))
        folders = [] if again else [found, seeds]
        atheris.Setup([sys.argv[0], *defaults, *sys.argv[1:], *folders], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
