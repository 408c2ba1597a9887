"""Training the diffusion model: memory, precision, starts, exports, the command."""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diffusers import UNetSpatioTemporalConditionModel
from released_files import SMALL
from torch import nn
from training_runs import (
    EMBEDDER,
    FRAMES,
    TINY,
    curve,
    diffusion_training,
    inputs_of,
    learners,
    reset_accelerate,
    seeded,
)

from dicetalk.checkpoints.load import load_model
from dicetalk.checkpoints.single import load_embedder
from dicetalk.cli.train import train as train_command
from dicetalk.errors import CheckpointError, DiceTalkError, SettingError
from dicetalk.train import loop as loop_module
from dicetalk.train.config import DiffusionTraining
from dicetalk.train.diffusion import DiffusionTask, start_networks, train_diffusion, usable_clips
from dicetalk.train.loop import make_accelerator, run_training
from dicetalk.train.shards import list_clips, splits
from dicetalk.train.start import (
    dice_networks,
    frozen_networks,
    svd_networks,
)


def test_gradient_checkpointing_keeps_less_and_computes_the_same(make_task: Callable[..., DiffusionTask]) -> None:
    kept, gradients = {}, {}
    for on in (False, True):
        task = make_task(gradient_checkpointing=on)
        sizes: list[int] = []
        inputs = inputs_of(task)

        def pack(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = task.module(**inputs)["loss"]
            kept[on] = sum(sizes)
        loss.backward()
        gradients[on] = {name: p.grad for name, p in task.module.named_parameters() if p.grad is not None}
    assert kept[True] < 0.5 * kept[False]
    assert gradients[True].keys() == gradients[False].keys()
    for name, gradient in gradients[True].items():
        torch.testing.assert_close(gradient, gradients[False][name], rtol=1e-4, atol=1e-7)


def test_bfloat16_is_close(corpus: Path, tmp_path: Path) -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        reset_accelerate()
        out = tmp_path / precision
        train_diffusion(diffusion_training(corpus, out, steps=3, log_every=1, precision=precision, learning_rate=1e-4))
        losses[precision] = curve(out / "curves" / "train.csv")["loss"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.03)
    assert not (losses["bf16"] == losses["fp32"]).all()


# Learning


def test_two_clips_can_be_learnt_by_heart(make_task: Callable[..., DiffusionTask], tmp_path: Path) -> None:
    task = make_task(
        ("anna-happy-1", "bert-neutral"), steps=60, learning_rate=3e-3, drop_rate=0.0, sigma_mean=2.0, validate_every=0
    )

    def loss() -> float:
        with torch.no_grad():
            return float(np.mean([task.module(**inputs_of(task, 1000 + n))["denoising"] for n in range(8)]))

    before = loss()
    run_training(task, replace(task.config.loop, ema_decay=0.9), tmp_path, make_accelerator(task.config.loop))
    after = loss()
    assert after < 0.7 * before, (before, after)


# Starting and writing


def test_what_is_exported_is_loaded_and_generates(corpus: Path, tmp_path: Path) -> None:
    (path,) = train_diffusion(diffusion_training(corpus, tmp_path / "run", steps=3))
    models = tmp_path / "models"
    models.mkdir()
    for entry in (corpus / "models").iterdir():
        if entry.suffix != ".pth":
            (models / entry.name).symlink_to(entry)
    path.rename(models / path.name)
    model = load_model(models, dtype=torch.float32)
    assert model.config == TINY
    state = torch.load(tmp_path / "run" / "checkpoints" / "step-000000003" / "state.pt")
    names = [n for n in state["module"] if not n.endswith("attn2.to_k.weight")]
    averages = dict(zip(names, state["ema"]["shadow_params"], strict=True))
    for name, tensor in model.emotion_model.state_dict().items():
        torch.testing.assert_close(tensor, averages[f"emotion_model.{name}"], rtol=1e-3, atol=1e-3)
    for name, tensor in model.unet.state_dict().items():
        wanted = averages.get(f"unet.{name}", state["module"][f"unet.{name}"])
        torch.testing.assert_close(tensor, wanted, rtol=1e-3, atol=1e-3)
    again, config = dice_networks(SMALL, models, 0)
    assert config == TINY
    assert all(p.requires_grad for p in again.unet.parameters())


def test_svd_s_own_unet_starts_with_adapters_that_do_nothing(tmp_path: Path) -> None:
    """Read from a folder that diffusers itself wrote."""
    sizes = TINY.unet
    with torch.random.fork_rng():
        torch.manual_seed(0)
        svd = UNetSpatioTemporalConditionModel(
            in_channels=sizes.in_channels,
            down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
            block_out_channels=sizes.block_out_channels,
            addition_time_embed_dim=sizes.addition_time_embed_dim,
            projection_class_embeddings_input_dim=3 * sizes.addition_time_embed_dim,
            layers_per_block=sizes.layers_per_block,
            cross_attention_dim=sizes.cross_attention_dim,
            num_attention_heads=sizes.num_attention_heads,
        )
    svd.save_pretrained(tmp_path / "unet")
    networks = svd_networks(TINY, tmp_path, 0)
    own = networks.unet.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in svd.state_dict().items())
    rest = {name for name in own if name not in svd.state_dict()}
    assert rest and all(".attn2.processor." in name for name in rest)
    assert all(own[name].abs().sum() == 0 for name in rest if "to_v_ip" in name)
    assert all(own[name].abs().sum() > 0 for name in rest if "to_k_ip" in name)
    assert networks.pose_guider(torch.rand(1, 3, 32, 32, generator=seeded())).abs().sum() == 0
    with pytest.raises(CheckpointError, match="does not fit"):
        svd_networks(SMALL, tmp_path, 0)
    with pytest.raises(CheckpointError, match="no SVD UNet"):
        svd_networks(TINY, tmp_path / "unet", 0)


