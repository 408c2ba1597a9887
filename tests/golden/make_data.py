"""Makes the slim copy of the numeric fixtures that lies in `data`: ``python tests/golden/make_data.py FIXTURES``.

Weights that the manifest's recipe reproduces exactly are left out of the large files; the tests make them again.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[1]))
from golden_fixtures import recipe_weights

LARGE = ("unet_tiny.safetensors", "rife.safetensors")
HERE = Path(__file__).parent / "data"


def main(source: Path) -> None:
    """Copy `source`, without the weights of the large files."""
    shutil.rmtree(HERE, ignore_errors=True)
    shutil.copytree(source, HERE, copy_function=shutil.copyfile)
    manifest = json.loads((source / "manifest.json").read_text())
    for name in LARGE:
        tensors = load_file(source / name)
        stored = {key.removeprefix("w/"): value for key, value in tensors.items() if key.startswith("w/")}
        made = recipe_weights(manifest["files"][name], {key: tuple(value.shape) for key, value in stored.items()})
        wrong = [key for key, value in stored.items() if not torch.equal(made[key], value.float())]
        if wrong:
            raise SystemExit(f"{name}: the recipe does not reproduce {wrong[:3]}")
        save_file({key: value for key, value in tensors.items() if not key.startswith("w/")}, HERE / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
