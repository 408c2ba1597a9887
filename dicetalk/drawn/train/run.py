"""Trains the small model from nothing, one stage after another.

A stage whose result is there is not done again, and one that was stopped goes on from its last checkpoint, or after the
clips that it has drawn; the expression reader, a matter of minutes, starts over. Every result takes its place when it
is whole, so that a kill at any moment leaves none that is cut off.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dicetalk.audio.whisper import speech_features
from dicetalk.checkpoints import files, networks
from dicetalk.checkpoints.find import PACKED_NAME, find_files
from dicetalk.checkpoints.parts import other_parts
from dicetalk.checkpoints.single import load_embedder, save_expression_reader
from dicetalk.checkpoints.strict import fill
from dicetalk.config import TINY
from dicetalk.drawn.clips import UNSEEN_SIZE
from dicetalk.drawn.faces.expression import ACTION_UNITS
from dicetalk.drawn.shards import DrawnMaker, SourcePlan, pair_sources, take_sources
from dicetalk.drawn.train.config import TinyTraining
from dicetalk.drawn.train.expression_reader import draw_faces, train_expression_reader
from dicetalk.drawn.train.hearing import train_hearing
from dicetalk.drawn.train.priors import mean_priors, save_priors
from dicetalk.drawn.train.record import TIMES, StageRecord, StageTimes
from dicetalk.drawn.train.seeing import train_seeing
from dicetalk.drawn.train.vae import train_vae
from dicetalk.emotion.embedder import EmbedderConfig
from dicetalk.emotion.reference.expressions import ExpressionReaderConfig, crop_of
from dicetalk.errors import SettingError
from dicetalk.files import explained, make_folder, only_writer, replacing
from dicetalk.hooks import SILENT, Hooks
from dicetalk.settings import FPS
from dicetalk.train.clip_record import DatasetError
from dicetalk.train.config import DiffusionTraining, EmbedderTraining, LoopConfig
from dicetalk.train.curves import CURVE_FILES
from dicetalk.train.diffusion import train_diffusion
from dicetalk.train.embedder import train_embedder
from dicetalk.train.loop import CURVES
from dicetalk.train.prepare.run import prepare_shards
from dicetalk.train.shards import list_clips

MODEL, SHARDS, TAKES = "model", "shards", "takes"
WHISPER_HEADS = 4

EMBEDDER = EmbedderConfig(
    visual_dim=len(ACTION_UNITS),
    audio_dim=TINY.audio.layers * TINY.audio.channels,
    layers=1,
    hidden_dim=512,
    fusion_weight=3.0,
    visual_fps=FPS,
)
"""With one layer nothing follows that could weigh a clear face against a doubtful voice but lambda: at 1 priors of both
cluster less well than those of the face alone (8.9 against 11.0 after 300 steps, eight people), at 3 better (9.2
against 8.3)."""
LOOPS = ("hearing", "seeing", "vae", "embedder", "stills", "diffusion")
_SHARED = (
    "sigma_mean",
    "sigma_std",
    "portrait_only_rate",
    "whole_bank_rate",
    "mixed_rate",
    "face_weight",
    "mouth_weight",
    "even_channels",
    "emotion_rate",
    "revive_every",
    "ablations",
)
"""Entries of the config that `stills` and `diffusion` depend on."""


@dataclass(frozen=True)
class Stage:
    """One step of the whole training.

    Args:
        name: of the stage.
        result: file that is there when the stage is done.
        run: does it.
        entries: of the config, that the stage depends on beside the seed; with tables all that is in them.
    """

    name: str
    result: Path
    run: Callable[[], object]
    entries: tuple[str, ...]


def train_tiny(config: TinyTraining, hooks: Hooks = SILENT) -> list[Path]:
    """Train, or go on training, and leave the finished model in ``model`` in ``config.out``.

    Raises:
        SettingError: several processes were launched, or the config is not the one that a stage was begun with.
        SpeechError: espeak-ng is missing or fails.
        DatasetError: a clip could not be drawn.
        OutputError: ``config.out`` cannot be written, or another program is writing there.
        DiceTalkError: see :func:`dicetalk.train.loop.run_training`.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SettingError(
            f"`train tiny` is one process, and {os.environ['WORLD_SIZE']} were launched: run it without `accelerate "
            "launch`, or with --num_processes 1."
        )
    make_folder(config.out)
    with only_writer(config.out):
        return _train_stages(config, hooks)


