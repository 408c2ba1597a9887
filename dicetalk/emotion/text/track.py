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
from dicetalk.hooks import SILENT, Hooks

FADE_SECONDS = 0.4
"""How long a face takes from one emotion to the next, half of it before the word."""

PAUSE_SECONDS = 0.12
"""A shorter silence may be inside a word."""

SNAP_SECONDS = 1.5
"""A change moves to a pause not farther than this: tags stand between sentences, and nobody speaks at an even pace."""

ONE_MOMENT_SECONDS = 0.001
"""Changes nearer to one another than this come at the same time; subtitles count milliseconds."""

TOLD_REMARKS = 3
"""How many of the brackets that are left alone a notice names."""

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


def subtitle_track(cues: Sequence[Cue], priors: Mapping[str, EmotionPrior], hooks: Hooks = SILENT) -> EmotionTrack:
    """The emotions of subtitles with tags; an emotion holds until the next tag, also in another subtitle.

    Tags inside a subtitle are spread over its time by letters. Brackets that are no emotion, as ``[music]``, are usual
    in subtitles: they are left alone.

    Args:
        cues: in order of time.
        priors: the eight presets by name.
        hooks: hears of brackets that were left alone.

    Raises:
        EmotionError: no subtitle has an emotion, a bracket is left open, or a preset is missing.
    """
    timed: list[TimedEmotion] = []
    remarks: list[str] = []
    for number, cue in enumerate(cues, start=1):
        where = f"subtitle {number} (at {cue.start:g} s)"
        try:
            parts = parse_tagged(cue.text, lambda tag, _, where=where: remarks.append(f"[{tag[:40]}] of {where}"))
        except EmotionError as error:
            raise EmotionError(f"{where[0].upper()}{where[1:]}: {error}") from error
        total = sum(part.length for part in parts)
        before = 0.0
        for part in parts:
            if part.weights is not None:
                timed.append((cue.start + (cue.end - cue.start) * before / max(total, 1.0), part.weights))
            before += part.length
    timed.sort(key=lambda entry: entry[0])  # subtitles of two speakers overlap
    told = ", ".join(remarks[:TOLD_REMARKS])
    if len(remarks) > TOLD_REMARKS:
        told += f" and {len(remarks) - TOLD_REMARKS} more"
    if not timed:
        found = f" These are none: {told}." if remarks else ""
        raise EmotionError(f"No subtitle has an emotion. Write tags into them, as [happy 0.8] Good morning!{found}")
    if remarks:
        hooks.notice(f"Brackets that are no emotion are left alone: {told}.")
    return fade_track(timed if timed[0][0] <= 0 else [(0.0, {}), *timed], priors)


def spread(parts: Sequence[TaggedText], voice: VoiceFeatures) -> list[TimedEmotion]:
    """When each part of a tagged text starts, if `voice` says it; the first starts at 0 s.

    Each moves to a pause no farther than half way to its neighbours, so that no two meet in one pause. Where nobody
    speaks, the parts are spread over the silence.
    """
    active = voice.active if voice.active.any() else np.ones(len(voice), dtype=bool)
    total = sum(part.length for part in parts)
    before = np.cumsum([0.0] + [part.length for part in parts[:-1]])
    # Parts in which nothing is said start together with the next one.
    said, index = np.unique(before / max(total, 1.0), return_inverse=True)
    moments = _moments_of_speech(active, said)
    snapped = moments.copy()
    for i in range(1, len(said)):
        if said[i] < 1:  # what stands behind the last word stays there
            after = moments[i + 1] if i + 1 < len(said) else np.inf
            snapped[i] = _snapped(moments[i], (moments[i - 1] + moments[i]) / 2, (moments[i] + after) / 2, active)
    snapped[0] = 0.0
    return [(float(moment), part.weights or {}) for moment, part in zip(snapped[index], parts, strict=True)]


def fade_track(timed: Sequence[TimedEmotion], priors: Mapping[str, EmotionPrior]) -> EmotionTrack:
    """A track that goes smoothly from each emotion to the next around the moment when that one starts.

    Args:
        timed: in order of time; of those at one moment the last counts.
        priors: the eight presets by name.

    Raises:
        EmotionError: an emotion or a preset is unknown, or a weight is out of range.
    """
    # The end of one subtitle is the start of the next, whatever their sums are rounded to.
    apart: list[TimedEmotion] = []
    for start, weights in timed:
        if apart and start - apart[-1][0] < ONE_MOMENT_SECONDS:
            apart[-1] = apart[-1][0], weights
        else:
            apart.append((start, weights))
    starts = [start for start, _ in apart]
    made = [mix(weights, priors) for _, weights in apart]
    keyframes = [Keyframe(0.0, made[0], "smooth")]
    for i in range(1, len(starts)):
        following = starts[i + 1] if i + 1 < len(starts) else float("inf")
        # Two changes in quick succession share the time between them.
        fade = min(FADE_SECONDS, 0.9 * (starts[i] - starts[i - 1]), 0.9 * (following - starts[i]))
        keyframes.append(Keyframe(starts[i] - fade / 2, made[i - 1], "smooth"))
        keyframes.append(Keyframe(starts[i] + fade / 2, made[i], "smooth"))
    return EmotionTrack(tuple(keyframes))


def _moments_of_speech(active: np.ndarray, said: np.ndarray) -> np.ndarray:
    """When the parts `said` (0 to 1) of what is said in the `active` steps are over, in seconds."""
    steps = np.flatnonzero(active)
    places = said * len(steps)
    whole = np.minimum(places.astype(int), len(steps) - 1)
    return (steps[whole] + places - whole) / STEPS_PER_SECOND


def _snapped(moment: float, earliest: float, latest: float, active: np.ndarray) -> float:
    """The middle of the pause after `earliest`, up to `latest`, that attracts `moment` most; itself if none does."""
    middles, lengths = _pauses(active)
    distances = np.abs(middles - moment)
    near = (distances < SNAP_SECONDS) & (middles > earliest) & (middles <= latest)
    # A long pause attracts from far, a short one only from close by.
    attraction = np.where(near, lengths**2 / (0.3 + distances), 0)
    return float(middles[attraction.argmax()]) if attraction.any() else float(moment)


def _pauses(active: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Middles and lengths, in seconds, of the silences between two stretches of speech."""
    edges = np.diff(active.astype(np.int8))
    ends, starts = np.flatnonzero(edges == -1) + 1, np.flatnonzero(edges == 1) + 1
    starts = starts[starts > ends[0]] if len(ends) else starts[:0]
    ends = ends[: len(starts)]
    lengths = (starts - ends) / STEPS_PER_SECOND
    long = lengths >= PAUSE_SECONDS
    return (starts + ends)[long] / 2 / STEPS_PER_SECOND, lengths[long]
