"""What the diffusion model learns from: batches, latents, weights."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from training_runs import (
    CLIPS,
    CPU,
    FRAMES,
    TINY,
    diffusion_training,
    inputs_of,
    seeded,
    write_clips,
)

from dicetalk.denoise.attention import AdapterContext, AttentionContext
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.errors import SettingError
from dicetalk.hooks import Hooks
from dicetalk.portrait.prepare import to_clip_pixels
from dicetalk.train.data import NumberedBatches
from dicetalk.train.diffusion import DiffusionTask, even_weights, start_networks, train_diffusion
from dicetalk.train.diffusion_data import DiffusionBatches, emotion_class, emotion_levels
from dicetalk.train.latents import LatentStore, encode_clips, encoder_fingerprint
from dicetalk.train.loop import make_accelerator, run_training
from dicetalk.train.losses import UNLABELLED
from dicetalk.train.shards import ClipLabels, ClipRecord, DatasetError, ShardWriter, list_clips, read_clip, splits
from dicetalk.train.start import (
    NOISY_PART,
    begin_with_portrait,
    frozen_networks,
    random_networks,
)


def test_emotional_and_ordinary_clips_take_turns(make_task: Callable[..., DiffusionTask]) -> None:
    """Three of four emotional clips have their class for sure; Carl's emotion is unknown."""
    task = make_task(batch_size=3)
    classes = torch.cat([NumberedBatches(task.batches["train"], (0,))[n]["classes"] for n in range(40)])
    emotional = classes > 0
    assert emotional[::2].all() and not emotional[1::2].any()
    levels = {"anna-happy-1": ("happy", 1.0), "anna-happy-2": ("happy", 1.0), "bert-sad": ("sad", 0.6)}
    expected = {emotion_class(*kind, 3) for kind in levels.values()} | {emotion_class("angry", 1.0, 3)}
    assert set(classes[emotional].tolist()) == expected
    assert set(classes[~emotional].tolist()) == {0, UNLABELLED}


def test_fewer_clips_may_be_ordinary(make_task: Callable[..., DiffusionTask]) -> None:
    task = make_task(batch_size=5, ordinary_share=0.2)
    for number in range(8):
        classes = NumberedBatches(task.batches["train"], (0,))[number]["classes"]
        assert (classes[:4] > 0).all() and classes[4] <= 0


def test_strong_emotions_may_be_learned_alone(make_task: Callable[..., DiffusionTask]) -> None:
    """Of the clips for training two people are happy and angry at full intensity; another is sad at 0.6."""
    strong, strong_or_ordinary = make_task(ordinary_share=0.0, weakest=0.9), make_task(weakest=0.9)
    found = [
        {int(c) for n in range(30) for c in NumberedBatches(task.batches["train"], (0,))[n]["classes"]}
        for task in (strong, strong_or_ordinary)
    ]
    full = {emotion_class("happy", 1.0, 3), emotion_class("angry", 1.0, 3)}
    assert found == [full, full | {0, UNLABELLED}]
    for changes in ({"ordinary_share": 0.0}, {"weakest": 0.9}):
        with pytest.raises(SettingError, match="no clip for training"):
            make_task(only=("anna-neutral", "bert-neutral"), **changes)


def test_clips_that_are_too_weak_to_be_drawn_validate_nothing(
    make_task: Callable[..., DiffusionTask], caplog: pytest.LogCaptureFixture
) -> None:
    def weak_validation(record: ClipRecord) -> ClipRecord:
        weak = replace(record.labels, intensity=0.3)
        return replace(record, labels=weak) if record.labels.split == "val" else record

    assert "validation" in make_task(weakest=0.9).batches
    assert "validation" not in make_task(weakest=0.9, change=weak_validation).batches
    assert any("No validation" in message for message in caplog.messages)


def test_classes_are_emotions_at_levels() -> None:
    assert (emotion_levels(22), emotion_levels(8)) == (3, 1)
    for classes in (1, 7, 20):
        with pytest.raises(SettingError, match=f"{classes} classes"):
            emotion_levels(classes)
    every = [emotion_class(name, level / 3, 3) for name in PRESET_NAMES[1:] for level in (1, 2, 3)]
    assert every == list(range(1, 22))
    assert [emotion_class("happy", intensity, 3) for intensity in (0.0, 0.3, 0.6, 1.0)] == [1, 1, 2, 3]
    assert emotion_class("neutral", None, 3) == 0
    assert emotion_class("sad", None, 3) == emotion_class(None, 1.0, 3) == UNLABELLED
    assert [emotion_class(name, None, 1) for name in PRESET_NAMES] == list(range(8))


