"""What travels on the pack's own wires."""

from dataclasses import dataclass, field
from functools import cached_property
from weakref import WeakKeyDictionary

from comfy_api.latest import io

from dicetalk.audio.features import SpeechFeatures
from dicetalk.audio.speech import Speech
from dicetalk.checkpoints.load import DiceModel
from dicetalk.emotion.prior import EmotionPrior
from dicetalk.emotion.track import EmotionTrack
from dicetalk.hooks import Hooks
from dicetalk.pipeline import EncodedPortrait, encode_portrait
from dicetalk.portrait.faces import FaceDetector
from dicetalk.portrait.prepare import Portrait
from dicetalk.portrait.yoloface import YoloFace
from dicetalk.settings import SamplerSettings

from .residency import ComfyResidency

CATEGORY = "DICE-Talk"

ModelWire = io.Custom("DICE_MODEL")
SpeechWire = io.Custom("DICE_SPEECH")
EmotionWire = io.Custom("DICE_EMOTION")
PortraitWire = io.Custom("DICE_PORTRAIT")

# Not io.BoundingBox, whose options differ between releases of ComfyUI; a detector's output is all that plugs in.
BoxWire = io.Custom("BOUNDING_BOX")


Emotion = EmotionPrior | EmotionTrack
"""What the emotion wire carries."""


@dataclass(frozen=True, eq=False, repr=False)
class HostedModel:
    """A model, and what must not be made twice while it is loaded.

    Args:
        dice: the networks and presets.
        residency: how they reach the device.
        portraits: portraits that the model has encoded, with the settings that had an influence; a portrait that
            nobody holds any more is forgotten.
    """

    dice: DiceModel
    residency: ComfyResidency = field(default_factory=ComfyResidency)
    portraits: WeakKeyDictionary[Portrait, tuple[tuple[float, int], EncodedPortrait]] = field(
        default_factory=WeakKeyDictionary
    )

    @cached_property
    def detector(self) -> FaceDetector | None:
        """The released face detector if its file is there; none means the one that comes with the library."""
        path = self.dice.detector_path
        return YoloFace(path, self.residency) if path else None

    def encode(self, portrait: Portrait, settings: SamplerSettings, hooks: Hooks) -> EncodedPortrait:
        """Run the networks that see the portrait, unless they have."""
        noise = settings.portrait_noise
        key = noise, settings.seed if noise else 0
        known = self.portraits.get(portrait)
        if known is None or known[0] != key:
            known = key, encode_portrait(self.dice, portrait, settings, residency=self.residency, hooks=hooks)
            self.portraits[portrait] = known
        return known[1]


@dataclass(frozen=True, eq=False)
class EncodedSpeech:
    """Speech and what Whisper hears in it.

    Args:
        speech: the samples for the network and the sound for the video.
        features: Whisper's states of the samples.
    """

    speech: Speech
    features: SpeechFeatures


def as_track(emotion: Emotion) -> EmotionTrack:
    """An emotion over time; one emotion is constant."""
    return emotion if isinstance(emotion, EmotionTrack) else EmotionTrack.constant(emotion)


def as_emotion(track: EmotionTrack) -> Emotion:
    """A track, or its one emotion if nothing changes in it."""
    return track.keyframes[0].prior if track.is_constant else track
