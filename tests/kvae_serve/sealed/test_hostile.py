"""Catalogue of hostile inputs: each runs in a separate process, exits as expected and leaves no files.

By default a fifth of each group runs; `-m long` runs the rest.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kvae_serve.errors import ModelFileError
from kvae_serve.model import load
from kvae_serve.runtime import session
from support import hostile_bombs, hostile_files, hostile_requests
from support.forked import MIB, Done

CATALOGUE = {**hostile_files.MODELS, **hostile_bombs.BOMBS, **hostile_requests.REQUESTS}
SHARE = 5
# Cases of a second or more: their inputs have hundreds of megabytes or millions of fields.
SLOW = {
    "128 MiB of zeros",
    "a bomb of 20 GiB",
    "a bomb of gzip",
    "a bomb of zeros",
    "a description of 100 MB",
    "a million columns",
    "a million nodes",
    "a profile that unpacks to 200 MB",
    "a text that unpacks to 200 MB",
    "elements of a tensor, one by one",
    "200,000 texts",
    "33 million opaque pixels",
    "64 million pixels",
    "64 million pixels in colour, with transparency",
    "64 million pixels of 16 bits",
    "a million comments of a GIF",
    "a million comments of a JPEG",
    "a million tags of a TIFF",
    "numbers of an attribute, one by one",
}


CASES = [
    pytest.param(
        group,
        name,
        id=f"{group}-{name}",
        marks=() if index % SHARE == 0 and name not in SLOW else pytest.mark.long,
    )
    for group, cases in CATALOGUE.items()
    for index, name in enumerate(cases)
]


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def run(forked, case: hostile_files.Case, folder: Path) -> tuple[Done, set[str]]:
    """Run a case; return its result and the names of new files in its folder."""
    case.prepare(folder)
    before = listing(folder)
    done = forked.run(list(case.arguments), folder, **case.limits)
    return done, listing(folder) - before


def check(done: Done, new: set[str], case: hostile_files.Case) -> None:
    assert not done.hung
    assert done.code == case.code, done.stderr
    assert done.seconds < 5
    assert done.peak < 300 * MIB
    if case.code:
        assert new == set()
        if case.answers:
            assert [json.loads(line)["error"]["exit_code"] for line in done.stdout.splitlines()] == [case.code]
        else:
            assert done.stdout == b""
        text = done.stderr.decode()
        assert text.startswith("Error: ")
        assert text.endswith("\n")
        assert text[:-1].isprintable()
        assert len(text) <= 201
        assert case.words in text
    else:
        assert b"Traceback" not in done.stderr
        assert not any(name.endswith(".tmp") for name in new)


@pytest.mark.parametrize(("group", "name"), CASES)
def test_hostile_input_ends_in_one_line_and_leaves_no_files(forked, tmp_path, group, name):
    case = CATALOGUE[group][name]
    done, new = run(forked, case, tmp_path)
    check(done, new, case)


@pytest.mark.parametrize(
    ("groups", "least"),
    [
        ((hostile_files.EXTERNAL, hostile_files.STRUCTURE, hostile_bombs.CRASHES), 35),
        pytest.param((hostile_bombs.OF_STRUCTURE,), 25, marks=pytest.mark.long),
    ],
    ids=["small files", "bombs"],
)
def test_refused_files_do_not_reach_onnx_runtime(tmp_path, monkeypatch, groups, least):
    def open_session(*_, **__):
        raise AssertionError("ONNX Runtime was called")

    monkeypatch.setattr(session, "_open", open_session)
    opened = []
    monkeypatch.setattr(os, "open", lambda path, *rest, real=os.open: opened.append(str(path)) or real(path, *rest))
    (tmp_path / "canary").write_bytes(bytes(8))
    refused = 0
    for name, case in [(name, case) for group in groups for name, case in group.items()]:
        case.prepare(tmp_path)
        with pytest.raises((ModelFileError, AssertionError)) as error:
            load(tmp_path / "m.onnx").session("decoder")
        if isinstance(error.value, ModelFileError):
            refused += 1
        else:
            assert name in ACCEPTED_BY_THE_READER
    assert refused >= least
    assert set(opened) == {str(tmp_path / "m.onnx")}


ACCEPTED_BY_THE_READER = {
    "wrong inner sizes",
    "a shape that lies",
    "NaN",
    "NaN weights",
    "infinity",
}


def main() -> None:
    """Print time and memory of each group, and with `-v` each case."""
    import shutil
    import sys
    import tempfile

    from support.forked import Server

    root = Path(tempfile.mkdtemp())
    server = Server(root)
    print(f"{'group':<28}{'cases':>6}{'failed':>8}{'worst s':>9}{'worst MiB':>11}")
    for group, cases in CATALOGUE.items():
        ends, failed = [], 0
        for name, case in cases.items():
            folder = root / "case"
            folder.mkdir()
            done, new = run(server, case, folder)
            try:
                check(done, new, case)
            except AssertionError as error:
                failed += 1
                print(f"  {name}: {str(error).splitlines()[0] if str(error) else 'failed'} {new or ''} {done}")
            if "-v" in sys.argv:
                print(f"  {name}: {done.code} {done.stderr.decode(errors='replace').strip()}")
            ends.append(done)
            shutil.rmtree(folder)
        slowest, largest = max(done.seconds for done in ends), max(done.peak for done in ends)
        print(f"{group:<28}{len(cases):>6}{failed:>8}{slowest:>9.2f}{largest / MIB:>11.0f}")
    server.close()
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
