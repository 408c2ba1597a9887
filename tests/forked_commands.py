"""Commands as real processes that can be killed at any moment; heavy packages are imported once, before they fork."""

import contextlib
import json
import multiprocessing
import os
from dataclasses import asdict
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
import yaml
from small_films import film
from small_models import write_small_model
from training_runs import embedder_training, make_inputs

from dicetalk.audio.speech import load_speech
from dicetalk.cli import main
from dicetalk.portrait.read import read_picture

ROOT = Path(__file__).parents[1]
IMPORTED = (
    *("torch", "cv2", "av", "soxr", "soundfile", "PIL.Image", "safetensors.torch", "scipy.signal", "yaml"),
    *(
        "diffusers.models.autoencoders.autoencoder_kl_temporal_decoder",
        "diffusers.training_utils",
        "transformers.models.whisper.modeling_whisper",
        "accelerate",
    ),
    *("dicetalk.cli.generate", "dicetalk.cli.evaluate", "dicetalk.cli.prepare", "dicetalk.train.loop"),
    *("dicetalk.train.embedder", "dicetalk.checkpoints.convert", "dicetalk.cli.emotion_make"),
)

CLIPS = {"generate": "clip.mp4", "webm": "clip.webm", "pictures": "frames"}
"""What ``generate`` writes, by the name of a command here; the last two with alpha."""

FACE = ("--box", "156,110,200,250")

needs_forks = pytest.mark.skipif(
    "forkserver" not in multiprocessing.get_all_start_methods(), reason="processes cannot be forked here"
)


def start(words: list[str], log: Path) -> BaseProcess:
    """Start ``dicetalk WORDS``; what it says goes to `log`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*IMPORTED])
    process = context.Process(target=_run, args=(words, log), daemon=True)
    process.start()
    return process


def finish(process: BaseProcess, seconds: float = 120) -> int:
    """Exit status; one that hangs is killed."""
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
        raise TimeoutError(f"still running after {seconds} s")
    return process.exitcode


def _run(words: list[str], log: Path) -> None:
    with log.open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        torch.set_num_threads(1)
        code = main(words)
        file.flush()
    os._exit(code)


def write_inputs(folder: Path) -> Path:
    """Put everything that :func:`commands` reads into `folder`."""
    make_inputs(folder)
    write_small_model(folder / "small")
    picture = torch.from_numpy(read_picture(ROOT / "examples" / "portrait.jpg")[::2, ::2].copy()).movedim(-1, 0) / 255
    speech = load_speech(ROOT / "examples" / "speech.wav", duration=1.0)
    (folder / "films").mkdir()
    for name in ("anna", "bert", "carl"):
        frames = torch.stack([picture.roll(i, dims=2) for i in range(25)])[..., : 2 * (picture.shape[2] // 2)]
        film(folder / "films" / f"{name}.mp4", frames, with_sound=(speech.sound, speech.sound_sample_rate))
    lines = ["video,identity,emotion,intensity", *(f"{n}.mp4,{n},happy,0.6" for n in ("anna", "bert", "carl"))]
    (folder / "films" / "labels.csv").write_text("\n".join(lines))
    return folder


def command(name: str, inputs: Path, out: Path, variant: int = 0) -> tuple[list[str], Path]:
    """A command's words, and what it writes in the folder `out`; another `variant` writes something else."""
    small = str(inputs / "small")
    if name in CLIPS:
        target = out / CLIPS[name]
        words = ["generate", "--image", str(ROOT / "examples" / "portrait.jpg"), "--short-side", "64", "--steps", "1"]
        words += ["--audio", str(ROOT / "examples" / "speech.wav"), "--duration", "0.4", "--no-interpolation"]
        words += ["--whole-picture"] if name == "generate" else [*FACE, "--crop", "--paste-back", "--alpha"]
        words += ["--models", small, "--seed", str(variant), "--out", str(target)]
    elif name == "convert":
        target = out / "packed.safetensors"
        words = ["convert", small, str(target), "--dtype", ("fp32", "bf16")[variant]]
    elif name == "emotion":
        target = out / "mixed.safetensors"
        words = ["emotion", "mix", "happy", ("sad", "angry")[variant], "--models", small, "--out", str(target)]
    elif name == "prepare":
        target = out / "shards"
        words = ["prepare", str(inputs / "films"), str(target), "--kind", "csv", "--models", small, "--size", "64"]
    elif name == "train":
        target = out / "run"
        config = inputs / f"train-{out.name}.yaml"
        values = asdict(embedder_training(inputs, target, steps=6, checkpoint_every=1, log_every=2, validate_every=3))
        config.write_text(yaml.safe_dump(json.loads(json.dumps(values, default=str))))
        words = ["train", "embedder", "--config", str(config)]
    else:
        raise ValueError(name)
    return [*words, "--quiet"] if name in (*CLIPS, "prepare", "train") else words, target
