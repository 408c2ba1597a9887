"""The emotion of a reference clip: from its face, from its voice, or from both.

Two ways lead into a model's prior space. A recogniser's scores mix the model's own eight priors, which needs no trained
embedder: the way for the released weights. A model with an embedder reads priors that no mix of the eight could give.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dicetalk.audio.features import STEPS_PER_FRAME, SpeechFeatures
from dicetalk.audio.speech import SAMPLES_PER_FRAME
from dicetalk.emotion.embedder import EmotionEmbedder
from dicetalk.emotion.prior import EmotionPrior
from dicetalk.emotion.recognise.recogniser import Recogniser, blend, blended_prior, blended_track
from dicetalk.emotion.reference.clip import Reference, open_reference
from dicetalk.emotion.reference.embed import audio_states, check_window, embed_prior, embed_track
from dicetalk.emotion.reference.face_track import FaceReader, LostSpan, watch
from dicetalk.emotion.track import EmotionTrack
from dicetalk.errors import EmotionError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.portrait.centerface import CenterFace
from dicetalk.portrait.faces import FaceDetector
from dicetalk.residency import CPU, Residency
from dicetalk.settings import EMBEDDED_SECONDS

MODALITIES = ("auto", "video", "audio", "both")


@dataclass(frozen=True)
class Recognition:
    """The way of the recogniser.

    Args:
        recogniser: scores faces.
        priors: the model's eight priors, by name.
        strength: k of ``neutral + sum_i p_i k (mu_i - neutral)``, 0 to 2.
    """

    recogniser: Recogniser
    priors: Mapping[str, EmotionPrior]
    strength: float = 1.0


@dataclass(frozen=True)
class Embedding:
    """The way of the embedder (paper 3.1, eq. 2-6).

    Args:
        embedder: the model's.
        express: reads the expression coefficients that the embedder was trained on; none leaves out the face.
        listen: makes Whisper states of speech (mono at 16 kHz, float32 ``(n,)``), for example
            :func:`dicetalk.audio.whisper.speech_features` with the model's encoder; none leaves out the voice.
        modality: ``video``, ``audio`` or ``both``; ``auto`` takes what the reference has.
        window_seconds: of a track, see :func:`dicetalk.emotion.reference.embed.embed_track`.

    Raises:
        EmotionError: the modality is unknown, or the window is not 0.5 to 6 s.
    """

    embedder: EmotionEmbedder
    express: FaceReader | None = None
    listen: Callable[[np.ndarray], SpeechFeatures] | None = None
    modality: str = "auto"
    window_seconds: float = EMBEDDED_SECONDS

    def __post_init__(self) -> None:
        check_window(self.window_seconds)
        if self.modality not in MODALITIES:
            raise EmotionError(f"The modality {self.modality!r} is unknown. Known: {', '.join(MODALITIES)}.")


@dataclass(frozen=True, eq=False)
class ExtractedEmotion:
    """An emotion and what it was read from.

    Args:
        emotion: a prior, or a track at 12.5 fps.
        scores: of the eight presets in every frame, as they were read, ``(T, 8)``; none on the way of the embedder.
        lost: when no face was seen.
        heard: whether the voice had a part in it.
        seen: whether the face had.
    """

    emotion: EmotionPrior | EmotionTrack
    scores: np.ndarray | None = None
    lost: tuple[LostSpan, ...] = ()
    heard: bool = False
    seen: bool = True


def extract_emotion(
    clip: Path | str | Reference,
    way: Recognition | Embedding,
    *,
    as_track: bool = False,
    smoothing: float = 0.2,
    detector: FaceDetector | None = None,
    residency: Residency = CPU,
    hooks: Hooks = SILENT,
) -> ExtractedEmotion:
    """Take the emotion of a reference clip.

    The clip is streamed, so that memory hardly grows with its length. Where the voice is heard, its sound (4 MB a
    minute) and Whisper's states (23 MB a minute for whisper-tiny, 4 for the small bundled one) are kept.

    A still picture with speech is a face that looks the same all the time.

    Args:
        clip: a video, a sound or a picture, or what :func:`dicetalk.emotion.reference.clip.reference_of` made.
        way: how.
        as_track: follow the emotion over time; otherwise one prior for the whole clip, with its spread.
        smoothing: of a track: standard deviation of a Gaussian, in seconds.
        detector: finds the face; none means :class:`dicetalk.portrait.centerface.CenterFace`.
        residency: brings the embedder onto a device.
        hooks: hears the stages ``watch``, ``speech`` and ``embed``, of lost faces, and of what is wrong with the clip.

    Raises:
        VideoError: the clip is missing, damaged, or has no pictures where they are needed.
        SpeechError: its sound is damaged.
        NoFaceError: no face was found in it.
        EmotionError: it has no voice where one is needed, a number is out of range, or the coefficients are not those
            that the embedder was trained on.
        CheckpointError: the recogniser cannot be run.
    """
    reference = clip if isinstance(clip, Reference) else open_reference(clip, hooks=hooks)
    detector = detector or CenterFace()
    name = Path(reference.name).stem
    for problem in reference.problems:
        hooks.notice(problem)
    if isinstance(way, Recognition):
        scored = watch(reference, way.recogniser, detector, hooks)
        mus = blend(scored.values, way.priors, way.strength)
        emotion = blended_track(mus, smoothing, name) if as_track else blended_prior(mus, ~scored.lost, name)
        return ExtractedEmotion(emotion, scored.values, scored.spans)

    use_face, use_voice = _modalities(reference, way)
    readings = watch(reference, way.express, detector, hooks) if use_face and way.express is not None else None
    visual = None if readings is None else torch.from_numpy(readings.values)
    audio = _heard(reference, way) if use_voice else None
    if visual is not None and audio is not None and len(visual) == 1:
        visual = visual.expand(len(audio) // STEPS_PER_FRAME, -1)
    if as_track:
        emotion = embed_track(
            way.embedder,
            visual,
            audio,
            name,
            window_seconds=way.window_seconds,
            smoothing=smoothing,
            residency=residency,
            hooks=hooks,
        )
    else:
        emotion = embed_prior(way.embedder, visual, audio, name, residency, hooks)
    return ExtractedEmotion(emotion, None, readings.spans if readings else (), use_voice, use_face)


def _modalities(reference: Reference, way: Embedding) -> tuple[bool, bool]:
    """Whether the face and the voice are used."""
    can_see = reference.pictures is not None and way.express is not None
    can_hear = reference.speech is not None and way.listen is not None
    if way.modality == "auto":
        if not (can_see or can_hear):
            raise EmotionError(f"{reference.name} has neither a face nor a voice that this model can read.")
        return can_see, can_hear
    use_face, use_voice = way.modality in ("video", "both"), way.modality in ("audio", "both")
    for used, there, reader, what, missing in (
        (use_face, reference.pictures, way.express, "pictures", "reader of expressions"),
        (use_voice, reference.speech, way.listen, "sound", "speech encoder"),
    ):
        if used and there is None:
            raise EmotionError(f"{reference.name} has no {what}. Choose another modality than {way.modality!r}.")
        if used and reader is None:
            raise EmotionError(f"The model has no {missing}. Choose another modality than {way.modality!r}.")
    return use_face, use_voice


def _heard(reference: Reference, way: Embedding) -> torch.Tensor | None:
    if reference.speech is None or way.listen is None:
        return None
    samples = reference.speech()
    if len(samples) < SAMPLES_PER_FRAME:
        raise EmotionError(f"{reference.name} has {len(samples)} samples of sound; at least 0.08 s are needed.")
    return audio_states(way.listen(samples))
