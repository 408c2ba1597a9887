"""Motion buckets of the speech: the network against its equation, and its sizes in a config."""

import json

import numpy as np
import pytest
import torch

from dicetalk.audio.projection import AudioToBucket
from dicetalk.config import FULL, SONIC, BucketConfig, ModelConfig
from dicetalk.errors import CheckpointError

SMALL = BucketConfig(window=5, channels=3, image_dim=4, intermediate_dim=6)


def test_full_size_has_the_released_names_and_shapes() -> None:
    with torch.device("meta"):
        network = AudioToBucket(SONIC.bucket)
    assert {name: list(tensor.shape) for name, tensor in network.state_dict().items()} == {
        "proj1.weight": [1024, 50 * 384 + 1024],
        "proj1.bias": [1024],
        "proj2.weight": [1024, 1024],
        "proj2.bias": [1024],
        "proj3.weight": [2, 1024],
        "proj3.bias": [2],
    }


@torch.no_grad()
def test_buckets_are_the_equation_written_out() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = AudioToBucket(SMALL)
        windows, image = torch.randn(7, 5, 3), torch.randn(1, 4)
    weights = {name: tensor.double().numpy() for name, tensor in network.state_dict().items()}

    def layer(name: str, x: np.ndarray) -> np.ndarray:
        return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]

    for window, made in zip(windows, network.buckets(windows, image), strict=True):
        x = np.array([*(number for step in window.tolist() for number in step), *image[0].tolist()])
        for name in ("proj1", "proj2"):
            x = layer(name, x)
            x = x / (1 + np.exp(-x))
        assert np.abs(made.numpy() - (16 * layer("proj3", x) + 16)).max() < 1e-4
    assert torch.equal(network.buckets(windows, image.expand(7, -1)), network.buckets(windows, image))


def test_a_config_may_have_buckets_or_not() -> None:
    for config in (SONIC, FULL):
        assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    older = FULL.to_dict()
    del older["bucket"]
    assert ModelConfig.from_dict(older) == FULL
    for wrong, said in (
        ({"window": 50}, "missing"),
        ({**SONIC.to_dict()["bucket"], "window": 0}, "positive"),
        (3, "3"),
    ):
        with pytest.raises(CheckpointError, match=f"config.bucket.*{said}"):
            ModelConfig.from_dict(SONIC.to_dict() | {"bucket": wrong})
