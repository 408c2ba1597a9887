"""Training the embedder: its batches, its losses, what it learns and what it writes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_runs import CLIPS, EMBEDDER, FRAMES, curve, embedder_training, make_inputs, reset_accelerate, write_clips

from dicetalk.checkpoints.single import load_embedder, save_embedder
from dicetalk.emotion.prior import PRESET_NAMES, read_prior_npy
from dicetalk.errors import CheckpointError, DiceTalkError, EmotionError, SettingError
from dicetalk.hooks import Hooks
from dicetalk.train.data import NumberedBatches, read_part, with_expressions
from dicetalk.train.embedder import (
    EmbedderBatches,
    EmbedderTask,
    build_embedder,
    group_key,
    preset_label,
    read_anchors,
    train_embedder,
)
from dicetalk.train.losses import UNLABELLED
from dicetalk.train.shards import ClipLabels, ClipRecord, list_clips, read_clip, splits


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_inputs(tmp_path_factory.mktemp("training"))


@pytest.fixture(autouse=True)
def _accelerate() -> None:
    reset_accelerate()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(corpus: Path, number: int = 0, **changes: int) -> dict[str, torch.Tensor]:
    records = splits(list_clips(corpus / "shards"))["train"]
    sizes = {"identities": 3, "emotions": 2, "clips": 3, "frames": (4, 7)} | changes
    return NumberedBatches(EmbedderBatches(records, 6, **sizes), (0,))[number]


# Batches


def test_a_batch_has_identities_times_emotions_times_clips(corpus: Path) -> None:
    """Anna and Bert have two or three emotions, Carl one video."""
    for number in range(5):
        batch = draw(corpus, number)
        groups, counts = batch["groups"].unique(return_counts=True)
        assert counts.tolist() == [3] * 5
        for group in groups:
            assert len(batch["labels"][batch["groups"] == group].unique()) == 1
        assert (batch["labels"] == UNLABELLED).sum() == 3
        assert torch.equal(batch["seen"], batch["labels"] != UNLABELLED)  # Carl has no coefficients
        lengths = batch["visual_lengths"]
        assert lengths.min() >= 4 and lengths.max() <= 7 and batch["visual"].shape[1] == lengths.max()
        assert torch.equal(batch["audio_lengths"], 4 * lengths)


def test_parts_are_the_clips_own_face_and_speech_of_the_same_time(corpus: Path) -> None:
    record = next(r for r in list_clips(corpus / "shards") if r.id == "bert-sad")
    whole = read_clip(record)
    part = read_part(record, 6, 4, np.random.default_rng(0))
    starts = [i for i in range(FRAMES - 3) if torch.equal(whole["coefficients"][i : i + 4].float(), part.visual)]
    assert len(starts) == 1
    first = 4 + 4 * starts[0]  # four steps of zeros stand before the first frame's
    assert torch.equal(part.audio, whole["whisper"][first : first + 16].float().flatten(1))


def test_batches_are_numbered(corpus: Path) -> None:
    one, same, other = draw(corpus, 3), draw(corpus, 3), draw(corpus, 4)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["audio"].sum(), other["audio"].sum())


def test_damaged_shards_are_skipped(corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One shard is damaged before its clips are listed, another one after."""
    write_clips(tmp_path, clips_per_shard=2)
    shards = sorted(tmp_path.glob("*.safetensors"))
    shards[0].write_bytes(b"no shard")
    records = list_clips(tmp_path)
    assert {r.id for r in records} == {clip[0] for clip in CLIPS[2:]}
    shards[1].write_bytes(shards[1].read_bytes()[:100])
    parts = splits(records)["train"]
    lost = [r for r in parts if r.path == shards[1]]
    assert {r.id for r in lost} == {"anna-neutral", "bert-sad"}
    mixed = [ClipRecord(r.id, ClipLabels("x", None, None, "v", "train"), r.path, r.shapes) for r in parts]
    with caplog.at_level("WARNING", "dicetalk"):
        batch = NumberedBatches(EmbedderBatches(mixed, 6, 2, 2, 8, (4, 4)), (0,))[0]
    assert len(batch["visual"]) == 8
    assert any("anna-neutral is skipped" in text or "bert-sad is skipped" in text for text in caplog.messages)
    # In a group of its own a lost clip costs the group, not the run.
    whole = [r for r in parts if r not in lost]
    for number in range(4):
        batch = NumberedBatches(EmbedderBatches(parts, 6, 9, 9, 2, (4, 4)), (0,))[number]
        expected = NumberedBatches(EmbedderBatches(whole, 6, 9, 9, 2, (4, 4)), (0,))[number]
        assert sorted(batch["labels"].tolist()) == sorted(expected["labels"].tolist())
    with pytest.raises(DiceTalkError, match=r"No clip of the people.*1 clip in a row could not be read"):
        NumberedBatches(EmbedderBatches(lost, 6, 2, 2, 2, (4, 4)), (0,))[0]
    alone = [
        replace(r, id=f"{r.id}-{n}", labels=replace(r.labels, emotion=None, video=f"{n}"))
        for r in lost
        for n in range(20)
    ]
    caplog.clear()
    with pytest.raises(DiceTalkError, match="1 clip in a row"):
        NumberedBatches(EmbedderBatches(alone, 6, 2, 20, 2, (4, 4)), (0,))[0]
    assert len(caplog.messages) == 16, "a data set that is gone ends the run"


