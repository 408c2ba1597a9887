"""Other trainings beside the model, as in the paper's table 4."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from dicetalk.checkpoints.load import DiceModel, load_model
from dicetalk.drawn.evaluate.measures import (
    emotion_accuracy,
    emotion_score,
    leakage,
    mouth_correlation,
    nearest_accuracy,
)
from dicetalk.drawn.evaluate.run import Evaluation
from dicetalk.evaluate.table import format_cells


@dataclass(frozen=True)
class AblationRow:
    """One model's line.

    Args:
        model: what it is called.
        presets: part of the clips judged as asked, with preset priors.
        videos: the same with priors out of other people's clips.
        score: probability that the judge gives to what was asked for, with either kind of prior; mean over frames. The
            paper's Emo-Score, by another judge.
        neutral: the same of neutral alone.
        emotional: of the other emotions.
        mouth: correlation of mouth and speech.
        identity: part of the frames nearest to the portrait's person.
        leak: how far other people's priors move the face towards them.
    """

    model: str
    presets: float
    videos: float
    score: float
    neutral: float
    emotional: float
    mouth: float
    identity: float
    leak: float


def ablation_row(model: str, evaluation: Evaluation) -> AblationRow:
    """The line of an evaluation whose plan has videos; of clips that every model is asked for."""
    scores, gallery = evaluation.generated, evaluation.gallery
    keys = {(shot.take.person, shot.take.seed) for shot in scores.videos}
    presets = [shot for shot in scores.presets if (shot.take.person, shot.take.seed) in keys]
    both = [*presets, *scores.videos]
    neutral = [shot for shot in both if shot.take.emotions[0] == "neutral"]
    return AblationRow(
        model,
        emotion_accuracy(presets),
        emotion_accuracy(scores.videos),
        emotion_score(both),
        emotion_score(neutral),
        emotion_score([shot for shot in both if shot not in neutral]),
        mouth_correlation(both),
        nearest_accuracy(both, gallery),
        leakage(scores.videos, presets, gallery),
    )


def format_ablations(rows: Sequence[AblationRow]) -> str:
    """The table of `rows`."""
    numbers = [[name, *(f"{value:.3f}" for value in rest)] for name, *rest in (asdict(row).values() for row in rows)]
    return format_cells([[field.name for field in fields(AblationRow)], *numbers])


def load_ablation(path: Path, model: DiceModel, folder: Path | str) -> DiceModel:
    """Another training of the same networks.

    Args:
        path: a model folder, or a converted file with the four networks; what it lacks is taken from `folder`.
        model: the one that it is compared with, whose embedder it uses if it has none of its own.
        folder: where that one was loaded from.

    Raises:
        CheckpointError: files are missing, damaged or of another kind.
    """
    other = load_model(path, dtype=model.dtype, shared=[folder])
    return other if other.embedder is not None else replace(other, embedder=model.embedder)
