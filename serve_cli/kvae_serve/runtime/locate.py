"""Where models are: a folder of files, one file, or a name that ships with kvae."""
# os rather than pathlib: importing pathlib would be felt in the start of `kvae sample`.
# ruff: noqa: PTH100, PTH110, PTH112, PTH118, PTH119, PTH120, PTH208

from __future__ import annotations

import os

from kvae_serve.errors import ModelFileError, RequestError, printable

DEFAULT = "mnist"
"""The model of a command that is given none."""

GRAPHS = ("decoder", "encoder", "prior", "likelihood")
"""The graphs of a model, in the order in which its manifest is looked for."""


def shipped() -> dict[str, str]:
    """Return the models that ship with kvae: name to folder, sorted by name."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    # In the package if it was installed from a wheel, at the root of the repository in a checkout.
    roots = (os.path.join(package, "saved_models"), os.path.join(package, os.pardir, os.pardir, "saved_models"))
    root = next((os.path.normpath(each) for each in roots if os.path.isdir(each)), None)
    if root is None:
        return {}
    folders = {name: os.path.join(root, name) for name in sorted(os.listdir(root))}
    return {name: folder for name, folder in folders.items() if os.path.exists(os.path.join(folder, "decoder.onnx"))}


def find(path_or_name: str | os.PathLike[str]) -> tuple[str, dict[str, str]]:
    """Find the files of a model.

    Args:
        path_or_name: the name of a shipped model, a folder, or one file. With a separator it is never a name.

    Returns:
        The path of the folder or file, and graph to file; the graph of a lone file is "", for only its manifest knows.

    Raises:
        RequestError: it is neither path nor name.
        ModelFileError: there is none.
    """
    try:
        path = os.fsdecode(path_or_name)
    except TypeError:
        raise RequestError(
            f"A model is given as a path or a name, got {printable(repr(path_or_name), 60)}. "
            "Give a folder, an .onnx file or a shipped model's name."
        ) from None
    bare = os.path.basename(path) == path
    if bare:
        names = shipped()
        if not path:
            raise ModelFileError("The model has an empty name. Give a folder, an .onnx file or a shipped model's name.")
        path = names.get(path, path)
        if not os.path.lexists(path):
            raise ModelFileError(
                f"{printable(path, 30)} does not exist, and no model of that name ships "
                f"(these do: {', '.join(names) or 'none'}). Give a folder, an .onnx file or a name."
            )
    if not os.path.isdir(path):
        return path, {"": path}
    paths = {graph: os.path.join(path, f"{graph}.onnx") for graph in GRAPHS}
    paths = {graph: file for graph, file in paths.items() if os.path.lexists(file)}
    if not paths:
        raise ModelFileError(f"{printable(path)} holds no model: expected decoder.onnx, encoder.onnx or both in it.")
    return path, paths