def test_clips_of_other_sizes_are_named(corpus: Path) -> None:
    records = list_clips(corpus / "shards")
    for change, named in (({"visual_dim": 7}, "visual_dim is 7"), ({"audio_dim": 9}, "audio_dim is 9")):
        config = embedder_training(corpus, corpus, embedder=replace(EMBEDDER, **change))
        with pytest.raises(SettingError, match=named):
            EmbedderTask(config, records)
    with pytest.raises(SettingError, match="fewer than two pairs"):
        EmbedderTask(embedder_training(corpus, corpus), [r for r in records if r.id in ("bert-sad", "dora-sad")])


def test_positives_share_identity_and_emotion_and_where_asked_for_intensity(tmp_path: Path) -> None:
    def record(intensity: float, emotion: str | None = "happy", video: str = "v") -> ClipRecord:
        return ClipRecord("c", ClipLabels("anna", emotion, intensity, video, "train"), Path(), {})

    weak, strong = record(0.3), record(1.0)
    assert group_key(weak) == group_key(strong) != group_key(record(1.0, "sad"))
    assert group_key(weak, True) != group_key(strong, True) == group_key(record(1.0, video="w"), True)
    assert group_key(record(None, None, "v"), True) == group_key(record(None, None, "v")) != group_key(weak)
    drawn = {apart: EmbedderBatches([weak, strong], 6, 2, 2, 2, (4, 4), apart)._tree for apart in (False, True)}
    assert {apart: [len(groups) for groups in tree] for apart, tree in drawn.items()} == {False: [1], True: [2]}


def test_faces_without_expression_coefficients_are_reported(corpus: Path, tmp_path: Path) -> None:
    notices: list[str] = []
    train_embedder(embedder_training(corpus, tmp_path / "some", steps=1), Hooks(notice=notices.append))
    assert any("1 of 9 clips have no expression coefficients" in line for line in notices)
    records = list_clips(corpus / "shards")
    without = [replace(r, shapes={k: v for k, v in r.shapes.items() if k != "coefficients"}) for r in records]
    only_others = [a if a.labels.split == "train" else b for a, b in zip(without, records, strict=True)]
    for blind in (without, only_others):
        with pytest.raises(SettingError, match=r"--landmarker.*audio_only: true"):
            with_expressions(blind, False)
    heard = with_expressions(records, True, Hooks(notice=notices.append))
    assert len(notices) == 1
    task = EmbedderTask(embedder_training(corpus, corpus, modality_dropout=1.0, audio_only=True), heard)
    batch = NumberedBatches(task.batches["train"], (0,))[0]
    inputs = task.inputs(batch, seeded())
    assert not batch["seen"].any() and not inputs["visual"].any()
    assert (inputs["audio"].abs().sum(dim=(1, 2)) > 0).all()


# Losses


def test_one_modality_is_dropped_and_never_both(corpus: Path) -> None:
    task = EmbedderTask(embedder_training(corpus, corpus, modality_dropout=1.0), list_clips(corpus / "shards"))
    dropped = set()
    for number in range(8):
        batch = draw(corpus, number)
        inputs = task.inputs(batch, seeded(number))
        face, voice = (inputs[name].abs().sum(dim=(1, 2)) > 0 for name in ("visual", "audio"))
        assert (face | voice).all()
        assert not (face & voice)[batch["seen"]].any()
        assert voice[~batch["seen"]].all()
        dropped |= set(zip(face.tolist(), voice.tolist(), strict=True))
    assert dropped == {(True, False), (False, True)}
    kept = EmbedderTask(embedder_training(corpus, corpus, modality_dropout=0.0), list_clips(corpus / "shards"))
    batch = draw(corpus)
    assert all(torch.equal(kept.inputs(batch, seeded())[name], batch[name]) for name in ("visual", "audio"))


