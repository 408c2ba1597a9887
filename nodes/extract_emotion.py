"""Extract Emotion Prior."""

from typing import Any

import numpy as np
import torch
from comfy_api.latest import io, ui

from dicetalk.audio.features import SpeechFeatures
from dicetalk.audio.speech import SAMPLE_RATE
from dicetalk.audio.whisper import speech_features
from dicetalk.emotion.expression_reader import ReadExpressions
from dicetalk.emotion.extract import Embedding, ExtractedEmotion, Recognition, extract_emotion
from dicetalk.emotion.recognise.recogniser import load_recogniser
from dicetalk.emotion.reference import Reference, reference_of
from dicetalk.emotion.show import plot_track
from dicetalk.errors import EmotionError
from dicetalk.hooks import Hooks

from .convert import to_frames, to_image, to_speech
from .hooks import comfy_hooks
from .wires import CATEGORY, EmotionWire, HostedModel, ModelWire, as_track

ONE, OVER_TIME = RESULTS = ("one emotion", "emotion over time")
SHARES = {"watch": 60, "speech": 20, "embed": 20}


class ExtractEmotionPrior(io.ComfyNode):
    """A reference clip to the emotion that it shows."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DICETalk_ExtractEmotionPrior",
            display_name="Extract Emotion Prior",
            category=CATEGORY,
            description="Reads an emotion from the face and the voice of a reference clip: give images or a video, "
            "sound, or both.",
            search_aliases=["emotion from video", "reference emotion", "emotion embedder"],
            inputs=[
                ModelWire.Input("model", tooltip="From Load DICE Model."),
                io.Image.Input("images", optional=True, tooltip="Frames of the reference clip with one face."),
                io.Video.Input(
                    "video",
                    optional=True,
                    tooltip="The reference clip as a video, instead of images; its sound is heard unless audio is "
                    "connected.",
                ),
                io.Audio.Input("audio", optional=True, tooltip="Speech of the reference clip."),
                io.Combo.Input(
                    "result",
                    options=list(RESULTS),
                    default=ONE,
                    tooltip="One emotion with mean and spread for the whole clip, or one that follows the clip.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="How strong the emotion becomes where it is recognised among the eight presets; a model "
                    "with an embedder of its own reads it as it is.",
                ),
                io.Float.Input(
                    "smoothing",
                    default=0.2,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    advanced=True,
                    tooltip="Emotion over time: seconds over which it is blurred; more is calmer.",
                ),
                io.Float.Input(
                    "window",
                    default=2.0,
                    min=0.2,
                    max=30.0,
                    step=0.1,
                    advanced=True,
                    tooltip="Emotion over time, by an embedder: seconds that it reads together.",
                ),
                io.Float.Input(
                    "fps",
                    default=25.0,
                    min=1.0,
                    max=240.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Frames per second of images; a video knows its own.",
                ),
            ],
            outputs=[
                EmotionWire.Output("emotion", tooltip="For DICE Sampler, Emotion Bank Mix or Save Emotion."),
                io.Image.Output("preview", tooltip="What was read, as a picture."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: HostedModel,
        result: str,
        strength: float,
        smoothing: float,
        window: float,
        fps: float,
        images: torch.Tensor | None = None,
        video: Any = None,
        audio: dict[str, Any] | None = None,
    ) -> io.NodeOutput:
        hooks = comfy_hooks(SHARES)
        if video is not None:
            if images is not None:
                raise EmotionError("Both images and a video are connected. Disconnect one of them.")
            parts = video.get_components()
            images, fps = parts.images, float(parts.frame_rate)
            audio = audio if audio is not None else parts.audio
        reference = _reference(images, fps, audio, hooks)
        extracted = extract_emotion(
            reference,
            _way(model, strength, window, hooks),
            as_track=result == OVER_TIME,
            smoothing=smoothing,
            detector=model.detector,
            residency=model.residency,
            hooks=hooks,
        )
        preview = to_image(_picture(model, extracted, reference))
        return io.NodeOutput(extracted.emotion, preview, ui=ui.PreviewImage(preview, cls=cls))


def _reference(images: torch.Tensor | None, fps: float, audio: dict[str, Any] | None, hooks: Hooks) -> Reference:
    if images is None and audio is None:
        raise EmotionError("Nothing to read an emotion from: connect images, a video or audio.")
    frames = None if images is None else _bytes(to_frames(images))
    sound = None if audio is None else (to_speech(audio, 0.0, 0.0, hooks).samples, SAMPLE_RATE)
    return reference_of(frames, fps, sound)


def _bytes(frames: torch.Tensor) -> np.ndarray:
    """Frames ``(n, 3, H, W)`` in 0..1 as uint8 ``(n, H, W, 3)``, one at a time: the batch may be most of the memory."""
    pictures = np.empty((len(frames), *frames.shape[2:], 3), np.uint8)
    for picture, frame in zip(pictures, frames, strict=True):
        picture[:] = (frame.movedim(0, -1).clamp(0, 1) * 255).round().byte().numpy()
    return pictures


def _way(model: HostedModel, strength: float, window: float, hooks: Hooks) -> Recognition | Embedding:
    """By the model's own embedder, or by recognising the presets."""
    dice = model.dice
    if dice.embedder is None:
        return Recognition(load_recogniser(), dice.priors, strength)

    def listen(samples: np.ndarray) -> SpeechFeatures:
        return speech_features(samples, dice.whisper, residency=model.residency, hooks=hooks)

    reader = dice.expression_reader
    express = ReadExpressions(reader, model.residency) if reader else None
    return Embedding(dice.embedder, express, listen, window_seconds=window)


def _picture(model: HostedModel, extracted: ExtractedEmotion, reference: Reference) -> np.ndarray:
    waveform = (reference.speech(), SAMPLE_RATE) if reference.speech else None
    return plot_track(as_track(extracted.emotion), model.dice.priors, waveform)
