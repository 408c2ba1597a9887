"""Runs the whole pipeline on a synthetic portrait and speech.

It measures time and peak memory of each stage, and compares two settings side by side.
"""

import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from dicetalk.audio.speech import Speech, load_speech
from dicetalk.bench.count import FlopCounter, PassCounter
from dicetalk.bench.plain import PlainGuidedUNet
from dicetalk.bench.sizes import ClipSize
from dicetalk.checkpoints.load import DiceModel
from dicetalk.denoise.guided import GuidedUNet
from dicetalk.emotion.track import EmotionTrack
from dicetalk.hooks import Hooks
from dicetalk.pipeline import generate_latents, render
from dicetalk.portrait.prepare import Portrait, prepare_portrait
from dicetalk.residency import DeviceResidency
from dicetalk.settings import SamplerSettings
from dicetalk.video import write_mp4


class _PeakRSS:
    """Highest resident memory since the last reset, sampled by a thread."""

    def __init__(self, interval_seconds: float = 0.005):
        self.process = psutil.Process()
        self.interval, self.peak = interval_seconds, 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while not self.stop.wait(self.interval):
            self.peak = max(self.peak, self.process.memory_info().rss)

    def take(self) -> int:
        peak, self.peak = max(self.peak, self.process.memory_info().rss), 0
        return peak

    def close(self) -> None:
        self.stop.set()
        self.thread.join()


class StageWatch:
    """Time between two reports belongs to the stage that makes the second one.

    Use as a context manager; give ``watch.hooks`` to the library.

    Args:
        device: whose memory is measured; on the CPU it is the resident memory of the process.
    """

    def __init__(self, device: torch.device):
        self.cuda = device if device.type == "cuda" else None
        self.seconds: dict[str, float] = defaultdict(float)
        self.peak_bytes: dict[str, int] = defaultdict(int)
        self.reports: dict[str, int] = defaultdict(int)
        self.hooks = Hooks(progress=self._report)

    def __enter__(self) -> "StageWatch":
        self.rss = None if self.cuda else _PeakRSS()
        if self.cuda:
            torch.cuda.reset_peak_memory_stats(self.cuda)
        self.last = time.perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.rss:
            self.rss.close()

    def _report(self, stage: str, done: int, total: int, preview: torch.Tensor | None = None) -> None:
        if self.cuda:
            torch.cuda.synchronize(self.cuda)
            peak = torch.cuda.max_memory_allocated(self.cuda)
            torch.cuda.reset_peak_memory_stats(self.cuda)
        else:
            peak = 0 if self.rss is None else self.rss.take()
        now = time.perf_counter()
        self.seconds[stage] += now - self.last
        self.peak_bytes[stage] = max(self.peak_bytes[stage], peak)
        self.reports[stage] += 1
        self.last = now


@dataclass(frozen=True)
class Setting:
    """What one side of a comparison runs with.

    Args:
        sampler: of the run.
        savings: off computes what the exact savings save (:mod:`dicetalk.bench.plain`).
        decode_chunk: frames decoded together; what the model was made for if `None`.
    """

    sampler: SamplerSettings = field(default_factory=SamplerSettings)
    savings: bool = True
    decode_chunk: int | None = None


def measure_run(model: DiceModel, size: ClipSize, setting: Setting, device: torch.device) -> dict[str, Any]:
    """One run from arrays to an MP4.

    Returns:
        ``seconds``, ``seconds_per_second`` (of video) and ``peak_bytes`` by stage, ``windows`` (network calls of the
        sampler), ``window_seconds`` (mean time of one), ``total_seconds``; ``passes_per_frame``, counted in the
        network, and how many of them are ``shallow_passes_per_frame``.
    """
    with StageWatch(device) as watch, PassCounter(model.unet) as passes:
        frames = _make_video(model, size, setting, device, watch.hooks)
    total = sum(watch.seconds.values())
    return {
        "seconds": dict(watch.seconds),
        "seconds_per_second": {
            stage: seconds / size.seconds for stage, seconds in [*watch.seconds.items(), ("total", total)]
        },
        "peak_bytes": dict(watch.peak_bytes),
        "windows": watch.reports["sample"],
        "window_seconds": watch.seconds["sample"] / watch.reports["sample"],
        "total_seconds": total,
        "passes_per_frame": (passes.whole + passes.shallow) / frames,
        "shallow_passes_per_frame": passes.shallow / frames,
    }


def count_flop(model: DiceModel, size: ClipSize, setting: Setting, device: torch.device) -> dict[str, int]:
    """FLOP of one run by stage; the run is not timed."""
    with FlopCounter() as counter:
        _make_video(model, size, setting, device, counter.hooks)
    return dict(counter.flop)


