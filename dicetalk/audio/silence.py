"""Silence: before and after speech, and where in it nobody speaks."""

from dataclasses import replace

import numpy as np
import torch

from dicetalk.audio.level import audible_levels
from dicetalk.audio.speech import MAX_SECONDS, SAMPLE_RATE, SAMPLES_PER_FRAME, Speech
from dicetalk.errors import SpeechError
from dicetalk.settings import SpeechSettings

FADE_SAMPLES = 160
"""10 ms."""

STEPS_PER_FRAME = 4
"""Levels are taken four times a frame, of 20 ms each, so that a short sound counts."""


def pad_speech(speech: Speech, start: float = 0.0, end: float = 0.0) -> Speech:
    """Put silence before and after speech, for the network and for the viewer.

    Args:
        speech: as :func:`dicetalk.audio.speech.load_speech` made it.
        start: seconds before it, in the range of :class:`dicetalk.settings.SpeechSettings`.
        end: seconds after it.

    Raises:
        SettingError: a length is out of range.
        SpeechError: the whole is longer than an hour.
    """
    SpeechSettings(pad_start=start, pad_end=end)
    if start == end == 0:
        return speech
    if speech.seconds + start + end > MAX_SECONDS:
        raise SpeechError(
            f"With {start + end:g} s of silence the speech is {speech.seconds + start + end:.1f} s long; an hour is "
            "the most. Give a duration, or less silence."
        )
    samples = np.pad(speech.samples, [round(seconds * SAMPLE_RATE) for seconds in (start, end)])
    widths = [round(seconds * speech.sound_sample_rate) for seconds in (start, end)]
    return replace(speech, samples=samples, sound=np.pad(speech.sound, ((0, 0), widths)))


def shut_in_silence(speech: Speech, below: float | None) -> Speech:
    """`speech` of which the network hears digital silence in quiet frames, so that the mouth stays shut there.

    Args:
        speech: as :func:`dicetalk.audio.speech.load_speech` made it.
        below: level in dB of full scale, in the range of :class:`dicetalk.settings.SpeechSettings`; `None` changes
            nothing.

    Raises:
        SettingError: the level is out of range.
    """
    if below is None:
        return speech
    SpeechSettings(silence_below=below)
    return replace(speech, silence_below=below)


def quiet_frames(samples: np.ndarray, below: float) -> torch.Tensor:
    """The frames of video in which, and beside which, speech is fainter than a level: bool ``(frames,)``.

    Frames beside a sound are left to the network, which opens and closes the mouth around it. Offsets and rumble, which
    nobody hears as voice, do not count (:func:`dicetalk.audio.level.audible`).

    Args:
        samples: mono at 16 kHz, float32 ``(n,)``.
        below: level in dB of full scale, effective value over 20 ms.

    Raises:
        SettingError: the level is out of range.
    """
    SpeechSettings(silence_below=below)
    frames = len(samples) // SAMPLES_PER_FRAME
    levels = audible_levels(samples[: frames * SAMPLES_PER_FRAME], SAMPLES_PER_FRAME // STEPS_PER_FRAME)
    still = np.pad((levels < below).reshape(frames, STEPS_PER_FRAME).all(axis=1), 1, mode="edge")
    return torch.from_numpy(still[:-2] & still[1:-1] & still[2:])


def with_pauses(speech: Speech) -> np.ndarray:
    """What the network hears: the samples of `speech`, digital silence in its quiet frames if it asks for that.

    Silence, and not the tokens that stand for no speech: those are what training showed in place of any speech, and
    the mouth moves with them (opening 0.34 in pauses with the bundled model, against 0.02 in silence).

    Returns:
        float32 ``(n,)``; `speech`'s own where nothing changes.
    """
    if speech.silence_below is None:
        return speech.samples
    quiet = quiet_frames(speech.samples, speech.silence_below).numpy()
    if not quiet.any():
        return speech.samples
    factors = np.repeat(1 - quiet.astype(np.float32), SAMPLES_PER_FRAME)
    factors = np.pad(factors, (0, len(speech.samples) - len(factors)), mode="edge")
    # Fades inside the quiet frames: a step would be a click.
    ramp = np.linspace(0, 1, FADE_SAMPLES, dtype=np.float32)
    for edge in np.flatnonzero(np.diff(factors)) + 1:
        if factors[edge]:
            factors[edge - FADE_SAMPLES : edge] = ramp
        else:
            factors[edge : edge + FADE_SAMPLES] = ramp[::-1]
    return speech.samples * factors
