"""Fenced `sh` and `python` blocks of the documents: how each page runs, and what does not run, with the reason."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Page:
    """Settings with which the blocks of a page run, in their order, in a folder with the files that they read.

    Attributes:
        not_run: Text of a line -> reason. In a `sh` block such lines are left out, of `python` the whole block.
        shorter: Text -> text that replaces it, so that the page runs in seconds. Each occurs on the page.
        before: Python that defines the variables that the page does not.
        fast: Whether the page is part of the default tests.
    """

    not_run: dict[str, str] = dataclasses.field(default_factory=dict)
    shorter: dict[str, str] = dataclasses.field(default_factory=dict)
    before: str = ""
    fast: bool = False


INSTALLS = "installs packages from PyPI; .ci/run runs it"
HUB = "needs the Hugging Face Hub; tests/kvae_serve/hub runs it against a local server"
SERVER = "needs a running server; tests/kvae_serve/http_server starts one"
CLUSTER = "needs several machines; tests/kvae/training/test_workers.py runs two workers on one"

SMALL = "--network dense --epochs 1 --encoder-hidden 8 --decoder-hidden 8 --no-export-check"
TO_FOLDER = {"--data mnist ": f"--data mnist-folder {SMALL} "}

DIGITS = """
import kvae, numpy as np
data = kvae.data.load("digits.npz")
x, label = data.x, np.asarray(data.conditions["label"])
labels = label
"""
PEOPLE = """
import kvae, numpy as np, pandas as pd
frame = pd.read_csv("people.csv")
"""

PAGES = {
    "docs/anomalies.md": Page(
        shorter={"--data normal.csv ": "--data normal.csv --epochs 1 "},
        before="import kvae, pandas as pd\ntable = pd.read_csv('new.csv')",
    ),
    "README.md": Page(
        not_run={
            "python3 -m venv": INSTALLS,
            "--data MNIST_FOLDER": "takes hours; the line before runs the same with fewer draws",
            "kvae serve": SERVER,
        },
        shorter={
            "epochs=10": "epochs=1",
            "--epochs 10": SMALL,
        },
    ),
    "CONTRIBUTING.md": Page(
        not_run={"PRESET": "trains a shipped model on 60,000 images", "NAME": "the model of the line before"}
    ),
    "docs/backends.md": Page(shorter=TO_FOLDER),
    "docs/bulk.md": Page(
        not_run={"import ray": "tests/interop/test_ray.py runs it, in an environment with Ray"},
        shorter={"$((I * 10000)) -n 10000": "$((${I:-1} * 10)) -n 10", "-$I": "-${I:-1}"},
        fast=True,
    ),
    "docs/conditions.md": Page(
        shorter={
            "-o people-by-sex": "--epochs 1 -o people-by-sex",
            "-o by-label": f"{SMALL} -o by-label",
        }
    ),
    "docs/choose.md": Page(shorter={"--network dense ": f"{SMALL} "}),
    "docs/collapse.md": Page(
        shorter={"--network dense ": f"{SMALL} ", "--epochs 10": "", "--warmup-epochs 5": "--warmup-epochs 1"}
    ),
    "docs/data.md": Page(
        shorter={
            "TableVAE()": "TableVAE(epochs=1)",
            "columns.toml -o": "columns.toml --epochs 1 -o",
            "28x28 -o": f"28x28 {SMALL} -o",
            "steps-first -o": f"steps-first {SMALL} -o",
        },
        before=PEOPLE,
    ),
    "docs/deploy.md": Page(
        not_run={
            "tritonserver": "needs a Triton server; tests/interop/test_triton_server.py runs one",
            "curl": "needs a Triton server; tests/interop/test_triton_server.py sends requests",
            '{"name"': "part of the request",
        },
        shorter={"kvae export run --triton": "kvae export digits --triton"},
        fast=True,
    ),
    "docs/distributed.md": Page(
        not_run={
            "TF_CONFIG": CLUSTER,
            "/data/mnist": CLUSTER,
            "kvae.training import cluster": "tests/kvae/training/test_distribution.py runs the same calls",
        },
        shorter={
            **TO_FOLDER,
            "--devices all": "--devices 2",
        },
    ),
    "docs/evaluation.md": Page(
        shorter={
            "--num-samples 5000": "-n 20 --num-samples 20",
            "importance_samples=5000": "importance_samples=20",
        },
        before=DIGITS,
    ),
    "docs/explorer.md": Page(),
    "docs/hub.md": Page(not_run={"hf://": HUB}, fast=True),
    "docs/imputation.md": Page(
        before="import kvae\nfrom kvae_serve.readers import read_for\n"
        'x = read_for("people.csv", kvae.load("people").manifest).x[:20]\n'
        'frame = kvae.load("people").sample(20, seed=0).to_frame()'
    ),
    "docs/index.md": Page(
        not_run={
            "python3 -m venv": INSTALLS,
            "run": "docs/tutorials/penguins.md trains on a CSV",
            "people": "the model of the line before",
        },
        fast=True,
    ),
    "docs/requests.md": Page(not_run={'{"line"': "the answer to the line before"}, fast=True),
    "docs/random.md": Page(fast=True),
    "docs/rejected.md": Page(fast=True),
    "docs/rows.md": Page(
        shorter={"1000000": "1000", "1_000_000": "1_000"}, before=DIGITS + "consume = print", fast=True
    ),
    "docs/samples.md": Page(
        not_run={"-m digits": "trains classifiers for minutes; tests/kvae/sample_metrics/test_command.py runs it"},
        shorter={"--sample-metrics 5000": "--sample-metrics 100"},
    ),
    "docs/serve.md": Page(not_run={"kvae serve": SERVER, "curl": SERVER, "http://": SERVER}),
    "docs/training.md": Page(
        not_run={
            "def mlflow_run": "needs MLflow; tests/kvae/training/test_custom_callbacks.py logs to it",
            "tracking:mlflow_run": "needs MLflow",
        },
        shorter={
            **TO_FOLDER,
            "--preset gated --epochs 50": f"--preset gated --validation 20 --data mnist-folder {SMALL}",
            "epochs=6": "epochs=4",
        },
    ),
    "docs/tuning.md": Page(
        not_run={
            "--grid": "trains 25 models; tests/kvae/tuning trains a grid",
            "--data photos/": "trains 20 convolutional models; the search before is the same command",
        },
        shorter={
            "--trials 30": "--trials 1 --epochs 1",
            "best.toml -o": "best.toml --no-export-check -o",
            "trials=30": "trials=1, epochs=1",
        },
        before="import kvae",
    ),
    "docs/walks.md": Page(
        not_run={
            "--condition age": "needs a model with a condition that is a number; tests/kvae_serve/latent runs one"
        },
        before=DIGITS + "z_from, z_to = np.zeros((1, 16)), np.ones((1, 16))",
    ),
}


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line where it begins."""

    language: str
    text: str
    line: int


