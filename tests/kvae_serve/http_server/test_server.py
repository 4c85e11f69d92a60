"""The HTTP server: answers equal the command's, limits hold, and no request opens a file or crashes the server."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("orjson")

from kvae_serve.http_server import app, formats, openapi, operations
from kvae_serve.model import Model, load
from kvae_serve.runtime.locate import shipped
from support.http_client import Client, running
from support.tiny import binary_images

NPY, PNG, CSV = ({"Accept": kind} for kind in ("application/x-npy", "image/png", "text/csv"))
CONDITIONAL, TABLE, MIXTURE = "/v1/models/conditional", "/v1/models/linear_table", "/v1/models/mixture_prior"


@pytest.fixture(scope="module")
def paths(tiny):
    return [tiny / name for name in ("conditional", "linear_table", "unconditional", "mixture_prior", "linear_several")]


@pytest.fixture(scope="module")
def client(paths):
    with running(paths) as client:
        yield client


def float32(values) -> np.ndarray:
    return np.array(values, np.float32)


def npy(reply) -> np.ndarray:
    assert reply.status == 200, reply.body
    return np.load(io.BytesIO(reply.body))


def test_sample_has_the_bits_of_the_library_in_json_and_npy(client, tiny):
    want = load(tiny / "conditional").sample(3, label=["dog", "cat"], seed=7, start=2)
    request = {"id": [1, "x"], "label": ["dog", "cat"], "n": 3, "seed": 7, "start": 2}
    answer = client.post(f"{CONDITIONAL}/sample", request).json()
    np.testing.assert_array_equal(float32(answer.pop("x")), want.x)
    conditions = {"label": ["dog", "cat"]}
    assert answer == {"id": [1, "x"], "rows": 6, "n": 3, "conditions": conditions, "seed": 7, "start": 2}
    reply = client.post(f"{CONDITIONAL}/sample", request, NPY)
    np.testing.assert_array_equal(npy(reply), want.x)
    assert reply.headers["kvae-seed"] == "7"


@pytest.mark.parametrize("suffix", ["png", "npy"])
def test_files_equal_those_of_the_command(client, tiny, kvae, tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    done = kvae("sample", "-m", tiny / "conditional", "--label", "dog", "-n", 4, "--seed", 9, "-o", path)
    assert done.returncode == 0, done.stderr
    accept = {"Accept": formats.PNG if suffix == "png" else formats.NPY}
    reply = client.get(f"{CONDITIONAL}/sample?label=dog&n=4&seed=9", accept)
    assert (reply.status, reply.headers["content-type"]) == (200, accept["Accept"])
    assert reply.body == path.read_bytes()


def test_csv_of_a_table_equals_that_of_the_command(client, tiny, kvae, tmp_path):
    path = tmp_path / "rows.csv"
    assert kvae("sample", "-m", tiny / "linear_table", "-n", 5, "--seed", 3, "-o", path).returncode == 0
    reply = client.post(f"{TABLE}/sample", {"n": 5, "seed": 3}, CSV)
    assert reply.body == path.read_bytes()


def test_a_browser_gets_a_picture_for_an_image_element(client):
    accept = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
    assert client.get(f"{CONDITIONAL}/sample?label=dog", {"Accept": accept}).body.startswith(b"\x89PNG")


def test_encode_decode_and_reconstruct_equal_the_library(client, tiny):
    model, x = load(tiny / "conditional"), binary_images(5)
    labels = ["dog", "cat", "dog", "0", "cat"]
    request = {"x": x.tolist(), "label": labels}
    z_mean, z_log_var = model.encode(x, label=labels)
    encoded = client.post(f"{CONDITIONAL}/encode", request).json()
    np.testing.assert_array_equal(float32(encoded["z_mean"]), z_mean)
    np.testing.assert_array_equal(float32(encoded["z_log_var"]), z_log_var)
    drawn = client.post(f"{CONDITIONAL}/encode", request | {"draw": True, "seed": 4}).json()
    np.testing.assert_array_equal(float32(drawn["z"]), model.draw_codes(x, label=labels, seed=4))
    z = {"z": z_mean.tolist(), "label": labels}
    np.testing.assert_array_equal(npy(client.post(f"{CONDITIONAL}/decode", z, NPY)), model.decode(z_mean, label=labels))
    draws = client.post(f"{CONDITIONAL}/decode", z | {"draw": True, "seed": 5}).json()
    np.testing.assert_array_equal(float32(draws["x"]), model.decode(z_mean, label=labels, draw=True, seed=5))
    again = client.post(f"{CONDITIONAL}/reconstruct", request).json()
    np.testing.assert_array_equal(float32(again["x_mean"]), model.reconstruct(x, label=labels))


def test_score_equals_the_library_and_flags_anomalies(client, tiny):
    model, x = load(tiny / "unconditional"), binary_images(3)
    want = model.score(x, num_samples=4, seed=1)
    threshold = float(np.median(want.elbo))
    request = {"x": x.tolist(), "num_samples": 4, "seed": 1, "threshold": threshold}
    answer = client.post("/v1/models/unconditional/score", request).json()
    for name in ("elbo", "reconstruction", "kl"):
        assert answer[name] == getattr(want, name).tolist()
    assert answer["anomaly"] == (want.elbo < threshold).tolist()


def test_uint8_rounds_pixels(client, tiny):
    want = load(tiny / "mixture_prior").sample(2, seed=1)
    reply = client.post(f"{MIXTURE}/sample", {"n": 2, "seed": 1, "dtype": "uint8"}, NPY)
    assert npy(reply).dtype == np.uint8
    np.testing.assert_array_equal(npy(reply), np.rint(want.x))


ROWS = [{"age": 20, "sex": "male", "pay": -3, "debt": 1}, {"age": 31, "sex": "other", "pay": 0.5, "debt": -1}]


def test_rows_of_a_table_may_be_objects_columns_or_numbers(client, tiny):
    columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    want = load(tiny / "linear_table").encode(columns)[0]
    classes = load(tiny / "linear_table").manifest.data.columns[1]["classes"]
    numbers = [[row["age"], classes.index(row["sex"]), row["pay"], row["debt"]] for row in ROWS]
    for x in (ROWS, columns, numbers):
        np.testing.assert_array_equal(float32(client.post(f"{TABLE}/encode", {"x": x}).json()["z_mean"]), want)


def test_samples_given_values_equal_those_of_the_command(client, tiny, kvae, tmp_path):
    path = tmp_path / "a.csv"
    options = ("--given", "age=11.5,sex=male", "-n", 5, "--seed", 3, "--start", 2)
    done = kvae("sample", "-m", tiny / "linear_table", *options, "-o", path, "--json")
    assert done.returncode == 0, done.stderr
    request = {"given": {"age": 11.5, "sex": "male"}, "n": 5, "seed": 3, "start": 2}
    assert client.post(f"{TABLE}/sample", request, CSV).body == path.read_bytes()
    answer = client.post(f"{TABLE}/sample", request | {"records": True}).json()
    assert answer["effective_sample_size"] == json.loads(done.stdout)["effective_sample_size"]
    assert {(each["age"], each["sex"]) for each in answer["records"]} == {(11.5, "male")}
    assert len({each["pay"] for each in answer["records"]}) == 5


def test_imputed_rows_equal_those_of_the_library_and_keep_other_cells(client, tiny):
    model = load(tiny / "linear_table")
    x = np.array([[np.nan, 1, -3, 1], [31, np.nan, 0.5, np.nan]], np.float32)
    want = model.impute(x, seed=4, start=7, num_samples=32)
    request = {"seed": 4, "start": 7, "num_samples": 32}
    answer = client.post(f"{TABLE}/impute", {"x": [[None, 1, -3, 1], [31, None, 0.5, None]], **request}).json()
    np.testing.assert_array_equal(float32(answer.pop("x")), want.x[0])
    np.testing.assert_allclose(answer.pop("effective_sample_size"), want.effective)
    assert answer == {"rows": 2, **request}
    rows = [{"id": "a", "sex": "male", "pay": -3, "debt": 1.0}, {"id": "b", "age": "31", "sex": "?", "pay": 0.5}]
    records = client.post(f"{TABLE}/impute", {"x": rows, "records": True, **request}).json()["records"]
    frame = model.sample(1).to_frame()  # Numbers of this table are written with nine digits.
    classes = model.manifest.data.columns[1]["classes"]
    assert list(records[0]) == [*frame, "id"]
    assert records[0] == rows[0] | {"age": pytest.approx(want.x[0, 0, 0])}
    filled = {"sex": classes[int(want.x[0, 1, 1])], "debt": pytest.approx(want.x[0, 1, 3])}
    assert records[1] == rows[1] | filled
    columns = {"sex": ["male", "?"], "pay": [-3, 0.5], "debt": [1, None], "age": [None, 31]}
    answer = client.post(f"{TABLE}/impute", {"x": columns, **request}).json()
    np.testing.assert_array_equal(float32(answer["x"]), want.x[0])


@pytest.mark.parametrize(
    ("address", "request_", "status", "message"),
    [
        (f"{TABLE}/sample", {"given": {"age": 11}, "temperature": 2}, 400, "Leave out temperature"),
        (f"{TABLE}/sample", {"given": {"height": 11}}, 400, "Column height does not exist"),
        (f"{TABLE}/sample", {"given": {"sex": "unknown"}}, 400, "expected one of 'female'"),
        (f"{TABLE}/sample", {"given": {"age": None}}, 400, "expected a number"),
        (f"{TABLE}/sample", {"given": {"age": [1]}}, 422, "expected numbers and texts"),
        (f"{TABLE}/sample", {"given": {"age": 11}, "n": 1000}, 400, "256 draws of z are too many"),
        (f"{TABLE}/impute", {"x": [{"age": None}] * 1000}, 400, "256 draws of z are too many"),
        (f"{TABLE}/impute", {"x": [{"height": 1}]}, 422, "lacks the columns of linear_table"),
        (f"{TABLE}/impute", {"x": [{"age": None}], "num_samples": 2}, 400, "num_samples is 2"),
        (f"{TABLE}/impute", {}, 400, "x is missing"),
        (f"{CONDITIONAL}/sample", {"given": {"x0": 1}}, 400, "has a bernoulli likelihood"),
        (f"{CONDITIONAL}/impute", {"x": []}, 404, "impute"),
    ],
)
def test_wrong_requests_for_missing_values_are_refused(client, address, request_, status, message):
    reply = client.post(address, request_)
    assert reply.status == status, reply.body
    assert message in reply.error


def test_rows_of_a_table_are_numbered_from_0_in_messages(client):
    reply = client.post(f"{TABLE}/encode", {"x": [ROWS[0], ROWS[1] | {"age": "old"}]})
    assert (reply.status, "row 1, column age contains old" in reply.error) == (422, True), reply.error


def test_null_is_a_missing_cell(client, tiny):
    model, rows = load(tiny / "linear_table"), [{**ROWS[0], "sex": None}, ROWS[1]]
    x, _ = operations._examples(model, {"x": rows}, 2)
    assert np.isnan(x).tolist() == [[False, True, False, False], [False] * 4]
    x, _ = operations._examples(model, {"x": [[20, None, -3, 1]]}, 2)
    assert np.isnan(x).tolist() == [[False, True, False, False]]
    image = binary_images(1).tolist()
    image[0][0][0][0] = None
    reply = client.post("/v1/models/unconditional/encode", {"x": image})
    assert (reply.status, reply.json()["error"]["exit_code"]) == (422, 4)


def test_records_have_the_columns_and_class_names_of_the_table(client, tiny):
    frame = load(tiny / "linear_table").sample(3, seed=2).to_frame()
    answer = client.post(f"{TABLE}/sample", {"n": 3, "seed": 2, "records": True}).json()
    assert [list(each) for each in answer["records"]] == [list(frame)] * 3
    for name in frame:
        assert [each[name] for each in answer["records"]] == list(frame[name])
    assert "records are rows of a table" in client.post(f"{CONDITIONAL}/sample", {"records": True}).error


def test_missing_cells_of_generated_rows_are_null():
    assert formats.to_json({"x": np.array([[1, np.nan]], np.float32)}) == b'{"x":[[1.0,null]]}'
    column = {"name": "born", "kind": "numeric", "format": "%Y-%m-%d", "type": "datetime"}
    assert operations._plain(np.array(["2020-02-03", "NaT"], "datetime64[us]"), column) == ["2020-02-03", None]


def test_models_info_and_verify_describe_without_paths(client, tiny):
    models = client.get("/v1/models").json()["models"]
    assert [each["name"] for each in models] == [
        "conditional", "linear_table", "unconditional", "mixture_prior", "linear_several",
    ]  # fmt: skip
    assert models[0]["conditions"] == [{"name": "label", "classes": ["cat", "dog", "0"]}]
    info = client.get(f"{CONDITIONAL}/info")
    assert info.json()["files"][0]["path"] == "conditional/encoder.onnx"
    assert info.json()["manifest"] == json.loads(json.dumps(load(tiny / "conditional").info()["manifest"]))
    verified = client.get(f"{CONDITIONAL}/verify")
    assert verified.json()["ok"] is True
    assert len(verified.json()["checks"]) == len(load(tiny / "conditional").verify())
    for reply in (info, verified, client.get("/v1/models"), client.get("/openapi.json")):
        assert str(tiny).encode() not in reply.body


def test_messages_name_the_model_without_its_path(client, tiny):
    # The linear encoder of this model does not replace missing cells, so it returns NaN.
    reply = client.post(f"{TABLE}/encode", {"x": [[20, None, -3, 1]]})
    assert (reply.status, reply.json()["error"]["exit_code"]) == (422, 5)
    assert reply.error.startswith("linear_table/encoder.onnx returns z_mean with NaN")


def test_verify_of_a_model_that_differs_is_503(client, monkeypatch):
    verify = Model.verify
    monkeypatch.setattr(Model, "verify", lambda self: [verify(self)[0]._replace(ok=False)])
    reply = client.get(f"{CONDITIONAL}/verify")
    assert (reply.status, reply.json()["ok"]) == (503, False)


WRONG = [
    ("sample", b"{", 400, "not valid JSON"),
    ("sample", b"[]", 400, "not a JSON object"),
    ("sample", b'{"n": NaN}', 400, "not valid JSON"),
    ("sample", b'{"id": ' + b"[" * 900 + b"]" * 900 + b"}", 400, "not valid JSON"),
    ("sample", {"output": "/tmp/a.png"}, 400, "Unknown key output"),
    ("sample", {"force": True}, 400, "Unknown key force"),
    ("sample", {"command": "decode"}, 400, "command is 'decode'"),
    ("sample", {"label": "eleven"}, 400, "Unknown label"),
    ("sample", {"n": "3"}, 400, "n is"),
    ("sample", {"n": 2**70}, 400, "n is"),
    ("sample", {"n": 0}, 400, "n is 0; expected an integer from 1"),
    ("sample", {"n": 2000}, 400, "too many"),
    ("sample", {"seed": -1}, 400, "seed"),
    ("sample", {"temperature": 1e300}, 400, "temperature"),
    ("encode", {}, 400, "x is missing"),
    ("encode", {"x": [], "label": 0}, 422, "x is empty"),
    ("encode", {"x": [[1], [1, 2]], "label": 0}, 422, "not rectangular"),
    ("encode", {"x": [["1"]], "label": 0}, 422, "not numbers"),
    ("encode", {"x": [[True]], "label": 0}, 422, "not numbers"),
    ("encode", {"x": [{"a": 1}], "label": 0}, 422, "x is an object"),
    ("encode", {"x": [1] * 2000, "label": 0}, 400, "too many"),
    ("decode", {"z": [[1e300, 0, 0]], "label": 0}, 422, "z contains NaN or infinite"),
    ("decode", {"z": [[0, 0]], "label": 0}, 422, "expected"),
    ("score", {"x": [[0]]}, 422, "x has the shape"),
    ("score", {"x": [[0]], "num_samples": 10**9}, 400, "too many"),
    ("score", {"x": [[0]], "threshold": "q2"}, 400, "quantile"),
]


@pytest.mark.parametrize(("operation", "document", "status", "message"), WRONG)
def test_a_wrong_request_is_one_line_of_json(client, operation, document, status, message):
    if operation == "score" and isinstance(document, dict) and "label" not in document:
        document = {**document, "label": 0}
    reply = client.post(f"{CONDITIONAL}/{operation}", document)
    assert (reply.status, reply.headers["content-type"]) == (status, "application/json"), reply.body
    assert message in reply.error
    assert reply.error.isprintable()
    assert reply.json()["error"]["exit_code"] == {400: 2, 422: 4}[status]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nothing", 404),
        ("/v1/models/nothing/info", 404),
        (f"{CONDITIONAL}/nothing", 404),
        ("/explorer/..%2f..%2fetc%2fpasswd", 404),
        (f"{CONDITIONAL}/encode", 405),
        (f"{CONDITIONAL}/sample?output=a.png", 400),
        (f"{CONDITIONAL}/sample?n=1&n=2", 400),
        (f"{CONDITIONAL}/sample?n=x", 400),
        (f"{CONDITIONAL}/sample?condition=label", 400),
    ],
)
def test_a_wrong_address_is_an_error_in_json(client, path, status):
    reply = client.get(path)
    assert reply.status == status, reply.body
    assert reply.error


def test_get_reads_conditions_like_the_command(client, tiny):
    manifest = load(tiny / "linear_several").manifest
    values = {each.name: each.classes[0] if each.categorical else sum(each.range) / 2 for each in manifest.conditions}
    query = "&".join(f"condition={name}={value}" for name, value in values.items())
    answer = client.get(f"/v1/models/linear_several/sample?{query}&n=2&seed=1&draw=false&temperature=0.5").json()
    want = load(tiny / "linear_several").sample(2, conditions=values, seed=1, draw=False, temperature=0.5)
    np.testing.assert_array_equal(float32(answer["x"]), want.x)


def test_other_media_types_are_refused(client):
    headers = {"Content-Type": "text/plain"}
    assert client.post(f"{CONDITIONAL}/sample", {}, headers).status == 415
    assert client.get(f"{CONDITIONAL}/sample", {"Accept": "text/html"}).status == 406
    assert client.post(f"{CONDITIONAL}/sample", b"").status == 200


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("image/png", "image/png"),
        ("image/png;q=0.5, application/x-npy", "application/x-npy"),
        ("image/*, */*;q=0.1", "image/png"),
        ("image/avif,image/webp,*/*", "image/png"),  # <img> in an older Firefox
        ("image/webp,*/*", "image/png"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8", "application/json"),
        ("application/json, image/webp, */*", "application/json"),
        ("application/json;q=0, */*", "application/x-npy"),
        ("text/html", None),
        ("image/png;q=0", None),
        ("image/png;q=x", None),
    ],
)
def test_accept_chooses_the_format(accept, chosen):
    assert formats.choose(accept, [formats.JSON, formats.NPY, formats.PNG]) == chosen


def test_a_model_without_an_encoder_answers_404(tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "decoder.onnx").write_bytes((Path(shipped()["mnist-vae"]) / "decoder.onnx").read_bytes())
    with running([alone]) as client:
        reply = client.post("/v1/models/alone/encode", {"x": [0]})
        assert reply.status == 404
        assert client.get("/v1/models").json()["models"][0]["operations"] == ["sample", "decode"]
        assert "/v1/models/alone/encode" not in client.get("/openapi.json").json()["paths"]
        assert client.get("/").body.startswith(b"<!doctype html>")


def test_requests_beyond_the_queue_are_answered_with_429(paths, monkeypatch):
    entered, leave = threading.Event(), threading.Event()
    sample = operations.OPERATIONS["sample"]

    def slow(*arguments):
        entered.set()
        leave.wait(20)
        return sample.run(*arguments)

    arrived, body = [], app._Server._body

    async def counted(self, request):
        arrived.append(request)
        return await body(self, request)

    monkeypatch.setattr(app._Server, "_body", counted)
    monkeypatch.setitem(operations.OPERATIONS, "sample", sample._replace(run=slow))
    with running(paths[:1], app.Limits(workers=1, queue=1)) as client:
        replies = []
        threads = [
            threading.Thread(target=lambda: replies.append(client.post(f"{CONDITIONAL}/sample", {}))) for _ in range(2)
        ]
        threads[0].start()
        assert entered.wait(10)
        threads[1].start()
        deadline = time.monotonic() + 10
        while len(arrived) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        reply = client.get(f"{CONDITIONAL}/info")
        assert (reply.status, reply.headers["retry-after"]) == (429, "1")
        assert client.get("/health").status == 200
        leave.set()
        for thread in threads:
            thread.join(20)
        assert [each.status for each in replies] == [200, 200]
        assert client.get(f"{CONDITIONAL}/info").status == 200


def test_time_is_limited_and_the_place_is_free_after_the_work(paths, monkeypatch):
    leave = threading.Event()
    sample = operations.OPERATIONS["sample"]
    monkeypatch.setitem(operations.OPERATIONS, "sample", sample._replace(run=lambda *_: leave.wait(20)))
    with running(paths[:1], app.Limits(workers=1, queue=0, seconds=0.5)) as client:
        reply = client.post(f"{CONDITIONAL}/sample", {})
        assert (reply.status, "too long" in reply.error) == (504, True)
        assert client.get(f"{CONDITIONAL}/info").status == 429
        leave.set()
        deadline = time.monotonic() + 10
        while (status := client.get(f"{CONDITIONAL}/info").status) == 429 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert status == 200


def test_work_ends_at_the_chunk_after_the_deadline():
    with pytest.raises(TimeoutError):
        list(app._before(time.monotonic() - 1, iter([{}, {}])))


def test_a_body_is_limited_with_and_without_its_length(paths):
    with running(paths[:1], app.Limits(body=1000)) as client:
        reply = client.post(f"{CONDITIONAL}/sample", b" " * 2000)
        assert (reply.status, "at most 1000 bytes" in reply.error) == (413, True)
        host, port = client.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            head = f"POST {CONDITIONAL}/sample HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            with contextlib.suppress(OSError):
                for _ in range(3):
                    connection.sendall(b"258\r\n" + b" " * 600 + b"\r\n")
            assert b" 413 " in connection.recv(4096).splitlines()[0]


def test_a_token_is_required_except_for_health(paths):
    with running(paths[:1], token="s3cret") as client:
        assert client.get("/health").status == 200
        for path in ("/", "/docs", "/openapi.json", "/v1/models", f"{CONDITIONAL}/sample", "/nothing"):
            reply = client.get(path)
            assert reply.status == 401
            assert "Bearer" in reply.headers.get_all("www-authenticate")
            assert client.get(path, {"Authorization": "Bearer s3cre"}).status == 401
            assert client.get(path, {"Authorization": "Basic s3cret"}).status == 401
            assert client.get(path, {"Authorization": "Bearer s3cret"}).status == (404 if path == "/nothing" else 200)
        # user:s3cret, as browsers send the password
        assert client.get("/v1/models", {"Authorization": "Basic dXNlcjpzM2NyZXQ="}).status == 200


def test_a_name_of_another_site_is_refused_on_this_machine_only(paths):
    with running(paths[:1]) as client:
        for host in ("attacker.example", "localhost.attacker.example", "127.0.0.1:80@attacker.example", "[::2]"):
            reply = client.get("/v1/models", {"Host": host})
            assert (reply.status, reply.error.split(";")[0]) == (400, f"The host is {host}")
        for host in ("localhost:1", "LOCALHOST", "127.0.0.1:8000", "[::1]:8000"):
            assert client.get("/v1/models", {"Host": host}).status == 200
    with running(paths[:1], only_local=False) as client:
        assert client.get("/v1/models", {"Host": "models.example"}).status == 200


def test_no_path_of_a_client_is_opened(client):
    opened: list[str] = []
    record = True

    def hook(event, arguments):
        if record and event in ("open", "os.listdir", "os.scandir"):
            opened.append(str(arguments[0]))

    client.get(f"{CONDITIONAL}/sample", PNG)  # Imports what is imported on first use.
    client.post(f"{TABLE}/encode", {"x": ROWS})
    sys.addaudithook(hook)
    for path in ("/etc/passwd", "../../etc/passwd", "C:\\secret", "hf://owner/repo", "file:///etc/passwd"):
        for key in ("output", "label", "condition", "dtype", "x", "z", "threshold", "command", "id"):
            for operation in operations.OPERATIONS:
                client.post(f"{CONDITIONAL}/{operation}", {key: path})
                client.post(f"{TABLE}/{operation}", {"x": [{**ROWS[0], "sex": path}], key: [path]})
        client.get(f"/{path}")
        client.get(f"/v1/models/{urllib.request.quote(path, safe='')}/sample", PNG)
    record = False
    assert [each for each in opened if re.search("passwd|secret|owner|etc", each)] == []


def test_home_is_the_explorer_of_the_first_model_with_links_to_the_others(client):
    page = client.get("/").body.decode()
    assert '<a href="/explorer/linear_table">linear_table</a>' in page
    assert '<a href="/docs">HTTP API</a>' in page
    assert '"model":"conditional"' in page
    assert '"model":"linear_table"' in client.get("/explorer/linear_table").body.decode()


def test_docs_list_every_address_and_load_nothing(client):
    page = client.get("/docs").body.decode()
    for path in client.get("/openapi.json").json()["paths"]:
        assert f"<code>{path}</code>" in page
    assert "<script" not in page
    assert not re.search(r'(src|href)="(https?:)?//', page)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("n=abc", 'n is "abc"; expected an integer.'),
        ("n=2.5", "n is 2.5; expected an integer."),
        ("temperature=warm", 'temperature is "warm"; expected an integer or a number.'),
        ("draw=1", "draw is 1; expected true or false."),
    ],
)
def test_a_wrong_parameter_is_named_with_the_expected_type(client, query, message):
    reply = client.get(f"{CONDITIONAL}/sample?{query}")
    assert (reply.status, reply.error) == (400, message)


def test_answers_have_the_described_fields(client):
    jsonschema = pytest.importorskip("jsonschema")
    paths = client.get("/openapi.json").json()["paths"]
    x = {"x": binary_images(2).tolist(), "label": ["dog", "cat"]}
    requests = [
        (f"{CONDITIONAL}/sample", {"id": "a", "label": "all", "n": 2}),
        (f"{TABLE}/sample", {"n": 2}),
        (f"{TABLE}/sample", {"n": 2, "records": True}),
        (f"{TABLE}/sample", {"n": 2, "given": {"age": 11}}),
        (f"{TABLE}/score", {"x": ROWS}),
        (f"{TABLE}/impute", {"x": [ROWS[0] | {"sex": None}]}),
        (f"{TABLE}/impute", {"x": [{"sex": "male"}], "records": True}),
        (f"{CONDITIONAL}/encode", x),
        (f"{CONDITIONAL}/encode", x | {"draw": True}),
        (f"{CONDITIONAL}/decode", {"z": [[0, 0, 0]], "label": 0, "draw": True}),
        (f"{CONDITIONAL}/reconstruct", x),
        (f"{CONDITIONAL}/score", x | {"threshold": -50}),
    ]
    replies = [(path, "post", client.post(path, request)) for path, request in requests]
    replies += [(path, "get", client.get(path)) for path, methods in paths.items() if "post" not in methods]
    for path, method, reply in replies:
        assert reply.status == 200, reply.body
        schema = paths[path][method]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(reply.json(), schema)
        assert set(reply.json()) <= set(schema["properties"]), path


def test_schema_of_requests_accepts_what_the_server_accepts(client):
    jsonschema = pytest.importorskip("jsonschema")
    paths = client.get("/openapi.json").json()["paths"]
    image, several = binary_images(2), "/v1/models/linear_several"
    far = {"label": [0, 1], "tilt": [5.0, -5.0]}
    by_column = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    cases = [
        (f"{CONDITIONAL}/encode", {"x": image.tolist(), "label": ["dog", 0]}, 200),
        (f"{CONDITIONAL}/encode", {"x": image[..., 0].tolist(), "label": 0}, 200),
        (f"{CONDITIONAL}/encode", {"x": image[:, 1:].tolist(), "label": 0}, 422),
        (f"{CONDITIONAL}/encode", {"x": image[:, :, 1:].tolist(), "label": 0}, 422),
        (f"{CONDITIONAL}/encode", {"x": np.concatenate([image, image], -1).tolist(), "label": 0}, 422),
        (f"{several}/encode", {"x": [[0] * 5] * 2, "condition": far}, 200),
        (f"{several}/encode", {"x": [[0] * 4] * 2, "condition": far}, 422),
        (f"{several}/sample", {"condition": {"label": "all", "tilt": [0, 1]}}, 200),
        (f"{several}/sample", {"condition": {"label": 0, "tilt": [0, 5]}}, 400),
        (f"{several}/decode", {"z": [[0, 0]], "condition": {"label": "all", "tilt": 0}}, 400),
        (f"{TABLE}/score", {"x": ROWS}, 200),
        (f"{TABLE}/score", {"x": by_column}, 200),
        (f"{TABLE}/score", {"x": {"age": [31]}}, 422),
        (f"{TABLE}/impute", {"x": {"age": [31]}}, 200),
        (f"{TABLE}/impute", {"x": [[31, None, 1000, 1]]}, 200),
        (f"{TABLE}/impute", {"x": [[31, None, 1000]]}, 422),
        (f"{TABLE}/sample", {"given": {"age": 31, "sex": "male"}}, 200),
        (f"{CONDITIONAL}/sample", {"given": {"x0": 1}}, 400),
        (f"{TABLE}/score", {"x": [[31, 0, 1000, 1]]}, 200),
        (f"{TABLE}/score", {"x": [[31, 0, 1000]]}, 422),
        (f"{TABLE}/decode", {"z": [[0, 0, 0]]}, 422),
    ]
    for path, request, status in cases:
        schema = paths[path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        reply = client.post(path, request)
        assert reply.status == status, (path, request, reply.body)
        assert jsonschema.Draft202012Validator(schema).is_valid(request) == (status == 200), (path, request)


def test_rows_with_different_columns_do_not_fill_the_memory(client):
    x = [{f"{row} {column}": 1 for column in range(5)} for row in range(1000)]
    reply = client.post(f"{TABLE}/encode", {"x": x})
    assert (reply.status, "5000 columns" in reply.error) == (422, True)


def test_page_of_the_api_lists_the_errors_of_the_server(client):
    page = client.get("/docs").body.decode()
    for status in {*app.STATUS.values(), 401, 404, 405, 406, 413, 415, 429, 504}:
        assert f"<td>{status}</td>" in page


def test_score_describes_its_fixed_seed(client):
    score = client.get("/openapi.json").json()["paths"][f"{CONDITIONAL}/score"]["post"]
    fields = score["requestBody"]["content"]["application/json"]["schema"]["properties"]
    x = {"x": binary_images(1).tolist(), "label": 0}
    answer = client.post(f"{CONDITIONAL}/score", x).json()
    for name in ("seed", "num_samples"):
        assert answer[name] == client.post(f"{CONDITIONAL}/score", x).json()[name] == fields[name]["default"]
    assert "random" not in fields["seed"]["description"]


@pytest.mark.parametrize(("split", "described"), [("train", "of training data"), ("validation", "of held-out data")])
def test_threshold_describes_the_rows_of_its_quantiles(tiny, split, described):
    manifest = load(tiny / "conditional").manifest
    stored = {"num_samples": 16, "seed": 0, "split": split, "quantiles": {"0.5": -1.0}}
    manifest = dataclasses.replace(manifest, raw=manifest.raw | {"score": stored})
    field = openapi._field("threshold", "score", manifest, 10)
    assert described in field["description"]


def test_names_are_text_on_the_page_of_the_api(tiny):
    document = openapi.description({"<script>alert(1)</script>": load(tiny / "conditional")}, 10)
    assert "<script" not in openapi.page(document)


def test_a_bug_is_one_line_without_a_traceback(client, monkeypatch, capfd):
    def fail(*arguments):
        raise KeyError("boom")

    monkeypatch.setattr(Model, "info", fail)
    reply = client.get(f"{CONDITIONAL}/info")
    assert (reply.status, reply.json()["error"]["exit_code"]) == (500, 1)
    assert "This is a bug of kvae" in reply.error
    assert "Traceback" not in capfd.readouterr().err


@contextlib.contextmanager
def command(environment, *arguments):
    """Run `kvae serve` on a free port; yield the process and a client."""
    started = [sys.executable, "-m", "kvae", "serve", "--port", "0", *map(str, arguments)]
    with subprocess.Popen(started, stderr=subprocess.PIPE, text=True, env=environment) as process:
        lines = []
        try:
            while not (found := re.search(r"at (http://\S+)\.", lines[-1] if lines else "")):
                line = process.stderr.readline()
                assert line, lines
                lines.append(line)
            yield process, Client(found[1]), lines
        finally:
            process.kill()


@pytest.fixture
def environment(command_environment):
    return command_environment | {"PYTHONWARNINGS": "default"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_answers_what_has_started_and_ends_with_0(environment, number):
    with command(environment, "-m", "sprites", "--max-rows", 100_000) as (process, client, _):
        replies = []
        request = {"n": 240, "seed": 0}
        thread = threading.Thread(target=lambda: replies.append(client.post("/v1/models/sprites/sample", request)))
        thread.start()
        time.sleep(0.3)
        process.send_signal(number)
        assert process.wait(30) == 0
        thread.join(10)
        assert replies[0].status == 200
        assert replies[0].json()["rows"] == 240
        assert process.stderr.read() == "The server has ended.\n"


def test_host_of_a_network_prints_a_warning(environment):
    with command(environment, "--host", "0.0.0.0", "--access-log") as (process, client, lines):
        assert lines[0].startswith("Warning: --host 0.0.0.0 makes the models available")
        url = Client(client.url.replace("0.0.0.0", "127.0.0.1"))
        assert url.get("/health", {"Host": "any.example"}).status == 200
        assert "GET /health" in process.stderr.readline()


def test_model_of_the_working_folder_has_the_name_of_the_folder(environment, tiny, monkeypatch):
    monkeypatch.chdir(tiny / "conditional")
    with command(environment, "-m", ".") as (_, client, _):
        assert client.get("/v1/models/conditional/info").status == 200


def test_overflow_of_a_number_prints_no_warning(environment, tiny):
    with command(environment, "-m", tiny / "linear") as (process, client, _):
        reply = client.post("/v1/models/linear/score", {"x": [[1e300] * 5]})
        assert (reply.status, "NaN or infinite" in reply.error) == (422, True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stderr.read() == "The server has ended.\n"


def test_a_port_in_use_is_one_line(kvae):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = kvae("serve", "--port", taken.getsockname()[1])
    assert done.returncode == 2
    assert "cannot be used" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["-m", "missing"], 5),
        (["-m", "mnist", "-m", "mnist"], 2),
        (["--token", ""], 2),
        (["--host", "no such host"], 2),
        (["--timeout", "0"], 2),
    ],
)
def test_a_wrong_option_ends_before_the_server_starts(kvae, arguments, code):
    done = kvae("serve", *arguments)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
