"""Models of the installed stack, run by the oldest supported ONNX Runtime and by the newest."""

import json
import re
import tomllib

import numpy as np
import pytest

from kvae_serve.model import load
from support import interop

pytestmark = pytest.mark.interop

OLDEST = tuple(
    line for line in (interop.ROOT / "tests" / "oldest.txt").read_text().splitlines() if not line.startswith("#")
)
NEWEST = ("onnxruntime", "numpy", "click", "pillow")

SAMPLE = """
import json, sys
import numpy, onnxruntime
from kvae_serve.model import load

told = {"onnxruntime": onnxruntime.__version__, "numpy": numpy.__version__, "failed": []}
for name, path in json.loads(sys.argv[1]).items():
    model = load(path)
    told["failed"] += [f"{name}: {check}" for check in model.verify() if not check.ok]
    asked = {
        each.name: each.classes[-1] if each.categorical else sum(each.range or (0, 1)) / 2
        for each in model.manifest.conditions
    }
    draws = model.sample(100, seed=3, conditions=asked)
    numpy.savez(f"{name}.npz", x=draws.x, z=draws.z)
    for start in (0, 50):
        part = load(path, threads=2).sample(50, seed=3, conditions=asked, start=start, batch_size=7)
        if not (part.x == draws.x[start : start + 50]).all():
            told["failed"].append(f"{name}: parts are not the whole")
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return shipped, tiny and newly exported models: convolutions, LSTM, a learned prior, float16."""
    import keras

    import kvae
    from kvae import networks

    folder = tmp_path_factory.mktemp("fresh")
    keras.utils.set_random_seed(0)
    label = kvae.Categorical("label", ["cat", "dog", "ox"])
    image, latent = (8, 8, 1), 3
    convolutional = kvae.ConditionalVAE(
        networks.conv_encoder(image, latent, (4, 6), dense=10, condition_dim=3),
        networks.conv_decoder(image, latent, (6, 4), dense=10, condition_dim=3),
        conditions=[label],
        prior=kvae.priors.ConditionalGaussian(latent, condition_dim=3, hidden=(4,)),
    )
    sequence = kvae.ConditionalVAE(
        networks.lstm_encoder((6, 2), latent, units=5, condition_dim=3),
        networks.lstm_decoder((6, 2), latent, units=5, condition_dim=3),
        conditions=[label],
    )
    convolutional.export(folder / "conv", format="onnx")
    sequence.export(folder / "lstm", format="onnx")
    sequence.export(folder / "lstm16", format="onnx", weights="float16")
    fresh = {f"fresh-{path.name}": path for path in folder.iterdir()}
    assert len(fresh) == 3
    return interop.shipped_models() | interop.tiny_models() | fresh


@pytest.mark.parametrize(("name", "requirements"), [("oldest", OLDEST), ("newest", NEWEST)])
def test_model_of_the_installed_stack_runs(name, requirements, models, tmp_path):
    python = interop.python_with(name, *requirements)
    environment = interop.clean_environment(PYTHONPATH=interop.PACKAGES)
    paths = json.dumps({key: str(path) for key, path in models.items()})
    told = json.loads(interop.call(python, "-c", SAMPLE, paths, cwd=tmp_path, env=environment))
    assert told["failed"] == []
    if name == "oldest":
        assert told["onnxruntime"] == "1.26.0"
    for key, path in models.items():
        model = load(path)
        asked = {
            each.name: each.classes[-1] if each.categorical else sum(each.range or (0, 1)) / 2
            for each in model.manifest.conditions
        }
        here = model.sample(100, seed=3, conditions=asked)
        with np.load(tmp_path / f"{key}.npz") as there:
            # Bit for bit on one machine with one stack, within 1e-5 of the range elsewhere.
            np.testing.assert_allclose(there["z"], here.z, rtol=0, atol=1e-5)
            limits = here.manifest.data.range
            width = limits[1] - limits[0] if limits else np.ptp(here.x)
            np.testing.assert_allclose(there["x"], here.x, rtol=0, atol=1e-5 * width, err_msg=key)


def test_oldest_environment_matches_the_declared_minimum():
    project = tomllib.loads((interop.ROOT / "pyproject.toml").read_text())["project"]
    promised = dict(re.fullmatch(r"(\w+)>=([\d.]+)", each).groups() for each in project["dependencies"])
    for each in OLDEST:
        package, version = each.partition(";")[0].split("==")
        if "python_version" in each and "<" not in each:
            continue
        assert version == promised[package] or version.startswith(promised[package] + ".")
