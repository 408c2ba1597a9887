"""Other trainings beside the model, as in the paper's table 4."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from dicetalk.checkpoints.load import DiceModel, load_model
from dicetalk.evaluate.measures import emotion_accuracy, emotion_score, leakage, mouth_correlation, nearest_accuracy
from dicetalk.evaluate.run import Evaluation
from dicetalk.evaluate.table import format_cells


@dataclass(frozen=True)
class AblationRow:
    """One model's line.

    Args:
        model: what it is called.
        presets: part of the clips judged as asked, with preset priors.
        videos: the same with priors out of other people's clips.
        neutral: probability that the judge gives to neutral where it is asked for, with either kind of prior; mean over
            frames (with `emotional` the paper's Emo-Score and its two parts).
        emotional: that of the other emotions where they are.
        mouth: correlation of mouth and speech.
        identity: part of the frames nearest to the portrait's person.
        leak: how far other people's priors move the face towards them.
    """

    model: str
    presets: float
    videos: float
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


def load_ablation(path: Path, model: DiceModel, folder: Path) -> DiceModel:
    """Another training of the same networks.

    Args:
        path: a model folder, or a converted file with the four networks; what it lacks is taken from `folder`.
        model: the one that it is compared with; both use the same embedder.
        folder: where that one was loaded from.

    Raises:
        CheckpointError: files are missing, damaged or of another kind.
    """
    return replace(load_model(path, dtype=model.dtype, shared=[folder]), embedder=model.embedder)
