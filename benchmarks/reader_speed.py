"""How long does the validation of a file take before ONNX Runtime reads it, and does it grow only with its size?

Printed are milliseconds of processor time, medians of 20: the validation and the manifest of each shipped graph. The
SHA-256 of the seal is not included; its rate is printed. Then follow files that are made to take long, in three sizes
each. Their times must not grow faster than their sizes, and stop growing at the field budget of a file.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from kvae_serve.errors import ModelFileError
from kvae_serve.runtime.locate import shipped
from kvae_serve.sealed import file as onnx_file
from kvae_serve.sealed import validate
from kvae_serve.sealed.manifest import Manifest
from support import wire

INPUTS, OUTPUTS = [wire.value("z", ["batch", 3])], [wire.value("x_mean", ["batch", 3])]
END = wire.node("Sigmoid", ["z"], ["x_mean"])


def milliseconds(call: Callable[[], object], times: int = 20) -> float:
    """Return the median processor time of a call."""
    durations = []
    for _ in range(times):
        start = time.process_time()
        call()
        durations.append(1000 * (time.process_time() - start))
    return statistics.median(durations)


def ignore_refusal(call: Callable[[], object]) -> None:
    with contextlib.suppress(validate.WalkError, ModelFileError):
        call()


def model(nodes: list[bytes], tensors: list[bytes] | None = None, more: bytes = b"") -> bytes:
    return wire.model(wire.graph(nodes, INPUTS, OUTPUTS, tensors, more))


def chain(length: int) -> bytes:
    names = ["z", *(f"v{index}" for index in range(length - 1))]
    return model([*(wire.node("Neg", [one], [other]) for one, other in itertools.pairwise(names)), END])


# Name of the part that grows -> its sizes, and a function that builds a model of a size.
GROWING: dict[str, tuple[tuple[int, ...], Callable[[int], bytes]]] = {
    "nodes": ((99, 999, 9_999), chain),
    "tensors": ((100, 1_000, 10_000), lambda n: model([END], [wire.tensor(f"t{i}", [1], bytes(4)) for i in range(n)])),
    "values of a tensor": ((10**5, 10**6, 10**7), lambda n: model([END], [wire.tensor("w", [n], bytes(4 * n))])),
    "packed numbers": (
        (10**5, 10**6, 10**7),
        lambda n: model([END], [wire.tensor("w", [n], kind=7, more=wire.field(7, b"\x01" * n))]),
    ),
    "single numbers": (
        (10**4, 10**5, 10**6),
        lambda n: model([END], [wire.tensor("w", [n], kind=7, more=wire.field(7, 1) * n)]),
    ),
    "attributes' numbers": (
        (10**4, 10**5, 10**6),
        lambda n: model([END + wire.field(5, wire.field(1, "a") + wire.field(8, 1) * n + wire.field(20, 7))]),
    ),
    "empty fields": ((10**4, 10**5, 10**6), lambda n: model([END], more=wire.field(13, b"") * n)),
}
# Name -> a function that builds a manifest of about that many bytes.
MANIFESTS: dict[str, Callable[[int], str]] = {
    "lists": lambda n: '{"a": [' + "[]," * (n // 3) + "1]}",
    "numbers": lambda n: '{"a": [' + "1," * (n // 2) + "1]}",
    "escapes": lambda n: '{"a": "' + "\\u0041" * (n // 6) + '"}',
    "quotes": lambda n: '\\"' * (n // 2),
}


def main() -> None:
    """Print the tables."""
    print(f"{'graph':<28}{'bytes':>10}{'walk ms':>9}{'manifest ms':>13}")
    for name, folder in shipped().items():
        for path in sorted(Path(folder).glob("*.onnx")):
            data = path.read_bytes()
            text = onnx_file.check(data, path).manifest_json
            walk, parse = (
                milliseconds(lambda: validate.walk(data)),  # noqa: B023
                milliseconds(lambda: Manifest.parse(text, "m")),  # noqa: B023
            )
            print(f"{name + '/' + path.stem:<28}{len(data):>10,}{walk:>9.2f}{parse:>13.2f}")
    block = bytes(2**26)
    print(f"\nSHA-256: {2**26 / 1e3 / milliseconds(lambda: hashlib.sha256(block), 5):,.0f} MB/s\n")
    print(f"{'grows':<24}{'sizes':>28}{'ms':>34}")
    for name, (sizes, make) in GROWING.items():
        times = [milliseconds(lambda: ignore_refusal(lambda: validate.walk(data)), 5) for data in map(make, sizes)]  # noqa: B023
        print(f"{name:<24}{', '.join(f'{size:,}' for size in sizes):>28}{', '.join(f'{t:.2f}' for t in times):>34}")
    sizes = (10_000, 100_000, 1_000_000)
    for name, write in MANIFESTS.items():
        times = [
            milliseconds(lambda: ignore_refusal(lambda: Manifest.parse(text, "m")), 5)  # noqa: B023
            for text in map(write, sizes)
        ]
        shown = ", ".join(f"{size:,}" for size in sizes)
        print(f"{'manifest of ' + name:<24}{shown:>28}{', '.join(f'{t:.2f}' for t in times):>34}")


if __name__ == "__main__":
    main()
