"""Words and times become an emotion track."""

import bisect
import math
from collections.abc import Mapping, Sequence

import numpy as np

from dicetalk.emotion.mix import mix_all
from dicetalk.emotion.prior import EmotionPrior
from dicetalk.emotion.text.subtitles import Cue
from dicetalk.emotion.text.tagged import (
    TaggedText,
    letters_before,
    line_of,
    parse_tagged,
    plain_brackets,
    without_words,
)
from dicetalk.emotion.track import EmotionTrack, Keyframe
from dicetalk.emotion.voice.features import STEPS_PER_SECOND, VoiceFeatures
from dicetalk.errors import EmotionError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.media import listed

FADE_SECONDS = 0.4
"""How long a face takes from one emotion to the next, half of it before the word."""

PAUSE_SECONDS = 0.12
"""A shorter silence may be inside a word."""

SNAP_SECONDS = 1.5
"""A change moves to a pause not farther than this: tags stand between sentences, and nobody speaks at an even pace."""

ONE_MOMENT_SECONDS = 0.001
"""Changes nearer to one another than this come at the same time; subtitles count milliseconds."""

TOLD_REMARKS = 3
"""How many of the things that are left out a notice names."""

TimedEmotion = tuple[float, Mapping[str, float]]
"""When an emotion starts, in seconds, and its weights."""


def tagged_track(
    text: str, voice: VoiceFeatures, priors: Mapping[str, EmotionPrior], hooks: Hooks = SILENT
) -> EmotionTrack:
    """The emotions of a tagged text, spread over the speech that says it.

    Each part takes its share, by letters, of the time in which somebody speaks; changes move to a pause nearby.

    Args:
        text: see :func:`dicetalk.emotion.text.tagged.parse_tagged`; neutral before the first tag.
        voice: the speech, measured.
        priors: the eight presets by name.
        hooks: hears of tags that are never seen.

    Raises:
        EmotionError: the text cannot be read or has no tag, or a preset is missing.
    """
    parts = parse_tagged(text)
    if all(part.weights is None for part in parts):
        raise EmotionError(
            "The text has no tag, so the whole speech would be neutral. Write tags into it, as [happy 0.8] Good "
            "morning! in brackets, or give the emotion alone."
        )
    timed = spread(parts, voice)
    seconds = len(voice) / STEPS_PER_SECOND
    late = [part for part, (start, _) in zip(parts, timed, strict=True) if part.weights and start >= seconds - 1e-6]
    unseen = without_words(parts)
    unseen += [part for part in late if part not in unseen]
    if unseen:
        lines = [f"[{part.tag[:40]}] in line {line_of(text, part.at)}" for part in unseen]
        hooks.notice(f"Tags after which nothing is said are not used: {listed(lines, TOLD_REMARKS)}.")
    return fade_track(timed, priors)


def subtitle_track(
    cues: Sequence[Cue],
    priors: Mapping[str, EmotionPrior],
    hooks: Hooks = SILENT,
    seconds: float = math.inf,
) -> EmotionTrack:
    """The emotions of subtitles with tags; an emotion holds until the next tag, also in another subtitle.

    Tags inside a subtitle are spread over its time by letters, between the words whose times it gives. Brackets that
    are no emotion, as ``[music]``, are usual in subtitles: they are left alone.

    Args:
        cues: in order of time.
        priors: the eight presets by name.
        hooks: hears of brackets that were left alone and of tags that are never seen.
        seconds: how long the speech is.

    Raises:
        EmotionError: no subtitle has an emotion, or none before the end of the speech; a bracket is left open; or a
            preset is missing.
    """
    timed: list[TimedEmotion] = []
    alone: list[str] = []
    unseen: list[str] = []
    for number, cue in enumerate(cues, start=1):
        line = f"line {cue.line}, " if cue.line else ""
        where = f"subtitle {number} ({line}at {cue.start:g} s)"

        def leave(tag: str, _: EmotionError, where: str = where) -> None:
            alone.append(f"[{tag[:40]}] of {where}")

        try:
            parts = parse_tagged(cue.text, leave)
        except EmotionError as error:
            raise EmotionError(f"{where[0].upper()}{where[1:]}: {error}") from error
        unseen += [f"[{part.tag[:40]}] of {where}, after which nothing is said" for part in without_words(parts)]
        for start, part in zip(_starts(cue, parts), parts, strict=True):
            if part.weights is not None:
                timed.append((start, part.weights))
                if start >= seconds:
                    unseen.append(f"[{part.tag[:40]}] of {where}, after the end of the speech at {seconds:.2f} s")
    timed.sort(key=lambda entry: entry[0])  # subtitles of two speakers overlap
    if not timed:
        found = f" These are none: {listed(alone, TOLD_REMARKS)}." if alone else ""
        raise EmotionError(f"No subtitle has an emotion. Write tags into them, as [happy 0.8] Good morning!{found}")
    if timed[0][0] >= seconds:
        raise EmotionError(
            f"The first emotion of the subtitles starts at {timed[0][0]:g} s, after the end of the speech, which is "
            f"{seconds:.2f} s long. Are they those of this speech?"
        )
    if alone:
        hooks.notice(f"Brackets that are no emotion are left alone: {listed(alone, TOLD_REMARKS)}.")
    if unseen:
        hooks.notice(f"Tags that are not used: {listed(unseen, TOLD_REMARKS)}.")
    return fade_track(timed if timed[0][0] <= 0 else [(0.0, {}), *timed], priors)


