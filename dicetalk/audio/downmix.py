"""Any channels to the one that the network hears, and to the two that the viewer hears.

By the layout: the centre counts in full, a front pair is averaged, surrounds come 3 dB lower, the low-frequency channel
not at all (the proportions of ITU-R BS.775-3, scaled so that dialogue in the centre keeps its level). Where channels
would cancel, as with one wire of a stereo cable swapped, the louder one is taken instead of their sum: by the level
of the sum in each window, and over longer spans also where one of them is a little later, which takes only low voices
away. What is fainter as a whole than an average can be, as sound in one back channel over the hiss of the others, is
brought to the level of its loudest channel.
"""

import numpy as np

WINDOW_SECONDS = 0.032

CANCELLING, CANCELLED = 0.8, 0.4
"""Energy of the sum, of that of its loudest part: below the first the louder part is mixed in, below the second it
stands alone. Independent sounds are at 1 and above."""

LIVE = 1e-6
"""A channel with less of the loudest one's energy (60 dB) is not in use."""

STAY = 0.5
"""The part that stands in is kept until another has twice its energy."""

BAND_RATE = 8_000
"""At about this rate channels are compared: above half of it there is little of a voice, and much hiss."""

LAG_SECONDS = 0.002
"""Channels may be so much apart: 70 cm between microphones, or the filters of an interface."""

LAG_MEMORY_SECONDS = 1.0
OPPOSED, NO_MORE_OPPOSED = 0.6, 0.45
"""Correlation, with the sign turned, from which on a part and the rest oppose each other, and down to which."""

OPPOSED_CLEARLY = 1.2
"""It exceeds the correlation with the sign as it is by this factor, at any lag: a hum has both."""

LEAST_OPPONENT = 0.05
"""Energy of the rest, of that of the loudest part: a fainter rest cannot take much away."""

FAINT_AVERAGE = 10**-0.45
"""Energy of the mix, of that of the loudest channel: independent sounds on two channels average to half of it, one
sound on both, once at a third, to 0.42."""

SURROUND = 0.5**0.5
UNHEARD = 1e-3
"""Weight of the low-frequency channel: nothing beside others, but not lost if all the sound is there by mistake."""

_PAIRS = {
    ("FL", "FR"): 1.0,
    ("DL", "DR"): 1.0,
    ("FLC", "FRC"): 1.0,
    ("WL", "WR"): 1.0,
    ("SL", "SR"): SURROUND,
    ("BL", "BR"): SURROUND,
    ("TFL", "TFR"): SURROUND,
    ("TBL", "TBR"): SURROUND,
    ("TSL", "TSR"): SURROUND,
}
_SINGLES = {"FC": 1.0, "BC": 0.5, "TC": 0.5, "TFC": 0.5, "TBC": 0.5, "LFE": UNHEARD, "LFE2": UNHEARD}