def test_a_batch_is_a_part_of_its_clip(corpus: Path, store: LatentStore, frozen: tuple[nn.Module, nn.Module]) -> None:
    record = next(r for r in list_clips(corpus / "shards") if r.id == "bert-sad")
    draw = DiffusionBatches([record], store, 1, 3, 6, 6, 28, 22)
    batch = NumberedBatches(draw, (0,))[0]
    whole = read_clip(record)
    images = whole["frames"].permute(0, 3, 1, 2).float() / 255 * 2 - 1
    with torch.no_grad():
        latents = torch.cat([frozen[0].encode(image[None]).latent_dist.mode() for image in images])
    starts = [i for i in range(FRAMES - 2) if torch.allclose(latents[i : i + 3], batch["latents"][0], atol=1e-2)]
    assert len(starts) == 1
    assert sum(torch.allclose(frame, batch["image_latents"][0], atol=1e-2) for frame in latents) == 1
    for place in range(3):
        first = 4 * (starts[0] + place)
        assert torch.equal(batch["windows"][0, place], whole["whisper"][first : first + 10].float())
    assert batch["mask"].shape == (1, 1, 32, 32)
    assert batch["mask"][0, 0, 10, 16] == 1 and batch["mask"][0, 0, 10, 2] == 0
    assert batch["clip_pixels"].shape == (1, 3, 28, 28)
    assert batch["visual_lengths"].tolist() == [6]


def test_the_portrait_of_a_clip_that_has_one_is_what_the_network_sees(
    corpus: Path, store: LatentStore, frozen: tuple[nn.Module, nn.Module]
) -> None:
    record = next(r for r in list_clips(corpus / "shards") if r.id == "bert-angry")
    clip = read_clip(record)
    image = clip["portrait"][None].permute(0, 3, 1, 2).float() / 255 * 2 - 1
    with torch.no_grad():
        latents = frozen[0].encode(image).latent_dist.mode()
    draw = DiffusionBatches([record], store, 1, 3, 6, 6, 28, 22)
    for number in range(3):
        batch = NumberedBatches(draw, (0,))[number]
        torch.testing.assert_close(batch["image_latents"], latents, atol=1e-2, rtol=0)
        assert torch.equal(batch["clip_pixels"][0], to_clip_pixels(clip["portrait"].numpy(), 28))
    assert not any(torch.equal(clip["portrait"], frame) for frame in clip["frames"])


def test_latents_without_the_portrait_are_made_again(
    corpus: Path, frozen: tuple[nn.Module, nn.Module], tmp_path: Path
) -> None:
    record = next(r for r in list_clips(corpus / "shards") if r.id == "bert-angry")
    store = LatentStore(tmp_path, encoder_fingerprint(frozen[0]))
    before = replace(record, shapes={name: shape for name, shape in record.shapes.items() if name != "portrait"})
    encode_clips(store, frozen[0], [before], CPU)
    assert store.holds(before) and not store.holds(record)
    with pytest.raises(DatasetError, match="portrait"):
        store.read_portrait(record)
    encode_clips(store, frozen[0], [record], CPU)
    assert store.holds(record) and store.read_portrait(record).shape == (4, 4, 4)


