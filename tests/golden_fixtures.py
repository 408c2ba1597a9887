"""Reads the numeric fixtures: a folder with `manifest.json` and one safetensors file a stage.

Keys of the safetensors files: ``w/<state-dict key>``, ``in/<name>``, ``out/<name>``. Nothing here knows a size, a
seed or the name of a case: another folder of the same form runs through the same tests. What a folder lacks skips the
test that needs it, with the missing thing's name.
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


PROGRAMS = ("DICE-Talk", "Sonic")
"""The programs that these tests reimplement, as the manifest's `reference` names them."""


class Table(dict[str, Any]):
    """A table of a set, or tensors by name; asking for an entry that is not there skips the test and names it."""

    def __init__(self, values: dict[str, Any], where: str):
        super().__init__({key: _table(value, f"{where}, {key}") for key, value in values.items()})
        self.where = where

    def __missing__(self, key: str) -> Any:
        pytest.skip(f"{self.where}: no {key!r} is recorded")


def _table(value: Any, where: str) -> Any:
    if isinstance(value, dict):
        return Table(value, where)
    if isinstance(value, list):
        return [_table(item, f"{where} [{place}]") for place, item in enumerate(value)]
    return value


class Golden:
    """One folder of fixtures.

    Args:
        folder: holds `manifest.json`.

    Raises:
        pytest.UsageError: there is no such file, or it lists no files.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        manifest = self.folder / "manifest.json"
        if not manifest.is_file():
            raise pytest.UsageError(f"--golden-dir {self.folder}: no manifest.json in there.")
        content = json.loads(manifest.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not isinstance(content.get("files"), dict):
            raise pytest.UsageError(f"--golden-dir {self.folder}: manifest.json has no table `files`.")
        self.manifest = Table(content, "manifest.json")
        self.compared: set[tuple[str, str]] = set()
        """File and name of every output that a test has compared."""
        self._files: dict[str, GoldenFile] = {}

    @property
    def program(self) -> str | None:
        """Which of :data:`PROGRAMS` the set was recorded from; `None` for another one."""
        reference = str(self.manifest.get("reference", PROGRAMS[0])).lower()
        return next((program for program in PROGRAMS if program.lower() in reference), None)

    @property
    def foreign(self) -> str | None:
        """Why this set cannot be compared, if it was recorded from another program."""
        if self.program:
            return None
        reference = self.manifest["reference"]
        return f"{self.folder} holds fixtures of {reference}; these tests compare {' and '.join(PROGRAMS)}"

    def names(self, pattern: str) -> list[str]:
        """Files that the manifest lists, the folder holds and the regular expression `pattern` matches as a whole."""
        listed = self.manifest["files"]
        return [name for name in listed if re.fullmatch(pattern, name) and (self.folder / name).is_file()]

    def file(self, name: str) -> "GoldenFile":
        """The fixtures of one stage; the test is skipped where the folder does not hold them."""
        if name not in self.manifest["files"] or not (self.folder / name).is_file():
            pytest.skip(f"{name} is not in {self.folder}")
        return self._files.setdefault(name, GoldenFile(self, name))

    def json(self, name: str) -> Any:
        """A JSON file of the folder (`preprocess.json`, `keys/unet.pth.keys.json`)."""
        if not (self.folder / name).is_file():
            pytest.skip(f"{name} is not in {self.folder}")
        return _table(json.loads((self.folder / name).read_text(encoding="utf-8")), name)


class GoldenFile:
    """One safetensors file and its entry in the manifest."""

    def __init__(self, golden: Golden, name: str):
        self.golden = golden
        self.name = name
        self.entry: Table = golden.manifest["files"][name]

    @cached_property
    def tensors(self) -> Table:
        """Everything stored, by key, in the stored dtype."""
        return Table(load_file(self.golden.folder / self.name), self.name)

    def inputs(self, prefix: str = "") -> Table:
        """Inputs whose name starts with `prefix`, named by the rest."""
        start = f"in/{prefix}"
        found = {k.removeprefix(start): v for k, v in self.tensors.items() if k.startswith(start)}
        return Table(found, f"{self.name}, inputs {prefix}".rstrip())

    def output_names(self, prefix: str = "") -> list[str]:
        """Names of the recorded outputs that start with `prefix`."""
        return [k.removeprefix("out/") for k in self.tensors if k.startswith(f"out/{prefix}")]

    @cached_property
    def cases(self) -> dict[str, Table]:
        """Cases by name: those of the manifest, in a file without such a table the folders of its outputs."""
        if "cases" in self.entry:
            return dict(self.entry["cases"])
        folders = dict.fromkeys(name.partition("/")[0] for name in self.output_names() if "/" in name)
        return {name: Table({}, f"{self.name}, case {name}") for name in folders}

    def inputs_of(self, case: str) -> Table:
        """Inputs of `case`: those of every case, those of the group that the manifest names, and its own."""
        for_all = {name: value for name, value in self.inputs().items() if "/" not in name}
        group = self.cases[case].get("inputs")
        grouped = self.inputs(f"{group}/") if isinstance(group, str) else {}
        return Table(for_all | grouped | self.inputs(f"{case}/"), f"{self.name}, inputs of case {case}")

    @property
    def words(self) -> str:
        """What the manifest says about this file in prose."""
        return "\n".join([str(self.entry.get("what", "")), *map(str, self.entry.get("notes", []))])

    def said_of(self, case: str) -> str:
        """The clause about `case` in the manifest's prose (``a: ...;`` or ``a = ...,``), empty if there is none."""
        clause = re.search(rf"(?<![\w/]){re.escape(case)}(?::| =) ([^;\n]*)", self.words)
        return clause[1] if clause else ""

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

    def check_recorded(self, made: dict[str, torch.Tensor]) -> None:
        """Compare those of `made`, by output name, that are recorded; skip the test where none is."""
        recorded = [name for name in made if f"out/{name}" in self.tensors]
        for name in recorded:
            self.check(name, made[name])
        if not recorded:
            pytest.skip(f"{self.name}: none of {', '.join(made)} is recorded")

    def check(self, name: str, actual: torch.Tensor, stored: torch.Tensor | None = None) -> None:
        """Compare with output `name` under the manifest's own tolerance (absolute; exact where it says so)."""
        expected = self.tensors[f"out/{name}"] if stored is None else stored
        tolerance = self.entry["tolerance"][name]
        self.golden.compared.add((self.name, name))
        actual = actual.detach().cpu()
        assert actual.shape == expected.shape, f"{self.name} {name}: {tuple(actual.shape)} != {tuple(expected.shape)}"
        if tolerance.get("exact"):
            assert torch.equal(actual.to(expected.dtype), expected), f"{self.name} {name}: not equal"
            return
        worst = (actual.double() - expected.double()).abs().max().item()
        assert worst <= tolerance["atol"], f"{self.name} {name}: off by {worst:.3g}, allowed {tolerance['atol']:.3g}"


_KEY = pytest.StashKey[list[Golden]]()
OWN = tuple(Path(__file__).parent / "golden" / name for name in ("data", "data_sonic"))
"""Slim copies of the sets of :data:`PROGRAMS`."""


def golden_sets(config: pytest.Config) -> list[Golden]:
    """The set of ``--golden-dir``, or the own ones; the same objects throughout a run."""
    if _KEY not in config.stash:
        given = config.getoption("--golden-dir")
        config.stash[_KEY] = [Golden(folder) for folder in ([given] if given else OWN)]
    return config.stash[_KEY]


def golden_set(config: pytest.Config, program: str) -> Golden:
    """The set of one program; the test is skipped where there is none."""
    sets = golden_sets(config)
    for golden in sets:
        if golden.program == program:
            return golden
    pytest.skip(sets[0].foreign or f"{sets[0].folder} holds fixtures of {sets[0].program}, not of {program}")


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
