"""Makes the slim copy of numeric fixtures that lies in `data` or `data_sonic`.

    python tests/golden/make_data.py FIXTURES

Weights that the manifest's recipe reproduces exactly are left out of the large files; the tests make them again.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[1]))
from golden_fixtures import OWN, PROGRAMS, Golden, recipe_weights

LARGE = {"DICE-Talk": ("unet_tiny.safetensors", "rife.safetensors"), "Sonic": ("sonic_unet.safetensors",)}
FOLDERS = dict(zip(PROGRAMS, OWN, strict=True))


def main(source: Path) -> None:
    """Copy `source`, without the weights of the large files."""
    program = Golden(source).program
    folder = FOLDERS[program]
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder, copy_function=shutil.copyfile)
    folder.chmod(0o755)
    (folder / "keys").chmod(0o755)
    manifest = json.loads((source / "manifest.json").read_text())
    for name in LARGE[program]:
        tensors = load_file(source / name)
        stored = {key.removeprefix("w/"): value for key, value in tensors.items() if key.startswith("w/")}
        made = recipe_weights(manifest["files"][name], {key: tuple(value.shape) for key, value in stored.items()})
        wrong = [key for key, value in stored.items() if not torch.equal(made[key], value.float())]
        if wrong:
            raise SystemExit(f"{name}: the recipe does not reproduce {wrong[:3]}")
        save_file({key: value for key, value in tensors.items() if not key.startswith("w/")}, folder / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