def _train_stages(config: TinyTraining, hooks: Hooks) -> list[Path]:
    record, times = StageRecord(config), StageTimes(config.out / TIMES)
    every = stages(config, times.listening(hooks))
    for stage in every:
        record.check(stage.name, stage.entries, stage.result)
    _check_order(every)
    for stage in every:
        if not stage.result.is_file():
            hooks.notice(f"Stage: {stage.name}")
            record.begin(stage.name, stage.entries)
            with times.of(stage.name):
                stage.run()
    model = config.out / MODEL
    return sorted(path for path in model.rglob("*") if path.is_file())


def _check_order(every: list[Stage]) -> None:
    """Results that came of another result than the one that would be made now are no part of one model.

    Raises:
        SettingError: a stage is not done, and one that builds on it is.
    """
    done = [stage.result.is_file() for stage in every]
    first = done.index(False) if False in done else len(every)
    later = [stage for stage, is_done in zip(every[first:], done[first:], strict=True) if is_done]
    if later:
        raise SettingError(
            f"The stage {every[first].name!r} is not done, and {later[0].name!r}, which builds on it, is. Remove "
            f"{', '.join(str(stage.result) for stage in later)} to have them done again, too, or choose another `out`."
        )


def stages(config: TinyTraining, hooks: Hooks) -> list[Stage]:
    """Every stage in its order.

    Raises:
        SettingError: settings contradict each other.
    """
    devices = {name: getattr(config, name).device for name in LOOPS}
    if len(set(devices.values())) > 1:
        raise SettingError(f"One process trains all stages on one device, and `device` differs: {devices}.")
    out, model, seed = config.out, config.out / MODEL, config.seed
    loops = {name: replace(getattr(config, name), seed=seed) for name in LOOPS}
    shards, embedder = out / SHARDS, model / files.EMBEDDER.name
    # Made now, so that settings that contradict each other are refused before hours of work.
    trainings = {
        name: replace(diffusion_training(config, loops[name]), out=out / name, **changes)
        for name, changes in (("stills", stills(config)), ("diffusion", {}))
    }

    def hearing() -> None:
        build = partial(networks.whisper_encoder, whisper_sizes(), "cpu")
        train_hearing(build, model, out / "hearing", loops["hearing"], hooks)

    def seeing() -> None:
        build = partial(networks.image_encoder, TINY.image_encoder, "cpu")
        train_seeing(build, model, out / "seeing", loops["seeing"], hooks)

    def vae() -> None:
        train_vae(partial(networks.vae, TINY.vae, "cpu"), model, out / "vae", loops["vae"], hooks)

    def reader() -> None:
        sizes = ExpressionReaderConfig(coefficients=len(ACTION_UNITS))
        faces = draw_faces("train", config.reader_faces, seed, crop_of(sizes), hooks)
        trained = train_expression_reader(faces, sizes, config.reader_epochs, seed, hooks)
        save_expression_reader(trained, model / files.READER.name)

    def draw(name: str, sources: list[SourcePlan], side: int) -> None:
        maker = DrawnMaker(partial(speech_features, encoder=speech_encoder(model)), side)
        failed = prepare_shards(sources, out / name, maker, hooks=hooks).skipped
        if failed:  # one clip less makes another model
            raise DatasetError(
                f"{len(failed)} of {len(sources)} clips could not be drawn, {failed[0].name} because: "
                f"{failed[0].reason} Run again to draw what is missing."
            )
        (out / f"{name}.done").touch()

    def clips() -> None:
        draw(SHARDS, pair_sources("train", config.people, seed), UNSEEN_SIZE)

    def takes() -> None:
        draw(TAKES, take_sources("train", config.cast, seed), TINY.sampling.short_side)

    def embed() -> None:
        training = EmbedderTraining(
            shards,
            out / "embedder",
            EMBEDDER,
            loops["embedder"],
            identities=8,
            emotions=6,
            clips=2,
            longest=40,
            intensity_apart=config.intensity_apart,
        )
        (trained,) = train_embedder(training, hooks)
        copy_whole(trained, embedder)

    def priors() -> None:
        save_priors(mean_priors(load_embedder(embedder), list_clips(shards), hooks), model / "emotion")

    def diffuse(name: str) -> None:
        (trained,) = train_diffusion(trainings[name], hooks)
        copy_whole(trained, model / PACKED_NAME)
        keep_curves(out, model / CURVES)
        (out / f"{name}.done").touch()

    return [
        Stage("hearing", model / files.WHISPER_CONFIG.name, hearing, ("hearing",)),
        Stage("seeing", model / files.IMAGE_ENCODER.name, seeing, ("seeing",)),
        Stage("vae", model / files.VAE.name, vae, ("vae",)),
        Stage("expression reader", model / files.READER.name, reader, ("reader_faces", "reader_epochs")),
        Stage("clips", out / f"{SHARDS}.done", clips, ("people",)),
        Stage("embedder", embedder, embed, ("embedder", "intensity_apart")),
        Stage("priors", model / "emotion" / "contempt.safetensors", priors, ()),
        Stage("takes", out / f"{TAKES}.done", takes, ("cast",)),
        Stage(
            "stills",
            out / "stills.done",
            partial(diffuse, "stills"),
            ("stills", "stills_batch_size", "stills_ordinary_share", *_SHARED),
        ),
        Stage(
            "diffusion",
            out / "diffusion.done",
            partial(diffuse, "diffusion"),
            ("diffusion", "window", "batch_size", *_SHARED),
        ),
    ]


