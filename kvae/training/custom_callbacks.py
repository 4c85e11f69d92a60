"""Keras callbacks that a user names as `module:Class`, for `kvae train --callback`.

Importing this module does not import Keras, so that a wrong name is reported before the backend starts.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kvae_serve.errors import RequestError, printable

if TYPE_CHECKING:
    import keras


def check(name: str) -> None:
    """Raise RequestError unless `name` has the form `module:Class` and the package of the module exists."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise _error(name, "expected module:Class, such as tracking:Tracker")
    _search_current_folder()
    if importlib.util.find_spec(package := module.partition(".")[0]) is None:
        raise _error(
            name, f"cannot find the module {printable(package, 40)} in the current folder or among the packages"
        )


def load(name: str) -> "keras.callbacks.Callback":
    """Import and create a callback. The current folder is searched first.

    Args:
        name: `module:Class`, or `module:function` for a function that returns a callback. It is called without
            arguments.

    Raises:
        RequestError: If the callback cannot be imported or created.
    """
    import keras

    check(name)
    module, _, attribute = name.partition(":")
    try:
        callback = getattr(importlib.import_module(module), attribute)()
    except Exception as error:  # code of the user
        raise _error(name, f"{type(error).__name__}: {printable(error)}") from error
    if not isinstance(callback, keras.callbacks.Callback):
        raise _error(name, f"expected a subclass of keras.callbacks.Callback, got {type(callback).__name__}")
    return callback


def _search_current_folder() -> None:
    if (folder := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, folder)


def _error(name: str, reason: str) -> RequestError:
    return RequestError(f"--callback {printable(name, 60)}: {reason}.")
