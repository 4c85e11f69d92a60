"""The ground floor: reads and runs sealed model files with numpy and ONNX Runtime alone, and the command `kvae`."""
