"""One small network and its sizes in one safetensors file: the format, the emotion embedder, the expression reader."""

import json
import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from dicetalk.checkpoints.read import DamagedFileError, check_start, read_safetensors
from dicetalk.checkpoints.strict import fill
from dicetalk.checkpoints.write import write_safetensors
from dicetalk.emotion.embedder import EmbedderConfig, EmotionEmbedder
from dicetalk.emotion.reference.expressions import ExpressionReader, ExpressionReaderConfig
from dicetalk.errors import SettingError
from dicetalk.hooks import SILENT

FORMAT_VERSION = "1"
MAX_CONFIG_CHARS = 1 << 12
MAX_SIZE = 1 << 16
"""Of a layer, in a config: a file must not ask for more than its network could ever need."""

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class SingleFile(Generic[Network]):
    """A kind of file.

    Args:
        format: in the file's metadata.
        origin: what writes such files, for messages.
        config: dataclass of whole numbers and floats; the network keeps its own as ``network.config``.
        build: makes the network of a config.
        most: largest value of an entry of the config where it is not :data:`MAX_SIZE`.
        dtype: of the weights in the file.
    """

    format: str
    origin: str
    config: type
    build: Callable[[Any], Network]
    most: Mapping[str, int]
    dtype: torch.dtype = torch.float32

    def save(self, network: Network, path: Path) -> None:
        """Write `network` and its config.

        Raises:
            OutputError: the file cannot be written.
        """
        weights = network.state_dict()
        config: Any = network.config
        metadata = {"format": self.format, "version": FORMAT_VERSION, "config": json.dumps(asdict(config))}
        shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        write_safetensors(path, shapes, lambda name: weights[name].cpu().to(self.dtype), self.dtype, metadata, SILENT)

    def load(self, path: Path | str) -> Network:
        """Read what :meth:`save` wrote; on the CPU in float32, ready for inference.

        Raises:
            CheckpointError: the file is missing, damaged or of another kind.
        """
        path = Path(path)
        check_start(path)
        tensors, metadata = read_safetensors(path)
        if (metadata.get("format"), metadata.get("version")) != (self.format, FORMAT_VERSION):
            raise DamagedFileError(
                path, f"is no {self.format} file of version {FORMAT_VERSION}; {self.origin} writes them."
            )
        try:
            config = self._config(metadata.get("config", ""))
        except (ValueError, RecursionError, SettingError) as error:
            raise DamagedFileError(path, f"has a damaged config ({error}).") from error
        with torch.device("meta"):
            network = self.build(config)
        return fill(path, network, tensors, torch.float32)

    def _config(self, text: str) -> Any:
        if len(text) > MAX_CONFIG_CHARS:
            raise ValueError(f"{len(text)} characters")
        values, hints = json.loads(text), typing.get_type_hints(self.config)
        names = {field.name for field in fields(self.config)}
        if not isinstance(values, dict) or set(values) != names:
            raise ValueError(f"expected the entries {', '.join(sorted(names))}")
        for name, value in values.items():
            low, kinds = (1, (int,)) if hints[name] is int else (-math.inf, (int, float))
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise ValueError(f"{name} is {value!r}")
            if not (math.isfinite(value) and low <= value <= self.most.get(name, MAX_SIZE)):
                raise ValueError(f"{name} is {value!r}")
        return self.config(**{name: hints[name](value) for name, value in values.items()})


EMBEDDER = SingleFile("dicetalk.embedder", "`train embedder`", EmbedderConfig, EmotionEmbedder, {"layers": 128})
"""Trained emotion embedders; in float32, because they are small and their variances are not."""

save_embedder, load_embedder = EMBEDDER.save, EMBEDDER.load

EXPRESSION_READER = SingleFile(
    "dicetalk.expression_reader",
    "`dicetalk train tiny`",
    ExpressionReaderConfig,
    ExpressionReader,
    {"size": 512},
    torch.float16,
)
"""Trained expression readers; float16 is finer than they read."""

save_expression_reader, load_expression_reader = EXPRESSION_READER.save, EXPRESSION_READER.load
