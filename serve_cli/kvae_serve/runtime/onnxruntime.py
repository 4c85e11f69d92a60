"""Import of ONNX Runtime, with its telemetry switched off.

From version 1.29 on, its official builds for Linux and macOS send usage data to Microsoft (names and digests of models,
times, a permanent number of the machine) and store it in the user's cache folder. An environment variable that is set
before the import switches this off: https://github.com/microsoft/onnxruntime/pull/27379.
"""

import os
from types import ModuleType

TELEMETRY = "ORT_DISABLE_TELEMETRY"

IS_COMMAND = False
"""Whether this process is the `kvae` command, which sets it. A program that imports kvae keeps its own log settings."""


def onnxruntime() -> ModuleType:
    """Return the package `onnxruntime`. Telemetry is off unless the user has set the variable."""
    os.environ.setdefault(TELEMETRY, "1")
    import onnxruntime

    return onnxruntime
