"""ComfyUI-DICETalk: one picture, recorded speech and an emotion become a video."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """What ComfyUI calls to get the pack."""
    _provide_library()
    from .nodes.extension import DiceTalkExtension

    return DiceTalkExtension()


def _provide_library() -> None:
    """Make this folder's ``dicetalk`` importable, whatever the folder is called.

    Not through ``sys.path``: there this folder's ``nodes`` and ``tests`` would stand beside ComfyUI's own.
    """
    folder = Path(__file__).resolve().parent / "dicetalk"
    present = sys.modules.get("dicetalk")
    if present is None:
        spec = spec_from_file_location("dicetalk", folder / "__init__.py", submodule_search_locations=[str(folder)])
        sys.modules["dicetalk"] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules["dicetalk"])
    elif Path(present.__file__).resolve().parent != folder:
        raise ImportError(
            f"ComfyUI-DICETalk is there twice: {folder} and {Path(present.__file__).parent}. Remove one of them."
        )
