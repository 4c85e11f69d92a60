"""Model repository on a running Triton Inference Server: it loads, returns the outputs of Python, and the manifest.

The server is part of the wheel of nvidia-pytriton (Linux, x86-64). NVIDIA's ONNX Runtime backend is not available as a
wheel, so a Python backend of that name passes each batch to ONNX Runtime. The tests cover the files that kvae writes:
names, types, shapes, reshapes, batches, versions and parameters, as a server reads them.
"""

import concurrent.futures
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

from kvae_export import triton
from kvae_serve.model import load
from support import interop

pytestmark = pytest.mark.interop

# Splits a batch into requests, as NVIDIA's backend does. A tensor has the shape that the graph expects.
BACKEND = """
import json, os, sys
sys.path.insert(0, {site!r})
import numpy as np
import onnxruntime
import triton_python_backend_utils as utils

class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        return config

    def initialize(self, args):
        config = json.loads(args["model_config"])
        path = os.path.join(args["model_repository"], args["model_version"], config["default_model_filename"])
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.inputs = [each["name"] for each in config["input"]]
        self.outputs = [each["name"] for each in config["output"]]
        self.shapes = {{each.name: each.shape[1:] for each in self.session.get_inputs()}}

    def execute(self, requests):
        parts = [[utils.get_input_tensor_by_name(each, name).as_numpy() for name in self.inputs] for each in requests]
        whole = [np.concatenate(each) for each in zip(*parts)]
        for name, values in zip(self.inputs, whole):
            assert list(values.shape[1:]) == self.shapes[name], (name, values.shape)
        made = self.session.run(self.outputs, dict(zip(self.inputs, whole)))
        answers, first = [], 0
        for part in parts:
            end = first + len(part[0])
            tensors = [utils.Tensor(name, values[first:end]) for name, values in zip(self.outputs, made)]
            answers.append(utils.InferenceResponse(tensors))
            first = end
        return answers
"""
TYPES = {"float32": "FP32", "int64": "INT64"}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Start a server with the models; return their folders by name and its address."""
    folder = tmp_path_factory.mktemp("triton")
    tiny = interop.tiny_models()
    # The server starts two processes per graph, so these few models are enough.
    models = interop.shipped_models() | {name: tiny[name] for name in ("tiny-linear_several", "tiny-gaussian_prior")}
    for name, path in models.items():
        triton.write(load(path), folder / "models", name=name)
    # The server was built with NumPy 1 and reads array sizes of NumPy 2 incorrectly.
    wanted = ("nvidia-pytriton==0.7.0", "numpy<2", "onnxruntime")
    python = interop.python_with("tritonserver", *wanted)
    site = interop.call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    home = f"{site}/pytriton/tritonserver"
    backends = folder / "backends"
    shutil.copytree(f"{home}/backends/python", backends / "python")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = shutil.copy(f"{home}/python_backend_stubs/{version}/triton_python_backend_stub", backends / "python")
    (backends / "onnxruntime").mkdir()
    (backends / "onnxruntime" / "model.py").write_text(BACKEND.format(site=site))
    program = shutil.copy(f"{home}/bin/tritonserver", folder / "tritonserver")
    for each in (program, stub):
        interop.call("chmod", "+x", each)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, f"--model-repository={folder}/models", f"--backend-directory={backends}"]
    command += ["--http-address=127.0.0.1", f"--http-port={port}", "--allow-grpc=false", "--allow-metrics=false"]
    environment = interop.clean_environment(LD_LIBRARY_PATH=f"{site}/nvidia_pytriton.libs")
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--model-load-thread-count=1", "--exit-timeout-secs=3"], env=environment, stdout=log, stderr=log
        )
    try:
        until_ready(server, f"http://127.0.0.1:{port}/v2", folder / "log")
        yield models, f"http://127.0.0.1:{port}/v2/models"
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()


def until_ready(server, address, log):
    end = time.monotonic() + 300
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health/ready", timeout=5):
            return
        time.sleep(0.5)
    pytest.fail(log.read_text()[-6000:])


def ask(address, feeds):
    """Return the outputs of one request by name."""
    inputs = [
        {
            "name": name,
            "datatype": TYPES[str(values.dtype)],
            "shape": values.shape if values.ndim > 1 else [len(values), 1],
            "data": values.ravel().tolist(),
        }
        for name, values in feeds.items()
    ]
    request = urllib.request.Request(f"{address}/infer", json.dumps({"inputs": inputs}).encode())
    with urllib.request.urlopen(request, timeout=60) as answer:
        outputs = json.load(answer)["outputs"]
    return {each["name"]: np.array(each["data"], np.float32).reshape(each["shape"]) for each in outputs}


def test_every_graph_matches_python(served):
    models, address = served
    for name, path in models.items():
        model = load(path)
        for graph in model.graphs:
            feeds = interop.feeds(model, graph)
            found = ask(f"{address}/{name}_{graph}", feeds)
            for output, want in model.run(graph, feeds).items():
                got = found[output].reshape(want.shape)
                assert np.abs(got.astype("f8") - want).max() <= interop.BOUND * max(np.ptp(want), 1e-3), (name, output)


def test_concurrent_requests_get_their_own_rows(served):
    models, address = served
    feeds = interop.feeds(load(models["mnist"]), "decoder")
    want = ask(f"{address}/mnist_decoder", feeds)["x_mean"]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        rows = [{key: values[row : row + 1] for key, values in feeds.items()} for row in range(interop.ROWS)]
        found = list(pool.map(lambda one: ask(f"{address}/mnist_decoder", one)["x_mean"], rows))
    np.testing.assert_allclose(np.concatenate(found), want, rtol=0, atol=255 * interop.BOUND)


def test_server_exposes_the_manifest_and_refuses_wrong_inputs(served):
    models, address = served
    for name, path in models.items():
        model = load(path)
        for graph in model.graphs:
            with urllib.request.urlopen(f"{address}/{name}_{graph}/config", timeout=60) as answer:
                told = json.loads(json.load(answer)["parameters"]["kvae"]["string_value"])
            want = model.graph_manifest(graph).to_dict()
            del want["golden"]
            assert told == want
    feeds = interop.feeds(load(models["mnist"]), "decoder")
    with pytest.raises(urllib.error.HTTPError):
        ask(f"{address}/mnist_decoder", {**feeds, "z": feeds["z"][:, :5]})
    with pytest.raises(urllib.error.HTTPError):
        ask(f"{address}/mnist_decoder", {key: np.concatenate([values] * 2) for key, values in feeds.items()})
