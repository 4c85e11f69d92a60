"""Import rules: no cycles, imports run down between the groups of the layout, and a command opens only what it uses."""

from __future__ import annotations

import ast
import itertools
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from support.paths import python_path

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "kvae": ROOT / "kvae",
    "kvae_export": ROOT / "export/kvae_export",
    "kvae_serve": ROOT / "serve_cli/kvae_serve",
}
HEAVY = {"tensorflow", "keras", "tf2onnx", "onnx"}

# The groups of the layout (first folder or module of a package), from the top down. A group may import groups of later
# lines and nothing of its own line but itself. Modules named at the package's root, such as kvae.VAE, are in "".
ORDER = {
    "kvae": [
        ["__main__"],
        ["commands"],
        [""],
        ["pyod"],
        ["sklearn"],
        ["tuning"],
        ["report", "table_vae"],
        ["sample_metrics", "ray_data"],
        ["presets"],
        ["training"],
        ["models"],
        ["exporting"],
        ["objectives", "priors", "networks", "likelihoods", "metrics"],
        ["dataloaders", "optimizers"],
        ["data", "backends"],
        ["serialization", "loss_terms", "mixtures"],
        ["types"],
    ],
    "kvae_export": [
        [""],
        ["folder", "triton"],
        ["convert", "parity"],
        ["trace", "model_card"],
        ["weight_costs", "passes", "tolerances", "layer_names"],
        ["graph"],
    ],
    "kvae_serve": [
        ["cli"],
        ["http_server"],
        ["request_fields"],
        ["model"],
        ["hub"],
        ["explorer"],
        ["latent"],
        ["evaluation"],
        ["inference"],
        ["readers", "runtime"],
        ["writers"],
        ["row_stream", "latent_path", "csv_escape", "prefetch", "progress", "cells"],
        ["sealed"],
        ["numbers", "strict_json", "dates", "class_indices"],
        ["errors", ""],
    ],
}


def modules() -> dict[str, Path]:
    """Return every module of the three packages: its name and its file."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *(parts[:-1] if parts[-1] == "__init__" else parts)))] = path
    return found


MODULES = modules()


def imported(name: str) -> set[str]:
    """Return the modules of ours that a module imports, also under TYPE_CHECKING and inside functions."""
    targets = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                targets.add(whole if whole in MODULES else node.module)
    return (targets & set(MODULES)) - {name}


def edges() -> dict[str, set[str]]:
    """Return module to imported modules."""
    return {name: imported(name) for name in MODULES}


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected components of more than one node (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph[node]):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def group(name: str) -> str:
    """Return the group of a module: the first folder or module below its package."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


def arrows_up(order: list[list[str]], arrows: dict[tuple[str, str], list[str]]) -> list[str]:
    """Return the imports that do not run down, as text."""
    level = {each: number for number, line in enumerate(order) for each in line}
    return [
        f"{source} -> {target}: {', '.join(sorted(examples)[:3])}"
        for (source, target), examples in sorted(arrows.items())
        if source != target and level[source] >= level[target]
    ]


def test_cycles_are_found():
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert cycles({"a": {"b"}, "b": set()}) == []


def test_no_module_is_in_an_import_cycle():
    assert cycles(edges()) == []


def test_packages_import_down_only():
    rank = {"kvae": 2, "kvae_export": 1, "kvae_serve": 0}
    for name, targets in edges().items():
        for target in targets:
            assert rank[name.split(".")[0]] >= rank[target.split(".")[0]], f"{name} imports {target}"


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_groups_import_down_only(package):
    arrows = defaultdict(list)
    for name, targets in edges().items():
        if name.split(".")[0] == package:
            assert group(name) in set(itertools.chain(*ORDER[package])), f"{name}: add its group to ORDER"
            for target in targets:
                if target.split(".")[0] == package:
                    arrows[group(name), group(target)].append(f"{name} imports {target}")
    assert arrows_up(ORDER[package], arrows) == []


