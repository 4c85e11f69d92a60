"""Model card, the README.md in an exported folder: a description of the manifest for people, not for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from kvae_serve.errors import printable
from kvae_serve.evaluation.card import code

_REPOSITORY = "https://github.com/kvae-onnx/kvae"
_KINDS = {
    "vae": "variational autoencoder (VAE)",
    "beta-vae": "beta-VAE",
    "conditional-vae": "conditional variational autoencoder (VAE)",
    "conditional-beta-vae": "conditional beta-VAE",
}
_TERMS = ("elbo", "reconstruction", "kl")
_PRIORS = {"standard_normal": "N(0, I)"}
_PROPERTIES = ("Property", "Value")
_DATA_AXES = {"image": "height x width x channels", "sequence": "steps x features"}
_PURPOSES = {
    "encoder.onnx": "Encode data: posterior q(z given x)",
    "decoder.onnx": "Decode z: mean of p(x given z)",
    "prior.onnx": "Prior of z given the conditions",
    "likelihood.onnx": "log p(x given z) in nats",
    "columns.onnx": "Dependence between the columns of a row given z",
}


class GraphFile(NamedTuple):
    """File of a graph: its name, its size, and its inputs and outputs as in `kvae_export.Graph`."""

    name: str
    num_bytes: int
    inputs: Mapping[str, tuple[tuple[int, ...], str]]
    outputs: Mapping[str, tuple[int, ...]]


def render(
    manifest: Mapping[str, Any],
    files: Sequence[GraphFile],
    preview: bool,
    table: Sequence[Sequence[str]] = (),
    sections: Sequence[str] = (),
) -> str:
    """Return the card as Markdown. The same arguments give the same text.

    Args:
        manifest: Keys that all graphs of the model share.
        files: Files of the graphs.
        preview: Whether the folder contains preview.png.
        table: Measurements of the files, header first, see `kvae_export.weight_costs`.
        sections: Further sections, each with its heading.
    """
    kind = _KINDS.get(manifest["kind"]) or _text(manifest["kind"])
    training = manifest.get("training") or {}
    source = f", trained on {_text(training['dataset'])}" if training.get("dataset") else ""
    blocks = [
        f"# {_text(manifest['name'])}",
        f"A {kind}{source}. Install [kvae]({_REPOSITORY}) from its repository to run it; Keras is not needed.",
        "![Samples from the model](preview.png)" if preview else "",
        "## Model\n\n" + _table(_PROPERTIES, _model_rows(manifest)),
        _training(manifest, training),
        "## Files\n\n" + _files(files),
        _weights(table),
        *sections,
        "## Use\n\nIn this folder:\n\n" + _use(manifest, {file.name for file in files}),
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in _limits(manifest, training)),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _model_rows(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    data = manifest["data"]
    size = " x ".join(map(str, data["shape"]))
    axes = f" ({_DATA_AXES[data['kind']]})" if data["kind"] in _DATA_AXES else ""
    described = f"{data['kind']}, {size}{axes}, {_range(data.get('range'))}"
    if data["kind"] == "table":
        described = f"table of {size} column{'' if data['shape'] == [1] else 's'}"
    rows = [
        ("Kind", _text(manifest["kind"])),
        ("Data", described),
        ("Latent dimensions", str(manifest["latent_dim"])),
    ]
    rows += [(f"Condition {_text(c['name'])}", _condition(c)) for c in manifest["conditions"]]
    rows += [
        ("Likelihood", _named(manifest["likelihood"])),
        ("Prior", _PRIORS.get(manifest["prior"]["name"]) or _named(manifest["prior"])),
        ("Model id", f"`{manifest['model_id']}`"),
    ]
    return rows


def _condition(condition: Mapping[str, Any]) -> str:
    if condition["kind"] != "categorical":
        return f"a number, {_range(condition.get('range'))}"
    classes = [_text(name) for name in condition["classes"]]
    shown = ", ".join(classes if len(classes) <= 20 else [*classes[:18], "...", classes[-1]])
    return f"{len(classes)} classes: {shown}"


def _training(manifest: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    if not training:
        return "## Training\n\nNo training information was recorded."
    known = {"dataset", "examples", "epochs", "beta", "seed", "validation", "final", "versions"}
    first = ("dataset", "examples", "epochs")
    rows = [(_label(key), _text(training[key])) for key in first if training.get(key) is not None]
    if training.get("beta") is not None:
        rows.append(("Beta", _named(training["beta"])))
    if training.get("seed") is not None:
        rows.append(("Seed", _text(training["seed"])))
    rest = {key: value for key, value in sorted(training.items()) if key not in known}
    rows += [(_label(key), _items(value)) for key, value in rest.items()]
    if isinstance(training.get("final"), Mapping):
        rows.append(("Last epoch, training data", f"{_items(training['final'])}, in nats per example"))
    versions = training.get("versions") or {}
    if versions:
        rows.append(("Versions", ", ".join(f"{_text(name)} {_text(versions[name])}" for name in sorted(versions))))
    return "\n\n".join(["## Training", _table(_PROPERTIES, rows), *_validation(training.get("validation"))])


def _label(key: str) -> str:
    return _text(_words(key)[:1].upper() + _words(key)[1:])


def _words(key: str) -> str:
    return key.replace("_", " ")


def _items(value: Any) -> str:
    """Return a value, or the keys and values of an object separated by commas."""
    if not isinstance(value, Mapping):
        return _text(value)
    order = [*(name for name in _TERMS if name in value), *sorted(set(value) - set(_TERMS))]
    return ", ".join(f"{_text(_words(key))} {_text(value[key])}" for key in order)


def _validation(metrics: Any) -> Iterable[str]:
    if not isinstance(metrics, Mapping) or not metrics:
        yield "No validation data was used."
        return
    num = metrics.get("examples")
    yield f"On {_text(num)} validation examples, which were not trained on:" if num else "On validation data:"
    nats = [(name, metrics[name]) for name in _TERMS if name in metrics]
    rows = [(name, f"{value:.2f}" if isinstance(value, int | float) else _text(value)) for name, value in nats]
    rest = sorted(set(metrics) - {"examples", *(name for name, _ in nats)})
    yield _table(("Metric", "Nats per example"), rows)
    if rest:
        yield _table(_PROPERTIES, [(_label(name), _text(metrics[name])) for name in rest])


def _files(files: Sequence[GraphFile]) -> str:
    rows = []
    for file in files:
        inputs = [_tensor(name, dtype, shape) for name, (shape, dtype) in file.inputs.items()]
        outputs = [_tensor(name, "float32", shape) for name, shape in file.outputs.items()]
        purpose = _PURPOSES.get(file.name, "")
        rows.append((f"`{file.name}`", purpose, f"{file.num_bytes:,}", ", ".join(inputs), ", ".join(outputs)))
    table = _table(("File", "Purpose", "Bytes", "Inputs", "Outputs"), rows)
    return (
        f"{table}\n\nEach file is an ordinary ONNX model. Inputs and outputs are in data units. The file contains all "
        "metadata that is needed to use it, and a checksum at its end detects corruption."
    )


def _weights(table: Sequence[Sequence[str]]) -> str:
    if not table:
        return ""
    from kvae_export.weight_costs import processor

    return (
        f"## Weights\n\n{_table(table[0], table[1:])}\n\nMeasured by `kvae export` on one thread of "
        f"{_text(processor())}. Times are per decoded row, one at a time and in batches of 64. Differences are from "
        "the outputs of float32 weights, as a share of the data range (in data units if it is unbounded). The elbo is "
        "in nats per example, on held-out data."
    )


def _use(manifest: Mapping[str, Any], names: set[str]) -> str:
    categorical = next((c for c in manifest["conditions"] if c["kind"] == "categorical"), None)
    flag = keyword = ""
    if categorical is not None:
        name, last = categorical["name"], categorical["classes"][-1]
        flag = f" --label {_shell(last)}" if name == "label" else f" --condition {_shell(f'{name}={last}')}"
        keyword = (
            f", label={json.dumps(last, ensure_ascii=False)}"
            if name == "label"
            else f", conditions={{{json.dumps(name)}: {json.dumps(last, ensure_ascii=False)}}}"
        )
    output = "samples" + {"image": ".png", "table": ".csv"}.get(manifest["data"]["kind"], ".npz")
    sample = python = ""
    if "decoder.onnx" in names:
        sample = f"kvae sample -m .{flag} -o {output}\n"
        python = f'\n\n```python\nimport kvae\n\nmodel = kvae.load(".")\ndraws = model.sample(16{keyword}, seed=0)\n```'
    return f"```sh\n{sample}kvae info -m .\nkvae verify -m .\n```{python}"


def _limits(manifest: Mapping[str, Any], training: Mapping[str, Any]) -> Iterable[str]:
    dataset = _text(training["dataset"]) if training.get("dataset") else "one data set"
    yield f"The model was trained on {dataset} only. It encodes other data too, but the result is meaningless."
    data = manifest["data"]
    if data["kind"] not in ("table", "sequence") and not data.get("scale"):
        yield "Samples are means of p(x given z), so they look smoother than data. `--draw` draws from p(x given z)."
    if training.get("validation"):
        yield "`elbo` is a lower bound on the log-likelihood, not the log-likelihood."
    if training.get("validation") and manifest["likelihood"]["name"] == "bernoulli":
        yield (
            "The metrics are of binarised data: each value is drawn as the lowest or the highest of its range. "
            "Do not compare them with the densities of continuous models."
        )
    if manifest["conditions"]:
        yield "A sample does not always match the condition that it was drawn for."
    yield "The checksum detects corruption. It is not a signature: use files from sources that you trust."


def _named(value: Mapping[str, Any]) -> str:
    """Return `name (key value, ...)` of an object with a name."""
    rest = [
        f"{_text(key)} {_text(each)}"
        for key, each in sorted(value.items())
        if key != "name" and not (isinstance(each, list) and len(each) > 16)
    ]
    return _text(value["name"]) + (f" ({', '.join(rest)})" if rest else "")


def _range(limits: Any) -> str:
    return f"{limits[0]:g} to {limits[1]:g}" if limits else "unbounded"


def _tensor(name: str, dtype: str, shape: tuple[int, ...]) -> str:
    escaped = code(name.replace("|", "\\|"))  # a pipe would end the cell of the table
    return f"{escaped} {dtype} [{', '.join(map(str, ('batch', *shape)))}]"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _shell(value: str) -> str:
    import shlex

    return shlex.quote(printable(value, 60))


def _text(value: object) -> str:
    """Return a value as one line, escaped for Markdown."""
    text = printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True))
    for mark in "\\|<>*_`[]":
        text = text.replace(mark, "\\" + mark)
    return text
