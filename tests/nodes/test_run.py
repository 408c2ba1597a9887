"""The nodes one after another, as a workflow runs them."""

import re
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from comfyui.prompts import FACE, SAMPLER, nested

from dicetalk.config import SamplingConfig
from dicetalk.emotion.files import SavedEmotion
from dicetalk.emotion.prior import EmotionPrior
from dicetalk.emotion.track import EmotionTrack
from dicetalk.errors import (
    EmotionError,
    NoFaceError,
    NotEnoughMemoryError,
    PortraitError,
    SettingError,
    SpeechError,
    VideoError,
)

SHORT = SAMPLER | {"preset.steps": 2, "preset.window": 8, "preset.shift": 7}
TRACK = '{"keyframes": [{"time": 0, "weights": {"happy": 1.0}}, {"time": 0.3, "emotion": "sad:0.5"}]}'


@pytest.fixture
def happy(nodes: dict[str, Any], model: Any) -> SavedEmotion:
    return mixed(nodes, model)[0]


def mixed(nodes: dict[str, Any], model: Any, **changes: Any) -> tuple[Any, ...]:
    values = {"emotions": '{"weights": {"happy": 1.0}, "intensity": 1.0}', "weight_a": 1.0, "weight_b": 1.0}
    values |= {"temperature": 0.0, "seed": 0} | changes
    return nodes["DICETalk_EmotionBankMix"].execute(model, **values).result


def sampled(nodes: dict[str, Any], model: Any, portrait: Any, speech: Any, emotion: Any, **changes: Any) -> Any:
    return nodes["DICETalk_Sampler"].execute(model, portrait, speech, emotion, **nested(SHORT | changes)).result


def test_audio_encode_gives_the_part_that_was_asked_for(nodes: dict[str, Any], model: Any, audio: dict) -> None:
    encode = nodes["DICETalk_AudioEncode"].execute
    speech, sound, frames, seconds = encode(model, audio, 0.1, 0.25).result
    assert seconds == pytest.approx(0.25) and frames == 3 == speech.features.frames
    assert sound["sample_rate"] == 44_100 and sound["waveform"].shape == (1, 2, 11_025)
    expected = audio["waveform"][..., 4410 : 4410 + 11_025]
    assert torch.allclose(sound["waveform"], expected)
    assert encode(model, audio, 0.0, 0.0).result[3] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (None, "no sound"),
        ({"waveform": torch.zeros(1, 1, 0), "sample_rate": 16_000}, "no samples"),
        ({"waveform": torch.zeros(2, 1, 16_000), "sample_rate": 16_000}, "2 sounds"),
        ({"waveform": torch.zeros(2, 16_000), "sample_rate": 16_000}, r"shape \(2, 16000\); expected \(1, channels"),
        ({"waveform": torch.zeros(1, 1, 100), "sample_rate": 16_000}, "at least 0.1 s"),
        ({"waveform": torch.full((1, 1, 16_000), torch.nan), "sample_rate": 16_000}, "NaN|nan"),
    ],
)
def test_sound_that_cannot_be_used(nodes: dict[str, Any], model: Any, broken: Any, message: str) -> None:
    with pytest.raises(SpeechError, match=message):
        nodes["DICETalk_AudioEncode"].execute(model, broken, 0.0, 0.0)


def test_the_sampler_gives_frames_sound_rate_video_and_latents(
    nodes: dict[str, Any], model: Any, portrait: Any, speech: Any, happy: Any
) -> None:
    images, audio, fps, video, latent = sampled(nodes, model, portrait, speech, happy)
    assert fps == 25.0 and images.shape == (10, *portrait.image.shape[1:], 3) and images.dtype == torch.float32
    assert images.min() >= 0 and images.max() <= 1
    # 0.4 s are 5 frames, 9 after interpolation, and the last one held so that the sound is covered.
    assert torch.equal(images[8], images[9]) and not torch.equal(images[7], images[8])
    parts = video.get_components()
    assert parts.frame_rate == 25 and parts.images is images and parts.audio is audio
    assert latent["samples"].shape == (5, 4, 8, 8)
    with torch.no_grad():
        decoded = model.dice.vae.decode(latent["samples"], num_frames=5).sample
    shown = (decoded / 2 + 0.5).clamp(0, 1).movedim(1, -1)
    assert torch.allclose(shown, images[::2][:5], atol=1e-5)

    slow, _, fps, video, _ = sampled(nodes, model, portrait, speech, happy, interpolate=False)
    assert fps == 12.5 and len(slow) == 5 and torch.allclose(slow, images[::2][:5])
    assert video.get_components().frame_rate.as_integer_ratio() == (25, 2)