@pytest.mark.parametrize("package", ["kvae_export", "kvae_serve"])
def test_lower_packages_name_no_module_of_an_upper_package(package):
    upper = {"kvae_export": ("kvae",), "kvae_serve": ("kvae", "kvae_export")}[package]
    names = {name for name in MODULES if name.split(".")[0] in upper and "." in name}
    for path in sorted(PACKAGES[package].rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
                assert node.value.partition(":")[0] not in names, f"{path}:{node.lineno} names {node.value}"


def test_the_light_package_imports_no_training_framework():
    for path in sorted(PACKAGES["kvae_serve"].rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & HEAVY, f"{path}:{node.lineno}"


def modules_after(code: str, folder: Path = ROOT) -> set[str]:
    """Return the modules that a new process has loaded after some code."""
    code += "\nimport sys; open('loaded', 'w').write(' '.join(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": python_path()}
    subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder, env=environment
    )
    return set((folder / "loaded").read_text().split())


def test_checks_before_training_import_no_training_framework(tmp_path):
    code = "import kvae.commands.train; from kvae.backends import startup; from kvae.training import run_data"
    assert not modules_after(code, tmp_path) & (HEAVY | {"jax", "torch"})


def test_importing_kvae_opens_nothing_heavy(tmp_path):
    assert not modules_after("import kvae", tmp_path) & (HEAVY | {"numpy", "onnxruntime"})


def test_loading_an_exported_model_opens_no_keras(tmp_path):
    loaded = modules_after("import kvae; kvae.load('mnist').sample(1, label='3', seed=0)", tmp_path)
    assert "onnxruntime" in loaded
    assert not loaded & (HEAVY | {"PIL"})


# Modules that a command may open besides click, of those that other commands need.
WATCHED = HEAVY | {
    "PIL",
    "zipfile",
    "csv",
    "numpy.random",
    "numpy",
    "onnxruntime",
    "kvae_export",
    "asyncio",
    "email",
}
READERS = {"numpy", "onnxruntime", "zipfile", "csv"}
OPENS = {
    ("sample", "--label", "3", "-o", "a.png"): {"numpy", "onnxruntime", "PIL"},
    ("sample", "--label", "3", "--plain", "-o", "a.png"): {"numpy", "onnxruntime"},
    ("sample", "--label", "3", "-o", "a.npz"): {"numpy", "onnxruntime", "zipfile"},
    ("sample", "--label", "3"): {"numpy", "onnxruntime"},
    ("encode", "data.npz", "-o", "codes.npz"): READERS,
    ("decode", "z.npz", "-o", "x.png"): READERS | {"PIL"},
    ("reconstruct", "data.npz", "-o", "r.png"): READERS | {"PIL"},
    ("score", "data.npz", "-o", "s.csv"): READERS | {"numpy.random"},
    ("impute", "rows.csv", "-m", "MODEL"): READERS | {"numpy.random"},
    ("verify",): {"numpy", "onnxruntime", "numpy.random"},
    ("info",): {"numpy"},
    ("models",): {"numpy"},
}


@pytest.mark.parametrize("arguments", OPENS, ids=" ".join)
def test_a_command_opens_only_what_it_uses(arguments, tmp_path):
    import numpy as np

    x = np.full((4, 28, 28, 1), 200, np.uint8)
    np.savez(tmp_path / "data.npz", x=x, label=np.arange(4))
    (tmp_path / "rows.csv").write_text("age,pay\n10,-3\n,1\n")
    arguments_with_model = [str(ROOT / "tests/data/linear_table") if each == "MODEL" else each for each in arguments]
    np.savez(tmp_path / "z.npz", z=np.zeros((4, 16)), label=np.arange(4))
    code = f"from kvae.__main__ import run\nassert run({arguments_with_model!r}) == 0"
    assert modules_after(code, tmp_path) & WATCHED <= OPENS[arguments]


def test_every_public_name_resolves():
    import kvae

    for name in kvae.__all__:
        getattr(kvae, name)


def test_an_unknown_name_is_an_attribute_error():
    import kvae

    with pytest.raises(AttributeError, match="no attribute 'VAEE'"):
        _ = kvae.VAEE
