"""Files and folders appear complete or not at all, and existing ones are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvae_serve.errors import OutputError
from kvae_serve.writers.atomic import check_target, new_folder, write_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_is_written_from_bytes_or_by_a_function(tmp_path):
    write_whole(tmp_path / "a.bin", b"abc")
    write_whole(tmp_path / "b.bin", lambda file: file.write(b"def"))
    assert (tmp_path / "a.bin").read_bytes() + (tmp_path / "b.bin").read_bytes() == b"abcdef"
    assert names(tmp_path) == ["a.bin", "b.bin"]


def test_relative_path_without_a_folder_is_accepted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_whole("a.bin", b"abc")
    with new_folder("made") as folder:
        (Path(folder) / "inner").write_text("x")
    assert names(tmp_path) == ["a.bin", "made"]


def test_existing_file_is_replaced_only_with_force(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="--force"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    write_whole(path, b"new", force=True)
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a.bin"]


def test_file_created_by_another_process_during_writing_is_kept(tmp_path):
    path = tmp_path / "a.bin"
    with pytest.raises(OutputError, match="exists"):
        write_whole(path, lambda file: path.write_bytes(b"theirs"))
    assert path.read_bytes() == b"theirs"
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("x")])
def test_failure_during_writing_keeps_the_old_file(tmp_path, error):
    def fail(file):
        file.write(b"half")
        raise error

    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    expected = OutputError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        write_whole(path, fail, force=True)
    with pytest.raises(expected):
        write_whole(tmp_path / "b.bin", fail)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_error_of_an_unwritable_file_states_the_reason(tmp_path):
    (tmp_path / "file").touch()
    for path, reason in (
        (tmp_path / "no" / "a.bin", "does not exist"),
        (tmp_path / "file" / "a.bin", "not exist"),
        (tmp_path, "exists"),
    ):
        with pytest.raises(OutputError, match=reason) as error:
            write_whole(path, b"")
        assert error.value.exit_code == 7
    with pytest.raises(OutputError, match="is a folder"):
        write_whole(tmp_path, b"", force=True)
    assert names(tmp_path) == ["file"]


def test_forced_write_through_a_link_replaces_its_target(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(OutputError):
        write_whole(tmp_path / "link", b"new")
    write_whole(tmp_path / "link", b"new", force=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_new_file_has_default_permissions(tmp_path):
    (tmp_path / "usual").touch()
    write_whole(tmp_path / "a.bin", b"")
    assert (tmp_path / "a.bin").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_folder_appears_when_its_block_succeeds(tmp_path):
    with new_folder(tmp_path / "made") as folder:
        assert Path(folder).parent == tmp_path
        (Path(folder) / "a").write_text("a")
        assert not (tmp_path / "made").exists()
    assert names(tmp_path) == ["made"]
    assert names(tmp_path / "made") == ["a"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("x")])
def test_folder_does_not_appear_when_its_block_fails(tmp_path, error):
    expected = OutputError if isinstance(error, OSError) else type(error)

    def fill() -> None:
        with new_folder(tmp_path / "made") as folder:
            (Path(folder) / "a").write_text("a")
            raise error

    with pytest.raises(expected):
        fill()
    assert names(tmp_path) == []


def test_error_about_another_file_keeps_its_type(tmp_path):
    with pytest.raises(FileNotFoundError), new_folder(tmp_path / "made"):
        (tmp_path / "elsewhere").read_text()


def test_empty_folder_is_replaced_and_a_full_one_kept(tmp_path):
    (tmp_path / "made").mkdir()
    with new_folder(tmp_path / "made") as folder:
        (Path(folder) / "a.png").write_text("1")
    with pytest.raises(OutputError, match="--force"), new_folder(tmp_path / "made"):
        raise AssertionError("the block must not run")
    with new_folder(tmp_path / "made", force=True) as folder:
        (Path(folder) / "b.png").write_text("2")
    assert names(tmp_path / "made") == ["b.png"]
    assert names(tmp_path) == ["made"]


@pytest.mark.parametrize("precious", ["thesis.txt", "sub/thesis.png"])
def test_force_keeps_entries_that_the_new_folder_does_not_replace(tmp_path, precious):
    path = tmp_path / "made" / precious
    path.parent.mkdir(parents=True)
    path.write_text("years of work")
    with pytest.raises(OutputError, match="would be lost"), new_folder(tmp_path / "made", force=True) as folder:
        (Path(folder) / "a.png").write_text("1")
    assert path.read_text() == "years of work"
    assert names(tmp_path) == ["made"]


def test_folder_does_not_replace_a_file(tmp_path):
    (tmp_path / "made").touch()
    for force in (False, True):
        with pytest.raises(OutputError), new_folder(tmp_path / "made", force=force):
            pass
    with pytest.raises(OutputError, match="does not exist"), new_folder(tmp_path / "no" / "made"):
        pass
    assert names(tmp_path) == ["made"]


@pytest.mark.parametrize("name", ["no/model", "no/model/"])
def test_missing_folder_is_found_before_long_work(name, tmp_path):
    with pytest.raises(OutputError, match=r"the folder .*no does not exist\. Create it first"):
        check_target(f"{tmp_path}/{name}", force=True)
    check_target(f"{tmp_path}/model/", force=False)
