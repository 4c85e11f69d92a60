"""Example of docs/bulk.md on Ray, in a separate environment: two actors give the results of one process.

Ray gets four CPUs, two for the actors and two for reading, and only the loopback interface. Ray is large, so these
tests run with `python -m pytest -m ray`.
"""

import json
import re

import numpy as np
import pytest

from support import interop

pytestmark = pytest.mark.ray

REQUIREMENTS = ("ray[data]>=2.60", "numpy", "onnxruntime", "click", "pillow")
PAGE = (interop.ROOT / "docs" / "bulk.md").read_text()
ENVIRONMENT = {
    "PYTHONPATH": interop.PACKAGES,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}
START = "import ray; ray.init(num_cpus=4, include_dashboard=False, _node_ip_address='127.0.0.1', log_to_driver=False)\n"


@pytest.fixture(scope="module")
def python():
    return interop.python_with("ray", *REQUIREMENTS)


def run(python, code, folder):
    """Run a script in a folder with a separate Ray instance."""
    return interop.call(python, "-c", START + code, cwd=folder, env=interop.clean_environment(**ENVIRONMENT))


CHECK = """
import json, os, numpy as np, pyarrow.parquet as parquet, kvae, sys

def columns(folder):
    rows = ray.data.read_parquet(folder).sort("id").take_batch(10_000)
    return {name: np.asarray(values) for name, values in rows.items()}

model = kvae.load("mnist")
whole = model.sample(300, label=["3", "8"], seed=7)
report = {}
digits, scores, codes = columns("digits"), columns("scores"), columns("codes")
for name, values in whole.arrays().items():
    report[name] = digits[name].dtype == values.dtype and digits[name].tobytes() == values.tobytes()
for name, values in model.score(whole.x, label=whole.conditions["label"])._asdict().items():
    report[name] = scores[name].tobytes() == values.tobytes()
for name, values in zip(("z_mean", "z_log_var"), model.encode(whole.x, label=whole.conditions["label"])):
    report[name] = codes[name].tobytes() == values.tobytes()
report["columns"] = [sorted(each) for each in (digits, scores, codes)]
report["heavy"] = sorted({"keras", "tensorflow", "jax", "torch"} & set(sys.modules))
np.savez("whole.npz", elbo=scores["elbo"], **whole.arrays())
print(json.dumps(report))
"""


def test_documented_example_matches_one_process(python, tmp_path):
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    report = json.loads(run(python, block + CHECK, tmp_path).splitlines()[-1])
    assert report.pop("columns") == [
        ["id", "label", "x", "z"],
        ["elbo", "id", "kl", "label", "reconstruction", "z"],
        ["id", "label", "z", "z_log_var", "z_mean"],
    ]
    assert report.pop("heavy") == []
    assert report == dict.fromkeys(["x", "z", "label", "elbo", "reconstruction", "kl", "z_mean", "z_log_var"], True)
    # The same in this process, with its numpy and ONNX Runtime.
    from kvae_serve.model import load

    here = load("mnist").sample(300, label=["3", "8"], seed=7)
    with np.load(tmp_path / "whole.npz") as there:
        np.testing.assert_allclose(there["x"], here.x, rtol=0, atol=255e-5)
        elbo = load("mnist").score(here.x, label=here.conditions["label"]).elbo
        np.testing.assert_allclose(there["elbo"], elbo, rtol=1e-4)


SPREAD = """
import json, os, numpy as np, kvae
from kvae.ray_data import Sampler, Scorer, sample

class Watched(Sampler):
    def __init__(self, folder, **request):
        super().__init__(**request)
        with open(f"{folder}/{os.getpid()}", "a") as file:
            file.write("opened\\n")

    def __call__(self, batch):
        made = super().__call__(batch)
        return made | {"process": np.full(len(made["id"]), os.getpid())}

actors = ray.data.ActorPoolStrategy(size=2)
ids = ray.data.range(600, override_num_blocks=12).random_shuffle(seed=1)
request = {"model": "mnist", "num": 200, "label": ["1", "2", "9"], "seed": 3, "draw": True}
os.mkdir("opened")
watched = {"folder": os.path.abspath("opened"), **request}
rows = ids.map_batches(Watched, fn_constructor_kwargs=watched, compute=actors, batch_size=32).take_all()
whole = kvae.load("mnist").sample(200, label=["1", "2", "9"], seed=3, draw=True)
label = whole.conditions["label"]
same = all((row["x"] == whole.x[row["id"]]).all() and row["label"] == label[row["id"]] for row in rows)
report = {"same": bool(same), "rows": len(rows), "processes": len({int(row["process"]) for row in rows})}
report["opened"] = [open(f"opened/{each}").read() for each in os.listdir("opened")]

empty = ray.data.from_numpy(whole.x).rename_columns({"data": "x"}).filter(lambda row: False)
given = {"model": "mnist", "label": "1"}
report["of_nothing"] = empty.map_batches(Scorer, fn_constructor_kwargs=given, compute=actors).count()

try:
    sample("mnist", 3, label="eleven", seed=0)
except Exception as error:
    report["refused"] = [type(error).__name__, str(error)]
try:
    dark = ray.data.from_numpy(whole.x[:50] / 255).rename_columns({"data": "x"})
    dark.map_batches(Scorer, fn_constructor_kwargs=given, compute=actors).count()
except Exception as error:
    report["dark"] = str(error)
print(json.dumps(report))
"""


def test_two_actors_with_shuffled_rows_match_one_process(python, tmp_path):
    report = json.loads(run(python, SPREAD, tmp_path).splitlines()[-1])
    assert report["same"]
    assert (report["rows"], report["processes"]) == (600, 2)
    assert report["opened"] == ["opened\n"] * 2  # once per actor
    assert report["of_nothing"] == 0
    assert report["refused"][0] == "RequestError"
    assert "0 to 9" in report["refused"][1]
    assert "divided by 255" in report["dark"]
