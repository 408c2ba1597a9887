"""What a complete model consists of, and where each file is looked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from dicetalk.checkpoints.tiny import model_folder
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.errors import CheckpointError

DICE_REPO = "EEEELY/DICE-Talk"
WHISPER_REPO = "openai/whisper-tiny"
SVD_REPO = "stabilityai/stable-video-diffusion-img2vid-xt"
SVD_FOLDER = "stable-video-diffusion-img2vid-xt"

_SVD_FOLDERS = (f"{SVD_FOLDER}-1-1", SVD_FOLDER, "svd_xt", "")
_BASES = ("", "DICE-Talk", "checkpoints", "checkpoints/DICE-Talk")
_PACKED = "dicetalk*.safetensors"
_SVD_SINGLE_FILE = "svd_xt*.safetensors"
_SVD_WITHOUT_TEMPORAL_DECODER = "image_decoder"


@dataclass(frozen=True)
class ModelFile:
    """One file of a complete model.

    Args:
        name: path below the model folder, as :func:`dicetalk.checkpoints.download.download_model` lays it out.
        what: what it holds, for messages.
        repo: Hugging Face repository that publishes it, or none for what is made here.
        places: other paths, relative to any base folder, where it is also found.
        optional: the model works without it.
        made_by: command that makes it, where no repository has it.
    """

    name: str
    what: str
    repo: str | None
    places: tuple[str, ...] = ()
    optional: bool = False
    made_by: str = "dicetalk convert"

    @property
    def origin(self) -> str:
        """Where the file comes from, for people."""
        if self.repo is None:
            return f"`{self.made_by}`"
        link = f"https://huggingface.co/{self.repo}"
        if self.repo == SVD_REPO:
            return f"{link} (or -xt-1-1; accept its licence there first), or use ComfyUI's {_SVD_SINGLE_FILE}"
        if self.name.endswith(".npy"):
            return f"{link} or examples/emotion of the DICE-Talk program on GitHub"
        return link


def _svd(name: str, what: str, other_name: str) -> ModelFile:
    places = tuple(f"{folder}/{n}" if folder else n for folder in _SVD_FOLDERS for n in (name, other_name))
    return ModelFile(f"{SVD_FOLDER}/{name}", what, SVD_REPO, places)


def _whisper(name: str, what: str, *other_names: str) -> ModelFile:
    return ModelFile(f"whisper-tiny/{name}", what, WHISPER_REPO, tuple(f"whisper-tiny/{n}" for n in other_names))


def _prior(emotion: str) -> ModelFile:
    name = f"{emotion}.npy"
    places = (f"emotion/{emotion}.safetensors", f"examples/emotion/{name}", f"priors/{name}", name)
    return ModelFile(f"emotion/{name}", f"emotion prior '{emotion}'", DICE_REPO, places)


UNET = ModelFile("unet.pth", "UNet with audio and emotion adapters", DICE_REPO)
AUDIO_PROJECTION = ModelFile("audio_linear.pth", "audio projection", DICE_REPO)
EMOTION_MODEL = ModelFile("emo_model.pth", "emotion model", DICE_REPO)
POSE_GUIDER = ModelFile("pose_guider.pth", "pose guider", DICE_REPO)
FLOWNET = ModelFile("RIFE/flownet.pkl", "frame interpolation (RIFE)", DICE_REPO, ("flownet.pkl",), optional=True)
WHISPER_CONFIG = _whisper("config.json", "sizes of Whisper")
WHISPER = _whisper("model.safetensors", "Whisper, whose encoder hears the speech", "pytorch_model.bin")
VAE = _svd("vae/diffusion_pytorch_model.fp16.safetensors", "SVD's VAE", "vae/diffusion_pytorch_model.safetensors")
IMAGE_ENCODER = _svd(
    "image_encoder/model.fp16.safetensors", "SVD's CLIP image encoder", "image_encoder/model.safetensors"
)
PRIORS = {emotion: _prior(emotion) for emotion in PRESET_NAMES}
EMBEDDER = ModelFile("embedder.safetensors", "emotion embedder", None, optional=True, made_by="dicetalk train embedder")
READER = ModelFile(
    "expression_reader.safetensors",
    "what reads the embedder's coefficients off a face",
    None,
    optional=True,
    made_by="dicetalk train tiny",
)
DETECTOR = ModelFile("yoloface_v5m.pt", "released face detector", DICE_REPO, optional=True)
PACKED = ModelFile(_PACKED, "the four DICE-Talk networks in one file", None, optional=True)

DICE_FILES = (UNET, AUDIO_PROJECTION, EMOTION_MODEL, POSE_GUIDER)
OWN_FILES = (EMBEDDER, READER)
"""What the release does not have; only a training of one's own makes them."""

