"""One clip of training data: which tensors it has, what is known about it, and what of that can be wrong."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from dicetalk.audio.features import STEPS_PER_FRAME, WINDOW
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.errors import DiceTalkError

SPLITS = ("train", "val", "test")
MAX_LABEL = 200


@dataclass(frozen=True)
class TensorKind:
    """How one of a clip's tensors is stored: dtype, here and in safetensors' words; axes; whether every clip has it."""

    dtype: torch.dtype
    code: str
    axes: tuple[str, ...]
    required: bool = True


TENSORS = {
    # The order on disk: the wider a number the earlier, which keeps every tensor aligned without gaps.
    "box": TensorKind(torch.float32, "F32", ("4",)),
    "coefficients": TensorKind(torch.float16, "F16", ("frames", "coefficients"), required=False),
    "mix": TensorKind(torch.float16, "F16", ("frames", "8"), required=False),
    "mouth": TensorKind(torch.float16, "F16", ("frames",), required=False),
    "whisper": TensorKind(torch.float16, "F16", ("steps", "layers", "channels")),
    "frames": TensorKind(torch.uint8, "U8", ("frames", "height", "width", "3")),
    "portrait": TensorKind(torch.uint8, "U8", ("height", "width", "3"), required=False),
}
"""A clip's tensors: `frames` in RGB at 12.5 fps; `whisper`, the states of
:class:`dicetalk.audio.features.SpeechFeatures` with the zeros around them, at 50 Hz; `box`, the face's x, y, width and
height in pixels of `frames`, one for the clip; where somebody knows them the expression `coefficients` and the
opening of the `mouth`, 0 to 1; the `mix` of the eight presets in each frame, if the emotion changes; and a `portrait`,
where there is a picture of the person in the same scene at rest, of the size of `frames`."""

_NAME = re.compile(r"[A-Za-z0-9_.+-]{1,200}")


class DatasetError(DiceTalkError):
    """Training data is missing, damaged, or not what it is said to be."""


@dataclass(frozen=True)
class ClipLabels:
    """Record of a clip.

    Args:
        identity: who is seen.
        emotion: one of the eight presets; none for an ordinary video, whose emotion is unknown.
        intensity: of the emotion, 0 to 1; none if unknown.
        video: the video that the clip is from; several clips may be.
        split: ``train``, ``val`` or ``test``.

    Raises:
        DatasetError: a label is none of these.
    """

    identity: str
    emotion: str | None
    intensity: float | None
    video: str
    split: str

    def __post_init__(self) -> None:
        for name in ("identity", "video"):
            value = getattr(self, name)
            if not isinstance(value, str) or not 0 < len(value) <= MAX_LABEL or not value.isprintable():
                raise DatasetError(f"The {name} is {value!r:.80}: give 1 to {MAX_LABEL} printable characters.")
        if self.emotion is not None and self.emotion not in PRESET_NAMES:
            raise DatasetError(f"The emotion is {self.emotion!r:.80}: give one of {', '.join(PRESET_NAMES)}, or none.")
        strength = self.intensity
        if strength is not None and not (type(strength) in (int, float) and 0 <= strength <= 1):
            raise DatasetError(f"The intensity is {self.intensity!r:.80}: give a number from 0 to 1, or none.")
        if self.split not in SPLITS:
            raise DatasetError(f"The split is {self.split!r:.80}: give one of {', '.join(SPLITS)}.")


@dataclass(frozen=True)
class ClipRecord:
    """Where a clip lies and what it is.

    Args:
        id: its name, once in a folder.
        labels: what is known about it.
        path: the shard.
        shapes: of its tensors, by their names in :data:`TENSORS`.
    """

    id: str
    labels: ClipLabels
    path: Path
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def frames(self) -> int:
        """Length in frames."""
        return self.shapes["frames"][0]


def check_clip(record: ClipRecord) -> None:
    """Check the name and the tensors of a clip.

    Raises:
        DatasetError: the name has other characters, a tensor is missing or unknown, or shapes do not fit together.
    """
    if not _NAME.fullmatch(record.id):
        raise DatasetError(f"The clip name {record.id!r:.80} is not made of letters, digits and _.+- alone.")
    missing = [name for name, kind in TENSORS.items() if kind.required and name not in record.shapes]
    unknown = [name for name in record.shapes if name not in TENSORS]
    if missing or unknown:
        wrong = f"misses {missing[0]}" if missing else f"has an unknown tensor {unknown[0]!r:.80}"
        raise DatasetError(f"Clip {record.id} {wrong}.")
    frames = record.shapes["frames"][0] if record.shapes["frames"] else 0
    expected = {"frames": frames, "3": 3, "4": 4, "8": len(PRESET_NAMES)}
    if len(record.shapes["frames"]) == 4:
        expected |= dict(zip(("height", "width"), record.shapes["frames"][1:3], strict=True))
    for name, shape in record.shapes.items():
        axes = TENSORS[name].axes
        if len(shape) != len(axes) or any(
            size != expected.get(axis, size) or size < 1 for size, axis in zip(shape, axes, strict=True)
        ):
            raise DatasetError(
                f"{name} of clip {record.id} has shape {shape}, not ({', '.join(axes)}), frames {frames}."
            )
    steps, needed = record.shapes["whisper"][0], STEPS_PER_FRAME * (frames - 1) + WINDOW
    if steps < needed:
        raise DatasetError(f"whisper of clip {record.id} has {steps} steps; {frames} frames need {needed}.")
