"""The pack as ComfyUI loads it: its nodes, what takes the place of the older pack's nodes, and the templates' files."""

import logging
import shutil
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import ComfyAPI, ComfyExtension, io

import dicetalk

from .audio_encode import AudioEncode
from .emotion_bank_mix import EmotionBankMix
from .emotion_files import LoadEmotion, SaveEmotion
from .emotion_timeline import EmotionTimeline
from .extract_emotion import ExtractEmotionPrior
from .folders import register_folders
from .interpolate import FrameInterpolate
from .load_model import LoadModel
from .motion_curve import MotionCurve
from .portrait import PasteBack, PortraitCrop
from .prompts import settle_prompts_of
from .sampler import DiceSampler

_log = logging.getLogger("dicetalk")

NODES: list[type[io.ComfyNode]] = [
    LoadModel,
    AudioEncode,
    ExtractEmotionPrior,
    EmotionBankMix,
    DiceSampler,
    EmotionTimeline,
    PortraitCrop,
    PasteBack,
    FrameInterpolate,
    SaveEmotion,
    LoadEmotion,
    MotionCurve,
]

OLD_NODES: dict[str, type[io.ComfyNode]] = {
    "Dice_Talk_Loader": LoadModel,
    "Dice_Talk_PreData": AudioEncode,
    "Dice_Talk_Sampler": DiceSampler,
}
"""Nodes of the older DICE-Talk pack, in whose workflows this pack's open."""

_DRAWN = Path(dicetalk.__file__).parent / "assets" / "demo"
_REAL = Path(__file__).parents[1] / "examples"
EXAMPLES = {
    "dicetalk_portrait.png": _DRAWN / "portrait.png",
    "dicetalk_speech.ogg": _DRAWN / "speech.ogg",
    "dicetalk_portrait.jpg": _REAL / "portrait.jpg",
    "dicetalk_speech.wav": _REAL / "speech.wav",
    "dicetalk_reference.mp4": _REAL / "reference.mp4",
}
"""File by the name under which it is offered: drawn ones for the bundled model, real ones for the released weights."""


class DiceTalkExtension(ComfyExtension):
    """All nodes of the pack."""

    async def on_load(self) -> None:
        """Register folders, example files, replacements of older nodes and the check of prompts."""
        register_folders()
        offer_examples()
        await register_replacements()
        settle_prompts_of({node.define_schema().node_id: node for node in NODES})

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The pack's nodes."""
        return NODES


async def register_replacements() -> None:
    """Offer a node of this pack for each of the old ones, with this pack's defaults.

    The old nodes' inputs are not these nodes' (the old sampler's one input of prepared data is here a portrait, speech
    and an emotion), so nothing is carried over and the wires are to be connected anew. That has to be said value by
    value: without a mapping the editor takes the old values by their place, into whatever stands there now.
    """
    api = ComfyAPI()
    for old, new in OLD_NODES.items():
        schema = new.define_schema()
        values = [
            {"new_id": port.id, "set_value": _value_of_a_new_node(port)}
            for port in schema.inputs
            if isinstance(port, io.WidgetInput)
        ]
        await api.node_replacement.register(
            io.NodeReplace(new_node_id=schema.node_id, old_node_id=old, input_mapping=values)
        )


def _value_of_a_new_node(port: io.WidgetInput) -> Any:
    """The default; of options without one the first."""
    return port.options[0] if port.default is None else port.default


def offer_examples() -> None:
    """Copy :data:`EXAMPLES` into ComfyUI's input folder, where the Load nodes find them; existing files stay.

    A folder that cannot be written costs the examples alone: the pack is loaded without them.
    """
    folder = Path(folder_paths.get_input_directory())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for offered, source in EXAMPLES.items():
            if not (folder / offered).exists():
                shutil.copyfile(source, folder / offered)
    except OSError as error:
        _log.warning("%s: the templates' pictures, sounds and clip cannot be put there (%s).", folder, error.strerror)
