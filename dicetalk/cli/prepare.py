"""``dicetalk prepare``."""

import argparse
from contextlib import nullcontext
from pathlib import Path

from dicetalk.cli.model_folder import open_ears
from dicetalk.emotion.reference.blendshapes import BLENDSHAPES, MediaPipeBlendshapes
from dicetalk.errors import SettingError
from dicetalk.files import check_no_input
from dicetalk.hooks import Hooks
from dicetalk.portrait.centerface import CenterFace
from dicetalk.progress import Bars
from dicetalk.residency import choose_device
from dicetalk.train.prepare.datasets import find_videos
from dicetalk.train.prepare.run import SKIPPED_FILE, Prepared, check_alike, prepare_shards, without_namesakes
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
    from dicetalk.drawn.faces.expression import ACTION_UNITS
    from dicetalk.drawn.shards import DrawnMaker, plan_sources

    if options.limit is None:
        raise SettingError("--kind procedural: give --limit, the number of clips, because they never end.")
    if options.landmarker is not None:
        raise SettingError("--landmarker: procedural clips have true coefficients; leave it out.")
    sources = plan_sources(options.dataset, options.limit, options.seed)
    check_alike(options.out, options.size, len(ACTION_UNITS))
    maker = DrawnMaker(open_ears(Path(options.models), choose_device(options.device)), options.size)
    name = f"{options.kind} {options.dataset}"
    return prepare_shards(sources, options.out, maker, dataset=name, workers=options.workers, hooks=hooks)


def _film(options: argparse.Namespace, hooks: Hooks) -> Prepared:
    if options.landmarker is not None and options.workers > 1:
        raise SettingError("--landmarker works with one worker: leave out --workers.")
    check_no_input(options.out, {"the data set": Path(options.dataset)})
    videos, skipped = find_videos(options.dataset, options.kind)
    check_alike(options.out, options.size, BLENDSHAPES if options.landmarker else None)
    if options.landmarker is None:
        hooks.notice(
            "Without --landmarker the clips get no expression coefficients: an embedder can learn from their speech "
            "alone. Fetch MediaPipe's face_landmarker.task and name it there."
        )
    videos, namesakes = without_namesakes(options.out, videos[: options.limit])
    listen = open_ears(Path(options.models), choose_device(options.device))
    with MediaPipeBlendshapes(options.landmarker) if options.landmarker else nullcontext() as express:
        maker = VideoMaker(listen, CenterFace(), options.size, express)
        return prepare_shards(
            videos,
            options.out,
            maker,
            skipped=[*skipped, *namesakes],
            dataset=str(Path(options.dataset).resolve()),
            workers=options.workers,
            hooks=hooks,
        )
