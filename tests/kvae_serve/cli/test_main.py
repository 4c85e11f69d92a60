"""The command `kvae` in its own process: output, errors and exit codes."""

from __future__ import annotations

import ast
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest

import kvae_serve
from kvae.__main__ import COMMANDS, run
from kvae_serve.cli import main, termination
from kvae_serve.sealed import noise
from support import make_tiny_models
from support.paths import python_path
from support.tiny import assert_refused, names, resealed

PACKAGE = Path(kvae_serve.__file__).parent


def test_help_lists_the_commands_and_imports_nothing_heavy(command_environment):
    code = (
        "import sys; from kvae.__main__ import run; code = run(['--help'])\n"
        "heavy = ('numpy', 'onnxruntime', 'PIL', 'json', 'kvae.training', 'kvae_export')\n"
        "print(code, [name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=command_environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 []"
    for name in ("sample", "info", "verify", "models", "train", "export"):
        assert f"\n  {name} " in done.stdout


def test_help_of_light_commands_does_not_import_numpy(command_environment):
    code = (
        "import sys; from kvae.__main__ import run\n"
        "codes = [run([name, '--help']) for name in ('sample', 'info', 'verify', 'models')]\n"
        "print(codes, 'numpy' in sys.modules, 'onnxruntime' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=command_environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[0, 0, 0, 0] False False"


def test_version_is_printed_and_no_arguments_print_the_help(kvae):
    assert kvae("--version").stdout == f"kvae, version {kvae_serve.__version__}\n"
    done = kvae()
    assert done.returncode == 0
    assert "Usage: kvae" in done.stdout


def test_sample_shows_images_as_text(kvae, tiny):
    done = kvae("sample", "-m", tiny / "conditional", "--label", "cat", "--seed", 1, "-n", 1)
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert len(done.stdout.splitlines()) == 4
    assert done.stderr == "1 image of conditional, seed 1\n"
    assert kvae("sample", "-m", tiny / "conditional", "--label", "cat", "--seed", 1, "-n", 1).stdout == done.stdout


def test_sample_matches_the_decoder_formula(kvae, tiny, tmp_path):
    done = kvae("sample", "-m", tiny / "conditional", "--label", "0", "-n", 3, "--seed", 7, "--start", 2, "-o", "a.npz")
    assert (done.returncode, done.stdout) == (0, "")
    z, _ = noise.latent_noise(7, 2, 3, 3)
    with np.load(tmp_path / "a.npz") as found:
        assert (found["z"] == z).all()
        assert found["label"].tolist() == [2, 2, 2]
        np.testing.assert_allclose(
            found["x"], make_tiny_models.decode(z, found["label"])["x_mean"], rtol=1e-4, atol=1e-3
        )


def test_default_is_one_sample_per_class_or_sixteen_without_classes(kvae, tiny):
    done = kvae("sample", "-m", tiny / "conditional", "--json", "--seed", 0)
    assert json.loads(done.stdout)["conditions"] == {"label": ["cat", "dog", "0"]}
    assert json.loads(done.stdout)["rows"] == 3
    assert json.loads(kvae("sample", "-m", tiny / "unconditional", "--json").stdout)["rows"] == 16
    assert json.loads(kvae("sample", "-m", tiny / "conditional", "--label", "cat", "--json").stdout)["rows"] == 16


def test_reported_seed_repeats_the_sample(kvae, tiny, tmp_path):
    done = kvae("sample", "-m", tiny / "unconditional", "-o", "a.npy")
    seed = done.stderr.split()[-1]
    kvae("sample", "-m", tiny / "unconditional", "-o", "b.npy", "--seed", seed)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_stdout_carries_only_npy_bytes(tiny, tmp_path, command_environment):
    done = subprocess.run(
        [sys.executable, "-m", "kvae", "sample", "-m", str(tiny / "unconditional"), "-o", "-", "-n", "5"],
        env=command_environment, cwd=tmp_path, capture_output=True, check=True,
    )  # fmt: skip
    assert np.load(io.BytesIO(done.stdout)).shape == (5, 8, 6, 1)


def test_sample_writes_every_format(kvae, tiny, tmp_path):
    for path in ("a.png", "a.npz", "a.npy", "folder", "slash/"):
        done = kvae("sample", "-m", tiny / "conditional", "-o", path, "-q", "--draw", "--dtype", "uint8")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert names(tmp_path) == ["a.npy", "a.npz", "a.png", "folder", "slash"]
    assert len(names(tmp_path / "folder")) == 3


def test_model_may_be_set_by_environment_or_be_a_link_to_a_file(kvae, tiny, tmp_path):
    assert kvae("sample", KVAE_MODEL=str(tiny / "unconditional")).returncode == 0
    (tmp_path / "link.onnx").symlink_to(tiny / "conditional" / "decoder.onnx")
    assert kvae("sample", "-m", "link.onnx").returncode == 0


SAMPLE_REFUSED = [
    (["--label", "cow"], 2, ["cat, dog, 0"]),
    (["--label", "cats"], 2, ["Did you mean cat?"]),
    (["--label", "3"], 2, ["an index from 0 to 2"]),
    (["--label", "cat,dog"], 2, ["--label cat --label dog"]),
    (["3"], 2, ["Did you mean --label 3?"]),
    (["empty"], 2, ["Did you mean -m empty?"]),
    (["-m", "run"], 5, ["It is a run: kvae export run -o FOLDER"]),
    (["--label", "-1"], 2, ["cat, dog, 0"]),
    (["--label", ""], 2, ["cat, dog, 0"]),
    (["--condition", "hair=red"], 2, ["its conditions are label"]),
    (["--condition", "label"], 2, ["NAME=VALUE"]),
    (["-n", "0"], 2, ["x>=1"]),
    (["-n", "x"], 2, ["not a valid integer"]),
    (["-n", "999999999999"], 2, ["more than most programs can open"]),
    (["--seed", "-1"], 2, ["2**64 - 1"]),
    (["--seed", "18446744073709551616"], 2, ["2**64 - 1"]),
    (["--temperature", "nan"], 2, ["at least 0"]),
    (["--temperature", "-1"], 2, ["at least 0"]),
    (["--batch-size", "0"], 2, ["x>=1"]),
    (["--nonsense"], 2, ["No such option"]),
    (["-o", "a.jpg"], 2, [".png, .npz, .npy, .csv, .parquet or .html"]),
    (["-o", "exists.png"], 7, ["exists already", "--force"]),
    (["-o", "full"], 7, ["exists already"]),
    (["-o", "none/a.png"], 7, ["does not exist"]),
    (["-o", "exists.png/a.png"], 7, ["cannot be written"]),
    (["-m", "missing"], 5, ["does not exist"]),
    (["-m", "./missing.onnx"], 5, ["does not exist"]),
    (["-m", "empty"], 5, ["is not a model"]),
    (["-m", "exists.png"], 5, ["not end in a seal"]),
    (["-m", "flipped"], 5, ["damaged"]),
    (["-m", "cut"], 5, ["truncated"]),
    (["-m", "fifo.onnx"], 5, ["not a regular file"]),
    (["-m", "bad\nname\x1b[31m"], 5, ["does not exist"]),
]


@pytest.mark.parametrize(("arguments", "code", "words"), SAMPLE_REFUSED, ids=lambda value: repr(value)[:40])
def test_bad_request_fails_with_its_code_and_writes_nothing(kvae, tiny, tmp_path, arguments, code, words):
    (tmp_path / "exists.png").write_bytes(b"old" * 100)
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").touch()
    good = (tiny / "conditional" / "decoder.onnx").read_bytes()
    for name, data in (("flipped", good[:700] + bytes([good[700] ^ 4]) + good[701:]), ("cut", good[:-700])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "decoder.onnx").write_bytes(data)
    os.mkfifo(tmp_path / "fifo.onnx")
    before = names(tmp_path)
    model = [] if "-m" in arguments else ["-m", tiny / "conditional"]
    output = [] if "-o" in arguments else ["-o", "new.png"]
    assert_refused(kvae("sample", *model, *output, *arguments), code, *words)
    assert names(tmp_path) == before
    assert (tmp_path / "exists.png").read_bytes() == b"old" * 100


def test_label_for_an_unconditional_model_is_rejected(kvae, tiny):
    assert_refused(kvae("sample", "-m", tiny / "unconditional", "--label", 3), 2, "unconditional")


def test_decoder_with_a_learned_prior_needs_the_prior_file(kvae, tiny):
    done = kvae("sample", "-m", tiny / "gaussian_prior" / "decoder.onnx")
    assert_refused(done, 5, "prior.onnx")
    assert kvae("sample", "-m", tiny / "gaussian_prior").returncode == 0


@pytest.mark.parametrize(
    ("command", "former", "present"),
    [("score", "--samples", "--num-samples"), ("evaluate", "--limit", "-n"),
     ("evaluate", "--importance-samples", "--num-samples"), ("evaluate", "--samples", "--sample-metrics")],
)  # fmt: skip
def test_former_option_name_works_but_is_not_in_the_help(command, former, present):
    click_command = COMMANDS[command].load()
    arguments = ["--data", "x"] if command == "evaluate" else ["x"]
    params = [click_command.make_context(command, [*arguments, each, "7"]).params for each in (former, present)]
    assert params[0] == params[1]
    help_text = click_command.get_help(click.Context(click_command))
    assert present in help_text
    assert f"{former} " not in help_text


def test_many_images_on_a_terminal_are_rejected(tiny, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    errors = []
    monkeypatch.setattr("kvae_serve.cli.main._print_error", errors.append)
    assert run(["sample", "-m", str(tiny / "unconditional"), "-n", "101"]) == 2
    assert "101 images do not fit on a terminal" in errors[0]
    assert "-o FILE.png" in errors[0]


def test_force_replaces_the_output(kvae, tiny, tmp_path):
    (tmp_path / "a.png").write_bytes(b"old")
    assert kvae("sample", "-m", tiny / "conditional", "-o", "a.png", "--force").returncode == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "meant"), [("sampel", "sample"), ("generate", "sample"), ("list", "models"), ("test", "evaluate")]
)
def test_unknown_command_suggests_the_nearest_or_a_synonym(kvae, name, meant):
    assert_refused(kvae(name), 2, f"Did you mean {meant}?")


def test_unknown_option_is_rejected(kvae):
    assert_refused(kvae("--frobnicate"), 2, "No such option")


def test_errors_are_json_with_the_option_json(kvae, tiny):
    for arguments, code in ((["--label", "cow"], 2), (["-n", "0"], 2), (["-m", "missing"], 5), (["-o", "-"], 2)):
        done = kvae("sample", "-m", tiny / "conditional", "--json", *arguments)
        assert (done.returncode, done.stdout) == (code, "")
        error = json.loads(done.stderr)["error"]
        assert error["exit_code"] == code
        assert error["message"]


def test_info_shows_metadata_as_text_and_json(kvae, tiny):
    done = kvae("info", "-m", tiny / "conditional")
    assert done.returncode == 0
    for words in (
        "conditional-vae with 3 latent",
        "8 x 6 x 1, 0 to 255",
        '"cat", "dog", "0"',
        "bernoulli",
        "encoder",
        "likelihood",
    ):
        assert words in done.stdout
    document = json.loads(kvae("info", "-m", tiny / "conditional", "--json").stdout)
    assert document["manifest"]["conditions"][0]["classes"] == ["cat", "dog", "0"]
    assert [file["graph"] for file in document["files"]] == ["encoder", "decoder", "likelihood"]
    assert document["files"][1]["bytes"] == (tiny / "conditional" / "decoder.onnx").stat().st_size
    assert_refused(kvae("info", "-m", "missing"), 5)


def test_verify_passes_or_fails_with_exit_code_6(kvae, tiny, tmp_path):
    from kvae_serve.model import load

    done = kvae("verify", "-m", tiny / "mixture_prior")
    assert (done.returncode, done.stdout.count(" ok "), done.stderr) == (0, 3, "")

    def change(manifest):
        manifest["golden"]["outputs"]["x_mean"]["values"][0] += 5

    (tmp_path / "decoder.onnx").write_bytes(resealed(tiny / "conditional" / "decoder.onnx", change))
    done = kvae("verify", "-m", "decoder.onnx", "--json")
    assert done.returncode == 6
    document = json.loads(done.stdout)
    assert document["ok"] is False
    assert (document["model"], document["model_id"]) == ("conditional", load(tiny / "conditional").manifest.model_id)
    (check,) = document["checks"]
    assert (check["graph"], check["output"], check["ok"]) == ("decoder", "x_mean", False)
    assert check["difference"] == pytest.approx(5, abs=0.03)
    assert check["allowed"] == pytest.approx(0.0255)
    error = json.loads(done.stderr)["error"]
    assert error["exit_code"] == 6
    assert error["message"].startswith("x_mean of decoder.onnx differs from its reference by ")
    assert "at most 0.0255 is allowed" in error["message"]


def test_every_listed_model_opens(kvae):
    done = kvae("models", "--json")
    assert done.returncode == 0
    for model in json.loads(done.stdout):
        assert kvae("info", "-m", model["name"]).returncode == 0


def test_train_without_its_packages_names_the_extra(kvae, tmp_path):
    for package in ("tensorflow", "keras", "tf2onnx", "onnx", "tomli_w"):
        (tmp_path / f"{package}.py").write_text(
            f"raise ModuleNotFoundError('No module named {package}', name='{package}')"
        )
    with gzip.open(tmp_path / "train-images-idx3-ubyte.gz", "wb") as file:
        file.write(bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2]) + bytes(range(8)))
    with gzip.open(tmp_path / "train-labels-idx1-ubyte.gz", "wb") as file:
        file.write(bytes([0, 0, 8, 1, 0, 0, 0, 2]) + bytes(2))
    path = os.pathsep.join([str(tmp_path), python_path()])
    done = kvae("train", "-q", "--data", ".", "--validation", 0, "-o", "run", PYTHONPATH=path, PYTHONWARNINGS="")
    assert_refused(done, 3, "pip install 'kvae-onnx[train]'")
    assert not (tmp_path / "run").exists()


