"""ONNX classifiers of faces, and changes of their graphs."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import TensorProto
from small_onnx import write_onnx
from torch import nn

from fuzz.case import Files
from fuzz.mutate import NUMBERS, STRINGS, mutate_bytes
from fuzz.seeds import in_folder

OPERATIONS = (
    "Conv",
    "Relu",
    "Gemm",
    "Softmax",
    "Flatten",
    "Reshape",
    "Loop",
    "If",
    "Resize",
    "MaxPool",
    "Gather",
    "NoSuch",
)


def onnx_models() -> Files:
    """A small network and its description."""

    def write(folder: Path) -> None:
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 7 * 7, 3), nn.Softmax(1))
        write_onnx(layers, folder / "model.onnx", (3, 16, 16))

    table = {"size": 16, "classes": ["happy", "sad", None], "output": "probabilities"}
    return in_folder(write) | {"model.json": json.dumps(table).encode()}


def mutate_onnx(rng: random.Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Change an entry of the graph, or any byte."""
    if rng.random() < 0.4:
        return mutate_bytes(rng, data, others)
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError:
        return mutate_bytes(rng, data, others)
    graph = model.graph
    for _ in range(rng.choice((1, 1, 2, 3))):
        number = rng.choice((*NUMBERS[:-1], -1, -(2**31), 2**40))
        node, weight = rng.choice(graph.node), rng.choice(graph.initializer)
        kind = rng.randrange(10)
        if kind == 0:
            node.op_type = rng.choice(OPERATIONS)
        elif kind == 1 and node.attribute:
            attribute = rng.choice(node.attribute)
            attribute.i = number
            attribute.ints[:] = [number if rng.random() < 0.5 else each for each in attribute.ints]
        elif kind == 2 and node.attribute:
            rng.choice(node.attribute).name = rng.choice(("pads", "group", "strides", "kernel_shape", "axis", "x"))
        elif kind == 3 and node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice(("faces", "", "out1", "nothing", weight.name))
        elif kind == 4:
            weight.dims[:] = [number if rng.random() < 0.5 else each for each in weight.dims]
        elif kind == 5:
            weight.data_type = rng.randrange(25)
        elif kind == 6:  # values that lie in another file
            weight.ClearField("raw_data")
            weight.data_location = TensorProto.EXTERNAL
            place = rng.choice(("../../etc/passwd", "/etc/passwd", "/dev/zero", "model.json", *STRINGS[:6]))
            for key, value in (("location", place), ("offset", str(number)), ("length", str(rng.choice(NUMBERS)))):
                weight.external_data.add(key=key, value=value)
        elif kind == 7:
            shape = rng.choice([*graph.input, *graph.output]).type.tensor_type.shape
            rng.choice(shape.dim).dim_value = number if -(2**63) <= number < 2**63 else 0
        elif kind == 8:
            graph.node.append(node)
        else:
            weight.raw_data = mutate_bytes(rng, weight.raw_data)[: 1 << 20]
    return model.SerializeToString()
