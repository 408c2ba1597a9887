"""Tracks whose values are kept in ``unit/data/emotion_tracks.json``; run this file to write them again.

The presets differ from neutral by 2 in one number each, so that the weights of a track can be read off it.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from dicetalk.emotion.algebra import add, interpolate, limit, resample, scale, smooth, weighted_mix
from dicetalk.emotion.compare import FEELINGS
from dicetalk.emotion.files import parse_track
from dicetalk.emotion.mix import mix
from dicetalk.emotion.prior import EmotionPrior
from dicetalk.emotion.text.subtitles import parse_subtitles
from dicetalk.emotion.text.track import subtitle_track
from dicetalk.emotion.track import Curve, EmotionTrack, Keyframe

STORED = Path(__file__).parent / "unit" / "data" / "emotion_tracks.json"
FRAMES = 30
STEP = 2.0

_neutral = torch.linspace(-1, 1, 256)
PRIORS = {"neutral": EmotionPrior(_neutral, name="neutral")} | {
    name: EmotionPrior(_neutral + STEP * torch.eye(256)[i], name=name) for i, name in enumerate(FEELINGS)
}
NEUTRAL = PRIORS["neutral"]


def constant(**weights: float) -> EmotionTrack:
    return EmotionTrack.constant(mix(weights, PRIORS))


def keyframes(*entries: tuple[float, str, str]) -> EmotionTrack:
    return EmotionTrack(tuple(Keyframe(seconds, PRIORS[name], easing) for seconds, name, easing in entries))


BENT = keyframes((0.3, "happy", "smooth"), (1.1, "angry", "ease-out"), (1.7, "sad", "hold"), (2.0, "neutral", "linear"))
SUBTITLES = """1
00:00:00,000 --> 00:00:01,000
[happy 0.8] Good morning!

2
00:00:01,200 --> 00:00:02,200
It rains [a little annoyed] all day
"""

RECIPES: dict[str, Callable[[], EmotionTrack]] = {
    "easings": lambda: BENT,
    "json": lambda: parse_track({"values": ["happy:0.5+sad:0.5", {"angry": 1.5}, "neutral"], "fps": 1.25}, PRIORS),
    "weighted mix": lambda: weighted_mix([(BENT, 0.5), (constant(fear=1.0), 0.25)], NEUTRAL),
    "weight that changes": lambda: scale(constant(happy=1.0), Curve([0.4, 1.6], [0.2, 1.8]), NEUTRAL),
    "two bent tracks": lambda: add(BENT, keyframes((0, "fear", "ease-in"), (2.1, "contempt", "linear")), NEUTRAL),
    "straight": lambda: interpolate(constant(happy=1), constant(sad=0.5), Curve([0, 2], [0, 1]), NEUTRAL),
    "sphere": lambda: interpolate(constant(happy=1), constant(sad=0.5), Curve([0, 2], [0, 1]), NEUTRAL, "sphere"),
    "limit": lambda: limit(scale(BENT, 1.5, NEUTRAL), STEP, NEUTRAL),
    "smooth": lambda: smooth(BENT, 0.2),
    "resampled": lambda: resample(BENT, 3.0),
    "subtitles": lambda: subtitle_track(parse_subtitles(SUBTITLES), PRIORS),
}


def values(track: EmotionTrack) -> np.ndarray:
    """Weights of the seven presets in every frame, ``(FRAMES, 7)``; anything else in the track is an error."""
    rows, index = track.priors(FRAMES)
    difference = (rows[index] - NEUTRAL.mu) / STEP
    assert difference[:, len(FEELINGS) :].abs().max() < 1e-6
    return difference[:, : len(FEELINGS)].numpy()


if __name__ == "__main__":
    stored = {name: (values(make()).astype(float).round(5) + 0.0).tolist() for name, make in RECIPES.items()}
    lines = [
        f" {json.dumps(name)}: [\n  " + ",\n  ".join(map(json.dumps, rows)) + "\n ]" for name, rows in stored.items()
    ]
    STORED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
