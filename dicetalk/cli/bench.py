"""``dicetalk bench``."""

import argparse
import json
from dataclasses import replace
from typing import Any

import torch

from dicetalk.audio.speech import MAX_SECONDS, MIN_SECONDS
from dicetalk.bench.random_model import random_model
from dicetalk.bench.run import Setting, compare
from dicetalk.bench.sizes import SIZES, Size
from dicetalk.cli.sampler_options import parse_setting
from dicetalk.device import choose_device, choose_dtype
from dicetalk.errors import SettingError
from dicetalk.files import check_file_target, explained


def bench(options: argparse.Namespace) -> int:
    """Measure and print."""
    if options.repeats < 1:
        raise SettingError(f"--repeats {options.repeats}: give 1 or more.")
    size = _size(options)
    if options.json:
        check_file_target(options.json)
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, device)
    base = _setting(Setting(), options.base)
    against = _setting(base, options.against) if options.against else None
    results = compare(random_model(size, dtype), size, base, against, device, options.repeats)
    results["machine"] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "threads": torch.get_num_threads(),
        "dtype": str(dtype).removeprefix("torch."),
        "torch": torch.__version__,
    }
    results["what"] = {
        "size": options.size,
        "seconds": size.seconds,
        "short_side": size.short_side,
        "set": options.base,
        "against": options.against,
    }
    _print(results)
    if options.json:
        with explained(options.json):
            options.json.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    return 0


def _size(options: argparse.Namespace) -> Size:
    """What is measured.

    Raises:
        SettingError: the clip or the picture is out of range.
    """
    size = SIZES[options.size]
    if options.seconds is not None:
        if not MIN_SECONDS <= options.seconds <= MAX_SECONDS:
            raise SettingError(f"--seconds {options.seconds:g}: give {MIN_SECONDS:g} to {MAX_SECONDS:g}.")
        size = replace(size, seconds=options.seconds)
    if options.short_side is not None:
        if options.short_side < 64 or options.short_side % 64:
            raise SettingError(f"--short-side {options.short_side}: give a multiple of 64.")
        size = replace(size, short_side=options.short_side)
    return size


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
        elif name == "decode_chunk":
            if not text.isdecimal() or int(text) < 1:
                raise SettingError(f"decode_chunk={text}: write a whole number from 1.")
            setting = replace(setting, decode_chunk=int(text))
        else:
            setting = replace(setting, sampler=replace(setting.sampler, **{name: parse_setting(name, text)}))
    return setting


def _print(results: dict[str, Any]) -> None:
    for side in ("base", "against"):
        for i, run in enumerate(results.get(side, [])):
            stages = ", ".join(f"{stage} {seconds:.3f}" for stage, seconds in run["seconds"].items())
            peak = max(run["peak_bytes"].values()) / 2**20
            print(
                f"{side} {i + 1}: {run['total_seconds']:.3f} s ({stages}); "
                f"{run['windows']} windows of {run['window_seconds']:.4f} s; peak {peak:.0f} MiB"
            )
    if "ratio" in results:
        ratios = ", ".join(f"{stage} {ratio:.3f}" for stage, ratio in results["ratio"].items())
        print(f"time of base / time of against: {ratios}")
