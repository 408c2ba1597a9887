"""Words and times become an emotion track."""

from collections.abc import Mapping, Sequence

import numpy as np

from dicetalk.emotion.mix import mix
from dicetalk.emotion.prior import EmotionPrior
from dicetalk.emotion.text.subtitles import Cue
from dicetalk.emotion.text.tagged import TaggedText, parse_tagged
from dicetalk.emotion.track import EmotionTrack, Keyframe
from dicetalk.emotion.voice.features import STEPS_PER_SECOND, VoiceFeatures
from dicetalk.errors import EmotionError

FADE_SECONDS = 0.4
"""How long a face takes from one emotion to the next, half of it before the word."""

PAUSE_SECONDS = 0.12
"""A shorter silence may be inside a word."""

SNAP_SECONDS = 1.5
"""A change moves to a pause not farther than this: tags stand between sentences, and nobody speaks at an even pace."""

TimedEmotion = tuple[float, Mapping[str, float]]
"""When an emotion starts, in seconds, and its weights."""


def tagged_track(text: str, voice: VoiceFeatures, priors: Mapping[str, EmotionPrior]) -> EmotionTrack:
    """The emotions of a tagged text, spread over the speech that says it.

    Each part takes its share, by letters, of the time in which somebody speaks; changes move to a pause nearby.

    Args:
        text: see :func:`dicetalk.emotion.text.tagged.parse_tagged`; neutral before the first tag.
        voice: the speech, measured.
        priors: the eight presets by name.

    Raises:
        EmotionError: the text cannot be read, or a preset is missing.
    """
    return fade_track(spread(parse_tagged(text), voice), priors)


def subtitle_track(cues: Sequence[Cue], priors: Mapping[str, EmotionPrior]) -> EmotionTrack:
    """The emotions of subtitles with tags; an emotion holds until the next tag, also in another subtitle.

    Tags inside a subtitle are spread over its time by letters.

    Raises:
        EmotionError: no subtitle has a tag, a tag cannot be read, or a preset is missing.
    """
    timed: list[TimedEmotion] = []
    for cue in cues:
        parts = parse_tagged(cue.text)
        total = sum(part.length for part in parts)
        before = 0.0
        for part in parts:
            if part.weights is not None:
                timed.append((cue.start + (cue.end - cue.start) * before / max(total, 1.0), part.weights))
            before += part.length
    if not timed:
        raise EmotionError("No subtitle has an emotion. Write tags into them, as [happy 0.8] Good morning!")
    return fade_track(timed if timed[0][0] <= 0 else [(0.0, {}), *timed], priors)


def spread(parts: Sequence[TaggedText], voice: VoiceFeatures) -> list[TimedEmotion]:
    """When each part of a tagged text starts, if `voice` says it; the first starts at 0 s.

    Where nobody speaks, the parts are spread over the silence.
    """
    active = voice.active if voice.active.any() else np.ones(len(voice), dtype=bool)
    steps = np.flatnonzero(active)
    middles, lengths = _pauses(active)
    total = max(sum(part.length for part in parts), 1.0)
    said = np.cumsum([part.length for part in parts])
    timed: list[TimedEmotion] = [(0.0, parts[0].weights or {})]
    for part, before in zip(parts[1:], said[:-1], strict=True):
        moment = steps[min(int(before / total * len(steps)), len(steps) - 1)] / STEPS_PER_SECOND
        distances = np.abs(middles - moment)
        # A long pause attracts from far, a short one only from close by.
        attraction = np.where(distances < SNAP_SECONDS, lengths**2 / (0.3 + distances), 0)
        if attraction.any():
            moment = middles[attraction.argmax()]
        timed.append((max(float(moment), timed[-1][0]), part.weights or {}))
    return timed


def fade_track(timed: Sequence[TimedEmotion], priors: Mapping[str, EmotionPrior]) -> EmotionTrack:
    """A track that goes smoothly from each emotion to the next around the moment when that one starts.

    Args:
        timed: in order of time; of those at one moment the last counts.
        priors: the eight presets by name.

    Raises:
        EmotionError: an emotion or a preset is unknown, or a weight is out of range.
    """
    latest = dict(timed)
    starts = sorted(latest)
    made = [mix(latest[start], priors) for start in starts]
    keyframes = [Keyframe(0.0, made[0], "smooth")]
    for i in range(1, len(starts)):
        following = starts[i + 1] if i + 1 < len(starts) else float("inf")
        # Two changes in quick succession share the time between them.
        fade = min(FADE_SECONDS, 0.9 * (starts[i] - starts[i - 1]), 0.9 * (following - starts[i]))
        keyframes.append(Keyframe(starts[i] - fade / 2, made[i - 1], "smooth"))
        keyframes.append(Keyframe(starts[i] + fade / 2, made[i], "smooth"))
    return EmotionTrack(tuple(keyframes))


def _pauses(active: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Middles and lengths, in seconds, of the silences between two stretches of speech."""
    edges = np.diff(active.astype(np.int8))
    ends, starts = np.flatnonzero(edges == -1) + 1, np.flatnonzero(edges == 1) + 1
    starts = starts[starts > ends[0]] if len(ends) else starts[:0]
    ends = ends[: len(starts)]
    lengths = (starts - ends) / STEPS_PER_SECOND
    long = lengths >= PAUSE_SECONDS
    return (starts + ends)[long] / 2 / STEPS_PER_SECOND, lengths[long]