def test_every_parameter_learns(corpus: Path) -> None:
    task = EmbedderTask(embedder_training(corpus, corpus), list_clips(corpus / "shards"))
    task.module(**task.inputs(draw(corpus), seeded()))["loss"].backward()
    idle = [name for name, p in task.module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert idle == []


def test_anchors_are_the_released_priors_in_the_presets_order(corpus: Path) -> None:
    anchors = read_anchors(corpus / "models" / "emotion", 256)
    assert torch.equal(anchors[3], read_prior_npy(corpus / "models" / "emotion" / "angry.npy").mu)
    with pytest.raises(SettingError, match="dim is 32"):
        read_anchors(corpus / "models" / "emotion", 32)
    with pytest.raises(EmotionError, match=r"neutral\.npy"):
        read_anchors(corpus, 256)


@pytest.mark.long
def test_the_contrastive_loss_falls(corpus: Path, tmp_path: Path) -> None:
    train_embedder(embedder_training(corpus, tmp_path, steps=60, log_every=15, identities=3, clips=3))
    contrast = curve(tmp_path / "curves" / "train.csv")["contrast"]
    assert contrast[-1] < 0.5 * contrast[0]


@pytest.mark.long
def test_anchors_draw_the_emotions_means(corpus: Path, tmp_path: Path) -> None:
    anchors = corpus / "models" / "emotion"
    train_embedder(embedder_training(corpus, tmp_path, steps=40, log_every=10, anchors=anchors, learning_rate=1e-2))
    rows = curve(tmp_path / "curves" / "train.csv")
    assert rows["anchor"][-1] < 0.5 * rows["anchor"][0]
    assert rows["loss"] == pytest.approx(rows["contrast"] + 30 * rows["anchor"], rel=1e-4)


# The file


def test_an_embedder_comes_back_as_it_was_written(tmp_path: Path) -> None:
    embedder = build_embedder(EMBEDDER, 3)
    save_embedder(embedder, tmp_path / "e.safetensors")
    read = load_embedder(tmp_path / "e.safetensors")
    assert read.config == EMBEDDER and not read.training
    for name, tensor in embedder.state_dict().items():
        assert torch.equal(read.state_dict()[name], tensor)
    visual, audio = torch.randn(2, 5, 6, generator=seeded()), torch.randn(2, 20, 8, generator=seeded(1))
    with torch.no_grad():
        assert torch.equal(read(visual, audio).mu, embedder(visual, audio).mu)


def test_building_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    one, same = build_embedder(EMBEDDER, 5), build_embedder(EMBEDDER, 5)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda data: data[:-9], "cut off"),
        (lambda data: b"", "is empty"),
        (lambda data: data.replace(b"dicetalk.embedder", b"dicetalk.something"), "no dicetalk.embedder"),
        (lambda data: data.replace(b'\\"layers\\": 1', b'\\"layers\\": 2'), "does not fit"),
        (lambda data: data.replace(b'\\"layers\\": 1', b'\\"layers\\":-1'), "damaged config"),
        (lambda data: data.replace(b'\\"hidden_dim\\": 32', b'\\"hidden_dim\\":1e9'), "damaged config"),
        (lambda data: data.replace(b'\\"hidden_dim\\": 32', b'\\"hidden_dim\\": ]]'), "damaged config"),
    ],
)
def test_a_damaged_embedder_is_refused(tmp_path: Path, damage, named: str) -> None:
    path = tmp_path / "e.safetensors"
    save_embedder(build_embedder(EMBEDDER, 0), path)
    data = path.read_bytes()
    changed = damage(data)
    assert changed != data
    if len(changed) != len(data) and changed and b"something" in changed:
        changed = (int.from_bytes(data[:8], "little") + len(changed) - len(data)).to_bytes(8, "little") + changed[8:]
    path.write_bytes(changed)
    with pytest.raises(CheckpointError, match=named):
        load_embedder(path)


def test_presets_are_labels() -> None:
    def record(emotion: str | None) -> ClipRecord:
        return ClipRecord("c", ClipLabels("i", emotion, None, "v", "train"), Path(), {})

    assert [preset_label(record(name)) for name in PRESET_NAMES] == list(range(8))
    assert preset_label(record(None)) == UNLABELLED
