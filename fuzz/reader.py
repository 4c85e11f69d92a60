"""Fuzz target of the model file reader: a coverage-guided search with atheris.

    pip install atheris && python fuzz/reader.py -max_total_time=60

An input is a model and its manifest. The target seals it, because anyone can seal a file and a search does not find a
SHA-256. The reader must accept it, or refuse it with one printable line of at most 200 characters. With KVAE_FUZZ_RUN=1
accepted files are run in ONNX Runtime too. Anything else ends the search: a crash, a hang of five seconds or 2 GB of
memory. The input is then in a file `crash-...`; give that file as the only argument to repeat it.
"""

from __future__ import annotations

import hashlib
import os

SEAL = b"\x72\x4f\x0a\x0bkvae.sha256\x12\x40"
MODULES = tuple(f"kvae_serve.sealed.{name}" for name in ("manifest", "protobuf", "shapes", "signature", "validate"))


def sealed(data: bytes) -> bytes:
    """Append the seal of docs/format.md to a model that ends in its manifest."""
    return data + SEAL + hashlib.sha256(data).hexdigest().encode()


def one_input(data: bytes) -> None:
    """Raise unless the reader keeps its promises for these bytes."""
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
            raise AssertionError(f"the message is not printable or too long: {error!r}") from error


if __name__ == "__main__":
    import corpus

    corpus.search("reader", one_input, 65536, *MODULES)
