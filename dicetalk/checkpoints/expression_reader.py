"""A trained expression reader in one safetensors file with its sizes."""

from pathlib import Path

import torch

from dicetalk.checkpoints.single import SingleFile
from dicetalk.emotion.reference.expressions import ExpressionReader, ExpressionReaderConfig

_FILE = SingleFile(
    "dicetalk.expression_reader",
    "`dicetalk train tiny`",
    ExpressionReaderConfig,
    ExpressionReader,
    {"size": 512},
)


def save_expression_reader(reader: ExpressionReader, path: Path) -> None:
    """Write the reader in float16, which is finer than it reads.

    Raises:
        OutputError: the file cannot be written.
    """
    _FILE.save(reader, path, torch.float16)


def load_expression_reader(path: Path | str) -> ExpressionReader:
    """Read what :func:`save_expression_reader` wrote; on the CPU, ready for inference.

    Raises:
        CheckpointError: the file is missing, damaged or no expression reader.
    """
    return _FILE.load(path)
