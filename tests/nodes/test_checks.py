"""What does not belong together is refused, with what to connect instead."""

from typing import Any

import pytest
from comfyui.prompts import SAMPLER

from dicetalk.errors import EmotionError, PortraitError, SpeechError

HAPPY = '{"weights": {"happy": 1.0}}'
ANOTHER = "another model.*same Load DICE Model"


class Anything(str):
    """The type for everything as older packs spell it."""

    def __ne__(self, other: object) -> bool:
        return False


@pytest.fixture
def foreign(nodes: dict[str, Any], other_model: Any) -> Any:
    """An emotion of the other model."""
    return nodes["DICETalk_EmotionBankMix"].execute(other_model, HAPPY, 1.0, 1.0, 0.0, 0).result[0]


def test_an_emotion_of_another_model(
    nodes: dict[str, Any], model: Any, portrait: Any, speech: Any, foreign: Any
) -> None:
    for name in ("emotion_a", "emotion_b"):
        with pytest.raises(EmotionError, match=f"^{name}: .*{ANOTHER}"):
            nodes["DICETalk_EmotionBankMix"].execute(model, HAPPY, 1.0, 1.0, 0.0, 0, **{name: foreign})
    with pytest.raises(EmotionError, match=f"^emotion: .*{ANOTHER}"):
        nodes["DICETalk_Sampler"].execute(model, portrait, speech, foreign, **SAMPLER)
    with pytest.raises(EmotionError, match=f"^emotion: .*{ANOTHER}"):
        nodes["DICETalk_SaveEmotion"].execute(model, foreign, "not mine")


def test_speech_and_a_portrait_of_another_model(
    nodes: dict[str, Any], model: Any, other_model: Any, portrait: Any, speech: Any, audio: Any, image: Any, box: Any
) -> None:
    emotion = nodes["DICETalk_EmotionBankMix"].execute(model, HAPPY, 1.0, 1.0, 0.0, 0).result[0]
    heard = nodes["DICETalk_AudioEncode"].execute(other_model, audio, 0.0, 0.0).result[0]
    with pytest.raises(SpeechError, match=f"^speech: .*{ANOTHER}"):
        nodes["DICETalk_Sampler"].execute(model, portrait, heard, emotion, **SAMPLER)
    seen = nodes["DICETalk_PortraitCrop"].execute(other_model, image, "face", 0, 0.5, 64, 1.1, box=box).result[0]
    with pytest.raises(PortraitError, match=f"^portrait: .*{ANOTHER}"):
        nodes["DICETalk_Sampler"].execute(model, seen, speech, emotion, **SAMPLER)


def test_every_node_with_wires_takes_its_own_types_and_says_what_to_connect(nodes: dict[str, Any]) -> None:
    for node_id, node in nodes.items():
        if node_id == "DICETalk_LoadModel":  # it has none
            continue
        types = {port.id: port.get_io_type() for port in node.define_schema().inputs}
        for name, kind in types.items():
            if kind in ("DICE_MODEL", "DICE_SPEECH", "DICE_EMOTION", "DICE_PORTRAIT", "IMAGE", "AUDIO", "VIDEO"):
                for fitting in (kind, "*", f"STRING,{kind}", Anything("*"), ["a", "b"], "COMFY_MATCHTYPE_V3"):
                    verdict = node.validate_inputs({name: fitting})
                    assert verdict is True or f"{name}: got" not in verdict, (node_id, name, fitting)
                verdict = node.validate_inputs({name: "FLOAT"})
                assert f"{name}: got FLOAT; connect " in verdict, (node_id, name)


def test_what_a_wrong_wire_is_told(nodes: dict[str, Any]) -> None:
    told = nodes["DICETalk_Sampler"].validate_inputs({"portrait": "IMAGE", "speech": "AUDIO", "model": "DICE_MODEL"})
    assert told == (
        "portrait: got IMAGE; connect Portrait Crop's portrait. speech: got AUDIO; connect Audio Encode's speech."
    )
    assert nodes["DICETalk_PasteBack"].validate_inputs({"images": "IMAGE", "portrait": "DICE_PORTRAIT"}) is True
    assert nodes["DICETalk_AudioEncode"].validate_inputs({"start": "STRING"}) == "start: got STRING; connect FLOAT."


def test_what_must_not_be_connected_together(nodes: dict[str, Any]) -> None:
    crop, extract = nodes["DICETalk_PortraitCrop"], nodes["DICETalk_ExtractEmotionPrior"]
    assert "Disconnect one" in crop.validate_inputs({"box": "BOUNDING_BOX", "mask": "MASK"})
    assert crop.validate_inputs({"box": "BOUNDING_BOX"}) is True
    assert "Disconnect one" in extract.validate_inputs({"images": "IMAGE", "video": "VIDEO"})
    assert "connect images" in extract.validate_inputs({"model": "DICE_MODEL"})
    assert extract.validate_inputs({"images": "IMAGE", "audio": "AUDIO"}) is True


def test_windows_that_overlap_wholly(nodes: dict[str, Any]) -> None:
    check = nodes["DICETalk_Sampler"].validate_inputs
    assert "overlap 9 must be smaller than the window of 5" in check({}, preset="custom", window=5, overlap=9)
    assert "window is 0" in check({}, preset="custom", window=0, overlap=0)  # ComfyUI leaves the range to us
    assert "preset 'slow' is unknown" in check({}, preset="slow", window=5, overlap=0)
    assert check({}, preset="reference", window=5, overlap=9) is True  # not used
    assert check({}, preset="custom", window=None, overlap=9) is True  # comes over a wire
    assert check({}) is True


def test_values_that_come_over_wires_are_checked_when_they_come(nodes: dict[str, Any]) -> None:
    for node_id in ("EmotionBankMix", "EmotionTimeline", "SaveEmotion", "LoadEmotion"):
        assert nodes[f"DICETalk_{node_id}"].validate_inputs({}, None) is True


def test_what_nodes_offer_is_valid(nodes: dict[str, Any]) -> None:
    for node_id, name in (("EmotionBankMix", "emotions"), ("EmotionTimeline", "keyframes"), ("SaveEmotion", "name")):
        node = nodes[f"DICETalk_{node_id}"]
        port = next(port for port in node.define_schema().inputs if port.id == name)
        assert node.validate_inputs({}, port.default) is True


def test_no_emotion_has_been_saved(
    nodes: dict[str, Any], model: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import folder_paths

    empty = ([str(tmp_path)], {".safetensors"})
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "dice_talk_emotions", empty)
    load = nodes["DICETalk_LoadEmotion"]
    (offered,) = next(port for port in load.define_schema().inputs if port.id == "name").options
    assert "Run Save Emotion first" in load.validate_inputs({}, offered)
    with pytest.raises(EmotionError, match="Run Save Emotion first"):
        load.execute(model, offered)
