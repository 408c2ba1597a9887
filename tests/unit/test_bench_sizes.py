"""Named sizes of the benchmark: the registry's variants, and models of any of them with random weights."""

from dataclasses import replace

import torch

from dicetalk.bench.random_model import random_model
from dicetalk.bench.run import Setting, measure_run
from dicetalk.bench.sizes import SIZES
from dicetalk.checkpoints.variants import RELEASED, SONIC
from dicetalk.cli import parser
from dicetalk.config import BucketConfig
from dicetalk.settings import SamplerSettings


def test_every_released_variant_is_a_size_and_the_parser_offers_all() -> None:
    assert {name: SIZES[name].variant for name in SIZES if SIZES[name].variant in RELEASED} == {
        variant.name: variant for variant in RELEASED
    }
    assert tuple(SIZES) == parser.SIZES
    assert [size.short_side for size in SIZES.values() if size.variant in RELEASED] == [512] * len(RELEASED)


def test_a_variant_without_emotion_is_measured() -> None:
    small = SIZES["small"]
    config = replace(
        small.config,
        unet=replace(small.config.unet, num_adapters=1),
        bucket=BucketConfig(50, 64, 64, intermediate_dim=8),
    )
    size = replace(small, variant=replace(SONIC, name="small-sonic", config=config), short_side=64, seconds=0.5)
    model = random_model(size, torch.float32)
    assert model.emotion_model is model.pose_guider is None and model.priors == {}
    assert [adapter.name for adapter in model.adapters] == ["audio"]
    found = measure_run(model, size, Setting(SamplerSettings(steps=1, window=4, overlap=1)), torch.device("cpu"))
    assert found["windows"] > 0 and set(found["seconds"]) >= {"speech", "sample", "decode", "write"}
