"""Pictures of an evaluation for people to look at."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dicetalk.drawn.evaluate.run import Evaluation
from dicetalk.drawn.evaluate.scores import ShotScores
from dicetalk.drawn.evaluate.takes import Shot, Take, drawn_portrait
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.evaluate.mouth import speaking_moment
from dicetalk.evaluate.seams import frame_differences, last_borders
from dicetalk.evaluate.sheet import DiagramLine, diagram, frame_grid, stacked
from dicetalk.files import explained, replacing
from dicetalk.settings import FPS

CLIPS_SHOWN, COLUMNS = 16, 2
MOUTHS_SHOWN = 4
MOMENTS = 9


def write_pictures(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write every picture that the evaluation has something for, as PNG.

    The others are removed from the folder, where an earlier evaluation wrote them.

    Raises:
        OutputError: a file cannot be written.
    """
    made = {
        "emotions": _emotions(evaluation),
        "intensities": _intensities(evaluation),
        "change": _change(evaluation),
        "mouth": _mouth(evaluation),
        "videos": _videos(evaluation),
        "seams": _seams(evaluation),
    }
    written = []
    for name, picture in made.items():
        path = folder / f"{name}.png"
        if picture is None:
            with explained(path):
                path.unlink(missing_ok=True)
            continue
        with replacing(path) as partial, explained(path):
            picture.save(partial, "PNG")
        written.append(path)
    return written


def _emotions(evaluation: Evaluation) -> Image.Image:
    """The first clips of every emotion: portrait, generated, drawn; a wrong judgement stands behind the emotion."""
    rows, captions = [], []
    for take, scores in zip(evaluation.plan.presets, evaluation.generated.presets, strict=True):
        pair = evaluation.shots[take]
        at = speaking_moment(pair.made.mouth)
        rows.append((_portrait(take, pair.made), pair.made.frames[at], pair.drawn.frames[at]))
        asked, judged = take.emotions[0], PRESET_NAMES[scores.judged]
        captions.append(("portrait", asked if asked == judged else f"{asked} ({judged}?)", "drawn"))
    return frame_grid(_side_by_side(rows[:CLIPS_SHOWN]), captions=_side_by_side(captions[:CLIPS_SHOWN]))


def _side_by_side(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows joined to rows that are longer."""
    return [sum(rows[i : i + COLUMNS], ()) for i in range(0, len(rows), COLUMNS)]


def _intensities(evaluation: Evaluation) -> Image.Image | None:
    """Each emotion at rising intensity."""
    if not evaluation.plan.weaker:
        return None
    takes = [*evaluation.plan.weaker, *evaluation.plan.presets[: len(PRESET_NAMES)]]
    levels = sorted({take.intensity for take in takes})
    rows = []
    for emotion in PRESET_NAMES[1:]:
        shots = {t.intensity: evaluation.shots[t].made for t in takes if t.emotions == (emotion,)}
        rows.append([shots[level].frames[speaking_moment(shots[level].mouth)] for level in levels])
    return frame_grid(rows, [f"{level:g}" for level in levels], PRESET_NAMES[1:])


def _change(evaluation: Evaluation) -> Image.Image | None:
    """One emotion passing into another: moments of the clip, and what is shown in every frame."""
    parts = []
    for take, scores in zip(evaluation.plan.changes, evaluation.generated.changes, strict=True):
        made = evaluation.shots[take].made
        first, last = take.emotions[0], take.emotions[-1]
        moments = np.linspace(0, len(made.frames) - 1, MOMENTS).round().astype(int)
        parts.append(frame_grid([[made.frames[i] for i in moments]], [f"{i / FPS:.1f} s" for i in moments], side=96))
        columns = [PRESET_NAMES.index(emotion) for emotion in (first, last)]
        curves = [
            DiagramLine(f"{first}, shown", scores.strengths[:, columns[0]], colour=1),
            DiagramLine("asked", scores.weights[:, columns[0]], dashed=True, colour=1),
            DiagramLine(f"{last}, shown", scores.strengths[:, columns[1]], colour=0),
            DiagramLine("asked", scores.weights[:, columns[1]], dashed=True, colour=0),
        ]
        parts.append(diagram(f"{' to '.join(take.emotions)}, identity {take.person}", curves, FPS))
    return stacked(parts) if parts else None


def _mouth(evaluation: Evaluation) -> Image.Image:
    """The mouth in the pixels against the speech."""
    shots = [*evaluation.generated.presets[:MOUTHS_SHOWN], *evaluation.generated.silent[:1]]
    return stacked([diagram(shot.take.name, _mouth_curves(shot), FPS) for shot in shots])


def _mouth_curves(shot: ShotScores) -> list[DiagramLine]:
    return [
        DiagramLine("mouth measured in the pixels", shot.mouth_shown, colour=1),
        DiagramLine("asked by the speech", shot.mouth_asked, dashed=True),
    ]


def _videos(evaluation: Evaluation) -> Image.Image | None:
    """Priors out of clips of others: the portrait, what a preset made of it and what somebody else's prior made."""
    rows = []
    for take in evaluation.plan.videos:
        preset = next(t for t in evaluation.plan.presets if (t.person, t.seed) == (take.person, take.seed))
        here, there = evaluation.shots[preset].made, evaluation.shots[take].made
        at = speaking_moment(here.mouth)
        other = _portrait(replace(take, person=take.giver), here)
        rows.append((_portrait(take, here), here.frames[at], there.frames[at], other))
    names = [take.emotions[0] for take in evaluation.plan.videos]
    return frame_grid(rows, ("portrait", "preset prior", "prior of ...", "... this person"), names) if rows else None


def _seams(evaluation: Evaluation) -> Image.Image | None:
    """Differences between neighbouring frames, with the borders of the last step's windows."""
    diagrams = []
    for take in evaluation.plan.long:
        pair = evaluation.shots[take]
        made, drawn = frame_differences(pair.made.frames), frame_differences(pair.drawn.frames)
        curves = [
            DiagramLine("difference to the frame before", np.pad(made, (1, 0)), colour=1),
            DiagramLine("drawn", np.pad(drawn, (1, 0)), dashed=True),
        ]
        title = f"{take.person} {take.emotions[0]}; vertical lines: where windows of the last step meet"
        diagrams.append(diagram(title, curves, FPS, marks=last_borders(evaluation.settings, len(made) + 1)))
    return stacked(diagrams) if diagrams else None


def _portrait(take: Take, shot: Shot) -> np.ndarray:
    return drawn_portrait(take, shot.frames.shape[1]).pixels