def test_adapters_that_do_nothing_learn_to_do_something(make_task: Callable[..., DiffusionTask]) -> None:
    task = make_task(drop_rate=0.0)
    for name, parameter in task.module.named_parameters():
        if "to_v_ip" in name or name.startswith("pose_guider.conv_out"):
            nn.init.zeros_(parameter)
    inputs = inputs_of(task)
    with torch.no_grad():
        plain = task.module(**inputs)["denoising"]
        none = task.module(**(inputs | {"dropped": torch.tensor([[True, False, True]] * 2)}))["denoising"]
    assert torch.equal(plain, none)
    found = learners(task, inputs)
    assert all(name in found for name, _ in task.module.named_parameters() if "to_v_ip" in name)
    assert "pose_guider.conv_out.weight" in found


def test_released_networks_can_be_trained_on(corpus: Path) -> None:
    networks, config = dice_networks(TINY, corpus / "models", 0)
    assert config == TINY
    for network in vars(networks).values():
        for parameter in network.parameters():
            assert parameter.requires_grad and parameter.dtype == torch.float32
            parameter.data.add_(1)  # not a view of the file


def test_the_emotion_model_alone_can_begin_anew(corpus: Path) -> None:
    config = diffusion_training(corpus, corpus, start="dice")
    kept, _ = start_networks(config)
    (fresh, sizes), (again, _) = (start_networks(replace(config, fresh_emotion=True)) for _ in range(2))
    assert sizes == TINY
    for name in ("unet", "audio_projection", "pose_guider"):
        assert same_weights(getattr(kept, name), getattr(fresh, name))
    assert same_weights(fresh.emotion_model, again.emotion_model)
    assert not same_weights(kept.emotion_model, fresh.emotion_model)
    assert all(parameter.requires_grad for parameter in fresh.emotion_model.parameters())


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in one.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"window": FRAMES + 1}, "no clip for training with 10 frames"),
        ({"model": replace(TINY, unet=replace(TINY.unet, block_out_channels=(32,) * 4))}, "multiples of 64"),
        ({"model": replace(TINY, audio=replace(TINY.audio, layers=3))}, "3 x 4"),
        (
            {"model": replace(TINY, emotion=replace(TINY.emotion, query=replace(TINY.emotion.query, input_dim=128)))},
            "priors of 256",
        ),
    ],
)
def test_shards_and_networks_that_do_not_fit_are_refused(corpus: Path, changes: dict, named: str) -> None:
    config: DiffusionTraining = diffusion_training(corpus, corpus, **changes)
    with pytest.raises(SettingError, match=named):
        usable_clips(config, list_clips(corpus / "shards"), load_embedder(config.embedder))


def test_the_command_trains_both_from_yaml(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    loop = {"steps": 2, "warmup_steps": 0, "log_every": 1, "device": "cpu", "workers": 0}
    embedder = asdict(EMBEDDER)
    first = {
        "data": f"{corpus}/shards",
        "out": "runs/e",
        "embedder": embedder,
        "loop": loop,
        "shortest": 4,
        "longest": 9,
    }
    second = {
        "data": f"{corpus}/shards",
        "out": "runs/d",
        "models": f"{corpus}/models",
        "embedder": "runs/e/embedder.safetensors",
        "model": json.loads(json.dumps(TINY.to_dict())),
        "loop": loop,
        "start": "dice",
        "window": 3,
    }
    ended: list[str] = []
    monkeypatch.setattr(loop_module, "end_processes", lambda: ended.append("ended"))
    for what, content in (("embedder", first), ("diffusion", second)):
        reset_accelerate()
        Path(f"{what}.yaml").write_text(yaml.safe_dump(content))
        assert train_command(argparse.Namespace(what=what, config=Path(f"{what}.yaml"), quiet=True)) == 0
    assert len(ended) == 2  # what leaves without can be killed by its own connections
    written = capsys.readouterr().out.split()
    assert written == ["runs/e/embedder.safetensors", "runs/d/dicetalk-trained.safetensors"]
    assert all(Path(path).is_file() for path in written)
    assert curve(Path("runs/d/curves/train.csv"))["step"].tolist() == [1, 2]


def test_missing_frozen_networks_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="vae, image encoder"):
        frozen_networks(TINY, tmp_path)


def test_too_few_classes_are_refused(make_task: Callable[..., DiffusionTask]) -> None:
    model = replace(TINY, emotion=replace(TINY.emotion, classifier_dims=(32, 16, 16, 5)))
    with pytest.raises(DiceTalkError, match="5 classes"):
        make_task(model=model)


def test_splits_do_not_mix(make_task: Callable[..., DiffusionTask], corpus: Path) -> None:
    task = make_task()
    parts = splits(list_clips(corpus / "shards"))
    assert {r.id for r in task.batches["train"].records} == {r.id for r in parts["train"]}
    assert {r.id for r in task.batches["validation"].records} == {"dora-happy", "dora-sad"}
