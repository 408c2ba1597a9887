"""Portrait Crop and Paste Back."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from comfy_api.latest import io, ui
from PIL import Image, ImageDraw

from dicetalk.errors import PortraitError
from dicetalk.hooks import Hooks
from dicetalk.portrait.notices import face_notices
from dicetalk.portrait.paste import ColourMatch, paste_mask
from dicetalk.portrait.paste import PasteBack as Paste
from dicetalk.portrait.prepare import STRIDE, Box, Portrait, prepare_portrait
from dicetalk.portrait.read import read_picture
from dicetalk.settings import PortraitSettings

from .checks import choice_verdict
from .convert import boxes_of, check_memory, mask_boxes, to_frames, to_image, to_images
from .hooks import SHOWN_AGAIN, cancelled, comfy_hooks, keeps_notices
from .parameters import setting_inputs
from .prompts import SettledNode, numbers
from .wires import CATEGORY, BoxWire, HostedModel, ImageWire, MaskWire, ModelWire, PortraitWire

FACE, WHOLE, EVERYTHING = AREAS = ("face", "whole picture", "everything moves")
CHUNK = 16
BOTH = "Both a box and a mask are connected, and each says where the face is. Disconnect one."


class PortraitCrop(SettledNode):
    """A picture to the part that will speak."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declare the node's inputs and outputs."""
        return io.Schema(
            node_id="DICETalk_PortraitCrop",
            **SHOWN_AGAIN,
            display_name="Portrait Crop",
            category=CATEGORY,
            description="Finds the face and prepares the picture for DICE Sampler.",
            search_aliases=["face crop", "face detect", "portrait"],
            accept_all_inputs=True,  # else an area that does not exist would be left out, and not be refused
            inputs=[
                ModelWire.Input("model", tooltip="From Load DICE Model; tells the sizes that its networks want."),
                ImageWire.Input(
                    "image",
                    tooltip="A picture of a person, 64 pixels to 8K; transparency becomes white. A batch of pictures "
                    "becomes a clip of each.",
                ),
                io.DynamicCombo.Input(
                    "area",
                    options=[
                        io.DynamicCombo.Option(FACE, _inputs("face_index", "margin")),
                        io.DynamicCombo.Option(WHOLE, _inputs("face_index")),
                        io.DynamicCombo.Option(EVERYTHING, []),
                    ],
                    tooltip="face: animate a square around the face (Paste Back puts it into the full picture). whole "
                    "picture: animate all of it, the face moves. everything moves: no face is looked for.",
                ),
                *_inputs("short_side", "mask_scale"),
                BoxWire.Input(
                    "box",
                    optional=True,
                    # Otherwise the browser makes four number fields of it, and sends them.
                    extra_dict={"forceInput": True},
                    tooltip="The face as x, y, width, height in pixels of the picture, instead of looking for it; of a "
                    "list the first, or one for each picture of a batch. Not together with a mask; not used where "
                    "everything moves.",
                ),
                MaskWire.Input(
                    "mask",
                    optional=True,
                    tooltip="The face painted on the picture, instead of looking for it; in a batch one for all "
                    "pictures or one for each. Not together with a box; not used where everything moves.",
                ),
            ],
            outputs=[
                # Lists, with an entry for each picture: ComfyUI runs the nodes behind once for each.
                PortraitWire.Output("portrait", is_output_list=True, tooltip="For DICE Sampler and Paste Back."),
                io.Image.Output(
                    "image_out", display_name="image", is_output_list=True, tooltip="The part that is animated."
                ),
                io.Mask.Output("mask_out", display_name="mask", is_output_list=True, tooltip="Where it may move."),
            ],
        )

    @classmethod
    def validate_inputs(cls, area: Any = None) -> bool | str:
        """Check the values that are known before the workflow runs."""
        return choice_verdict("area", area, AREAS)

    @classmethod
    def dead_inputs(cls, inputs: Mapping[str, Any]) -> Iterable[str]:
        """Names of inputs that have no influence beside the others."""
        if inputs["area"] == EVERYTHING:
            return ("mask_scale", "box", "mask")
        return ("area.face_index",) if {"box", "mask"} & inputs.keys() else ()

    @classmethod
    def refusals(cls, inputs: Mapping[str, Any]) -> Mapping[str, str]:
        """Reasons against values that do not go together, by input."""
        side = numbers(inputs, "short_side")
        refused = {}
        if side and side[0] % STRIDE:
            refused["short_side"] = f"give a multiple of {STRIDE}, or 0 for the size that the model was made for"
        if {"box", "mask"} <= inputs.keys():
            refused["area"] = BOTH
        return refused

    @classmethod
    @keeps_notices
    def execute(
        cls,
        model: HostedModel,
        image: torch.Tensor,
        area: Mapping[str, Any],
        short_side: int,
        mask_scale: float,
        box: Any = None,
        mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        """Prepare each picture of the batch for the sampler."""
        chosen = area["area"]
        if box is not None and mask is not None and chosen != EVERYTHING:
            raise PortraitError(BOTH)
        hooks = comfy_hooks({"portraits": 1})
        pictures = image.split(1) if image.ndim == 4 and len(image) else (image,)
        faces: list[Box | None] = [None] * len(pictures)
        if chosen != EVERYTHING and mask is not None:
            faces = mask_boxes(mask, len(pictures), *image.shape[-3:-1])
        elif chosen != EVERYTHING and box is not None:
            faces = boxes_of(box, len(pictures), hooks)
        portraits = []
        for number, (picture, face) in enumerate(zip(pictures, faces, strict=True), start=1):
            cancelled()
            of = f"Picture {number} of {len(pictures)}: " if len(pictures) > 1 else ""
            try:
                portraits.append(_portrait(model, picture, area, short_side, mask_scale, face, _after(of, hooks)))
            except PortraitError as error:
                raise type(error)(f"{of}{error}") from error
            hooks.report("portraits", number, len(pictures))
        animated = [((portrait.image + 1) / 2).movedim(0, -1)[None] for portrait in portraits]
        marked = ui.PreviewImage(torch.cat([_marked(portrait) for portrait in portraits]), cls=cls)
        return io.NodeOutput(portraits, animated, [portrait.mask for portrait in portraits], ui=hooks.shown(marked))


def _portrait(
    model: HostedModel,
    image: torch.Tensor,
    area: Mapping[str, Any],
    short_side: int,
    mask_scale: float,
    face: Box | None,
    hooks: Hooks,
) -> Portrait:
    """One picture ``(1, H, W, C)``, with the face in it if it is known already."""
    looked_for = area["area"] != EVERYTHING and face is None
    portrait = prepare_portrait(
        read_picture(image, hooks),
        detector=model.detector_for(hooks) if looked_for else None,
        face_index=area["face_index"] or None if looked_for else None,  # 0, the largest, is what nobody has to choose
        box=face,
        whole_picture=area["area"] == EVERYTHING,
        crop=area["area"] == FACE,
        short_side=short_side or model.dice.config.sampling.short_side,
        mask_scale=mask_scale,
        clip_size=model.dice.config.image_encoder.image_size,
        **({"margin": area["margin"]} if area["area"] == FACE else {}),
    )
    for notice in face_notices(portrait, f"area: {FACE}, and Paste Back after the sampler,", "face_index"):
        hooks.notice(notice)
    return portrait


def _after(place: str, hooks: Hooks) -> Hooks:
    """`hooks` that hear `place` before each notice."""
    return replace(hooks, notice=lambda text: hooks.notice(f"{place}{text}"))


def _inputs(*names: str) -> list[io.Input]:
    return setting_inputs(PortraitSettings, required=frozenset(names), only=lambda each: each.name in names)


def _marked(portrait: Portrait) -> torch.Tensor:
    """The picture with the face (orange) and what is animated (white) as an IMAGE."""
    picture = Image.fromarray(portrait.source)
    draw, line = ImageDraw.Draw(picture), max(2, min(picture.size) // 200)
    x0, y0, x1, y1 = portrait.crop
    draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline="white", width=line)
    if face := portrait.face:
        corners = face.x, face.y, face.x + face.width, face.y + face.height
        draw.rectangle(corners, outline="#ffb000", width=line)
    return to_image(np.array(picture))


class PasteBack(io.ComfyNode):
    """Animated frames back into the full picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declare the node's inputs and outputs."""
        return io.Schema(
            node_id="DICETalk_PasteBack",
            **SHOWN_AGAIN,
            display_name="Paste Back",
            category=CATEGORY,
            description="Puts the frames into the picture that the portrait was cut from.",
            search_aliases=["uncrop", "paste face", "composite"],
            inputs=[
                ImageWire.Input("images", tooltip="Frames from DICE Sampler, as they are or upscaled."),
                PortraitWire.Input("portrait", tooltip="The same portrait that the sampler had."),
                io.Float.Input(
                    "feather",
                    default=0.06,
                    min=0.0,
                    max=0.5,
                    step=0.01,
                    tooltip="Width of the soft edge, as a part of the crop's size.",
                ),
                io.Boolean.Input(
                    "colour_match", default=True, tooltip="Remove slow drift of colours against the portrait."
                ),
            ],
            outputs=[
                io.Image.Output("images_out", display_name="images", tooltip="Full pictures."),
                io.Mask.Output(
                    "mask_out",
                    display_name="mask",
                    tooltip="Which part is animated, soft at its edge: with Invert Mask and Join Image with Alpha a "
                    "video whose still part is transparent.",
                ),
            ],
        )

    @classmethod
    @keeps_notices
    def execute(cls, images: torch.Tensor, portrait: Portrait, feather: float, colour_match: bool) -> io.NodeOutput:
        """Put the frames into the full picture, chunk by chunk."""
        hooks = comfy_hooks({"paste": 1})
        frames = to_frames(images, hooks)
        check_memory(len(frames), *portrait.source.shape[:2])
        chunks = _checked(frames, hooks)
        if colour_match:
            chunks = map(ColourMatch(portrait), chunks)
        pasted = to_images(Paste(portrait, feather).stream(chunks), len(frames))
        return io.NodeOutput(pasted, paste_mask(portrait, feather)[None], ui=hooks.shown())


def _checked(frames: torch.Tensor, hooks: Hooks) -> Iterator[torch.Tensor]:
    done = 0
    for chunk in frames.split(CHUNK):
        hooks.check()
        yield chunk
        done += len(chunk)
        hooks.report("paste", done, len(frames))
