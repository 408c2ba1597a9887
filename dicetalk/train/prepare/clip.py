"""Parts of a clip as the tensors of a shard, and the lengths that long videos are cut into."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from dicetalk.audio.features import SpeechFeatures
from dicetalk.train.clip_record import ClipLabels, DatasetError

Listen = Callable[[np.ndarray], SpeechFeatures]
"""Speech (mono at 16 kHz, float32 ``(n,)``) to Whisper states; for example
:func:`dicetalk.audio.whisper.speech_features` with an encoder."""

Express = Callable[[np.ndarray], np.ndarray]
"""Face crops (uint8 ``(N, H, W, 3)``) to expression coefficients, float ``(N, d)``."""

MIN_FRAMES = 8
"""A clip shorter than 0.64 s shows no expression worth learning from."""

MAX_FRAMES = 125
"""10 s; longer videos are cut into parts of one length."""


@dataclass(frozen=True, eq=False)
class MadeClip:
    """A clip ready for :meth:`dicetalk.train.shards.ShardWriter.add`."""

    name: str
    labels: ClipLabels
    tensors: dict[str, torch.Tensor]


def make(
    name: str,
    labels: ClipLabels,
    frames: np.ndarray,
    speech: SpeechFeatures,
    box: np.ndarray,
    *,
    coefficients: np.ndarray | None = None,
    mouth: np.ndarray | None = None,
    mix: np.ndarray | None = None,
    portrait: np.ndarray | None = None,
) -> MadeClip:
    """Bring a clip's parts to the dtypes of a shard.

    Args:
        name: of the clip.
        labels: what is known about it.
        frames: uint8 ``(N, H, W, 3)``, as many as `speech` has.
        speech: what is heard.
        box: the face in pixels of `frames`, x, y, width, height.
        coefficients: of the expression, ``(N, d)``.
        mouth: its opening, ``(N,)``.
        mix: weights of the eight presets in each frame if the emotion changes, ``(N, 8)``.
        portrait: a picture of the same person in the same scene that shows nothing of the clip's emotion, uint8
            ``(H, W, 3)``.

    Raises:
        DatasetError: a value is not finite, in float16 where it is stored so.
    """
    tensors = {
        "frames": torch.from_numpy(np.ascontiguousarray(frames)),
        "whisper": speech.states.half(),
        "box": torch.from_numpy(box.astype(np.float32)),
    }
    for key, values in (("coefficients", coefficients), ("mouth", mouth), ("mix", mix)):
        if values is not None:
            tensors[key] = torch.from_numpy(np.asarray(values, np.float32)).half()
    if portrait is not None:
        tensors["portrait"] = torch.from_numpy(np.ascontiguousarray(portrait))
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise DatasetError(f"{key} of clip {name} holds values that are not finite or too large for float16.")
    return MadeClip(name, labels, tensors)


def part_names(name: str, parts: int) -> list[str]:
    """Names of the clips that `name` is cut into; they tell whether all are there."""
    return [f"{name}.{part}of{parts}" for part in range(1, parts + 1)]


def part_lengths(frames: int) -> list[int]:
    """Lengths of nearly equal parts of at most :data:`MAX_FRAMES` frames."""
    parts = -(-frames // MAX_FRAMES)
    return [frames // parts + (part < frames % parts) for part in range(parts)]
