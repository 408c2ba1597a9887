"""The pack's folders among ComfyUI's."""

import os
from fnmatch import fnmatch
from pathlib import Path

import folder_paths

from dicetalk.checkpoints import variants
from dicetalk.checkpoints.files import PACKED, UNET, VAE
from dicetalk.checkpoints.find import find_files, is_svd_checkpoint, variant_in
from dicetalk.checkpoints.layouts import clones_in
from dicetalk.checkpoints.variants import Variant
from dicetalk.errors import EmotionError
from dicetalk.paths import is_device

MODELS = "dice_talk"
EMOTIONS = "dice_talk_emotions"
SONIC = "sonic"
"""Folder among the models in which the Sonic packs keep theirs."""

TINY = "tiny"
AUTO = "auto"

NAME_CHARACTERS = " -_."
MAX_NAME_LENGTH = 64
MAX_NAME_BYTES = 200
"""File systems take 255 bytes, and letters of some scripts have four each."""

NONE_SAVED = "none saved yet"


def register_folders() -> None:
    """Tell ComfyUI of the model folder and the emotions folder; folders from extra_model_paths.yaml stay."""
    _register(MODELS, os.path.join(folder_paths.models_dir, MODELS), {Path(UNET.name).suffix, ".safetensors"})
    _register(EMOTIONS, os.path.join(folder_paths.get_user_directory(), EMOTIONS), {".safetensors"})


def _register(key: str, folder: str, extensions: set[str]) -> None:
    folder_paths.add_model_folder_path(key, folder)
    folders, known = folder_paths.folder_names_and_paths[key]
    folder_paths.folder_names_and_paths[key] = (folders, set(known) | extensions)


def model_names() -> list[str]:
    """Files that stand for a model, those of other packs after our own, and the bundled one last.

    So that is the default where there is no other.
    """
    return [*_own_models(), *_pack_models(), TINY]


def model_path(name: str) -> Path:
    """The file of the model `name`."""
    own = _own_models()
    if name not in own and name in (others := _pack_models()):
        return others[name]
    return Path(folder_paths.get_full_path_or_raise(MODELS, own.get(name, name)))


def model_variant(name: str | None) -> Variant | None:
    """The variant of the model `name`; `None` where that is not known."""
    if name == TINY:
        return variants.TINY
    if name not in model_names():
        return None
    return variant_in(model_path(name))


def _own_models() -> dict[str, str]:
    """Names of our own folders by the name that is offered, which is the same on every system."""
    names = folder_paths.get_filename_list(MODELS)
    return {name.replace(os.sep, "/"): name for name in names if _is_model(os.path.basename(name))}


def _pack_models() -> dict[str, Path]:
    """Models where the Sonic packs keep theirs, ``models/sonic``, by the name that is offered."""
    own, found = _own_models(), {}
    for folder in _pack_folders():
        for path in sorted(folder.glob("*")) + sorted(folder.glob("*/*")):
            name = f"{SONIC}/{path.relative_to(folder).as_posix()}"
            if _is_model(path.name) and path.is_file() and name not in own:
                found.setdefault(name, path)
    return found


def _pack_folders() -> list[Path]:
    configured = folder_paths.folder_names_and_paths.get(SONIC, ([],))[0]
    return list(dict.fromkeys([Path(folder_paths.models_dir, SONIC), *map(Path, configured)]))


def _is_model(name: str) -> bool:
    return name == UNET.name or fnmatch(name, PACKED.name)


def svd_names() -> list[str]:
    """Checkpoints among which Stable Video Diffusion may be."""
    return [AUTO, *folder_paths.get_filename_list("checkpoints")]


def is_known_svd(name: str) -> bool:
    """Whether `name` may be chosen."""
    return name in svd_names()


def svd_beside() -> bool:
    """Whether Stable Video Diffusion lies in one of our own folders."""
    return any(VAE in find_files(folder).paths for folder in shared_folders())


def svd_path(name: str, model: Path) -> Path | None:
    """The checkpoint `name`.

    For ``auto``, and for a name that is not there, it is `None` if SVD lies with the model, else a checkpoint that is
    called like it.
    """
    if name != AUTO and is_known_svd(name):
        return Path(folder_paths.get_full_path_or_raise("checkpoints", name))
    if VAE in find_files(model, shared=shared_folders()).paths:
        return None
    found = [n for n in svd_names() if is_svd_checkpoint(os.path.basename(n))]
    return svd_path(found[0], model) if found else None


def shared_folders() -> list[Path]:
    """Folders in which Whisper, RIFE, the face detector and the priors may lie as well.

    They are our own, the Sonic pack's, and the older DICE-Talk pack's, which carries the priors.
    """
    packs = [clone for folder in folder_paths.get_folder_paths("custom_nodes") for clone in clones_in(Path(folder))]
    return [*map(Path, folder_paths.get_folder_paths(MODELS)), *_pack_folders(), *packs]


def emotion_names() -> list[str]:
    """Saved emotions, without their extension."""
    return [os.path.splitext(name)[0] for name in folder_paths.get_filename_list(EMOTIONS)]


def emotion_choices() -> list[str]:
    """Choices of Load Emotion; never empty, because the editor would then send nothing and could not say why."""
    return emotion_names() or [NONE_SAVED]


def emotion_path(name: str) -> Path:
    """The file of the saved emotion `name`.

    Raises:
        EmotionError: there is none.
    """
    known = emotion_names()
    if not known:
        raise EmotionError("No emotion has been saved yet. Run Save Emotion first, then press R and choose its name.")
    path = folder_paths.get_full_path(EMOTIONS, f"{name}.safetensors") if name in known else None
    if path is None:
        raise EmotionError(f"There is no saved emotion {name!r}. Known: {', '.join(known)}.")
    return Path(path)


def new_emotion_path(name: str) -> Path:
    """Where the emotion `name` is saved.

    Raises:
        EmotionError: as :func:`check_emotion_name`.
    """
    name = check_emotion_name(name)
    folder = Path(folder_paths.get_folder_paths(EMOTIONS)[0])
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.safetensors"


def check_emotion_name(name: str) -> str:
    """`name` without spaces around it.

    Raises:
        EmotionError: it could leave the folder, or some file system does not take it.
    """
    name = name.strip()
    if is_device(name):
        raise EmotionError(
            f"An emotion cannot be called {name!r}: Windows takes that for a device. Choose another name."
        )
    allowed = name and all(c.isalnum() or c in NAME_CHARACTERS for c in name) and not name.startswith(".")
    if not allowed or name.endswith(".") or len(name) > MAX_NAME_LENGTH or len(name.encode()) > MAX_NAME_BYTES:
        raise EmotionError(
            f"An emotion cannot be called {name[:MAX_NAME_LENGTH]!r}. Use 1 to {MAX_NAME_LENGTH} letters, digits, "
            f"spaces and - _ ., without a point at an end, and at most {MAX_NAME_BYTES} bytes."
        )
    return name
