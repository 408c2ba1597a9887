"""``dicetalk emotion mix``, ``voice`` and ``text``."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dicetalk.audio.speech import load_speech
from dicetalk.cli.checks import refuse_idle
from dicetalk.cli.emotion_inputs import check_no_preset, check_out, hearing, read_presets, save_track
from dicetalk.cli.model_folder import found_folder
from dicetalk.emotion.algebra import interpolate, limit, preset_radius, resample, sample, scale, smooth, weighted_mix
from dicetalk.emotion.mix import NEUTRAL
from dicetalk.emotion.parse import TEXT_SUFFIXES, Hear, names_file, parse_emotion, read_emotion
from dicetalk.emotion.prior import EmotionPrior
from dicetalk.emotion.recognise.recogniser import blend, blended_track
from dicetalk.emotion.text.track import tagged_track
from dicetalk.emotion.track import Curve, EmotionTrack
from dicetalk.emotion.voice.classes import load_voice_classifier, voice_scores
from dicetalk.emotion.voice.features import measure_voice
from dicetalk.emotion.voice.intensity import IntensityScale, describe_speaker, voice_intensity
from dicetalk.errors import SettingError
from dicetalk.hooks import Hooks
from dicetalk.progress import Bars
from dicetalk.residency import DeviceResidency, choose_device

Length = Callable[[], float | None]
"""How long the clip is, in seconds: as asked for, or that of the speech; or none, if nothing says so."""

_WEIGHTED = re.compile(r"\s*(\d*\.?\d+)\s*\*(.*)", re.DOTALL)


def make_mix(options: argparse.Namespace) -> int:
    """Mix the emotions of `options`, change the result and save it."""
    if not options.blend:
        refuse_idle(options, ["path"], "without --blend", "add that")
    if options.sample is None:
        refuse_idle(options, ["seed", "drift"], "without --sample", "add that")
    if options.audio is None:
        refuse_idle(options, ["audio_stream"], "without --audio", "add that")
    check_out(options)
    with Bars(options.quiet) as bars:
        folder = found_folder(options.models, bars.hooks)
        check_no_preset(options.out, folder)
        priors = read_presets(folder)
        listen, hear = hearing(options.audio, bars.hooks, options.audio_stream)

        def length() -> float | None:
            if options.seconds is None and options.audio is not None:
                return listen().seconds
            return options.seconds

        combined = _combined(options, priors, hear, length, bars.hooks)
        track = _changed(options, combined, priors, hear, length)
    save_track(options, track, priors)
    return 0


def make_voice(options: argparse.Namespace) -> int:
    """Turn the voice that `options` name into a track and save it."""
    if options.classifier:
        of_strength = ["speaker", "direction", "silence", "ordinary", "highest"]
        refuse_idle(options, of_strength, "on what --classifier hears", "give --emotion in its place")
    else:
        refuse_idle(options, ["strength", "device"], "without --classifier", "add that")
    check_out(options)
    with Bars(options.quiet) as bars:
        folder = found_folder(options.models, bars.hooks)
        check_no_preset(options.out, folder)
        priors = read_presets(folder)
        _, hear = hearing(options.audio, bars.hooks, options.audio_stream)
        make = _heard if options.classifier else _as_strong
        track = make(options, priors, hear, bars.hooks)
    save_track(options, track, priors)
    return 0


def make_text(options: argparse.Namespace) -> int:
    """Turn the text of `options` into a track and save it."""
    if options.audio is None:
        refuse_idle(options, ["audio_stream"], "without --audio", "add that")
    check_out(options)
    with Bars(options.quiet) as bars:
        folder = found_folder(options.models, bars.hooks)
        check_no_preset(options.out, folder)
        priors = read_presets(folder)
        _, hear = hearing(options.audio, bars.hooks, options.audio_stream)
        if names_file(options.text, TEXT_SUFFIXES):
            track = read_emotion(Path(options.text), priors, hear, bars.hooks)
        else:
            track = tagged_track(options.text, hear(), priors, bars.hooks)
    save_track(options, track, priors)
    return 0


def _combined(
    options: argparse.Namespace, priors: dict[str, EmotionPrior], hear: Hear, length: Length, hooks: Hooks
) -> EmotionTrack:
    parts = []
    for text in options.emotions:
        weighted = _WEIGHTED.fullmatch(text)
        weight, emotion = (float(weighted[1]), weighted[2]) if weighted else (1.0, text)
        parts.append((parse_emotion(emotion.strip(), priors, hear, hooks), weight))
    if not options.blend:
        return weighted_mix(parts, priors[NEUTRAL])
    if len(parts) != 2 or any(weight != 1 for _, weight in parts):
        raise SettingError("--blend goes from one emotion to another: give two, without weights.")
    (start, _), (end, _) = parts
    return interpolate(start, end, _ramp(options.blend, length), priors[NEUTRAL], options.path)


def _changed(
    options: argparse.Namespace,
    track: EmotionTrack,
    priors: dict[str, EmotionPrior],
    hear: Hear,
    length: Length,
) -> EmotionTrack:
    neutral = priors[NEUTRAL]
    if options.sample is not None:
        seconds = None
        if options.drift is not None:
            seconds = _known(length()) if track.is_constant else length()
        track = sample(track, options.sample, options.seed, drift_seconds=options.drift, seconds=seconds)
    if options.intensity_from_voice:
        track = scale(track, voice_intensity(hear(), direction=options.intensity_from_voice), neutral)
    if options.intensity:
        track = scale(track, _ramp(options.intensity, length), neutral)
    if options.smooth is not None:
        track = smooth(track, options.smooth)
    if options.limit is not None:
        track = limit(track, options.limit * preset_radius(priors), neutral)
    if options.fps is not None:
        track = resample(track, options.fps, length())
    return track


def _as_strong(options: argparse.Namespace, priors: dict[str, EmotionPrior], hear: Hear, hooks: Hooks) -> EmotionTrack:
    """The emotion of `options`, as strong as the voice."""
    into = IntensityScale(options.silence, options.ordinary, options.highest, options.smoothing)
    recordings = [measure_voice(load_speech(path, hooks=hooks).samples, hooks) for path in options.speaker]
    speaker = describe_speaker(recordings) if recordings else None
    curve = voice_intensity(hear(), speaker, into, options.direction)
    return scale(parse_emotion(options.emotion, priors, hear, hooks), curve, priors[NEUTRAL])


def _heard(options: argparse.Namespace, priors: dict[str, EmotionPrior], hear: Hear, hooks: Hooks) -> EmotionTrack:
    """The emotions that the classifier of `options` hears."""
    classifier = load_voice_classifier(options.classifier)
    samples = load_speech(options.audio, stream=options.audio_stream, hooks=hooks).samples
    residency = DeviceResidency(choose_device(options.device))
    scores = voice_scores(samples, classifier, residency=residency, hooks=hooks)
    return blended_track(blend(scores, priors, options.strength), options.smoothing, options.audio.stem)


def _ramp(ends: tuple[float, float], length: Length) -> float | Curve:
    """A number, or a curve from the first to the second over the clip."""
    first, last = ends
    if first == last:
        return first
    seconds = _known(length())
    if not seconds > 0:
        raise SettingError(f"--seconds {seconds:g}: give more than 0.")
    return Curve(np.array([0.0, seconds]), np.array([first, last]))


def _known(seconds: float | None) -> float:
    if seconds is None:
        raise SettingError("Nothing says how long the clip is: give the speech with --audio, or --seconds.")
    return seconds
