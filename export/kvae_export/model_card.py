"""The model card, README.md beside the graphs: what the manifest says, for people. No reader needs it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from kvae_serve.errors import printable

_KINDS = {
    "vae": "variational autoencoder (VAE)",
    "beta-vae": "beta-VAE",
    "conditional-vae": "conditional variational autoencoder (VAE)",
    "conditional-beta-vae": "conditional beta-VAE",
}
_TERMS = ("elbo", "reconstruction", "kl")
_PRIORS = {"standard_normal": "N(0, I)"}
_DATA_AXES = {"image": "height x width x channels", "sequence": "steps x features"}
_WHAT = {
    "encoder.onnx": "data to the posterior q(z given x)",
    "decoder.onnx": "z to data: the mean of p(x given z)",
    "prior.onnx": "conditions to the prior of z",
    "likelihood.onnx": "log p(x given z), nats",
}


class FileFacts(NamedTuple):
    """A graph's file: its name, its size, and its inputs and outputs as `kvae_export.Graph` has them."""

    name: str
    num_bytes: int
    inputs: Mapping[str, tuple[tuple[int, ...], str]]
    outputs: Mapping[str, tuple[int, ...]]


def render(
    manifest: Mapping[str, Any], files: Sequence[FileFacts], preview: bool, table: Sequence[Sequence[str]] = ()
) -> str:
    """Return the card as Markdown; the same manifest and files give the same text.

    Args:
        manifest: what all graphs of the model share.
        files: the graphs' files.
        preview: whether preview.png stands beside.
        table: what was measured on the files, its head first, see `kvae_export.weight_costs`.
    """
    kind = _KINDS.get(manifest["kind"], manifest["kind"])
    training = manifest.get("training") or {}
    source = f", trained on {_text(training['dataset'])}" if training.get("dataset") else ""
    blocks = [
        f"# {_text(manifest['name'])}",
        f"A {kind}{source}. It runs wherever ONNX Runtime runs: `pip install kvae-onnx`.",
        "![Samples from the model](preview.png)" if preview else "",
        "## What it is\n\n" + _table(("", ""), _model_rows(manifest)),
        _training(manifest, training),
        "## Files\n\n" + _files(files),
        _measured(table),
        "## Use\n\nIn this folder:\n\n" + _use(manifest, {file.name for file in files}),
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in _limits(manifest, training)),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _model_rows(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    data = manifest["data"]
    size = " x ".join(map(str, data["shape"]))
    axes = f" ({_DATA_AXES[data['kind']]})" if data["kind"] in _DATA_AXES else ""
    rows = [
        ("kind", _text(manifest["kind"])),
        ("data", f"{data['kind']}, {size}{axes}, {_range(data.get('range'))}"),
        ("latent dimensions", str(manifest["latent_dim"])),
    ]
    rows += [(f"condition {_text(c['name'])}", _condition(c)) for c in manifest["conditions"]]
    rows += [
        ("likelihood", _named(manifest["likelihood"])),
        ("prior", _PRIORS.get(manifest["prior"]["name"]) or _named(manifest["prior"])),
        ("model id", f"`{manifest['model_id']}`"),
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
        return "## Training\n\nNothing is known of it."
    known = {"dataset", "examples", "epochs", "beta", "seed", "validation", "final", "versions"}
    rows = [(key, _text(training[key])) for key in ("dataset", "examples", "epochs") if training.get(key) is not None]
    if training.get("beta") is not None:
        rows.append(("beta", _named(training["beta"])))
    if training.get("seed") is not None:
        rows.append(("seed", _text(training["seed"])))
    rest = {key: value for key, value in sorted(training.items()) if key not in known}
    rows += [(_label(key), _facts(value)) for key, value in rest.items()]
    if isinstance(training.get("final"), Mapping):
        rows.append(("last epoch, training data", f"{_facts(training['final'])}, in nats per example"))
    versions = training.get("versions") or {}
    if versions:
        rows.append(("made with", ", ".join(f"{_text(name)} {_text(versions[name])}" for name in sorted(versions))))
    return "\n\n".join(["## Training", _table(("", ""), rows), *_validation(training.get("validation"))])


def _label(key: str) -> str:
    return _text(key.replace("_", " "))


def _facts(value: Any) -> str:
    """A value, or an object's keys and values in a row."""
    if not isinstance(value, Mapping):
        return _text(value)
    order = [*(name for name in _TERMS if name in value), *sorted(set(value) - set(_TERMS))]
    return ", ".join(f"{_label(key)} {_text(value[key])}" for key in order)


def _validation(figures: Any) -> Iterable[str]:
    if not isinstance(figures, Mapping) or not figures:
        yield "No examples were held out of training."
        return
    num = figures.get("examples")
    yield f"On {_text(num)} examples held out of training:" if num else "On examples held out of training:"
    nats = [(name, figures[name]) for name in _TERMS if name in figures]
    rows = [(name, f"{value:.2f}" if isinstance(value, int | float) else _text(value)) for name, value in nats]
    rest = sorted(set(figures) - {"examples", *(name for name, _ in nats)})
    yield _table(("", "nats per example"), rows)
    if rest:
        yield _table(("", ""), [(_text(name), _text(figures[name])) for name in rest])


def _files(files: Sequence[FileFacts]) -> str:
    rows = []
    for file in files:
        inputs = [_tensor(name, dtype, shape) for name, (shape, dtype) in file.inputs.items()]
        outputs = [_tensor(name, "float32", shape) for name, shape in file.outputs.items()]
        rows.append(
            (f"`{file.name}`", _WHAT.get(file.name, ""), f"{file.num_bytes:,}", ", ".join(inputs), ", ".join(outputs))
        )
    table = _table(("file", "computes", "bytes", "inputs", "outputs"), rows)
    return (
        f"{table}\n\nEach file is an ordinary ONNX model in data units, carries all that is needed to use it, "
        "and ends in a seal that tells damage."
    )


def _measured(table: Sequence[Sequence[str]]) -> str:
    if not table:
        return ""
    from kvae_export.weight_costs import processor

    return (
        f"## Weights\n\n{_table(table[0], table[1:])}\n\nMeasured by `kvae export` on one thread of "
        f"{_text(processor())}, decoding one at a time and 64 at a time. Differences are parts of the data range (data "
        "units where it is unbounded) of what the float32 weights give; the elbo is in nats per example."
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
    image = manifest["data"]["kind"] == "image"
    output = "samples.png" if image else "samples.npz"
    sample = ""
    python = ""
    if "decoder.onnx" in names:
        sample = f"kvae sample -m .{flag} -o {output}\n"
        python = f'\n\n```python\nimport kvae\n\nmodel = kvae.load(".")\ndraws = model.sample(16{keyword}, seed=0)\n```'
    return f"```sh\n{sample}kvae info -m .\nkvae verify -m .\n```{python}"


def _limits(manifest: Mapping[str, Any], training: Mapping[str, Any]) -> Iterable[str]:
    dataset = _text(training["dataset"]) if training.get("dataset") else "its training data"
    yield f"It knows {dataset} and nothing else: other data is encoded without complaint, and wrongly."
    yield "A sample shows the mean of p(x given z), smoother than data; `--draw` draws from p(x given z) itself."
    if training.get("validation"):
        yield "`elbo` is a lower bound on the log-likelihood, not the log-likelihood."
    if training.get("validation") and manifest["likelihood"]["name"] == "bernoulli":
        yield (
            "Its figures are of binarised data, each value drawn to the lowest or the highest of its range; "
            "they do not compare with those of densities."
        )
    if manifest["conditions"]:
        yield "A condition steers what is made; nothing makes sure that each sample shows it."
    yield "The seal notices damage. It is no signature: take the files from where you trust them."


def _named(facts: Mapping[str, Any]) -> str:
    """Return `name (key value, ...)` of an object that has a name and facts of its own."""
    rest = [
        f"{_text(key)} {_text(value)}"
        for key, value in sorted(facts.items())
        if key != "name" and not (isinstance(value, list) and len(value) > 16)
    ]
    return _text(facts["name"]) + (f" ({', '.join(rest)})" if rest else "")


def _range(limits: Any) -> str:
    return f"{limits[0]:g} to {limits[1]:g}" if limits else "unbounded"


def _tensor(name: str, dtype: str, shape: tuple[int, ...]) -> str:
    return f"`{name}` {dtype} [{', '.join(map(str, ('batch', *shape)))}]"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _shell(value: str) -> str:
    import shlex

    return shlex.quote(printable(value, 60))


def _text(value: object) -> str:
    """Return a value as one line that Markdown shows as it is."""
    text = printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True))
    for mark in "\\|<>*_`[]":
        text = text.replace(mark, "\\" + mark)
    return text
