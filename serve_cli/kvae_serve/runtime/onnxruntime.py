"""ONNX Runtime, opened so that it keeps what it sees to itself.

From 1.29 on its official builds for Linux and macOS tell their maker of each session (names and digests of the model,
times, a lasting number for the machine) and keep a database for that in the user's cache folder, unless an environment
variable says otherwise before the library is opened: https://github.com/microsoft/onnxruntime/pull/27379.
"""

import os
from types import ModuleType

TELEMETRY = "ORT_DISABLE_TELEMETRY"


def onnxruntime() -> ModuleType:
    """Return the package, with its telemetry switched off where the user has not decided on it."""
    os.environ.setdefault(TELEMETRY, "1")
    import onnxruntime

    return onnxruntime