def stills(config: TinyTraining) -> dict[str, Any]:
    """Settings that differ while single frames are learned."""
    return {
        "start": "random",
        "window": 1,
        "batch_size": config.stills_batch_size,
        "ordinary_share": config.stills_ordinary_share,
    }


def diffusion_training(config: TinyTraining, loop: LoopConfig) -> DiffusionTraining:
    """The last stage as a training of its own."""
    return DiffusionTraining(
        data=config.out / TAKES,
        out=config.out / "diffusion",
        models=config.out / MODEL,
        embedder=config.out / MODEL / files.EMBEDDER.name,
        model=TINY,
        loop=loop,
        start="dice",
        ablations=config.ablations,
        batch_size=config.batch_size,
        window=config.window,
        portrait_only_rate=config.portrait_only_rate,
        whole_bank_rate=config.whole_bank_rate,
        mixed_rate=config.mixed_rate,
        face_weight=config.face_weight,
        mouth_weight=config.mouth_weight,
        even_channels=config.even_channels,
        emotion_rate=config.emotion_rate,
        revive_every=config.revive_every,
        sigma_mean=config.sigma_mean,
        sigma_std=config.sigma_std,
        latents=config.out / "latents",
    )


def whisper_sizes() -> dict[str, int]:
    """Sizes of the speech encoder, as its ``config.json`` has them."""
    channels = TINY.audio.channels
    return {
        "d_model": channels,
        "encoder_layers": TINY.audio.layers - 1,
        "encoder_attention_heads": WHISPER_HEADS,
        "encoder_ffn_dim": 4 * channels,
    }


def speech_encoder(model: Path) -> nn.Module:
    """The trained speech encoder of the model folder `model`, in float32.

    Raises:
        CheckpointError: it is damaged.
    """
    part = next(part for part in other_parts(find_files(model), TINY) if part.file is files.WHISPER)
    network = part.build()
    return fill(part.path, network, part.read(list(network.state_dict())), torch.float32)


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file; `target` is there whole or as it was before.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    with replacing(target) as partial_copy, explained(target):
        shutil.copyfile(source, partial_copy)


def keep_curves(out: Path, folder: Path) -> None:
    """Copy the curves of every loop in `out` to `folder`, named after their stage.

    Raises:
        OutputError: they cannot be written.
    """
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name in LOOPS:
        for kind in CURVE_FILES:
            path = out / name / CURVES / kind
            if path.is_file():
                copy_whole(path, folder / f"{name}-{kind}")
