"""The command in an unusual environment."""

import os
import tempfile
from pathlib import Path

from kvae.__main__ import run


def test_keras_gets_a_folder_if_there_is_no_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "KERAS_HOME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    assert run(["presets"]) == 0
    assert Path(os.environ["KERAS_HOME"]).parent == Path(tempfile.gettempdir())
    assert list(tmp_path.iterdir()) == []