def documents() -> list[Path]:
    """Return README.md, CONTRIBUTING.md, SECURITY.md and the pages of docs/."""
    pages = sorted((ROOT / "docs").rglob("*.md"))
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *pages]


def name_of(path: Path) -> str:
    """The path of a document in the repository, with slashes."""
    return path.relative_to(ROOT).as_posix()


def blocks(text: str) -> Iterator[Block]:
    """Yield the `sh` and `python` blocks of a Markdown text. A block without a language is `sh` if it has a command."""
    for match in re.finditer(r"(?ms)^( *)```([\w-]*)[^\n]*\n(.*?)^\1```$", text):
        indent, tag, body = match.groups()
        body = re.sub(rf"(?m)^{indent}", "", body)
        language = "sh" if not tag and re.search(r"(?m)^(\$ |kvae |python3? )", body) else tag
        if language in ("sh", "python"):
            yield Block(language, body, text.count("\n", 0, match.start()) + 1)


def steps(name: str, text: str) -> tuple[list[tuple[str, str]], list[tuple[int, str, str]]]:
    """Return what runs of a document, (language, text) each, and what does not: (line, first words, reason)."""
    page = PAGES.get(name, Page())
    run, left_out = [], []
    for block in blocks(text):
        body = block.text
        lines = []
        for number, line in enumerate(body.splitlines()):
            reason = next((reason for part, reason in page.not_run.items() if part in line), None)
            if reason is None:
                lines.append(line)
            else:
                left_out.append((block.line + 1 + number, line.strip(), reason))
        if block.language == "python" and len(lines) < len(body.splitlines()):
            continue
        body = "\n".join(lines)
        for old, new in page.shorter.items():
            body = body.replace(old, new)
        if block.language == "sh":
            body = re.sub(r"(?m)^\$ ", "", body)
        if body.strip():
            run.append((block.language, body))
    return run, left_out


def driver(name: str, text: str) -> str:
    """Return a Python program that runs the blocks of a document in their order, and stops at the first error."""
    run, _ = steps(name, text)
    return f"""
import subprocess, sys
names = {{"__name__": "__main__"}}
exec({PAGES.get(name, Page()).before!r}, names)
for number, (language, text) in enumerate({json.loads(json.dumps(run))!r}):
    print("==", text, sep="\\n", flush=True)
    if language == "sh":
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", text], stdin=subprocess.DEVNULL)
        if done.returncode:
            sys.exit(f"exit code {{done.returncode}}: {{text}}")
    else:
        exec(compile(text, f"block {{number}}", "exec"), names)
"""


if __name__ == "__main__":
    for path in documents():
        for line, words, reason in steps(name_of(path), path.read_text(encoding="utf-8"))[1]:
            print(f"{name_of(path)}:{line}: {words[:60]}: {reason}")