MODEL_FILES = (*DICE_FILES, FLOWNET, WHISPER_CONFIG, WHISPER, VAE, IMAGE_ENCODER, *PRIORS.values(), DETECTOR)


@dataclass(frozen=True)
class FoundFiles:
    """What :func:`find_files` found.

    Args:
        folder: where it looked.
        paths: path of every file that exists. With a converted file (:data:`PACKED`) that one stands for the four
            :data:`DICE_FILES`.
        svd: where it looked for SVD-XT, if that is elsewhere.
    """

    folder: Path
    paths: dict[ModelFile, Path]
    svd: Path | None = None

    @property
    def wanted(self) -> tuple[ModelFile, ...]:
        """Every file of this model, found or not; of :data:`OWN_FILES` those that were found."""
        own = tuple(file for file in OWN_FILES if file in self.paths)
        if PACKED in self.paths:
            return (PACKED, *(file for file in MODEL_FILES if file not in DICE_FILES), *own)
        return (*MODEL_FILES, *own)

    @property
    def missing(self) -> tuple[ModelFile, ...]:
        """Files that are needed and not there."""
        return tuple(file for file in self.wanted if file not in self.paths and not file.optional)


def find_files(folder: Path | str, svd: Path | str | None = None, shared: Sequence[Path | str] = ()) -> FoundFiles:
    """Look for every file of the model, here and in the usual layouts.

    Each file is looked for in `folder`, in its `DICE-Talk` and its `checkpoints`; the first hit counts. SVD-XT is found
    as a diffusers folder, and else as ``svd_xt*.safetensors``.

    Args:
        folder: the model folder, or one file in it that says which networks are meant: a converted file, or the
            released ``unet.pth``; ``tiny`` is the bundled model.
        svd: SVD-XT elsewhere: a diffusers folder, a single-file checkpoint, or a folder that holds one of these.
            `folder` is then not searched for it.
        shared: folders that are searched after `folder` for what several programs use: all but the networks of
            DICE-Talk and the embedder.

    Raises:
        CheckpointError: `svd` is given and does not exist, or this copy of the package has no bundled model.
    """
    if svd is not None and not Path(svd).exists():
        raise CheckpointError(
            f"{svd}: there is no such file or folder to take SVD-XT from. Give a diffusers folder or a single-file "
            "checkpoint, or leave it out, to look for it in the model folder."
        )
    chosen = model_folder(folder)
    folder = chosen.parent if chosen.is_file() else chosen
    paths = {}
    for file in (PACKED, *MODEL_FILES, *OWN_FILES):
        folders = [folder] if file in (PACKED, *DICE_FILES, *OWN_FILES) else [folder, *map(model_folder, shared)]
        hits = (
            hit
            for place in folders
            for hit in (_svd_hits(file, place, svd) if file.repo == SVD_REPO else _hits(file, place))
        )
        path = next(hits, None)
        if path is not None:
            paths[file] = path
    if chosen.is_file():
        paths.pop(PACKED, None)
        paths[UNET if chosen.name == UNET.name else PACKED] = chosen
    return FoundFiles(folder, paths, None if svd is None else Path(svd))


def _hits(file: ModelFile, folder: Path) -> Iterator[Path]:
    for base in _BASES:
        if file is PACKED:
            yield from sorted(p for p in (folder / base).glob(_PACKED) if p.is_file())
            continue
        for place in (file.name, *file.places):
            if (folder / base / place).is_file():
                yield folder / base / place


def is_svd_checkpoint(name: str) -> bool:
    """Whether a single file called `name` is SVD-XT, with the decoder that the model wants."""
    return fnmatch(name, _SVD_SINGLE_FILE) and _SVD_WITHOUT_TEMPORAL_DECODER not in name


def _svd_hits(file: ModelFile, folder: Path, svd: Path | str | None) -> Iterator[Path]:
    root = folder if svd is None else Path(svd)
    if root.is_file():
        yield root
        return
    yield from _hits(file, root)
    for base in _BASES:
        for path in sorted((root / base).glob(_SVD_SINGLE_FILE)):
            if path.is_file() and is_svd_checkpoint(path.name):
                yield path