@pytest.mark.parametrize("what", ["content", "size", "portrait"])
def test_latents_of_clips_that_were_prepared_again_are_made_again(
    frozen: tuple[nn.Module, nn.Module], tmp_path: Path, what: str
) -> None:
    def prepare(name: str, side: int, brightness: int, portrait: int) -> ClipRecord:
        with ShardWriter(tmp_path / name) as writer:
            tensors = {
                "box": torch.tensor([1.0, 1.0, 8.0, 8.0]),
                "whisper": torch.zeros(4 * 3 + 10, 2, 4).half(),
                "frames": torch.full((3, side, side, 3), brightness, dtype=torch.uint8),
                "portrait": torch.full((side, side, 3), portrait, dtype=torch.uint8),
            }
            writer.add("clip", ClipLabels("anna", "sad", 1.0, "clip", "train"), tensors)
        return list_clips(tmp_path / name)[0]

    before, same = prepare("a", 32, 90, 50), prepare("b", 32, 90, 50)
    again = prepare("c", *{"content": (32, 91, 50), "size": (64, 90, 50), "portrait": (32, 90, 51)}[what])
    store = LatentStore(tmp_path / "latents", encoder_fingerprint(frozen[0]))
    encode_clips(store, frozen[0], [before], CPU)
    assert store.holds(before) and store.holds(same) and not store.holds(again)
    old = store.read(before, 0, 3)
    encode_clips(store, frozen[0], [again], CPU)
    assert store.holds(again) and not store.holds(before)
    new = store.read(again, 0, 3)
    assert new.shape[-1] == again.shapes["frames"][1] // 8 and (what == "portrait") == torch.equal(new, old)


def test_latents_that_are_no_numbers_are_refused(
    corpus: Path, store: LatentStore, frozen: tuple[nn.Module, nn.Module], tmp_path: Path
) -> None:
    record = next(r for r in list_clips(corpus / "shards") if r.id == "bert-angry")
    broken = LatentStore(tmp_path, store.vae)
    with safe_open(store.path(record), "pt") as file:
        latents = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    latents["latents"][4, 0, 0, 0], latents["portrait"][0, 0, 0] = float("nan"), float("inf")
    with pytest.raises(DatasetError, match="NaN or infinite"):
        broken.write(record, latents)
    save_file(latents, broken.path(record), metadata)
    assert broken.read(record, 0, 4).isfinite().all()
    for read in (lambda: broken.read(record, 3, 6), lambda: broken.read_portrait(record)):
        with pytest.raises(DatasetError, match=r"bert-angry.*NaN or infinite.*Remove that file"):
            read()


def test_the_processes_share_emotional_and_ordinary_clips(make_task: Callable[..., DiffusionTask]) -> None:
    """With one clip for each of two processes, a step's batch has one of each kind."""
    draw = make_task(batch_size=1).batches["train"]
    one, other = (NumberedBatches(draw, (0, process), process, 2) for process in (0, 1))
    assert all(one[n]["classes"] > 0 and other[n]["classes"] <= 0 for n in range(10))


def test_places_count_as_the_config_says(make_task: Callable[..., DiffusionTask]) -> None:
    plain, weighed = (make_task(("bert-sad",), mouth_weight=weight) for weight in (1.0, 1e6))
    inputs = inputs_of(plain), inputs_of(weighed)
    assert torch.equal(inputs[0]["weights"], torch.ones(2, 1, 1, 4, 4))
    # The box is 8 to 24 across and 6 to 26 down, so that the lower middle of 32 pixels has the mouth.
    at_mouth = inputs[1]["weights"][0, 0, 0] > 1
    assert at_mouth.nonzero().tolist() == [[2, 1], [2, 2]]
    even, uneven = (plain.module(**given)["denoising"] for given in inputs)
    assert not torch.allclose(even, uneven)


def test_channels_count_against_their_deviation(make_task: Callable[..., DiffusionTask], store: LatentStore) -> None:
    task = make_task(even_channels=True)
    records = splits(list_clips(task.config.data))["train"]
    deviations = torch.cat([store.read(record, 0, 1) for record in records]).std(dim=(0, 2, 3))
    weights = even_weights(store, records)
    assert weights.shape == (1, 1, 4, 1, 1) and weights.mean().item() == pytest.approx(1)
    torch.testing.assert_close(weights.flatten() * deviations, (1 / (1 / deviations).mean()).expand(4))
    torch.testing.assert_close(inputs_of(task)["weights"], inputs_of(make_task())["weights"] * weights)


