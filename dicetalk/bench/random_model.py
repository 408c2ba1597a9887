"""Models of named sizes with random weights: their time and memory are those of trained ones."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from dicetalk.adapters import EMOTION
from dicetalk.bench.sizes import Size
from dicetalk.checkpoints import networks
from dicetalk.checkpoints.load import MAY_BE_ABSENT, DiceModel
from dicetalk.checkpoints.strict import fill
from dicetalk.emotion.prior import PRESET_NAMES, PRIOR_DIM, EmotionPrior
from dicetalk.layers import sdpa_attention


def random_model(size: Size, dtype: torch.dtype, seed: int = 0) -> DiceModel:
    """The model of `size`, on the CPU, with weights that keep activations finite; Whisper and RIFE in float32."""
    variant, config = size.variant, size.config
    generator = torch.Generator().manual_seed(seed)
    own = {net: networks.dice_network(net, config, nn, sdpa_attention) for net in variant.networks}
    built: dict[str, Any] = {net.field: network for net, network in own.items() if not net.full_precision}
    built |= {"vae": networks.vae(config.vae), "image_encoder": networks.image_encoder(config.image_encoder)}
    whisper_sizes = {
        "d_model": config.audio.channels,
        "encoder_layers": config.audio.layers - 1,
        "encoder_attention_heads": size.whisper_heads,
        "encoder_ffn_dim": 4 * config.audio.channels,
    }
    precise: dict[str, Any] = {net.field: network for net, network in own.items() if net.full_precision}
    precise |= {"whisper": networks.whisper_encoder(whisper_sizes), "flownet": networks.flownet()}
    filled: dict[str, Any] = dict.fromkeys(MAY_BE_ABSENT)
    filled |= {field: _fill(network, dtype, generator) for field, network in built.items()}
    filled |= {field: _fill(network, torch.float32, generator) for field, network in precise.items()}
    return DiceModel(
        **filled,
        priors=_random_priors(generator) if EMOTION in variant.adapters else {},
        embedder=None,
        expression_reader=None,
        detector_path=None,
        config=config,
        dtype=dtype,
        adapters=variant.adapters,
    )


def _random_priors(generator: torch.Generator) -> dict[str, EmotionPrior]:
    return {name: EmotionPrior(torch.randn(PRIOR_DIM, generator=generator), name=name) for name in PRESET_NAMES}


def _fill(network: Any, dtype: torch.dtype, generator: torch.Generator) -> Any:
    weights = {name: _random(name, like, generator) for name, like in network.state_dict().items()}
    return fill(Path("random weights"), network, weights, dtype)


def _random(name: str, like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if like.dim() < 2:
        return torch.full(like.shape, 1.0 if "norm" in name and name.endswith("weight") else 0.0)
    fan_in = like[0].numel()
    return torch.randn(like.shape, generator=generator) / fan_in**0.5
