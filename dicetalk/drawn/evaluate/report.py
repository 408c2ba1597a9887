"""An evaluation as JSON."""

import math
from typing import Any

import numpy as np

from dicetalk.drawn.evaluate.measures import change_curve, confusion, same_but_weaker, strengths_by_intensity
from dicetalk.drawn.evaluate.run import Evaluation
from dicetalk.drawn.evaluate.scores import Gallery, ShotScores
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.evaluate.mouth import MAX_LAG, best_lag
from dicetalk.evaluate.table import Row

DIGITS = 4


def as_json(evaluation: Evaluation, rows: list[Row]) -> dict[str, Any]:
    """Everything that was measured, plain enough for JSON; what there is no number for is null."""
    scores = evaluation.generated
    return _plain(
        {
            "rows": [vars(row) | {"passed": row.passed} for row in rows],
            "settings": vars(evaluation.settings),
            "emotions": list(PRESET_NAMES),
            "confusion": confusion(scores.presets),
            "strengths_by_intensity": strengths_by_intensity(same_but_weaker(scores)),
            "changes": [
                {"clip": shot.take.name, "asked": asked, "shown": shown}
                for shot in scores.changes
                for asked, shown in [change_curve(shot)]
            ],
            "clips": [_clip(shot, evaluation.gallery) for shot in scores.shots],
        }
    )


def _clip(shot: ShotScores, gallery: Gallery) -> dict[str, Any]:
    clip = {
        "clip": shot.take.name,
        "judged": PRESET_NAMES[shot.judged],
        "strengths": shot.strengths.mean(axis=0),
        "frames_of_the_person": (gallery.nearest(shot.faces) == shot.take.person).mean(),
        "seam": shot.seam,
    }
    if shot.take.sentences:
        clip |= {"mouth_correlation": shot.lags[MAX_LAG], "mouth_lag_frames": best_lag([shot.lags])}
    return clip


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (float, np.floating)):
        return None if math.isnan(value) else round(float(value), DIGITS)
    return value
