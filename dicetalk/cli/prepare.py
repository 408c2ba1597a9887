"""``dicetalk prepare``."""

import argparse
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch

from dicetalk.audio.whisper import speech_features
from dicetalk.checkpoints import files
from dicetalk.checkpoints.files import find_files
from dicetalk.checkpoints.parts import explained, other_parts
from dicetalk.checkpoints.strict import fill
from dicetalk.cli.device import choose_device
from dicetalk.cli.progress import Bars
from dicetalk.config import FULL
from dicetalk.errors import CheckpointError, SettingError
from dicetalk.hooks import Hooks
from dicetalk.portrait.centerface import CenterFace
from dicetalk.residency import DeviceResidency
from dicetalk.train.prepare.blendshapes import MediaPipeBlendshapes
from dicetalk.train.prepare.clip import Listen
from dicetalk.train.prepare.datasets import find_videos
from dicetalk.train.prepare.drawn import DrawnMaker, plan_sources
from dicetalk.train.prepare.run import SKIPPED_FILE, Prepared, prepare_shards
from dicetalk.train.prepare.video import VideoMaker

SIZES = (64, 1024)
"""Smallest and largest side of the frames, a multiple of 64."""


def prepare(options: argparse.Namespace) -> int:
    """Make the shards that `options` describe; exit status 1 if there is no clip in the end."""
    low, high = SIZES
    if not low <= options.size <= high or options.size % low:
        raise SettingError(f"--size {options.size}: give a multiple of {low} up to {high}.")
    if options.limit is not None and options.limit < 1:
        raise SettingError(f"--limit {options.limit}: give 1 or more.")
    with Bars(options.quiet) as bars:
        result = (_draw if options.kind == "procedural" else _film)(options, bars.hooks)
    print(f"{options.out}: {result.made} clips made, {result.there} were there, {len(result.skipped)} videos skipped")
    if result.skipped:
        print(f"reasons: {options.out / SKIPPED_FILE}")
    return 0 if result.made + result.there else 1


def _draw(options: argparse.Namespace, hooks: Hooks) -> Prepared:
    if options.limit is None:
        raise SettingError("--kind procedural: give --limit, the number of clips, because they never end.")
    if options.landmarker is not None:
        raise SettingError("--landmarker: procedural clips have true coefficients; leave it out.")
    sources = plan_sources(options.dataset, options.limit, options.seed)
    maker = DrawnMaker(_ears(options), options.size)
    return prepare_shards(sources, options.out, maker, workers=options.workers, hooks=hooks)


def _film(options: argparse.Namespace, hooks: Hooks) -> Prepared:
    if options.landmarker is not None and options.workers > 1:
        raise SettingError("--landmarker works with one worker: leave out --workers.")
    videos, skipped = find_videos(options.dataset, options.kind)
    listen = _ears(options)
    with MediaPipeBlendshapes(options.landmarker) if options.landmarker else nullcontext() as express:
        maker = VideoMaker(listen, CenterFace(), options.size, express)
        videos = videos[: options.limit]
        return prepare_shards(videos, options.out, maker, skipped=skipped, workers=options.workers, hooks=hooks)


def _ears(options: argparse.Namespace) -> Listen:
    """Whisper of the model folder, on the chosen device for good, so that all workers can share it."""
    found = find_files(Path(options.models))
    part = next((part for part in other_parts(found, FULL) if part.file is files.WHISPER), None)
    if part is None:
        raise CheckpointError(
            f"{options.models} holds no {files.WHISPER.what}: {files.WHISPER.name} and {files.WHISPER_CONFIG.name} "
            f"from {files.WHISPER.origin}. `dicetalk download` fetches them."
        )
    device = choose_device(options.device)
    with explained(part.file):
        network = part.build()
        whisper = fill(part.path, network, part.read(list(network.state_dict())), torch.float32).to(device)
    return partial(speech_features, encoder=whisper, residency=DeviceResidency(device, offload=False))
