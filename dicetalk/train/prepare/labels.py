"""Labels in the file names of known data sets, in this library's words.

Emotions, and what became of those that are not among the eight presets:

===========  ==========================================  =====================================================
data set     its emotions                                here
===========  ==========================================  =====================================================
MEAD         the eight presets                           the same
RAVDESS      neutral, calm, happy, sad, angry, fearful,  `calm` is `neutral`: it was acted as a neutral state, and
             disgust, surprised                          neutral has half as many clips as the others without it;
                                                         it has no contempt
CREMA-D      ANG, DIS, FEA, HAP, NEU, SAD                it has neither contempt nor surprised
===========  ==========================================  =====================================================

Intensities are those of the procedural clips: three levels are 0.3, 0.6 and 1.0; of two, `normal` is 0.6 and `strong`
is 1.0; neutral is 0. An unknown intensity is `None`.
"""

import re
import zlib
from dataclasses import dataclass
from pathlib import PurePath

from dicetalk.train.clip_record import ClipLabels

RAVDESS_EMOTIONS = {
    "01": "neutral",
    "02": "neutral",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fear",
    "07": "disgusted",
    "08": "surprised",
}
RAVDESS_INTENSITIES = {"01": 0.6, "02": 1.0}

CREMAD_EMOTIONS = {
    "ANG": "angry",
    "DIS": "disgusted",
    "FEA": "fear",
    "HAP": "happy",
    "NEU": "neutral",
    "SAD": "sad",
}
CREMAD_INTENSITIES = {"LO": 0.3, "MD": 0.6, "HI": 1.0, "XX": None, "X": None}

MEAD_INTENSITIES = {"1": 0.3, "2": 0.6, "3": 1.0}

SHARE = 10
"""One identity of so many is kept for testing, and one for validation while others train."""

_MEAD = re.compile(
    r"(?P<identity>[MW]\d{3})/video/front/"
    r"(?P<emotion>neutral|happy|sad|angry|surprised|fear|disgusted|contempt)/level_(?P<level>[123])/(?P<take>\d+)\.mp4"
)
# Full video with sound (01), speech (01); the rest is without sound, without pictures, or sung.
_RAVDESS = re.compile(r"01-01-(?P<emotion>0[1-8])-(?P<intensity>0[12])-\d\d-\d\d-(?P<actor>\d\d)\.mp4", re.IGNORECASE)
_CREMAD = re.compile(
    r"(?P<actor>\d{4})_[A-Z]{3}_(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_(?P<intensity>LO|MD|HI|XX?)\.(flv|mp4)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class NamedVideo:
    """Labels read from a path.

    Args:
        labels: of the video's clips.
        sound: where its speech is, relative to where the path starts; none if in the video itself.
    """

    labels: ClipLabels
    sound: PurePath | None = None


def split_of(identity: str) -> str:
    """``test`` for about one identity of ten, ``val`` for another, else ``train``.

    It depends on nothing but the name, so that nobody changes sides when a data set grows or is prepared in parts.
    """
    return {0: "test", 1: "val"}.get(zlib.crc32(identity.encode()) % SHARE, "train")


def parse_mead(path: PurePath) -> NamedVideo | None:
    """MEAD: ``M003/video/front/happy/level_3/001.mp4``, with its sound in ``M003/audio/happy/level_3/001.m4a``.

    Of its seven cameras only the front one is used. None if the end of `path` is no such name.
    """
    found = _MEAD.fullmatch("/".join(path.parts[-6:]))
    if found is None:
        return None
    emotion, level, take = found["emotion"], found["level"], found["take"]
    sound = path.parents[4] / "audio" / emotion / f"level_{level}" / f"{take}.m4a"
    identity = found["identity"]
    return _named(identity, emotion, MEAD_INTENSITIES[level], f"{identity}-{emotion}-{level}-{take}", sound)


def parse_ravdess(path: PurePath) -> NamedVideo | None:
    """RAVDESS: ``01-01-03-02-01-01-12.mp4`` (modality, speech or song, emotion, intensity, sentence, take, actor).

    Speech with pictures and sound is used. None if `path` has no such name.
    """
    found = _RAVDESS.fullmatch(path.name)
    if found is None:
        return None
    intensity = RAVDESS_INTENSITIES[found["intensity"]]
    return _named(f"ravdess-{found['actor']}", RAVDESS_EMOTIONS[found["emotion"]], intensity, path.stem)


def parse_cremad(path: PurePath) -> NamedVideo | None:
    """CREMA-D: ``1001_DFA_ANG_XX.flv`` (actor, sentence, emotion, level). None if `path` has no such name."""
    found = _CREMAD.fullmatch(path.name)
    if found is None:
        return None
    intensity = CREMAD_INTENSITIES[found["intensity"].upper()]
    return _named(f"cremad-{found['actor']}", CREMAD_EMOTIONS[found["emotion"].upper()], intensity, path.stem)


def _named(
    identity: str, emotion: str, intensity: float | None, video: str, sound: PurePath | None = None
) -> NamedVideo:
    intensity = 0.0 if emotion == "neutral" else intensity
    return NamedVideo(ClipLabels(identity, emotion, intensity, video, split_of(identity)), sound)
