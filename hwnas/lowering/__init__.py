"""The graph as an ONNX file and as a torch module."""
