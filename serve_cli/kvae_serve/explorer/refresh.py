"""Refresh of the vendored onnxruntime-web: `python -m kvae_serve.explorer.refresh VERSION` downloads it from npm.

The script checks the digest that the npm registry states, keeps the two files that the explorer needs, and writes
version.json. It runs in a checkout only; users never need it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import sys
import tarfile
import urllib.request
from pathlib import Path

REGISTRY = "https://registry.npmjs.org/onnxruntime-web"
MODULE, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
FOLDER = Path(__file__).parent / "onnxruntime_web"


def refresh(version: str, folder: Path = FOLDER) -> dict[str, object]:
    """Download a version of onnxruntime-web and write its files.

    Args:
        version: Version on npm, such as "1.30.0".
        folder: Folder to write to.

    Returns:
        Content of version.json: version, address and integrity of the package, and SHA-256 of each file.

    Raises:
        ValueError: The package does not have the digest that the registry states.
    """
    with urllib.request.urlopen(f"{REGISTRY}/{version}") as answer:
        package = json.load(answer)
    address, integrity = package["dist"]["tarball"], package["dist"]["integrity"]
    with urllib.request.urlopen(address) as answer:
        archive = answer.read()
    digest = "sha512-" + base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if digest != integrity:
        raise ValueError(f"{address} has the digest {digest}; expected {integrity}.")
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        contents = {name: files.extractfile(f"package/dist/{name}").read() for name in (MODULE, WASM)}  # type: ignore[union-attr]
    record = {
        "version": version,
        "address": address,
        "integrity": integrity,
        "licence": package["license"],
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    }
    (folder / MODULE).write_bytes(contents[MODULE])
    (folder / f"{WASM}.gz").write_bytes(gzip.compress(contents[WASM], 9, mtime=0))
    (folder / "version.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


if __name__ == "__main__":
    print(json.dumps(refresh(sys.argv[1]), indent=2))
