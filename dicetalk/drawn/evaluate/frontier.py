"""Quality against passes of the network: the same clips under several sampler settings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from dicetalk.bench.count import PassCounter
from dicetalk.drawn.evaluate.judges import Judges
from dicetalk.drawn.evaluate.measures import emotion_accuracy, emotion_score, mouth_correlation, nearest_accuracy, seams
from dicetalk.drawn.evaluate.plan import Plan
from dicetalk.drawn.evaluate.run import Make
from dicetalk.drawn.evaluate.scores import Gallery, score_shot
from dicetalk.drawn.evaluate.takes import Say, Shot, Sound, Take, spoken
from dicetalk.evaluate.likeness import peak_signal_to_noise, structural_similarity
from dicetalk.evaluate.seams import frame_differences, last_borders
from dicetalk.evaluate.sheet import COLOURS, INK, PAPER, RULE
from dicetalk.evaluate.table import format_cells
from dicetalk.hooks import SILENT, Hooks
from dicetalk.presets import EXACT, PRESETS, with_preset
from dicetalk.settings import SamplerSettings

ALONE: Mapping[str, dict[str, Any]] = {
    "half the steps": {"steps": "half"},
    "dpmpp_2m": {"solver": "dpmpp_2m"},
    "dpmpp_2m, half the steps": {"solver": "dpmpp_2m", "steps": "half"},
    "tight windows": {"schedule": "tight"},
    "guidance_every 2": {"guidance_every": 2},
    "guidance_every 3": {"guidance_every": 3},
    "guidance_low 0.5": {"guidance_low": 0.5},
    "guidance_high 5": {"guidance_high": 5.0},
    "deep_every 2": {"deep_every": 2},
}
"""Each technique alone; ``half`` stands for half of the model's steps."""

EQUAL = 100.0
"""PSNR of equal clips, for a table."""