@pytest.mark.parametrize("rate", [24.0, 30.0, 60.0])
def test_the_sampler_makes_the_rate_that_is_asked_for(
    nodes: dict[str, Any], model: Any, portrait: Any, speech: Any, happy: Any, rate: float
) -> None:
    images, audio, fps, video, _ = sampled(nodes, model, portrait, speech, happy, frame_rate=rate)
    assert fps == rate == video.get_components().frame_rate
    seconds = audio["waveform"].shape[-1] / audio["sample_rate"]
    assert 0 <= len(images) / rate - seconds < 1 / rate
    ordinary = sampled(nodes, model, portrait, speech, happy)[0]
    assert torch.equal(images[0], ordinary[0])
    assert torch.equal(sampled(nodes, model, portrait, speech, happy, frame_rate=0.0)[0], ordinary)


@pytest.mark.parametrize("rate", [12.0, 121.0, float("nan")])
def test_a_rate_out_of_range_is_refused(
    nodes: dict[str, Any], model: Any, portrait: Any, speech: Any, happy: Any, rate: float
) -> None:
    with pytest.raises(SettingError, match="fps is"):
        sampled(nodes, model, portrait, speech, happy, frame_rate=rate)


def test_seed_emotion_and_track_make_a_difference(
    nodes: dict[str, Any], model: Any, portrait: Any, speech: Any, happy: Any
) -> None:
    track, picture = nodes["DICETalk_EmotionTimeline"].execute(model, speech, TRACK).result
    assert isinstance(track.emotion, EmotionTrack) and picture.shape[0] == 1
    first = sampled(nodes, model, portrait, speech, happy)[0]
    assert torch.equal(first, sampled(nodes, model, portrait, speech, happy)[0])
    for changed in (
        sampled(nodes, model, portrait, speech, happy, seed=2),
        sampled(nodes, model, portrait, speech, mixed(nodes, model, emotions='{"weights": {"sad": 1}}')[0]),
        sampled(nodes, model, portrait, speech, track),
        sampled(nodes, model, portrait, speech, happy, **{"preset.portrait_guidance_change": 2.0}),
    ):
        assert not torch.equal(first, changed[0])


def test_presets(nodes: dict[str, Any]) -> None:
    def settings(**changes: Any) -> Any:
        return make(made_for, **nested(values | changes))

    make = sys.modules[nodes["DICETalk_Sampler"].__module__].sampler_settings
    made_for = SamplingConfig(steps=9, portrait_guidance=1.5, expression_guidance=2.5)
    values = {k: v for k, v in SHORT.items() if k not in ("interpolate", "decode_chunk")}
    custom = settings(**{"preset.portrait_guidance_change": 1.5})
    values = {name: value for name, value in values.items() if "." not in name}
    reference = settings(preset={"preset": "reference"}, seed=5, audio_scale=0.5)
    assert (reference.steps, reference.schedule, reference.window) == (9, "reference", 25)
    assert (reference.portrait_guidance, reference.expression_guidance) == (1.5, 2.5)
    assert (reference.seed, reference.audio_scale) == (5, 0.5)
    fast = settings(preset={"preset": "fast"})
    assert (fast.steps, fast.schedule, fast.portrait_guidance) == (5, "tight", 1.5)
    draft = settings(preset={"preset": "draft"}, guidance_every=2, solver="dpmpp_2m")
    assert (draft.steps, draft.solver, draft.guidance_every) == (4, "dpmpp_2m", 2)
    assert settings(preset={"preset": "draft"}, guidance_every=1).guidance_every == 4, "the default is the preset's"
    assert (custom.steps, custom.window, custom.portrait_guidance) == (2, 8, (3.0, 4.5))
    assert custom.key_value_budget == 64 << 20


