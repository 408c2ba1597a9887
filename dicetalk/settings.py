"""Every parameter of the sampler, with the released values as defaults."""

import math
from dataclasses import dataclass, fields
from typing import Any

from dicetalk.errors import SettingError

FPS = 12.5
"""Frames per second that the network makes; interpolation doubles it."""

EMBEDDED_SECONDS = 1.0
"""What an embedder reads at once for a track: the shortest part that it was trained on, which follows changes best."""

SCHEDULES = ("reference", "tight")
"""Names of the window schedules of :mod:`dicetalk.denoise.windows`."""

Ramp = float | tuple[float, float]
"""A guidance scale: one number, or its values at the first and the last step."""

_RANGES: dict[str, tuple[float, float]] = {
    "steps": (1, 1000),
    "window": (1, 1000),
    "overlap": (0, 999),
    "shift": (0, 1000),
    "audio_scale": (0, 10),
    "emotion_scale": (0, 10),
    "motion_bucket": (0, 255),
    "expression_bucket": (0, 255),
    "noise_strength": (0, 1),
    "portrait_noise": (0, 1),
    "seed": (0, 2**64 - 1),
    "key_value_budget": (0, 2**50),
}


@dataclass(frozen=True)
class SamplerSettings:
    """Parameters of one sampling run.

    Args:
        steps: Euler steps over the whole noise range.
        window: frames denoised together.
        overlap: frames that neighbouring windows share.
        shift: frames by which the windows move each step.
        schedule: ``reference`` pads the clip by one window and turns the windows as a ring, as released; ``tight``
            covers the clip alone, which needs fewer windows on short clips.
        portrait_guidance: weight of the portrait against nothing (first guidance scale).
        expression_guidance: weight of speech and emotion against the portrait alone (second guidance scale).
        audio_scale: factor on the audio adapter.
        emotion_scale: factor on the emotion adapter.
        motion_bucket: amount of head motion that the network is asked for.
        expression_bucket: amount of facial motion that the network is asked for.
        noise_strength: part of the noise range that is used; below 1 the clip starts closer to the still portrait.
        portrait_noise: standard deviation of noise added to the portrait before it is encoded.
        seed: of the noise, drawn on the CPU, so that it is the same on every device.
        batched_guidance: run the guidance branches as one batch; off is slower and needs less memory.
        key_value_budget: bytes that projected speech and emotion tokens may occupy per adapter. A clip that needs more
            has them projected again for every window, so that memory does not grow with its length.
        retrieval: let each emotion attend to its nearest bank entry alone, as in training (eq. 9-11), instead of the
            whole bank (eq. 12-13); the release's config has it off. Has an influence only on models with a bank.

    Raises:
        SettingError: a value is out of its range.
    """

    steps: int = 25
    window: int = 25
    overlap: int = 0
    shift: int = 7
    schedule: str = "reference"
    portrait_guidance: Ramp = 3.0
    expression_guidance: Ramp = 6.0
    audio_scale: float = 1.0
    emotion_scale: float = 1.0
    motion_bucket: float = 8
    expression_bucket: float = 16
    noise_strength: float = 1.0
    portrait_noise: float = 0.0
    seed: int = 0
    batched_guidance: bool = True
    key_value_budget: int = 1 << 30
    retrieval: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _RANGES:
                _check_number(
                    field.name, value, *_RANGES[field.name], whole=isinstance(field.default, int) and field.type is int
                )
        for name in ("portrait_guidance", "expression_guidance"):
            for value in ramp_ends(getattr(self, name)):
                _check_number(name, value, -100, 100)
        if self.schedule not in SCHEDULES:
            raise SettingError(f"schedule {self.schedule!r} is unknown. Choose one of: {', '.join(SCHEDULES)}.")
        if self.overlap >= self.window:
            raise SettingError(f"overlap {self.overlap} must be smaller than the window of {self.window} frames.")
        if self.steps_run == 0:
            raise SettingError(
                f"noise_strength {self.noise_strength} leaves no step of {self.steps}. "
                f"Raise it to at least {math.ceil(1000 / self.steps) / 1000:g}, or raise steps."
            )

    @property
    def steps_run(self) -> int:
        """Steps that remain after `noise_strength`."""
        # 50 * 0.58 is a little less than 29 in binary.
        return min(math.floor(self.steps * self.noise_strength + 1e-9), self.steps)


def ramp_ends(ramp: Ramp) -> tuple[float, float]:
    """First and last value of a guidance scale."""
    return ramp if isinstance(ramp, tuple) else (ramp, ramp)


def ramp_values(ramp: Ramp, steps: int) -> list[float]:
    """Guidance scale at each of `steps` steps, linear between its ends."""
    first, last = ramp_ends(ramp)
    if first == last or steps == 1:
        return [first] * steps
    return [first + (last - first) * step / (steps - 1) for step in range(steps)]


def _check_number(name: str, value: Any, low: float, high: float, whole: bool = False) -> None:
    kinds = int if whole else (int, float)
    if not isinstance(value, kinds) or isinstance(value, bool) or not low <= value <= high:  # NaN is in no range
        kind = "a whole number" if whole else "a number"
        raise SettingError(f"{name} is {value!r}: give {kind} from {low} to {high}.")
