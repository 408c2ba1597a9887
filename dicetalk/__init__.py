"""DICE-Talk: one portrait, recorded speech and an emotion become a talking-head video."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dicetalk.emotion.track import EmotionTrack
    from dicetalk.settings import SamplerSettings
    from dicetalk.talk import DiceTalk

__version__ = "0.1.0"
__all__ = ["DiceTalk", "EmotionTrack", "SamplerSettings", "__version__"]

_HOMES = {
    "DiceTalk": "dicetalk.talk",
    "EmotionTrack": "dicetalk.emotion.track",
    "SamplerSettings": "dicetalk.settings",
}
"""Imported when they are first asked for: torch takes a second, and the command line's help needs none of it."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