def test_only_the_emotion_changed_encodes_the_portrait_once(
    nodes: dict[str, Any], model: Any, portrait: Any, speech: Any, happy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []
    vae_encode = model.dice.vae.encode
    monkeypatch.setattr(model.dice.vae, "encode", lambda x: (encoded.append(x.shape), vae_encode(x))[1])
    sad = mixed(nodes, model, emotions='{"weights": {"sad": 1}}')[0]
    sampled(nodes, model, portrait, speech, happy)
    assert len(encoded) == 1
    sampled(nodes, model, portrait, speech, sad)
    sampled(nodes, model, portrait, speech, sad, seed=9)
    assert len(encoded) == 1
    sampled(nodes, model, portrait, speech, sad, portrait_noise=0.1)
    assert len(encoded) == 3  # with and without noise


def test_a_clip_that_does_not_fit_is_refused_before_it_is_made(
    nodes: dict[str, Any], model: Any, portrait: Any, speech: Any, happy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import comfy.model_management

    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device=None: 1000)
    with pytest.raises(NotEnoughMemoryError, match=r"10 frames of 64 x 64.*Render in parts"):
        sampled(nodes, model, portrait, speech, happy)


def test_mixing_presets_and_wired_emotions(nodes: dict[str, Any], model: Any) -> None:
    priors = model.dice.priors
    neutral = priors["neutral"].mu
    emotion, picture = mixed(nodes, model, emotions='{"weights": {"happy": 0.5, "sad": 0.25}, "intensity": 2.0}')
    expected = neutral + (priors["happy"].mu - neutral) + 0.5 * (priors["sad"].mu - neutral)
    assert torch.allclose(emotion.emotion.mu, expected, atol=1e-5) and picture.shape[0] == 1 and picture.shape[-1] == 3

    mine = EmotionPrior(priors["angry"].mu, torch.full((256,), 0.1), "mine")
    wired = model.emotion(mine)
    emotion, _ = mixed(nodes, model, emotions='{"weights": {}}', emotion_a=wired, weight_a=0.5)
    assert torch.allclose(emotion.emotion.mu, neutral + 0.5 * (mine.mu - neutral), atol=1e-5)

    drawn = [mixed(nodes, model, emotions='{"weights": {}}', emotion_a=wired, temperature=1.0, seed=s)[0].emotion.mu
             for s in (1, 1, 2)]  # fmt: skip
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    track = model.emotion(EmotionTrack.curve([priors["sad"], priors["fear"]]))
    assert isinstance(mixed(nodes, model, emotion_b=track)[0].emotion, EmotionTrack)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[1]", "table as"),
        ('{"weights": {"joyful": 1}}', "joyful.*Known: .*happy"),
        ('{"weights": {"happy": 3}}', "0 to 2"),
        ('{"weights": {"happy": "a lot"}}', "number"),
        ('{"weights": {"happy": 1}, "speed": 1}', "speed"),
    ],
)
def test_a_mix_that_was_typed_wrongly(nodes: dict[str, Any], model: Any, text: str, message: str) -> None:
    with pytest.raises(EmotionError, match=message):
        mixed(nodes, model, emotions=text)
    assert re.search(message, nodes["DICETalk_EmotionBankMix"].validate_inputs(text))


def test_the_timeline_tells_its_widget_the_waveform(nodes: dict[str, Any], model: Any, speech: Any) -> None:
    shown = nodes["DICETalk_EmotionTimeline"].execute(model, speech, TRACK).ui
    assert shown["dicetalk_duration"] == [pytest.approx(0.4)]
    peaks = shown["dicetalk_waveform"]
    assert len(peaks) == 800 and all(0 <= p <= 1 for p in peaks)
    assert max(peaks) == pytest.approx(0.225, abs=0.01)  # the mean of both channels
    timeless = '{"keyframes": [{"weights": {"sad": 1}}]}'
    with pytest.raises(EmotionError, match=r"keyframes\[0\].*time"):
        nodes["DICETalk_EmotionTimeline"].execute(model, speech, timeless)
    assert "keyframes[0]" in nodes["DICETalk_EmotionTimeline"].validate_inputs(timeless)


def test_portrait_crop_by_box_mask_and_whole(nodes: dict[str, Any], model: Any, image: Any, box: Any) -> None:
    crop = nodes["DICETalk_PortraitCrop"].execute
    made = crop(model, image, FACE, 64, 1.1, box=[[box]])
    (portrait,), (shown,), (mask,) = made.result
    assert shown.shape == (1, 64, 64, 3) and mask.shape == (1, 64, 64) and 0 < mask.mean() < 1
    assert made.ui["images"].shape == image.shape

    painted = torch.zeros(1, 80, 96)
    painted[:, 20:56, 30:62] = 1
    assert crop(model, image, FACE, 64, 1.1, mask=painted).result[0][0].crop == portrait.crop
    halved = torch.nn.functional.max_pool2d(painted, 2)
    assert crop(model, image, FACE, 64, 1.1, mask=halved).result[0][0].crop == portrait.crop

    wider = crop(model, image, FACE | {"margin": 0.7}, 64, 1.1, box=box).result[0][0]
    assert wider.crop[2] - wider.crop[0] > portrait.crop[2] - portrait.crop[0]
    whole = crop(model, image, {"area": "whole picture", "face_index": 0}, 64, 1.1, box=box).result[0][0]
    assert whole.crop == (0, 0, 96, 80) and whole.mask.mean() < 1
    moving = crop(model, image, {"area": "everything moves"}, 64, 1.1, box=box).result[0][0]
    assert moving.face is None and moving.mask.min() == 1


