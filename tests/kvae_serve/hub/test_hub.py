"""Downloads and uploads of models, with huggingface_hub against a local server with the hub's routes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub")

from click.testing import CliRunner

import kvae_serve
from kvae_serve.cli.commands.models import models
from kvae_serve.cli.commands.pull import pull
from kvae_serve.cli.commands.push import push
from kvae_serve.errors import MissingExtraError, ModelFileError, OutputError, RequestError, VerificationError
from kvae_serve.hub import address, download
from kvae_serve.model import load
from kvae_serve.runtime.locate import shipped
from support.fake_hub import FakeHub, fake_hub, git_hash, stall

REPO = "ana/digits"
ADDRESS = f"hf://{REPO}"
TOKEN = "hf_secret"


def model_files(name: str = "mnist-vae") -> dict[str, bytes]:
    """Return the files that a download fetches: three graphs and config.json."""
    folder = Path(shipped()[name])
    files = {path.name: path.read_bytes() for path in sorted(folder.glob("*.onnx"))}
    return {**files, "config.json": json.dumps({"model_id": load(name).manifest.model_id}).encode()}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Run a hub, at which huggingface_hub points from its import on."""
    home = tmp_path_factory.mktemp("home")
    with fake_hub() as hub, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(home))
        patch.setenv("HF_ENDPOINT", hub.url)
        patch.setenv("HF_TOKEN", TOKEN)
        for name in ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_PROGRESS_BARS"):  # as kvae does before its import
            patch.setenv(name, "1")
        for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY"):
            patch.delenv(name, raising=False)
        from huggingface_hub import constants

        assert hub.url == constants.ENDPOINT
        yield hub


@pytest.fixture
def hub(server, monkeypatch) -> FakeHub:
    """Return an empty hub and empty the cache."""
    from huggingface_hub import constants

    shutil.rmtree(constants.HF_HUB_CACHE, ignore_errors=True)
    for state in (server.commits, server.branches, server.lfs, server.requests, server.stated, server.private):
        state.clear()
    server.intercept = None
    monkeypatch.setattr(download, "_TIMEOUT", 2.0)
    return server


@pytest.fixture
def offline(monkeypatch):
    """Return a function that sets HF_HUB_OFFLINE."""
    from huggingface_hub import constants

    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def cached_files() -> list[Path]:
    """Return all contents in the cache, except for empty ones and lock files."""
    from huggingface_hub import constants

    return [path for path in Path(constants.HF_HUB_CACHE).rglob("*") if path.is_file() and path.suffix == ".onnx"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hf://ana/digits", ("ana/digits", "main", "")),
        ("hf://ana/digits@v1", ("ana/digits", "v1", "")),
        ("hf://ana/zoo@refs%2Fpr%2F1/faces/small", ("ana/zoo", "refs/pr/1", "faces/small")),
        ("hf://ana/digits/", ("ana/digits", "main", "")),
    ],
)
def test_address_has_repository_revision_and_folder(text, parts):
    assert tuple(address.parse(text)) == parts
    assert address.parse(str(address.parse(text))) == address.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "hf://",
        "hf://digits",
        "hf://ana/../x",
        "hf://ana/d/..",
        "hf://ana/d@/f",
        "hf://ana/d@a b",
        "hf:///a/b",
        "hf://a/b\n",
    ],
)
def test_other_texts_are_rejected(text):
    with pytest.raises(RequestError, match="is not an address"):
        address.parse(text)


def test_model_of_the_hub_is_the_model_that_was_uploaded(hub, capsys):
    commit = hub.commit(REPO, {**model_files(), "README.md": b"x", "train.py": b"x"})
    draws = kvae_serve.model.load(ADDRESS).sample(2, seed=5).x
    assert (draws == load("mnist-vae").sample(2, seed=5).x).all()
    assert f"Downloaded {ADDRESS}@{commit}." in capsys.readouterr().err
    fetched = {path.rpartition("/")[2] for path in hub.paths("GET") if "/resolve/" in path}
    assert fetched == {"encoder.onnx", "decoder.onnx", "likelihood.onnx", "config.json"}


def test_second_use_downloads_nothing_and_prints_nothing(hub, capsys):
    hub.commit(REPO, model_files())
    load(ADDRESS)
    hub.requests.clear()
    capsys.readouterr()
    load(ADDRESS)
    assert not [path for path in hub.paths("GET") if "/resolve/" in path]
    assert capsys.readouterr().err == ""


def test_pinned_commit_in_the_cache_needs_no_connection(hub):
    commit = hub.commit(REPO, model_files())
    load(ADDRESS)
    hub.requests.clear()
    assert load(f"{ADDRESS}@{commit}").manifest.name == "mnist-vae"
    assert hub.requests == []


