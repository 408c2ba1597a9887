"""``dicetalk demo``."""

import argparse
from fractions import Fraction
from importlib.resources import as_file, files

import numpy as np
import torch

from dicetalk.audio.speech import SAMPLE_RATE, Speech, load_speech
from dicetalk.checkpoints.find import TINY
from dicetalk.checkpoints.load import load_model
from dicetalk.cli.model_folder import recommended
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.emotion.track import EmotionTrack
from dicetalk.evaluate.mouth import mouth_curve, speaking_moment
from dicetalk.evaluate.sheet import frame_grid
from dicetalk.files import explained, make_folder, replacing
from dicetalk.hooks import Hooks
from dicetalk.pipeline import generate_latents, render
from dicetalk.portrait.prepare import prepare_portrait
from dicetalk.portrait.read import read_picture
from dicetalk.progress import Bars
from dicetalk.residency import DeviceResidency, choose_device, choose_dtype
from dicetalk.video import collect, frames_to_cover, hold_last_frame, write_mp4
from dicetalk.video.colour import rgb_to_bytes

ASSETS = "assets/demo"
PORTRAIT_FILE, SPEECH_FILE = "portrait.png", "speech.ogg"
SHEET_FILE = "side-by-side.png"
COLUMNS, SIDE = 3, 192


def demo(options: argparse.Namespace) -> int:
    """Make a video of each emotion with the bundled model, portrait and speech, and one picture of them all."""
    make_folder(options.out)
    device = choose_device(options.device)
    model = load_model(TINY, dtype=choose_dtype(options.dtype, device))
    settings, short_side = recommended(model)
    picture, speech = bundled()
    portrait = prepare_portrait(picture, short_side=short_side, clip_size=model.config.image_encoder.image_size)

    residency = DeviceResidency(device)
    faces = {"portrait": picture}
    with Bars(options.quiet) as bars:
        for number, emotion in enumerate(PRESET_NAMES):
            hooks = _part(bars.hooks, number, len(PRESET_NAMES))
            track = EmotionTrack.constant(model.priors[emotion])
            latents = generate_latents(model, portrait, speech, track, settings, residency=residency, hooks=hooks)
            smooth = model.flownet is not None
            clip = render(model, latents, interpolate=smooth, residency=residency, hooks=hooks)
            frames = collect(clip.chunks, clip.frames)
            total = frames_to_cover(speech.sound.shape[1], speech.sound_sample_rate, clip.fps)
            write_mp4(
                options.out / f"{emotion}.mp4",
                hold_last_frame([frames], total),
                fps=Fraction(clip.fps),
                sound=(speech.sound, speech.sound_sample_rate),
                hooks=hooks,
                total=total,
            )
            opening, _ = mouth_curve(speech.samples, SAMPLE_RATE, clip.frames, clip.fps)
            faces[emotion] = rgb_to_bytes(frames[speaking_moment(opening)])
    names = list(faces)
    rows = [names[i : i + COLUMNS] for i in range(0, len(names), COLUMNS)]
    sheet = frame_grid([[faces[name] for name in row] for row in rows], captions=rows, side=SIDE)
    with replacing(options.out / SHEET_FILE) as partial, explained(options.out / SHEET_FILE):
        sheet.save(partial, "PNG")
    for name in (*(f"{emotion}.mp4" for emotion in PRESET_NAMES), SHEET_FILE):
        print(options.out / name)
    return 0


def bundled() -> tuple[np.ndarray, Speech]:
    """The bundled portrait, uint8 RGB ``(256, 256, 3)``, and the bundled speech."""
    with as_file(files("dicetalk").joinpath(ASSETS)) as folder:
        return read_picture(folder / PORTRAIT_FILE), load_speech(folder / SPEECH_FILE)


def _part(hooks: Hooks, number: int, count: int) -> Hooks:
    """Hooks for one of several clips of equal length, whose denoising makes one bar together."""

    def progress(stage: str, done: int, total: int, preview: torch.Tensor | None) -> None:
        if stage == "sample":
            hooks.report("demo", number * total + done, count * total)

    return Hooks(progress, hooks.cancelled, hooks.notice)
