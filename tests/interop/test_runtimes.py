"""Shipped and tiny models in other runtimes: outputs within 1e-6 of the range of those of ONNX Runtime."""

import numpy as np
import pytest

from support import interop

pytestmark = pytest.mark.interop

NODE = """
import { readFileSync, writeFileSync } from "node:fs";
import ort from "onnxruntime-node";

for (const graph of JSON.parse(readFileSync("job.json"))) {
  const session = await ort.InferenceSession.create(readFileSync(`${graph.name}.onnx`));
  const feeds = {};
  for (const [name, { dtype, shape }] of Object.entries(graph.inputs)) {
    const bytes = new Uint8Array(readFileSync(`${graph.name}.${name}.in`)).buffer;
    feeds[name] = new ort.Tensor(dtype, dtype === "int64" ? new BigInt64Array(bytes) : new Float32Array(bytes), shape);
  }
  const outputs = await session.run(feeds);
  for (const name of Object.keys(graph.outputs)) writeFileSync(`${graph.name}.${name}.out`, outputs[name].data);
}
"""

OPENVINO = """
import json, pathlib, numpy, openvino

core = openvino.Core()
for graph in json.loads(pathlib.Path("job.json").read_text()):
    name = graph["name"]
    # The default is bfloat16 on some machines.
    compiled = core.compile_model(core.read_model(f"{name}.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    feeds = {
        each: numpy.fromfile(f"{name}.{each}.in", facts["dtype"]).reshape(facts["shape"])
        for each, facts in graph["inputs"].items()
    }
    results = compiled(feeds)
    for each in graph["outputs"]:
        numpy.asarray(results[each], "float32").tofile(f"{name}.{each}.out")
"""


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("interop") / "job"
    return folder, interop.write_job(folder, interop.shipped_models() | interop.tiny_models())


def _hold(expected, results, bound=interop.BOUND):
    beyond = {name: share for name, share in interop.worst(expected, results).items() if share > bound}
    assert not beyond


def test_node_matches_python(expected):
    folder, wanted = expected
    runtime, packages = interop.node()
    script = packages / "job.mjs"  # Node resolves packages from the folder of the script.
    script.write_text(NODE)
    interop.call(runtime, script, cwd=folder)
    _hold(wanted, interop.read_results(folder, wanted))


# The order of float32 sums differs from ONNX Runtime: 1.2e-6 measured for sums of 784 terms.
OTHER_ORDER = 4e-6


def test_openvino_matches_python(expected):
    folder, wanted = expected
    python = interop.python_with("openvino", "openvino>=2025.0", "numpy")
    interop.call(python, "-c", OPENVINO, cwd=folder, env=interop.clean_environment())
    _hold(wanted, interop.read_results(folder, wanted), OTHER_ORDER)


def test_onnx_reference_evaluator_matches_python(expected):
    """The reference evaluator of the ONNX project uses numpy and does not share code with ONNX Runtime."""
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.ops.op_one_hot import OneHot as Reference

    class OneHot(Reference):
        """OneHot that accepts a depth of shape [1], as the standard does; the reference op fails with numpy 2.4."""

        op_domain = ""

        def _run(self, indices, depth, values, axis=None):
            return super()._run(indices, np.asarray(depth).reshape(()), values, axis=axis)

    folder, wanted = expected
    results = {}
    for key, outputs in wanted.items():
        evaluator = ReferenceEvaluator(str(folder / f"{key}.onnx"), new_ops=[OneHot])
        given = {}
        for name in evaluator.input_names:
            info = next(each for each in evaluator.proto_.graph.input if each.name == name)
            dtype = {1: np.float32, 7: np.int64}[info.type.tensor_type.elem_type]
            shape = [size.dim_value or interop.ROWS for size in info.type.tensor_type.shape.dim]
            given[name] = np.fromfile(folder / f"{key}.{name}.in", dtype).reshape(shape)
        results[key] = dict(zip(outputs, evaluator.run(list(outputs), given), strict=True))
    _hold(wanted, results, OTHER_ORDER)
