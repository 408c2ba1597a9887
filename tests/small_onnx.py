"""Writes small torch networks as ONNX, layer by layer, for the tests of the recogniser."""

from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn


def write_onnx(layers: nn.Sequential, path: Path, input_shape: tuple[int, ...]) -> Path:
    """Write a chain of Conv2d, ReLU, Flatten, Softmax and Linear layers; `input_shape` is without the batch."""
    nodes, weights, name = [], [], "faces"
    for number, layer in enumerate(layers):
        inputs, output = [name], f"out{number}"
        for key, tensor in layer.named_parameters():
            inputs.append(f"{number}.{key}")
            weights.append(numpy_helper.from_array(tensor.detach().numpy(), inputs[-1]))
        if isinstance(layer, nn.Conv2d):
            options = {
                "kernel_shape": layer.kernel_size,
                "strides": layer.stride,
                "pads": layer.padding * 2,
                "group": layer.groups,
            }
            node = helper.make_node("Conv", inputs, [output], **options)
        elif isinstance(layer, nn.Linear):
            node = helper.make_node("Gemm", inputs, [output], transB=1)
        else:
            kind = {nn.ReLU: "Relu", nn.Flatten: "Flatten", nn.Softmax: "Softmax"}[type(layer)]
            node = helper.make_node(kind, inputs, [output])
        nodes.append(node)
        name = output
    with torch.no_grad():
        outputs = layers(torch.zeros(1, *input_shape)).shape[1]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("faces", TensorProto.FLOAT, [1, *input_shape])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, outputs])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path
