"""Read and run sealed model files with numpy and ONNX Runtime, and the command `kvae`."""

# The one place of the version: pyproject.toml reads it from here.
__version__ = "0.1.0"
