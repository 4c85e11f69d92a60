"""Export of functions and a manifest to sealed ONNX files, verified through the reader that runs them.

The package depends on functions, not on models. TensorFlow, tf2onnx and onnx are imported on first use.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvae_export.folder import write
    from kvae_export.graph import Graph
    from kvae_export.tolerances import default_tolerances
else:
    _MODULES = {"Graph": "graph", "default_tolerances": "tolerances", "write": "folder"}

    def __getattr__(name):
        if name not in _MODULES:
            raise AttributeError(f"module 'kvae_export' has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"kvae_export.{_MODULES[name]}"), name)

    def __dir__():
        return [*globals(), *_MODULES]


__all__ = ["Graph", "default_tolerances", "write"]
