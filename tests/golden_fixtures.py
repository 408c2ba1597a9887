"""Reads the numeric fixtures: a folder with `manifest.json` and one safetensors file a stage.

Keys of the safetensors files: ``w/<state-dict key>``, ``in/<name>``, ``out/<name>``. Nothing here knows a size or a
seed: another folder of the same form runs through the same tests.
"""

import json
import re
import zlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

DTYPES = {"float32": torch.float32, "float16": torch.float16, "float8_e4m3fn": torch.float8_e4m3fn}


class Golden:
    """One folder of fixtures."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        if not (self.folder / "manifest.json").is_file():
            raise pytest.UsageError(f"--golden-dir {self.folder}: no manifest.json in there.")
        self.manifest = json.loads((self.folder / "manifest.json").read_text())

    def file(self, name: str) -> "GoldenFile":
        """The fixtures of one stage; the test is skipped where the folder does not hold them."""
        if not (self.folder / name).is_file():
            pytest.skip(f"{name} is not in {self.folder}")
        return GoldenFile(self, name)

    def json(self, name: str) -> Any:
        """A JSON file of the folder (`preprocess.json`, `keys/unet.pth.keys.json`)."""
        if not (self.folder / name).is_file():
            pytest.skip(f"{name} is not in {self.folder}")
        return json.loads((self.folder / name).read_text())


class GoldenFile:
    """One safetensors file and its entry in the manifest."""

    def __init__(self, golden: Golden, name: str):
        self.golden = golden
        self.name = name
        self.entry: dict[str, Any] = golden.manifest["files"][name]

    @cached_property
    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything stored, by key, in the stored dtype."""
        return load_file(self.golden.folder / self.name)

    def inputs(self, prefix: str = "") -> dict[str, torch.Tensor]:
        """Inputs whose name starts with `prefix`, named by the rest."""
        start = f"in/{prefix}"
        return {k.removeprefix(start): v for k, v in self.tensors.items() if k.startswith(start)}

    def output_names(self, prefix: str = "") -> list[str]:
        """Names of the recorded outputs that start with `prefix`."""
        return [k.removeprefix("out/") for k in self.tensors if k.startswith(f"out/{prefix}")]

    def weights(self, like: dict[str, torch.Tensor] | None = None, prefix: str = "") -> dict[str, torch.Tensor]:
        """Weights as float32, without `prefix`.

        Where the file does not store them (a slim copy), they are made again from the manifest's recipe for the keys
        and shapes of `like`.
        """
        start = f"w/{prefix}"
        stored = {k.removeprefix(start): v.float() for k, v in self.tensors.items() if k.startswith(start)}
        if stored or like is None:
            return stored
        return recipe_weights(self.entry, {k: tuple(v.shape) for k, v in like.items()})

    def check(self, name: str, actual: torch.Tensor, stored: torch.Tensor | None = None) -> None:
        """Compare with output `name` under the manifest's own tolerance (absolute; exact where it says so)."""
        expected = self.tensors[f"out/{name}"] if stored is None else stored
        tolerance = self.entry["tolerance"][name]
        actual = actual.detach().cpu()
        assert actual.shape == expected.shape, f"{self.name} {name}: {tuple(actual.shape)} != {tuple(expected.shape)}"
        if tolerance.get("exact"):
            assert torch.equal(actual.to(expected.dtype), expected), f"{self.name} {name}: not equal"
            return
        worst = (actual.double() - expected.double()).abs().max().item()
        assert worst <= tolerance["atol"], f"{self.name} {name}: off by {worst:.3g}, allowed {tolerance['atol']:.3g}"


def recipe_weights(entry: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Make seeded weights by the manifest's `weights_recipe`: one generator a key, scaled by the kind of weight."""
    recipe = entry["weights_recipe"]
    own = recipe.partition("key is the state_dict key")[2]
    gains = {key: float(gain) for gain, key in re.findall(r"([\d.]+) for ([\w.]+\w)", own)}
    gains |= {key: float(gain) for key, gain in re.findall(r"([\w.]+\.weight) gain ([\d.]*\d)", own)}
    whole = re.search(r"; gain ([\d.]*\d)(?![\d.]* for)", own)
    everywhere = float(whole.group(1)) if whole else 1.0
    rounded = next((DTYPES[d] for d in re.findall(r"rounded to (\w+)", own)), torch.float32)
    made = {}
    for key, shape in shapes.items():
        generator = np.random.Generator(np.random.PCG64([entry["seeds"]["weights"], zlib.crc32(key.encode())]))
        z = generator.standard_normal(shape, dtype=np.float64)
        gain = next((g for end, g in gains.items() if f".{key}".endswith(f".{end}")), everywhere)
        value = _scaled(key, z, shape, gain).astype(np.float32)
        made[key] = torch.from_numpy(value).to(rounded).float()
    return made


def _scaled(key: str, z: np.ndarray, shape: tuple[int, ...], gain: float) -> np.ndarray:
    leaf, owner = key.rsplit(".", 1)[-1], key.rsplit(".", 2)[-2]
    if leaf == "mix_factor":
        return np.clip(z, -1.5, 1.5)
    if "norm" in owner:
        return 1 + 0.2 * z if leaf == "weight" else 0.2 * z
    if leaf == "bias":
        return 0.1 * z
    if len(shape) == 1:  # PReLU slopes are the only other vectors among the recipes' networks
        return 0.25 + 0.1 * z
    transposed = len(shape) == 4 and shape[2:] == (4, 4)
    fan_in = shape[0] * shape[2] * shape[3] / 4 if transposed else np.prod(shape[1:])
    return gain * z / np.sqrt(fan_in)