def test_first_ten_problems_of_the_data_are_printed_in_full(tmp_path, capsys):
    names = [f"{'a' * 40}{number:02d}" for number in range(12)]
    rows = [",".join(["x"] * 12), *(",".join([str(number)] * 12) for number in range(9))]
    (tmp_path / "a.csv").write_text("\n".join([",".join(names), *rows]))
    assert run(["train", "--data", str(tmp_path / "a.csv"), "--dry-run"]) == 4
    [line] = capsys.readouterr().err.splitlines()
    assert [f"column {name} contains x" in line for name in names] == [True] * 10 + [False] * 2
    assert "a.csv has 12 columns that cannot be read: " in line
    assert "; and 2 more. Leave them out with --drop-columns " in line
    assert len(line) > 1000


def test_unexpected_error_is_one_line_and_a_traceback_with_kvae_debug(monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("strange\n\x1b[31m")

    monkeypatch.setattr("kvae_serve.cli.main._invoke", fail)
    monkeypatch.delenv("KVAE_DEBUG", raising=False)
    assert run(["sample"]) == 1
    line = capsys.readouterr().err
    assert line.startswith("Error: This is a bug of kvae (RuntimeError: strange")
    assert line[:-1].isprintable()
    monkeypatch.setenv("KVAE_DEBUG", "1")
    assert run(["sample"]) == 1
    assert "Traceback" in capsys.readouterr().err


def start(arguments: list[object], tmp_path: Path, environment: dict[str, str], **rest) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "kvae", *map(str, arguments)]
    return subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, **rest)


