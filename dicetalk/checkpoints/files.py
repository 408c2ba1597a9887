"""What a complete model consists of, and where each file is looked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from dicetalk.checkpoints import layouts, sources
from dicetalk.checkpoints.layouts import PRIOR_FOLDER
from dicetalk.checkpoints.sources import Repository
from dicetalk.checkpoints.tiny import model_folder
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.errors import CheckpointError
from dicetalk.paths import checked_path, is_file

SVD_REPO = sources.SVD.name
SVD_FOLDER = "stable-video-diffusion-img2vid-xt"

_SVD_FOLDERS = (f"{SVD_FOLDER}-1-1", SVD_FOLDER, "svd_xt", "")
_LONGEST_NAME = 128
"""Characters, at most, of any path that is looked for in a folder."""

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
        source: repository that publishes it, or `None` for what is made here.
        remote: path in that repository.
        bytes: size of the published file: exact where `sha256` is given, else about right, for people.
        sha256: checksum of the published file, where its host keeps none.
        places: other paths, relative to any base folder, where it is also found.
        optional: the model works without it.
        made_by: command that makes it, where no repository has it.
    """

    name: str
    what: str
    source: Repository | None = None
    remote: str = ""
    bytes: int = 0
    sha256: str | None = None
    places: tuple[str, ...] = ()
    optional: bool = False
    made_by: str = "dicetalk convert"

    @property
    def repo(self) -> str | None:
        """``owner/name`` of the repository that publishes it, or `None`."""
        return self.source and self.source.name

    @property
    def url(self) -> str | None:
        """Direct address at the pinned revision, or `None` for what is made here."""
        return self.source and self.source.url(self.remote)

    @property
    def origin(self) -> str:
        """Where the file comes from, for people."""
        if self.source is None:
            return f"`{self.made_by}`"
        if self.source is sources.SVD:
            return (
                f"{self.source.page} (or -xt-1-1; accept its licence there first), or use ComfyUI's {_SVD_SINGLE_FILE}"
            )
        folder = Path(self.remote).parent.as_posix() if self.source is sources.PROGRAM else "."
        return self.source.page if folder == "." else f"{self.source.page}, folder {folder}"


def _dice(name: str, what: str, size: int) -> ModelFile:
    return ModelFile(name, what, sources.DICE, f"DICE-Talk/{name}", size)


def _svd(name: str, what: str, size: int, other_name: str) -> ModelFile:
    places = tuple(f"{folder}/{n}" if folder else n for folder in _SVD_FOLDERS for n in (name, other_name))
    return ModelFile(f"{SVD_FOLDER}/{name}", what, sources.SVD, name, size, places=places)


def _whisper(name: str, what: str, size: int, *other_names: str) -> ModelFile:
    places = tuple(f"whisper-tiny/{n}" for n in other_names)
    return ModelFile(f"whisper-tiny/{name}", what, sources.WHISPER, name, size, places=places)


def _prior(emotion: str, sha256: str) -> ModelFile:
    name = f"{emotion}.npy"
    places = (f"emotion/{emotion}.safetensors", f"{PRIOR_FOLDER}/{name}", f"emo/{name}", f"priors/{name}", name)
    remote = f"{PRIOR_FOLDER}/{name}"
    return ModelFile(
        f"emotion/{name}", f"emotion prior '{emotion}'", sources.PROGRAM, remote, PRIOR_BYTES, sha256, places
    )


PRIOR_BYTES = 1403
PRIOR_SHA256 = {
    "angry": "ba5a185d63a31a0c0a3eacac79e843985ff05c4605199d459d00377719b968e3",
    "contempt": "0cb2b27282f1e63149d24415ebefaf59d8ff7c567971ed809588ee00f30cb988",
    "disgusted": "097068dd93b0c5fc955740355847c8b23c2ab752abb67ac880b5f60a2048fb0e",
    "fear": "0767fa00bbea51406bfc92962b16b7cb003954b353f5b26ab7a267835a43b5a2",
    "happy": "ce84e8456729a227cb2d629b4c37c4de274800a427aa5f35b10e0fda79fec549",
    "neutral": "2cb35601ae8de98aba9293187b45f34c9cfec5f5bf3efd41d5948bc229cae21e",
    "sad": "9d323ad9b1c42a1c1ed8a8f05e6c0b7344be20e86ed48a855c657d7812545a98",
    "surprised": "0aaae02af23b5874e8407d93cf7fe89a44077efb4a7159f91e51d469c97f400e",
}
"""Of the priors in the program's repository: GitHub gives none with a file."""

