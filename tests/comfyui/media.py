"""Files that the shipped workflows expect a person to have, and what is in the videos they make."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from dicetalk.audio.speech import load_speech
from dicetalk.video import write_mp4


@dataclass(frozen=True)
class Video:
    """What a player would show."""

    frames: int
    fps: float
    size: tuple[int, int]
    sound_seconds: float
    loudest: float

    @property
    def seconds(self) -> float:
        return self.frames / self.fps


def probe(path: Path) -> Video:
    """Decode the whole file."""
    with av.open(str(path)) as container:
        picture = container.streams.video[0]
        frames = sum(1 for _ in container.decode(picture))
        fps, size = float(picture.average_rate), (picture.width, picture.height)
    with av.open(str(path)) as container:
        blocks = [frame.to_ndarray() for frame in container.decode(audio=0)]
        sound = np.concatenate(blocks, axis=-1)
        seconds = sound.shape[-1] / container.streams.audio[0].rate
    return Video(frames, fps, size, seconds, float(np.abs(sound).max()))


def write_reference(portrait: Path, speech: Path, out: Path) -> None:
    """A second of a still face with speech."""
    picture = Image.open(portrait).convert("RGB").resize((256, 256))
    frame = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255
    sound = load_speech(speech, duration=1.0)
    write_mp4(out, iter([frame] * 25), fps=Fraction(25), sound=(sound.sound, sound.sound_sample_rate), total=25)


def write_upscaler(out: Path) -> None:
    """A four-times upscaler of the compact ESRGAN kind, with random weights."""
    generator = torch.Generator().manual_seed(0)
    _write_compact(out, lambda *shape: 0.1 * torch.randn(shape, generator=generator))


def write_plain_upscaler(out: Path) -> None:
    """Likewise, but with weights of zero: the kind adds its input, enlarged, to what it computes."""
    _write_compact(out, torch.zeros)


def write_restorer(python: Path, out: Path) -> None:
    """A small face restorer of the RestoreFormer kind, with random weights.

    Args:
        python: that ComfyUI runs on, which has such networks.
        out: file to write.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([python, "-c", RESTORER, out], check=True)


RESTORER = """
import sys
import torch
from spandrel.architectures.RestoreFormer import RestoreFormer
torch.manual_seed(0)
sizes = dict(n_embed=16, embed_dim=32, z_channels=32, ch=32, ch_mult=(1,) * 6, num_res_blocks=1, double_z=False)
torch.save(RestoreFormer(enable_mid=True, head_size=8, **sizes).state_dict(), sys.argv[1])
"""


def _write_compact(out: Path, numbers: Callable[..., torch.Tensor]) -> None:
    shapes = {"0.weight": (8, 3, 3, 3), "2.weight": (8, 8, 3, 3), "4.weight": (48, 8, 3, 3)}
    weights = {f"body.{name}": numbers(*shape) for name, shape in shapes.items()}
    weights |= {f"body.{n}.bias": torch.zeros(c) for n, c in ((0, 8), (2, 8), (4, 48))}
    weights |= {f"body.{n}.weight": torch.full((8,), 0.2) for n in (1, 3)}
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, out)