@pytest.mark.parametrize("wait", [0.2, 1.0])
def test_ctrl_c_exits_with_130_and_writes_nothing(tiny, tmp_path, command_environment, wait):
    arguments = ["sample", "-m", tiny / "unconditional", "-n", 2_000_000, "--batch-size", 2, "-o", "a.npz"]
    process = start(arguments, tmp_path, command_environment)
    time.sleep(wait)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (130, b"Error: Interrupted.\n")
    assert names(tmp_path) == []


def wait_for(tmp_path, pattern, num=1):
    end = time.monotonic() + 60
    while sum(1 for _ in tmp_path.glob(pattern)) < num:
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("output", ["a.npz", pytest.param("a.npy", marks=pytest.mark.long)])
def test_termination_removes_the_temporary_file(tiny, tmp_path, command_environment, number, code, output):
    arguments = ["sample", "-m", tiny / "unconditional", "-n", 2_000_000, "--batch-size", 2, "-o", output]
    process = start(arguments, tmp_path, command_environment)
    wait_for(tmp_path, ".*.tmp")
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (code, b"Error: Terminated.\n")
    assert names(tmp_path) == []


def test_two_signals_at_once_do_not_interrupt_the_removal_of_temporary_files(tiny, tmp_path, command_environment):
    arguments = ["sample", "-m", tiny / "conditional", "--label", "cat", "-n", 500_000, "-o", "images"]
    process = start(arguments, tmp_path, command_environment)
    wait_for(tmp_path, ".*.tmp/*", 500)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGHUP)
    _, error = process.communicate(timeout=30)
    assert process.returncode in (143, 129)
    assert error == b"Error: Terminated.\n"
    assert names(tmp_path) == []


