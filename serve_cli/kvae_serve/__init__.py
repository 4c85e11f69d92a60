"""The ground floor: reads and runs sealed model files with numpy and ONNX Runtime alone, and the command `kvae`."""

# Said here as well as in pyproject.toml, for asking the installed package takes longer than all of `kvae --version`.
__version__ = "0.1.0"
