"""``dicetalk generate``."""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache

import torch

from dicetalk.audio.silence import pad_speech, shut_in_silence
from dicetalk.audio.speech import Speech, load_speech
from dicetalk.checkpoints.load import DiceModel, load_model
from dicetalk.checkpoints.tiny import TINY, model_folder
from dicetalk.cli.idle import refuse_idle
from dicetalk.cli.progress import Bars
from dicetalk.cli.sampler_options import sampler_settings
from dicetalk.cli.tiny import DRAWN_FACES_ONLY, found_folder
from dicetalk.device import choose_device, choose_dtype
from dicetalk.emotion.algebra import scale
from dicetalk.emotion.given import given_emotion, given_file
from dicetalk.emotion.mix import NEUTRAL
from dicetalk.emotion.track import EmotionTrack
from dicetalk.emotion.voice.features import measure_voice
from dicetalk.emotion.voice.intensity import voice_intensity
from dicetalk.errors import SettingError
from dicetalk.files import check_file_target, check_folder_target
from dicetalk.hooks import Hooks
from dicetalk.pipeline import generate_latents, render
from dicetalk.portrait.detector import choose_detector
from dicetalk.portrait.paste import FEATHER, ColourMatch, PasteBack, check_feather
from dicetalk.portrait.prepare import Portrait, prepare_portrait
from dicetalk.portrait.read import read_picture
from dicetalk.portrait.small import small_face_notice
from dicetalk.residency import DeviceResidency, Residency
from dicetalk.video import frames_to_cover, hold_last_frame, write_mp4, write_png_folder


def generate(options: argparse.Namespace) -> int:
    """Make the video that `options` describe."""
    sampler_settings(options)  # what is wrong is told before anything is read
    _check(options)
    (check_file_target if options.out.suffix else check_folder_target)(options.out)
    device = choose_device(options.device)
    residency = DeviceResidency(device)
    with Bars(options.quiet) as bars:
        speech = load_speech(
            options.audio,
            start=options.start,
            duration=options.duration,
            stream=options.audio_stream,
            hooks=bars.hooks,
        )
        speech = pad_speech(speech, options.pad_start, options.pad_end)
        speech = shut_in_silence(speech, options.silence_below)
        folder = found_folder(options.models, bars.hooks)
        model = load_model(folder, svd=options.svd, dtype=choose_dtype(options.dtype, device))
        settings = sampler_settings(options, model.config)
        portrait = _portrait(options, model, residency, bars.hooks)
        if notice := small_face_notice(portrait, "--crop --paste-back"):
            bars.hooks.notice(notice)
        track = _emotion(options, model, speech, bars.hooks)
        latents = generate_latents(model, portrait, speech, track, settings, residency=residency, hooks=bars.hooks)
        clip = render(
            model,
            latents,
            decode_chunk=options.decode_chunk,
            interpolate=not options.no_interpolation,
            residency=replace(residency, offload=False),  # the decoder and RIFE take turns, chunk by chunk
            hooks=bars.hooks,
        )
        chunks = _finish(options, clip.chunks, portrait)
        _write(options, chunks, Fraction(clip.fps), speech, bars.hooks)
    if folder == model_folder(TINY):
        bars.hooks.notice(DRAWN_FACES_ONLY)
    print(options.out)
    return 0


def _check(options: argparse.Namespace) -> None:
    if options.out.suffix.lower() not in ("", ".mp4"):
        raise SettingError(f"--out {options.out}: write an .mp4, or a folder of PNG frames (a name without extension).")
    if options.decode_chunk < 1:
        raise SettingError(f"--decode-chunk {options.decode_chunk}: give 1 or more; the released number is 10.")
    if not 0 <= options.crf <= 51:
        raise SettingError(f"--crf {options.crf}: give 0 (lossless) to 51.")
    if not options.paste_back:
        refuse_idle(options, ["feather"], "without --paste-back", "add that")
    check_feather(_feather(options))


def _feather(options: argparse.Namespace) -> float:
    return FEATHER if options.feather is None else options.feather


def _portrait(options: argparse.Namespace, model: DiceModel, residency: Residency, hooks: Hooks) -> Portrait:
    return prepare_portrait(
        read_picture(options.image, hooks),
        detector=choose_detector(model.detector_path, residency, hooks),
        face_index=options.face_index,
        box=options.box,
        whole_picture=options.whole_picture,
        crop=options.crop,
        short_side=model.config.sampling.short_side if options.short_side is None else options.short_side,
        mask_scale=options.mask_scale,
        clip_size=model.config.image_encoder.image_size,
    )


def _emotion(options: argparse.Namespace, model: DiceModel, speech: Speech, hooks: Hooks) -> EmotionTrack:
    hear = cache(lambda: measure_voice(speech.samples, hooks))
    if options.emotion_track:
        track = given_file(options.emotion_track, model.priors, hear, hooks, speech.seconds)
    else:
        track = given_emotion(options.emotion, model.priors, hear, hooks, speech.seconds)
    if options.intensity_from_voice:
        intensity = voice_intensity(hear(), direction=options.intensity_from_voice)
        track = scale(track, intensity, model.priors[NEUTRAL])
    return track


def _finish(options: argparse.Namespace, chunks: Iterator[torch.Tensor], portrait: Portrait) -> Iterator[torch.Tensor]:
    if options.paste_back or options.colour_match:
        chunks = map(ColourMatch(portrait), chunks)
    return PasteBack(portrait, _feather(options)).stream(chunks) if options.paste_back else chunks


def _write(
    options: argparse.Namespace, chunks: Iterator[torch.Tensor], fps: Fraction, speech: Speech, hooks: Hooks
) -> None:
    # Whole frames rarely end with the sound: the last one is held so that no syllable is cut.
    total = frames_to_cover(speech.sound.shape[1], speech.sound_sample_rate, fps)
    chunks = hold_last_frame(chunks, total)
    if options.out.suffix:
        sound = speech.sound, speech.sound_sample_rate
        write_mp4(options.out, chunks, fps=fps, sound=sound, crf=options.crf, hooks=hooks, total=total)
    else:
        write_png_folder(options.out, chunks, hooks=hooks, total=total)
