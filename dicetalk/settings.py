"""Parameters of the sampler, the portrait, the speech and the video, with the released values as defaults."""

import math
from dataclasses import dataclass

from dicetalk.errors import SettingError
from dicetalk.parameters import Ramp, Timed, check_parameters, parameter

FPS = 12.5
"""Frames per second that the network makes; interpolation doubles it."""

EMBEDDED_SECONDS = 1.0
"""What an embedder reads at once for a track: the shortest part that it was trained on, which follows changes best."""

MAX_FPS = 120.0

SCHEDULES = ("reference", "tight", "ring")
"""Names of the window schedules of :mod:`dicetalk.denoise.windows`."""

SOLVERS = ("euler", "dpmpp_2m")
"""Names of the solvers of :mod:`dicetalk.denoise.sampler`."""


@dataclass(frozen=True)
class SamplerSettings:
    """Parameters of one sampling run.

    Each field says what it is, its range and its unit (:mod:`dicetalk.parameters`). `portrait_guidance` weighs the
    portrait against nothing (first guidance scale) and `expression_guidance` speech and emotion against the portrait
    alone (second one); `retrieval` is eq. 9-11 in place of eq. 12-13, and needs a model with a bank.

    `motion_bucket` and `expression_bucket` may change over the clip: a tuple has a number for each frame, 12.5 a
    second, of which a window has the mean. :func:`dicetalk.motion.parse.parse_motion` makes one of keyframes, lists and
    files.

    Raises:
        SettingError: a value is out of its range, or two do not go together.
    """

    steps: int = parameter(
        25,
        "denoising steps; fewer are faster and rougher",
        low=1,
        high=1000,
        in_preset=True,
        of_model=True,
        of_preset=True,
    )
    portrait_guidance: Ramp = parameter(
        3.0,
        "how strongly the portrait is followed",
        low=-100.0,
        high=100.0,
        step=0.1,
        in_preset=True,
        of_model=True,
        of_preset=True,
    )
    expression_guidance: Ramp = parameter(
        6.0,
        "how strongly speech and emotion are followed",
        low=-100.0,
        high=100.0,
        step=0.1,
        in_preset=True,
        of_model=True,
        of_preset=True,
    )
    schedule: str = parameter(
        "reference",
        "'reference' pads the clip by one window, as released DICE-Talk; 'ring' lets its end go on with its beginning, "
        "as released Sonic; 'tight' does neither, which needs fewer windows on short clips",
        choices=SCHEDULES,
        rare=True,
        in_preset=True,
        of_model=True,
        of_preset=True,
    )
    window: int = parameter(
        25,
        "frames denoised together; the released network was trained with 25",
        low=1,
        high=1000,
        rare=True,
        in_preset=True,
    )
    overlap: int = parameter(
        0,
        "frames that neighbouring windows share; more is smoother and slower",
        low=0,
        high=999,
        rare=True,
        in_preset=True,
    )
    shift: int = parameter(
        7,
        "frames by which the windows move each step",
        low=0,
        high=1000,
        rare=True,
        in_preset=True,
    )
    audio_scale: float = parameter(
        1.0, "strength of the speech adapter; 0 switches it off", low=0.0, high=10.0, step=0.05, rare=True
    )
    emotion_scale: float = parameter(
        1.0, "strength of the emotion adapter; 0 switches it off", low=0.0, high=10.0, step=0.05, rare=True
    )
    motion_bucket: Timed = parameter(
        8, "amount of head motion asked for, 0 to 255", low=0.0, high=255.0, step=1.0, rare=True
    )
    expression_bucket: Timed = parameter(
        16, "amount of facial motion asked for, 0 to 255", low=0.0, high=255.0, step=1.0, rare=True
    )
    noise_strength: float = parameter(
        1.0,
        "part of the noise range that is used; below 1 the clip stays closer to the still portrait",
        low=0.0,
        high=1.0,
        step=0.01,
        rare=True,
    )
    portrait_noise: float = parameter(
        0.0,
        "standard deviation of noise added to the portrait before it is encoded; 0 adds none",
        low=0.0,
        high=1.0,
        step=0.01,
        rare=True,
    )
    seed: int = parameter(
        0, "seed of the noise; the same seed gives the same noise on every device", low=0, high=2**64 - 1
    )
    batched_guidance: bool = parameter(
        True,
        "run the guidance branches together; off is slower and needs a third of the memory. Switched off by itself "
        "when memory runs out",
        rare=True,
        off=("one-branch-at-a-time", "run the guidance branches one after another: slower, a third of the memory"),
    )
    key_value_budget: int = parameter(
        1 << 26,
        "that projected speech and emotion tokens may occupy, each; beyond that they are projected again for every "
        "window, so that memory does not grow with the clip",
        unit="bytes",
        low=0,
        high=2**50,
        rare=True,
    )
    retrieval: bool = parameter(
        False,
        "let each emotion attend to its nearest entry of the emotion bank alone, as in training, instead of the whole "
        "bank",
        rare=True,
    )
    motion_amount: float = parameter(
        1.0,
        "factor on the motion that a network predicts from the speech, as Sonic's does (dynamic_scale)",
        low=0.0,
        high=10.0,
        step=0.05,
        rare=True,
    )

    solver: str = parameter(
        "euler",
        "how a step is made of what the network says: 'euler' as released, or 'dpmpp_2m', which looks at two steps and "
        "needs fewer (DPM-Solver++, Lu et al. 2022)",
        choices=SOLVERS,
        rare=True,
        of_preset=True,
    )
    guidance_low: float = parameter(
        0.0,
        "lowest noise level with guidance; below it the network runs once instead of once for each branch "
        "(Kynkaanniemi et al. 2024)",
        low=0.0,
        high=1000.0,
        step=0.01,
        rare=True,
        of_preset=True,
    )
    guidance_high: float = parameter(
        1000.0,
        "highest noise level with guidance; above it the network runs once",
        low=0.0,
        high=1000.0,
        step=0.01,
        rare=True,
        of_preset=True,
    )
    guidance_every: int = parameter(
        1,
        "steps for which the difference that guidance makes is used; between them each frame keeps its latest one",
        low=1,
        high=1000,
        rare=True,
        of_preset=True,
    )
    deep_every: int = parameter(
        1,
        "steps for which the features of the network's deep blocks are used; between them each frame keeps its latest "
        "ones, and only the blocks of the highest resolution run (DeepCache, Ma et al. 2024)",
        low=1,
        high=1000,
        rare=True,
        of_preset=True,
    )

    def __post_init__(self) -> None:
        check_parameters(self)
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


