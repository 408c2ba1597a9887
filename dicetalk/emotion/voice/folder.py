"""The folder of a transformers audio classifier, looked through before transformers builds what it describes.

A config is a description of any network, with any sizes; transformers makes it without asking whether the weights in
the folder are for such a one.
"""

import json
from pathlib import Path
from typing import Any

from dicetalk.errors import CheckpointError
from dicetalk.paths import checked_path, is_file, read_limited

CONFIG, FEATURES = "config.json", "preprocessor_config.json"
MAX_CONFIG_BYTES = 1 << 20
"""Configs list their labels, with a few hundred of them at most."""

MAX_NUMBER = 1 << 20
"""Largest whole number in a config: vocabularies have some hundred thousand words."""

MAX_LAYERS = 256
MAX_ENTRIES = 10_000


def check_folder(folder: Path | str) -> Path:
    """`folder`, if it has the files of a classifier and its configs can be those of one.

    Raises:
        CheckpointError: a file is missing, too large or no table in JSON, or asks for more than any classifier.
    """
    folder = checked_path(folder, CheckpointError)
    missing = [name for name in (CONFIG, FEATURES) if not is_file(folder / name)]
    if not list(folder.glob("*.safetensors")):
        missing.append("model.safetensors")
    if missing:
        raise CheckpointError(
            f"{folder} is not a folder of a transformers audio classifier: {', '.join(missing)} is missing."
        )
    for name in (CONFIG, FEATURES):
        _check_numbers(folder / name, _table(folder / name))
    return folder


def _table(path: Path) -> dict[str, Any]:
    content = read_limited(path, MAX_CONFIG_BYTES, CheckpointError, "the classifier's config")
    try:
        table = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is no JSON ({error}).") from error
    if not isinstance(table, dict):
        raise CheckpointError(f"{path} is no table of a classifier's entries.")
    return table


def _check_numbers(path: Path, table: dict[str, Any]) -> None:
    waiting: list[tuple[str, Any]] = list(table.items())
    seen = 0
    while waiting:
        name, value = waiting.pop()
        seen += 1
        if isinstance(value, dict):
            waiting += value.items()
        elif isinstance(value, list):
            waiting += [(name, each) for each in value]
        elif isinstance(value, int) and abs(value) > (MAX_LAYERS if "layers" in name else MAX_NUMBER):
            raise CheckpointError(f"{path}: {name[:40]} is {str(value)[:40]}, more than any classifier has.")
        if seen > MAX_ENTRIES:
            raise CheckpointError(f"{path} has more than {MAX_ENTRIES} entries; no classifier's config has.")
