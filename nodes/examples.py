"""The picture and the speech that the quickstart workflow names."""

import shutil
from pathlib import Path

import folder_paths

import dicetalk

DEMO = Path(dicetalk.__file__).parent / "assets" / "demo"
EXAMPLES = {"portrait.png": "dicetalk_portrait.png", "speech.ogg": "dicetalk_speech.ogg"}


def offer_examples() -> None:
    """Put them into ComfyUI's input folder, where Load Image and Load Audio find them; existing files stay."""
    folder = Path(folder_paths.get_input_directory())
    folder.mkdir(parents=True, exist_ok=True)
    for name, offered in EXAMPLES.items():
        if not (folder / offered).exists():
            shutil.copyfile(DEMO / name, folder / offered)
