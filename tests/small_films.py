"""Small films for the tests of `prepare`: a bright square stands for a face, and its brightness numbers the frames."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from dicetalk.audio.features import SpeechFeatures, join_states
from dicetalk.portrait.faces import FaceBox
from dicetalk.train.clip_record import ClipLabels
from dicetalk.train.prepare.datasets import SourceVideo
from dicetalk.train.prepare.video import VideoMaker
from dicetalk.train.shards import list_clips, read_clip
from dicetalk.video import write_mp4

RATE = 16_000
WIDTH, HEIGHT, FACE = 192, 160, 64


class BrightSquare:
    """A detector that takes the bright, blueless part of a picture for a face."""

    def detect(self, picture: np.ndarray) -> list[FaceBox]:
        rows, columns = np.nonzero((picture[..., 0] > 128) & (picture[..., 2] < 90))
        if len(rows) < 100:
            return []
        x, y = columns.min(), rows.min()
        return [FaceBox(float(x), float(y), float(columns.max() + 1 - x), float(rows.max() + 1 - y))]


def listen(samples: np.ndarray) -> SpeechFeatures:
    """The loudness of each step in place of Whisper's states."""
    steps = len(samples) // 640 * 2
    loud = torch.from_numpy(np.abs(samples[: steps * 320]).reshape(steps, 320).max(axis=1))
    states = join_states([loud[:, None, None].expand(-1, 2, 3)], steps)
    return SpeechFeatures(states, len(samples) // 1280, len(samples) / RATE)


def pictures(count: int, face: bool = True, blank: Iterable[int] = ()) -> torch.Tensor:
    """Frames whose blue tells their number, with a face that sways; in `blank` ones it shows white."""
    frames = torch.zeros(count, 3, HEIGHT, WIDTH)
    frames[:, 2] = (torch.arange(count) * 7 % 238 / 255)[:, None, None]
    if face:
        for number in range(count):
            x, y = 50 + round(6 * np.sin(number / 4)), 40 + number % 3
            frames[number, :, y : y + FACE, x : x + FACE] = torch.tensor([0.9, 0.5, 0.1])[:, None, None]
    for number in blank:
        frames[number] = 1.0
    return frames


def sound(seconds: float, clicks: Iterable[float] = ()) -> tuple[np.ndarray, int]:
    samples = 0.01 * np.sin(np.arange(round(seconds * RATE)) / 9).astype(np.float32)
    for click in clicks:
        samples[round(click * RATE) :][:320] = 0.9
    return samples[None], RATE


def film(path: Path, frames: torch.Tensor, fps: int = 25, with_sound: tuple | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mp4(path, [frames], fps=Fraction(fps), sound=with_sound, crf=8, total=len(frames))
    return path


def talking(path: Path, seconds: float = 1.2) -> Path:
    return film(path, pictures(round(seconds * 25)), with_sound=sound(seconds))


def number_of(picture: np.ndarray) -> int:
    """Which frame of :func:`pictures` this is, by a corner's blue."""
    return round(float(picture[:12, -12:, 2].mean()) / 7)


def source(path: Path, name: str = "clip") -> SourceVideo:
    return SourceVideo(name, path, path, ClipLabels("anna", "happy", 0.6, name, "train"))


def maker(**changes) -> VideoMaker:
    return VideoMaker(**{"listen": listen, "detector": BrightSquare(), "size": 64, **changes})


def content(folder: Path) -> dict:
    return {r.id: (r.labels, {k: v.numpy().tobytes() for k, v in read_clip(r).items()}) for r in list_clips(folder)}


def moving(count: int, blank: range = range(0)) -> np.ndarray:
    """Grey pictures with a square that moves and becomes redder; in `blank` ones it is missing."""
    frames = np.full((count, 96, 128, 3), 40, np.uint8)
    for number in range(count):
        if number not in blank:
            frames[number, 20:60, 10 + number % 40 : 50 + number % 40] = 130 + number % 100, 60, 20
    return frames


class Forgetful:
    """A detector that misses some of its looks."""

    def __init__(self, misses: set[int]):
        self.misses, self.looks = misses, 0

    def detect(self, picture: np.ndarray) -> list[FaceBox]:
        self.looks += 1
        return [] if self.looks - 1 in self.misses else BrightSquare().detect(picture)
