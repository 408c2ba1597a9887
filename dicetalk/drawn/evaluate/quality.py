"""How good the judges are: their accuracy on drawn faces of people that they have never seen."""

import torch

from dicetalk.drawn.clips import INTENSITIES
from dicetalk.drawn.evaluate.judge_training import blurred
from dicetalk.drawn.evaluate.judges import Judges, judge_input
from dicetalk.drawn.evaluate.plan import unseen_people
from dicetalk.drawn.evaluate.scores import Gallery
from dicetalk.drawn.evaluate.snapshots import draw_snapshots
from dicetalk.evaluate.table import Row

SEED = 2
SCENES, FACES = 2, 8
SOFT = 0.8
"""Blur in pixels of a judge's picture, about as soft as what a small VAE decodes."""


@torch.no_grad()
def judge_rows(judges: Judges, gallery: Gallery, size: int) -> list[Row]:
    """Accuracy on single drawn faces, as drawn, and the people again as soft as generated ones."""
    rows = []
    people = unseen_people()
    for level in reversed(INTENSITIES):
        drawn = draw_snapshots(people, SCENES, FACES, size, SEED, level)
        crops = judge_input(drawn.crops)
        for soft in (0.0, SOFT):
            judged, _ = judges.emotions(blurred(crops, soft))
            right = (judged.argmax(dim=1).numpy() == drawn.emotions).mean()
            rows.append(Row(f"judge: emotion of single faces, intensity {level:g}{_softly(soft)}", drawn=float(right)))
            if level == 1:
                who = gallery.nearest(judges.who(blurred(crops, soft)).numpy())
                right = (who == [people[i] for i in drawn.people]).mean()
                rows.append(Row(f"judge: identity of single faces{_softly(soft)}", drawn=float(right)))
    return rows


def _softly(soft: float) -> str:
    return ", blurred" if soft else ""
