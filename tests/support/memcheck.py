"""ONNX Runtime under valgrind: silent errors, such as reads beyond the end of an array, of files that kvae accepts.

`python tests/support/memcheck.py FIRST NUM` opens and runs the hostile catalogue and random graphs FIRST to
FIRST + NUM - 1 and prints the errors whose innermost code is ONNX Runtime. Python and NumPy are not examined.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from support.paths import python_path

TESTS = Path(__file__).parents[1]
_FRAME = re.compile(r"\s+(?:at|by) 0x")
# ONNX Runtime copies four bytes onto themselves when it starts.
_SAME_PLACE = re.compile(r"Source and destination overlap in memcpy\w*\((0x[0-9a-f]+), \1,")


def errors(log: str) -> list[str]:
    """Return the reports in a log of valgrind whose innermost frame, apart from copies, is ONNX Runtime."""
    found = []
    lines = [re.sub(r"^==\d+== ?", "", line) for line in log.splitlines()]
    for report in re.split(r"\n\s*\n", "\n".join(lines)):
        frames = [line for line in report.splitlines() if _FRAME.match(line) and "vgpreload" not in line]
        if frames and "onnxruntime" in frames[0] and not _SAME_PLACE.search(report):
            found.append(report)
    return found


def check(first: int, num: int, log: Path) -> tuple[str, list[str]]:
    """Run `examine` under valgrind. Return what it printed, and the errors."""
    environment = {**os.environ, "PYTHONPATH": python_path(TESTS), "PYTHONMALLOC": "malloc", "OMP_NUM_THREADS": "1"}
    options = ["--error-limit=no", "--num-callers=12", "--leak-check=no", f"--log-file={log}"]
    code = f"from support.memcheck import examine; examine({first}, {num})"
    command = ["valgrind", *options, sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    text = log.read_text(errors="replace")
    assert done.returncode == 0, done.stderr
    assert "ERROR SUMMARY" in text
    return done.stdout, errors(text)


def examine(first: int, num: int) -> None:
    """Open and run the small files of the catalogue and random graphs. Print how they end."""
    import numpy as np

    from kvae_serve.errors import KvaeError
    from kvae_serve.model import load
    from support import hostile_bombs, hostile_files, random_graphs

    groups = (hostile_files.STRUCTURE, hostile_files.EXTERNAL, hostile_files.FACTS, hostile_bombs.CRASHES)
    ends: Counter[str] = Counter()
    for name, case in [(name, case) for group in groups for name, case in group.items()]:
        with tempfile.TemporaryDirectory() as folder:
            case.prepare(Path(folder))
            try:
                load(Path(folder) / "m.onnx").run("decoder", {"z": np.zeros((2, 3), np.float32)}, 2)
                ends["catalogue: ran"] += 1
            except KvaeError:
                ends["catalogue: refused"] += 1
            except Exception as error:
                raise AssertionError(name) from error
    for model in ("conditional", "unconditional", "gaussian_prior", "mixture_prior"):
        loaded = load(TESTS / "data" / model)
        loaded.verify()
        ends["model: ran"] += 1
    np.seterr(all="ignore")
    # The memory of the process is that of valgrind.
    random_graphs.memory_use.gained = lambda run: (run(), 0)
    for index in range(first, first + num):
        ends[f"random: {random_graphs.judge(random_graphs.make(index))}"] += 1
    print(dict(ends))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        printed, reports = check(int(sys.argv[1]), int(sys.argv[2]), Path(scratch) / "log")
    print(printed, *reports, f"{len(reports)} errors of ONNX Runtime", sep="\n")
