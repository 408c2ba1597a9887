"""``dicetalk generate``."""

import argparse
from functools import partial

from dicetalk.audio.silence import pad_speech, shut_in_silence
from dicetalk.audio.speech import Speech, load_speech
from dicetalk.checkpoints.find import TINY, model_folder
from dicetalk.cli.checks import refuse_idle
from dicetalk.cli.jobs import read_jobs, run_jobs
from dicetalk.cli.model_folder import DRAWN_FACES_ONLY, found_folder
from dicetalk.cli.options import check_options, sampler_settings
from dicetalk.files import check_file_target, check_folder_target, explained
from dicetalk.hooks import Hooks
from dicetalk.portrait.paste import FEATHER, check_feather
from dicetalk.portrait.prepare import Portrait
from dicetalk.progress import Bars
from dicetalk.residency import choose_device
from dicetalk.settings import PortraitSettings, SpeechSettings, VideoSettings
from dicetalk.talk import DiceTalk
from dicetalk.talking_clip import check_form


def generate(options: argparse.Namespace) -> int:
    """Make the video, or the videos, that `options` describe."""
    with Bars(options.quiet) as bars:
        # Wrong values are reported before the model is loaded, and of a single clip before anything is read.
        jobs = read_jobs(options, bars.hooks) if options.jobs else []
        if options.jobs and options.jobs.is_dir():
            with explained(options.out):
                options.out.mkdir(parents=True, exist_ok=True)
        for job in jobs:
            with job.named():
                _check(job.options, target=options.again or not job.is_done)
        if not jobs:
            _check(options)
        choose_device(options.device)
        speech = None if jobs else _speech(options, bars.hooks)
        folder = found_folder(options.models, bars.hooks)
        talk = DiceTalk.load(
            folder,
            svd=options.svd,
            device=options.device,
            dtype=options.dtype,
            predict_motion=options.predict_motion,
            hooks=bars.hooks,
        )
        failed = run_jobs(jobs, partial(_make, talk), bars.hooks) if jobs else 0
        if not jobs:
            _make(talk, options, speech)
    if folder == model_folder(TINY):
        bars.hooks.notice(DRAWN_FACES_ONLY)
    if not jobs:
        print(options.out)
    return 1 if failed else 0


def _make(talk: DiceTalk, options: argparse.Namespace, speech: Speech | None = None) -> None:
    clip = talk.generate(
        _portrait(options, talk),
        speech or _speech(options, talk.hooks),
        options.emotion_track or options.emotion,
        intensity_from_voice=options.intensity_from_voice,
        interpolate=not options.no_interpolation,
        fps=options.fps,
        decode_chunk=options.decode_chunk,
        paste_back=options.paste_back,
        colour_match=options.colour_match,
        feather=_feather(options),
        **vars(sampler_settings(options, talk.model.config)),
    )
    clip.save(options.out, crf=options.crf, alpha=options.alpha)


def _speech(options: argparse.Namespace, hooks: Hooks) -> Speech:
    speech = load_speech(
        options.audio, start=options.start, duration=options.duration, stream=options.audio_stream, hooks=hooks
    )
    return shut_in_silence(pad_speech(speech, options.pad_start, options.pad_end), options.silence_below)


def _portrait(options: argparse.Namespace, talk: DiceTalk) -> Portrait:
    return talk.portrait(
        options.image,
        crop_hint="--crop --paste-back",
        index_hint="--face-index",
        face_index=options.face_index,
        box=options.box,
        whole_picture=options.whole_picture,
        crop=options.crop,
        short_side=options.short_side,
        mask_scale=options.mask_scale,
        margin=options.margin,
    )


def _check(options: argparse.Namespace, target: bool = True) -> None:
    sampler_settings(options)
    check_form(options.out, options.alpha, options.paste_back, "--alpha")
    if options.no_interpolation:
        refuse_idle(options, ["fps"], "with --no-interpolation", "leave that out")
    for settings in (PortraitSettings, SpeechSettings, VideoSettings):
        check_options(options, settings)
    if not options.crop:
        refuse_idle(options, ["margin"], "without --crop", "add that")
    if not options.paste_back:
        refuse_idle(options, ["feather"], "without --paste-back", "add that")
    check_feather(_feather(options))
    if target:
        (check_file_target if options.out.suffix else check_folder_target)(options.out)


def _feather(options: argparse.Namespace) -> float:
    return FEATHER if options.feather is None else options.feather
