"""Makes the workflows' thumbnails by running them on a real ComfyUI.

Not a test, but run like one (``python -m pytest tests/comfyui/make_thumbnails.py``): it takes minutes, and pictures are
to be looked at. Every workflow runs as it is shipped, but with the bundled model, portrait and speech, because the
released weights cannot be had everywhere; the reference video is drawn, the upscaler interpolates, and the
face restorer is bypassed. A workflow without an emotion gets the neutral one. ``-k NAME`` makes one alone.
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from comfyui.media import write_plain_upscaler
from comfyui.prompts import Prompt, mixed, without_restorer
from comfyui.server import Server
from comfyui.workflows import TEMPLATES, to_prompt
from PIL import Image

from dicetalk.drawn.clips import make_changing_clip
from dicetalk.video import write_mp4

COLUMNS, SIDE, QUALITY = 2, 256, 88


@pytest.fixture(scope="module")
def studio(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with what the workflows want beside models."""
    base = tmp_path_factory.mktemp("studio")
    with Server(comfyui, base) as server:
        write_plain_upscaler(base / "models" / "upscale_models" / "RealESRGAN_x4plus.safetensors")
        write_drawn_reference(base / "input" / "dicetalk_reference.mp4")
        yield server


@pytest.mark.parametrize("workflow", TEMPLATES, ids=lambda path: path.stem)
def test_make_thumbnail(studio: Server, workflow: Path) -> None:
    prompt = without_restorer(to_prompt(workflow, studio.get("/object_info")))
    for node in prompt.values():
        if node["class_type"] == "DICETalk_LoadModel":
            node["inputs"] |= {"model": "tiny", "svd": "auto"}
    want_neutral(prompt)
    run = studio.run(prompt)
    assert run.error is None, run.error
    (saved,) = [output["images"][0] for output in run.outputs.values() if output.get("animated") == [True]]
    thumbnail(studio.file(saved)).save(workflow.with_suffix(".jpg"), quality=QUALITY)


def want_neutral(prompt: Prompt) -> None:
    """Give a sampler without an emotion the neutral one, which the bundled model wants."""
    for each in list(prompt.values()):
        if each["class_type"] == "DICETalk_Sampler" and "emotion" not in each["inputs"]:
            prompt["neutral"] = mixed(each["inputs"]["model"], "neutral")
            each["inputs"]["emotion"] = ["neutral", 0]


def write_drawn_reference(out: Path) -> None:
    """Somebody who is happy, and then angry."""
    lines = ("What a lovely surprise this is.", "No, that is not what we agreed on.")
    clip = make_changing_clip(5, ("happy", "angry"), 1.0, lines, 0, size=256, fps=25)
    frames = torch.from_numpy(clip.frames).permute(0, 3, 1, 2).float() / 255
    write_mp4(out, iter([frames]), fps=Fraction(25), sound=(clip.sound[None], clip.sample_rate), total=len(frames))


def thumbnail(video: Path) -> Image.Image:
    """Moments of a video, from its first quarter to its last."""
    with av.open(str(video)) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    places = np.linspace(0.12, 0.88, COLUMNS**2) * (len(frames) - 1)
    sheet = Image.new("RGB", (COLUMNS * SIDE, COLUMNS * SIDE))
    for number, place in enumerate(places.round().astype(int)):
        y, x = divmod(number, COLUMNS)
        sheet.paste(frames[place].resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x * SIDE, y * SIDE))
    return sheet
