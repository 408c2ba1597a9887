"""ComfyUI's progress bar, previews and Cancel button for the library's long work, and its notices in the node."""

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from functools import wraps
from typing import Any, TypeVar

import comfy.model_management
import comfy.utils
import torch
from comfy.cli_args import LatentPreviewMethod, args
from comfy_api.latest import io
from PIL import Image

from dicetalk.hooks import Hooks
from dicetalk.video.decode import LatentPreview

Preview = Callable[[torch.Tensor], Image.Image]

_log = logging.getLogger("dicetalk")

NOTICES = "dicetalk_notices"
"""Name of the notices among what a node shows; the pack's script writes them into the node."""

_AGAIN = "has_intermediate_output"
SHOWN_AGAIN = {_AGAIN: True} if _AGAIN in {each.name for each in fields(io.Schema)} else {}
"""For a node's schema: ComfyUI sends what a node shows also when it comes from the cache. Older ones do not know it."""

BAR_LENGTH = 1000
PREVIEW_FRAMES = 4


@dataclass(frozen=True)
class NodeHooks(Hooks):
    """Hooks that keep the notices for the node to show.

    Args:
        notices: each once, in the order in which they came.
    """

    notices: list[str] = field(default_factory=list)

    def shown(self, *parts: Any) -> dict[str, Any]:
        """Contents that the node shows: `parts`, which are pictures of `comfy_api` or tables, and the notices.

        The notices are there even if there are none, so that those of the run before go away.
        """
        report: dict[str, Any] = {}
        for part in parts:
            report |= part if isinstance(part, Mapping) else part.as_dict()
        return report | {NOTICES: list(self.notices)}


_heard: ContextVar[list[str] | None] = ContextVar("_heard", default=None)
"""Notices of the node that runs now."""

_Execute = TypeVar("_Execute", bound=Callable[..., Any])


def keeps_notices(execute: _Execute) -> _Execute:
    """Let a node that fails name in its error what was noticed before: nothing else of it reaches the page."""

    @wraps(execute)
    def run(*inputs: Any, **named: Any) -> Any:
        heard: list[str] = []
        token = _heard.set(heard)
        try:
            return execute(*inputs, **named)
        except comfy.model_management.InterruptProcessingException:
            raise
        except Exception as error:
            if heard and len(error.args) == 1:
                error.args = ("\n- ".join([f"{error}\n\nBefore that:", *heard]),)
            raise
        finally:
            _heard.reset(token)

    return run  # type: ignore[return-value]


def comfy_hooks(shares: Mapping[str, float]) -> NodeHooks:
    """Hooks for one node's work.

    Args:
        shares: how much of the node's bar each stage that reports gets; others are not shown.
    """
    heard = _heard.get()
    notices: list[str] = [] if heard is None else heard
    bar = comfy.utils.ProgressBar(BAR_LENGTH)
    whole = sum(shares.values())
    done = dict.fromkeys(shares, 0.0)

    def progress(stage: str, units: int, total: int, picture: Image.Image | None = None) -> None:
        if stage in shares:
            done[stage] = shares[stage] / whole * units / total
            shown = ("JPEG", picture, args.preview_size) if picture else None
            bar.update_absolute(round(BAR_LENGTH * sum(done.values())), BAR_LENGTH, shown)

    def notice(text: str) -> None:
        if text not in notices:
            _log.warning(text)
            notices.append(text)

    return NodeHooks(progress, cancelled, notice, notices)


def with_preview(hooks: NodeHooks, draw: Preview) -> NodeHooks:
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
