"""What does not belong together is refused, with what to connect instead."""

import inspect
import json
from typing import Any

import pytest
from comfyui.prompts import FACE, SAMPLER, nested

from dicetalk.errors import EmotionError, PortraitError, SpeechError

HAPPY = '{"weights": {"happy": 1.0}}'
ANOTHER = "another model.*same Load DICE Model"


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
        nodes["DICETalk_Sampler"].execute(model, portrait, speech, foreign, **nested(SAMPLER))
    with pytest.raises(EmotionError, match=f"^emotion: .*{ANOTHER}"):
        nodes["DICETalk_SaveEmotion"].execute(model, foreign, "not mine")


def test_speech_and_a_portrait_of_another_model(
    nodes: dict[str, Any], model: Any, other_model: Any, portrait: Any, speech: Any, audio: Any, image: Any, box: Any
) -> None:
    emotion = nodes["DICETalk_EmotionBankMix"].execute(model, HAPPY, 1.0, 1.0, 0.0, 0).result[0]
    heard = nodes["DICETalk_AudioEncode"].execute(other_model, audio, 0.0, 0.0).result[0]
    with pytest.raises(SpeechError, match=f"^speech: .*{ANOTHER}"):
        nodes["DICETalk_Sampler"].execute(model, portrait, heard, emotion, **nested(SAMPLER))
    seen = nodes["DICETalk_PortraitCrop"].execute(other_model, image, FACE, 64, 1.1, box=box).result[0][0]
    with pytest.raises(PortraitError, match=f"^portrait: .*{ANOTHER}"):
        nodes["DICETalk_Sampler"].execute(model, seen, speech, emotion, **nested(SAMPLER))


def test_the_type_of_every_wire_is_plain_to_comfyui_and_says_in_its_message_what_to_connect(
    nodes: dict[str, Any],
) -> None:
    for node_id, node in nodes.items():
        for port in node.define_schema().inputs:
            kind = port.get_io_type()
            if kind.startswith(("DICE_", "IMAGE", "AUDIO", "VIDEO", "MASK", "BOUNDING")):
                assert "; connect " in f"mismatch input_type({kind})", (node_id, port.id)
                assert json.loads(json.dumps(kind)) == kind and hash(kind) == hash(str(kind)), (node_id, port.id)
        for kind in node.RETURN_TYPES:
            assert "connect" not in f"received_type({kind})", node_id
    (portrait,) = (p for p in nodes["DICETalk_Sampler"].define_schema().inputs if p.id == "portrait")
    assert f"{portrait.get_io_type()}" == "DICE_PORTRAIT; connect Portrait Crop's portrait"


def test_a_check_names_one_input_so_that_there_is_one_message(nodes: dict[str, Any]) -> None:
    named = {
        node_id.removeprefix("DICETalk_"): set(inspect.signature(node.validate_inputs).parameters) - {"more"}
        for node_id, node in nodes.items()
        if "validate_inputs" in vars(node)
    }
    assert {name: len(inputs) for name, inputs in named.items()} == dict.fromkeys(named, 1)
    assert {"Sampler", "PortraitCrop", "EmotionBankMix", "AudioEncode"} <= named.keys()


def test_lengths_that_no_speech_could_have(nodes: dict[str, Any]) -> None:
    check = nodes["DICETalk_AudioEncode"].validate_inputs
    assert check(0.0) is True and check(0.1) is True and check(None) is True
    for wrong in (0.05, -1.0, 4000.0):
        assert f"duration is {wrong:g} s: give 0.1 to 3600" in check(wrong)


def test_values_that_come_over_wires_are_checked_when_they_come(nodes: dict[str, Any]) -> None:
    for node_id in ("EmotionBankMix", "EmotionTimeline", "SaveEmotion", "LoadEmotion"):
        assert nodes[f"DICETalk_{node_id}"].validate_inputs(None) is True


def test_what_nodes_offer_is_valid(nodes: dict[str, Any]) -> None:
    for node_id, name in (("EmotionBankMix", "emotions"), ("EmotionTimeline", "keyframes"), ("SaveEmotion", "name")):
        node = nodes[f"DICETalk_{node_id}"]
        port = next(port for port in node.define_schema().inputs if port.id == name)
        assert node.validate_inputs(port.default) is True


def test_no_emotion_has_been_saved(
    nodes: dict[str, Any], model: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import folder_paths

    empty = ([str(tmp_path)], {".safetensors"})
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "dice_talk_emotions", empty)
    load = nodes["DICETalk_LoadEmotion"]
    (offered,) = next(port for port in load.define_schema().inputs if port.id == "name").options
    assert "Run Save Emotion first" in load.validate_inputs(offered)
    with pytest.raises(EmotionError, match="Run Save Emotion first"):
        load.execute(model, offered)