def test_signal_that_the_caller_ignores_stays_ignored(tiny, tmp_path, command_environment):
    command = f'trap "" HUP; exec {sys.executable} -m kvae sample -m {tiny / "unconditional"} -n 200000 -o a.npz'
    process = subprocess.Popen(["sh", "-c", command], cwd=tmp_path, env=command_environment, stderr=subprocess.PIPE)
    wait_for(tmp_path, ".*.tmp")
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert names(tmp_path) == ["a.npz"]


def test_closed_pipe_is_not_an_error(tiny, tmp_path, command_environment):
    for output in (["-o", "-", "-n", 5000], ["-n", 5000]):
        arguments = ["sample", "-q", "-m", tiny / "unconditional", *output]
        process = start(arguments, tmp_path, command_environment, stdout=subprocess.PIPE)
        process.stdout.read(1)
        process.stdout.close()
        with process.stderr:
            error = process.stderr.read()
        assert (process.wait(30), error) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("output", [[], ["-o", "-", "-n", 500], ["--json"]])
def test_full_stdout_is_reported(tiny, tmp_path, command_environment, output):
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        process = start(
            ["sample", "-q", "-m", tiny / "unconditional", *output], tmp_path, command_environment, stdout=full
        )
        _, error = process.communicate(timeout=30)
    assert process.returncode == 7
    assert b"No space left" in error
    assert b"Traceback" not in error


