"""Errors that a user can cause. Each message names the thing, the value and the way on."""

from collections.abc import Iterator
from contextlib import contextmanager


class DiceTalkError(Exception):
    """Base of every error that a user can cause; anything else that escapes the library is a bug."""


class CheckpointError(DiceTalkError):
    """A weight file is missing, damaged, hostile or not what its name says."""


class PortraitError(DiceTalkError):
    """The portrait cannot be read or used."""


class NoFaceError(PortraitError):
    """No face was found in the portrait."""


class SpeechError(DiceTalkError):
    """The speech cannot be read or used."""


class EmotionError(DiceTalkError):
    """An emotion prior or track is unknown, damaged or out of range."""


class SettingError(DiceTalkError):
    """A parameter is out of its range."""


class VideoError(DiceTalkError):
    """The video cannot be read, sampled, decoded, interpolated or put together."""


class OutputError(DiceTalkError):
    """A file or folder cannot be written."""


class NotEnoughMemoryError(DiceTalkError):
    """The memory of the host or the device does not suffice, and there is nothing smaller to go on with."""


class Cancelled(Exception):
    """The caller asked to stop. Not a :class:`DiceTalkError`: nothing went wrong."""


@contextmanager
def naming(what: object, kind: type[DiceTalkError]) -> Iterator[None]:
    """Put `what`, a file or a place in one, before the message of an error of `kind` that is raised inside."""
    try:
        yield
    except kind as error:
        raise kind(f"{what}: {error}") from error
