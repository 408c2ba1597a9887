"""One small folder of training data for all tests here; none changes it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from training_runs import (
    CPU,
    TINY,
    diffusion_training,
    make_inputs,
    reset_accelerate,
)

from dicetalk.checkpoints.single import load_embedder
from dicetalk.train.diffusion import DiffusionTask
from dicetalk.train.latents import LatentStore, encode_clips, encoder_fingerprint
from dicetalk.train.shards import ClipRecord, list_clips
from dicetalk.train.start import (
    frozen_networks,
    random_networks,
)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_inputs(tmp_path_factory.mktemp("training"))


@pytest.fixture(autouse=True)
def _accelerate() -> None:
    reset_accelerate()


@pytest.fixture(scope="session")
def frozen(corpus: Path) -> tuple[nn.Module, nn.Module]:
    return frozen_networks(TINY, corpus / "models")


@pytest.fixture(scope="session")
def store(corpus: Path, frozen: tuple[nn.Module, nn.Module]) -> LatentStore:
    store = LatentStore(corpus / "latents", encoder_fingerprint(frozen[0]))
    encode_clips(store, frozen[0], list_clips(corpus / "shards"), CPU)
    return store


@pytest.fixture
def make_task(corpus: Path, frozen: tuple[nn.Module, nn.Module], store: LatentStore) -> Callable[..., DiffusionTask]:
    def make(
        only: tuple[str, ...] = (),
        presets: torch.Tensor | None = None,
        change: Callable[[ClipRecord], ClipRecord] = lambda record: record,
        **changes: object,
    ) -> DiffusionTask:
        config = diffusion_training(corpus, corpus / "nowhere", **changes)
        records = [change(r) for r in list_clips(corpus / "shards") if not only or r.id in only]
        networks = random_networks(config.model, 0)
        embedder = load_embedder(config.embedder)
        return DiffusionTask(
            config, networks, frozen[1], embedder, frozen[0].config.scaling_factor, store, records, presets
        )

    return make