def test_the_emotion_model_may_learn_slower(
    make_task: Callable[..., DiffusionTask], corpus: Path, tmp_path: Path
) -> None:
    moved = {}
    for rate in (1.0, 1e-6):
        task = make_task(emotion_rate=rate, steps=1, warmup_steps=0)
        before = {name: p.detach().clone() for name, p in task.module.named_parameters()}
        run_training(
            task, replace(task.config.loop, ema_decay=0), tmp_path / str(rate), make_accelerator(task.config.loop)
        )
        for part in ("emotion_model.emo_linear", "unet.conv_out"):
            changes = [(p - before[n]).abs().max() for n, p in task.module.named_parameters() if n.startswith(part)]
            moved[rate, part] = max(changes).item()
    assert moved[1.0, "unet.conv_out"] == pytest.approx(moved[1e-6, "unet.conv_out"], rel=0.1)
    assert moved[1e-6, "emotion_model.emo_linear"] < 1e-5 < 1e-4 < moved[1.0, "emotion_model.emo_linear"]


@torch.no_grad()
def test_an_untrained_network_predicts_the_portrait(corpus: Path, tmp_path: Path) -> None:
    networks, sizes = start_networks(diffusion_training(corpus, tmp_path))
    noisy, portrait = torch.randn(2, 1, 3, 4, 16, 16, generator=seeded())
    portrait = portrait[:, :1].expand_as(portrait)
    assert sizes.vae.scaling_factor < 0.5, "portraits come without it, and are larger than what is noisy"
    clip, tokens = torch.zeros(1, 1, 16), torch.randn(1, 2, 16, generator=seeded(1))
    zeros = torch.zeros(1, 3, dtype=torch.long)
    adapters = tuple(AdapterContext(networks.unet.project_adapter(i, tokens), zeros) for i in range(2))
    context = AttentionContext(networks.unet.project_clip(clip), zeros, adapters)
    mask = torch.ones(1, 3, 128, 128)
    sample = torch.cat([noisy, portrait / sizes.vae.scaling_factor], dim=2)
    v, _ = networks.unet(sample, torch.zeros(1), torch.zeros(1, 3), context, networks.pose_guider(mask))
    # Not exactly: the last norm divides by what the deviation is, not by what it is of unit variances.
    assert (v - (NOISY_PART * noisy - portrait)).square().mean() < 0.02 * v.square().mean()

    wide = replace(sizes, unet=replace(sizes.unet, in_channels=40, out_channels=20))
    with pytest.raises(SettingError, match="40 channels or more"):
        begin_with_portrait(random_networks(wide, 0), 1.0)


def test_latents_are_made_once_and_again_for_another_vae(
    corpus: Path, frozen: tuple[nn.Module, nn.Module], tmp_path: Path
) -> None:
    records = list_clips(corpus / "shards")[:2]
    store = LatentStore(tmp_path / "latents", encoder_fingerprint(frozen[0]))
    encode_clips(store, frozen[0], records, CPU)
    before = {r.id: store.path(r).read_bytes() for r in records}
    store.path(records[1]).write_bytes(before[records[1].id][:-1])  # cut off: made again
    kept = store.path(records[0]).stat().st_mtime_ns
    encode_clips(store, frozen[0], records, CPU)
    assert {r.id: store.path(r).read_bytes() for r in records} == before
    assert store.path(records[0]).stat().st_mtime_ns == kept
    other = frozen_networks(TINY, corpus / "models")[0]
    with torch.no_grad():
        other.quant_conv.bias.add_(1)
    other_store = replace(store, vae=encoder_fingerprint(other))
    assert not other_store.holds(records[0])
    encode_clips(other_store, other, records, CPU)
    change = other_store.read(records[0], 0, 2) - LatentStore(corpus / "latents", store.vae).read(records[0], 0, 2)
    torch.testing.assert_close(change, torch.ones_like(change), atol=1e-2, rtol=0)


def test_damaged_clips_are_left_out(corpus: Path, tmp_path: Path) -> None:
    write_clips(tmp_path / "shards", clips_per_shard=4)
    notices = []
    shard = sorted((tmp_path / "shards").glob("*.safetensors"))[0]
    shard.write_bytes(shard.read_bytes()[:-10])
    config = replace(diffusion_training(corpus, tmp_path / "out", steps=2), data=tmp_path / "shards", latents=None)
    train_diffusion(config, Hooks(notice=notices.append))
    assert str(shard) in notices[0]
    assert len(list((tmp_path / "out" / "latents").iterdir())) == len(CLIPS) - 4
