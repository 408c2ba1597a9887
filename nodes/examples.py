"""The pictures, sounds and the reference clip that the templates name."""

import logging
import shutil
from pathlib import Path

import folder_paths

import dicetalk

_log = logging.getLogger("dicetalk")

_DRAWN = Path(dicetalk.__file__).parent / "assets" / "demo"
_REAL = Path(__file__).parents[1] / "examples"
EXAMPLES = {
    "dicetalk_portrait.png": _DRAWN / "portrait.png",
    "dicetalk_speech.ogg": _DRAWN / "speech.ogg",
    "dicetalk_portrait.jpg": _REAL / "portrait.jpg",
    "dicetalk_speech.wav": _REAL / "speech.wav",
    "dicetalk_reference.mp4": _REAL / "reference.mp4",
}
"""File by the name under which it is offered: drawn ones for the bundled model, real ones for the released weights."""


def offer_examples() -> None:
    """Copy them into ComfyUI's input folder, where the Load nodes find them; existing files stay.

    A folder that cannot be written costs the examples alone: the pack is loaded without them.
    """
    folder = Path(folder_paths.get_input_directory())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for offered, source in EXAMPLES.items():
            if not (folder / offered).exists():
                shutil.copyfile(source, folder / offered)
    except OSError as error:
        _log.warning("%s: the templates' pictures, sounds and clip cannot be put there (%s).", folder, error.strerror)
