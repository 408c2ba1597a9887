"""The library's front door: one model, and from a portrait, speech and an emotion to a video in one call.

    talk = DiceTalk.load("models")
    clip = talk.generate("portrait.jpg", "speech.wav", emotion="happy:0.8")
    clip.save("out.mp4")

Everything here delegates; each part can be used alone (`portrait`, `audio`, `emotion`, `pipeline`, `video`).
"""

import difflib
import math
from dataclasses import fields, replace
from functools import cache, partial
from os import PathLike
from pathlib import Path
from typing import Any

from dicetalk.audio.silence import pad_speech, shut_in_silence
from dicetalk.audio.speech import Speech, load_speech
from dicetalk.audio.whisper import speech_features
from dicetalk.checkpoints.find import TINY
from dicetalk.checkpoints.load import DiceModel, load_model
from dicetalk.checkpoints.motion import find_motion_network, with_predicted_motion
from dicetalk.checkpoints.variants import recommended_settings
from dicetalk.emotion.algebra import scale
from dicetalk.emotion.mix import NEUTRAL
from dicetalk.emotion.parse import parse_emotion, read_emotion
from dicetalk.emotion.prior import EmotionPrior
from dicetalk.emotion.recognise.recogniser import load_recogniser
from dicetalk.emotion.reference.clip import Reference
from dicetalk.emotion.reference.expressions import ReadExpressions
from dicetalk.emotion.reference.extract import Embedding, ExtractedEmotion, Recognition, extract_emotion
from dicetalk.emotion.track import EmotionTrack
from dicetalk.emotion.voice.features import VoiceFeatures, measure_voice
from dicetalk.emotion.voice.intensity import voice_intensity
from dicetalk.errors import EmotionError, SettingError, naming
from dicetalk.hooks import SILENT, Hooks
from dicetalk.motion.parse import parse_motion
from dicetalk.parameters import Timed, parameters
from dicetalk.pipeline import NO_EMOTION, NO_EMOTIONS, NO_INTERPOLATION, check_fps, generate_latents
from dicetalk.portrait.detector import choose_detector
from dicetalk.portrait.faces import FaceDetector
from dicetalk.portrait.notices import face_notices
from dicetalk.portrait.paste import FEATHER, check_feather
from dicetalk.portrait.prepare import CROP_EXPAND, Box, Portrait, prepare_portrait
from dicetalk.portrait.read import Picture, read_picture
from dicetalk.presets import EXACT, with_preset
from dicetalk.residency import DeviceResidency, choose_device, choose_dtype
from dicetalk.settings import SamplerSettings
from dicetalk.talking_clip import TalkingClip

SpeechLike = str | PathLike[str] | tuple[Any, float] | Speech
"""A file, ``(array, sample_rate)``, or speech that :func:`dicetalk.audio.speech.load_speech` has read."""

EmotionLike = str | PathLike[str] | EmotionPrior | EmotionTrack | ExtractedEmotion
"""Words or a file (:mod:`dicetalk.emotion.parse`), or an emotion that exists already."""