def frontier_settings(made_for: SamplerSettings) -> dict[str, SamplerSettings]:
    """What is compared, by name: ``exact`` first, each technique alone, and the other presets."""
    half = {"steps": max(made_for.steps // 2, 1)}
    alone = {
        name: replace(made_for, **(changes | half if changes.get("steps") == "half" else changes))
        for name, changes in ALONE.items()
    }
    presets = {name: with_preset(made_for, name) for name in PRESETS}
    return {EXACT: presets.pop(EXACT)} | alone | presets


def frontier_plan(plan: Plan) -> list[Take]:
    """One clip of each emotion, and one of several windows."""
    return [*plan.presets, *plan.long[:1]]


@dataclass(frozen=True)
class FrontierRow:
    """One setting's line.

    Args:
        setting: its name.
        passes: of the network for each frame of the clips, padding counted.
        mouth: correlation of mouth and speech.
        emotion: part of the clips judged as asked.
        score: probability that the judge gives to what was asked for.
        identity: part of the frames nearest to the portrait's person.
        jump: largest difference between neighbouring frames, 0 to 255, mean over the clips.
        seams: difference at borders of windows relative to elsewhere.
        psnr: in dB, to the clips of the first setting.
        ssim: likewise.
    """

    setting: str
    passes: float
    mouth: float
    emotion: float
    score: float
    identity: float
    jump: float
    seams: float
    psnr: float
    ssim: float


def frontier(
    make: Callable[[SamplerSettings], Make],
    unet: nn.Module,
    settings: Mapping[str, SamplerSettings],
    takes: Sequence[Take],
    judges: Judges,
    gallery: Gallery,
    *,
    say: Say = spoken,
    hooks: Hooks = SILENT,
) -> list[FrontierRow]:
    """Make and measure the same takes under each setting.

    Args:
        make: the maker of a setting.
        unet: that it runs, whose passes are counted.
        settings: by name; the others are compared with the first.
        takes: with speech, some of several windows.
        judges: trained.
        gallery: the people that faces are compared with.
        say: speaks for a take.
        hooks: progress of `clips`.

    Raises:
        SpeechError: espeak-ng is missing or fails.
    """
    sounds: list[Sound] = [say(take) for take in takes]
    rows: list[FrontierRow] = []
    first: list[Shot] = []
    for number, (name, setting) in enumerate(settings.items()):
        one, shots = make(setting), []
        with PassCounter(unet) as passes:
            for place, (take, sound) in enumerate(zip(takes, sounds, strict=True)):
                hooks.check()
                shots.append(one(take, sound))
                hooks.report("clips", number * len(takes) + place + 1, len(settings) * len(takes))
        first = first or shots
        scores = [score_shot(shot, judges, last_borders(setting, len(shot.frames))) for shot in shots]
        likeness = np.mean(
            [likeness_of(shot.frames, other.frames) for shot, other in zip(shots, first, strict=True)], 0
        )
        rows.append(
            FrontierRow(
                name,
                (passes.whole + passes.shallow) / sum(len(shot.frames) for shot in shots),
                mouth_correlation(scores),
                emotion_accuracy(scores),
                emotion_score(scores),
                nearest_accuracy(scores, gallery),
                float(np.mean([frame_differences(shot.frames).max() for shot in shots])),
                seams(scores)[0],
                *map(float, likeness),
            )
        )
    return rows


def likeness_of(frames: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """PSNR in dB, at most :data:`EQUAL`, and SSIM of uint8 ``(N, H, W, 3)``."""
    return min(EQUAL, peak_signal_to_noise(frames, others)), structural_similarity(frames, others)


def format_frontier(rows: Sequence[FrontierRow]) -> str:
    """The table of `rows`."""
    cells = [[row.setting, *(f"{getattr(row, field.name):.3f}" for field in fields(row)[1:])] for row in rows]
    return format_cells([[field.name for field in fields(FrontierRow)], *cells])


WIDTH, HEIGHT, LEFT, TOP, RIGHT = 900, 460, 70, 50, 210
SHOWN = ("mouth", "score", "identity", "ssim")
FINENESS = 3


def frontier_picture(rows: Sequence[FrontierRow]) -> Image.Image:
    """Measures of each setting, as points over its passes, with names under the axis."""
    picture = Image.new("RGB", (WIDTH * FINENESS, HEIGHT * FINENESS), PAPER)
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(13 * FINENESS)
    values = [getattr(row, name) for row in rows for name in SHOWN]
    low, high = min(0.5, *values), 1.0
    most = max(row.passes for row in rows) * 1.05

    def at(passes: float, value: float) -> tuple[float, float]:
        x = LEFT + passes / most * (WIDTH - LEFT - RIGHT)
        y = TOP + (high - value) / (high - low) * (HEIGHT - 2 * TOP)
        return x * FINENESS, y * FINENESS

    for value in np.linspace(low, high, 6):
        pen.line([at(0, value), at(most, value)], RULE, FINENESS)
        pen.text((at(0, value)[0] - 8 * FINENESS, at(0, value)[1]), f"{value:.2f}", INK, font, "rm")
    for mark in range(0, int(most) + 1, max(1, round(most / 8))):
        pen.text((at(mark, low)[0], at(0, low)[1] + 12 * FINENESS), str(mark), INK, font, "mm")
    pen.text((at(most / 2, low)[0], (HEIGHT - 14) * FINENESS), "passes of the network for a frame", INK, font, "mm")
    for place, name in enumerate(SHOWN):
        points = sorted((row.passes, getattr(row, name), row.setting) for row in rows)
        for passes, value, setting in points:
            x, y = at(passes, value)
            size = (6 if setting in PRESETS else 3) * FINENESS
            pen.ellipse([x - size, y - size, x + size, y + size], COLOURS[place])
        ends = [at(passes, value) for passes, value, setting in points if setting in PRESETS]
        pen.line(ends, COLOURS[place], FINENESS)
        pen.text(((WIDTH - RIGHT + 20) * FINENESS, (TOP + 24 * place) * FINENESS), name, COLOURS[place], font, "lm")
    pen.text((LEFT * FINENESS, TOP / 2 * FINENESS), "large points: presets; small: single settings", INK, font, "lm")
    return picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
