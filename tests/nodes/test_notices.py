"""What a node does not use of its inputs, and whatever else went on differently than asked, is shown in the node."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comfyui.prompts import SAMPLER, nested

NOTICES = "dicetalk_notices"
FACE = {"area": "face", "face_index": 0, "margin": 0.5}


def notices_of(output: Any) -> list[str]:
    return output.ui[NOTICES]


def sound(samples: np.ndarray, sample_rate: int = 16_000) -> dict[str, Any]:
    return {"waveform": torch.from_numpy(samples.astype(np.float32))[None, None], "sample_rate": sample_rate}


def hum(seconds: float, level: float = 0.3) -> np.ndarray:
    return level * np.sin(2 * np.pi * 180 * np.arange(round(seconds * 16_000)) / 16_000)


@pytest.mark.parametrize(
    ("samples", "notice"),
    [
        (hum(0.5), None),
        (np.zeros(8000), "only silence"),
        (hum(1.0, 0.001) * (np.arange(16_000) // 4000 % 2), "very quiet"),
        (hum(0.5) + 0.2, "offset"),
    ],
)
def test_audio_encode(nodes: dict[str, Any], model: Any, samples: np.ndarray, notice: str | None) -> None:
    found = notices_of(nodes["DICETalk_AudioEncode"].execute(model, sound(samples), 0.0, 0.0))
    assert [notice in text for text in found] == [True] if notice else found == []


def track(*seconds: float) -> str:
    return json.dumps({"keyframes": [{"time": time, "emotion": "happy"} for time in seconds]})


def test_timeline_and_sampler_name_keyframes_after_the_speech(
    nodes: dict[str, Any], model: Any, portrait: Any, speech: Any
) -> None:
    run = nodes["DICETalk_EmotionTimeline"].execute
    assert notices_of(run(model, speech, track(0, 0.3))) == []
    late = run(model, speech, '{"keyframes": [{"time": 0, "emotion": "sad"}, {"time": 2, "emotion": "happy"}]}')
    (text,) = notices_of(late)
    assert "speech to 0.40 s: 1 of its 2 keyframes are not used (at 2.00 s)" in text
    assert "dicetalk_waveform" in late.ui
    made = nodes["DICETalk_Sampler"].execute(model, portrait, speech, late.result[0], **nested(SAMPLER))
    assert notices_of(made) == [text]


def test_sampler_without_interpolation(nodes: dict[str, Any], model: Any, portrait: Any, speech: Any) -> None:
    happy = nodes["DICETalk_EmotionTimeline"].execute(model, speech, track(0)).result[0]
    sample = nodes["DICETalk_Sampler"].execute
    assert notices_of(sample(model, portrait, speech, happy, **nested(SAMPLER))) == []
    other = type(model)(replace(model.dice, flownet=None))
    (text,) = notices_of(sample(other, portrait, speech, happy, **nested(SAMPLER)))
    assert "RIFE" in text and "12.5" in text


def test_bank_mix(nodes: dict[str, Any], model: Any) -> None:
    def mixed(weight: float, intensity: float, **emotions: Any) -> Any:
        text = json.dumps({"weights": {"happy": 1.0}, "intensity": intensity})
        return nodes["DICETalk_EmotionBankMix"].execute(model, text, weight, 1.0, 0.0, 0, **emotions)

    alone = mixed(1.0, 1.0)
    assert alone.ui == {NOTICES: []}  # no picture: the node does not grow
    emotion = alone.result[0]
    assert notices_of(mixed(1.0, 1.0, emotion_a=emotion)) == []
    assert notices_of(mixed(0.0, 1.0, emotion_a=emotion)) == [
        "emotion_a is connected, but has no part: its weight is 0."
    ]
    (text,) = notices_of(mixed(1.0, 0.0))
    assert "intensity is 0" in text


def test_portrait_crop(nodes: dict[str, Any], model: Any, image: Any, box: Any) -> None:
    crop = nodes["DICETalk_PortraitCrop"].execute
    assert notices_of(crop(model, image, FACE, 64, 1.1, box=box)) == []
    assert notices_of(crop(model, image, FACE, 64, 1.1, box=[[box, box], [box]])) == [
        "box holds 3 boxes: the first is used, and 2 not."
    ]
    pair = image.expand(2, -1, -1, -1)
    assert notices_of(crop(model, pair, FACE, 64, 1.1, box=[[box], [box, box]])) == [
        "box holds 2 boxes of picture 2: the first is used, and 1 not."
    ]
    tiny = {"x": 4, "y": 4, "width": 8, "height": 9}
    whole = {"area": "whole picture", "face_index": 0}
    (text,) = notices_of(crop(model, pair, whole, 64, 1.1, box=[box, tiny]))
    assert text.startswith("Picture 2 of 2: The face has 5 x 7")


def test_a_node_that_fails_names_what_it_noticed_before(
    nodes: dict[str, Any], model: Any, image: Any, box: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    crop = nodes["DICETalk_PortraitCrop"].execute
    outside = {"x": 5000, "y": 4, "width": 8, "height": 9}
    with pytest.raises(Exception, match="outside the picture") as caught:
        crop(model, image, FACE, 64, 1.1, box=[[outside, box]])
    error, _, before = str(caught.value).partition("\n\nBefore that:\n")
    assert "outside the picture" in error and type(caught.value).__name__ == "PortraitError"
    assert before == "- box holds 2 boxes: the first is used, and 1 not."
    with pytest.raises(Exception, match="outside the picture") as caught:  # nothing of the run before
        crop(model, image, FACE, 64, 1.1, box=outside)
    assert "Before that" not in str(caught.value)

    import comfy.model_management

    def cancel() -> None:
        raise comfy.model_management.InterruptProcessingException

    monkeypatch.setattr(comfy.model_management, "throw_exception_if_processing_interrupted", cancel)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        crop(model, image, FACE, 64, 1.1, box=[[box, box]])


def test_what_a_node_shows_is_sent_from_the_cache_as_well(nodes: dict[str, Any]) -> None:
    """Where ComfyUI knows that; tests on a real one look at what it sends."""
    from dataclasses import fields

    schema = next(iter(nodes.values())).define_schema()
    if "has_intermediate_output" not in {each.name for each in fields(schema)}:
        pytest.skip("this ComfyUI does not send it")
    for node_id, node in nodes.items():
        shows = node_id not in ("DICETalk_SaveEmotion", "DICETalk_LoadEmotion")
        assert bool(node.define_schema().has_intermediate_output) == shows, node_id


def test_a_refused_detector_is_named_in_every_node_that_looks_for_faces(
    nodes: dict[str, Any], model: Any, tmp_path: Path
) -> None:
    from PIL import Image

    damaged = tmp_path / "yoloface_v5m.pt"
    damaged.write_bytes(b"no archive")
    other = type(model)(replace(model.dice, detector_path=damaged))
    portrait = Path(__file__).parents[2] / "examples" / "portrait.jpg"
    picture = torch.from_numpy(np.array(Image.open(portrait).convert("RGB")))[None].float() / 255
    crop = nodes["DICETalk_PortraitCrop"].execute
    for margin in (0.5, 0.4):  # not only at the first picture
        (text,) = notices_of(crop(other, picture, FACE | {"margin": margin}, 64, 1.1))
        assert "yoloface_v5m.pt" in text and "CenterFace" in text
    choice = {"result": "one emotion", "strength": 1.0}
    extracted = nodes["DICETalk_ExtractEmotionPrior"].execute(other, choice, 25.0, images=picture)
    assert any("CenterFace" in text for text in notices_of(extracted))


def test_extract_names_sound_and_channels_that_have_no_part(nodes: dict[str, Any], model: Any) -> None:
    from PIL import Image

    portrait = Path(__file__).parents[2] / "examples" / "portrait.jpg"
    pictures = torch.from_numpy(np.array(Image.open(portrait).convert("RGBA")))[None].float() / 255
    pictures[:, :9, :, 3] = 0
    choice = {"result": "emotion over time", "strength": 1.0, "smoothing": 0.0, "window": 2.0}
    run = nodes["DICETalk_ExtractEmotionPrior"].execute
    found = notices_of(run(model, choice, 25.0, images=pictures, audio=sound(hum(0.5)), audio_stream=2))
    for part in ("audio has no part", "window is not used", "alpha channel", "audio_stream has no influence"):
        assert sum(part in text for text in found) == 1, (part, found)


def test_extract_names_sound_after_the_pictures(nodes: dict[str, Any], other_model: Any) -> None:
    if other_model.dice.embedder is None:
        pytest.skip("The bundled model's embedder is not here.")
    pictures = torch.rand(8, 96, 96, 3, generator=torch.Generator().manual_seed(0))
    module = __import__("sys").modules[nodes["DICETalk_ExtractEmotionPrior"].__module__]
    hooks = module.comfy_hooks({})
    module._reference(pictures, None, sound(hum(1.0)), 25.0, True, 0, hooks)
    assert hooks.notices == ["audio lasts 1.00 s, the pictures 0.32 s: the sound from 0.32 s on is not used."]


def test_paste_back_and_interpolate_name_a_channel_that_has_no_part(
    nodes: dict[str, Any], model: Any, portrait: Any
) -> None:
    clear = torch.rand(2, 64, 64, 4)
    for output in (
        nodes["DICETalk_PasteBack"].execute(clear, portrait, 0.06, False),
        nodes["DICETalk_FrameInterpolate"].execute(model, clear, 12.5, "2"),
    ):
        assert notices_of(output) == ["images have an alpha channel, which is not used."]
    opaque = clear.clone()
    opaque[..., 3] = 1
    for images in (clear[..., :3], opaque):
        assert notices_of(nodes["DICETalk_PasteBack"].execute(images, portrait, 0.06, False)) == []


@pytest.mark.parametrize("cut", [False, True])
def test_crop_names_transparent_parts_of_a_portrait_alone(cut: bool, nodes: dict[str, Any], model: Any) -> None:
    from PIL import Image

    portrait = Path(__file__).parents[2] / "examples" / "portrait.jpg"
    picture = torch.from_numpy(np.array(Image.open(portrait).convert("RGBA")))[None].float() / 255
    if cut:
        picture[:, : picture.shape[1] // 10 + 1, :, 3] = 0
    found = notices_of(nodes["DICETalk_PortraitCrop"].execute(model, picture, FACE, 64, 1.1))
    assert [text for text in found if "transparent" in text or "alpha" in text] == [
        "The picture is transparent in 10 % of its area; it is laid on white."
    ] * cut


def test_every_node_that_works_reports_its_notices(nodes: dict[str, Any]) -> None:
    """Also none, so that those of the run before go away; the files' nodes have nothing to leave out."""
    import inspect

    for node_id, node in nodes.items():
        if node_id not in ("DICETalk_SaveEmotion", "DICETalk_LoadEmotion"):
            assert ".shown(" in inspect.getsource(node.execute), node_id
            assert "@keeps_notices" in inspect.getsource(node.execute), node_id