class DiceTalk:
    """A model on a device. Make one with :meth:`load`.

    Args:
        model: all networks and the preset priors.
        residency: where networks run.
        hooks: progress, cancelling and notices of everything that this object does.
    """

    def __init__(self, model: DiceModel, residency: DeviceResidency, hooks: Hooks = SILENT):
        self.model, self.residency, self.hooks = model, residency, hooks

    @classmethod
    def load(
        cls,
        model: str | PathLike[str] = TINY,
        *,
        svd: str | PathLike[str] | None = None,
        device: str = "auto",
        dtype: str = "auto",
        predict_motion: bool | str | PathLike[str] = False,
        hooks: Hooks = SILENT,
    ) -> "DiceTalk":
        """Load a model.

        Args:
            model: a model folder (``dicetalk download`` makes one), a converted file, or ``tiny``, the small bundled
                model of drawn faces.
            svd: Stable Video Diffusion XT, where it lies elsewhere: a diffusers folder or ``svd_xt*.safetensors``.
            device: ``auto`` (the first accelerator found), ``cpu``, ``cuda``, ``cuda:1``, ``mps``, ...
            dtype: ``fp16``, ``bf16`` or ``fp32``; ``auto`` is fp16 on an accelerator and fp32 on the CPU.
            predict_motion: let Sonic's motion network predict `motion_bucket` and `expression_bucket` from the speech:
                the path of ``audio2bucket.pth`` or of a model folder with it; true looks in the folder of `model`.
            hooks: progress, cancelling and notices, also of later calls.

        Raises:
            CheckpointError: files are missing (all are named), damaged or of another network.
            SettingError: the device cannot be used, or the dtype is unknown.
            Cancelled: the caller asked to stop.
        """
        place = choose_device(device)
        where = model if predict_motion is True else predict_motion
        network = None if where is False else find_motion_network(where)
        loaded = load_model(model, svd=svd, dtype=choose_dtype(dtype, place), hooks=hooks)
        if network is not None:
            loaded = with_predicted_motion(loaded, network)
        return cls(loaded, DeviceResidency(place), hooks)

    @property
    def settings(self) -> SamplerSettings:
        """Sampler settings that the model was made for."""
        return recommended_settings(self.model.config.sampling)

    def generate(
        self,
        portrait: Picture | Portrait,
        speech: SpeechLike,
        emotion: EmotionLike | None = None,
        *,
        crop: bool = False,
        paste_back: bool = False,
        box: Box | None = None,
        face_index: int | None = None,
        whole_picture: bool = False,
        short_side: int | None = None,
        mask_scale: float = 1.1,
        margin: float = CROP_EXPAND,
        intensity_from_voice: str | None = None,
        interpolate: bool = True,
        fps: float | None = None,
        decode_chunk: int | None = None,
        colour_match: bool = False,
        feather: float = FEATHER,
        pad_start: float = 0.0,
        pad_end: float = 0.0,
        silence_below: float | None = None,
        preset: str = EXACT,
        **settings: Any,
    ) -> TalkingClip:
        """Let the portrait speak with the emotion.

        Args:
            portrait: a file, a Pillow picture, an array or a tensor, see
                :func:`dicetalk.portrait.read.read_picture`; or a portrait that :meth:`portrait` prepared, which has
                its own `crop`, `box` and so on.
            speech: a file, ``(array, sample_rate)``, or speech that was read already; the clip is as long.
            emotion: see :meth:`emotion`; neutral if `None`. A model without emotions needs none, and gives a notice of
                one that it cannot show.
            crop: animate a square around the face instead of the whole picture.
            paste_back: put the animated part back into the whole picture, in its own size and colours.
            box: the face's x, y, width, height, instead of a detector.
            face_index: which face, counted from the largest.
            whole_picture: the face may move anywhere; no detector.
            short_side: of the network's picture, a multiple of 64; what the model was made for if `None`.
            mask_scale: size of the face mask relative to the face box.
            margin: what `crop` takes on each side of the face box, as a part of the box.
            intensity_from_voice: ``louder``, ``softer`` or ``either``: multiply the emotion by the voice's intensity.
            interpolate: 25 frames a second by RIFE, where the model has it, instead of 12.5.
            fps: another frame rate, 12.5 to 120, by RIFE at the moments that it asks for; a model without RIFE shows
                frames several times, with a notice.
            decode_chunk: frames decoded together; what the model was made for if `None`.
            colour_match: remove slow drift of the colours; always on with `paste_back`.
            feather: width of the soft edge of `paste_back`, as a part of the crop's side.
            pad_start: seconds of silence before the speech.
            pad_end: seconds of silence after it.
            silence_below: level in dB of full scale under which the network hears digital silence, for example -45.
            preset: ``exact``, ``fast`` or ``draft``, see :mod:`dicetalk.presets`.
            **settings: fields of :class:`dicetalk.settings.SamplerSettings`, for example ``steps=12, seed=1``; what
                is left out is the preset's, or what the model was made for. `motion_bucket` and `expression_bucket`
                may be anything that :func:`dicetalk.motion.parse.parse_motion` reads, such as ``[8, 12, 30]`` or
                ``"voice"``.

        Raises:
            PortraitError: the portrait cannot be read, or has no face.
            SpeechError: the speech cannot be read, or is too short or too long.
            EmotionError: the emotion is unknown or belongs to another model.
            SettingError: a number is out of range, a setting is unknown, or two choices exclude each other.
            Cancelled: the caller asked to stop.
        """
        chosen = self._settings(preset, settings)
        check_feather(feather)
        check_fps(fps, interpolate)
        choices: dict[str, tuple[Any, Any]] = {
            "crop": (crop, False),
            "box": (box, None),
            "face_index": (face_index, None),
            "whole_picture": (whole_picture, False),
            "short_side": (short_side, None),
            "mask_scale": (mask_scale, 1.1),
            "margin": (margin, CROP_EXPAND),
        }
        if isinstance(portrait, Portrait):
            idle = [name for name, (value, default) in choices.items() if value != default]
            if idle:
                raise SettingError(
                    f"{idle[0]} has no influence on a portrait that was prepared: give it to portrait()."
                )
            prepared = portrait
        else:
            prepared = self.portrait(portrait, **{name: value for name, (value, _) in choices.items()})
        heard = shut_in_silence(pad_speech(self._speech(speech), pad_start, pad_end), silence_below)
        track = None
        if self.model.has_emotions:
            given = NEUTRAL if emotion is None else emotion
            track = self.emotion(given, heard, intensity_from_voice=intensity_from_voice)
        elif emotion is not None or intensity_from_voice is not None:
            self.hooks.notice(NO_EMOTION)
        if interpolate and fps is None and self.model.flownet is None:
            self.hooks.notice(NO_INTERPOLATION)
            interpolate = False
        latents = generate_latents(
            self.model, prepared, heard, track, chosen, residency=self.residency, hooks=self.hooks
        )
        return TalkingClip(
            self.model,
            latents,
            prepared,
            heard,
            interpolate=interpolate,
            fps=fps,
            decode_chunk=decode_chunk,
            paste_back=paste_back,
            colour_match=colour_match,
            feather=feather,
            residency=replace(self.residency, offload=False),  # decoder and RIFE take turns, chunk by chunk
            hooks=self.hooks,
        )

    def portrait(
        self,
        picture: Picture,
        *,
        short_side: int | None = None,
        crop_hint: str = "crop=True, paste_back=True",
        index_hint: str = "face_index",
        **choices: Any,
    ) -> Portrait:
        """Prepare a picture once for several clips.

        Args:
            picture: see :meth:`generate`.
            short_side: see :meth:`generate`.
            crop_hint: how the notice of a small face names the way on.
            index_hint: how the notice of several faces names the choice.
            **choices: further arguments of :func:`dicetalk.portrait.prepare.prepare_portrait`.

        Raises:
            PortraitError: the portrait cannot be read, or has no face.
            SettingError: a number is out of range, or two choices exclude each other.
        """
        config = self.model.config
        prepared = prepare_portrait(
            read_picture(picture, self.hooks),
            detector=None if choices.get("box") or choices.get("whole_picture") else self._detector(),
            short_side=config.sampling.short_side if short_side is None else short_side,
            clip_size=config.image_encoder.image_size,
            **choices,
        )
        for notice in face_notices(prepared, crop_hint, index_hint):
            self.hooks.notice(notice)
        return prepared

    def emotion(
        self,
        emotion: EmotionLike,
        speech: SpeechLike | None = None,
        *,
        intensity_from_voice: str | None = None,
    ) -> EmotionTrack:
        """An emotion of this model, as a track.

        Args:
            emotion: ``happy:0.8+surprised:0.2``, ``a little annoyed``, ``[happy] Hello! [sad] ...``; the path of a
                saved emotion, JSON track, subtitles or tagged text; a prior, a track, or what :meth:`extract` found.
            speech: that it belongs to, for tagged texts and `intensity_from_voice`.
            intensity_from_voice: ``louder``, ``softer`` or ``either``: multiply it by the voice's intensity.

        Raises:
            EmotionError: it is unknown, cannot be read or belongs to another model, it needs speech and there is none,
                or the model has no emotions.
        """
        self._check_emotions()
        heard = None if speech is None else self._speech(speech)
        seconds = math.inf if heard is None else heard.seconds

        @cache
        def hear() -> VoiceFeatures:
            if heard is None:
                raise EmotionError("This emotion follows the speech, and none was given. Add speech=FILE.")
            return measure_voice(heard.samples, self.hooks)

        if isinstance(emotion, ExtractedEmotion):
            emotion = emotion.emotion
        if isinstance(emotion, EmotionPrior):
            track = EmotionTrack.constant(emotion)
        elif isinstance(emotion, EmotionTrack):
            track = emotion
        elif isinstance(emotion, str):
            track = parse_emotion(emotion, self.model.priors, hear, self.hooks, seconds)
        elif isinstance(emotion, PathLike):
            track = read_emotion(Path(emotion), self.model.priors, hear, self.hooks, seconds)
        else:
            raise EmotionError(
                f"An emotion cannot be made from {type(emotion).__name__}. Give words, a file, a prior or a track."
            )
        if intensity_from_voice is None:
            return track
        return scale(track, voice_intensity(hear(), direction=intensity_from_voice), self.model.priors[NEUTRAL])

    def extract(
        self,
        reference: str | PathLike[str] | Reference,
        *,
        as_track: bool = False,
        smoothing: float = 0.2,
        recogniser: str | PathLike[str] | None = None,
        strength: float = 1.0,
        modality: str = "auto",
    ) -> ExtractedEmotion:
        """Take the emotion of a video, a voice or a picture.

        A model with an embedder (the bundled one) reads the emotion itself, from face and voice. Otherwise, and
        wherever `recogniser` is given, a classifier of faces mixes the model's eight presets.

        Args:
            reference: a file, or what :func:`dicetalk.emotion.reference.clip.reference_of` made.
            as_track: follow the emotion over time.
            smoothing: of a track, in seconds.
            recogniser: classifier of faces, ``.onnx``; the bundled one where it is needed and this is `None`.
            strength: factor on what the recogniser sees, 0 to 2.
            modality: what the embedder reads: ``auto``, ``video``, ``audio`` or ``both``.

        Raises:
            VideoError, SpeechError, NoFaceError, EmotionError, CheckpointError: as
                :func:`dicetalk.emotion.reference.extract.extract_emotion`.
        """
        self._check_emotions()
        return extract_emotion(
            reference if isinstance(reference, Reference) else Path(reference),
            self._way(recogniser, strength, modality),
            as_track=as_track,
            smoothing=smoothing,
            detector=self._detector(),
            residency=self.residency,
            hooks=self.hooks,
        )

    def _way(self, recogniser: str | PathLike[str] | None, strength: float, modality: str) -> Recognition | Embedding:
        model = self.model
        if recogniser is not None or model.embedder is None:
            path = None if recogniser is None else Path(recogniser)
            return Recognition(load_recogniser(path), model.priors, strength)
        reader = model.expression_reader
        express = ReadExpressions(reader, self.residency) if reader else None
        listen = partial(speech_features, encoder=model.whisper, residency=self.residency, hooks=self.hooks)
        return Embedding(model.embedder, express, listen, modality)

    def _check_emotions(self) -> None:
        if not self.model.has_emotions:
            raise EmotionError(NO_EMOTIONS)

    def _speech(self, speech: SpeechLike) -> Speech:
        if isinstance(speech, Speech):
            return speech
        return load_speech(speech if isinstance(speech, tuple) else Path(speech), hooks=self.hooks)

    def _detector(self) -> FaceDetector:
        """The released detector if the model has it and it can be used, else the one that comes with the package."""
        return choose_detector(self.model.detector_path, self.residency, self.hooks)

    def _settings(self, preset: str, given: dict[str, Any]) -> SamplerSettings:
        known = [field.name for field in fields(SamplerSettings)]
        for name in given:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
                raise SettingError(f"There is no setting {name!r}. {hint}")
        for each in parameters(SamplerSettings):
            if each.kind == Timed and each.name in given:
                with naming(each.name, SettingError):
                    given[each.name] = parse_motion(given[each.name])
        return replace(with_preset(self.settings, preset), **given)