# The sizes of the four networks are those of float32, in which they are published.
UNET = _dice("unet.pth", "UNet with audio and emotion adapters", 6_507_000_000)
AUDIO_PROJECTION = _dice("audio_linear.pth", "audio projection", 217_000_000)
EMOTION_MODEL = _dice("emo_model.pth", "emotion model", 299_000_000)
POSE_GUIDER = _dice("pose_guider.pth", "pose guider", 4_300_000)
FLOWNET = ModelFile(
    "RIFE/flownet.pkl",
    "frame interpolation (RIFE)",
    sources.DICE,
    "RIFE/flownet.pkl",
    12_200_000,
    places=("flownet.pkl",),
    optional=True,
)
WHISPER_CONFIG = _whisper("config.json", "sizes of Whisper", 2000)
WHISPER = _whisper("model.safetensors", "Whisper, whose encoder hears the speech", 151_000_000, "pytorch_model.bin")
VAE = _svd(
    "vae/diffusion_pytorch_model.fp16.safetensors", "SVD's VAE", 196_000_000, "vae/diffusion_pytorch_model.safetensors"
)
IMAGE_ENCODER = _svd(
    "image_encoder/model.fp16.safetensors", "SVD's CLIP image encoder", 1_264_000_000, "image_encoder/model.safetensors"
)
PRIORS = {emotion: _prior(emotion, PRIOR_SHA256[emotion]) for emotion in PRESET_NAMES}
EMBEDDER = ModelFile("embedder.safetensors", "emotion embedder", optional=True, made_by="dicetalk train embedder")
READER = ModelFile(
    "expression_reader.safetensors",
    "what reads the embedder's coefficients off a face",
    optional=True,
    made_by="dicetalk train tiny",
)
DETECTOR = ModelFile(
    "yoloface_v5m.pt", "released face detector", sources.DICE, "yoloface_v5m.pt", 84_600_000, optional=True
)
PACKED = ModelFile(_PACKED, "the four DICE-Talk networks in one file", optional=True)

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
    as a diffusers folder, and else as ``svd_xt*.safetensors``. What is not there is looked for in `shared`, and then
    where other programs keep it beside `folder`, see :mod:`dicetalk.checkpoints.layouts`; the four networks of
    DICE-Talk are not, since Sonic's have the same names.

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
    for place in (svd, model_folder(folder)):
        if place is not None:
            checked_path(Path(place, "x" * _LONGEST_NAME), CheckpointError)
    if svd is not None and not checked_path(svd, CheckpointError).exists():
        raise CheckpointError(
            f"{svd}: there is no such file or folder to take SVD-XT from. Give a diffusers folder or a single-file "
            "checkpoint, or leave it out, to look for it in the model folder."
        )
    chosen = checked_path(model_folder(folder), CheckpointError)
    folder = chosen.parent if chosen.is_file() else chosen
    folders = [folder, *map(model_folder, shared)]
    paths = {}
    for file in (PACKED, *MODEL_FILES, *OWN_FILES):
        path = next(_candidates(file, folders, None if svd is None else Path(svd)), None)
        if path is not None:
            paths[file] = path
    if chosen.is_file():
        paths.pop(PACKED, None)
        paths[UNET if chosen.name == UNET.name else PACKED] = chosen
    return FoundFiles(folder, paths, None if svd is None else Path(svd))


def _candidates(file: ModelFile, folders: Sequence[Path], svd: Path | None) -> Iterator[Path]:
    """Paths at which `file` is there, in the order of :func:`find_files`; the first of `folders` is the model's."""
    if file in (PACKED, *DICE_FILES, *OWN_FILES):
        yield from _hits(file, folders[0])
    elif file.source is sources.SVD:
        for place in [svd] if svd else [*folders, *layouts.neighbours(folders[0])]:
            yield from _svd_hits(file, place)
        for place in () if svd else layouts.checkpoint_folders(folders[0]):
            yield from _svd_single_files(place)
    else:
        for place in (*folders, *layouts.neighbours(folders[0])):
            yield from _hits(file, place)
        if file.source is sources.PROGRAM:
            paths = (clone / file.remote for place in folders for clone in layouts.clones(place))
            yield from (path for path in paths if is_file(path))


def _hits(file: ModelFile, folder: Path) -> Iterator[Path]:
    for base in _BASES:
        if file is PACKED:
            yield from sorted(p for p in (folder / base).glob(_PACKED) if p.is_file())
            continue
        for place in (file.name, *file.places):
            if is_file(folder / base / place):
                yield folder / base / place


def is_svd_checkpoint(name: str) -> bool:
    """Whether a single file called `name` is SVD-XT, with the decoder that the model wants."""
    return fnmatch(name, _SVD_SINGLE_FILE) and _SVD_WITHOUT_TEMPORAL_DECODER not in name


def _svd_hits(file: ModelFile, root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    yield from _hits(file, root)
    for base in _BASES:
        yield from _svd_single_files(root / base)


def _svd_single_files(folder: Path) -> Iterator[Path]:
    yield from sorted(p for p in folder.glob(_SVD_SINGLE_FILE) if p.is_file() and is_svd_checkpoint(p.name))
