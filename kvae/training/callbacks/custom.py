"""Callbacks that a user names on the command line, as `module:Class`."""

import importlib
import importlib.util
import sys
from pathlib import Path

import keras

from kvae_serve.errors import RequestError, printable


def load(name: str) -> keras.callbacks.Callback:
    """Import a callback. The current folder is searched first.

    Args:
        name: `module:Class`, or `module:function` for a function that returns a callback. It is called without
            arguments.

    Raises:
        RequestError: If the module or the name in it does not exist, or if the result is not a Keras callback.
    """
    module_name, _, attribute = name.partition(":")
    if (folder := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, folder)
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # an import inside the module
        raise RequestError(f"--callback {printable(name, 60)}: cannot find the module {module_name}.") from None
    except AttributeError:
        raise RequestError(
            f"--callback {printable(name, 60)}: expected module:Class, but {module_name} does not "
            f"define {printable(attribute, 40)!r}."
        ) from None
    callback = factory() if callable(factory) else factory
    if not isinstance(callback, keras.callbacks.Callback):
        raise RequestError(
            f"--callback {printable(name, 60)}: expected a subclass of keras.callbacks.Callback or a function that "
            f"returns a callback, got {type(callback).__name__}."
        )
    return callback