_BY_COUNT = {
    1: ("FC",),
    2: ("FL", "FR"),
    3: ("FL", "FR", "FC"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FR", "FC", "BL", "BR"),
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    7: ("FL", "FR", "FC", "LFE", "BC", "SL", "SR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}
"""Layouts of files that name none, as WAV orders them."""


class Downmix:
    """Mixes blocks that follow one another.

    Args:
        channels: of every block.
        rate: samples a second.
        layout: names of the channels; by their number if unknown.
    """

    def __init__(self, channels: int, rate: int, layout: tuple[str, ...] | None = None):
        names = layout if layout is not None and _is_known(layout) else _BY_COUNT.get(channels)
        self.channels = channels
        self.window = max(round(WINDOW_SECONDS * rate), 2)
        self.groups, self.to_sound = _groups(channels, names)
        if len(self.groups) == 1:
            self.groups = [(self.groups[0][0], 1.0)]
        self.weights = np.zeros(channels, np.float32)
        for members, weight in self.groups:
            self.weights[members] = weight / len(members)
        self.known = names is not None
        self.step = max(round(rate / BAND_RATE), 1)
        self.energy = np.zeros(channels)
        self.mixed = 0.0
        unheard = [weight <= UNHEARD for _, weight in self.groups]
        self.heard = np.ones(channels, bool)
        for (members, _), low in zip(self.groups, unheard, strict=True):
            self.heard[members] = not low
        self.rest = np.zeros((0, channels), np.float32)
        lags = round(LAG_SECONDS * rate / self.step)
        self.stages = [_Stage(np.full(len(m), 1 / len(m)), np.ones(len(m)), self.step, lags) for m, _ in self.groups]
        shares = np.array([weight for _, weight in self.groups])
        self.sum = _Stage(shares, shares, self.step, lags)

    def mono(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        """The one channel ``(n, 1)``. Less comes out than went in until the `last` block, by less than a window."""
        if self.channels == 1:
            return block
        whole = np.concatenate([self.rest, block]) if len(self.rest) else block
        length = len(whole) if last else len(whole) // self.window * self.window
        self.rest = whole[length:].copy()
        whole = whole[:length]
        if not length:
            return np.zeros((0, 1), np.float32)
        self.energy += self._energy(whole)
        parts = [
            stage(whole[:, members], self.window) for stage, (members, _) in zip(self.stages, self.groups, strict=True)
        ]
        mixed = parts[0] if len(parts) == 1 else self.sum(np.concatenate(parts, axis=1), self.window)
        self.mixed += float(self._energy(mixed)[0])
        return mixed

    def sound(self, block: np.ndarray) -> np.ndarray:
        """What the viewer hears ``(n, 1 or 2)``: up to two channels as they are."""
        return block if self.channels <= 2 else block @ self.to_sound

    @property
    def mono_gain(self) -> float:
        """Factor on all of :meth:`mono`, known at its end, for channels that were never in use or hold little."""
        gain = self._unused_gain()
        loudest = float(self.energy[self.heard].max(initial=0.0))
        mixed = gain**2 * self.mixed
        return gain * (loudest / mixed) ** 0.5 if 0 < mixed < FAINT_AVERAGE * loudest else gain

    def _unused_gain(self) -> float:
        live = self._live()
        if not live.any() or live.all():
            return 1.0
        if not self.known:
            return float(self.channels / live.sum())
        weights = self.weights[live]
        if len(weights) == 1:
            return float(1 / weights[0])
        return float(max(0.5 / weights.max(), 1.0))

    @property
    def sound_gain(self) -> float:
        """The same for :meth:`sound`."""
        live = self._live()
        if self.channels <= 2 or not live.any():
            return 1.0
        return float(max(1 / self.to_sound[live].max(), 1.0))

    def _energy(self, samples: np.ndarray) -> np.ndarray:
        return np.square(_band(_windows(samples, self.window), self.step), dtype=np.float64).sum(axis=(0, 1))

    def _live(self) -> np.ndarray:
        return self.energy > LIVE * self.energy.max()


class _Stage:
    """Adds parts ``(n, k)``, or takes the loudest where they would cancel.

    Args:
        weights: of the parts, ``(k,)``.
        alone: weights of a part that stands alone, ``(k,)``.
        step: samples that are averaged where parts are compared at other times.
        lags: such averages by which parts may be apart.
    """

    def __init__(self, weights: np.ndarray, alone: np.ndarray, step: int, lags: int):
        self.weights, self.alone, self.step = weights, alone, step
        self.opposition = _Opposition(weights, lags)
        self.before = weights
        self.chosen: tuple[int, float] | None = None

    def __call__(self, parts: np.ndarray, window: int) -> np.ndarray:
        if parts.shape[1] == 1:
            return parts * np.float32(self.weights[0])
        ends = self._ends(parts, window)
        plain = parts @ self.weights.astype(np.float32)[:, None]
        starts = np.concatenate([self.before[None], ends[:-1]])
        self.before = ends[-1]
        for number in np.flatnonzero((np.abs(ends - self.weights) + np.abs(starts - self.weights)).sum(axis=1) > 0):
            span = slice(number * window, (number + 1) * window)
            way = (np.arange(1, len(parts[span]) + 1) / len(parts[span]))[:, None]
            weights = starts[number] + way * (ends[number] - starts[number])
            plain[span, 0] = (parts[span] * weights).sum(axis=1)
        return plain

    def _ends(self, parts: np.ndarray, window: int) -> np.ndarray:
        """Weights ``(windows, k)`` at the end of each window."""
        padded = _windows(parts, window)
        count = len(padded)
        # Also of the differences: what matters in speech is high, and a constant offset must not hide that it cancels.
        plain, high = _products(padded), _products(np.diff(padded, axis=1))
        shares = np.minimum(*(self._share(products) for products in (plain, high)))
        shares[self.opposition(_band(padded, self.step))] = 0
        ends = np.tile(self.weights, (count, 1))
        for number in range(count):
            if not shares[number] < CANCELLING:
                self.chosen = None
                continue
            way = min((CANCELLING - shares[number]) / (CANCELLING - CANCELLED), 1.0)
            place, sign = self._stand_in(high[number])
            ends[number] *= 1 - way
            ends[number, place] += way * sign * self.alone[place]
        return ends

    def _share(self, products: np.ndarray) -> np.ndarray:
        """Energy of the sum of that of its loudest part."""
        both = np.einsum("i,nij,j->n", self.weights, products, self.weights)
        loudest = (np.einsum("nii->ni", products) * self.weights**2).max(axis=1)
        return np.where(loudest > 1e-14, both / np.maximum(loudest, 1e-30), np.inf)

    def _stand_in(self, products: np.ndarray) -> tuple[int, float]:
        """The part to take, and its sign, so that changing from one to another is no jump."""
        energies = np.diag(products) * self.alone**2
        place, sign = int(energies.argmax()), 1.0
        if self.chosen is not None:
            kept, sign = self.chosen
            if energies[kept] > STAY * energies[place]:
                place = kept
            elif products[kept, place] < 0:
                sign = -sign
        self.chosen = place, sign
        return self.chosen


class _Opposition:
    """Finds parts that are one sound with its sign turned and a little later, over a second or so.

    Their sum is no silence, but has lost what is low, and so most of a voice's level.

    Args:
        weights: of the parts, ``(k,)``.
        lags: samples by which the parts may be apart.
    """

    def __init__(self, weights: np.ndarray, lags: int):
        self.weights, self.lags = weights, lags
        self.energies = np.zeros(len(weights))
        self.loudest = 0
        self.opposed = False
        self.products: np.ndarray
        self.powers: np.ndarray
        self._forget()

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """Whether the loudest part and the rest oppose each other, for each of ``(n, t, k)``: bool ``(n,)``."""
        weighted = windows.astype(np.float64) * self.weights
        kept = np.exp(-WINDOW_SECONDS / LAG_MEMORY_SECONDS)
        found = np.zeros(len(windows), bool)
        for number, parts in enumerate(weighted):
            self.energies = kept * self.energies + np.square(parts).sum(axis=0)
            if self.energies[self.loudest] < STAY * self.energies.max():
                self.loudest = int(self.energies.argmax())
                self._forget()
            one = parts[:, self.loudest]
            rest = parts.sum(axis=1) - one
            still = one[self.lags : len(one) - self.lags]
            if not len(still):
                continue
            self.products = kept * self.products + np.correlate(rest, still, "valid")
            self.powers = kept * self.powers + [np.square(one).sum(), np.square(rest).sum()]
            found[number] = self._decide(len(still) / len(one))
        return found

    def _decide(self, part: float) -> bool:
        """The same until it is clear that it has changed; `part` of the powers is in the products."""
        one, rest = self.powers
        if rest < max(LEAST_OPPONENT * one, 1e-14):
            self.opposed = False
        else:
            scale = part * (one * rest) ** 0.5
            turned, straight = -self.products.min() / scale, self.products.max() / scale
            bar = NO_MORE_OPPOSED if self.opposed else OPPOSED
            self.opposed = bool(turned > bar and turned > OPPOSED_CLEARLY * straight)
        return self.opposed

    def _forget(self) -> None:
        self.products, self.powers = np.zeros(2 * self.lags + 1), np.zeros(2)


def _windows(samples: np.ndarray, window: int) -> np.ndarray:
    """Samples ``(n, k)`` in windows ``(windows, window, k)``, the last filled up with zeros."""
    count = -(-len(samples) // window)
    return np.pad(samples, ((0, count * window - len(samples)), (0, 0))).reshape(count, window, -1)


def _band(windows: np.ndarray, step: int) -> np.ndarray:
    """Differences of averages over `step` samples: windows ``(n, t, k)`` in the band of speech, without offsets."""
    whole = windows.shape[1] // step * step
    averages = windows[:, :whole].reshape(len(windows), -1, step, windows.shape[2]).mean(axis=2)
    return np.diff(averages, axis=1)


def _products(windows: np.ndarray) -> np.ndarray:
    """Sums of products of the parts with each other in every window, ``(windows, k, k)``."""
    windows = windows.astype(np.float64)
    return np.einsum("nti,ntj->nij", windows, windows)


def _is_known(layout: tuple[str, ...]) -> bool:
    names = {name for pair in _PAIRS for name in pair} | set(_SINGLES)
    return len(set(layout)) == len(layout) and set(layout) <= names


def _groups(channels: int, names: tuple[str, ...] | None) -> tuple[list[tuple[list[int], float]], np.ndarray]:
    """Channels that are averaged, with the weight of their average, and the matrix ``(channels, 2)`` of the sound."""
    if names is None:
        share = 1 / channels
        return [([place], share) for place in range(channels)], np.full((channels, 2), share, np.float32)
    groups: list[tuple[list[int], float]] = []
    sound = np.zeros((channels, 2), np.float32)
    for place, name in enumerate(names):
        if name in _SINGLES:
            groups.append(([place], _SINGLES[name]))
            sound[place] = _SINGLES[name]
    for pair, weight in _PAIRS.items():
        there = [names.index(name) for name in pair if name in names]
        for name in set(pair) & set(names):
            sound[names.index(name), pair.index(name)] = weight
        if len(there) == 2:
            groups.append((there, weight))
        elif there:
            groups.append((there, weight / 2))
    return groups, sound
