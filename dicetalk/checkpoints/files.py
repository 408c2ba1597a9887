"""Files that models consist of: what each holds, who publishes it, and the names it may have."""

from dataclasses import dataclass
from pathlib import PurePosixPath

from dicetalk.checkpoints import sources
from dicetalk.checkpoints.layouts import PRIOR_FOLDER
from dicetalk.checkpoints.sources import Repository
from dicetalk.emotion.prior import PRESET_NAMES

SVD_REPO = sources.SVD.name
SVD_FOLDER = "stable-video-diffusion-img2vid-xt"

_SVD_FOLDERS = (f"{SVD_FOLDER}-1-1", SVD_FOLDER, "svd_xt", "")
SVD_SINGLE_FILE = "svd_xt*.safetensors"


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
    def base(self) -> str:
        """Its name without folders."""
        return PurePosixPath(self.name).name

    @property
    def repo(self) -> str | None:
        """``owner/name`` of the repository that publishes it, or `None`."""
        return None if self.source is None else self.source.name

    @property
    def url(self) -> str | None:
        """Direct address at the pinned revision, or `None` for what is made here."""
        return None if self.source is None else self.source.url(self.remote)

    @property
    def origin(self) -> str:
        """Where the file comes from, for people."""
        if self.source is None:
            return f"`{self.made_by}`"
        if self.source is sources.SVD:
            return (
                f"{self.source.page} (or -xt-1-1; accept its licence there first), or use ComfyUI's {SVD_SINGLE_FILE}"
            )
        folder = PurePosixPath(self.remote).parent.as_posix() if self.source is sources.PROGRAM else "."
        return self.source.page if folder == "." else f"{self.source.page}, folder {folder}"


def _dice(name: str, what: str, size: int) -> ModelFile:
    return ModelFile(name, what, sources.DICE, f"DICE-Talk/{name}", size)


def _sonic(name: str, what: str, size: int) -> ModelFile:
    places = (name, f"sonic/{name}")
    return ModelFile(f"Sonic/{name}", what, sources.SONIC, f"Sonic/{name}", size, places=places)


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
SONIC_UNET = _sonic("unet.pth", "UNet with an audio adapter", 6_303_636_358)
SONIC_AUDIO_PROJECTION = _sonic("audio2token.pth", "audio projection", 217_206_084)
SONIC_BUCKETS = _sonic("audio2bucket.pth", "network that predicts motion from the speech", 87_050_998)
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
PACKED = ModelFile("dicetalk*.safetensors", "the four DICE-Talk networks in one file", optional=True)
SONIC_PACKED = ModelFile("dicetalk*.safetensors", "the three Sonic networks in one file", optional=True)

DICE_FILES = (UNET, AUDIO_PROJECTION, EMOTION_MODEL, POSE_GUIDER)
OWN_FILES = (EMBEDDER, READER)
"""Files that no release has; only a training of one's own makes them."""

SONIC_FILES = (SONIC_UNET, SONIC_AUDIO_PROJECTION, SONIC_BUCKETS)
SHARED_FILES = (FLOWNET, WHISPER_CONFIG, WHISPER, VAE, IMAGE_ENCODER, DETECTOR)
"""Files that several variants use, whichever repository publishes them."""

MODEL_FILES = (*DICE_FILES, FLOWNET, WHISPER_CONFIG, WHISPER, VAE, IMAGE_ENCODER, *PRIORS.values(), DETECTOR)
