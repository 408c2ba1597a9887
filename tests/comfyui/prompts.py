"""Prompts in the API's form, and the shipped workflows made small enough to test."""

import json
from typing import Any

Prompt = dict[str, dict[str, Any]]

SAMPLER = {
    "seed": 1,
    "preset": "custom",
    "preset.steps": 3,
    "preset.portrait_guidance": 3.0,
    "preset.expression_guidance": 6.0,
    "preset.portrait_guidance_change": 0.0,
    "preset.expression_guidance_change": 0.0,
    "preset.schedule": "tight",
    "preset.window": 5,
    "preset.overlap": 0,
    "preset.shift": 2,
    "interpolate": True,
    "audio_scale": 1.0,
    "emotion_scale": 1.0,
    "motion_bucket": 8.0,
    "expression_bucket": 16.0,
    "noise_strength": 1.0,
    "portrait_noise": 0.0,
    "batched_guidance": True,
    "key_value_budget": 64,
    "decode_chunk": 10,
}
FACE = {"area": "face", "face_index": 0, "margin": 0.5}
SPEECH_SECONDS = 0.5
SMALL_MODELS = {"unet.pth": "dicetalk.safetensors", "Sonic/unet.pth": "Sonic/dicetalk-sonic.safetensors"}
"""Random models that stand for the released ones."""


def nested(inputs: dict[str, Any]) -> dict[str, Any]:
    """Inputs of a prompt as a node's `execute` takes them: those of a choice in one table with it."""
    tables = {name.partition(".")[0] for name in inputs if "." in name}
    made = {name: {name: value} if name in tables else value for name, value in inputs.items() if "." not in name}
    for name, value in inputs.items():
        table, _, inner = name.partition(".")
        if inner:
            made[table][inner] = value
    return made


def _full_names(choice: str, known: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Inputs of `changes` under the names that they have in `known`, where those of `choice` come after its name."""
    return {f"{choice}.{name}" if f"{choice}.{name}" in known else name: value for name, value in changes.items()}


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def mix(emotion: str) -> str:
    return json.dumps({"weights": {emotion: 0.8}, "intensity": 1.0})


def talking(emotion: str = "happy", model: str = "dicetalk.safetensors", **sampler: Any) -> Prompt:
    """A picture and half a second of speech to a video; the sampler is node 7, the file node 8."""
    return {
        "1": node("DICETalk_LoadModel", model=model, svd="auto", dtype="auto"),
        "2": node("LoadImage", image="portrait.jpg"),
        "3": node("LoadAudio", audio="speech.wav"),
        "4": node("DICETalk_AudioEncode", model=["1", 0], audio=["3", 0], start=0.0, duration=SPEECH_SECONDS),
        "5": portrait(["1", 0], ["2", 0]),
        "6": mixed(["1", 0], emotion),
        "7": node(
            "DICETalk_Sampler",
            model=["1", 0],
            portrait=["5", 0],
            speech=["4", 0],
            emotion=["6", 0],
            **SAMPLER | _full_names("preset", SAMPLER, sampler),
        ),
        "8": save(["7", 3]),
    }


def portrait(model: list[Any], image: list[Any], **changes: Any) -> dict[str, Any]:
    values = {"area": "face", "area.face_index": 0, "area.margin": 0.5, "short_side": 64, "mask_scale": 1.1}
    return node("DICETalk_PortraitCrop", model=model, image=image, **values | _full_names("area", values, changes))


def mixed(model: list[Any], emotion: str) -> dict[str, Any]:
    values = {"weight_a": 1.0, "weight_b": 1.0, "temperature": 0.0, "seed": 0}
    return node("DICETalk_EmotionBankMix", model=model, emotions=mix(emotion), **values)


def save(video: list[Any]) -> dict[str, Any]:
    # `codec` up to ComfyUI 0.31, `format.codec` since.
    inputs = {"video": video, "filename_prefix": "clip", "format": "auto", "codec": "auto", "format.codec": "auto"}
    return {"class_type": "SaveVideo", "inputs": inputs}


def without_restorer(prompt: Prompt) -> Prompt:
    """`prompt` with its face restorer bypassed."""
    loaders = {i for i, each in prompt.items() if "GFPGAN" in str(each["inputs"].get("model_name"))}
    restorers = {
        i: e["inputs"]["image"] for i, e in prompt.items() if e["inputs"].get("upscale_model", [0])[0] in loaders
    }
    left = {i: each for i, each in prompt.items() if i not in loaders | restorers.keys()}
    for each in left.values():
        for name, value in each["inputs"].items():
            if isinstance(value, list) and value[0] in restorers:
                each["inputs"][name] = restorers[value[0]]
    return left


def reduced(prompt: Prompt) -> Prompt:
    """A shipped workflow with little to compute, on a small random model unless it wants the bundled one."""
    for each in prompt.values():
        kind, inputs = each["class_type"], each["inputs"]
        if kind == "DICETalk_LoadModel" and inputs["model"] != "tiny":
            inputs |= {"model": SMALL_MODELS[inputs["model"]], "svd": "auto"}
        elif kind == "DICETalk_Sampler":
            inputs |= {name: value for name, value in SAMPLER.items() if name.startswith("preset")} | {
                "preset.steps": 1
            }
        elif kind == "DICETalk_AudioEncode":
            inputs["duration"] = SPEECH_SECONDS
        elif kind == "DICETalk_PortraitCrop":
            inputs["short_side"] = 64
        elif kind == "ImageScale":
            inputs |= {"width": 128, "height": 128}
        elif kind == "LoadImage":
            inputs["image"] = "portrait.jpg"
    return prompt
