"""Load DICE Model."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import comfy.model_management
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy_api.latest import io

from dicetalk.checkpoints.find import find_files, tiny_folder
from dicetalk.checkpoints.load import load_model
from dicetalk.checkpoints.motion import find_motion_network, with_predicted_motion
from dicetalk.checkpoints.variants import Variant
from dicetalk.errors import CheckpointError

from .folders import (
    AUTO,
    MODELS,
    TINY,
    is_known_svd,
    model_names,
    model_path,
    model_variant,
    shared_folders,
    svd_beside,
    svd_names,
    svd_path,
)
from .hooks import SHOWN_AGAIN, comfy_hooks, keeps_notices
from .prompts import SettledNode, Upstream
from .residency import Operations
from .wires import CATEGORY, HostedModel, ModelWire

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
UNET_PARAMETERS = 1_600_000_000


class LoadModel(SettledNode):
    """Weights to one wire."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declare the node's inputs and outputs."""
        return io.Schema(
            node_id="DICETalk_LoadModel",
            **SHOWN_AGAIN,
            display_name="Load DICE Model",
            category=CATEGORY,
            description="Loads DICE-Talk, Sonic or the small bundled model. Its networks reach the graphics card only "
            "when they are used.",
            search_aliases=["DICE-Talk", "dice talk loader", "talking head", "emotional portrait"],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=model_names(),
                    tooltip="The bundled tiny model, or a file in models/dice_talk: the released unet.pth (6.5 GB in "
                    "float32; its neighbours, with emo_model.pth of 286 MB, are found by themselves; dicetalk download "
                    "fetches about 9 GB in all), Sonic's, which has no emotions (also in models/sonic), or one "
                    "converted safetensors. The released weights are for non-commercial use (CC BY-NC-SA 4.0).",
                ),
                io.Combo.Input(
                    "svd",
                    options=svd_names(),
                    default=AUTO,
                    tooltip="Stable Video Diffusion XT, of which the VAE and the image encoder are used. auto: beside "
                    "the model, else svd_xt*.safetensors in models/checkpoints. The tiny model brings its own.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=[AUTO, *DTYPES],
                    default=AUTO,
                    tooltip="Number format of the networks. auto: fp16 where the device computes it well, else bf16 "
                    "or fp32.",
                ),
                io.Boolean.Input(
                    "predict_motion",
                    default=False,
                    optional=True,  # prompts from before have no such input
                    advanced=True,
                    tooltip="Let Sonic's audio2bucket.pth, from models/dice_talk or models/sonic, predict from the "
                    "speech how much DICE-Talk's head and face move, in the place of DICE Sampler's motion_bucket and "
                    "expression_bucket. Sonic always does so. Non-commercial use (CC BY-NC-SA 4.0).",
                ),
            ],
            outputs=[ModelWire.Output("model_out", display_name="model", tooltip="All networks and emotion presets.")],
        )

    @classmethod
    def dead_inputs(cls, inputs: Mapping[str, Any]) -> Iterable[str]:
        """Names of inputs that have no influence beside the others."""
        model = inputs.get("model")
        if model == TINY:
            return ("svd",)
        return ("predict_motion",) if isinstance(model, str) and _predicts_itself(model) else ()

    @classmethod
    def validate_inputs(cls, svd: str | None = None) -> bool | str:
        """A workflow from somebody who keeps SVD-XT among the checkpoints runs also where it lies with the model."""
        if svd is None or is_known_svd(svd) or svd_beside():
            return True
        return (
            f"svd: {svd} is not in models/checkpoints, and models/{MODELS} has no Stable Video Diffusion. Choose auto "
            f"or one that is there, or fetch it: `dicetalk download` into models/{MODELS}."
        )

    @classmethod
    def rewired(cls, inputs: Mapping[str, Any], upstream: Upstream) -> Mapping[str, Any]:
        """Names with the system's own separator, as earlier releases offered them on Windows."""
        model = inputs.get("model")
        plain = model.replace("\\", "/") if isinstance(model, str) else model
        return {"model": plain} if plain != model and plain in model_names() else {}

    @classmethod
    def fingerprint_inputs(
        cls, model: str | None, svd: str | None, dtype: str | None, predict_motion: bool | None = False
    ) -> list[tuple[str, int, int]]:
        """Loaded again when any of its files has changed, come or gone; what comes over a wire is not known yet."""
        if model is None or svd is None:
            return []
        chosen, elsewhere, shared = _places(model, svd)
        files = set(find_files(chosen, elsewhere, shared).paths.values())
        if predict_motion:
            with suppress(CheckpointError):  # reported by the run
                files.add(find_motion_network(chosen, shared_folders()))
        return [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(files)]

    @classmethod
    @keeps_notices
    def execute(cls, model: str, svd: str, dtype: str, predict_motion: bool = False) -> io.NodeOutput:
        """Load the model on the CPU; ComfyUI moves its networks when they are used."""
        chosen, elsewhere, shared = _places(model, svd)
        wanted = predict_motion and not _predicts_itself(model)
        motion = find_motion_network(chosen, shared_folders()) if wanted else None
        hooks = comfy_hooks({"load": 1})
        if model != TINY and not is_known_svd(svd):
            hooks.notice(f"{svd} is not in models/checkpoints; Stable Video Diffusion is taken as by auto.")
        loaded = load_model(
            chosen,
            svd=elsewhere,
            dtype=DTYPES.get(dtype) or _fitting_dtype(),
            operations=Operations,
            attention=_attention,
            shared=shared,
            hooks=hooks,
        )
        if motion is not None:
            loaded = with_predicted_motion(loaded, motion)
        return io.NodeOutput(HostedModel(loaded), ui=hooks.shown())


def loaded_variants(nodes: Iterable[Mapping[str, Any]]) -> list[Variant | None]:
    """Variants of the models that the nodes of this class among `nodes` of a prompt load.

    `None` stands for one that is not known before the run.
    """
    loaders = (node for node in nodes if node.get("class_type") == LoadModel.define_schema().node_id)
    return [model_variant(loader["inputs"].get("model")) for loader in loaders]


def _places(model: str, svd: str) -> tuple[Path, Path | None, list[Path]]:
    """Where the chosen model is, Stable Video Diffusion if it lies elsewhere, and where else files may lie."""
    if model == TINY:
        return tiny_folder(), None, []
    path = model_path(model)
    return path, svd_path(svd, path), shared_folders()


def _predicts_itself(model: str) -> bool:
    """Whether the variant of the model `model` has a motion network of its own."""
    variant = model_variant(model)
    return variant is not None and variant.config.bucket is not None


def _fitting_dtype() -> torch.dtype:
    device = comfy.model_management.get_torch_device()
    dtype = comfy.model_management.unet_dtype(device, UNET_PARAMETERS, list(DTYPES.values()))
    if dtype not in DTYPES.values():  # ComfyUI was started with a type for all UNets, for example --fp8_e4m3fn-unet
        dtype = torch.float16 if comfy.model_management.should_use_fp16(device) else torch.float32
    return dtype


def _attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    """ComfyUI's attention under the library's name for it, :class:`dicetalk.layers.Attention`."""
    return optimized_attention(q, k, v, heads)
