"""Recognises the eight emotions in faces, with any classifier that comes as an ONNX file and a description."""