def test_moved_branch_gives_the_new_model_and_the_pinned_commit_the_old_one(hub):
    old = hub.commit(REPO, model_files("mnist-vae"))
    assert load(ADDRESS).manifest.name == "mnist-vae"
    hub.commit(REPO, model_files("mnist"))
    assert load(ADDRESS).manifest.name == "mnist"
    assert load(f"{ADDRESS}@{old}").manifest.name == "mnist-vae"


def test_folder_of_a_repository_is_a_model(hub):
    files = model_files()
    hub.commit("ana/zoo", {f"small/{name}": data for name, data in files.items()})
    assert load("hf://ana/zoo/small").manifest.name == "mnist-vae"
    with pytest.raises(ModelFileError, match=r"expected config\.json and at least one graph"):
        load("hf://ana/zoo")


def test_cache_is_used_offline(hub, offline, capsys):
    commit = hub.commit(REPO, model_files())
    load(ADDRESS)
    offline()
    assert load(ADDRESS).manifest.name == "mnist-vae"
    assert f"using {ADDRESS}@{commit} from the cache" in capsys.readouterr().err
    with pytest.raises(ModelFileError, match="HF_HUB_OFFLINE is set, and the model is not in the cache"):
        load("hf://ana/other")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_cache_is_used_if_the_hub_fails(hub, status, capsys):
    hub.commit(REPO, model_files())
    load(ADDRESS)
    hub.intercept = lambda handler: handler.answer(status) is None
    assert load(ADDRESS).manifest.name == "mnist-vae"
    assert "from the cache" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "Set HF_TOKEN"),
        (403, "the hub answered 403"),
        (429, "Wait"),
        (500, "the hub answered 500"),
    ],
)
def test_answer_of_the_hub_is_one_line(hub, status, message):
    hub.intercept = lambda handler: handler.answer(status) is None
    with pytest.raises(ModelFileError, match=message) as raised:
        load(ADDRESS)
    assert len(str(raised.value)) <= 200
    assert "\n" not in str(raised.value)


def test_missing_repository_revision_and_model_are_distinguished(hub):
    hub.commit(REPO, model_files())
    with pytest.raises(ModelFileError, match="does not exist or is private"):
        load("hf://ana/nothing")
    with pytest.raises(ModelFileError, match="revision v9 does not exist"):
        load(f"{ADDRESS}@v9")
    with pytest.raises(ModelFileError, match="is not a model of kvae"):
        load(f"{ADDRESS}/nothing")


def test_repository_that_was_deleted_is_not_served_from_the_cache(hub):
    hub.commit(REPO, model_files())
    load(ADDRESS)
    hub.commits.clear()
    with pytest.raises(ModelFileError, match="does not exist or is private"):
        load(ADDRESS)


def test_slow_hub_ends_in_an_error(hub, monkeypatch):
    monkeypatch.setattr(download, "_TIMEOUT", 0.2)
    hub.intercept = stall(1.0)
    with pytest.raises(ModelFileError, match=r"Timeout|timed out"):
        load(ADDRESS)


