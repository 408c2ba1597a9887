"""ComfyUI's progress bar, previews and Cancel button for the library's long work."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import comfy.model_management
import comfy.utils
import torch
from comfy.cli_args import LatentPreviewMethod, args
from PIL import Image

from dicetalk.hooks import Hooks
from dicetalk.video.preview import LatentPreview

Preview = Callable[[torch.Tensor], Image.Image]

BAR_LENGTH = 1000
PREVIEW_FRAMES = 4


def comfy_hooks(shares: Mapping[str, float]) -> Hooks:
    """Hooks for one node's work.

    Args:
        shares: how much of the node's bar each stage that reports gets; others are not shown.
    """
    bar = comfy.utils.ProgressBar(BAR_LENGTH)
    whole = sum(shares.values())
    done = dict.fromkeys(shares, 0.0)

    def progress(stage: str, units: int, total: int, picture: Image.Image | None = None) -> None:
        if stage in shares:
            done[stage] = shares[stage] / whole * units / total
            shown = ("JPEG", picture, args.preview_size) if picture else None
            bar.update_absolute(round(BAR_LENGTH * sum(done.values())), BAR_LENGTH, shown)

    return Hooks(progress, cancelled)


def with_preview(hooks: Hooks, draw: Preview) -> Hooks:
    """`hooks` that show what a stage hands over, drawn by `draw`, unless the user has switched previews off."""

    def progress(stage: str, units: int, total: int, shown: torch.Tensor | None = None) -> None:
        wanted = shown is not None and args.preview_method != LatentPreviewMethod.NoPreviews
        hooks.progress(stage, units, total, draw(shown) if wanted else None)

    return replace(hooks, progress=progress)


def cancelled() -> bool:
    """Leave by ComfyUI's own exception if the user pressed Cancel."""
    comfy.model_management.throw_exception_if_processing_interrupted()
    return False


def clip_preview(colours: LatentPreview, frames: int) -> Preview:
    """Shows frames spread over a clip of `frames` frames side by side."""
    shown = sorted({round(i * (frames - 1) / (PREVIEW_FRAMES - 1)) for i in range(PREVIEW_FRAMES)})

    def draw(latents: torch.Tensor) -> Image.Image:
        pictures = colours(latents[shown])
        strip = pictures.permute(2, 0, 3, 1).flatten(1, 2)
        return Image.fromarray((strip * 255).round().byte().cpu().numpy())

    return draw
