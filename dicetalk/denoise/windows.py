"""Which frames are denoised together in which step.

A window schedule is a function ``schedule(step) -> list of windows``; a window is a list of frame indices. Every
frame is in at least one window of every step; predictions of a frame that is in several, or several times in one, are
averaged.
"""

from collections.abc import Callable

WindowSchedule = Callable[[int], list[list[int]]]


def rotating_windows(step: int, total: int, window: int, overlap: int, shift: int) -> list[list[int]]:
    """DICE-Talk's schedule: windows tile the clip as a ring that turns by `shift` frames every step.

    The clip must be padded by one window, so that no window joins its end to its beginning without the padding between.
    """
    return _ring(-(step * shift % window), total, window, overlap)


def ring_windows(step: int, total: int, window: int, overlap: int, shift: int) -> list[list[int]]:
    """Sonic's schedule: the clip itself is the ring, without padding, and turns by `shift` frames every step.

    The last window of a step may overlap the first. A clip shorter than a window stands in it several times: each
    occurrence is denoised in its place.
    """
    return _ring(-step * shift, total, window, overlap)


def _ring(start: int, total: int, window: int, overlap: int) -> list[list[int]]:
    return [[(start + place + i) % total for i in range(window)] for place in range(0, total, window - overlap)]


def tight_windows(step: int, total: int, window: int, overlap: int, shift: int) -> list[list[int]]:
    """Windows over the clip alone: no padding, no ring.

    The borders move by `shift` every step as in the released schedule; a window that would reach past an end is moved
    inside, so that each call sees a full window (or the whole clip, if that is shorter).
    """
    last = max(0, total - window)
    start = -(step * shift % window)
    places = range(start, total, window - overlap)
    starts = sorted({min(max(place, 0), last) for place in places})
    # Moving the outer windows inside can leave inner ones that add nothing but cost a call: their neighbours overlap
    # each other by as much as was asked for.
    kept: list[int] = []
    for i, place in enumerate(starts):
        inner = kept and i + 1 < len(starts)
        if not inner or starts[i + 1] - kept[-1] > window - overlap:
            kept.append(place)
    return [list(range(place, min(place + window, total))) for place in kept]


WINDOWS: dict[str, Callable[[int, int, int, int, int], list[list[int]]]] = {
    "reference": rotating_windows,
    "tight": tight_windows,
    "ring": ring_windows,
}
"""By the names of :data:`dicetalk.settings.SCHEDULES`."""


def padding(name: str, window: int) -> int:
    """Frames that schedule `name` appends to the clip."""
    return window if name == "reference" else 0


def window_schedule(name: str, total: int, window: int, overlap: int, shift: int) -> WindowSchedule:
    """Schedule `name` for a clip of `total` frames, padding included."""
    windows = WINDOWS[name]
    return lambda step: windows(step, total, window, overlap, shift)
