"""Frame Interpolate (RIFE)."""

import torch
from comfy_api.latest import io

from dicetalk.errors import CheckpointError
from dicetalk.hooks import Hooks
from dicetalk.video.interpolate import interpolate_frames, interpolated_length

from .convert import check_memory, to_frames, to_images
from .hooks import SHOWN_AGAIN, cancelled, comfy_hooks, keeps_notices
from .wires import CATEGORY, HostedModel, ImageWire, ModelWire

DOUBLINGS = {"2": 1, "4": 2, "8": 3}
CHUNK = 16


class FrameInterpolate(io.ComfyNode):
    """More frames per second."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declare the node's inputs and outputs."""
        return io.Schema(
            node_id="DICETalk_FrameInterpolate",
            **SHOWN_AGAIN,
            display_name="Frame Interpolate (RIFE)",
            category=CATEGORY,
            description="Puts new frames between each pair: n frames become (n - 1) * multiplier + 1.",
            search_aliases=["RIFE", "frame rate", "smooth video", "vfi"],
            inputs=[
                ModelWire.Input("model", tooltip="From Load DICE Model; it brings RIFE."),
                ImageWire.Input("images", tooltip="Frames of one clip."),
                io.Float.Input("fps", default=12.5, min=1.0, max=240.0, step=0.01, tooltip="Their frame rate."),
                io.Combo.Input("multiplier", options=list(DOUBLINGS), default="2", tooltip="Times the frame rate."),
            ],
            outputs=[
                io.Image.Output("images_out", display_name="images", tooltip="The given frames and those between."),
                io.Float.Output("fps_out", display_name="fps", tooltip="The new frame rate."),
            ],
        )

    @classmethod
    @keeps_notices
    def execute(cls, model: HostedModel, images: torch.Tensor, fps: float, multiplier: str) -> io.NodeOutput:
        """Put frames between each pair, 1, 3 or 7 of them."""
        if model.dice.flownet is None:
            raise CheckpointError("The model has no frame interpolation: RIFE/flownet.pkl is not in its folder.")
        shown, quiet = comfy_hooks({"interpolate": 1}), Hooks(cancelled=cancelled)
        frames = to_frames(images, shown)
        total, doublings = len(frames), DOUBLINGS[multiplier]
        check_memory((total - 1) * 2**doublings + 1, *frames.shape[-2:])
        chunks = iter(frames.split(CHUNK))
        for doubling in range(1, doublings + 1):
            hooks = shown if doubling == doublings else quiet  # the passes run interleaved; one bar shows the last
            chunks = interpolate_frames(model.dice.flownet, chunks, total, residency=model.residency, hooks=hooks)
            total = interpolated_length(total)
        return io.NodeOutput(to_images(chunks, total), fps * 2**doublings, ui=shown.shown())