def test_a_batch_of_pictures_is_a_list_of_portraits(nodes: dict[str, Any], model: Any, image: Any, box: Any) -> None:
    node = nodes["DICETalk_PortraitCrop"]
    assert all(output.is_output_list for output in node.define_schema().outputs)
    other, elsewhere = image.flip(0, 1, 2), {"x": 10, "y": 10, "width": 40, "height": 44}
    batch = torch.cat([image, other])

    def crop(pictures: Any, **face: Any) -> Any:
        return node.execute(model, pictures, FACE, 64, 1.1, **face)

    alone = [crop(image, box=box).result, crop(other, box=elsewhere).result]
    painted = torch.zeros(2, 80, 96)
    painted[0, 20:56, 30:62] = painted[1, 10:54, 10:50] = 1
    for face in ({"box": [box, elsewhere]}, {"box": [[box], [elsewhere, box]]}, {"mask": painted}):
        made = crop(batch, **face)
        portraits, shown, masks = made.result
        assert len(portraits) == len(shown) == len(masks) == 2 and len(made.ui["images"]) == 2
        for number, expected in enumerate(alone):
            assert portraits[number].crop == expected[0][0].crop
            assert torch.equal(shown[number], expected[1][0]) and torch.equal(masks[number], expected[2][0])
    for one in ({"box": box}, {"box": [[box]]}, {"mask": painted[:1]}):
        assert [portrait.crop for portrait in crop(batch, **one).result[0]] == [alone[0][0][0].crop] * 2


def test_pictures_that_cannot_be_used(nodes: dict[str, Any], model: Any, image: Any, box: Any) -> None:
    def crop(picture: Any, **inputs: Any) -> Any:
        return nodes["DICETalk_PortraitCrop"].execute(model, picture, FACE, 64, 1.1, **inputs)

    with pytest.raises(NoFaceError, match="box"):
        crop(image)
    with pytest.raises(NoFaceError, match=r"^Picture 1 of 3: .*box"):
        crop(image.expand(3, -1, -1, -1))
    with pytest.raises(PortraitError, match=r"3 boxes for 2 pictures.*one for each; Get Image from Batch"):
        crop(image.expand(2, -1, -1, -1), box=[box, box, box])
    with pytest.raises(PortraitError, match=r"3 masks for 2 pictures.*one for each; Get Image from Batch"):
        crop(image.expand(2, -1, -1, -1), mask=torch.ones(3, 80, 96))
    with pytest.raises(PortraitError, match=r"2 masks for one picture.*Get Image from Batch"):
        crop(image, mask=torch.ones(2, 80, 96))
    with pytest.raises(PortraitError, match="Mask 2 of 2: The mask is empty"):
        crop(image.expand(2, -1, -1, -1), mask=torch.stack([torch.ones(80, 96), torch.zeros(80, 96)]))
    with pytest.raises(PortraitError, match="mask is empty"):
        crop(image, mask=torch.zeros(1, 80, 96))
    with pytest.raises(PortraitError, match="no box"):
        crop(image, box=[[]])
    with pytest.raises(PortraitError, match="expected x, y"):
        crop(image, box={"x": 1})
    with pytest.raises(PortraitError, match="64"):
        crop(image[:, :20], box=box)
    with pytest.raises(PortraitError, match="Disconnect one"):
        crop(image, box=box, mask=torch.ones(1, 80, 96))


def test_transparent_pixels_become_white(nodes: dict[str, Any], model: Any, image: Any, box: Any) -> None:
    clear = torch.cat([image, torch.zeros(1, 80, 96, 1)], dim=-1)
    shown = nodes["DICETalk_PortraitCrop"].execute(model, clear, FACE, 64, 1.1, box=box).result[1][0]
    assert shown.min() == 1


