"""The encoder of a Whisper folder in Hugging Face's layout; the decoder is not read."""

import json
from pathlib import Path

from torch import nn

from dicetalk.checkpoints import networks
from dicetalk.checkpoints.read import DamagedFileError, Tensors, check_start, read_tensors
from dicetalk.config import AudioConfig

_PREFIXES = ("model.encoder.", "encoder.")
_SIZES = ("d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim")
_FEATURES = {"num_mel_bins": 80, "max_source_positions": 1500}
"""Fixed by the features: 80 mel bands, 3000 frames of which the encoder keeps every second."""

MAX_CONFIG_BYTES = 1 << 16
MAX_SIZE = 1 << 14


def read_whisper_sizes(path: Path, audio: AudioConfig) -> dict[str, int]:
    """Read the encoder's sizes from ``config.json``.

    Raises:
        DamagedFileError: the file is no such config, or its sizes are not those that `audio` expects.
    """
    check_start(path)
    try:
        with path.open("rb") as file:
            config = json.loads(file.read(MAX_CONFIG_BYTES))
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(path, f"is not valid JSON ({error}).") from error
    if not isinstance(config, dict):
        raise DamagedFileError(path, "is not a Whisper config.")
    sizes: dict[str, int] = {}
    for name in (*_SIZES, *_FEATURES):
        value = config.get(name)
        if type(value) is not int or not 0 < value <= MAX_SIZE:
            raise DamagedFileError(path, f"is not a Whisper config: its {name} is {value!r}.")
        sizes[name] = value
    expected = {"d_model": audio.channels, "encoder_layers": audio.layers - 1, **_FEATURES}
    for name, value in expected.items():
        if sizes[name] != value:
            raise DamagedFileError(path, f"says {name} = {sizes[name]}; the audio projection needs {value}.")
    if sizes["d_model"] % sizes["encoder_attention_heads"]:
        raise DamagedFileError(path, f"says {sizes['encoder_attention_heads']} heads, which do not divide d_model.")
    return sizes


def read_whisper(path: Path) -> Tensors:
    """Read the encoder's tensors from ``model.safetensors`` or ``pytorch_model.bin``.

    Raises:
        DamagedFileError: the file is damaged or holds no Whisper.
    """
    tensors = read_tensors(path, lambda name: name.startswith(_PREFIXES))
    prefix = next((p for p in _PREFIXES if any(name.startswith(p) for name in tensors)), "")
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def whisper_network(config_path: Path, audio: AudioConfig) -> nn.Module:
    """The encoder on the meta device, sized by its ``config.json``."""
    return networks.whisper_encoder(read_whisper_sizes(config_path, audio))
