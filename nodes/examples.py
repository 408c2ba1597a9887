"""The picture and the speech that the quickstart workflow names."""

import logging
import shutil
from pathlib import Path

import folder_paths

import dicetalk

_log = logging.getLogger("dicetalk")

DEMO = Path(dicetalk.__file__).parent / "assets" / "demo"
EXAMPLES = {"portrait.png": "dicetalk_portrait.png", "speech.ogg": "dicetalk_speech.ogg"}


def offer_examples() -> None:
    """Put them into ComfyUI's input folder, where Load Image and Load Audio find them; existing files stay.

    A folder that cannot be written costs the examples alone: the pack is loaded without them.
    """
    folder = Path(folder_paths.get_input_directory())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, offered in EXAMPLES.items():
            if not (folder / offered).exists():
                shutil.copyfile(DEMO / name, folder / offered)
    except OSError as error:
        _log.warning("%s: the quickstart's picture and speech cannot be put there (%s).", folder, error.strerror)
