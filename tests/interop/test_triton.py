"""Configurations of `kvae export --triton`, parsed with the protobuf schema of NVIDIA's client."""

import json

import pytest

from kvae_export import triton
from kvae_serve.model import load
from support import interop

pytestmark = pytest.mark.interop

# Only the generated schema is imported, because the package imports gRPC.
READ = """
import importlib.util, json, pathlib, sys
from google.protobuf import json_format, text_format

path = pathlib.Path(importlib.util.find_spec("tritonclient").submodule_search_locations[0]) / "grpc/model_config_pb2.py"
spec = importlib.util.spec_from_file_location("model_config_pb2", path)
schema = importlib.util.module_from_spec(spec)
spec.loader.exec_module(schema)
configs = [text_format.Parse(pathlib.Path(each).read_text(), schema.ModelConfig()) for each in sys.argv[1:]]
print(json.dumps([json_format.MessageToDict(each, preserving_proto_field_name=True) for each in configs]))
"""


def _full_shape(tensor):
    """Return the shape that the graph receives: the batch axis and the reshaped axes. The dict omits an empty shape."""
    rows = tensor["reshape"].get("shape", []) if "reshape" in tensor else tensor["dims"]
    return ["batch", *map(int, rows)]


def test_configuration_matches_inputs_and_outputs_of_the_graph(tmp_path):
    python = interop.python_with("triton", "tritonclient>=2.60", "protobuf")
    wanted = []
    for name, path in (interop.shipped_models() | interop.tiny_models()).items():
        model = load(path)
        triton.write(model, tmp_path, name=name)
        wanted += [(f"{name}_{graph}", *model.sealed(graph)) for graph in model.graphs]
    paths = [tmp_path / name / "config.pbtxt" for name, _, _ in wanted]
    read = json.loads(interop.call(python, "-c", READ, *paths, env=interop.clean_environment()))
    types = {"float32": "TYPE_FP32", "int64": "TYPE_INT64"}
    for (name, graph, manifest), config in zip(wanted, read, strict=True):
        assert (config["name"], config["backend"], config["max_batch_size"]) == (name, "onnxruntime", 64)
        assert (tmp_path / name / "1" / config["default_model_filename"]).read_bytes() == graph.data
        assert config["dynamic_batching"]["max_queue_delay_microseconds"] == "200"
        for key, tensors in (("input", graph.inputs), ("output", graph.outputs)):
            found = {each["name"]: (each["data_type"], _full_shape(each)) for each in config[key]}
            assert found == {each: (types[info.dtype], list(info.shape)) for each, info in tensors.items()}
        told = manifest.to_dict()
        del told["golden"]
        assert json.loads(config["parameters"]["kvae"]["string_value"]) == told
