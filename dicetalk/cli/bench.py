"""``dicetalk bench``."""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import torch

from dicetalk.audio.speech import MAX_SECONDS, MIN_SECONDS
from dicetalk.bench.random_model import random_model
from dicetalk.bench.run import Setting, compare_runs, growth_curve
from dicetalk.bench.sizes import SIZES, ClipSize
from dicetalk.checkpoints.load import DiceModel, load_model
from dicetalk.cli.checks import refuse_idle
from dicetalk.cli.model_folder import recommended
from dicetalk.cli.options import parse_setting
from dicetalk.errors import SettingError
from dicetalk.files import check_file_target, explained, replacing
from dicetalk.presets import with_preset
from dicetalk.residency import choose_device, choose_dtype

MODEL_SECONDS = 2.0
"""Of speech, where a model is measured and no length is asked for."""


def bench(options: argparse.Namespace) -> int:
    """Measure and print."""
    if options.repeats < 1:
        raise SettingError(f"--repeats {options.repeats}: give 1 or more.")
    _check_clip(options)
    _sides(options, Setting())  # what is wrong is reported before anything is read
    if options.json:
        check_file_target(options.json)
    device = choose_device(options.device)
    begun = time.perf_counter()
    model, size, start = _measured(options, choose_dtype(options.dtype, device))
    load_seconds = time.perf_counter() - begun
    base, against = _sides(options, start)
    if options.growth:
        results: dict[str, Any] = {"growth": growth_curve(model, size, base, device, options.growth)}
    else:
        results = compare_runs(model, size, base, against, device, options.repeats, options.flop)
    results |= {"import_seconds": import_seconds(), "load_seconds": load_seconds}
    results["machine"] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "threads": torch.get_num_threads(),
        "dtype": str(model.dtype).removeprefix("torch."),
        "torch": torch.__version__,
    }
    results["what"] = {
        "size": None if options.models else options.size,
        "models": str(options.models) if options.models else None,
        "seconds": size.seconds,
        "short_side": size.short_side,
        "set": options.base,
        "against": options.against,
    }
    _print(results)
    if options.json:
        with replacing(options.json) as partial, explained(options.json):
            partial.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    return 0


def _check_clip(options: argparse.Namespace) -> None:
    """Check the options that make the clip.

    Raises:
        SettingError: the clip or the picture is out of range, or an option has no effect.
    """
    if options.seconds is not None and not MIN_SECONDS <= options.seconds <= MAX_SECONDS:
        raise SettingError(f"--seconds {options.seconds:g}: give {MIN_SECONDS:g} to {MAX_SECONDS:g}.")
    if options.short_side is not None and (options.short_side < 64 or options.short_side % 64):
        raise SettingError(f"--short-side {options.short_side}: give a multiple of 64.")
    for seconds in options.growth or []:
        if not MIN_SECONDS <= seconds <= MAX_SECONDS:
            raise SettingError(f"--growth {seconds:g}: give {MIN_SECONDS:g} to {MAX_SECONDS:g}.")
    if options.growth:
        when, otherwise = "with --growth, which runs each length once", "leave --growth out"
        refuse_idle(options, ["seconds", "against", "repeats", "flop"], when, otherwise)
    if options.models is None:
        refuse_idle(options, ["svd"], "on random weights", "give --models")


def _measured(options: argparse.Namespace, dtype: torch.dtype) -> tuple[DiceModel, ClipSize, Setting]:
    """The model, the clip's size, and the settings that the model is used with.

    Raises:
        CheckpointError: as :func:`dicetalk.checkpoints.load.load_model`.
    """
    asked = {"seconds": options.seconds, "short_side": options.short_side}
    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    if options.models is None:
        named = replace(SIZES[options.size], **given)
        return random_model(named, dtype), named, Setting()
    model = load_model(options.models, svd=options.svd, dtype=dtype)
    sampler, short_side = recommended(model)
    return model, replace(ClipSize(short_side, MODEL_SECONDS), **given), Setting(sampler)


def _sides(options: argparse.Namespace, start: Setting) -> tuple[Setting, Setting | None]:
    """The settings that are compared, both by the changes to `start` that are asked for."""
    base = _setting(start, options.base)
    return base, _setting(base, options.against) if options.against else None


def _setting(start: Setting, pairs: list[str]) -> Setting:
    setting = start
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise SettingError(f"{pair!r}: write NAME=VALUE, for example steps=10.")
        if name == "savings":
            if text not in ("on", "off"):
                raise SettingError(f"savings={text}: write on or off.")
            setting = replace(setting, savings=text == "on")
        elif name == "preset":
            setting = replace(setting, sampler=with_preset(setting.sampler, text))
        elif name == "decode_chunk":
            if not text.isdecimal() or int(text) < 1:
                raise SettingError(f"decode_chunk={text}: write a whole number from 1.")
            setting = replace(setting, decode_chunk=int(text))
        else:
            setting = replace(setting, sampler=replace(setting.sampler, **{name: parse_setting(name, text)}))
    return setting


def import_seconds() -> float:
    """Time that a fresh interpreter takes to import the library."""
    code = "import time; begun = time.perf_counter(); import dicetalk.talk; print(time.perf_counter() - begun)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(answer.stdout)


def _print(results: dict[str, Any]) -> None:
    print(f"import {results['import_seconds']:.2f} s, load {results['load_seconds']:.2f} s")
    for point in results.get("growth", []):
        print(
            f"{point['speech_seconds']:g} s of speech: {point['seconds_per_second']['total']:.3f} s for each, "
            f"{point['passes_per_frame']:.2f} passes a frame, peak {point['peak_bytes'] / 2**20:.0f} MiB"
        )
    for side in ("base", "against"):
        for i, run in enumerate(results.get(side, [])):
            stages = ", ".join(f"{stage} {seconds:.3f}" for stage, seconds in run["seconds"].items())
            peak = max(run["peak_bytes"].values()) / 2**20
            print(
                f"{side} {i + 1}: {run['total_seconds']:.3f} s ({stages}); "
                f"{run['seconds_per_second']['total']:.3f} s a second of video; "
                f"{run['windows']} windows of {run['window_seconds']:.4f} s; "
                f"{run['passes_per_frame']:.2f} passes a frame, {run['shallow_passes_per_frame']:.2f} of them shallow; "
                f"peak {peak:.0f} MiB"
            )
    for side, stages in results.get("flop", {}).items():
        listed = ", ".join(f"{stage} {flop / 1e9:.1f}" for stage, flop in stages.items())
        print(f"{side}: {sum(stages.values()) / 1e9:.1f} GFLOP ({listed})")
    if "ratio" in results:
        ratios = ", ".join(
            f"{stage} {ratio:.3f} ({low:.3f} to {high:.3f})"
            for stage, ratio in results["ratio"].items()
            for low, high in [results["ratio_spread"][stage]]
        )
        print(f"time of base / time of against: {ratios}")