def damaged(files: dict[str, bytes]) -> dict[str, bytes]:
    """Flip one bit of the decoder."""
    data = bytearray(files["decoder.onnx"])
    data[len(data) // 2] ^= 1
    return {**files, "decoder.onnx": bytes(data)}


def test_broken_seal_is_rejected_and_nothing_is_kept(hub):
    hub.commit(REPO, damaged(model_files()))
    with pytest.raises(ModelFileError, match=r"decoder\.onnx"):
        load(ADDRESS)
    assert cached_files() == []


def test_two_models_in_one_repository_are_rejected(hub):
    hub.commit(REPO, {**model_files(), "decoder.onnx": model_files("mnist")["decoder.onnx"]})
    with pytest.raises(ModelFileError, match="The files are of two exports"):
        load(ADDRESS)
    assert cached_files() == []


def test_hash_other_than_the_stated_one_is_rejected(hub):
    hub.commit(REPO, model_files())
    size = len(model_files()["decoder.onnx"])
    hub.stated["decoder.onnx"] = {"lfs": {"size": size, "sha256": "0" * 64, "pointerSize": 130}}
    with pytest.raises(ModelFileError, match=r"decoder\.onnx .* is damaged"):
        load(ADDRESS)
    assert cached_files() == []


def test_hash_of_a_small_file_is_the_one_of_git(hub, tmp_path):
    content = tmp_path / "config.json"
    content.write_bytes(b"{}")
    expected = subprocess.run(["git", "hash-object", str(content)], capture_output=True, text=True, check=False)
    assert git_hash(b"{}") == (expected.stdout.strip() or "9e26dfeeb6e641a33dae4961196235bdb965b21b")
    hub.commit(REPO, model_files())
    hub.stated["config.json"] = {"blobId": "0" * 40}
    with pytest.raises(ModelFileError, match=r"config\.json .* is damaged"):
        load(ADDRESS)


def test_truncated_body_is_rejected(hub):
    hub.commit(REPO, model_files())

    def truncate(handler):
        if handler.command == "GET" and handler.path.endswith("decoder.onnx"):
            data = model_files()["decoder.onnx"]
            handler.answer(200, data[: len(data) // 2], {"X-Repo-Commit": hub.branches[REPO]["main"], "ETag": '"x"'})
            return True
        return False

    hub.intercept = truncate
    with pytest.raises(ModelFileError):
        load(ADDRESS)
    hub.intercept = None
    assert load(ADDRESS).manifest.name == "mnist-vae"


def test_size_is_limited_before_the_download(hub, monkeypatch):
    monkeypatch.setenv("KVAE_MAX_FILE", "1")
    hub.commit(REPO, {**model_files(), "encoder.onnx": bytes(2**20 + 1)})
    with pytest.raises(ModelFileError, match=r"encoder\.onnx .* has 1048577 bytes; at most 1048576 are allowed"):
        load(ADDRESS)
    assert not [path for path in hub.paths("GET") if "/resolve/" in path]


def test_body_without_end_is_cut_off(hub, monkeypatch):
    monkeypatch.setenv("KVAE_MAX_FILE", "1")
    hub.commit(REPO, model_files())
    sent = []

    def endless(handler):
        if not (handler.command in ("HEAD", "GET") and handler.path.endswith("encoder.onnx")):
            return False
        handler.send_response(200)
        etag = hashlib.sha256(model_files()["encoder.onnx"]).hexdigest()
        for key, value in {"X-Repo-Commit": hub.branches[REPO]["main"], "ETag": f'"{etag}"'}.items():
            handler.send_header(key, value)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        if handler.command == "GET":
            chunk = b"100000\r\n" + bytes(2**20) + b"\r\n"
            while len(sent) < 200:
                handler.wfile.write(chunk)
                sent.append(len(chunk))
        else:
            handler.wfile.write(b"0\r\n\r\n")
        return True

    hub.intercept = endless
    with pytest.raises(ModelFileError):
        load(ADDRESS)
    assert len(sent) < 100
    assert cached_files() == []


def test_names_with_two_points_are_never_fetched(hub, tmp_path):
    hub.commit(REPO, {**model_files(), "../../evil.onnx": b"x", "/etc/evil": b"x"})
    load(ADDRESS)
    assert not [path for method, path, _ in hub.requests if "evil" in path]


def test_token_stays_with_the_hub_on_a_redirect_to_another_host(hub):
    commit = hub.commit(REPO, model_files())
    with fake_hub() as other:
        other.commits, other.branches = hub.commits, hub.branches
        elsewhere = other.url.replace("127.0.0.1", "localhost")

        def redirect(handler):
            if handler.command in ("GET", "HEAD") and handler.path.endswith("decoder.onnx"):
                data = model_files()["decoder.onnx"]
                headers = {
                    "Location": elsewhere + handler.path, "X-Repo-Commit": commit, "X-Linked-Size": str(len(data)),
                    "X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"',
                }  # fmt: skip
                handler.answer(302, b"", headers)
                return True
            return False

        hub.intercept = redirect
        assert load(ADDRESS).manifest.name == "mnist-vae"
        assert {token for _, _, token in hub.requests} == {f"Bearer {TOKEN}"}
        assert other.requests
        assert {token for _, _, token in other.requests} == {None}


def kvae(*arguments: str) -> subprocess.Popen:
    """Start a command of the light package in a process."""
    code = "from kvae_serve.cli.main import run; import sys; from kvae_serve.cli.commands_table import COMMANDS;"
    code += "sys.exit(run(sys.argv[1:], COMMANDS))"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip


@pytest.mark.long
def test_two_processes_may_download_at_once(hub):
    hub.commit(REPO, model_files())
    hub.intercept = stall(0.05)
    both = [kvae("verify", "-m", ADDRESS) for _ in range(2)]
    results = [(*each.communicate(timeout=60), each.returncode) for each in both]
    assert [code for *_, code in results] == [0, 0], results


@pytest.mark.long
def test_killed_download_is_repeated(hub):
    hub.commit(REPO, model_files())
    reached = []

    def hang(handler):
        if handler.command == "GET" and handler.path.endswith("likelihood.onnx") and not reached:
            reached.append(1)
            time.sleep(60)
        return False

    hub.intercept = hang
    process = kvae("verify", "-m", ADDRESS)
    deadline = time.monotonic() + 60
    while not reached and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert load(ADDRESS).verify()
    assert load(ADDRESS).graphs == ("encoder", "decoder", "likelihood")


def test_bare_names_never_reach_the_network(hub):
    load("mnist")
    with pytest.raises(ModelFileError, match="does not exist"):
        load("digits")
    assert hub.requests == []


def test_missing_library_is_exit_code_3(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'kvae-onnx\[hub\]'"):
        load(ADDRESS)


def test_upload_can_be_used_by_its_address(hub, tmp_path):
    result = CliRunner().invoke(push, [shipped()["mnist"], f"{ADDRESS}/v1", "--license", "cc-by-sa-3.0", "--private"])
    assert result.exit_code == 0, result.output
    pinned = result.output.strip()
    commit = hub.branches[REPO]["main"]
    assert pinned == f"hf://{REPO}@{commit}/v1"
    assert REPO in hub.private
    assert {f"v1/{name}" for name in (*model_files("mnist"), "README.md", "config.toml", "preview.png")} <= set(
        hub.commits[REPO][commit]
    )
    assert load(pinned).manifest == load("mnist").manifest
    out = tmp_path / "pulled"
    result = CliRunner().invoke(pull, [pinned, "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == [
        "config.json",
        "decoder.onnx",
        "encoder.onnx",
        "likelihood.onnx",
    ]
    assert (out / "decoder.onnx").read_bytes() == Path(shipped()["mnist"], "decoder.onnx").read_bytes()


def test_card_states_library_license_and_measured_figures(hub):
    yaml = pytest.importorskip("yaml")
    result = CliRunner().invoke(push, [shipped()["mnist-vae"], ADDRESS, "--license", "mit", "--revision", "next"])
    assert result.exit_code == 0, result.output
    card = hub.commits[REPO][hub.branches[REPO]["next"]]["README.md"].decode()
    metadata = yaml.safe_load(card.split("---")[1])
    assert (metadata["library_name"], metadata["license"], metadata["datasets"]) == ("kvae", "mit", ["mnist"])
    assert metadata["pipeline_tag"] == "unconditional-image-generation"
    metrics = metadata["model-index"][0]["results"][0]["metrics"]
    validation = load("mnist-vae").manifest.raw["training"]["validation"]
    assert {"type": "elbo", "value": validation["elbo"]}.items() <= metrics[0].items()
    assert f"n = {validation['examples']}" in metrics[0]["name"]
    assert card.count("# mnist-vae") == 1


def test_dry_run_uploads_nothing(hub):
    result = CliRunner().invoke(push, [shipped()["mnist"], ADDRESS, "--license", "mit", "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "decoder.onnx" in result.output
    assert "license: mit" in result.output
    assert hub.requests == []


def test_upload_needs_a_license_and_a_verified_folder(hub, monkeypatch):
    folder = shipped()["mnist"]
    result = CliRunner().invoke(push, [folder, ADDRESS])
    assert isinstance(result.exception, RequestError)
    result = CliRunner().invoke(push, [f"{folder}/decoder.onnx", ADDRESS, "--license", "mit"])
    assert isinstance(result.exception, ModelFileError)
    check = load("mnist").verify()[0]._replace(ok=False)
    monkeypatch.setattr(kvae_serve.model.Model, "verify", lambda self: [check])
    result = CliRunner().invoke(push, [folder, ADDRESS, "--license", "mit"])
    assert isinstance(result.exception, VerificationError)
    assert hub.requests == []


def test_refused_upload_is_an_output_error(hub):
    hub.intercept = lambda handler: handler.answer(403) is None
    result = CliRunner().invoke(push, [shipped()["mnist-vae"], ADDRESS, "--license", "mit"])
    assert isinstance(result.exception, OutputError)
    assert "403" in str(result.exception)


def test_cached_models_are_listed_and_removed(hub):
    assert CliRunner().invoke(models, ["--cached", "--json"]).output.strip() == "[]"
    commit = hub.commit(REPO, model_files())
    load(ADDRESS)
    listed = json.loads(CliRunner().invoke(models, ["--cached", "--json"]).output)
    assert [model["address"] for model in listed] == [f"{ADDRESS}@{commit}"]
    assert listed[0]["bytes"] == sum(map(len, model_files().values()))
    assert CliRunner().invoke(models, ["--remove", ADDRESS]).exit_code == 0
    assert CliRunner().invoke(models, ["--cached", "--json"]).output.strip() == "[]"
    result = CliRunner().invoke(models, ["--remove", ADDRESS])
    assert isinstance(result.exception, OutputError)
