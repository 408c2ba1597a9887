"""Extract Emotion Prior."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from comfy_api.latest import io, ui

from dicetalk.audio.features import SpeechFeatures
from dicetalk.audio.speech import SAMPLE_RATE, SAMPLES_PER_FRAME
from dicetalk.audio.whisper import speech_features
from dicetalk.emotion.recognise.recogniser import load_recogniser
from dicetalk.emotion.reference.clip import Reference, open_reference, reference_of
from dicetalk.emotion.reference.expressions import ReadExpressions
from dicetalk.emotion.reference.extract import Embedding, Recognition, extract_emotion
from dicetalk.emotion.show import plot_track
from dicetalk.errors import EmotionError
from dicetalk.hooks import Hooks
from dicetalk.settings import EMBEDDED_SECONDS

from .checks import choice_verdict
from .convert import decoded, to_frames, to_image, to_speech, whole_file
from .hooks import SHOWN_AGAIN, comfy_hooks, keeps_notices
from .prompts import SettledNode
from .wires import CATEGORY, AudioWire, Emotion, EmotionWire, HostedModel, ImageWire, ModelWire, VideoWire

ONE, OVER_TIME = RESULTS = ("one emotion", "emotion over time")
LATE_SECONDS = 1 / 12.5
"""Sound beyond the pictures from which on there is a notice: one frame of the network."""

SHARES = {"watch": 60, "speech": 20, "embed": 20}


class ExtractEmotionPrior(SettledNode):
    """A reference clip to the emotion that it shows."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declare the node's inputs and outputs."""
        return io.Schema(
            node_id="DICETalk_ExtractEmotionPrior",
            **SHOWN_AGAIN,
            display_name="Extract Emotion Prior",
            category=CATEGORY,
            description="Reads an emotion from a reference clip: from the face in images or a video, and, with a model "
            "that has an emotion embedder, from the voice.",
            search_aliases=["emotion from video", "reference emotion", "emotion embedder"],
            accept_all_inputs=True,  # else a result that does not exist would be left out, and not be refused
            inputs=[
                ModelWire.Input("model", tooltip="From Load DICE Model."),
                ImageWire.Input("images", optional=True, tooltip="Frames of the reference clip with one face."),
                VideoWire.Input(
                    "video",
                    optional=True,
                    tooltip="The reference clip as a video, instead of images; a model with an emotion embedder hears "
                    "its sound unless audio is connected.",
                ),
                AudioWire.Input(
                    "audio",
                    optional=True,
                    tooltip="Speech of the reference clip. Only a model with an emotion embedder hears it; others read "
                    "faces alone.",
                ),
                io.DynamicCombo.Input(
                    "result",
                    options=[
                        io.DynamicCombo.Option(ONE, [_strength()]),
                        io.DynamicCombo.Option(OVER_TIME, [_strength(), *_over_time()]),
                    ],
                    tooltip="One emotion with mean and spread for the whole clip, or one that follows the clip.",
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
                io.Int.Input(
                    "audio_stream",
                    default=0,
                    min=0,
                    max=99,
                    optional=True,  # prompts from before have no such input
                    advanced=True,
                    tooltip="Which sound stream of a video file that has several, 1 is the first; 0 takes the default "
                    "one, or the first that is not silent.",
                ),
            ],
            outputs=[
                EmotionWire.Output("emotion", tooltip="For DICE Sampler, Emotion Bank Mix or Save Emotion."),
                io.Image.Output("preview", tooltip="What was read, as a picture."),
            ],
        )

    @classmethod
    def validate_inputs(cls, result: Any = None) -> bool | str:
        """Check the values that are known before the workflow runs."""
        return choice_verdict("result", result, RESULTS)

    @classmethod
    def dead_inputs(cls, inputs: Mapping[str, Any]) -> Iterable[str]:
        """Names of inputs that have no influence beside the others."""
        return [name for name, source in (("fps", "images"), ("audio_stream", "video")) if source not in inputs]

    @classmethod
    def refusals(cls, inputs: Mapping[str, Any]) -> Mapping[str, str]:
        """Reasons against values that do not go together, by input."""
        why = _contradiction(inputs)
        return {"result": why} if why else {}

    @classmethod
    @keeps_notices
    def execute(
        cls,
        model: HostedModel,
        result: Mapping[str, Any],
        fps: float,
        images: torch.Tensor | None = None,
        video: Any = None,
        audio: dict[str, Any] | None = None,
        audio_stream: int = 0,
    ) -> io.NodeOutput:
        """Read the emotion of the reference by the embedder or, without one, by the recogniser of faces."""
        given = {"images": images, "video": video, "audio": audio}
        if why := _contradiction([name for name, value in given.items() if value is not None]):
            raise EmotionError(why)
        hooks = comfy_hooks(SHARES)
        model.presets  # noqa: B018  a model without emotions is refused before the clip is read
        hears = model.dice.embedder is not None
        if not hears:
            if images is None and video is None:
                raise EmotionError(
                    "audio: this model has no emotion embedder and reads emotions from faces only. Connect images or a "
                    "video."
                )
            if audio is not None:
                hooks.notice("This model reads emotions from faces only: audio has no part in the extracted emotion.")
        if hears and result["strength"] != 1:
            hooks.notice("strength is not used: this model's embedder reads the emotion as it is.")
        if not hears and result.get("window", EMBEDDED_SECONDS) != EMBEDDED_SECONDS:
            hooks.notice("window is not used: this model has no emotion embedder.")
        reference = _reference(images, video, audio, fps, hears, audio_stream, hooks)
        extracted = extract_emotion(
            reference,
            _way(model, result["strength"], result.get("window", EMBEDDED_SECONDS), hooks),
            as_track=result["result"] == OVER_TIME,
            smoothing=result.get("smoothing", 0.0),
            detector=model.detector_for(hooks),
            residency=model.residency,
            hooks=hooks,
        )
        emotion = model.emotion(extracted.emotion)
        preview = to_image(_picture(model, emotion, reference))
        return io.NodeOutput(emotion, preview, ui=hooks.shown(ui.PreviewImage(preview, cls=cls)))


def _strength() -> io.Input:
    return io.Float.Input(
        "strength",
        default=1.0,
        min=0.0,
        max=2.0,
        step=0.05,
        tooltip="How strong the emotion becomes where it is recognised among the eight presets; a model with an "
        "embedder of its own reads it as it is.",
    )


def _over_time() -> list[io.Input]:
    """Request for an emotion that follows the clip."""
    return [
        io.Float.Input(
            "smoothing",
            default=0.2,
            min=0.0,
            max=10.0,
            step=0.05,
            advanced=True,
            tooltip="Seconds over which the emotion is blurred; more is calmer.",
        ),
        io.Float.Input(
            "window",
            default=EMBEDDED_SECONDS,
            min=0.5,
            max=6.0,
            step=0.1,
            advanced=True,
            tooltip="For a model with an emotion embedder: seconds that it reads together.",
        ),
    ]


def _contradiction(connected: Collection[str]) -> str:
    """Why there is not one thing to read an emotion from; empty if there is."""
    if {"images", "video"} <= set(connected):
        return "Both images and a video are connected. Disconnect one of them."
    if not {"images", "video", "audio"} & set(connected):
        return "Nothing to read an emotion from: connect images, a video or audio."
    return ""


def _reference(
    images: torch.Tensor | None,
    video: Any,
    audio: dict[str, Any] | None,
    fps: float,
    hears: bool,
    audio_stream: int,
    hooks: Hooks,
) -> Reference:
    """The pictures, and the sound if the model hears: `audio`, else the video's own."""
    sound = (to_speech(audio, 0.0, 0.0, hooks).samples, SAMPLE_RATE) if audio is not None and hears else None
    if video is not None:
        path = whole_file(video)
        if path is not None:
            if audio_stream and (sound is not None or not hears):
                hooks.notice("The video's own sound has no part in the emotion, so audio_stream has no influence.")
            seen = open_reference(path, stream=audio_stream or None, hooks=hooks)
            if sound is not None:
                _note_surplus(len(sound[0]) / SAMPLE_RATE, seen, hooks)
            return _streamed(seen, sound, hears)
        parts = decoded(video)
        images, fps = parts.images, float(parts.frame_rate)
        if sound is None and parts.audio is not None and hears:
            sound = to_speech(parts.audio, 0.0, 0.0, hooks).samples, SAMPLE_RATE
    if audio_stream:
        hooks.notice("audio_stream has no influence: only a whole video file has streams to choose from.")
    seen = reference_of(None if images is None else _bytes(to_frames(images, hooks)), fps, sound)
    if images is not None and sound is not None:
        _note_surplus(len(sound[0]) / SAMPLE_RATE, seen, hooks)
    return seen


def _note_surplus(seconds: float, seen: Reference, hooks: Hooks) -> None:
    """Report sound of `seconds` that goes on after the pictures; with a still picture all of it is used."""
    shown = seen.frames * SAMPLES_PER_FRAME / SAMPLE_RATE
    if seen.frames > 1 and seconds > shown + LATE_SECONDS:
        hooks.notice(
            f"audio lasts {seconds:.2f} s, the pictures {shown:.2f} s: the sound from {shown:.2f} s on is not used."
        )


def _streamed(seen: Reference, sound: tuple[np.ndarray, float] | None, hears: bool) -> Reference:
    """A file's pictures, with `sound` in place of its own if there is such, or with none if nobody hears."""
    if not hears:
        return replace(seen, speech=None)
    if sound is None:
        return seen
    samples = sound[0][: seen.frames * SAMPLES_PER_FRAME]
    return replace(seen, speech=lambda: samples)


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
        return Recognition(load_recogniser(), model.presets, strength)

    def listen(samples: np.ndarray) -> SpeechFeatures:
        return speech_features(samples, dice.whisper, residency=model.residency, hooks=hooks)

    reader = dice.expression_reader
    express = ReadExpressions(reader, model.residency) if reader else None
    return Embedding(dice.embedder, express, listen, window_seconds=window)


def _picture(model: HostedModel, emotion: Emotion, reference: Reference) -> np.ndarray:
    waveform = (reference.speech(), SAMPLE_RATE) if reference.speech else None
    return plot_track(emotion.track, model.presets, waveform)
