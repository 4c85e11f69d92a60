"""The middle floor: functions and a manifest become sealed ONNX files, proved through the reader that serves them.

It knows functions, not models. TensorFlow, tf2onnx and onnx are opened when a name that needs them is first used.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvae_export.folder import write
    from kvae_export.graph import Graph
    from kvae_export.tolerances import default_tolerances
else:
    _HOMES = {"Graph": "graph", "default_tolerances": "tolerances", "write": "folder"}

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module 'kvae_export' has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"kvae_export.{_HOMES[name]}"), name)

    def __dir__():
        return [*globals(), *_HOMES]


__all__ = ["Graph", "default_tolerances", "write"]
