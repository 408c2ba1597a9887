"""``dicetalk generate``."""

import argparse

from dicetalk.audio.silence import pad_speech, shut_in_silence
from dicetalk.audio.speech import load_speech
from dicetalk.checkpoints.tiny import TINY, model_folder
from dicetalk.cli.idle import refuse_idle
from dicetalk.cli.sampler_options import check_options, sampler_settings
from dicetalk.cli.tiny import DRAWN_FACES_ONLY, found_folder
from dicetalk.device import choose_device
from dicetalk.files import check_file_target, check_folder_target
from dicetalk.portrait.paste import FEATHER, check_feather
from dicetalk.portrait.prepare import Portrait
from dicetalk.progress import Bars
from dicetalk.settings import PortraitSettings, SpeechSettings, VideoSettings
from dicetalk.talk import DiceTalk
from dicetalk.talking_clip import check_form


def generate(options: argparse.Namespace) -> int:
    """Make the video that `options` describe."""
    sampler_settings(options)  # wrong values are reported before anything is read
    _check(options)
    (check_file_target if options.out.suffix else check_folder_target)(options.out)
    choose_device(options.device)
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
        talk = DiceTalk.load(folder, svd=options.svd, device=options.device, dtype=options.dtype, hooks=bars.hooks)
        clip = talk.generate(
            _portrait(options, talk),
            speech,
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
    if folder == model_folder(TINY):
        bars.hooks.notice(DRAWN_FACES_ONLY)
    print(options.out)
    return 0


def _portrait(options: argparse.Namespace, talk: DiceTalk) -> Portrait:
    return talk.portrait(
        options.image,
        crop_hint="--crop --paste-back",
        face_index=options.face_index,
        box=options.box,
        whole_picture=options.whole_picture,
        crop=options.crop,
        short_side=options.short_side,
        mask_scale=options.mask_scale,
        margin=options.margin,
    )


def _check(options: argparse.Namespace) -> None:
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


def _feather(options: argparse.Namespace) -> float:
    return FEATHER if options.feather is None else options.feather