def _starts(cue: Cue, parts: Sequence[TaggedText]) -> list[float]:
    """When each of the parts of a subtitle starts: with its first letter."""
    before = letters_before(plain_brackets(cue.text))
    letters, moments = [0.0], [cue.start]
    for place, moment in cue.stamps:
        letters.append(before[place])
        moments.append(moment)
    starts = []
    for part in parts:
        said = before[part.at]
        # Of the words with times, the last one that starts no later than this letter; two may start at one letter.
        last = bisect.bisect_right(letters, said) - 1
        until, end = (letters[last + 1], moments[last + 1]) if last + 1 < len(letters) else (before[-1], cue.end)
        share = (said - letters[last]) / max(until - letters[last], 1.0)
        starts.append(moments[last] + (end - moments[last]) * share)
    return starts


def spread(parts: Sequence[TaggedText], voice: VoiceFeatures) -> list[TimedEmotion]:
    """When each part of a tagged text starts, if `voice` says it; the first starts at 0 s.

    Each moves to a pause no farther than half way to its neighbours, so that no two meet in one pause. Where nobody
    speaks, the parts are spread over the silence.
    """
    active = voice.active if voice.active.any() else np.ones(len(voice), dtype=bool)
    lengths = [part.length for part in parts]
    before = np.cumsum([0.0, *lengths[:-1]])
    # Parts in which nothing is said start together with the next one.
    said, index = np.unique(before / max(sum(lengths), 1.0), return_inverse=True)
    moments = _moments_of_speech(active, said)
    snapped = moments.copy()
    pauses = _pauses(active)
    for i in range(1, len(said)):
        if said[i] < 1:  # what stands behind the last word stays there
            after = moments[i + 1] if i + 1 < len(said) else np.inf
            snapped[i] = _snapped(moments[i], (moments[i - 1] + moments[i]) / 2, (moments[i] + after) / 2, *pauses)
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
    made = mix_all([(weights, 1.0) for _, weights in apart], priors)
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


def _snapped(moment: float, earliest: float, latest: float, middles: np.ndarray, lengths: np.ndarray) -> float:
    """The middle of the pause after `earliest`, up to `latest`, that attracts `moment` most; itself if none does.

    Args:
        moment: in seconds.
        earliest: likewise.
        latest: likewise.
        middles: of the pauses, in order.
        lengths: of the pauses.
    """
    first = np.searchsorted(middles, max(earliest, moment - SNAP_SECONDS), "right")
    last = np.searchsorted(middles, min(latest, moment + SNAP_SECONDS), "right")
    middles, lengths = middles[first:last], lengths[first:last]
    distances = np.abs(middles - moment)
    # A long pause attracts from far, a short one only from close by.
    attraction = np.where(distances < SNAP_SECONDS, lengths**2 / (0.3 + distances), 0)
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