@dataclass(frozen=True)
class PortraitSettings:
    """How the picture is prepared (:func:`dicetalk.portrait.prepare.prepare_portrait`).

    Raises:
        SettingError: a value is out of its range.
    """

    face_index: int | None = parameter(None, "which face, 0 is the largest", low=0, high=100, nothing="the largest")
    short_side: int | None = parameter(
        None,
        "shorter side of the clip in pixels, a multiple of 64",
        low=64,
        high=2048,
        step=64,
        nothing="what the model was made for, 512 for the released one",
    )
    mask_scale: float = parameter(
        1.1,
        "size of the part that may move, relative to the face box",
        low=0.1,
        high=10.0,
        step=0.05,
        rare=True,
    )
    margin: float = parameter(
        0.5,
        "how much of the picture a crop takes on each side of the face box, as a part of the box",
        low=0.0,
        high=3.0,
        step=0.05,
    )

    def __post_init__(self) -> None:
        check_parameters(self)


@dataclass(frozen=True)
class SpeechSettings:
    """Which part of a recording is spoken, and what the network hears of it (:mod:`dicetalk.audio`).

    Raises:
        SettingError: a value is out of its range.
    """

    start: float = parameter(0.0, "of the sound to skip", unit="seconds", low=0.0, high=86400.0, step=0.01)
    duration: float | None = parameter(
        None, "to use, 0.1 or more", unit="seconds", low=0.1, high=3600.0, step=0.01, nothing="all that follows"
    )
    pad_start: float = parameter(
        0.0,
        "of silence before the speech; times of emotions count from the video's beginning",
        unit="seconds",
        low=0.0,
        high=60.0,
        step=0.01,
        rare=True,
    )
    pad_end: float = parameter(
        0.0, "of silence after the speech", unit="seconds", low=0.0, high=60.0, step=0.01, rare=True
    )
    silence_below: float | None = parameter(
        None,
        "let the network hear digital silence, which keeps the mouth shut, where the sound is fainter than this level "
        "in dB, for example -45; offsets and rumble do not count, and the video's sound stays",
        low=-120.0,
        high=0.0,
        step=1.0,
        rare=True,
        nothing="off",
    )

    def __post_init__(self) -> None:
        check_parameters(self)


@dataclass(frozen=True)
class VideoSettings:
    """How latents become a video (:func:`dicetalk.pipeline.render`, :mod:`dicetalk.video`).

    Raises:
        SettingError: a value is out of its range.
    """

    fps: float | None = parameter(
        None,
        "frames per second, 12.5 to 120, for example 24, 30, 50 or 60; the sound stays in step",
        low=FPS,
        high=MAX_FPS,
        step=0.5,
        rare=True,
        as_input="frame_rate",  # a node has an output `fps`
        nothing="25, and 12.5 for a model without RIFE",
    )
    decode_chunk: int | None = parameter(
        None,
        "frames decoded together; another number changes the pictures slightly",
        low=1,
        high=250,
        rare=True,
        nothing="what the model was made for: 10 of DICE-Talk, 8 of Sonic",
    )
    crf: int = parameter(18, "quality of an .mp4 or .webm, 0 best to 51", low=0, high=51, of_file=True)

    def __post_init__(self) -> None:
        check_parameters(self)
