"""Location of models: a folder of files, one file, or the name of a model that ships with kvae."""
# os rather than pathlib, because importing pathlib slows down the start of `kvae sample`.
# ruff: noqa: PTH100, PTH110, PTH112, PTH118, PTH119, PTH120, PTH208

from __future__ import annotations

import os

from kvae_serve.errors import ModelFileError, RequestError, printable

DEFAULT = "mnist"
"""Default model of a command."""

MANIFEST_ORDER = ("decoder", "encoder", "prior", "likelihood", "columns")
"""All graphs, in the order in which one is chosen to supply the manifest of the model.

Nearly every folder has a decoder, so commands read the same file whether or not the others exist. `manifest.GRAPHS` is
the order in which graphs are listed.
"""

_EXPECTED = "Give a folder, an .onnx file or the name of a shipped model."


def shipped() -> dict[str, str]:
    """Return the folders of the models that ship with kvae by name, sorted by name."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    # Inside the package if installed from a wheel, at the root of the repository in a checkout.
    roots = (os.path.join(package, "saved_models"), os.path.join(package, os.pardir, os.pardir, "saved_models"))
    root = next((os.path.normpath(each) for each in roots if os.path.isdir(each)), None)
    if root is None:
        return {}
    folders = {name: os.path.join(root, name) for name in sorted(os.listdir(root))}
    return {name: folder for name, folder in folders.items() if os.path.exists(os.path.join(folder, "decoder.onnx"))}


def find(path_or_name: str | os.PathLike[str]) -> tuple[str, dict[str, str]]:
    """Find the files of a model.

    Args:
        path_or_name: Name of a shipped model, folder, or file. A path with a separator is never a name.

    Returns:
        Path of the folder or file, and path of the file of each graph. The key of a single file is "", because its
        graph is named in its manifest.

    Raises:
        RequestError: The argument is not a path.
        ModelFileError: The model does not exist.
    """
    try:
        path = os.fsdecode(path_or_name)
    except TypeError:
        raise RequestError(
            f"The model is {printable(repr(path_or_name), 60)}; expected a path or a name. {_EXPECTED}"
        ) from None
    if os.path.basename(path) == path:
        names = shipped()
        if not path:
            raise ModelFileError(f"The name of the model is empty. {_EXPECTED}")
        path = names.get(path, path)
        if not os.path.lexists(path):
            raise ModelFileError(
                f"{printable(path, 30)} does not exist, and is not the name of a shipped model "
                f"({', '.join(names) or 'none'}). {_EXPECTED}"
            )
    if not os.path.isdir(path):
        return path, {"": path}
    paths = {graph: os.path.join(path, f"{graph}.onnx") for graph in MANIFEST_ORDER}
    paths = {graph: file for graph, file in paths.items() if os.path.lexists(file)}
    if not paths:
        is_run = os.path.exists(os.path.join(path, "run.json"))
        remedy = f" It is a run: kvae export {printable(path)} -o FOLDER writes them." if is_run else ""
        raise ModelFileError(
            f"{printable(path)} is not a model: expected decoder.onnx, encoder.onnx or both in it.{remedy}"
        )
    return path, paths
