"""How many networks does kvae export correctly, and how many does `keras.Model.export`?

Each network of `tests/support/network_cases.py` has random weights. It is exported twice: by kvae, sealed and opened by
the reader of kvae, and by `keras.Model.export(format="onnx")`, opened by ONNX Runtime. A file is right if it agrees
with Keras at batch sizes 1, 7 and 64 within 1e-4 (absolute and relative), and if the
first and the last row of a batch of 64 are the same when each is alone.

    python benchmarks/network_export.py -o networks.json --summary benchmarks/results/networks.json

Outcomes: right; refused (an error before a file is written); wrong (other numbers without
an error); batch (a row depends on its neighbours); broken (written without an error, but ONNX Runtime does not run it);
internal (an error that is not meant for users). Finished networks in the output are skipped, so a run can continue.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np

Run = Callable[[np.ndarray], list[np.ndarray]]
BATCHES = (1, 7, 64)


def by_kvae(model: Any, shape: tuple[int, ...], folder: Path) -> Run:
    """Write the sealed encoder of a network and return the function that runs it."""
    from support import network_cases

    served = network_cases.export(model, shape, folder)
    size = served.manifest.data.shape

    def run(x: np.ndarray) -> list[np.ndarray]:
        outputs = served.run("encoder", {"x": x.reshape(-1, *size)})
        return [outputs["z_mean"], outputs["z_log_var"]]

    return run


def by_keras(model: Any, shape: tuple[int, ...], folder: Path) -> Run:
    """Export a network as Keras does and return the function that runs the file."""
    import onnxruntime

    path = folder / "model.onnx"
    folder.mkdir()
    model.export(path, format="onnx", verbose=False)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    try:
        session = onnxruntime.InferenceSession(path, options)
        session.run(None, {session.get_inputs()[0].name: inputs(shape, 1)})
    except Exception as error:
        raise BrokenFileError(str(error)) from error
    return lambda x: session.run(None, {session.get_inputs()[0].name: x})


class BrokenFileError(Exception):
    """File that ONNX Runtime does not run, although the export did not raise an error."""


def inputs(shape: tuple[int, ...], batch: int) -> np.ndarray:
    return np.random.default_rng(batch).random((batch, *shape), dtype=np.float32)


def outcome(export: Callable[..., Run], model: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    """Export a network and return the outcome, the message of an error, and the seconds."""
    from kvae_serve.errors import KvaeError

    start = time.perf_counter()
    found, message = "right", ""
    with tempfile.TemporaryDirectory() as folder:
        try:
            run = export(model, shape, Path(folder) / "network")
            for batch in BATCHES:
                x = inputs(shape, batch)
                expected = [np.asarray(each) for each in model(x, training=False)]
                actual = run(x)
                if not all(np.allclose(a, b, 1e-4, 1e-4) for a, b in zip(actual, expected, strict=True)):
                    found = "wrong"
            for row in (slice(0, 1), slice(-1, None)):
                alone = zip(run(x[row]), actual, strict=True)
                if found == "right" and not all(np.allclose(a, b[row], 1e-4, 1e-4) for a, b in alone):
                    found = "batch"
        except BrokenFileError as error:
            found, message = "broken", str(error)
        except KvaeError as error:
            found, message = "refused", str(error)
        except Exception as error:
            found = "internal" if export is by_kvae else "refused"
            message = f"{type(error).__name__}: {error}"
    return {"outcome": found, "message": " ".join(message.split())[:400], "seconds": time.perf_counter() - start}


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the number of networks by outcome, and the networks that kvae does not export."""
    counts = {
        tool: Counter(result[tool]["outcome"] for result in results.values() if tool in result) for tool in EXPORTS
    }
    names = ("right", "refused", "broken", "batch", "wrong", "internal")
    lines = ["| Export | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {tool} | " + " | ".join(str(counts[tool][name]) for name in names) + " |" for tool in EXPORTS]
    lines += ["", "| Network | kvae | Keras | Message of kvae |", "|---|---|---|---|"]
    for name, result in results.items():
        kvae, other = (result.get(tool, {"outcome": "not run", "message": ""}) for tool in EXPORTS)
        if kvae["outcome"] != "right":
            lines.append(f"| {name} | {kvae['outcome']} | {other['outcome']} | {kvae['message']} |")
    return "\n".join(lines)


EXPORTS: dict[str, Callable[..., Run]] = {"kvae": by_kvae, "keras": by_keras}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="results as JSON, which a rerun continues")
    parser.add_argument("--summary", type=Path, help="outcomes as JSON, such as results/networks.json")
    parser.add_argument("--only", default="", help="text in the names of the networks")
    parser.add_argument("--export", choices=[*EXPORTS], action="append", help="one of the two exports")
    arguments = parser.parse_args()
    import keras

    from support import network_cases

    results = json.loads(arguments.output.read_text()) if arguments.output.is_file() else {}
    cases = network_cases.all_cases()
    for name, (shape, _) in cases.items():
        missing = [each for each in arguments.export or EXPORTS if each not in results.get(name, {})]
        if arguments.only not in name or not missing:
            continue
        keras.backend.clear_session()
        model = network_cases.encoder(name)
        for tool in missing:
            result = outcome(EXPORTS[tool], model, shape)
            results.setdefault(name, {})[tool] = result
            print(f"{name}: {tool} {result['outcome']} {result['seconds']:.1f} s {result['message'][:300]}", flush=True)
        arguments.output.write_text(json.dumps(results, indent=1))
    if arguments.summary:
        brief = {name: {tool: each["outcome"] for tool, each in result.items()} for name, result in results.items()}
        arguments.summary.write_text(json.dumps(brief, indent=1, ensure_ascii=False) + "\n")
    print(f"{len(results)} networks\n\n{table(results)}")


if __name__ == "__main__":
    main()