def test_paste_back_changes_the_crop_alone(nodes: dict[str, Any], portrait: Any, image: Any) -> None:
    paste = nodes["DICETalk_PasteBack"].execute
    x0, y0, x1, y1 = portrait.crop
    for size in (64, 128):  # as sampled, and upscaled
        red = torch.tensor([1.0, 0.0, 0.0]).expand(20, size, size, 3)
        full = paste(red, portrait, 0.0, False).result[0]
        assert full.shape == (20, *image.shape[1:])
        inside = full[:, y0 + 1 : y1 - 1, x0 + 1 : x1 - 1]
        assert torch.allclose(inside, torch.tensor([1.0, 0.0, 0.0]), atol=0.02)
        full[:, y0:y1, x0:x1] = image[:, y0:y1, x0:x1]
        assert (full - image).abs().max() < 1 / 255
    soft, mask = paste(red, portrait, 0.2, False).result
    weight = mask[..., None]
    assert mask.shape == image.shape[:3] and 0 < weight[:, y0:y1, x0:x1].mean() < 1
    assert (soft - (weight * red[0, 0, 0] + (1 - weight) * image)).abs().max() < 0.02
    with pytest.raises(PortraitError, match="do not belong"):
        paste(torch.rand(2, 64, 100, 3), portrait, 0.0, True)


def test_interpolation_keeps_the_given_frames(nodes: dict[str, Any], model: Any) -> None:
    frames = torch.rand(3, 40, 36, 4, generator=torch.Generator().manual_seed(1))
    for multiplier, fps in (("2", 25.0), ("4", 50.0)):
        images, new_fps = nodes["DICETalk_FrameInterpolate"].execute(model, frames, 12.5, multiplier).result
        step = int(multiplier)
        assert images.shape == (2 * step + 1, 40, 36, 3) and new_fps == fps
        assert torch.equal(images[::step], frames[..., :3])
    with pytest.raises(VideoError, match="no clip"):
        nodes["DICETalk_FrameInterpolate"].execute(model, frames[:0], 12.5, "2")


def test_emotions_are_saved_and_loaded(nodes: dict[str, Any], model: Any, happy: Any) -> None:
    save, load = nodes["DICETalk_SaveEmotion"], nodes["DICETalk_LoadEmotion"]
    save.execute(model, happy, "warm smile")
    track = model.emotion(EmotionTrack.curve([model.dice.priors["sad"], model.dice.priors["fear"]]))
    save.execute(model, track, "Ärger-2")
    offered = next(i for i in load.define_schema().inputs if i.id == "name").options
    assert {"warm smile", "Ärger-2"} <= set(offered)
    assert torch.equal(load.execute(model, "warm smile").result[0].emotion.mu, happy.emotion.mu)
    assert len(load.execute(model, "Ärger-2").result[0].track.keyframes) == 2
    before = load.fingerprint_inputs("warm smile")
    save.execute(model, replace(happy, emotion=model.dice.priors["sad"], source="a friend"), "warm smile")
    assert load.fingerprint_inputs("warm smile") != before
    assert load.execute(model, "warm smile").result[0].source == "a friend"


@pytest.mark.parametrize(
    "name",
    ["../out", "a/b", "a\\b", "", "  ", ".hidden", "C:x", "x" * 65, "nul\0", "a.", "CON", "nul", "lpt1.x", "Com9 .y"],
)
def test_a_name_does_not_leave_the_folder(nodes: dict[str, Any], model: Any, happy: Any, name: str) -> None:
    with pytest.raises(EmotionError, match="cannot be called"):
        nodes["DICETalk_SaveEmotion"].execute(model, happy, name)
    assert "cannot be called" in nodes["DICETalk_SaveEmotion"].validate_inputs(name)
    nodes["DICETalk_SaveEmotion"].execute(model, happy, "x")
    with pytest.raises(EmotionError, match="no saved emotion"):
        nodes["DICETalk_LoadEmotion"].execute(model, f"{name}/../x")
    assert "no saved emotion" in nodes["DICETalk_LoadEmotion"].validate_inputs(f"{name}/../x")


@pytest.mark.parametrize("rate", [0.0, 30.0])
def test_the_bar_reaches_its_end(
    nodes: dict[str, Any],
    model: Any,
    portrait: Any,
    speech: Any,
    happy: Any,
    rate: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import comfy.utils

    seen: list[int] = []
    monkeypatch.setattr(comfy.utils.ProgressBar, "update_absolute", lambda bar, value, *_: seen.append(value))
    sampled(nodes, model, portrait, speech, happy, frame_rate=rate)
    assert seen == sorted(seen) and seen[-1] == 1000
