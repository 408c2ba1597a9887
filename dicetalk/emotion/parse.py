"""Parse an emotion from a name, words, a tagged text or a file."""

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from dicetalk.emotion.algebra import note_unused_end
from dicetalk.emotion.files import import_npy, load_emotion, read_track
from dicetalk.emotion.mix import mix
from dicetalk.emotion.prior import EmotionPrior, space_of
from dicetalk.emotion.text.subtitles import parse_subtitles, read_text
from dicetalk.emotion.text.tagged import has_tag, read_weights
from dicetalk.emotion.text.track import subtitle_track, tagged_track
from dicetalk.emotion.track import EmotionTrack
from dicetalk.emotion.voice.features import VoiceFeatures
from dicetalk.errors import EmotionError, naming
from dicetalk.hooks import SILENT, Hooks
from dicetalk.media import listed
from dicetalk.paths import checked_path

Hear = Callable[[], VoiceFeatures]
"""Measures the speech that the emotion belongs to, when it is asked."""

TEXT_SUFFIXES = (".srt", ".vtt", ".txt")
FILE_SUFFIXES = (".safetensors", ".npy", ".json", *TEXT_SUFFIXES)


def names_file(text: str, suffixes: tuple[str, ...] = FILE_SUFFIXES) -> bool:
    """Whether `text` is the path of a file with one of `suffixes`, not a tagged text that happens to end so."""
    return text.lower().endswith(suffixes) and (not has_tag(text) or os.path.isfile(text))


def parse_emotion(
    text: str,
    priors: Mapping[str, EmotionPrior],
    hear: Hear,
    hooks: Hooks = SILENT,
    seconds: float = math.inf,
) -> EmotionTrack:
    """Parse ``happy:0.5+sad:0.3``, ``a little annoyed``, ``[happy] Hello! [sad] …``, or the path of a file.

    Args:
        text: a name with weights, words, a tagged text or a path.
        priors: the eight presets by name.
        hear: called only for a tagged text, which is spread over the speech.
        hooks: hears of what is not used of a text or subtitles, with its place.
        seconds: length of the speech, if it is known: nothing after its end is used.

    Raises:
        EmotionError: it is none of these, or a file that cannot be read.
    """
    if names_file(text):
        return read_emotion(Path(text), priors, hear, hooks, seconds)
    if has_tag(text):
        return tagged_track(text, hear(), priors, hooks)
    return EmotionTrack.constant(mix(read_weights(text), priors))


def read_emotion(
    path: Path,
    priors: Mapping[str, EmotionPrior],
    hear: Hear,
    hooks: Hooks = SILENT,
    seconds: float = math.inf,
) -> EmotionTrack:
    """Read a saved emotion or track, a JSON track, subtitles with tags, or a tagged text, by the suffix.

    Args:
        path: see :data:`FILE_SUFFIXES`. A ``.npy`` file is taken to belong to the model.
        priors: the eight presets by name; a saved emotion must be of the same space.
        hear: called only for ``.txt``.
        hooks: as for :func:`parse_emotion`.
        seconds: likewise.

    Raises:
        EmotionError: the file cannot be read, or belongs to another model.
    """
    path = checked_path(path, EmotionError)
    match path.suffix.lower():
        case ".safetensors":
            return note_unused_end(load_emotion(path, space_of(priors)).track, seconds, hooks)
        case ".npy":
            return note_unused_end(import_npy(path, space_of(priors)).track, seconds, hooks)
        case ".json":
            return note_unused_end(read_track(path, priors), seconds, hooks)
        case ".srt" | ".vtt" | ".txt" as suffix:
            with naming(path, EmotionError):
                text = read_text(path, hooks)
                if suffix == ".txt":
                    return tagged_track(text, hear(), priors, hooks)
                left: list[str] = []
                cues = parse_subtitles(text, left.append)
                if left:
                    hooks.notice(f"{path}: not used is {listed(left)}.")
                return subtitle_track(cues, priors, hooks, seconds)
    raise EmotionError(f"{path}: an emotion is read from {', '.join(FILE_SUFFIXES)}.")
