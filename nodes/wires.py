"""Types of the pack's own wires, and checks that a value belongs to the model beside it."""

from dataclasses import dataclass, field
from functools import cached_property
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

from comfy_api.latest import io

from dicetalk.audio.features import SpeechFeatures
from dicetalk.audio.speech import Speech
from dicetalk.checkpoints.load import DiceModel
from dicetalk.denoise.conditioning import EncodedPortrait
from dicetalk.emotion.files import SavedEmotion
from dicetalk.emotion.prior import EmotionPrior, space_of
from dicetalk.emotion.track import EmotionTrack
from dicetalk.errors import EmotionError, PortraitError, SpeechError
from dicetalk.hooks import Hooks
from dicetalk.pipeline import NO_EMOTIONS, encode_portrait
from dicetalk.portrait.detector import ReleasedOrCenterFace, choose_detector
from dicetalk.portrait.faces import FaceDetector
from dicetalk.portrait.prepare import Portrait
from dicetalk.settings import SamplerSettings

from .checks import Wanted
from .residency import ComfyResidency

CATEGORY = "DICE-Talk"


def wire(io_type: str, way: str) -> Any:
    """A type of wire; `way` says in messages what to connect to its inputs."""
    return SimpleNamespace(Input=io.Custom(Wanted(io_type, way)).Input, Output=io.Custom(io_type).Output)


ModelWire = wire("DICE_MODEL", "Load DICE Model")
SpeechWire = wire("DICE_SPEECH", "Audio Encode's speech")
EMOTION_SOURCES = "an emotion of Emotion Bank Mix, Emotion Timeline, Extract Emotion Prior or Load Emotion"
EmotionWire = wire("DICE_EMOTION", EMOTION_SOURCES)
PortraitWire = wire("DICE_PORTRAIT", "Portrait Crop's portrait")

# ComfyUI's own types. For the box not io.BoundingBox, whose options differ between releases; a detector's output is all
# that plugs in.
ImageWire = wire("IMAGE", "images, for example of Load Image")
AudioWire = wire("AUDIO", "sound, for example of Load Audio")
VideoWire = wire("VIDEO", "a video, for example of Load Video")
MaskWire = wire("MASK", "a mask, for example of Load Image")
BoxWire = wire("BOUNDING_BOX", "the box of a face detector")


Emotion = SavedEmotion
"""Value of the emotion wire: an emotion and the model that it belongs to, as a file of Save Emotion holds them."""


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
    def detector(self) -> FaceDetector:
        """The released face detector if its file is there and can be used, else the one that comes with the library."""
        return choose_detector(self.dice.detector_path, self.residency)

    def detector_for(self, hooks: Hooks) -> FaceDetector:
        """The detector, whose notices go to the node that is running."""
        if isinstance(self.detector, ReleasedOrCenterFace):
            self.detector.report_to(hooks)
        return self.detector

    @property
    def presets(self) -> dict[str, EmotionPrior]:
        """The preset emotions by name.

        Raises:
            EmotionError: the model has no emotions.
        """
        if not self.dice.has_emotions:
            raise EmotionError(f"model: {NO_EMOTIONS}")
        return self.dice.priors

    @cached_property
    def space(self) -> str:
        """Hash of the prior space, see :func:`dicetalk.emotion.prior.space_of`.

        Raises:
            EmotionError: the model has no emotions.
        """
        return space_of(self.presets)

    def emotion(self, emotion: EmotionPrior | EmotionTrack) -> Emotion:
        """An emotion of this model for the wire; a track in which nothing changes as its one prior."""
        constant = isinstance(emotion, EmotionTrack) and emotion.is_constant
        return Emotion(emotion.keyframes[0].prior if constant else emotion, self.space)

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


def check_emotion(model: HostedModel, emotion: Emotion, name: str) -> None:
    """Refuse an emotion of another model: its 256 numbers would be taken, and mean something else.

    Raises:
        EmotionError: the emotion at the input `name` belongs to another model.
    """
    if emotion.space != model.space:
        raise EmotionError(
            f"{name}: this emotion was made with another model; connect what makes it to the same Load DICE Model."
        )


def check_speech(model: HostedModel, speech: EncodedSpeech) -> None:
    """Refuse speech that another model's Whisper has heard.

    Raises:
        SpeechError: its layers or channels are not those of `model`.
    """
    heard, audio = tuple(speech.features.states.shape[1:]), model.dice.config.audio
    if heard != (audio.layers, audio.channels):
        raise SpeechError(
            f"speech: this was encoded with another model (layers and channels {heard}, expected "
            f"{(audio.layers, audio.channels)}); connect Audio Encode to the same Load DICE Model."
        )


def check_portrait(model: HostedModel, portrait: Portrait) -> None:
    """Refuse a portrait that was prepared for another image encoder.

    Raises:
        PortraitError: its size for the image encoder is not that of `model`.
    """
    side, expected = portrait.clip_pixels.shape[-1], model.dice.config.image_encoder.image_size
    if side != expected:
        raise PortraitError(
            f"portrait: this was prepared for another model (image encoder of {side} pixels, expected {expected}); "
            "connect Portrait Crop to the same Load DICE Model."
        )
