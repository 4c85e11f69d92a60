"""Every line of the catalogue of hostile inputs, in a process of its own: it ends as it must, and leaves nothing."""

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


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def run(forked, case: hostile_files.Case, folder: Path) -> tuple[Done, set[str]]:
    """Run a case; return how it ended and the names of what is new in its folder."""
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


@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group, cases in CATALOGUE.items() for name in cases], ids=lambda each: each
)
def test_a_hostile_input_ends_in_one_line_and_leaves_nothing(forked, tmp_path, group, name):
    case = CATALOGUE[group][name]
    done, new = run(forked, case, tmp_path)
    check(done, new, case)


def test_onnx_runtime_never_sees_what_the_reader_refuses(tmp_path, monkeypatch):
    def open_session(*_):
        raise AssertionError("ONNX Runtime was asked")

    monkeypatch.setattr(session, "_open", open_session)
    opened = []
    monkeypatch.setattr(os, "open", lambda path, *rest, real=os.open: opened.append(str(path)) or real(path, *rest))
    (tmp_path / "canary").write_bytes(bytes(8))
    groups = (hostile_files.EXTERNAL, hostile_files.STRUCTURE, hostile_bombs.CRASHES, hostile_bombs.OF_STRUCTURE)
    refused = 0
    for name, case in [(name, case) for group in groups for name, case in group.items()]:
        case.prepare(tmp_path)
        with pytest.raises((ModelFileError, AssertionError)) as error:
            load(tmp_path / "m.onnx").session("decoder")
        if isinstance(error.value, ModelFileError):
            refused += 1
        else:
            assert name in KNOWN_TO_ONNX_RUNTIME
    assert refused > 45
    assert set(opened) == {str(tmp_path / "m.onnx")}


KNOWN_TO_ONNX_RUNTIME = {
    "wrong inner sizes",
    "a shape that lies",
    "NaN",
    "NaN weights",
    "infinity",
}


def main() -> None:
    """Print what each group took; `-v` prints each case."""
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