def _make_video(model: DiceModel, size: ClipSize, setting: Setting, device: torch.device, hooks: Hooks) -> int:
    """Make a clip from arrays to an MP4; returns how many frames the network made."""
    portrait, speech = synthetic_portrait(size, model), synthetic_speech(size.seconds)
    residency = DeviceResidency(device)
    guided = GuidedUNet if setting.savings else partial(PlainGuidedUNet, pose_guider=model.pose_guider)
    track = EmotionTrack.constant(model.priors["happy"]) if model.has_emotions else None
    with tempfile.TemporaryDirectory() as folder:
        latents = generate_latents(
            model, portrait, speech, track, setting.sampler, residency=residency, hooks=hooks, guided=guided
        )
        clip = render(
            model,
            latents,
            decode_chunk=setting.decode_chunk,
            residency=replace(residency, offload=False),
            hooks=hooks,
        )
        write_mp4(
            Path(folder) / "bench.mp4",
            clip.chunks,
            fps=Fraction(clip.fps),
            sound=(speech.sound, speech.sound_sample_rate),
            hooks=hooks,
            total=clip.frames,
        )
    return latents.frames


def compare_runs(
    model: DiceModel,
    size: ClipSize,
    base: Setting,
    against: Setting | None,
    device: torch.device,
    repeats: int,
    flop: bool = False,
) -> dict[str, Any]:
    """Measure `base`, alternating with `against` if given, after one run of each that does not count.

    Args:
        model: all networks.
        size: of the clip.
        base: first setting.
        against: second one.
        device: where networks run.
        repeats: timed runs of each.
        flop: count FLOP as well, in one more run of each.

    Returns:
        ``base`` (and ``against``): results of :func:`measure_run`; ``flop``: of each by stage, where asked for;
        ``ratio``: median time of `base` over median time of `against`, by stage, for a window and in total;
        ``ratio_spread``: least and greatest ratio of two runs that followed each other.
    """
    sides = {"base": base} | ({"against": against} if against else {})
    warm = {name: replace(s, sampler=replace(s.sampler, steps=1, noise_strength=1.0)) for name, s in sides.items()}
    for setting in warm.values():
        measure_run(model, size, setting, device)
    results: dict[str, Any] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, setting in sides.items():
            results[name].append(measure_run(model, size, setting, device))
    if flop:
        results["flop"] = {name: count_flop(model, size, setting, device) for name, setting in sides.items()}
    if against:
        results["ratio"] = _ratios(results["base"], results["against"])
        pairs = [_ratios([one], [other]) for one, other in zip(results["base"], results["against"], strict=True)]
        results["ratio_spread"] = {
            stage: [min(pair[stage] for pair in pairs), max(pair[stage] for pair in pairs)] for stage in pairs[0]
        }
    return results


def growth_curve(
    model: DiceModel, size: ClipSize, setting: Setting, device: torch.device, lengths: Sequence[float]
) -> list[dict[str, Any]]:
    """Time per second of video and peak memory at several lengths of speech, from the shortest to the longest.

    Returns:
        For each length ``speech_seconds``, ``seconds_per_second`` by stage, ``peak_bytes`` and ``passes_per_frame``.
    """
    measure_run(model, size, replace(setting, sampler=replace(setting.sampler, steps=1, noise_strength=1.0)), device)
    curve = []
    for seconds in sorted(lengths):
        run = measure_run(model, replace(size, seconds=seconds), setting, device)
        taken = {name: run[name] for name in ("seconds_per_second", "passes_per_frame")}
        curve.append({"speech_seconds": seconds, **taken, "peak_bytes": max(run["peak_bytes"].values())})
    return curve


def _ratios(base: list[dict[str, Any]], against: list[dict[str, Any]]) -> dict[str, float]:
    def medians(runs: list[dict[str, Any]]) -> dict[str, float]:
        times = {stage: [run["seconds"][stage] for run in runs] for stage in runs[0]["seconds"]}
        times |= {key: [run[f"{key}_seconds"] for run in runs] for key in ("window", "total")}
        return {stage: statistics.median(values) for stage, values in times.items()}

    first, second = medians(base), medians(against)
    return {stage: first[stage] / second[stage] for stage in first if second.get(stage)}


def synthetic_portrait(size: ClipSize, model: DiceModel) -> Portrait:
    """A smooth colour gradient with a face box in its middle."""
    side = size.short_side
    ramp = np.linspace(0, 255, side, dtype=np.uint8)
    picture = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], np.uint8(128)), axis=-1)
    box = (0.25 * side, 0.25 * side, 0.5 * side, 0.5 * side)
    return prepare_portrait(picture, box=box, short_side=side, clip_size=model.config.image_encoder.image_size)


def synthetic_speech(seconds: float) -> Speech:
    """A tone that comes and goes."""
    time = np.arange(int(seconds * 16000)) / 16000
    return load_speech((0.3 * np.sin(2 * np.pi * 220 * time) * np.sin(2 * np.pi * 3 * time), 16000))