def test_closed_streams_and_a_minimal_environment_work(tiny, tmp_path, command_environment):
    command = f'"{sys.executable}" -m kvae sample -m "{tiny / "conditional"}"'
    for redirect, code in (("-o a.png >&-", 0), ("-o b.png 2>&-", 0), (">&-", 7), ("-o c.png >&- 2>&- <&-", 0)):
        done = subprocess.run(
            f"{command} {redirect}", shell=True, cwd=tmp_path, env=command_environment, capture_output=True, check=False
        )
        assert done.returncode == code
        assert b"Traceback" not in done.stderr
    assert names(tmp_path) == ["a.png", "b.png", "c.png"]
    poor = {"PYTHONPATH": command_environment["PYTHONPATH"], "LC_ALL": "C", "PATH": os.environ["PATH"]}
    done = subprocess.run(command, shell=True, cwd=tmp_path, env=poor, capture_output=True, check=True)
    assert len(done.stdout.splitlines()) == 4


def test_terminal_shows_colour_in_its_full_width(tiny, tmp_path, command_environment):
    pty = pytest.importorskip("pty")
    import fcntl
    import struct
    import termios

    for columns, environment in ((40, {}), (40, {"NO_COLOR": "1"})):
        control, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        given = command_environment | {"TERM": "xterm", "COLORTERM": "truecolor", "PYTHONUTF8": "1"} | environment
        given.pop("COLUMNS", None)
        process = start(["sample", "-q", "-m", tiny / "unconditional"], tmp_path, given, stdout=terminal)
        os.close(terminal)
        shown = b""
        try:
            while piece := os.read(control, 65536):
                shown += piece
        except OSError:
            pass  # The other end is closed: all is read.
        assert process.wait(30) == 0
        os.close(control)
        process.stderr.close()
        lines = shown.decode().splitlines()
        if environment:
            assert "\x1b" not in shown.decode()
            assert 30 <= max(map(len, lines)) <= columns
        else:
            assert "\x1b[38;2;" in lines[0]
            assert lines[0].count("▀") == 4 * 6  # Five images of six columns fit; 16 are shown in four equal rows.


def test_sample_needs_less_than_150_mb(tiny, tmp_path, command_environment, peak_memory):
    command = [sys.executable, "-m", "kvae", "sample", "-m", tiny / "conditional", "-o", "a.png"]
    done = peak_memory(command, cwd=tmp_path, env=command_environment)
    assert done.returncode == 0
    assert done.peak < 150e6


def test_version_equals_that_of_the_distribution():
    import importlib.metadata

    try:
        installed = importlib.metadata.version("kvae-onnx")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("kvae-onnx is not installed")
    assert installed == kvae_serve.__version__


def test_kvae_serve_imports_only_its_base_packages():
    # Functions for Parquet files and DataFrames import pyarrow and pandas, which are in the extra `tables`.
    allowed = set(sys.stdlib_module_names) | {"kvae_serve", "numpy", "onnxruntime", "click", "PIL", "pyarrow", "pandas"}
    allowed |= {"huggingface_hub", "orjson", "starlette", "uvicorn"}  # in the extras of the hub and of the server
    allowed |= {"colorama"}  # click depends on it on Windows
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            found = [node.module] if isinstance(node, ast.ImportFrom) else []
            found += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in found:
                assert (name or "").partition(".")[0] in allowed, f"{path} imports {name}"


def test_error_that_a_library_makes_of_a_signal_has_the_code_of_the_signal(monkeypatch, capsys):
    assert main._bug(RuntimeError("callback failed"), False) == 1
    monkeypatch.setattr(termination, "received", int(signal.SIGTERM))
    assert main._bug(RuntimeError("callback failed"), False) == 143
    assert capsys.readouterr().err.splitlines()[-1] == "Error: Terminated."
