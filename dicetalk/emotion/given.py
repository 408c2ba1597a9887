"""An emotion however it is given: by name, in words, as a tagged text or as a file."""

from collections.abc import Callable, Mapping
from pathlib import Path

from dicetalk.emotion.mix import mix
from dicetalk.emotion.prior import EmotionPrior
from dicetalk.emotion.saved import import_npy, load_emotion
from dicetalk.emotion.space import space_of
from dicetalk.emotion.text.subtitles import parse_subtitles, read_text
from dicetalk.emotion.text.tagged import read_weights
from dicetalk.emotion.text.track import subtitle_track, tagged_track
from dicetalk.emotion.track import EmotionTrack
from dicetalk.emotion.track_file import read_track
from dicetalk.emotion.voice.features import VoiceFeatures
from dicetalk.errors import EmotionError

Hear = Callable[[], VoiceFeatures]
"""Measures the speech that the emotion belongs to, when it is asked."""

TEXT_SUFFIXES = (".srt", ".vtt", ".txt")
FILE_SUFFIXES = (".safetensors", ".npy", ".json", *TEXT_SUFFIXES)


def given_emotion(text: str, priors: Mapping[str, EmotionPrior], hear: Hear) -> EmotionTrack:
    """``happy:0.5+sad:0.3``, ``a little annoyed``, ``[happy] Hello! [sad] …``, or the path of a file.

    Args:
        text: what was given.
        priors: the eight presets by name.
        hear: called only for a tagged text, which is spread over the speech.

    Raises:
        EmotionError: it is none of these, or a file that cannot be read.
    """
    if "[" in text:
        return tagged_track(text, hear(), priors)
    if text.lower().endswith(FILE_SUFFIXES):
        return given_file(Path(text), priors, hear)
    return EmotionTrack.constant(mix(read_weights(text), priors))


def given_file(path: Path, priors: Mapping[str, EmotionPrior], hear: Hear) -> EmotionTrack:
    """A saved emotion or track, a JSON track, subtitles with tags, or a tagged text, by the end of the file's name.

    Args:
        path: see :data:`FILE_SUFFIXES`. A ``.npy`` file is taken to belong to the model.
        priors: the eight presets by name; a saved emotion must be of the same space.
        hear: called only for ``.txt``.

    Raises:
        EmotionError: the file cannot be read, or belongs to another model.
    """
    match path.suffix.lower():
        case ".safetensors":
            return load_emotion(path, space_of(priors)).track
        case ".npy":
            return import_npy(path, space_of(priors)).track
        case ".json":
            return read_track(path, priors)
        case ".srt" | ".vtt" | ".txt" as suffix:
            try:
                text = read_text(path)
                if suffix == ".txt":
                    return tagged_track(text, hear(), priors)
                return subtitle_track(parse_subtitles(text), priors)
            except EmotionError as error:
                raise EmotionError(f"{path}: {error}") from error
    raise EmotionError(f"{path}: an emotion is read from {', '.join(FILE_SUFFIXES)}.")
