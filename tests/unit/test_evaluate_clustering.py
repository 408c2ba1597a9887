"""Clustering strength against its definition over pairs of clips, and its invariances."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dicetalk.errors import EmotionError
from dicetalk.evaluate.clustering import clustering_strength, nearest_mean_accuracy


def clips(seed: int, identities: int, emotions: int, each: int, dim: int = 6, signal: float = 2.0):
    """Priors of `each` clips for every identity and emotion, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    who = torch.arange(identities).repeat_interleave(emotions * each)
    emotion = torch.arange(emotions).repeat_interleave(each).repeat(identities)
    directions = signal * torch.randn(emotions, dim, generator=generator)
    faces = 5 * torch.randn(identities, dim, generator=generator)
    noise = torch.randn(len(who), dim, generator=generator)
    return faces[who] + directions[emotion] + noise, emotion, who


def strength_by_pairs(priors: torch.Tensor, emotions: torch.Tensor, identities: torch.Tensor, emotion: int) -> float:
    inter, intra = [], []
    for identity in identities.unique():
        clusters = {int(e): priors[(identities == identity) & (emotions == e)] for e in emotions.unique()}
        own = clusters.pop(emotion)
        intra.append(torch.stack([(a - b).square().sum() for a, b in itertools.combinations(own, 2)]).mean())
        per_other = [
            torch.stack([(a - b).square().sum() for a in own for b in other]).mean() for other in clusters.values()
        ]
        inter.append(torch.stack(per_other).mean())
    return (torch.stack(inter).mean() / torch.stack(intra).mean()).sqrt().item()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 3), st.integers(2, 4), st.integers(2, 5))
def test_strength_is_the_ratio_over_pairs(seed: int, identities: int, emotions: int, each: int) -> None:
    priors, emotion, who = clips(seed, identities, emotions, each)
    keep = torch.ones(len(who), dtype=torch.bool)
    keep[2 if each > 2 else 0 : each : 3] = each <= 2  # unequal clusters where they are large enough
    priors, emotion, who = priors[keep].double(), emotion[keep], who[keep]
    strengths = clustering_strength(priors, emotion, who)
    assert list(strengths) == list(range(emotions))
    for e, strength in strengths.items():
        assert strength == pytest.approx(strength_by_pairs(priors, emotion, who, e), rel=1e-9)


@pytest.mark.parametrize("each", [3, 30])
def test_priors_that_know_nothing_score_one(each: int) -> None:
    priors, emotion, who = clips(0, 40, 4, each, signal=0.0)
    for strength in clustering_strength(priors, emotion, who).values():
        assert strength == pytest.approx(1, abs=0.06)


def test_strength_grows_with_separation_and_ignores_identity() -> None:
    values = []
    for signal in (0.0, 1.0, 2.0, 4.0):
        priors, emotion, who = clips(1, 6, 4, 6, signal=signal)
        values.append(sum(clustering_strength(priors, emotion, who).values()))
    assert values == sorted(values) and values[-1] > 2 * values[0]
    moved = priors + 100 * torch.randn(6, priors.shape[1], generator=torch.Generator().manual_seed(2))[who]
    assert clustering_strength(moved, emotion, who) == pytest.approx(
        clustering_strength(priors, emotion, who), rel=1e-4
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 100), st.floats(-100, 100))
def test_strength_ignores_scale_place_rotation_and_order(seed: int, scale: float, place: float) -> None:
    priors, emotion, who = clips(seed, 2, 3, 3)
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64)).Q
    order = torch.randperm(len(who), generator=generator)
    moved = (priors.double() @ rotation * scale + place)[order]
    expected = clustering_strength(priors, emotion, who)
    assert clustering_strength(moved, emotion[order], who[order]) == pytest.approx(expected, rel=1e-6)


def test_an_emotion_with_one_clip_is_compared_with_but_not_scored() -> None:
    priors = torch.tensor([[0.0], [2.0], [11.0]])
    strengths = clustering_strength(priors, torch.tensor([4, 4, 7]), torch.zeros(3, dtype=torch.long))
    assert strengths == pytest.approx({4: math.sqrt((11**2 + 9**2) / 2 / 2**2)})


def test_collapsed_clusters() -> None:
    emotion, who = torch.tensor([0, 0, 1, 1]), torch.zeros(4, dtype=torch.long)
    assert clustering_strength(torch.tensor([[0.0], [0], [1], [1]]), emotion, who) == {0: math.inf, 1: math.inf}
    assert all(math.isnan(s) for s in clustering_strength(torch.ones(4, 2), emotion, who).values())


@pytest.mark.parametrize(
    ("emotion", "who"), [([0, 0, 0], [0, 0, 0]), ([0, 1, 2], [0, 0, 0]), ([0, 0, 1], [0, 1, 0]), ([], [])]
)
def test_without_comparable_clips_there_is_no_strength(emotion: list[int], who: list[int]) -> None:
    with pytest.raises(EmotionError, match=f"in {len(who)} clips"):
        clustering_strength(torch.zeros(len(who), 2), torch.tensor(emotion).long(), torch.tensor(who).long())


def test_nearest_mean_accuracy() -> None:
    reference = torch.tensor([[0.0, 0], [2, 0], [10, 0], [10, 2]])
    labels = torch.tensor([3, 3, 9, 9])
    priors = torch.tensor([[0.0, 0], [4, 0], [6, 0], [20, 0]])
    assert nearest_mean_accuracy(priors, torch.tensor([3, 3, 9, 9]), reference, labels) == 1
    assert nearest_mean_accuracy(priors, torch.tensor([3, 3, 3, 9]), reference, labels) == 0.75
    assert nearest_mean_accuracy(priors, torch.tensor([3, 3, 5, 9]), reference, labels) == 0.75  # 5 has no mean
