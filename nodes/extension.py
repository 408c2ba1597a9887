"""The pack as ComfyUI loads it."""

from comfy_api.latest import ComfyExtension, io

from .audio_encode import AudioEncode
from .emotion_bank_mix import EmotionBankMix
from .emotion_files import LoadEmotion, SaveEmotion
from .emotion_timeline import EmotionTimeline
from .examples import offer_examples
from .extract_emotion import ExtractEmotionPrior
from .folders import register_folders
from .interpolate import FrameInterpolate
from .load_model import LoadModel
from .portrait import PasteBack, PortraitCrop
from .prompts import settle_prompts_of
from .replacements import register_replacements
from .sampler import DiceSampler

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
]


class DiceTalkExtension(ComfyExtension):
    """All nodes of the pack."""

    async def on_load(self) -> None:
        register_folders()
        offer_examples()
        await register_replacements()
        settle_prompts_of({node.define_schema().node_id: node for node in NODES})

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
